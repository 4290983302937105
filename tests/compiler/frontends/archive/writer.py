"""Archives for the tests, written by hand: pickles instruction by instruction, zip files field by field.

Everything can be written wrongly on purpose. Loaded by path (conftest.py, hostile.py), as tests import no tests.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

STORAGE_OF = {
    "float32": "FloatStorage", "float64": "DoubleStorage", "int64": "LongStorage", "int32": "IntStorage",
    "int16": "ShortStorage", "int8": "CharStorage", "uint8": "ByteStorage", "bool": "BoolStorage",
    "float16": "HalfStorage", "complex64": "ComplexFloatStorage", "complex128": "ComplexDoubleStorage",
    "bfloat16": "BFloat16Storage",
}  # fmt: skip


class Raw(bytes):
    """Pickle instructions to be inserted as they are."""


def glob(module: str, name: str) -> Raw:
    return Raw(f"c{module}\n{name}\n".encode())


def text(value: str | bytes) -> Raw:
    data = value if isinstance(value, bytes) else value.encode()
    return Raw(b"X" + struct.pack("<I", len(data)) + data)


def integer(value: int) -> Raw:
    if 0 <= value < 256:
        return Raw(b"K" + bytes([value]))
    if -(2**31) <= value < 2**31:
        return Raw(b"J" + struct.pack("<i", value))
    size = 8 if -(2**63) <= value < 2**63 else value.bit_length() // 8 + 1
    return Raw(b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True))


def group(values: list[Any]) -> Raw:
    return Raw(b"(" + b"".join(put(v) for v in values) + b"t")


def call(module: str, name: str, *arguments: Any) -> Raw:
    return Raw(glob(module, name) + group(list(arguments)) + b"R")


def put(value: Any) -> Raw:
    """The instructions that build a value."""
    if isinstance(value, Raw):
        return value
    if value is None or value is True or value is False:
        return Raw({None: b"N", True: b"\x88", False: b"\x89"}[value])
    if isinstance(value, int):
        return integer(value)
    if isinstance(value, float):
        return Raw(b"G" + struct.pack(">d", value))
    if isinstance(value, complex):
        return call("builtins", "complex", value.real, value.imag)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, tuple):
        return group(list(value))
    if isinstance(value, list):
        return Raw(b"](" + b"".join(put(v) for v in value) + b"e")
    if isinstance(value, dict):
        return Raw(b"}(" + b"".join(put(k) + put(v) for k, v in value.items()) + b"u")
    raise TypeError(type(value))


def tagged(value: Any, type: str) -> Raw:
    return call("torch.jit._pickle", "restore_type_tag", put(value), type)


def typed_list(kind: str, values: list[Any]) -> Raw:
    """build_intlist and its kin; `kind` is int, double, bool or tensor."""
    return call("torch.jit._pickle", f"build_{kind}list", put(values))


def obj(name: str, state: Any) -> Raw:
    module, _, cls = name.rpartition(".")
    return Raw(glob(module, cls) + b")\x81" + put(state) + b"b")


def enum(name: str, value: Any) -> Raw:
    module, _, cls = name.rpartition(".")
    return Raw(glob(module, cls) + put(value) + b"R")


def storage(key: Any, kind: str, numel: Any, device: Any = "cpu", tag: str = "storage") -> Raw:
    return Raw(group([tag, glob("torch", kind), key, device, numel]) + b"Q")


def tensor(
    key: Any, kind: str, numel: Any, offset: Any, sizes: Any, strides: Any, grad: Any = False, device: Any = "cpu"
) -> Raw:
    hooks = Raw(glob("collections", "OrderedDict") + b")R")
    return call(
        "torch._utils", "_rebuild_tensor_v2", storage(key, kind, numel, device), offset, sizes, strides, grad, hooks
    )


def pickle(value: Any) -> bytes:
    return b"\x80\x02" + put(value) + b"."


class ZipWriter:
    """A zip file whose every field can be overridden: `add(..., method=12)`, `finish(count=9)`."""

    def __init__(self, align: int = 0) -> None:
        self.body = bytearray()
        self.central: list[bytes] = []
        self.align = align

    def add(self, name: str | bytes, data: bytes, *, deflate: bool = False, **over: Any) -> None:
        raw = name if isinstance(name, bytes) else name.encode()
        packer = zlib.compressobj(9, wbits=-15)
        packed = over.get("payload", packer.compress(data) + packer.flush() if deflate else data)
        method = over.get("method", 8 if deflate else 0)
        crc = over.get("crc", zlib.crc32(data))
        size, packed_size = over.get("size", len(data)), over.get("packed", len(packed))
        flags, header = over.get("flags", 0x800), over.get("header", len(self.body))
        padding = b""
        if self.align:
            gap = -(len(self.body) + 30 + len(raw) + 4) % self.align
            padding = struct.pack("<2sH", b"FB", gap) + b"Z" * gap
        padding = over.get("local_extra", padding)
        local_name = over.get("local_name", raw)
        if not over.get("only_central"):
            self.body += struct.pack(
                "<4s5H3L2H", b"PK\3\4", 20, over.get("local_flags", flags), over.get("local_method", method), 0, 0,
                crc, packed_size & 0xFFFFFFFF, size & 0xFFFFFFFF, len(local_name), len(padding),
            )  # fmt: skip
            self.body += local_name + padding + packed
        extra = over.get("extra", b"")
        self.central.append(
            struct.pack(
                "<4s6H3L5H2L", b"PK\1\2", 20, 20, flags, method, 0, 0, crc, packed_size & 0xFFFFFFFF,
                size & 0xFFFFFFFF, len(raw), len(extra), 0, over.get("disk", 0), 0, 0, header & 0xFFFFFFFF,
            )
            + raw
            + extra
        )  # fmt: skip

    def finish(self, **over: Any) -> bytes:
        table = b"".join(self.central)
        count = over.get("count", len(self.central))
        start, size = over.get("start", len(self.body)), over.get("size", len(table))
        comment = over.get("comment", b"")
        zip64 = b""
        if over.get("zip64"):
            end = len(self.body) + len(table)
            zip64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 20, 20, 0, 0, count, count, size, start)
            zip64 += struct.pack("<4sLQL", b"PK\6\7", 0, over.get("zip64_at", end), 1)
            count, start, size = 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF
        end_record = struct.pack(
            "<4s4H2LH", b"PK\5\6", over.get("disk", 0), 0, count & 0xFFFF, count & 0xFFFF, size & 0xFFFFFFFF,
            start & 0xFFFFFFFF, over.get("comment_length", len(comment)),
        )  # fmt: skip
        return bytes(self.body) + table + zip64 + end_record + comment


CODE = """class Net(Module):
  __parameters__ = ["w", ]
  __buffers__ = []
  w : Tensor
  lst : List[int]
  training : bool
  scale : Final[float] = 1.5
  def forward(self: __torch__.Net,
    x: Tensor,
    n: int=2) -> Tensor:
    for i in range(n):
      x = torch.add(x, 1)
    return torch.matmul(x, torch.t(self.w))
"""

WEIGHTS = np.arange(6, dtype="<f4").reshape(2, 3)


def net_state() -> dict[str, Any]:
    return {
        "w": tensor("0", "FloatStorage", 6, 0, (2, 3), (3, 1), True),
        "lst": typed_list("int", [1, 2]),
        "training": False,
    }


def net_records() -> dict[str, bytes]:
    """A small valid archive: record -> bytes."""
    return {
        "version": b"10\n",
        "data/0": WEIGHTS.tobytes(),
        "data.pkl": pickle(obj("__torch__.Net", net_state())),
        "code/__torch__.py": CODE.encode(),
        "constants.pkl": pickle(Raw(tensor("0", "FloatStorage", 1, 0, (), ()) + b"\x85")),
        "constants/0": np.float32(7).tobytes(),
    }


def archive(records: dict[str, bytes] | None = None, root: str = "net", align: int = 64) -> bytes:
    """An archive of records, aligned as torch aligns them, code deflated."""
    writer = ZipWriter(align)
    for name, data in (net_records() if records is None else records).items():
        writer.add(f"{root}/{name}", data, deflate=name.startswith("code/"))
    return writer.finish()


def module(state: dict[str, Any], declarations: str, more: str = "", **records: bytes) -> bytes:
    """An archive of one module `__torch__.M` with these attributes (storage 0 holds 6 floats)."""
    lines = "".join(f"  {line}\n" for line in declarations.splitlines())
    code = f"class M(Module):\n  __parameters__ = []\n  __buffers__ = []\n{lines}{more}"
    base = net_records() | {
        "data.pkl": pickle(obj("__torch__.M", state)),
        "code/__torch__.py": code.encode(),
    }
    return archive(base | {name.replace("__", "/"): data for name, data in records.items()})
