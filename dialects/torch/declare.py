"""An op is declared once: schema, shape rule, numpy meaning, expansion or lowering, gradient, samples.

    @op("aten::softmax.int(Tensor self, int dim, ScalarType? dtype=None) -> Tensor")
    class SoftmaxInt:
        '''exp(x - max x) over its own sum, along dim.'''

        @staticmethod
        def infer(x: TensorInfo, dim: int, dtype: DType | None) -> TensorInfo: ...
        @staticmethod
        def reference(x: Array, dim: int, dtype: DType | None) -> Array: ...
        @staticmethod
        def expand(b: TorchBuilder, x: Value, dim: int, dtype: DType | None) -> Value: ...

What each function receives, for every schema type:

    schema type   infer                     reference            lower (LinalgBuilder)      expand (TorchBuilder)
    Tensor        TensorInfo                numpy array          Tensor                     Value
    int           int or Dim                int                  int or Dim                 int, Dim or Value
    float         float or ScalarInfo       float                float or Scalar            float or Value
    bool          bool or ScalarInfo        bool                 bool or Scalar             bool or Value
    Scalar        one of int/float/bool     int/float/bool       one of them                one of them
    ScalarType    DType                     DType                DType                      DType
    str           str                       str                  str                        str
    T[]           list                      list                 list                       list
    T?            None or T                 None or T            None or T                  None or T

Everything else is derived: the operation class and its text, resolution from script and archives, in-place
variants, folding, interpretation, docs/ops.md, tests over the samples.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from xdsl.ir import Operation
from xdsl.utils.exceptions import VerifyException

from stepwell.dialects.diagnostics import NeedsNumber
from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch.operations import FormatText, Operator, TorchOperation
from stepwell.dialects.torch.schema import Argument, Schema, parse_schema
from stepwell.dialects.torch.sizes import Dim, Size
from stepwell.dialects.torch.torch_mlir_names import torch_mlir_names

Array = np.ndarray[Any, np.dtype[Any]]
Rule = Callable[..., Any]


@dataclass(frozen=True)
class TensorInfo:
    """What shape rules know of a tensor: its sizes (ints or symbolic) and its dtype."""

    sizes: tuple[Size, ...]
    dtype: DType

    @property
    def rank(self) -> int:
        return len(self.sizes)

    def with_sizes(self, sizes: Iterable[Size]) -> TensorInfo:
        return TensorInfo(tuple(sizes), self.dtype)

    def with_dtype(self, dtype: DType) -> TensorInfo:
        return TensorInfo(self.sizes, dtype)

    def __str__(self) -> str:
        return f"{self.dtype.name}[{', '.join(map(str, self.sizes))}]"


@dataclass(frozen=True)
class ScalarInfo:
    """A float, bool or str that is only known at run time; `kind` is "float", "bool" or "str".

    Unknown ints are Dims. A result of kind "int" that no Dim expresses asks for a fresh symbol.
    """

    kind: str


class Undecided(Exception):
    """A shape rule cannot go on without knowing whether two symbolic sizes are equal (or one of them is 1).

    `left` and `right` are the sizes, `message` what torch would say if they differ. Whoever runs the rule may
    learn `left == right` (from a run-time check) and run it again, unless the call is right even if they differ
    (`required` is False).
    """

    def __init__(self, left: Size, right: Size, message: str, required: bool = True) -> None:
        super().__init__(message)
        self.required = required
        self.left = left
        self.right = right


def raise_if_symbolic(declaration: Declaration, arguments: Iterable[Any], error: TypeError) -> None:
    """Raise NeedsNumber for a TypeError where an int or a size among the arguments is symbolic."""
    if any(_is_symbolic(a) for a in arguments):
        name = declaration.schema.qualified_name
        raise NeedsNumber(f"{name} needs numbers that are only known at run time ({error})") from error


def _is_symbolic(argument: Any) -> bool:
    if isinstance(argument, (list, tuple)):
        return any(_is_symbolic(a) for a in argument)
    return isinstance(argument, Dim) or any(isinstance(size, Dim) for size in getattr(argument, "sizes", None) or ())


class RuntimeFault(Exception):
    """A call that torch would refuse when it runs (sizes that do not match, an index out of range).

    `exception` names Python's type; the compiler turns it into a raise at that place of the program.
    """

    def __init__(self, message: str, exception: str = "RuntimeError") -> None:
        super().__init__(message)
        self.exception = exception


@dataclass(frozen=True)
class Sample:
    """Arguments of one test call, in schema order; arrays stand for tensors. Keywords by name."""

    arguments: tuple[Any, ...]
    keywords: dict[str, Any] = field(default_factory=dict)


def sample(*arguments: Any, **keywords: Any) -> Sample:
    return Sample(arguments, keywords)


@dataclass(frozen=True)
class Declaration:
    """All that is known of one overload.

    `expand` rewrites it into smaller ops (a composite), `lower` into linalg (a core op): exactly one is set,
    or `evaluate_only` is true for what exists at compile time only (strings, grad mode). `write(b, base,
    value, ...)` gives the base after `value` was stored through the view that the op takes of it. `effects`
    marks ops that must stay even if their result is unused (random numbers, printing). `inplace` says that
    ATen has the variant `name_` too (a str: under that overload name); its own declaration is derived, and its
    `functional` is this one; that of a view gives the tensor itself other sizes.
    `updates` gives new contents of arguments that the op writes although its schema does not say so, by position;
    it gets the builder first, or None with the reference's arguments.
    Of ops that alias: `copies(x, ...)` says that with these arguments the result is a copy after all (`to` with
    another dtype), `if_contiguous` that it is a view only if self is contiguous, else a copy (`reshape`).
    """

    schema: Schema
    doc: str
    infer: Rule
    reference: Rule
    expand: Rule | None = None
    lower: Rule | None = None
    gradient: Rule | None = None
    write: Rule | None = None
    samples: Callable[[], Iterable[Sample]] | None = None
    torch_mlir: bool = True
    tolerance: float = 1e-5
    evaluate_only: bool = False
    effects: bool = False
    inplace: bool | str = False
    functional: Declaration | None = None
    copies: Rule | None = None
    updates: Rule | None = None
    if_contiguous: bool = False
    source: str = ""

    @property
    def is_view(self) -> bool:
        """True if its result shares storage with its first argument (unless sizes force a copy)."""
        returns = self.schema.returns
        return self.write is not None or (
            bool(returns) and returns[0].alias is not None and not returns[0].written and returns[0].base == "Tensor"
        )

    def bind(self, arguments: Sequence[Any], keywords: dict[str, Any]) -> list[Any]:
        """Arguments in schema order with defaults filled in; TypeError names what is missing or unknown."""
        formals = self.schema.arguments
        if len(arguments) > sum(not a.keyword_only for a in formals):
            raise TypeError(f"{self.schema.qualified_name} takes {len(formals)} arguments, not {len(arguments)}")
        bound = list(arguments)
        rest = dict(keywords)
        for formal in formals[len(arguments) :]:
            bound.append(_take(formal, rest, self.schema))
        if rest:
            raise TypeError(f"{self.schema.qualified_name} has no argument {next(iter(rest))!r}")
        return bound


def _take(formal: Argument, keywords: dict[str, Any], schema: Schema) -> Any:
    from stepwell.dialects.torch.schema import REQUIRED

    if formal.name in keywords:
        return keywords.pop(formal.name)
    if formal.default is REQUIRED:
        raise TypeError(f"{schema.qualified_name} needs an argument {formal.name!r}")
    return formal.default


class Registry:
    """All declarations by overload and by name. One instance, `OPS`, holds Stepwell's and every plug-in's."""

    def __init__(self) -> None:
        self._by_overload: dict[str, Declaration] = {}
        self._by_name: dict[str, list[Declaration]] = {}
        self._derived: dict[str, list[Declaration]] = {}
        self._settled: int | None = None

    def add(self, declaration: Declaration) -> Declaration:
        """Register; a second declaration of the same overload is an error that names both places."""
        key = declaration.schema.qualified_name
        if key in self._by_overload:
            first = self._by_overload[key].source
            raise ValueError(f"{key} is declared twice: in {first} and in {declaration.source}")
        self._by_overload[key] = declaration
        name = f"{declaration.schema.namespace}::{declaration.schema.name}"
        self._by_name.setdefault(name, []).append(declaration)
        self._derived.pop(f"{name}_", None)
        return declaration

    def settle(self) -> None:
        """From here on, what is declared is neither Stepwell's nor a plug-in's."""
        self._settled = len(self)

    @property
    def extended(self) -> bool:
        """Whether a program has declared ops by itself: code that uses them is known by no file's state."""
        return self._settled is not None and len(self) != self._settled

    def copy(self) -> Registry:
        """What is declared now."""
        made = Registry()
        made.restore(self)
        return made

    def restore(self, other: Registry) -> None:
        """Declare exactly what another registry declares."""
        self._by_overload = dict(other._by_overload)
        self._by_name = {name: list(declared) for name, declared in other._by_name.items()}
        self._derived = dict(other._derived)

    def find(self, qualified_name: str) -> Declaration | None:
        """By overload: "aten::add.Tensor", "aten::add_.Tensor"."""
        found = self._by_overload.get(qualified_name)
        if found is None:
            name, _, overload = qualified_name.partition(".")
            found = next((d for d in self._inplace_of(name) if d.schema.overload == overload), None)
        return found

    def overloads(self, name: str) -> Sequence[Declaration]:
        """By name without overload ("aten::add"), in order of declaration; empty if unknown."""
        derived = self._inplace_of(name)
        return [*self._by_name.get(name, ()), *derived] if derived else self._by_name.get(name, ())

    def _inplace_of(self, name: str) -> list[Declaration]:
        """The in-place variants of that name, derived once from the ops without the underscore."""
        if not name.endswith("_") or name.endswith("__"):
            return []
        found = self._derived.get(name)
        if found is None:
            found = [inplace_variant(d) for d in self._by_name.get(name[:-1], ()) if d.inplace is not False]
            if found:
                self._derived[name] = found
        return found

    def names(self) -> list[str]:
        return sorted(self._by_name)

    def __iter__(self) -> Iterator[Declaration]:
        return iter(self._by_overload.values())

    def __len__(self) -> int:
        return len(self._by_overload)


OPS = Registry()

_RULES = ("infer", "reference", "expand", "lower", "gradient", "write", "samples", "copies", "updates")


def declare(
    *schemas: str,
    infer: Rule,
    reference: Rule,
    doc: str = "",
    registry: Registry = OPS,
    source: str = "",
    **options: Any,
) -> None:
    """Declare overloads by their rules: what tables of ops are made with. Options are fields of Declaration."""
    for text in schemas:
        schema = parse_schema(text)
        registry.add(
            Declaration(
                schema=schema,
                doc=doc.strip(),
                infer=infer,
                reference=reference if options.get("evaluate_only") else _quiet(reference),
                source=source or f"{reference.__module__} ({schema.name})",
                **{"torch_mlir": schema.operation_name in torch_mlir_names(), **options},
            )
        )


def _quiet(reference: Rule) -> Rule:
    """numpy without warnings: dividing by zero and the like give IEEE's results."""

    @functools.wraps(reference)
    def evaluate(*arguments: Any) -> Any:
        with np.errstate(all="ignore"):
            return reference(*arguments)

    return evaluate


def op(*schemas: str, registry: Registry = OPS, **options: Any) -> Callable[[type], type]:
    """Declare the overloads of these schemas by the static methods of a class (see the module's text).

    Options are fields of Declaration: `tolerance` (relative and absolute, of compiled float32 results against
    `reference`), `evaluate_only`, `effects`, `inplace`. `torch_mlir`, False for ops that print as
    `torch.operator` because torch-mlir's dialect has no name for them, is known from the name.
    """

    def add(cls: type) -> type:
        rules: dict[str, Any] = {name: getattr(cls, name, None) for name in _RULES}
        declare(
            *schemas,
            doc=cls.__doc__ or "",
            registry=registry,
            source=f"{cls.__module__}.{cls.__qualname__}",
            **rules,
            **options,
        )
        return cls

    return add


def inplace_variant(base: Declaration) -> Declaration:
    """The declaration of `name_`, from that of `name`: the same rules, but size and dtype stay self's."""
    schema = base.schema
    head, _, tail = schema.text.partition("(")
    name, dot, overload = head.partition(".")
    if isinstance(base.inplace, str):
        dot, overload = "." if base.inplace else "", base.inplace
    first = schema.arguments[0]
    tail = tail.replace("Tensor(a)", "Tensor", 1).replace(f"Tensor {first.name}", "Tensor(a!) self", 1)
    text = f"{name}_{dot}{overload}({tail.rpartition('->')[0]}-> Tensor(a!)"
    parsed = parse_schema(text)

    def infer(x: TensorInfo, *arguments: Any) -> TensorInfo:
        result: TensorInfo = base.infer(x, *arguments)
        if base.is_view:
            return result
        if result.sizes != x.sizes:
            raise RuntimeFault(
                f"output with shape {shape_text(x.sizes)} doesn't match the broadcast shape {shape_text(result.sizes)}"
            )
        if result.dtype.category > x.dtype.category:
            raise RuntimeFault(
                f"result type {result.dtype.title} can't be cast to the desired output type {x.dtype.title}"
            )
        return x

    def reference(x: Array, *arguments: Any) -> Array:
        if base.is_view:
            return base.reference(x, *arguments)  # type: ignore[no-any-return]
        with np.errstate(all="ignore"):
            return np.asarray(base.reference(x, *arguments)).astype(x.dtype)

    return Declaration(
        schema=parsed,
        doc=base.doc,
        infer=infer,
        reference=reference,
        samples=base.samples,
        torch_mlir=parsed.operation_name in torch_mlir_names(),
        tolerance=base.tolerance,
        functional=base,
        source=base.source,
    )


def shape_text(sizes: Iterable[Size]) -> str:
    """Sizes as torch's messages show them: [2, 3]."""
    return f"[{', '.join(map(str, sizes))}]"


class DeclaredOperation(TorchOperation):
    """The operation of one declared overload: its operands are the schema's arguments, all of them."""

    declaration: ClassVar[Declaration]

    def verify_(self) -> None:
        schema = self.declaration.schema
        if len(self.operands) != len(schema.arguments) and not schema.variadic:
            raise VerifyException(f"{self.name} takes {len(schema.arguments)} operands, not {len(self.operands)}")
        if len(self.results) != len(schema.returns):
            raise VerifyException(f"{self.name} gives {len(schema.returns)} results, not {len(self.results)}")


_CLASSES: dict[str, type[DeclaredOperation]] = {}


def operation_class(declaration: Declaration) -> type[DeclaredOperation]:
    """The class of operations of a declaration that torch-mlir has a name for."""
    name = declaration.schema.operation_name
    found = _CLASSES.get(name)
    if found is None or found.declaration is not declaration:
        found = _CLASSES[name] = type(
            declaration.schema.name, (DeclaredOperation,), {"name": name, "declaration": declaration}
        )
    return found


def declaration_of(operation: Operation) -> Declaration | None:
    """The declaration behind an operation, whichever form it has; None for prim's own operations."""
    if isinstance(operation, DeclaredOperation):
        return operation.declaration
    if isinstance(operation, FormatText):
        return OPS.find("aten::format")
    if isinstance(operation, Operator):
        namespace, _, rest = operation.operator.removeprefix("torch.").partition(".")
        return OPS.find(f"{namespace}::{rest}")
    return None


def is_constant(value: object) -> bool:
    """True if a rule's argument is fully known (no tensor, Dim or ScalarInfo inside)."""
    if isinstance(value, (TensorInfo, ScalarInfo, Dim)):
        return False
    if isinstance(value, (list, tuple)):
        return all(is_constant(v) for v in value)
    return True
