"""The state that a loop carries, generalised until every iteration sees it in the same form.

A place is a carried variable or something on the heap that existed before the loop. Each place starts as known
exactly (`None` in `forms`); `widen` compares what an iteration made of it with what it was at the head and gives
it a form that covers both. A form says which block arguments, operands and results of the loop it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from xdsl.dialects.builtin import LocationAttr
from xdsl.ir import Attribute, Block, Region, SSAValue

from stepwell.dialects.torch import operations, types
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import ScalarInfo, TensorInfo
from stepwell.dialects.torch.sizes import INFINITY, Dim, Size, Symbol, at_least, bounds
from stepwell.lowering.torch.specialize.join import scalar_of
from stepwell.lowering.torch.specialize.run_time_lists import (
    common_element,
    dynamic_list,
    kind_of,
    list_type,
    materialize,
)
from stepwell.lowering.torch.specialize.tensors import read
from stepwell.lowering.torch.specialize.values import (
    UNDEFINED,
    Abstract,
    CannotJoin,
    DynamicList,
    ListRef,
    Path,
    TensorRef,
    new_list,
    new_tensor,
)

Key: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class IntForm:
    """An int that changes from iteration to iteration, within bounds."""

    low: int = -INFINITY
    high: int = INFINITY


@dataclass(frozen=True)
class ScalarForm:
    """A float or bool that changes."""

    kind: str


@dataclass(frozen=True)
class TensorForm:
    """A tensor whose contents change; a size of None changes too. `boxed`: the place holds a reference."""

    dtype: Any
    sizes: tuple[Size | None, ...]
    boxed: bool


@dataclass(frozen=True)
class TupleForm:
    parts: tuple[Any, ...]


@dataclass(frozen=True)
class ListForm:
    """A list of fixed length that is made anew in each iteration (`boxed`) or changed in place."""

    parts: tuple[Any, ...]
    boxed: bool


@dataclass(frozen=True)
class GrowingForm:
    """A list whose length changes; all its elements are alike."""

    element: Any
    boxed: bool


Form: TypeAlias = IntForm | ScalarForm | TensorForm | TupleForm | ListForm | GrowingForm | None


@dataclass
class LoopState:
    """The places of one loop and their forms. `strict`: the program writes tensors in place."""

    path: Path
    carried: list[Abstract]
    strict: bool
    forms: dict[Key, Form] = field(default_factory=dict)
    heads: dict[Key, Any] = field(default_factory=dict)
    written: dict[int, Value] = field(default_factory=dict)
    frozen: set[int] = field(default_factory=set)
    """Storages from before the loop whose contents get into a run-time list in it."""
    body: Block | None = None

    def __post_init__(self) -> None:
        self.start = places(self.path, self.carried)

    def signature(self) -> str:
        return repr((sorted((repr(k), repr(f)) for k, f in self.forms.items() if f is not None), sorted(self.frozen)))

    def grows(self) -> bool:
        """Whether a list changes its length from one iteration to the next."""
        return any(isinstance(form, GrowingForm) for form in self.forms.values())

    # ------ the head

    def enter(self, inside: Path, block: Block) -> list[Abstract]:
        """Set the head state inside the body; gives the carried values."""
        self.heads, self.written = {}, {}
        inside.store.frozen |= self.frozen
        for key, value in self.start.items():
            form = self.forms.get(key)
            self.heads[key] = value if form is None else self._instantiate(form, value, inside, block)
            if form is not None:
                put(inside, key, self.heads[key])
        self.body = block
        return [self.heads["carried", i] for i in range(len(self.carried))]

    def _instantiate(self, form: Form, value: Any, inside: Path, block: Block) -> Any:
        if form is None:
            return value
        if isinstance(form, TupleForm):
            parts = value if isinstance(value, tuple) else [UNDEFINED] * len(form.parts)
            return tuple(self._instantiate(f, v, inside, block) for f, v in zip(form.parts, parts, strict=True))
        if isinstance(form, ListForm):
            elements = _list_of(self.path, value)
            made = [self._instantiate(f, v, inside, block) for f, v in zip(form.parts, elements, strict=True)]
            return new_list(inside, made) if form.boxed else made
        argument = block.insert_arg(form_type(form), len(block.args))
        if isinstance(form, GrowingForm):
            made_list = DynamicList(argument, form.element)
            return new_list(inside, made_list) if form.boxed else made_list
        if isinstance(form, TensorForm):
            contents = Value(argument, _bound_info(inside.builder, argument, form))
            if not form.boxed:
                return contents
            ref = new_tensor(inside, contents)
            self.written[ref.storage] = contents
            return ref
        if isinstance(form, IntForm):
            symbol = Symbol("i", form.low, form.high)
            inside.builder.define(symbol, argument)
            return Dim.of(symbol)
        return Value(argument, ScalarInfo(form.kind))

    # ------ the end of an iteration

    def widen(self, end: Path, carried: list[Abstract]) -> None:
        """Generalise the forms so that they cover the end of this iteration."""
        if end.store.reshaped != self.path.store.reshaped:
            raise CannotJoin("tensors that a loop gives other sizes in place")
        if self.strict:
            self._check_aliases(end, carried)
        ends = places(end, carried)
        for key, value in self.start.items():
            if key in ends:
                form = self.forms[key] = self._wider(self.forms.get(key), value, self.heads[key], ends[key], end)
                if isinstance(form, GrowingForm):
                    for path, held in ((self.path, value), (end, ends[key])):
                        elements = _list_of(path, held)
                        end.store.freeze(elements if isinstance(elements, list) else ())
        self.frozen |= end.store.frozen & self.path.store.tensors.keys()

    def _check_aliases(self, end: Path, carried: list[Abstract]) -> None:
        for storage, contents in self.written.items():
            if end.store.tensors.get(storage) is not contents:
                raise CannotJoin("a carried tensor that is written in place")
        seen: set[int] = set()
        for position, value in enumerate(carried):
            if isinstance(value, TensorRef) and value != self.heads["carried", position]:
                if value.storage in seen or value.storage in self.path.store.tensors:
                    raise CannotJoin("carried tensors that become aliases")
                seen.add(value.storage)

    def _wider(self, form: Form, start: Any, head: Any, end: Any, path: Path) -> Form:
        if _same(head, end):
            return form
        if head is UNDEFINED:
            return form_of(end, path)
        if isinstance(end, TensorRef) and isinstance(head, TensorRef):
            return self._wider_tensor(form, read_at(self.path, path, head), read(path, end).tensor, boxed=True)
        if isinstance(end, Value) and isinstance(end.info, TensorInfo) and isinstance(head, Value):
            return self._wider_tensor(form, head.tensor, end.tensor, boxed=False)
        if isinstance(end, tuple) and isinstance(head, tuple) and len(end) == len(head):
            return self._wider_tuple(form, start, head, end, path)
        if isinstance(end, ListRef) and isinstance(head, ListRef):
            return self._wider_list(
                form, _list_of(self.path, start), _list_of(path, head), _list_of(path, end), path, boxed=True
            )
        if isinstance(end, (list, DynamicList)) and isinstance(head, (list, DynamicList)):
            return self._wider_list(form, start, head, end, path, boxed=False)
        return _wider_scalar(form, head, end)

    def _wider_tensor(self, form: Form, head: TensorInfo, end: TensorInfo, boxed: bool) -> TensorForm:
        if head.dtype != end.dtype or head.rank != end.rank:
            raise CannotJoin(f"a carried tensor that is {head} and becomes {end}")
        known = form.sizes if isinstance(form, TensorForm) else head.sizes
        sizes = tuple(k if k is not None and e == k else None for k, e in zip(known, end.sizes, strict=True))
        return TensorForm(head.dtype, sizes, boxed)

    def _wider_tuple(self, form: Form, start: Any, head: Any, end: Any, path: Path) -> TupleForm:
        forms = form.parts if isinstance(form, TupleForm) else [None] * len(head)
        starts = start if isinstance(start, tuple) else [UNDEFINED] * len(head)
        parts = zip(forms, starts, head, end, strict=True)
        return TupleForm(tuple(self._wider(f, s, h, e, path) for f, s, h, e in parts))

    def _wider_list(self, form: Form, start: Any, head: Any, end: Any, path: Path, boxed: bool) -> Form:
        if isinstance(form, GrowingForm) or isinstance(end, DynamicList) or len(head) != len(end):
            return GrowingForm(common_element(form.element if isinstance(form, GrowingForm) else None, (path, start), (path, end)), boxed)
        forms = form.parts if isinstance(form, ListForm) else [None] * len(head)
        parts = zip(forms, start, head, end, strict=True)
        return ListForm(tuple(self._wider(f, s, h, e, path) for f, s, h, e in parts), boxed)

    # ------ emission

    def leave(self, end: Path, condition: Any, carried: list[Abstract]) -> None:
        """The body's terminator: the condition and, form by form, what the iteration made."""
        ends = places(end, carried)
        operands = [end.builder.materialize(condition)]
        for key in self.start:
            operands += self._operands(self.forms.get(key), ends.get(key, self.start[key]), end)
        end.builder.place(operations.LoopCondition.create(operands=operands))

    def _operands(self, form: Form, value: Any, path: Path) -> list[SSAValue]:
        if form is None:
            return []
        if isinstance(form, TupleForm):
            parts = value if isinstance(value, tuple) else [UNDEFINED] * len(form.parts)
            return [o for f, v in zip(form.parts, parts, strict=True) for o in self._operands(f, v, path)]
        if isinstance(form, ListForm):
            return [
                o for f, v in zip(form.parts, _list_of(path, value), strict=True) for o in self._operands(f, v, path)
            ]
        if isinstance(form, GrowingForm):
            return [dynamic_list(path, _list_of(path, value), form.element).ssa]
        if value is UNDEFINED:
            return [materialize(path.builder, None, form_type(form))]
        if isinstance(value, TensorRef):
            value = read(path, value)
        return [materialize(path.builder, value, form_type(form))]

    def emit(self, location: LocationAttr, body: Block, trips: Size, condition: Any) -> tuple[Path, list[Abstract]]:
        """The Loop operation in the enclosing block; the state after it."""
        path = self.path
        path.store.frozen |= self.frozen
        start = [o for key, value in self.start.items() for o in self._operands(self.forms.get(key), value, path)]
        limit = path.builder.materialize(trips)
        created = operations.Loop.create(
            operands=[limit, path.builder.materialize(condition), *start],
            result_types=[v.type for v in start],
            regions=[Region([body])],
            location=location,
        )
        path.builder.block.add_op(created)
        results = iter(created.results)
        after: dict[Key, Any] = {}
        for key, value in self.start.items():
            form = self.forms.get(key)
            after[key] = value if form is None else self._result(form, value, results)
            if form is not None:
                put(path, key, after[key])
        return path, [after["carried", i] for i in range(len(self.carried))]

    def _result(self, form: Form, value: Any, results: Iterator[SSAValue]) -> Any:
        path = self.path
        if form is None:
            return value
        if isinstance(form, TupleForm):
            parts = value if isinstance(value, tuple) else [UNDEFINED] * len(form.parts)
            return tuple(self._result(f, v, results) for f, v in zip(form.parts, parts, strict=True))
        if isinstance(form, ListForm):
            made = [self._result(f, v, results) for f, v in zip(form.parts, _list_of(path, value), strict=True)]
            return new_list(path, made) if form.boxed else made
        result = next(results)
        if isinstance(form, GrowingForm):
            grown = DynamicList(result, form.element)
            return new_list(path, grown) if form.boxed else grown
        if isinstance(form, TensorForm):
            contents = Value(result, _bound_info(path.builder, result, form))
            return new_tensor(path, contents) if form.boxed else contents
        return scalar_of(path.builder, result)


# ------ places


def places(path: Path, carried: list[Abstract]) -> dict[Key, Any]:
    """Everything that an iteration may change, by key."""
    found: dict[Key, Any] = {("carried", i): v for i, v in enumerate(carried)}
    found.update({("tensor", n): v for n, v in path.store.tensors.items()})
    found.update({("list", n): v for n, v in path.store.lists.items()})
    for table, entries in (("dict", path.store.dicts), ("object", path.store.objects)):
        for number, contents in entries.items():
            found.update({(table, number, name): v for name, v in contents.items()})
    return found


def put(path: Path, key: Key, value: Any) -> None:
    """Set one place of a path's heap; carried variables are the caller's."""
    if key[0] == "tensor":
        path.store.tensors[key[1]] = value
    elif key[0] == "list":
        path.store.lists[key[1]] = value
    elif key[0] == "dict":
        path.store.dicts[key[1]][key[2]] = value
    elif key[0] == "object":
        path.store.objects[key[1]][key[2]] = value


def read_at(before: Path, inside: Path, ref: TensorRef) -> TensorInfo:
    """The facts of a tensor that the head of the loop refers to."""
    return read(inside if ref.storage in inside.store.tensors else before, ref).tensor


def _list_of(path: Path, value: Any) -> Any:
    return path.store.lists[value.number] if isinstance(value, ListRef) else value


def _same(head: Any, end: Any) -> bool:
    if isinstance(head, (Value, DynamicList)):
        return isinstance(end, (Value, DynamicList)) and head.ssa is end.ssa
    if isinstance(head, list):
        return isinstance(end, list) and len(head) == len(end) and all(map(_same, head, end))
    if isinstance(head, tuple):
        return isinstance(end, tuple) and len(head) == len(end) and all(map(_same, head, end))
    if isinstance(head, float):
        return isinstance(end, float) and repr(head) == repr(end)
    return type(head) is type(end) and bool(head == end)


# ------ forms


def form_type(form: Form) -> Attribute:
    """The contract type of a form's block argument."""
    if isinstance(form, IntForm):
        return types.INT
    if isinstance(form, ScalarForm):
        return {"float": types.FLOAT, "bool": types.BOOL, "str": types.STRING}[form.kind]
    if isinstance(form, TensorForm):
        return types.vtensor([s if isinstance(s, int) else -1 for s in form.sizes], form.dtype)
    if isinstance(form, GrowingForm):
        return list_type(form.element)
    raise TypeError(f"{form} has no single type")


def form_of(value: Any, path: Path) -> Form:
    """The form of a place that holds nothing yet at the head and this value at the end."""
    if isinstance(value, TensorRef):
        info = read(path, value).tensor
        sizes = tuple(s if isinstance(s, int) else None for s in info.sizes)
        return TensorForm(info.dtype, sizes, boxed=True)
    if isinstance(value, tuple):
        return TupleForm(tuple(form_of(v, path) for v in value))
    kind = kind_of(value)
    if kind is None:
        raise CannotJoin(f"a variable that the loop itself defines as {value!r:.60}")
    return IntForm() if kind == "int" else ScalarForm(kind)


def _wider_scalar(form: Form, head: Any, end: Any) -> Form:
    kind = kind_of(head)
    if kind is None or kind != kind_of(end):
        raise CannotJoin(f"{head!r:.60} that becomes {end!r:.60}")
    if kind != "int":
        return ScalarForm(kind)
    low, high = (form.low, form.high) if isinstance(form, IntForm) else bounds(head)
    if not isinstance(form, IntForm):
        # The first change decides a direction; the next iteration confirms it or gives it up.
        return IntForm(low if at_least(end, head) else -INFINITY, high if at_least(head, end) else INFINITY)
    end_low, end_high = bounds(end)
    return IntForm(low if end_low >= low else -INFINITY, high if end_high <= high else INFINITY)


def _bound_info(builder: TorchBuilder, value: SSAValue, form: TensorForm) -> TensorInfo:
    """Facts of a carried tensor: sizes that change are fresh symbols with their values."""
    sizes: list[Size] = []
    for dim, size in enumerate(form.sizes):
        if size is None:
            symbol = Symbol("s", 0)
            builder.define(symbol, builder.size_of(value, dim))
            size = Dim.of(symbol)
        sizes.append(size)
    return TensorInfo(tuple(sizes), form.dtype)
