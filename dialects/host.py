"""`host`: what a whole method needs and no upstream dialect has; beside the others from contract to loops.

Three groups of ops:

- *leaving*: `host.raise` ends the program with a Python exception; `host.undefined` stands for a value that
  nobody will read, such as what a branch that raised "yields";
- *lists* of tensors or scalars, as values. A list is used linearly: at run time an append or a set reuses the
  memory of the list it consumes, so after `%m = host.list_append %l, %x` nothing may read `%l`.
  (Reading ops, `host.list_length` and `host.list_get`, consume nothing);
- *running* (loops level only): who am I among the threads, barrier, memory. All threads execute the same
  program (SPMD) with equal scalars; the collective ops say what each of them gets.

    %l0 = host.list_new : !host.list<tensor<4xf32>>
    %l1 = host.list_append %l0, %x : !host.list<tensor<4xf32>>
    %n = host.list_length %l1 : !host.list<tensor<4xf32>>
    %y = host.list_get %l1[%i] : !host.list<tensor<4xf32>>
    %z = host.list_stack %l1 {dim = 0 : i64} : !host.list<tensor<4xf32>> -> tensor<?x4xf32>
    host.raise "builtins.ValueError", "size {} exceeds {}"(%a, %b : i64, i64)
"""

from __future__ import annotations

import re
from typing import ClassVar

from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    Float64Type,
    IndexType,
    IntegerAttr,
    IntegerType,
    MemRefType,
    NoneAttr,
    StringAttr,
    TensorType,
    i1,
    i8,
    i64,
)
from xdsl.ir import Attribute, Dialect, ParametrizedAttribute, TypeAttribute
from xdsl.irdl import (
    AnyAttr,
    IRDLOperation,
    ParamAttrConstraint,
    ParsePropInAttrDict,
    VarConstraint,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

ALONE = "host.alone"
"""Attribute. Of a function: sharing its work does not pay, so that one thread runs it. Of an scf.parallel: whoever else
is there, thread 0 does all of it."""

CHUNK = "host.chunk"
"""Attribute of the scf.for that is a share of a parallel loop (pass `distribute`): DIVIDED, or SINGLE where thread 0
does all of it."""

DIVIDED, SINGLE = StringAttr("divided"), StringAttr("single")

MESSAGE_ARGUMENTS = 8
"""How many values a message can carry out of native code."""

SCALARS = (i64, Float64Type(), i1, IndexType())
"""What messages and lists hold besides tensors: the types of Python's int, float and bool, and sizes."""

FIELD = re.compile(r"\{\{|\}\}|\{\}|[{}]")
"""The pieces of a format: escaped braces, plain fields, and stray braces, which are refused."""


@irdl_attr_definition
class ListType(ParametrizedAttribute, TypeAttribute):
    """`!host.list<T>`: a growable list whose elements all have type T, a tensor type, i64, f64 or i1.

    Where T has dynamic sizes, each element has sizes of its own.
    """

    name = "host.list"
    element: Attribute

    def verify(self) -> None:
        if not isinstance(self.element, (TensorType, MemRefType)) and self.element not in SCALARS[:3]:
            raise VerifyException(f"a list holds tensors, i64, f64 or i1, not {self.element}")


ELEMENT: VarConstraint[Attribute] = VarConstraint("T", AnyAttr())
LIST: VarConstraint[Attribute] = VarConstraint("L", ParamAttrConstraint(ListType, (ELEMENT,)))


def message_fields(message: str) -> int:
    """How many `{}` fields a format has. Raises VerifyException where it is more than such fields."""
    pieces = FIELD.findall(message)
    if any(piece in ("{", "}") for piece in pieces):
        raise VerifyException(f"a message may only use plain {{}} fields and doubled braces: {message!r}")
    return pieces.count("{}")


@irdl_op_definition
class RaiseOp(IRDLOperation):
    """End the program with a Python exception; never returns, and what follows in the block is dead.

    `exception` is the qualified class name (`builtins.ValueError`), `message` a `str.format` text with one
    plain `{}` per operand. Operands are i64, f64, i1 or index; at most MESSAGE_ARGUMENTS.
    """

    name = "host.raise"
    exception = prop_def(StringAttr)
    message = prop_def(StringAttr)
    arguments = var_operand_def()

    assembly_format = "$exception `,` $message (`(` $arguments^ `:` type($arguments) `)`)? attr-dict"

    def verify_(self) -> None:
        fields, given = message_fields(self.message.data), len(self.arguments)
        if fields != given:
            raise VerifyException(f"the message has {fields} fields but {given} values")
        if given > MESSAGE_ARGUMENTS:
            raise VerifyException(f"a message carries at most {MESSAGE_ARGUMENTS} values, not {given}")
        for value in self.arguments:
            if value.type not in SCALARS:
                raise VerifyException(f"a message carries i64, f64, i1 or index, not {value.type}")


@irdl_op_definition
class UndefinedOp(IRDLOperation):
    """A value that nobody reads: any bits, any dynamic sizes."""

    name = "host.undefined"
    result = result_def()
    traits = traits_def(Pure())

    assembly_format = "attr-dict `:` type($result)"


@irdl_op_definition
class ListNewOp(IRDLOperation):
    """An empty list."""

    name = "host.list_new"
    T: ClassVar = ELEMENT
    L: ClassVar = LIST
    result = result_def(LIST)
    # Not Pure: two lists are two pieces of memory, so CSE must keep both.

    assembly_format = "attr-dict `:` type($result)"


@irdl_op_definition
class ListAppendOp(IRDLOperation):
    """The list with one more element at its end. Consumes the list."""

    name = "host.list_append"
    T: ClassVar = ELEMENT
    L: ClassVar = LIST
    list = operand_def(LIST)
    value = operand_def(ELEMENT)
    result = result_def(LIST)

    assembly_format = "$list `,` $value attr-dict `:` type($list)"


@irdl_op_definition
class ListLengthOp(IRDLOperation):
    """How many elements the list has."""

    name = "host.list_length"
    T: ClassVar = ELEMENT
    L: ClassVar = LIST
    list = operand_def(LIST)
    result = result_def(i64)
    traits = traits_def(Pure())

    assembly_format = "$list attr-dict `:` type($list)"


@irdl_op_definition
class ListGetOp(IRDLOperation):
    """One element. A negative index counts from the end.

    Raises at run time: IndexError "list index out of range".
    """

    name = "host.list_get"
    T: ClassVar = ELEMENT
    L: ClassVar = LIST
    list = operand_def(LIST)
    index = operand_def(i64)
    result = result_def(ELEMENT)

    assembly_format = "$list `[` $index `]` attr-dict `:` type($list)"


@irdl_op_definition
class ListSetOp(IRDLOperation):
    """The list with one element replaced; index and errors as in `host.list_get`. Consumes the list."""

    name = "host.list_set"
    T: ClassVar = ELEMENT
    L: ClassVar = LIST
    list = operand_def(LIST)
    index = operand_def(i64)
    value = operand_def(ELEMENT)
    result = result_def(LIST)

    assembly_format = "$list `[` $index `]` `,` $value attr-dict `:` type($list)"


@irdl_op_definition
class ListPopOp(IRDLOperation):
    """The list without one element, and that element. `pop()` is index -1. Consumes the list.

    Raises at run time: IndexError "pop index out of range" ("pop from empty list" on an empty one).
    """

    name = "host.list_pop"
    T: ClassVar = ELEMENT
    L: ClassVar = LIST
    list = operand_def(LIST)
    index = operand_def(i64)
    rest = result_def(LIST)
    value = result_def(ELEMENT)

    assembly_format = "$list `[` $index `]` attr-dict `:` type($list)"


def _verify_joined(op: ListConcatOp | ListStackOp, extra: int) -> None:
    """The result of joining tensors of type T: same element type, rank T's plus `extra`, `dim` in range."""
    assert isinstance(op.list.type, ListType)
    element, result, dim = op.list.type.element, op.result.type, op.dim.value.data
    if not isinstance(element, TensorType) or not isinstance(result, TensorType):
        raise VerifyException(f"only lists of tensors can be joined, not {element} to {result}")
    if element.element_type != result.element_type or result.get_num_dims() != element.get_num_dims() + extra:
        raise VerifyException(f"elements {element} do not join to {result}")
    if not 0 <= dim < result.get_num_dims():
        raise VerifyException(f"dim {dim} is out of range for {result}")
    kept = list(result.get_shape())
    if kept.pop(dim) != DYNAMIC_INDEX:
        raise VerifyException(f"dim {dim} of {result} depends on the list and must be dynamic")
    shape = list(element.get_shape())
    if not extra:
        shape.pop(dim)
    if any(DYNAMIC_INDEX not in pair and pair[0] != pair[1] for pair in zip(kept, shape, strict=True)):
        raise VerifyException(f"elements {element} do not join to {result}")


@irdl_op_definition
class ListConcatOp(IRDLOperation):
    """All elements joined along an existing dimension (`aten.cat`); the result is dynamic in `dim`.

    Raises at run time: RuntimeError where the list is empty or sizes differ outside `dim`.
    """

    name = "host.list_concat"
    list = operand_def(ListType)
    dim = prop_def(IntegerAttr[IntegerType])
    result = result_def(TensorType)

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$list attr-dict `:` type($list) `->` type($result)"

    def verify_(self) -> None:
        _verify_joined(self, 0)


@irdl_op_definition
class ListStackOp(IRDLOperation):
    """All elements joined along a new dimension (`aten.stack`); the result is dynamic in `dim`.

    Raises at run time: RuntimeError where the list is empty or sizes differ.
    """

    name = "host.list_stack"
    list = operand_def(ListType)
    dim = prop_def(IntegerAttr[IntegerType])
    result = result_def(TensorType)

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$list attr-dict `:` type($list) `->` type($result)"

    def verify_(self) -> None:
        _verify_joined(self, 1)


@irdl_op_definition
class ListElementsOp(IRDLOperation):
    """All elements one after another: a list of numbers as a vector, one of tensors of static size with a dimension
    more, one of tensors whose sizes vary flat.
    """

    name = "host.list_elements"
    list = operand_def(ListType)
    result = result_def(TensorType)

    assembly_format = "$list attr-dict `:` type($list) `->` type($result)"

    def verify_(self) -> None:
        assert isinstance(self.list.type, ListType)
        element, result = self.list.type.element, self.result.type
        assert isinstance(result, TensorType)
        inner, shape = element, [DYNAMIC_INDEX]
        if isinstance(element, TensorType):
            inner = element.element_type
            shape += [] if DYNAMIC_INDEX in element.get_shape() else list(element.get_shape())
        if result.element_type != inner or list(result.get_shape()) != shape:
            raise VerifyException(f"the elements of {self.list.type} are no {result}")


@irdl_op_definition
class ListTableOp(IRDLOperation):
    """Of a list of tensors whose sizes vary: for each, where it begins among the elements, and its sizes."""

    name = "host.list_table"
    list = operand_def(ListType)
    result = result_def(TensorType)

    assembly_format = "$list attr-dict `:` type($list) `->` type($result)"

    def verify_(self) -> None:
        assert isinstance(self.list.type, ListType) and isinstance(self.result.type, TensorType)
        element = self.list.type.element
        if not isinstance(element, TensorType) or DYNAMIC_INDEX not in element.get_shape():
            raise VerifyException(f"elements of {self.list.type} have one size")
        if list(self.result.type.get_shape()) != [DYNAMIC_INDEX, 1 + element.get_num_dims()]:
            raise VerifyException(f"the table of {self.list.type} is no {self.result.type}")


@irdl_op_definition
class ThreadIdOp(IRDLOperation):
    """This thread's number, from 0."""

    name = "host.thread_id"
    result = result_def(IndexType())
    traits = traits_def(Pure())

    assembly_format = "attr-dict `:` type($result)"


@irdl_op_definition
class ThreadCountOp(IRDLOperation):
    """How many threads run the program."""

    name = "host.thread_count"
    result = result_def(IndexType())
    traits = traits_def(Pure())

    assembly_format = "attr-dict `:` type($result)"


@irdl_op_definition
class NextShareOp(IRDLOperation):
    """A number that no other thread gets: 0, 1, 2, .. since the last barrier. Where one thread runs, it has all
    shares anyway, and the number is larger than any.
    """

    name = "host.next_share"
    result = result_def(IndexType())

    assembly_format = "attr-dict `:` type($result)"


@irdl_op_definition
class BarrierOp(IRDLOperation):
    """No thread passes before all have arrived; what was written before is visible to all after. The shares of
    `host.next_share` begin anew."""

    name = "host.barrier"

    assembly_format = "attr-dict"


@irdl_op_definition
class AllocOp(IRDLOperation):
    """A new buffer, 64-byte aligned, for a size only known here. One operand (index) per dynamic size.

    Collective: every thread executes it and all get the same buffer. A buffer that the function returns
    belongs to its caller; any other is released by `host.free`, or by the runtime when the program raises.
    """

    name = "host.alloc"
    sizes = var_operand_def(IndexType())
    result = result_def(MemRefType)

    assembly_format = "`(` $sizes `)` attr-dict `:` type($result)"

    def verify_(self) -> None:
        assert isinstance(self.result.type, MemRefType)
        dynamic = sum(size == DYNAMIC_INDEX for size in self.result.type.get_shape())
        if dynamic != len(self.sizes):
            raise VerifyException(f"{self.result.type} has {dynamic} dynamic sizes, not {len(self.sizes)}")


@irdl_op_definition
class FreeOp(IRDLOperation):
    """Give a buffer of `host.alloc` back. Collective: it is gone once every thread has arrived here."""

    name = "host.free"
    buffer = operand_def(MemRefType)

    assembly_format = "$buffer attr-dict `:` type($buffer)"


@irdl_op_definition
class ReserveOp(IRDLOperation):
    """This call's arena, grown to at least so many bytes. Collective; at most once, at the entry.

    What an earlier call left in the arena is lost.
    """

    name = "host.reserve"
    bytes = operand_def(IndexType())
    arena = result_def(MemRefType(i8, [DYNAMIC_INDEX]))

    assembly_format = "$bytes attr-dict `:` type($arena)"


@irdl_op_definition
class RebaseOp(IRDLOperation):
    """The same memory as a memref whose origin is the first element of `source`.

    The result is row-major, for which the elements of `source` must lie row by row without gaps, or has the strides
    of `source`. The op costs nothing where a memref is a pointer to its first element.
    """

    name = "host.rebase"
    source = operand_def(MemRefType)
    result = result_def(MemRefType)
    traits = traits_def(Pure())

    assembly_format = "$source attr-dict `:` type($source) `to` type($result)"

    def verify_(self) -> None:
        source, result = self.source.type, self.result.type
        assert isinstance(source, MemRefType) and isinstance(result, MemRefType)
        if source.shape != result.shape or source.element_type != result.element_type:
            raise VerifyException(f"{source} and {result} differ in more than their layout")
        if isinstance(result.layout, NoneAttr):
            return
        if result.get_strides() != source.get_strides() or result.get_offset() != 0:
            raise VerifyException(f"the result is row-major, or has the strides of {source} and no offset, not {result}")


VALUE_OPS = (
    RaiseOp,
    UndefinedOp,
    ListNewOp,
    ListAppendOp,
    ListLengthOp,
    ListGetOp,
    ListSetOp,
    ListPopOp,
    ListConcatOp,
    ListStackOp,
    ListElementsOp,
    ListTableOp,
)
"""What may stand in a program of values, from contract to tile."""

RUNNING_OPS = (ThreadIdOp, ThreadCountOp, NextShareOp, BarrierOp, AllocOp, FreeOp, ReserveOp, RebaseOp)
"""What may stand at the loops level only, beside RaiseOp and UndefinedOp."""

Host = Dialect("host", [*VALUE_OPS, *RUNNING_OPS], [ListType])
