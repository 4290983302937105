"""arith, math, memref, vector and x86vector: ops that xDSL lacks or defines on scalars only."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar, cast

from xdsl.dialects import arith, llvm
from xdsl.dialects.builtin import (
    AnyFloatConstr,
    BoolAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    MemRefType,
    SignlessIntegerConstraint,
    TensorType,
    VectorType,
    i1,
    i32,
    i64,
)
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.irdl import (
    AnyAttr,
    AttrConstraint,
    IRDLOperation,
    ParsePropInAttrDict,
    VarConstraint,
    base,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import MemoryReadEffect, MemoryWriteEffect, Pure

Constraint = AttrConstraint[Attribute]

FLOATS: Constraint = AnyFloatConstr | VectorType.constr(AnyFloatConstr)
INTEGERS: Constraint = SignlessIntegerConstraint | VectorType.constr(SignlessIntegerConstraint)
INTEGERS_OR_INDEX: Constraint = arith.signlessIntegerLike
BOOLS: Constraint = arith.boolLike
POINTERS: Constraint = base(llvm.LLVMPointerType) | VectorType.constr(base(llvm.LLVMPointerType))
INTEGER_VECTOR: Constraint = VectorType.constr(base(IntegerType) | base(IndexType))


def like(shaped: Attribute, element: Attribute) -> Attribute:
    """`element`, or a vector or tensor of it with the shape of `shaped`."""
    if isinstance(shaped, VectorType):
        return VectorType(element, shaped.shape, shaped.scalable_dims)
    if isinstance(shaped, TensorType):
        return TensorType(element, shaped.shape)
    return element


# ------ arith, widened


class _Compare(IRDLOperation, ABC):
    """`arith.cmp? predicate, %a, %b : type`; the result is i1 in the shape of the operands."""

    PREDICATES: ClassVar[list[str]]

    @classmethod
    def parse(cls, parser: Parser) -> _Compare:
        predicate = cls.PREDICATES.index(parser.parse_identifier())
        parser.parse_punctuation(",")
        left = parser.parse_unresolved_operand()
        parser.parse_punctuation(",")
        right = parser.parse_unresolved_operand()
        properties: dict[str, Attribute] = {"predicate": IntegerAttr(predicate, i64)}
        if parser.parse_optional_keyword("fastmath"):
            properties["fastmath"] = arith.FastMathFlagsAttr(arith.FastMathFlagsAttr.parse_parameter(parser))
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        kind = parser.parse_type()
        operands = parser.resolve_operands([left, right], [kind, kind], parser.pos)
        return cls.create(
            operands=operands, result_types=[like(kind, i1)], properties=properties, attributes=attributes
        )

    def print(self, printer: Printer) -> None:
        predicate = cast("IntegerAttr[IntegerType]", self.properties["predicate"])
        printer.print_string(f" {self.PREDICATES[predicate.value.data]}, ")
        printer.print_operand(self.operands[0])
        printer.print_string(", ")
        printer.print_operand(self.operands[1])
        flags = self.properties.get("fastmath")
        if isinstance(flags, arith.FastMathFlagsAttr) and flags.data:
            printer.print_string(" fastmath")
            flags.print_parameter(printer)
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        printer.print_attribute(self.operands[0].type)


@irdl_op_definition
class CmpiOp(_Compare):
    """Integer comparison, on vectors too."""

    name = "arith.cmpi"
    PREDICATES: ClassVar = arith.CMPI_COMPARISON_OPERATIONS
    T: ClassVar = VarConstraint("T", INTEGERS_OR_INDEX)
    predicate = prop_def(IntegerAttr[IntegerType])
    lhs = operand_def(T)
    rhs = operand_def(T)
    result = result_def(BOOLS)
    traits = traits_def(Pure())


@irdl_op_definition
class CmpfOp(_Compare):
    """Float comparison, on vectors too."""

    name = "arith.cmpf"
    PREDICATES: ClassVar = arith.CMPF_COMPARISON_OPERATIONS
    T: ClassVar = VarConstraint("T", arith.floatingPointLike)
    predicate = prop_def(IntegerAttr[IntegerType])
    fastmath = prop_def(arith.FastMathFlagsAttr, default_value=arith.FastMathFlagsAttr("none"))
    lhs = operand_def(T)
    rhs = operand_def(T)
    result = result_def(BOOLS)
    traits = traits_def(Pure())


@irdl_op_definition
class SelectOp(IRDLOperation):
    """`arith.select`, where the condition may be a vector."""

    name = "arith.select"
    T: ClassVar = VarConstraint("T", AnyAttr())
    cond = operand_def(BOOLS)
    lhs = operand_def(T)
    rhs = operand_def(T)
    result = result_def(T)
    traits = traits_def(Pure())

    @classmethod
    def parse(cls, parser: Parser) -> SelectOp:
        unresolved = parser.parse_optional_undelimited_comma_separated_list(
            parser.parse_optional_unresolved_operand, parser.parse_unresolved_operand
        )
        if unresolved is None:
            parser.raise_error("arith.select takes a condition and two values")
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        types = [parser.parse_type()]
        types.append(parser.parse_type() if parser.parse_optional_punctuation(",") else types[0])
        condition = types[0] if types[0] is not types[1] else i1
        operands = parser.resolve_operands(unresolved, [condition, types[1], types[1]], parser.pos)
        return cls.create(operands=operands, result_types=[types[1]], attributes=attributes)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_list(self.operands, printer.print_operand)
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        if self.operands[0].type != i1:
            printer.print_attribute(self.operands[0].type)
            printer.print_string(", ")
        printer.print_attribute(self.results[0].type)


class _Cast(IRDLOperation, ABC):
    assembly_format = "$input attr-dict `:` type($input) `to` type($result)"
    traits = traits_def(Pure())

    def __init__(self, input: SSAValue | Operation, result_type: Attribute):
        super().__init__(operands=[input], result_types=[result_type])


class _FloatToInteger(_Cast, ABC):
    input = operand_def(arith.floatingPointLike)
    result = result_def(INTEGERS)


class _IntegerToFloat(_Cast, ABC):
    input = operand_def(INTEGERS)
    result = result_def(arith.floatingPointLike)


class _Resize(_Cast, ABC):
    input = operand_def(INTEGERS)
    result = result_def(INTEGERS)


class _IndexCast(_Cast, ABC):
    input = operand_def(INTEGERS_OR_INDEX)
    result = result_def(INTEGERS_OR_INDEX)


@irdl_op_definition
class FPToSIOp(_FloatToInteger):
    name = "arith.fptosi"


@irdl_op_definition
class FPToUIOp(_FloatToInteger):
    name = "arith.fptoui"


@irdl_op_definition
class SIToFPOp(_IntegerToFloat):
    name = "arith.sitofp"


@irdl_op_definition
class UIToFPOp(_IntegerToFloat):
    name = "arith.uitofp"


@irdl_op_definition
class ExtSIOp(_Resize):
    name = "arith.extsi"


@irdl_op_definition
class ExtUIOp(_Resize):
    name = "arith.extui"


@irdl_op_definition
class TruncIOp(_Resize):
    name = "arith.trunci"


@irdl_op_definition
class IndexCastOp(_IndexCast):
    name = "arith.index_cast"


@irdl_op_definition
class IndexCastUIOp(_IndexCast):
    name = "arith.index_castui"


@irdl_op_definition
class RemFOp(IRDLOperation):
    """The remainder of a truncating division, exact (C's fmod)."""

    name = "arith.remf"
    T: ClassVar = VarConstraint("T", arith.floatingPointLike)
    lhs = operand_def(T)
    rhs = operand_def(T)
    result = result_def(T)
    fastmath = prop_def(arith.FastMathFlagsAttr, default_value=arith.FastMathFlagsAttr("none"))
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$lhs `,` $rhs attr-dict `:` type($result)"
    traits = traits_def(Pure())


# ------ math and vector, missing


class _FloatFunction(IRDLOperation, ABC):
    T: ClassVar = VarConstraint("T", arith.floatingPointLike)
    operand = operand_def(T)
    result = result_def(T)
    fastmath = prop_def(arith.FastMathFlagsAttr, default_value=arith.FastMathFlagsAttr("none"))
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$operand attr-dict `:` type($result)"
    traits = traits_def(Pure())

    def __init__(self, operand: SSAValue | Operation):
        value = SSAValue.get(operand)
        super().__init__(operands=[value], result_types=[value.type])


class _FloatPredicate(IRDLOperation, ABC):
    """A question about a float, answered by i1 in its shape."""

    operand = operand_def(arith.floatingPointLike)
    result = result_def(BOOLS)
    fastmath = prop_def(arith.FastMathFlagsAttr, default_value=arith.FastMathFlagsAttr("none"))
    traits = traits_def(Pure())

    def __init__(self, operand: SSAValue | Operation):
        value = SSAValue.get(operand)
        super().__init__(operands=[value], result_types=[like(value.type, i1)])

    @classmethod
    def parse(cls, parser: Parser) -> _FloatPredicate:
        operand = parser.parse_unresolved_operand()
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        op = cls(parser.resolve_operand(operand, parser.parse_type()))
        op.attributes |= attributes
        return op

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.operand)
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        printer.print_attribute(self.operand.type)


@irdl_op_definition
class ErfcOp(_FloatFunction):
    name = "math.erfc"


@irdl_op_definition
class IsNaNOp(_FloatPredicate):
    name = "math.isnan"


@irdl_op_definition
class IsInfOp(_FloatPredicate):
    name = "math.isinf"


@irdl_op_definition
class IsFiniteOp(_FloatPredicate):
    name = "math.isfinite"


@irdl_op_definition
class StepOp(IRDLOperation):
    """`[0, 1, 2, ...]` as a vector of index."""

    name = "vector.step"
    result = result_def(VectorType)
    assembly_format = "attr-dict `:` type($result)"
    traits = traits_def(Pure())

    def __init__(self, result_type: VectorType[Attribute]):
        super().__init__(result_types=[result_type])


@irdl_op_definition
class ScaleFOp(IRDLOperation):
    """`src * 2^floor(a)` in the lanes of the mask `k`, `b` in the others: AVX-512's vscalefps and vscalefpd, with the
    operands in the order of LLVM's intrinsic."""

    name = "x86vector.avx512.mask.scalef"
    T: ClassVar = VarConstraint("T", VectorType.constr(AnyFloatConstr))
    src = operand_def(T)
    a = operand_def(T)
    b = operand_def(T)
    k = operand_def(IntegerType)
    rounding = operand_def(i32)
    dst = result_def(T)
    traits = traits_def(Pure())

    @classmethod
    def parse(cls, parser: Parser) -> ScaleFOp:
        given = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_unresolved_operand)
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        kind = parser.parse_type()
        if not isinstance(kind, VectorType):
            parser.raise_error("x86vector.avx512.mask.scalef is on vectors")
        mask = IntegerType(kind.get_shape()[0])
        operands = parser.resolve_operands(given, [kind, kind, kind, mask, i32], parser.pos)
        return cls.create(operands=operands, result_types=[kind], attributes=attributes)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_list(self.operands, printer.print_operand)
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        printer.print_attribute(self.dst.type)


@irdl_op_definition
class FromElementsOp(IRDLOperation):
    """A vector from its elements, in order."""

    name = "vector.from_elements"
    elements = var_operand_def()
    result = result_def(VectorType)
    traits = traits_def(Pure())

    @classmethod
    def parse(cls, parser: Parser) -> FromElementsOp:
        given = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_unresolved_operand)
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        kind = parser.parse_type()
        if not isinstance(kind, VectorType):
            parser.raise_error("vector.from_elements makes a vector")
        operands = parser.resolve_operands(given, [kind.element_type] * len(given), parser.pos)
        return cls.create(operands=operands, result_types=[kind], attributes=attributes)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_list(self.operands, printer.print_operand)
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        printer.print_attribute(self.result.type)


@irdl_op_definition
class GatherOp(IRDLOperation):
    """Lane l reads `base[offsets + (0, ..., index_vec[l])]` where the mask is set, else takes `pass_thru`."""

    name = "vector.gather"
    base = operand_def(MemRefType)
    offsets = var_operand_def(IndexType)
    indices = operand_def(INTEGER_VECTOR)
    mask = operand_def(INTEGER_VECTOR)
    pass_thru = operand_def(VectorType)
    result = result_def(VectorType)
    traits = traits_def(MemoryReadEffect())
    assembly_format = (
        "$base `[` $offsets `]` `[` $indices `]` `,` $mask `,` $pass_thru attr-dict `:`"
        " type($base) `,` type($indices) `,` type($mask) `,` type($pass_thru) `into` type($result)"
    )


@irdl_op_definition
class ScatterOp(IRDLOperation):
    """Lane l writes `base[offsets + (0, ..., index_vec[l])]` where the mask is set, in lane order."""

    name = "vector.scatter"
    base = operand_def(MemRefType)
    offsets = var_operand_def(IndexType)
    indices = operand_def(INTEGER_VECTOR)
    mask = operand_def(INTEGER_VECTOR)
    value = operand_def(VectorType)
    traits = traits_def(MemoryWriteEffect())
    assembly_format = (
        "$base `[` $offsets `]` `[` $indices `]` `,` $mask `,` $value attr-dict `:`"
        " type($base) `,` type($indices) `,` type($mask) `,` type($value)"
    )


@irdl_op_definition
class PrefetchOp(IRDLOperation):
    """The line of an element is going to be needed soon: `locality<0>` in no cache, 1 in the last, 3 in the first."""

    name = "memref.prefetch"
    memref = operand_def(MemRefType)
    indices = var_operand_def(IndexType)
    isWrite = prop_def(BoolAttr)
    localityHint = prop_def(IntegerAttr[IntegerType])
    isDataCache = prop_def(BoolAttr)

    @classmethod
    def parse(cls, parser: Parser) -> PrefetchOp:
        memory = parser.parse_unresolved_operand()
        indices = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_unresolved_operand)
        parser.parse_punctuation(",")
        writes = _one_of(parser, "read", "write")
        parser.parse_punctuation(",")
        parser.parse_keyword("locality")
        with parser.in_angle_brackets():
            locality = parser.parse_integer()
        parser.parse_punctuation(",")
        cache = _one_of(parser, "data", "instr")
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        kind = parser.parse_type()
        operands = parser.resolve_operands([memory, *indices], [kind, *[IndexType()] * len(indices)], parser.pos)
        properties = prefetch_properties(writes == "write", locality, cache == "data")
        return cls.create(operands=operands, properties=properties, attributes=attributes)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.memref)
        with printer.in_square_brackets():
            printer.print_list(self.indices, printer.print_operand)
        writes = "write" if self.isWrite.value.data else "read"
        cache = "data" if self.isDataCache.value.data else "instr"
        printer.print_string(f", {writes}, locality<{self.localityHint.value.data}>, {cache}")
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        printer.print_attribute(self.memref.type)


def _one_of(parser: Parser, first: str, second: str) -> str:
    return parser.expect(
        lambda: parser.parse_optional_keyword(first) or parser.parse_optional_keyword(second), f"{first} or {second}"
    )


def prefetch_properties(writes: bool, locality: int, data: bool = True) -> dict[str, Attribute]:
    """The properties of a memref.prefetch."""
    hint = IntegerAttr(locality, i32)
    return {"isWrite": IntegerAttr(int(writes), i1), "localityHint": hint, "isDataCache": IntegerAttr(int(data), i1)}
