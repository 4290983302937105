"""`tile`: kernels and their schedules. What one loop nest computes is decided here, and how.

A `tile.kernel` is a group of linalg ops that becomes one loop nest. It has no data of its own and sees nothing
outside; its body computes on tensors (values), so its meaning is that of its ops, and an interpreter ignores the
schedule. Identical kernels exist once; `tile.launch` runs one.

    tile.kernel @k0(%a: tensor<4x?xf32>, %b: tensor<f32>) -> (tensor<4x?xf32>)
        attributes {schedule = {template = "map", parallel = 1 : i64}} {
      ...linalg.generic, linalg.fill, tensor.empty, tensor.dim, arith, math...
      tile.yield %r : tensor<4x?xf32>
    }
    %r = tile.launch @k0(%x, %y) : (tensor<4x?xf32>, tensor<f32>) -> tensor<4x?xf32>

The schedule is a dictionary: `template` names a way to write the loops, the other keys (see SCHEDULES) its sizes.
A key that is absent leaves the choice to the lowering, which knows the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import (
    DenseArrayBase,
    DictionaryAttr,
    FlatSymbolRefAttrConstr,
    FunctionType,
    IntegerAttr,
    StringAttr,
    SymbolNameConstraint,
    SymbolRefAttr,
    TensorType,
    i64,
)
from xdsl.dialects.utils import AbstractYieldOperation, parse_func_op_like, print_func_op_like
from xdsl.ir import Attribute, Block, Dialect, Operation, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    opt_prop_def,
    prop_def,
    region_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import (
    IsolatedFromAbove,
    IsTerminator,
    SymbolOpInterface,
    SymbolTable,
    SymbolUserOpInterface,
)
from xdsl.utils.exceptions import VerifyException


@dataclass(frozen=True)
class Key:
    """One key of a schedule: what it means, and the value that an absent key has.

    Values are i64 attributes. Where the default is AUTO, the lowering chooses from the target and the sizes.
    """

    doc: str
    default: int
    minimum: int = 0


LAYOUTS = "tile.layouts"
"""Attribute of a kernel between `bufferize-host` and `lower-kernels`: the strided layouts of arguments that do not lie
row by row, by number (results after inputs)."""

AUTO = -1
"""The default of keys that the lowering decides by itself."""

PARALLEL = Key("1: the outermost loop is shared among the threads (work over some 20 us); 0: one thread", 0)
VECTOR_DIM = Key("the iteration dimension that lanes run along", AUTO, AUTO)
UNROLL = Key("how many vectors along it one iteration of its loop handles", AUTO, AUTO)

SCHEDULES: dict[str, dict[str, Key]] = {
    # Elementwise over one iteration space; dimensions are those of the yielded generics, by position.
    "map": {"parallel": PARALLEL, "vector_dim": VECTOR_DIM, "unroll": UNROLL},
    # Reductions over inner dimensions for every outer point, and what is elementwise around them.
    "rows": {
        "parallel": PARALLEL,
        "unroll": UNROLL,
        "keep": Key("1: values of a row that several passes need are kept in scratch; 0: computed again", AUTO, AUTO),
    },
    # One contraction (batch, m, n, k by its maps) and a chain of elementwise ops after it.
    "matmul": {
        "parallel": PARALLEL,
        "mr": Key("rows of the register tile", AUTO, AUTO),
        "nr": Key("columns of the register tile, a multiple of the lanes", AUTO, AUTO),
        "mc": Key("rows of one block of work", AUTO, AUTO),
        "nc": Key("columns of one block of work, a multiple of nr", AUTO, AUTO),
        "pack_a": Key("1: blocks of A are copied to scratch; 0: A is read in place", AUTO, AUTO),
        "pack_b": Key("1: blocks of B are copied to scratch, nr columns together; 0: B is read in place", AUTO, AUTO),
        "k_unroll": Key("steps of the contraction in one iteration of its loop", AUTO, AUTO),
        "k_parts": Key("parts of the contraction of which an iteration takes one step each: as many streams of B", 1, 1),
    },
    # Direct convolution on blocked channels, out[n, c/b, y.., x, b], and what is elementwise after it.
    "conv": {
        "parallel": PARALLEL,
        "ow": Key("output columns of the register tile", AUTO, AUTO),
        "cob": Key("blocks of output channels in the register tile", AUTO, AUTO),
        "rows": Key("output rows of the register tile, where it is as wide as a row", AUTO, AUTO),
        "ci_unroll": Key("input channels in one iteration of the innermost loop", AUTO, AUTO),
    },
    # Convolution of each channel by itself; lanes run along the channel block.
    "depthwise": {"parallel": PARALLEL, "ow": Key("output columns of the register tile", AUTO, AUTO)},
    # Winograd convolution on blocked channels: inputs transformed, products, outputs transformed, and what is
    # elementwise after them.
    "winograd": {
        "parallel": PARALLEL,
        "rows": Key("rows of tiles of one unit of work", AUTO, AUTO),
        "columns": Key("columns of tiles of one unit of work", AUTO, AUTO),
        "blocks": Key("blocks of output channels of one unit of work", AUTO, AUTO),
        "tiles": Key("tiles of the register tile of a product", AUTO, AUTO),
        "cob": Key("blocks of output channels of the register tile", AUTO, AUTO),
    },
    # Two products and the softmax between them, in one pass.
    "attention": {
        "parallel": PARALLEL,
        "rows": Key("queries of one unit of work, a multiple of the lanes", AUTO, AUTO),
        "keys": Key("keys of one block, whose weights are in scratch at once", AUTO, AUTO),
    },
    # Reductions over small windows (pooling).
    "window": {
        "parallel": PARALLEL,
        "vector_dim": VECTOR_DIM,
    },
    # Anything: loops over the parallel dimensions, lanes where a dimension suits, reductions inside.
    "nest": {"parallel": PARALLEL, "vector_dim": VECTOR_DIM, "unroll": UNROLL},
}
"""Every template with its keys."""


def schedule_of(template: str, **sizes: int) -> DictionaryAttr:
    """The schedule dictionary of a template. Raises VerifyException where a key is unknown or out of range."""
    values: dict[str, Attribute] = {"template": StringAttr(template)}
    values.update((key, IntegerAttr(size, i64)) for key, size in sizes.items())
    schedule = DictionaryAttr(values)
    verify_schedule(schedule)
    return schedule


def verify_schedule(schedule: DictionaryAttr) -> None:
    """Raises VerifyException where the template or a key is unknown, or a value has a wrong type or range."""
    template = schedule.data.get("template")
    if not isinstance(template, StringAttr) or template.data not in SCHEDULES:
        raise VerifyException(f"a schedule has a template among {', '.join(SCHEDULES)}, not {template}")
    keys = SCHEDULES[template.data]
    for name, value in schedule.data.items():
        if name == "template":
            continue
        if name not in keys:
            raise VerifyException(f"template {template.data} has no key {name}; it has {', '.join(keys)}")
        if not isinstance(value, IntegerAttr) or value.type != i64:
            raise VerifyException(f"the value of {name} is an i64, not {value}")
        if value.value.data < keys[name].minimum:
            raise VerifyException(f"{name} is at least {keys[name].minimum}, not {value.value.data}")


def schedule_value(schedule: DictionaryAttr, name: str) -> int:
    """The value of a key, or its default. Raises KeyError where the template has no such key."""
    template = schedule.data["template"]
    assert isinstance(template, StringAttr)
    value = schedule.data.get(name)
    return value.value.data if isinstance(value, IntegerAttr) else SCHEDULES[template.data][name].default


SCALAR_DIALECTS = ("arith", "math")
TENSOR_OPS = ("linalg.generic", "linalg.fill", "tensor.empty", "tensor.dim", "tensor.insert_slice", "tile.yield")
"""What may stand in a kernel's body, beside scalar ops and constants. An insert_slice puts a border around an image."""


@irdl_op_definition
class YieldOp(AbstractYieldOperation[Attribute]):
    """Ends a kernel: its results."""

    name = "tile.yield"
    traits = traits_def(IsTerminator())


@irdl_op_definition
class KernelOp(IRDLOperation):
    """One loop nest. Arguments are tensors and scalars, results tensors.

    A dynamic size of a result is that of a `tensor.empty` in the body, computed there from sizes of arguments
    (`tensor.dim`) and arguments of type index.
    """

    name = "tile.kernel"
    body = region_def("single_block")
    sym_name = prop_def(SymbolNameConstraint())
    function_type = prop_def(FunctionType)
    schedule = prop_def(DictionaryAttr)

    traits = traits_def(IsolatedFromAbove(), SymbolOpInterface())

    def __init__(self, name: str, function_type: FunctionType, schedule: DictionaryAttr, body: Region | None = None):
        super().__init__(
            regions=[Region(Block(arg_types=function_type.inputs)) if body is None else body],
            properties={"sym_name": StringAttr(name), "function_type": function_type, "schedule": schedule},
        )

    @property
    def template(self) -> str:
        template = self.schedule.data["template"]
        assert isinstance(template, StringAttr)
        return template.data

    @property
    def results_yielded(self) -> tuple[SSAValue, ...]:
        """The values that the body yields."""
        last = self.body.block.last_op
        assert isinstance(last, YieldOp)
        return tuple(last.operands)

    def size(self, key: str) -> int:
        """The value of a schedule key, or its default."""
        return schedule_value(self.schedule, key)

    def verify_(self) -> None:
        verify_schedule(self.schedule)
        block = self.body.block
        if tuple(block.arg_types) != self.function_type.inputs.data:
            raise VerifyException("the arguments of the body differ from the kernel's type")
        if not isinstance(block.last_op, YieldOp):
            raise VerifyException("a kernel ends with tile.yield")
        if tuple(v.type for v in block.last_op.operands) != self.function_type.outputs.data:
            raise VerifyException("the yielded types differ from the kernel's results")
        for kind in self.function_type.outputs:
            if not isinstance(kind, TensorType):
                raise VerifyException(f"a kernel yields tensors, not {kind}")
        for op in block.ops:
            if op.name not in TENSOR_OPS and op.dialect_name() not in SCALAR_DIALECTS:
                raise VerifyException(f"{op.name} may not stand in a kernel")

    @classmethod
    def parse(cls, parser: Parser) -> KernelOp:
        name, inputs, outputs, region, extra, _, _ = parse_func_op_like(
            parser, reserved_attr_names=("sym_name", "function_type")
        )
        attributes = dict(extra.data) if extra is not None else {}
        schedule = attributes.pop("schedule", None)
        if not isinstance(schedule, DictionaryAttr):
            parser.raise_error("a kernel needs a schedule dictionary")
        kernel = cls(name, FunctionType.from_lists(inputs, outputs), schedule, region)
        kernel.attributes |= attributes
        return kernel

    def print(self, printer: Printer) -> None:
        print_func_op_like(
            printer,
            self.sym_name,
            self.function_type,
            self.body,
            {"schedule": self.schedule, **self.attributes},
            reserved_attr_names=("sym_name", "function_type"),
        )


class LaunchSymbolUser(SymbolUserOpInterface):
    """A launch names a kernel of its module, whose type fits."""

    def verify(self, op: Operation) -> None:
        assert isinstance(op, LaunchOp)
        kernel = SymbolTable.lookup_symbol(op, op.kernel)
        if not isinstance(kernel, KernelOp):
            raise VerifyException(f"{op.kernel} is no kernel of this module")
        expected, given = kernel.function_type, FunctionType.from_lists(op.operand_types, op.result_types)
        if expected != given:
            raise VerifyException(f"{op.kernel} is of type {expected}, launched as {given}")


@irdl_op_definition
class LaunchOp(IRDLOperation):
    """Run a kernel.

    `inplace`, where present, has one entry per result: the operand whose memory the result takes over, or -1.
    """

    name = "tile.launch"
    kernel = prop_def(FlatSymbolRefAttrConstr)
    inplace = opt_prop_def(DenseArrayBase.constr(i64))
    inputs = var_operand_def()
    outputs = var_result_def(TensorType)

    traits = traits_def(LaunchSymbolUser())
    assembly_format = (
        "$kernel `(` $inputs `)` (`inplace` `` $inplace^)? attr-dict `:` functional-type($inputs, $outputs)"
    )

    def __init__(self, kernel: str, inputs: Sequence[SSAValue], result_types: Sequence[Attribute]):
        super().__init__(
            operands=[inputs], result_types=[result_types], properties={"kernel": SymbolRefAttr(kernel)}
        )

    def verify_(self) -> None:
        if self.inplace is None:
            return
        entries = self.inplace.get_values()
        if len(entries) != len(self.outputs) or any(not -1 <= entry < len(self.inputs) for entry in entries):
            raise VerifyException(f"inplace has one operand number, or -1, per result, not {entries}")


Tile = Dialect("tile", [KernelOp, LaunchOp, YieldOp])
