"""llvm: instructions, atomics and intrinsics that xDSL lacks or defines too narrowly."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable
from typing import ClassVar

from xdsl.dialects import llvm
from xdsl.dialects.builtin import (
    AnyFloatConstr,
    BoolAttr,
    DenseArrayBase,
    DenseIntElementsAttr,
    IntegerAttr,
    IntegerType,
    SignlessIntegerConstraint,
    StringAttr,
    UnitAttr,
    VectorType,
    i1,
    i32,
    i64,
)
from xdsl.dialects.utils import parse_dynamic_index_list_without_types, print_dynamic_index_list
from xdsl.ir import Attribute
from xdsl.irdl import (
    AnyAttr,
    AttrSizedOperandSegments,
    IRDLOperation,
    ParsePropInAttrDict,
    VarConstraint,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    successor_def,
    traits_def,
    var_operand_def,
    var_successor_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import IsTerminator, MemoryReadEffect, MemoryWriteEffect, NoMemoryEffect, Pure

from stepwell.dialects.upstream.core import BOOLS, FLOATS, INTEGER_VECTOR, INTEGERS, POINTERS, like

ORDERINGS = {"monotonic": 2, "acquire": 4, "release": 5, "acq_rel": 6, "seq_cst": 7}
"""llvm.AtomicOrdering by its keyword."""
RMW_OPERATIONS = {"xchg": 0, "add": 1, "sub": 2, "and": 3, "or": 5, "xor": 6, "max": 7, "min": 8}
"""llvm.AtomicBinOp by its keyword."""


# ------ llvm, widened


@irdl_op_definition
class FCmpOp(IRDLOperation):
    """Float comparison, on vectors too; the predicate is an `llvm::FCmpPredicate`."""

    name = "llvm.fcmp"
    T: ClassVar = VarConstraint("T", FLOATS)
    lhs = operand_def(T)
    rhs = operand_def(T)
    res = result_def(BOOLS)
    predicate = prop_def(IntegerAttr[IntegerType])
    fastmathFlags = prop_def(llvm.FastMathAttr, default_value=llvm.FastMathAttr(None))
    traits = traits_def(Pure())

    @classmethod
    def parse(cls, parser: Parser) -> FCmpOp:
        predicate = llvm.FCmpPredicateFlag(parser.parse_str_literal()).to_int()
        left = parser.parse_unresolved_operand()
        parser.parse_punctuation(",")
        right = parser.parse_unresolved_operand()
        attributes = parser.parse_optional_attr_dict()
        properties: dict[str, Attribute] = {"predicate": IntegerAttr(predicate, i64)}
        if "fastmathFlags" in attributes:
            properties["fastmathFlags"] = attributes.pop("fastmathFlags")
        parser.parse_punctuation(":")
        kind = parser.parse_type()
        return cls.create(
            operands=parser.resolve_operands([left, right], [kind, kind], parser.pos),
            result_types=[like(kind, i1)],
            properties=properties,
            attributes=attributes,
        )

    def print(self, printer: Printer) -> None:
        flag = llvm.FCmpPredicateFlag.from_int(self.predicate.value.data)
        printer.print_string(f' "{flag}" ')
        printer.print_list(self.operands, printer.print_operand)
        attributes = dict(self.attributes)
        flags = self.properties.get("fastmathFlags")
        if isinstance(flags, llvm.FastMathAttr) and flags.data:
            attributes["fastmathFlags"] = flags
        printer.print_op_attributes(attributes)
        printer.print_string(" : ")
        printer.print_attribute(self.lhs.type)


@irdl_op_definition
class SelectOp(IRDLOperation):
    """`llvm.select`, where the condition may be a vector."""

    name = "llvm.select"
    T: ClassVar = VarConstraint("T", AnyAttr())
    cond = operand_def(BOOLS)
    lhs = operand_def(T)
    rhs = operand_def(T)
    res = result_def(T)
    fastmathFlags = prop_def(llvm.FastMathAttr, default_value=llvm.FastMathAttr(None))
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$cond `,` $lhs `,` $rhs attr-dict `:` type($cond) `,` type($res)"


@irdl_op_definition
class MaskedStoreOp(IRDLOperation):
    """Lanes whose mask is set are written; any element type."""

    name = "llvm.intr.masked.store"
    value = operand_def(VectorType)
    data = operand_def(llvm.LLVMPointerType)
    mask = operand_def(INTEGER_VECTOR)
    alignment = prop_def(IntegerAttr[IntegerType])
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$value `,` $data `,` $mask attr-dict `:` type($value) `,` type($mask) `into` type($data)"


@irdl_op_definition
class StoreOp(IRDLOperation):
    """`llvm.store`, whose atomic ordering survives printing."""

    name = "llvm.store"
    value = operand_def()
    ptr = operand_def(llvm.LLVMPointerType)
    alignment = opt_prop_def(IntegerAttr[IntegerType])
    ordering = prop_def(IntegerAttr[IntegerType], default_value=IntegerAttr(0, i64))

    @classmethod
    def parse(cls, parser: Parser) -> StoreOp:
        value = parser.parse_unresolved_operand()
        parser.parse_punctuation(",")
        pointer = parser.parse_unresolved_operand()
        ordering = 0
        if parser.parse_optional_keyword("atomic"):
            ordering = ORDERINGS[parser.parse_identifier()]
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        types = [parser.parse_type()]
        parser.parse_punctuation(",")
        types.append(parser.parse_type())
        properties: dict[str, Attribute] = {"ordering": IntegerAttr(ordering, i64)}
        if "alignment" in attributes:
            properties["alignment"] = attributes.pop("alignment")
        return cls.create(
            operands=parser.resolve_operands([value, pointer], types, parser.pos),
            properties=properties,
            attributes=attributes,
        )

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_list(self.operands, printer.print_operand)
        for keyword, ordering in ORDERINGS.items():
            if ordering == self.ordering.value.data:
                printer.print_string(f" atomic {keyword}")
        attributes = dict(self.attributes)
        if self.alignment is not None:
            attributes["alignment"] = self.alignment
        printer.print_op_attributes(attributes)
        printer.print_string(" : ")
        printer.print_list([self.value.type, self.ptr.type], printer.print_attribute)


@irdl_op_definition
class GEPOp(IRDLOperation):
    """`llvm.getelementptr` whose base or index, and so whose result, may be a vector: one address per lane."""

    name = "llvm.getelementptr"
    base = operand_def(POINTERS)
    indices = var_operand_def(INTEGERS)
    rawConstantIndices = prop_def(DenseArrayBase.constr(i32))
    elem_type = prop_def()
    noWrapFlags = prop_def(IntegerAttr[IntegerType], default_value=IntegerAttr(0, i32))
    inbounds = opt_prop_def(UnitAttr)
    res = result_def(POINTERS)
    traits = traits_def(NoMemoryEffect())

    @classmethod
    def parse(cls, parser: Parser) -> GEPOp:
        inbounds = parser.parse_optional_keyword("inbounds") is not None
        unresolved = [parser.parse_unresolved_operand()]
        dynamic, constants = parse_dynamic_index_list_without_types(parser, llvm.GEP_USE_SSA_VAL)
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        signature = parser.parse_function_type()
        parser.parse_punctuation(",")
        properties: dict[str, Attribute] = {
            "elem_type": parser.parse_type(),
            "rawConstantIndices": DenseArrayBase.from_list(i32, constants),
            "noWrapFlags": IntegerAttr(0, i32),
        }
        if inbounds:
            properties["inbounds"] = UnitAttr()
        return cls.create(
            operands=parser.resolve_operands([*unresolved, *dynamic], signature.inputs.data, parser.pos),
            result_types=signature.outputs.data,
            properties=properties,
            attributes=attributes,
        )

    def print(self, printer: Printer) -> None:
        printer.print_string(" inbounds " if self.inbounds is not None else " ")
        printer.print_ssa_value(self.base)
        print_dynamic_index_list(printer, llvm.GEP_USE_SSA_VAL, self.indices, self.rawConstantIndices.iter_values())
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        printer.print_function_type([value.type for value in self.operands], [self.res.type])
        printer.print_string(", ")
        printer.print_attribute(self.elem_type)


# ------ llvm, missing: instructions


class _Cast(IRDLOperation, ABC):
    arg = operand_def()
    result = result_def()
    traits = traits_def(NoMemoryEffect())
    assembly_format = "$arg attr-dict `:` type($arg) `to` type($result)"


@irdl_op_definition
class FPToSIOp(_Cast):
    name = "llvm.fptosi"


@irdl_op_definition
class FPToUIOp(_Cast):
    name = "llvm.fptoui"


@irdl_op_definition
class UIToFPOp(_Cast):
    name = "llvm.uitofp"


@irdl_op_definition
class FreezeOp(IRDLOperation):
    """A value that is not poison: any fixed bits where the operand was."""

    name = "llvm.freeze"
    T: ClassVar = VarConstraint("T", AnyAttr())
    val = operand_def(T)
    res = result_def(T)
    traits = traits_def(NoMemoryEffect())
    assembly_format = "$val attr-dict `:` type($val)"


@irdl_op_definition
class AddrSpaceCastOp(IRDLOperation):
    """The same address as a pointer of another address space."""

    name = "llvm.addrspacecast"
    arg = operand_def(llvm.LLVMPointerType)
    res = result_def(llvm.LLVMPointerType)
    traits = traits_def(NoMemoryEffect())
    assembly_format = "$arg attr-dict `:` type($arg) `to` type($res)"


@irdl_op_definition
class PoisonOp(IRDLOperation):
    name = "llvm.mlir.poison"
    res = result_def()
    traits = traits_def(NoMemoryEffect())
    assembly_format = "attr-dict `:` type($res)"


@irdl_op_definition
class ExtractElementOp(IRDLOperation):
    name = "llvm.extractelement"
    E: ClassVar = VarConstraint("E", AnyAttr())
    vector = operand_def(VectorType.constr(E))
    position = operand_def(SignlessIntegerConstraint)
    res = result_def(E)
    traits = traits_def(NoMemoryEffect())
    assembly_format = "$vector `[` $position `:` type($position) `]` attr-dict `:` type($vector)"


@irdl_op_definition
class SwitchOp(IRDLOperation):
    """Jump by integer value. Case values are a dense vector; blocks take no arguments here."""

    name = "llvm.switch"
    value = operand_def(SignlessIntegerConstraint)
    default_operands = var_operand_def()
    case_operands = var_operand_def()
    case_values = opt_prop_def(DenseIntElementsAttr)
    case_operand_segments = prop_def(DenseArrayBase.constr(i32))
    default_destination = successor_def()
    case_destinations = var_successor_def()
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    traits = traits_def(IsTerminator())


@irdl_op_definition
class FenceOp(IRDLOperation):
    name = "llvm.fence"
    ordering = prop_def(IntegerAttr[IntegerType])
    syncscope = opt_prop_def(StringAttr)


@irdl_op_definition
class AtomicRMWOp(IRDLOperation):
    """Read, combine, write; gives the value before. `bin_op` and `ordering` are LLVM's enumerations."""

    name = "llvm.atomicrmw"
    T: ClassVar = VarConstraint("T", AnyAttr())
    ptr = operand_def(llvm.LLVMPointerType)
    val = operand_def(T)
    res = result_def(T)
    bin_op = prop_def(IntegerAttr[IntegerType])
    ordering = prop_def(IntegerAttr[IntegerType])
    syncscope = opt_prop_def(StringAttr)
    alignment = opt_prop_def(IntegerAttr[IntegerType])
    volatile_ = opt_prop_def(Attribute)


@irdl_op_definition
class CmpXchgOp(IRDLOperation):
    """Write `val` where memory holds `cmp`; gives what was there and whether it wrote."""

    name = "llvm.cmpxchg"
    T: ClassVar = VarConstraint("T", AnyAttr())
    ptr = operand_def(llvm.LLVMPointerType)
    cmp = operand_def(T)
    val = operand_def(T)
    res = result_def(llvm.LLVMStructType)
    success_ordering = prop_def(IntegerAttr[IntegerType])
    failure_ordering = prop_def(IntegerAttr[IntegerType])
    syncscope = opt_prop_def(StringAttr)
    alignment = opt_prop_def(IntegerAttr[IntegerType])
    weak = opt_prop_def(Attribute)
    volatile_ = opt_prop_def(Attribute)


# ------ llvm, missing: intrinsics


class _Intrinsic(IRDLOperation, ABC):
    assembly_format = "`(` operands `)` attr-dict `:` functional-type(operands, results)"
    irdl_options = (ParsePropInAttrDict(),)


class _FloatUnary(_Intrinsic, ABC):
    T: ClassVar = VarConstraint("T", FLOATS)
    arg = operand_def(T)
    res = result_def(T)
    fastmathFlags = prop_def(llvm.FastMathAttr, default_value=llvm.FastMathAttr(None))
    traits = traits_def(Pure())


class _FloatBinary(_Intrinsic, ABC):
    T: ClassVar = VarConstraint("T", FLOATS)
    lhs = operand_def(T)
    rhs = operand_def(T)
    res = result_def(T)
    fastmathFlags = prop_def(llvm.FastMathAttr, default_value=llvm.FastMathAttr(None))
    traits = traits_def(Pure())


class _IntegerUnary(_Intrinsic, ABC):
    T: ClassVar = VarConstraint("T", INTEGERS)
    arg = operand_def(T)
    res = result_def(T)
    traits = traits_def(Pure())


class _ZeroIsPoison(IRDLOperation, ABC):
    T: ClassVar = VarConstraint("T", INTEGERS)
    arg = operand_def(T)
    res = result_def(T)
    traits = traits_def(Pure())
    is_zero_poison = prop_def(BoolAttr)


class _IntegerBinary(_Intrinsic, ABC):
    T: ClassVar = VarConstraint("T", INTEGERS)
    lhs = operand_def(T)
    rhs = operand_def(T)
    res = result_def(T)
    traits = traits_def(Pure())


class _IntegerReduction(IRDLOperation, ABC):
    E: ClassVar = VarConstraint("E", SignlessIntegerConstraint)
    arg = operand_def(VectorType.constr(E))
    res = result_def(E)
    traits = traits_def(Pure())


class _FloatReduction(_Intrinsic, ABC):
    E: ClassVar = VarConstraint("E", AnyFloatConstr)
    arg = operand_def(VectorType.constr(E))
    res = result_def(E)
    fastmathFlags = prop_def(llvm.FastMathAttr, default_value=llvm.FastMathAttr(None))
    traits = traits_def(Pure())


def _intrinsics(kind: type[IRDLOperation], names: str) -> Iterable[type[IRDLOperation]]:
    """One op class per name; they differ in nothing else."""
    for suffix in names.split():
        title = "".join(part.capitalize() for part in suffix.split("."))
        body = {"name": f"llvm.intr.{suffix}", "__module__": __name__, "__qualname__": f"{title}Op"}
        yield irdl_op_definition(type(f"{title}Op", (kind,), body))


@irdl_op_definition
class AbsOp(IRDLOperation):
    name = "llvm.intr.abs"
    T: ClassVar = VarConstraint("T", INTEGERS)
    arg = operand_def(T)
    res = result_def(T)
    traits = traits_def(Pure())
    is_int_min_poison = prop_def(BoolAttr)


@irdl_op_definition
class MaskedLoadOp(_Intrinsic):
    """Lanes whose mask is set are read, the others are those of `pass_thru`."""

    name = "llvm.intr.masked.load"
    data = operand_def(llvm.LLVMPointerType)
    mask = operand_def(INTEGER_VECTOR)
    pass_thru = var_operand_def(VectorType)
    res = result_def(VectorType)
    alignment = prop_def(IntegerAttr[IntegerType])
    traits = traits_def(MemoryReadEffect())
    assembly_format = "operands attr-dict `:` functional-type(operands, results)"


@irdl_op_definition
class MaskedGatherOp(_Intrinsic):
    name = "llvm.intr.masked.gather"
    ptrs = operand_def(VectorType)
    mask = operand_def(INTEGER_VECTOR)
    pass_thru = var_operand_def(VectorType)
    res = result_def(VectorType)
    alignment = prop_def(IntegerAttr[IntegerType])
    traits = traits_def(MemoryReadEffect())
    assembly_format = "operands attr-dict `:` functional-type(operands, results)"


@irdl_op_definition
class MaskedScatterOp(_Intrinsic):
    name = "llvm.intr.masked.scatter"
    value = operand_def(VectorType)
    ptrs = operand_def(VectorType)
    mask = operand_def(INTEGER_VECTOR)
    alignment = prop_def(IntegerAttr[IntegerType])
    traits = traits_def(MemoryWriteEffect())
    assembly_format = "$value `,` $ptrs `,` $mask attr-dict `:` type($value) `,` type($mask) `into` type($ptrs)"


class _BlockOfMemory(IRDLOperation, ABC):
    """(destination, source or byte, length in bytes)."""

    dst = operand_def(llvm.LLVMPointerType)
    src = operand_def()
    len = operand_def(SignlessIntegerConstraint)
    isVolatile = prop_def(BoolAttr)
    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())


@irdl_op_definition
class MemcpyOp(_BlockOfMemory):
    name = "llvm.intr.memcpy"


@irdl_op_definition
class MemmoveOp(_BlockOfMemory):
    name = "llvm.intr.memmove"


@irdl_op_definition
class MemsetOp(_BlockOfMemory):
    name = "llvm.intr.memset"


_INTRINSIC_OPS: list[type[IRDLOperation]] = [
    *_intrinsics(_FloatUnary, "rint nearbyint roundeven round trunc"),
    *_intrinsics(_FloatBinary, "maximum minimum"),
    *_intrinsics(_IntegerBinary, "smax smin umax umin"),
    *_intrinsics(_IntegerUnary, "ctpop"),
    *_intrinsics(_ZeroIsPoison, "ctlz cttz"),
    *_intrinsics(
        _IntegerReduction,
        " ".join(
            f"vector.reduce.{name}" for name in ("add", "mul", "and", "or", "xor", "smax", "smin", "umax", "umin")
        ),
    ),
    *_intrinsics(
        _FloatReduction,
        "vector.reduce.fmax vector.reduce.fmin vector.reduce.fmaximum vector.reduce.fminimum",
    ),
    AbsOp,
    MaskedLoadOp,
    MaskedGatherOp,
    MaskedScatterOp,
    MemcpyOp,
    MemmoveOp,
    MemsetOp,
]
INTRINSICS = {op.name: op for op in _INTRINSIC_OPS}
"""The intrinsic ops that xDSL lacks, by name."""
