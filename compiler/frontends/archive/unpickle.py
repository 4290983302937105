"""The pickles of an archive, read by a machine of their own that can build data and nothing else.

Python's pickle calls what a file tells it to call. This machine knows the instructions that PyTorch's C++ unpickler
knows (protocol 2) and the functions that C++ writes; each function is a branch here, none is looked up.
Work is bounded by Limits, and nothing recurses on what the file says.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from stepwell.compiler.frontends.archive import values
from stepwell.compiler.frontends.archive.limits import DEFAULT, Limits
from stepwell.compiler.frontends.archive.storages import Storages, view
from stepwell.compiler.frontends.archive.values import (
    DeviceData,
    DictData,
    EnumData,
    ListData,
    ScriptObjectData,
    Storage,
    TensorData,
    UnsupportedData,
    Value,
)
from stepwell.compiler.frontends.archive.walk import check_shape
from stepwell.compiler.frontends.parser import TypeExpr, parse_type
from stepwell.dialects.diagnostics import ArchiveError, CompileError

_QUALIFIED = re.compile(r"__torch__(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DEVICE = re.compile(r"[a-z][a-z0-9_]{0,31}(?::[0-9]{1,4})?")
_MAX_NAME = 4096
_MAX_TYPE_TEXT = 4 << 20
_MAX_COMPLEX_KEYS = 4096  # equal hashes of complex numbers are easy to find, and make dicts quadratic

_BUILTIN_TORCH = "__torch__.torch.classes."


class Global:
    """A name that a pickle may use: a function of the table below, or a class of the archive."""

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Callable[[Unpickler, Any], Value] | None) -> None:
        self.name, self.call = name, call


class Unpickler:
    """Executes one pickle. `record` names it in errors; `storages` is None where none may occur (debug records)."""

    def __init__(self, data: bytes, record: str, storages: Storages | None, limits: Limits = DEFAULT) -> None:
        self.data, self.record, self.storages, self.limits = data, record, storages, limits
        self.position = 0
        self.stack: list[Value] = []
        self.marks: list[int] = []
        self.memo: dict[int, Value] = {}
        self.types: dict[str, TypeExpr] = {}
        self.type_text = 0

    def load(self) -> Value:
        """The value that the pickle builds.

        Raises ArchiveError (damage, a name that is not allowed, a limit) and UnsupportedError (quantized tensors and
        the like, naming the attribute).
        """
        if len(self.data) > self.limits.pickle_bytes:
            self.fail(f"has {len(self.data)} bytes, the limit is {self.limits.pickle_bytes}")
        if self.take(2) != b"\x80\x02":
            self.fail("is no pickle of protocol 2")
        value = self._run()
        if self.storages is not None:  # else a debug record: nobody walks it, its reader takes what has the right form
            check_shape(value, self.record, self.limits)
        return value

    def _run(self) -> Value:
        data, size = self.data, len(self.data)
        instructions = _INSTRUCTIONS
        try:
            for _ in range(self.limits.pickle_steps):
                if self.position >= size:
                    self.fail("ends too early")
                code = data[self.position]
                self.position += 1
                if code == 0x2E:  # STOP
                    if len(self.stack) != 1 or self.marks:
                        self.fail("does not build exactly one value")
                    return self.stack[0]
                instruction = instructions.get(code)
                if instruction is None:
                    self.fail(f"has the instruction 0x{code:02x}, which TorchScript pickles never have")
                instruction(self)
        except (IndexError, struct.error):
            self.fail("takes a value that is not there")
        self.fail(f"has more than {self.limits.pickle_steps} instructions")

    def fail(self, what: str) -> NoReturn:
        """Refuse the pickle, with the place."""
        raise ArchiveError(f"the pickle {self.record!r} {what} (at byte {self.position})")

    def take(self, length: int) -> bytes:
        """The next bytes; there must be as many."""
        end = self.position + length
        if end > len(self.data):
            self.fail("ends too early")
        found = self.data[self.position : end]
        self.position = end
        return found

    def pop(self) -> Value:
        """The top of the stack above the innermost mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            self.fail("takes a value that is not there")
        return self.stack.pop()

    def pop_mark(self) -> list[Value]:
        """All values above the innermost mark."""
        if not self.marks:
            self.fail("closes a group that was not opened")
        start = self.marks.pop()
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def top(self, kind: type, what: str) -> Any:
        """The top of the stack, which must be of a kind."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0) or type(self.stack[-1]) is not kind:
            self.fail(f"needs {what}")
        return self.stack[-1]

    # ***** instructions *****

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + _MAX_NAME)
        if end < 0:
            self.fail("has a name without an end")
        found = self.data[self.position : end]
        self.position = end + 1
        return found.decode("latin-1").encode("unicode_escape").decode()

    def op_global(self) -> None:
        module, name = self.line(), self.line()
        found = _FUNCTIONS.get((module, name))
        if found is not None:
            self.stack.append(found)
        elif module == "torch" and name in values.STORAGES:
            self.stack.append(Global(name, None))
        elif module == "torch" and re.fullmatch(r"[A-Za-z0-9_]+Storage", name):
            self.stack.append(Global(name, None))
        elif module == "torch" and re.fullmatch(r"per_(tensor|channel)_(affine|symmetric)(_float_qparams)?", name):
            self.stack.append(Global(name, None))
        elif _QUALIFIED.fullmatch(module) and _IDENTIFIER.fullmatch(name):
            self.stack.append(Global(f"{module}.{name}", None))
        else:
            self.fail(f"refers to {module[:200]}.{name[:200]}, which is not allowed in a TorchScript archive")

    def op_newobj(self) -> None:
        arguments, cls = self.pop(), self.pop()
        if arguments != () or type(cls) is not Global or not cls.name.startswith("__torch__."):
            self.fail("creates an object of something that is no class of the archive")
        self.stack.append(ScriptObjectData(cls.name))

    def op_build(self) -> None:
        state = self.pop()
        if len(self.stack) and type(self.stack[-1]) is UnsupportedData:
            return
        target: ScriptObjectData = self.top(ScriptObjectData, "an object to fill")
        if target.has_state:
            self.fail(f"fills an object of {target.qualified_name} twice")
        target.state, target.has_state = state, True
        if target.qualified_name.startswith(_BUILTIN_TORCH):
            what = target.qualified_name.removeprefix(_BUILTIN_TORCH)
            self.stack[-1] = UnsupportedData(f"an object of the C++ class {what}")

    def op_reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if type(function) is not Global:
            self.fail("calls something that is no function")
        if function.call is not None:
            self.stack.append(function.call(self, arguments))
        elif function.name.startswith("__torch__.") and type(arguments) in (int, float, str):
            self.stack.append(EnumData(function.name, arguments))
        else:
            self.fail(f"calls {function.name}, which is no function")

    def op_persistent(self) -> None:
        reference = self.pop()
        if type(reference) is not tuple or len(reference) != 5 or reference[0] != "storage":
            self.fail("has a reference that is no storage")
        _, kind, key, device, numel = reference
        if type(kind) is not Global or not (type(key) is type(device) is str) or type(numel) is not int:
            self.fail("has a damaged reference to a storage")
        if not kind.name.endswith("Storage") or self.storages is None:
            self.fail(f"has a storage of {kind.name} where none belongs")
        if kind.name not in values.STORAGES:
            self.stack.append(UnsupportedData(f"a tensor of {kind.name.removesuffix('Storage')} elements"))
        elif device == "meta":
            self.stack.append(UnsupportedData("a tensor without data (device meta)"))
        elif not _DEVICE.fullmatch(device):
            self.fail(f"has a storage on the device {device[:80]!r}")
        else:
            self.stack.append(self.storages.get(key, values.STORAGES[kind.name], device, numel))

    def op_append(self) -> None:
        value = self.pop()
        self.top(ListData, "a list to append to").append(value)

    def op_appends(self) -> None:
        found = self.pop_mark()
        self.top(ListData, "a list to append to").extend(found)

    def op_setitem(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def op_setitems(self) -> None:
        self.set_items(self.pop_mark())

    def op_dict(self) -> None:
        found = self.pop_mark()
        self.stack.append(DictData())
        self.set_items(found)

    def set_items(self, found: list[Value]) -> None:
        into: DictData = self.top(DictData, "a dict to fill")
        if len(found) % 2:
            self.fail("has a key without a value")
        for key in found[::2]:
            if type(key) not in _KEYS:
                self.fail(f"has a dict key of type {type(key).__name__}")
            if type(key) is complex and len(into) > _MAX_COMPLEX_KEYS:
                self.fail(f"has a dict of more than {_MAX_COMPLEX_KEYS} complex keys")
            into[key] = None
        into.update(zip(found[::2], found[1::2], strict=True))

    def op_long1(self) -> None:
        length = self.take(1)[0]
        if length > 8:
            self.fail("has an integer of more than 64 bits")
        self.stack.append(int.from_bytes(self.take(length), "little", signed=True))

    def op_unicode(self) -> None:
        length = int.from_bytes(self.take(4), "little")
        self.stack.append(self.take(length).decode("utf-8", "surrogateescape"))

    def op_mark(self) -> None:
        self.marks.append(len(self.stack))

    def op_tuple(self) -> None:
        self.stack.append(tuple(self.pop_mark()))

    def tuple_of(self, count: int) -> None:
        found = [self.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(found)))

    def put(self, key: int) -> None:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            self.fail("remembers a value that is not there")
        self.memo[key] = self.stack[-1]

    def get(self, key: int) -> None:
        if key not in self.memo:
            self.fail(f"recalls the value {key}, which it did not remember")
        self.stack.append(self.memo[key])

    # ***** the functions that pickles may name *****

    def tag(self, target: ListData | DictData, text: str) -> Value:
        """Give a list or dict its type."""
        wanted = self.types.get(text)
        if wanted is None:
            self.type_text += len(text)
            if self.type_text > _MAX_TYPE_TEXT:
                self.fail("has too many types")
            try:
                wanted = self.types[text] = parse_type(text, self.record)
            except CompileError as problem:
                self.fail(f"has the type {text[:200]!r}, which is none: {problem.message}")
        if wanted.name != ("List" if type(target) is ListData else "Dict"):
            self.fail(f"gives a {'list' if type(target) is ListData else 'dict'} the type {text[:200]!r}")
        if target.type is not None and target.type != wanted:
            self.fail(f"gives one value the types {target.type} and {wanted}")
        target.type = wanted
        return target

    def restore_type_tag(self, arguments: Any) -> Value:
        if type(arguments) is not tuple or len(arguments) != 2 or type(arguments[1]) is not str:
            self.fail("calls restore_type_tag with wrong arguments")
        if type(arguments[0]) not in (ListData, DictData):
            self.fail("gives a type to something that is neither list nor dict")
        return self.tag(arguments[0], arguments[1])

    def build_list(self, arguments: Any, element: str, kinds: tuple[type, ...]) -> Value:
        if type(arguments) is not tuple or len(arguments) != 1 or type(arguments[0]) is not ListData:
            self.fail(f"builds a list of {element} of something that is no list")
        for item in arguments[0]:
            if type(item) not in kinds:
                self.fail(f"has a {type(item).__name__} in a list of {element}")
        return self.tag(arguments[0], f"List[{element}]")

    def ordered_dict(self, arguments: Any) -> Value:
        if arguments != ():
            self.fail("calls OrderedDict with arguments")
        return DictData()

    def complex_number(self, arguments: Any) -> Value:
        if type(arguments) is not tuple or [type(a) for a in arguments] != [float, float]:
            self.fail("calls complex with wrong arguments")
        return complex(*arguments)

    def device(self, arguments: Any) -> Value:
        if type(arguments) is not tuple or len(arguments) != 1 or type(arguments[0]) is not str:
            self.fail("calls device with wrong arguments")
        if not _DEVICE.fullmatch(arguments[0]):
            self.fail(f"names the device {arguments[0][:80]!r}")
        text = self.storages.map_location if self.storages else None
        return DeviceData(text or arguments[0])

    def tensor(self, arguments: Any) -> Value:
        """_rebuild_tensor_v2(storage, offset, sizes, strides, requires_grad, hooks[, metadata])"""
        if type(arguments) is not tuple or not 6 <= len(arguments) <= 7:
            self.fail("builds a tensor of wrong arguments")
        storage, offset, sizes, strides, requires_grad = arguments[:5]
        if type(storage) is UnsupportedData:
            return storage
        if type(storage) is not Storage or type(offset) is not int or type(requires_grad) is not bool:
            self.fail("builds a tensor of wrong arguments")
        if not (_ints(sizes) and _ints(strides)):
            self.fail("builds a tensor whose sizes or strides are no integers")
        try:
            found = view(storage, offset, sizes, strides, requires_grad, self.limits.expanded_elements)
        except ArchiveError as problem:
            self.fail(f"is inconsistent: {problem}")
        return _with_metadata(self, found, arguments[6]) if len(arguments) == 7 else found


def _ints(found: object) -> bool:
    return type(found) is tuple and all(type(item) is int for item in found)


def _with_metadata(machine: Unpickler, tensor: TensorData, metadata: object) -> TensorData:
    """Apply the lazy bits that torch keeps beside a tensor: conjugated, negated. The result has its own storage."""
    if type(metadata) is not DictData or not set(metadata) <= {"conj", "neg"}:
        machine.fail("has unknown metadata on a tensor")
    array = tensor.array
    if metadata.get("conj") is True:
        array = np.conj(array)
    if metadata.get("neg") is True:
        array = np.negative(array)
    data = np.ascontiguousarray(array).reshape(-1).copy()
    data.flags.writeable = False
    bits = "+".join(key for key in ("conj", "neg") if metadata.get(key) is True)
    key = f"{tensor.storage.key} {bits} {tensor.offset} {tensor.sizes} {tensor.strides}"
    storage = Storage(key, tensor.dtype, data.size, tensor.storage.device, data)
    strides = tuple(stride // data.itemsize for stride in np.empty(tensor.sizes, data.dtype).strides)
    return TensorData(storage, 0, tensor.sizes, strides, tensor.requires_grad)


def _stand_in(what: str) -> Callable[[Unpickler, Any], Value]:
    return lambda _machine, _arguments: UnsupportedData(what)


def _list_of(element: str, *kinds: type) -> Callable[[Unpickler, Any], Value]:
    return lambda machine, arguments: machine.build_list(arguments, element, kinds)


_KEYS = (bool, int, float, complex, str, TensorData, DeviceData)

_FUNCTIONS = {
    (module, name): Global(f"{module}.{name}", call)
    for module, name, call in (
        ("torch._utils", "_rebuild_tensor_v2", Unpickler.tensor),
        ("torch._utils", "_rebuild_qtensor", _stand_in("a quantized tensor")),
        ("torch._utils", "_rebuild_sparse_tensor", _stand_in("a sparse tensor")),
        ("torch._utils", "_rebuild_sparse_csr_tensor", _stand_in("a sparse tensor")),
        ("torch._tensor", "_rebuild_from_type_v2", _stand_in("an object of a Python subclass of Tensor")),
        ("torch.jit._pickle", "build_intlist", _list_of("int", int)),
        ("torch.jit._pickle", "build_doublelist", _list_of("float", float)),
        ("torch.jit._pickle", "build_boollist", _list_of("bool", bool)),
        ("torch.jit._pickle", "build_tensorlist", _list_of("Tensor", TensorData, UnsupportedData)),
        ("torch.jit._pickle", "restore_type_tag", Unpickler.restore_type_tag),
        ("collections", "OrderedDict", Unpickler.ordered_dict),
        ("builtins", "complex", Unpickler.complex_number),
        ("torch", "device", Unpickler.device),
    )
}

_INSTRUCTIONS: dict[int, Callable[[Unpickler], None]] = {
    ord("("): Unpickler.op_mark,
    ord(")"): lambda m: m.stack.append(()),
    ord("]"): lambda m: m.stack.append(ListData()),
    ord("}"): lambda m: m.stack.append(DictData()),
    ord("N"): lambda m: m.stack.append(None),
    ord("K"): lambda m: m.stack.append(m.take(1)[0]),
    ord("M"): lambda m: m.stack.append(int.from_bytes(m.take(2), "little")),
    ord("J"): lambda m: m.stack.append(int.from_bytes(m.take(4), "little", signed=True)),
    ord("G"): lambda m: m.stack.append(struct.unpack(">d", m.take(8))[0]),
    ord("X"): Unpickler.op_unicode,
    ord("t"): Unpickler.op_tuple,
    ord("l"): lambda m: m.stack.append(ListData(m.pop_mark())),
    ord("d"): Unpickler.op_dict,
    ord("a"): Unpickler.op_append,
    ord("e"): Unpickler.op_appends,
    ord("s"): Unpickler.op_setitem,
    ord("u"): Unpickler.op_setitems,
    ord("q"): lambda m: m.put(m.take(1)[0]),
    ord("r"): lambda m: m.put(int.from_bytes(m.take(4), "little")),
    ord("h"): lambda m: m.get(m.take(1)[0]),
    ord("j"): lambda m: m.get(int.from_bytes(m.take(4), "little")),
    ord("c"): Unpickler.op_global,
    ord("R"): Unpickler.op_reduce,
    ord("b"): Unpickler.op_build,
    ord("Q"): Unpickler.op_persistent,
    0x81: Unpickler.op_newobj,
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    0x88: lambda m: m.stack.append(True),
    0x89: lambda m: m.stack.append(False),
    0x8A: Unpickler.op_long1,
}
"""Opcode -> what it does. Anything else, every other protocol included, is refused."""
