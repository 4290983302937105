"""The ladder: what holds at each level, as data, and the check of it.

A level is allowed ops and types, rules, and a paragraph of prose. The pipeline checks a module when it enters a
level; what should not be there any more is reported with the op, the level, and the pass that should have
removed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from xdsl.dialects.builtin import IntegerType, MemRefType, ModuleOp, Signedness, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Operation

from stepwell.dialects.diagnostics import Error
from stepwell.dialects.walk import every_op

Rule = Callable[[Operation], str | None]
"""What is wrong with an op at this level; None where nothing is."""

TypeRule = Callable[[Attribute], str | None]
"""What is wrong with a type of values; None where nothing is. It is asked once per type."""


class LevelError(Error):
    """An internal error: a module breaks the rules of the level that it entered.

    Attributes: `op` (the offending one), `level` (its name), `reason`, `culprit` (the pass, or None).
    """

    def __init__(self, op: Operation, level: str, reason: str, culprit: str | None = None) -> None:
        self.op, self.level, self.reason, self.culprit = op, level, reason, culprit
        blame = f"; pass {culprit} should have removed it" if culprit else ""
        super().__init__(f"level {level}: {op.name}: {reason}{blame}\n    {_first_lines(op)}")


def _first_lines(op: Operation, limit: int = 6) -> str:
    """The op as text, cut after some lines: enough to recognise it."""
    lines = str(op).splitlines()
    return "\n    ".join(lines[:limit] + (["..."] if len(lines) > limit else []))


@dataclass(frozen=True)
class Level:
    """One step of the stair.

    `allows` and `types` hold names of ops and types, or of whole dialects; `denies` takes single ops out of an
    allowed dialect. `removed_by` maps an op or dialect that has no place here to the pass that removes it.
    """

    name: str
    allows: frozenset[str]
    types: frozenset[str]
    says: str
    rules: tuple[Rule, ...] = ()
    type_rules: tuple[TypeRule, ...] = ()
    denies: frozenset[str] = frozenset()
    removed_by: Mapping[str, str] = field(default_factory=dict)

    def permits(self, op_name: str) -> bool:
        """Whether an op of this name may stand here."""
        return op_name not in self.denies and _named(op_name, self.allows)

    def culprit(self, name: str) -> str | None:
        """The pass that should have removed an op or type of this name."""
        return self.removed_by.get(name) or self.removed_by.get(name.split(".")[0])


def _named(name: str, names: frozenset[str]) -> bool:
    """Whether a name, or the dialect before its first dot, is among the names."""
    return name in names or name.split(".", 1)[0] in names


def names(*groups: str) -> frozenset[str]:
    """Names written as in a text: `names("func scf", "tensor.empty tensor.dim")`."""
    return frozenset(name for group in groups for name in group.split())


def inside(op: Operation, ancestor: str) -> bool:
    """Whether some op of this name encloses the op."""
    parent = op.parent_op()
    while parent is not None and parent.name != ancestor:
        parent = parent.parent_op()
    return parent is not None


def signless(kind: Attribute) -> str | None:
    """Integers carry no sign: the op that reads them decides."""
    element = kind.element_type if isinstance(kind, (TensorType, MemRefType)) else kind
    if isinstance(element, IntegerType) and element.signedness.data != Signedness.SIGNLESS:
        return f"integers are signless here, not {element}"
    return None


def linalg_in_kernels(op: Operation) -> str | None:
    """Computation lives in kernels; the entry function only launches them."""
    if op.name.startswith("linalg.") and not inside(op, "tile.kernel"):
        return "linalg ops stand in kernels only"
    return None


def one_entry(op: Operation) -> str | None:
    """A module of values has one function with `host.entry`, which runs, and may have `@prepare`."""
    if not isinstance(op, ModuleOp) or op.parent_op() is not None:
        return None
    entries = [f.sym_name.data for f in op.ops if isinstance(f, FuncOp) and "host.entry" in f.attributes]
    if [name for name in entries if name != "prepare"][1:] or not entries:
        return f"one entry function (host.entry) is needed, there are {entries}"
    return None


NUMBERS = names("integer_type index f16 bf16 f32 f64 complex")
"""The scalar types from linalg down, by xDSL's names for them."""

HOST_VALUES = names(
    "host.raise host.undefined host.list_new host.list_append host.list_length host.list_get",
    "host.list_set host.list_pop host.list_concat host.list_stack",
    "host.list_elements host.list_table",
)

CONTROL = names("scf.if scf.for scf.while scf.condition scf.yield")

TENSORS = names(
    "tensor.empty tensor.extract tensor.extract_slice tensor.insert_slice tensor.expand_shape",
    "tensor.collapse_shape tensor.dim tensor.cast tensor.from_elements",
)

LINALG_OPS = names("linalg.generic linalg.index linalg.yield linalg.fill")

TORCH_RAW = Level(
    "torch-raw",
    allows=names("builtin torch func host arith"),
    types=names("torch host function", "integer_type index f32 f64"),
    says="What a frontend saw: torch-mlir's dialect, with mutation, objects and unknown ranks.",
)

TORCH = Level(
    "torch",
    allows=names("builtin torch func host arith"),
    denies=names("torch.class_type torch.nn_module torch.nn_module_terminator torch.attr torch.method"),
    types=names("torch host function", "integer_type index f32 f64"),
    says="The contract: inlined, functional, every tensor with known rank and dtype, composite ops expanded. "
    "No op mutates and no two values share memory.",
)

LINALG = Level(
    "linalg",
    allows=names("builtin.module builtin.unregistered func arith math") | CONTROL | TENSORS | LINALG_OPS
    | HOST_VALUES,
    types=NUMBERS | names("tensor host.list"),
    rules=(one_entry,),
    type_rules=(signless,),
    says="Values only. Everything computational is linalg.generic or linalg.fill, whatever its name was; "
    "weights are resource handles; control flow is scf; sizes are static or SSA values.",
    removed_by={"torch": "torch-to-linalg"},
)  # fmt: skip

TILE = Level(
    "tile",
    allows=LINALG.allows | names("tile"),
    types=LINALG.types,
    rules=(one_entry, linalg_in_kernels),
    type_rules=(signless,),
    says="Kernels: groups of linalg ops that become one loop nest each, with the decided schedule as "
    "attributes. The entry function is control flow, sizes, reshapes and launches.",
    removed_by={"linalg": "form-kernels", "torch": "torch-to-linalg"},
)

LOOPS = Level(
    "loops",
    allows=names("builtin.module func arith math scf memref vector host x86vector.avx512.mask.scalef"),
    denies=HOST_VALUES - names("host.raise host.undefined") | names("memref.alloc memref.dealloc"),
    types=NUMBERS | names("memref vector"),
    type_rules=(signless,),
    says="Memory is planned: kernels and entry take memrefs, results go to buffers that the caller or the "
    "arena provides; parallel work is explicit.",
    removed_by={
        "tensor": "bufferize-host", "host": "bufferize-host", "tile.launch": "bufferize-host",
        "tile": "lower-kernels", "linalg": "lower-kernels",
    },
)  # fmt: skip

LLVM = Level(
    "llvm",
    allows=names("builtin.module llvm"),
    types=names("llvm integer_type f16 bf16 f32 f64 vector"),
    says="LLVM's own dialect, one translation away from LLVM IR text.",
    removed_by={"host": "loops-to-llvm", "memref": "loops-to-llvm", "scf": "loops-to-llvm",
                "arith": "loops-to-llvm", "vector": "loops-to-llvm", "func": "loops-to-llvm"},
)  # fmt: skip

GPU = Level(
    "gpu",
    allows=names(
        "builtin.module gpu.module gpu.func gpu.return gpu.thread_id gpu.block_id gpu.barrier gpu.shuffle",
        "arith math scf.for scf.if scf.yield memref.load memref.store memref.alloca memref.reinterpret_cast",
        "vector.load vector.store vector.extract vector.from_elements",
    ),
    types=NUMBERS | names("memref vector"),
    type_rules=(signless,),
    says="Beside loops, for GPUs: what each thread of a launch does. Numbers are scalars; a vector is one access "
    "of several neighbours. Shared memory is an alloca in memory space 3.",
    removed_by={"linalg": "tile-to-gpu", "tile": "tile-to-gpu", "tensor": "tile-to-gpu"},
)  # fmt: skip

LADDER = (TORCH_RAW, TORCH, LINALG, TILE, LOOPS, LLVM)
"""The stair, from top to bottom."""

BY_NAME = {level.name: level for level in LADDER}


def check(module: Operation, level: Level) -> None:
    """Every op and every type in the module, or in one of its functions, belongs to the level. Raises LevelError for the
    first that does not."""
    accepted: set[int] = set()
    permitted: set[str] = set()
    for op in every_op(module):
        if op.name not in permitted:
            if not level.permits(op.name):
                raise LevelError(op, level.name, "this op has no place here", level.culprit(op.name))
            permitted.add(op.name)
        _check_types(op, level, accepted)
        for rule in level.rules:
            if (reason := rule(op)) is not None:
                raise LevelError(op, level.name, reason, level.culprit(op.name))


def _check_types(op: Operation, level: Level, accepted: set[int]) -> None:
    """Every value that the op or its blocks define has a type of the level. `accepted` has the identities of types
    seen before, which the module keeps alive: comparing types takes longer than checking them."""
    for kind in _defined_types(op):
        if id(kind) in accepted:
            continue
        element = kind.element_type if isinstance(kind, (TensorType, MemRefType)) else kind
        for part in (kind, element):
            if not _named(part.name, level.types):
                raise LevelError(op, level.name, f"values of type {kind} have no place here", level.culprit(part.name))
        for rule in level.type_rules:
            if (reason := rule(kind)) is not None:
                raise LevelError(op, level.name, reason, level.culprit(op.name))
        accepted.add(id(kind))


def _defined_types(op: Operation) -> Iterable[Attribute]:
    for result in op.results:
        yield result.type
    for region in op.regions:
        for block in region.blocks:
            for argument in block.args:
                yield argument.type
