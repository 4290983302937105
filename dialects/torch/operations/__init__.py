"""The forms that operations of the `torch` level take: the one of all ATen ops, and prim's own.

Their text is torch-mlir's, so its tools read it verbatim. They are plain `Operation` classes rather than IRDL
definitions: a class per ATen overload is made from its schema in microseconds, when it is first needed.
"""

from __future__ import annotations

from xdsl.ir import Operation

from stepwell.dialects.torch.operations.constants import (
    Constant,
    ConstantBool,
    ConstantDevice,
    ConstantFloat,
    ConstantInt,
    ConstantNone,
    ConstantString,
    TensorLiteral,
    ValueTensorLiteral,
)
from stepwell.dialects.torch.operations.control import (
    If,
    IfYield,
    Loop,
    LoopCondition,
)
from stepwell.dialects.torch.operations.form import (
    NO_TRAITS,
    FunctionalForm,
    TorchOperation,
    parse_types,
    parse_values,
    print_attributes,
    single_block_region,
    verify_arity,
)
from stepwell.dialects.torch.operations.objects import (
    CallMethod,
    ClassAttribute,
    ClassType,
    CreateObject,
    GetAttribute,
    Method,
    ModuleObject,
    SetAttribute,
    Slot,
)
from stepwell.dialects.torch.operations.symbols import (
    BindSymbolicShape,
    SymbolicInt,
)
from stepwell.dialects.torch.operations.values import (
    Derefine,
    DictConstruct,
    FormatText,
    ListConstruct,
    ListUnpack,
    Operator,
    RaiseException,
    TensorStaticInfoCast,
    TupleConstruct,
    TupleIndex,
    TupleUnpack,
    UncheckedCast,
    Uninitialized,
)

OPERATIONS: tuple[type[Operation], ...] = (
    ListConstruct, DictConstruct, TupleConstruct, TupleIndex, TupleUnpack, ListUnpack, Uninitialized,
    RaiseException, UncheckedCast, Derefine, TensorStaticInfoCast, Operator, FormatText, SymbolicInt,
    BindSymbolicShape, ConstantInt, ConstantFloat,
    ConstantBool, ConstantString, ConstantDevice, ConstantNone, ValueTensorLiteral, TensorLiteral,
    If, IfYield, Loop, LoopCondition, GetAttribute, SetAttribute, CallMethod, CreateObject,
    ClassType, ClassAttribute, Method, ModuleObject, Slot,
)  # fmt: skip

__all__ = [
    "NO_TRAITS",
    "OPERATIONS",
    "BindSymbolicShape",
    "CallMethod",
    "ClassAttribute",
    "ClassType",
    "Constant",
    "ConstantBool",
    "ConstantDevice",
    "ConstantFloat",
    "ConstantInt",
    "ConstantNone",
    "ConstantString",
    "CreateObject",
    "Derefine",
    "DictConstruct",
    "FormatText",
    "FunctionalForm",
    "GetAttribute",
    "If",
    "IfYield",
    "ListConstruct",
    "ListUnpack",
    "Loop",
    "LoopCondition",
    "Method",
    "ModuleObject",
    "Operator",
    "RaiseException",
    "SetAttribute",
    "Slot",
    "SymbolicInt",
    "TensorLiteral",
    "TensorStaticInfoCast",
    "TorchOperation",
    "TupleConstruct",
    "TupleIndex",
    "TupleUnpack",
    "UncheckedCast",
    "Uninitialized",
    "ValueTensorLiteral",
    "parse_types",
    "parse_values",
    "print_attributes",
    "single_block_region",
    "verify_arity",
]
