"""Small constant tensors that stand in the program itself: read-only module memory, equal ones once."""

from __future__ import annotations

from xdsl.dialects import arith, memref
from xdsl.dialects.builtin import StringAttr, SymbolRefAttr, TensorType, UnitAttr
from xdsl.ir import Attribute

from stepwell.lowering.host_bufferize.elements import memref_of
from stepwell.lowering.host_bufferize.emitter import Emitter


class Globals:
    """The constants of a module."""

    def __init__(self) -> None:
        self.ops: dict[Attribute, memref.GlobalOp] = {}

    def define(self, op: arith.ConstantOp, emit: Emitter) -> None:
        """Make a constant tensor known to the function as a memref."""
        assert isinstance(op.result.type, TensorType)
        kind = memref_of(op.result.type)
        made = self.ops.get(op.value)
        if made is None:
            name = f"constant_{len(self.ops)}"
            made = memref.GlobalOp.get(
                StringAttr(name), kind, op.value, StringAttr("private"), UnitAttr()
            )  # fmt: skip
            self.ops[op.value] = made
        reference = memref.GetGlobalOp(SymbolRefAttr(made.sym_name.data), kind)
        with emit.into(emit.head):
            emit.buffers[op.result] = emit.add(reference)
