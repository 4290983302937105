"""The types of the `torch` level, printed and parsed as torch-mlir does.

Inside another torch type the `!torch.` prefix is left out: `!torch.list<vtensor<[2,?],f32>>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from xdsl.dialects.builtin import ArrayAttr, IntAttr, NoneAttr, StringAttr
from xdsl.ir import Attribute, ParametrizedAttribute, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer

from stepwell.dialects import dtypes
from stepwell.dialects.dtypes import DType

DYNAMIC = -1
"""Stands for an unknown size in a list of sizes, printed `?`."""


class _Tensor(ParametrizedAttribute, TypeAttribute):
    """What vtensor and tensor share: optional sizes (None: unknown rank), optional dtype."""

    sizes: ArrayAttr[IntAttr] | NoneAttr
    dtype: Attribute

    @classmethod
    def of(cls, sizes: Sequence[int] | None = None, dtype: DType | None = None) -> _Tensor:
        return cls(
            NoneAttr() if sizes is None else ArrayAttr([_integer(s) for s in sizes]),
            NoneAttr() if dtype is None else dtype.torch,
        )

    @property
    def known_sizes(self) -> tuple[int, ...] | None:
        """The sizes with DYNAMIC for unknown ones; None if even the rank is unknown."""
        return None if isinstance(self.sizes, NoneAttr) else tuple(s.data for s in self.sizes.data)

    @property
    def known_dtype(self) -> DType | None:
        return None if isinstance(self.dtype, NoneAttr) else dtypes.BY_TORCH_TYPE[self.dtype]

    def print_parameters(self, printer: Printer) -> None:
        if isinstance(self.sizes, NoneAttr) and isinstance(self.dtype, NoneAttr):
            return
        if isinstance(self.sizes, NoneAttr):
            printer.print_string("<*,")
        else:
            inner = ",".join("?" if s.data == DYNAMIC else str(s.data) for s in self.sizes.data)
            printer.print_string(f"<[{inner}],")
        if isinstance(self.dtype, NoneAttr):
            printer.print_string("unk")
        else:
            printer.print_attribute(self.dtype)
        printer.print_string(">")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> list[Attribute]:
        if parser.parse_optional_punctuation("<") is None:
            return [NoneAttr(), NoneAttr()]
        sizes: Attribute = NoneAttr()
        if parser.parse_optional_punctuation("*") is None:
            entries = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: _parse_size(parser))
            sizes = ArrayAttr(entries)
        parser.parse_punctuation(",")
        dtype: Attribute = NoneAttr()
        if parser.parse_optional_keyword("unk") is None:
            dtype = parser.parse_type()
        parser.parse_punctuation(">")
        return [sizes, dtype]


_INTEGERS: dict[int, IntAttr] = {}


def _integer(value: int) -> IntAttr:
    found = _INTEGERS.get(value)
    if found is None:
        found = _INTEGERS[value] = IntAttr(value)
    return found


def _parse_size(parser: AttrParser) -> IntAttr:
    if parser.parse_optional_punctuation("?") is not None:
        return _integer(DYNAMIC)
    return _integer(parser.parse_integer(allow_boolean=False, allow_negative=False))


@irdl_attr_definition
class ValueTensorType(_Tensor):
    """An immutable tensor value without aliases."""

    name = "torch.vtensor"
    sizes: ArrayAttr[IntAttr] | NoneAttr
    dtype: Attribute


@irdl_attr_definition
class TensorType(_Tensor):
    """A tensor object as eager code sees it: mutable, maybe aliased."""

    name = "torch.tensor"
    sizes: ArrayAttr[IntAttr] | NoneAttr
    dtype: Attribute


@irdl_attr_definition
class IntType(ParametrizedAttribute, TypeAttribute):
    name = "torch.int"


@irdl_attr_definition
class FloatType(ParametrizedAttribute, TypeAttribute):
    name = "torch.float"


@irdl_attr_definition
class BoolType(ParametrizedAttribute, TypeAttribute):
    name = "torch.bool"


@irdl_attr_definition
class NumberType(ParametrizedAttribute, TypeAttribute):
    """A Scalar: int, float or bool, decided at run time."""

    name = "torch.number"


@irdl_attr_definition
class StringType(ParametrizedAttribute, TypeAttribute):
    name = "torch.str"


@irdl_attr_definition
class NoneType(ParametrizedAttribute, TypeAttribute):
    name = "torch.none"


@irdl_attr_definition
class DeviceType(ParametrizedAttribute, TypeAttribute):
    name = "torch.Device"


@irdl_attr_definition
class AnyType(ParametrizedAttribute, TypeAttribute):
    name = "torch.any"


@irdl_attr_definition
class GeneratorType(ParametrizedAttribute, TypeAttribute):
    name = "torch.Generator"


class _Compound(ParametrizedAttribute, TypeAttribute):
    """Types made of other torch types, printed as `name<inner, inner>`."""

    elements: ArrayAttr[Attribute]

    def print_parameters(self, printer: Printer) -> None:
        printer.print_string("<")
        printer.print_list(self.elements.data, lambda t: print_nested(printer, t))
        printer.print_string(">")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> list[Attribute]:
        inner = parser.parse_comma_separated_list(parser.Delimiter.ANGLE, lambda: parse_nested(parser))
        return [ArrayAttr(inner)]


@irdl_attr_definition
class TupleType(_Compound):
    name = "torch.tuple"
    elements: ArrayAttr[Attribute]


@irdl_attr_definition
class UnionType(_Compound):
    name = "torch.union"
    elements: ArrayAttr[Attribute]


@irdl_attr_definition
class DictType(_Compound):
    name = "torch.dict"
    elements: ArrayAttr[Attribute]


@irdl_attr_definition
class ListType(_Compound):
    name = "torch.list"
    elements: ArrayAttr[Attribute]

    @property
    def element(self) -> Attribute:
        return self.elements.data[0]


@irdl_attr_definition
class OptionalType(_Compound):
    name = "torch.optional"
    elements: ArrayAttr[Attribute]

    @property
    def element(self) -> Attribute:
        return self.elements.data[0]


@irdl_attr_definition
class ModuleType(ParametrizedAttribute, TypeAttribute):
    """An object of the class type of that name (a module or a script class)."""

    name = "torch.nn.Module"
    class_name: StringAttr

    def print_parameters(self, printer: Printer) -> None:
        printer.print_string("<")
        printer.print_attribute(self.class_name)
        printer.print_string(">")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> list[Attribute]:
        with parser.in_angle_brackets():
            return [StringAttr(parser.parse_str_literal())]


INT, FLOAT, BOOL, NUMBER = IntType(), FloatType(), BoolType(), NumberType()
STRING, NONE, DEVICE, ANY, GENERATOR = StringType(), NoneType(), DeviceType(), AnyType(), GeneratorType()
TENSOR = TensorType.of()
VTENSOR = ValueTensorType.of()


def list_of(element: Attribute) -> ListType:
    return ListType(ArrayAttr([element]))


def optional_of(element: Attribute) -> OptionalType:
    return OptionalType(ArrayAttr([element]))


def tuple_of(elements: Sequence[Attribute]) -> TupleType:
    return TupleType(ArrayAttr(elements))


def dict_of(key: Attribute, value: Attribute) -> DictType:
    return DictType(ArrayAttr([key, value]))


def vtensor(sizes: Sequence[int] | None, dtype: DType | None) -> ValueTensorType:
    result = ValueTensorType.of(sizes, dtype)
    assert isinstance(result, ValueTensorType)
    return result


TYPES: tuple[type[TypeAttribute], ...] = (
    ValueTensorType, TensorType, IntType, FloatType, BoolType, NumberType, StringType, NoneType, DeviceType,
    AnyType, GeneratorType, TupleType, UnionType, DictType, ListType, OptionalType, ModuleType,
)  # fmt: skip


class _Nested:
    by_keyword: ClassVar[dict[str, type[TypeAttribute]]] = {t.name.removeprefix("torch."): t for t in TYPES}


def print_nested(printer: Printer, type_: Attribute) -> None:
    """Print a torch type without its `!torch.` prefix; other types in full."""
    if isinstance(type_, ParametrizedAttribute) and isinstance(type_, TYPES):
        printer.print_string(type_.name.removeprefix("torch."))
        type_.print_parameters(printer)
    else:
        printer.print_attribute(type_)


def parse_nested(parser: AttrParser) -> Attribute:
    """Parse a torch type with or without its prefix."""
    for keyword, cls in _Nested.by_keyword.items():
        if "." not in keyword and parser.parse_optional_keyword(keyword) is not None:
            assert issubclass(cls, ParametrizedAttribute)
            return cls.new(list(cls.parse_parameters(parser)))
    if parser.parse_optional_keyword("nn.Module") is not None:
        return ModuleType.new(ModuleType.parse_parameters(parser))
    return parser.parse_type()
