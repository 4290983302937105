"""Hostile archives: some 800 of them, and the program that reads each and watches what happens.

Run as a program (by test_hostile.py, in a process with bounded memory), it prints one JSON line per case that went
wrong and a last one with the totals. A case is (name, bytes, expectation): "error" must raise a stepwell Error, "any"
may also be read, "fine" must be.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import random
import signal
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_spec = importlib.util.spec_from_file_location("archive_tests_writer", Path(__file__).with_name("writer.py"))
w: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(w)

Case = tuple[str, bytes, str]
SECONDS = 5.0
GETSTATE = "  def __getstate__(self) -> int:\n    pass\n"


def with_records(**changed: bytes | None) -> bytes:
    records = w.net_records()
    for name, data in changed.items():
        key = {"data_pkl": "data.pkl", "constants_pkl": "constants.pkl", "code": "code/__torch__.py"}.get(name, name)
        if data is None:
            del records[key]
        else:
            records[key] = data
    return w.archive(records)


def with_pickle(instructions: bytes) -> bytes:
    return with_records(data_pkl=b"\x80\x02" + instructions)


def with_value(value: Any, declared: str = "Any") -> bytes:
    return w.module({"a": value}, f"a : {declared}")


def with_code(code: str | bytes) -> bytes:
    return with_records(code=code if isinstance(code, bytes) else code.encode())


def damaged() -> Iterator[Case]:
    base = w.archive()
    for cut in range(0, len(base), max(1, len(base) // 70)):
        yield f"truncated at {cut}", base[:cut], "error"
    for front in (1, 22, 64, 500):
        yield f"{front} bytes missing in front", base[front:], "error"
        yield f"{front} bytes added in front", b"x" * front + base, "error"
        yield f"{front} bytes added behind", base + b"\0" * front, "error"
    rng = random.Random(7)
    for number in range(120):
        data = bytearray(base)
        place = rng.randrange(len(data))
        data[place] ^= 1 << rng.randrange(8)
        yield f"bit {number} flipped at {place}", bytes(data), "any"
    records = w.net_records()
    for record, count in (("data.pkl", 120), ("constants.pkl", 30), ("code/__torch__.py", 80), ("version", 8)):
        for number in range(count):
            data = bytearray(records[record])
            for _ in range(rng.randrange(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            yield f"{record} mutated {number}", w.archive(records | {record: bytes(data)}), "any"
    pickle = records["data.pkl"]
    for cut in range(0, len(pickle) - 1, 9):
        yield f"pickle truncated at {cut}", with_records(data_pkl=pickle[:cut]), "error"
    yield "noise", random.Random(1).randbytes(5000), "error"
    yield "zip magic and noise", b"PK\3\4" + random.Random(1).randbytes(5000), "error"
    yield "one byte", b"P", "error"
    yield "empty", b"", "error"
    yield "end record alone", b"PK\5\6" + bytes(18), "error"


FORBIDDEN = [
    ("os", "system"), ("posix", "system"), ("nt", "system"), ("subprocess", "Popen"), ("subprocess", "call"),
    ("builtins", "eval"), ("builtins", "exec"), ("builtins", "getattr"), ("builtins", "__import__"),
    ("builtins", "open"), ("builtins", "print"), ("builtins", "compile"), ("builtins", "object"),
    ("__builtin__", "eval"), ("copyreg", "_reconstructor"), ("copy_reg", "_reconstructor"),
    ("importlib", "import_module"), ("runpy", "_run_code"), ("pickle", "loads"), ("marshal", "loads"),
    ("types", "FunctionType"), ("functools", "partial"), ("operator", "attrgetter"), ("codecs", "encode"),
    ("shutil", "rmtree"), ("socket", "socket"), ("webbrowser", "open"), ("ctypes", "CDLL"), ("timeit",
    "timeit"),
    ("numpy", "load"), ("numpy.core.multiarray", "_reconstruct"), ("torch", "load"), ("torch.hub", "load"),
    ("torch._utils", "_rebuild_device_tensor_from_numpy"), ("torch.jit._pickle", "build_tensor_from_id"),
    ("torch", "nn.Module"), ("torch", "save"), ("collections", "defaultdict"), ("__main__", "x"),
    ("stepwell.compiler.cli", "main"), ("__torch__", "os.system"), ("__torch__.os", "system\0"),
    ("__torch__..x", "y"), ("__torch__/../x", "y"), ("", ""), ("__torch__\n", "C"), ("torch",
    "FloatStorage.x"),
]  # fmt: skip


def calls() -> Iterator[Case]:
    for module, name in FORBIDDEN:
        call = w.Raw(w.glob(module, name) + w.group(["echo owned > /tmp/owned"]) + b"R")
        yield f"calls {module}.{name}", with_value(call), "error"
        yield f"holds {module}.{name}", with_value(w.glob(module, name)), "error"
    for name in ("system", "Missing", "__init__"):
        yield f"object of __torch__.{name}", with_value(w.obj(f"__torch__.{name}", {})), "error"
        yield f"enum of __torch__.{name}", with_value(w.enum(f"__torch__.{name}", 1)), "error"
    for code in range(256):
        if bytes([code]) not in b"().NKMJGXtldaesuqrhjcRbQ]}\x81\x85\x86\x87\x88\x89\x8a":
            yield f"instruction 0x{code:02x}", with_pickle(b"N" + bytes([code]) + b"os\nsystem\n."), "error"
    for protocol in (0, 1, 3, 4, 5, 255):
        yield f"protocol {protocol}", with_records(data_pkl=b"\x80" + bytes([protocol]) + b"N."), "error"


def machine() -> Iterator[Case]:
    for name, code in {
        "nothing": b".", "two values": b"NN.", "open mark": b"(N.", "mark alone": b"(.", "no stop": b"N",
        "pop past": b"R.", "tuple past": b"\x87.", "group past": b"t.", "build nothing": b"b.",
        "get unknown": b"h\x07.",
        "put nothing": b"q\0N.", "put below a mark": b"N(q\0t.", "append to none": b"NNa.",
        "appends to dict": b"}(Ne.",
        "items to list": b"](NNu.", "odd items": b"}(Nu.", "reduce a tuple": b"))R.",
        "call a str": b"X\1\0\0\0a)R.",
        "new of a function": b"ctorch\ndevice\n)\x81.", "new of a str": b"X\1\0\0\0a)\x81.",
        "persistent none": b"NQ.",
        "persistent str": b"X\1\0\0\0aQ.", "long of 255": b"\x8a\xff" + b"\1" * 255 + b".",
        "huge text": b"X\xff\xff\xff\xff.",
        "name without end": b"c" + b"a" * 100_000, "list as a key": b"}(]Nu.", "none as a key": b"}(NNu.",
        "object as a key": b"}(c__torch__\nNet\n)\x81Nu.", "binint cut": b"J\1\1", "float cut": b"G\1",
        "top is a list": b"].", "top is a str": b"X\1\0\0\0a.",
        "top is a storage class": b"ctorch\nFloatStorage\n.",
        "built twice": b"c__torch__\nNet\n)\x81}b}b.", "object never built": b"c__torch__\nNet\n)\x81.",
        "list in itself": b"]q\0h\0a.", "dict in itself": b"}q\0K\0h\0s.",
        "object in itself": b"c__torch__\nNet\n)\x81q\0}X\1\0\0\0wh\0sb.",
        "tuple through a list in itself": b"]q\0(h\0h\0ta.",
        "not a pickle": b"hello", "complex of str": b"cbuiltins\ncomplex\n(X\1\0\0\0aK\1tR.",
        "device of int": b"ctorch\ndevice\n(K\1tR.",
        "ordered dict of a list": b"ccollections\nOrderedDict\n(]tR.",
        "one million marks": b"(" * 1_000_000,
        "deep reduce": b"ctorch\ndevice\n" * 100_000 + b")" + b"R" * 100_000,
    }.items():  # fmt: skip
        yield f"machine: {name}", with_pickle(code), "error"
    for depth in (149, 1_000, 50_000):
        for opening, closing, kind in ((b"]", b"a", "lists"), (b"", b"\x85", "tuples"), (b"}K\1", b"s", "dicts")):
            nest = w.Raw(opening * depth + b"N" + closing * depth)
            yield f"{depth} {kind} deep", with_value(nest), "error"
    doubling = b"]q\0" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(100))
    yield "a list of 2**100 lists by sharing", with_value(w.Raw(b"(" + doubling + b"t")), "any"
    tuples = w.Raw(b"Nq\0" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(100)))
    pairs = w.Raw(b"(" + tuples + b"t")
    yield "a tuple of 2**100 tuples by sharing", with_value(pairs), "any"
    grown = "class P(NamedTuple):\n  a : __torch__.P\n  b : __torch__.P\n"
    code = f"class M(Module):\n  a : __torch__.P\n{grown}"
    state = w.pickle(w.obj("__torch__.M", {"a": pairs}))
    yield "a NamedTuple inside itself", with_records(data_pkl=state, code=code.encode()), "error"
    union = "int"
    for _ in range(12):
        union = f"Union[List[{union}], List[{union}]]"
    nested = w.text("a")
    for _ in range(12):
        nested = w.Raw(b"](" + nested + b"e")
    yield "a union of 2**12 alternatives", with_value(nested, union), "error"
    yield "a million lists", with_pickle(b"(" + b"]" * 1_000_001 + b"t."), "error"
    yield "many memos of one list", with_pickle(b"]" + b"q\0" * 500_000 + b"."), "error"
    keys = b"".join(bytes(w.put(complex(float(i), 0.0))) + b"N" for i in range(6000))
    yield "complex keys", with_value(w.Raw(b"}(" + keys + b"u")), "any"
    for type in ("List[int", "", "List[int]]", "Dict[int]", "List[int, int]", "int", "lambda: 0",
        "List[" * 5000,
                 "List[__import__('os')]", "Tuple[int]", "\0", "é", "1", "List[1]",
                 "a" * 100_000):  # fmt: skip
        yield f"type tag {type[:30]!r}", with_value(w.tagged([1], type)), "error"
    first = w.tagged(w.Raw(b"]q\0"), "List[int]")
    second = w.tagged(w.Raw(b"h\0"), "List[float]")
    yield "two tags on one list", with_value(w.Raw(b"(" + first + second + b"t")), "error"


def tensors() -> Iterator[Case]:
    good: dict[str, Any] = {"key": "0", "kind": "FloatStorage", "numel": 6, "offset": 0, "sizes": (2, 3),
                            "strides": (3, 1), "grad": False, "device": "cpu"}  # fmt: skip
    big = 2**62
    for field, values in {
        "numel": (7, 2**40, big, -1, -big, 2**63 - 1, 5, True, "6", None),
        "offset": (1, 6, -1, big, 2**63 - 1, -(2**63), "0", None, 0.0),
        "sizes": ((3, 3), (2, 4), (-2, 3), (2, -3), (big, 1), (2**31, 2**31), (2, 3, 1), (2,), [2, 3],
        (2.0, 3), None,
                  (2**63 - 1, 2**63 - 1), ("2", 3), (True, 3)),
        "strides": ((4, 1), (-3, 1), (3, -1), (3, big), (big, big), (3,), (3, 1, 1), [3, 1], (3.0, 1), None,
                    (2**63 - 1, 2**63 - 1)),
        "key": ("../code/x", "..", ".", "/etc/passwd", "1", "", "0/../0", "0\0", 0, None, "x" * 10_000,
        "data/0", "é"),
        "kind": ("DoubleStorage", "LongStorage", "ComplexDoubleStorage", "QInt8Storage", "StringStorage",
        "device",
                 "UntypedStorage", "Float8_e5m2Storage"),
        "device": ("gpu gpu", "", "cpu:-1", "a" * 1000, 3, "meta", "cpu;rm -rf"),
        "grad": (0, 1, None, "True"),
    }.items():  # fmt: skip
        for value in values:
            bad = w.tensor(*(good | {field: value}).values())
            yield f"tensor with {field} {str(value)[:40]!r}", with_value(bad, "Tensor"), "error"
    for sizes, strides in (
        ((2**40,), (0,)),
        ((2**20, 2**20), (0, 0)),
        ((1,) * 65, (1,) * 65),
        ((0, big, 8), (1, 1, 1)),
    ):
        bad = w.tensor("0", "FloatStorage", 6, 0, sizes, strides)
        yield f"tensor of {str(sizes)[:30]}", with_value(bad, "Tensor"), "error"
    two = {"a": w.tensor("0", "FloatStorage", 6, 0, (6,), (1,)), "b": w.tensor("0", "FloatStorage", 5, 0, (5,), (1,))}
    yield "one storage of two lengths", w.module(two, "a : Tensor\nb : Tensor"), "error"
    for name in ("_rebuild_qtensor", "_rebuild_sparse_tensor"):
        yield name, with_value(w.call("torch._utils", name, 1)), "error"
    yield "subclass", with_value(w.call("torch._tensor", "_rebuild_from_type_v2", 1)), "error"
    yield "C++ object", with_value(w.obj("__torch__.torch.classes.quantized.X", {})), "error"
    for arguments in ((), (1,), (1, 2, 3, 4, 5, 6), tuple(range(50)), (None,) * 7):
        bad = w.call("torch._utils", "_rebuild_tensor_v2", *arguments)
        yield f"tensor of {len(arguments)} wrong arguments", with_value(bad), "error"
    for metadata in ({"conj": True, "x": 1}, 3, {}, {"conj": True}, {"neg": True}):
        hooks = w.Raw(w.glob("collections", "OrderedDict") + b")R")
        bad = w.call("torch._utils", "_rebuild_tensor_v2", w.storage("0", "FloatStorage", 6), 0, (6,), (1,
            ), False,
                     hooks, metadata)  # fmt: skip
        wanted = "error" if metadata == 3 or (isinstance(metadata, dict) and "x" in metadata) else "fine"
        yield f"metadata {metadata}", with_value(bad), wanted
    yield "a list of tensors of ints", with_value(w.typed_list("tensor", [1])), "error"
    yield "a list of ints of bools", with_value(w.typed_list("int", [True])), "error"
    yield "absent constant", with_records(**{"constants/0": None}), "error"
    yield "constants no tuple", with_records(constants_pkl=w.pickle(1)), "error"


def types() -> Iterator[Case]:
    """Every kind of value in an attribute of every declared type."""
    values = {
        "int": 3, "float": 1.5, "bool": True, "str": "x", "complex": 1j, "NoneType": None,
        "Tensor": w.tensor("0", "FloatStorage", 6, 0, (6,), (1,)), "List[int]": w.typed_list("int", [1, 2]),
        "List[float]": w.typed_list("double", [1.5]), "Dict[str, int]": w.tagged({"a": 1}, "Dict[str, int]"),
        "Tuple[int, str]": (1, "x"), "Device": w.call("torch", "device", "cpu"),
        "__torch__.E": w.enum("__torch__.E", 1),
        "__torch__.C": w.obj("__torch__.C", {"v": 1}),
    }  # fmt: skip
    more = (
        "class E(Enum):\n  A = 1\nclass C:\n  v : int\n  def get(self: __torch__.C) -> int:\n    return self.v\n"
        "class I(Interface):\n  def get(self) -> int:\n    pass\n"
        "class J(Interface):\n  def other(self) -> int:\n    pass\n"
        "class N(NamedTuple):\n  x : int\n  y : str\n"
    )
    accepts = {kind: {kind} for kind in values} | {
        "Optional[int]": {"int", "NoneType"}, "Union[int, str]": {"int", "str"}, "Any": set(values),
        "number": {"int", "float", "complex"}, "List[str]": set(), "Tuple[int]": set(),
        "Tuple[int, ...]": set(),
        "__torch__.N": {"Tuple[int, str]"}, "__torch__.I": {"__torch__.C"}, "__torch__.J": set(),
        "Optional[List[int]]": {"List[int]", "NoneType"}, "__torch__.Missing": set(), "Future[int]": set(),
        "Dict[int, int]": set(), "__torch__.M": set(), "nonsense": set(),
    }  # fmt: skip
    for declared, fits in accepts.items():
        for kind, value in values.items():
            data = w.module({"a": value}, f"a : {declared}", more)
            yield f"{kind} in {declared}", data, "fine" if kind in fits else "error"
    yield "missing attribute", w.module({}, "a : int"), "error"
    yield "undeclared attribute", w.module({"b": 1}, ""), "fine"
    yield "enum without such member", w.module({"a": w.enum("__torch__.E", 2)}, "a : __torch__.E", more), "error"
    yield "bool for an enum", w.module({"a": w.enum("__torch__.E", True)}, "a : __torch__.E", more), "error"
    wrong = {"a": w.obj("__torch__.C", {"v": "x"})}
    yield "wrong attribute deep inside", w.module(wrong, "a : __torch__.C", more), "error"
    yield (
        "top is no module",
        with_records(data_pkl=w.pickle(w.obj("__torch__.C", {"v": 1})), code=more.encode()),
        "error",
    )
    yield "object of an interface", with_value(w.obj("__torch__.I", {})), "error"
    yield "state no dict", with_records(data_pkl=w.pickle(w.obj("__torch__.Net", (1, 2)))), "error"
    yield "state keys no str", with_records(data_pkl=w.pickle(w.obj("__torch__.Net", {1: 2}))), "error"


def sources() -> Iterator[Case]:
    def method(body: str) -> str:
        return w.CODE + "  def g(self: __torch__.Net, x: Tensor) -> Tensor:\n" + body

    many = 50_000
    for name, body in {
        "parentheses": "(" * many, "closed parentheses": "(" * 5000 + "x" + ")" * 5000,
        "brackets": "[" * many,
        "braces": "{" * many, "subscripts": "x" + "[x" * many, "calls": "f(" * many,
        "minus": "-" * many + "x",
        "not": "not " * many + "x", "tilde": "~" * many, "attributes": "x" + ".x" * many,
        "sum": "x" + "+x" * many,
        "powers": "x" + "**x" * many, "ternaries": "x if x else " * many + "x",
        "called calls": "x" + "()" * many,
        "comparisons": "x" + " < x" * 1000, "commas": "x," * 1000, "ands": "x" + " and x" * 1000,
        "indexed": "x" + "[0]" * many, "lambda": "lambda: 0", "f-string": "f'{x}'", "bytes": "b'x'",
        "open string": "'abc", "open triple": "'''abc", "escape": "'\\q'", "hex digits": "0x" + "f" * many,
        "digits": "1" * many, "big integer": "9223372036854775808", "zeros": "0" * many + "1",
        "exponent": "1e" + "9" * 5000,
        "underscores": "1" + "_" * many, "nul": "\0", "dollar": "$", "question": "x?",
        "backslashes": "\\\n" * many,
        "walrus": "(x := 1)", "await": "await x", "yield": "yield x", "star": "*x", "two stars": "f(**x)",
        "bad slice": "x[::::]", "empty subscript": "x[]", "keyword first": "f(a=1, 2)", "for alone": "for",
        "half ternary": "x if x", "assign to call": "f() = 1", "assign to number": "1 = x",
        "annotated call": "f(): int",
        "del of a sum": "del x + 1", "import": "import os", "from": "from os import system",
        "global": "global x",
        "try": "try:", "class": "class X:", "decorator": "@x", "raise twice": "raise a b", "unbalanced": "x)",
        "crossed": "([x)]", "string of quotes": "\"" * many, "open quote run": "'" + "\\" * many,
    }.items():  # fmt: skip
        wanted = "fine" if name in ("comparisons", "commas", "ands", "string of quotes") else "error"
        yield f"source: {name}", with_code(method(f"    {body}\n")), wanted
    deep = "".join(" " * (4 + i) + "if x:\n" for i in range(5000)) + " " * 5004 + "pass\n"
    yield "source: 5000 nested blocks", with_code(method(deep)), "error"
    elifs = "    if x:\n      pass\n" + "    elif x:\n      pass\n" * 20_000
    yield "source: 20000 elifs", with_code(method(elifs)), "error"
    nested = "".join("  " * (i + 2) + "def f():\n" for i in range(500)) + "  " * 502 + "pass\n"
    yield "source: 500 nested functions", with_code(method(nested)), "error"
    for name, code in {
        "empty": "", "comment": "# x", "expression": "x", "call": "exec('1')", "assignment": "x = 1",
        "import": "import os",
        "half a class": "class", "class without colon": "class Net(Module)",
        "two bases": "class Net(Module, int):\n  pass",
        "computed base": "class Net(f()):\n  pass", "unknown base": "class Net(object):\n  pass",
        "defined twice": w.CODE + w.CODE, "method twice": w.CODE + w.CODE[w.CODE.index("  def"):],
        "attribute twice": "class Net(Module):\n  w : Tensor\n  w : Tensor\n",
        "call in class": "class Net(Module):\n  f()\n",
        "loop in class": "class Net(Module):\n  for i in x:\n    pass\n",
        "class in class": "class Net(Module):\n  class X:\n    w : int\n",
        "bad type": "class Net(Module):\n  w : f()\n", "number as type": "class Net(Module):\n  w : 1\n",
        "deep type": "class Net(Module):\n  w : " + "List[" * 60 + "int" + "]" * 60 + "\n",
        "parameters no names": "class Net(Module):\n  __parameters__ = [1]\n",
        "final without value": "class Net(Module):\n  w : Final[int]\n",
        "bad unindent": "class Net(Module):\n    w : Tensor\n  lst : int\n",
        "indented first": "  class Net(Module):\n    pass",
        "nul": "\0", "bom": "\ufeffclass Net(Module):\n  pass", "unicode name": "class Nét(Module):\n  pass",
        "wide": "class Net(Module):\n  w : Tensor\n" + "  x = " + "x," * 600_000 + "\n",
        "long line": "#" * 3_000_000, "line feeds": "\n" * 300_000, "blanks": " " * 3_000_000,
        "strings": "class Net(Module):\n  " + "'x' " * 400_000,
        "setstate of three": w.CODE + GETSTATE + "  def __setstate__(self, a: int, b: int):\n    pass\n",
        "setstate of int": w.CODE + GETSTATE + "  def __setstate__(self, a: int):\n    pass\n",
        "enum of calls": w.CODE + "class E(Enum):\n  A = f()\n",
        "enum of lists": w.CODE + "class E(Enum):\n  A = [1]\n",
        "contains itself": "class Net(Module):\n  lst : List[int]\n  n : List[__torch__.Net]\n",
        "contains itself maybe": w.CODE.replace("lst : List[int]", "lst : Union[List[int], __torch__.Net]"),
    }.items():  # fmt: skip
        wanted = "fine" if name == "strings" else "error"
        yield f"code: {name}", with_code(code), wanted
    for name, data in {
        "not UTF-8": b"\xff\xfe" + w.CODE.encode(), "UTF-16": w.CODE.encode("utf-16"), "zeros": bytes(1000),
        "random": random.Random(3).randbytes(4000),
    }.items():  # fmt: skip
        yield f"code: {name}", with_code(data), "error"
    yield "code missing", with_records(code=None), "error"


def debug_records() -> Iterator[Case]:
    """Records of origins are a courtesy: whatever is in them, the archive is read."""
    good = (
        "FORMAT_WITH_STRING_TABLE",
        ("x = 1\n", "f.py"),
        ((0, (((0,), 1, 3), 0, 1), 0), (40, (((0,), 1, 3), 2, 3), 1)),
    )
    data = w.pickle(good)
    rng = random.Random(5)
    variants: list[tuple[str, bytes]] = [("good", data), ("empty", b""), ("noise", rng.randbytes(300))]
    for number in range(40):
        bad = bytearray(data)
        bad[rng.randrange(2, len(bad))] = rng.randrange(256)
        variants.append((f"mutated {number}", bytes(bad)))
    for number, value in enumerate((
        1, (), ("FORMAT_WITH_STRING_TABLE",), ("FORMAT_WITH_STRING_TABLE", 1, 2), ((0, 1, 2),), ((0, (("t",
        "f", 1), 5, 9), 0),),
        ("FORMAT_WITH_STRING_TABLE", ("a",), ((0, (((7,), 0, 0), 0, 0), 0),)),
        ("FORMAT_WITH_STRING_TABLE", ("a",), ((0, (((0,), 0, 2**62), 10**9, 0), 0),)),
        ("FORMAT_WITH_STRING_TABLE", ("a" * 10_000,), ((0, (((0,) * 20_000, 0, 0), 0, 0), 0),)),
    )):  # fmt: skip
        variants.append((f"shape {number}", w.pickle(value)))
    for name, record in variants:
        yield f"debug: {name}", w.archive(w.net_records() | {"code/__torch__.py.debug_pkl": record}), "fine"


def containers() -> Iterator[Case]:
    def build(change: Any = None, finish: dict[str, Any] | None = None, **over: Any) -> bytes:
        writer = w.ZipWriter(64)
        for name, data in w.net_records().items():
            writer.add(f"net/{name}", data, **(over if name == "data/0" else {}))
        if change is not None:
            change(writer)
        return bytes(writer.finish(**(finish or {})))

    yield "valid", build(), "fine"
    yield "valid zip64", build(finish={"zip64": True}), "fine"
    yield "valid comment", build(finish={"comment": b"hello"}), "fine"
    for method in (1, 2, 6, 9, 12, 14, 93, 95, 99, 65535):
        yield f"method {method}", build(method=method), "error"
    for name, over in {
        "encrypted": {"flags": 1}, "patched": {"flags": 32}, "checksum": {"crc": 1}, "size": {"size": 25},
        "packed": {"packed": 23}, "both sizes": {"size": 2**31, "packed": 2**31},
        "maximal": {"size": 2**32 - 1, "packed": 2**32 - 1},
        "header": {"header": 10}, "header outside": {"header": 2**31},
        "other local name": {"local_name": b"net/data/1"},
        "longer local name": {"local_name": b"net/data/00"}, "other local method": {"local_method": 8},
        "locally encrypted": {"local_flags": 1}, "disk": {"disk": 3}, "extra cut": {"extra": b"\1\0\xff\xff"},
        "zip64 empty": {"size": 2**32 - 1, "extra": b"\1\0\0\0"}, "deflate of stored": {"method": 8},
        "zip64 huge": {"size": 2**32 - 1, "packed": 2**32 - 1, "extra": struct.pack("<2H2Q", 1, 16, 2**63,
        2**63)},
        "claims less than it inflates to": {"method": 8, "payload": zlib.compress(bytes(10_000), 9, -15),
        "size": 24},
        "claims more than it inflates to": {"method": 8, "payload": zlib.compress(bytes(20), 9, -15),
        "size": 24},
        "bytes after deflate": {"method": 8, "payload": zlib.compress(bytes(24), 9, -15) + b"junk"},
        "bomb": {"method": 8, "payload": zlib.compress(bytes(100 << 20), 9, -15), "size": 100 << 20},
        "claimed bomb": {"method": 8, "payload": b"\3\0", "size": 2**32 - 2},
    }.items():  # fmt: skip
        wanted = "any" if name == "extra cut" else "error"
        yield f"zip: {name}", build(**over), wanted
    for name, finish in {
        "count less": {"count": 5}, "count more": {"count": 7}, "count huge": {"count": 65534},
        "start": {"start": 5},
        "start outside": {"start": 2**31}, "size": {"size": 10}, "size huge": {"size": 2**32 - 1},
        "disk": {"disk": 1},
        "comment longer": {"comment_length": 5},
        "comment of an end record": {"comment": b"PK\5\6" + bytes(18)},
        "zip64 elsewhere": {"zip64": True, "zip64_at": 0}, "zip64 far": {"zip64": True, "zip64_at": 2**63},
        "zip64 count": {"zip64": True, "count": 2**40}, "zip64 size": {"zip64": True, "size": 2**60},
        "zip64 start": {"zip64": True, "start": 2**60},
    }.items():  # fmt: skip
        yield f"end: {name}", build(finish=finish), "error"
    for bad in ("/net/x", "../x", "net/../x", "net/./x", "other/x", "x", "net\\x", "net/\0", "net/data/0",
        "", b"net/\xff\xfe",
                "net/x/../../y", "C:/x", "net/" + "a/../" * 50 + "b"):  # fmt: skip
        yield f"record named {bad!r}"[:60], build(lambda z, bad=bad: z.add(bad, b"x")), "error"
    for fine in ("net/extra/x y.txt", "net/é", "net/", "net/data/", "net/" + "a" * 60_000, "net/con", "net/..x"):
        yield f"record named {fine!r}"[:60], build(lambda z, fine=fine: z.add(fine, b"")), "fine"

    def overlap(writer: Any) -> None:
        header = len(writer.body)
        writer.add("net/x", b"x" * 1000)
        writer.add("net/y", b"x" * 900, only_central=True, header=header)

    yield "two records on one header", build(overlap), "error"

    def quine(writer: Any) -> None:
        """Each record's bytes hold the next record's header: a bomb without a ratio."""
        start, inner = len(writer.body), bytearray()
        names = [f"net/{i}".encode() for i in range(50)]
        for name in names:
            inner += struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0) + name
        at = start
        for name in names:
            body = bytes(inner[at - start + 30 + len(name) :])
            writer.add(name, body, only_central=True, header=at)
            at += 30 + len(name)
        writer.body += inner

    yield "records inside records", build(quine), "error"

    def many(writer: Any) -> None:
        payload = zlib.compress(bytes(30 << 20), 9, -15)
        for number in range(12):
            name = f"net/code/{number}.py"
            writer.add(name, b"", method=8, payload=payload, size=30 << 20, crc=zlib.crc32(bytes(30 << 20)))

    yield "twelve bombs", build(many), "error"

    def crowd(writer: Any) -> None:
        for number in range(200_001):
            writer.add(f"net/{number}", b"", only_central=True, header=0)

    yield "too many records", build(crowd, {"zip64": True}), "error"
    yield "no records", w.ZipWriter().finish(), "error"
    records = w.net_records()
    for name in list(records):
        left = {k: v for k, v in records.items() if k != name}
        yield f"without {name}", w.archive(left), "error"
    for version in (b"0", b"11", b"-1", b"", b"3.5", b"x", b"9" * 400, b"\xff", b"1e1", b"3\n4", bytes(100), b"\xb2"):
        yield f"version {version[:10]!r}", w.archive(records | {"version": version}), "error"
    for version in (b"1", b"10\n", b" 3 "):
        yield f"version {version!r}", w.archive(records | {"version": version}), "fine"
    for order in (b"middle", b"", b"\xff", b"little" * 1000):
        yield f"byte order {order[:10]!r}", w.archive(records | {"byteorder": order}), "error"
    for order in (b"little", b"big\n"):
        yield f"byte order {order!r}", w.archive(records | {"byteorder": order}), "fine"
    for extra in ("model.json", "archive_format", "archive_version", ".data/extern_modules"):
        yield f"an archive with {extra}", w.archive(records | {extra: b""}), "error"
    flat = w.ZipWriter()
    for name, data in records.items():
        flat.add(name, data)
    yield "no root folder", flat.finish(), "error"
    for name, data in {
        "torch.save": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "pickle": b"\x80\x04N.",
        "flatbuffer": b"\0\0\0\0PTMF\0\0",
        "lfs": b"version https://git-lfs.github.com/spec/v1\n", "html": b"<!DOCTYPE html>",
        "gzip": b"\x1f\x8b\x08\0",
        "tar": bytes(257) + b"ustar" + bytes(300),
        "safetensors": b"\x10\0\0\0\0\0\0\0" + b'{"a":1}' + bytes(20),
    }.items():  # fmt: skip
        yield f"a file of {name}", data, "error"
    for bad in (b"", b"x", w.pickle(1), w.pickle({"forward": w.glob("os", "system")}), w.pickle([1])):
        yield f"traced inputs {bad[:20]!r}", w.archive(records | {"traced_inputs.pkl": bad}), "error"


def cases() -> Iterator[Case]:
    for group in (damaged, calls, machine, tensors, types, sources, debug_records, containers):
        yield from group()


# ***** reading them *****


def touch(archive: Any) -> None:
    """Use everything that a front end would use: tensors, definitions, locations."""
    found: list[Any] = [archive.root, *archive.constants]
    seen: set[int] = set()
    while found:
        value = found.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if hasattr(value, "attributes"):
            found += [*value.attributes.values(), value.state]
        elif isinstance(value, dict):
            found += value.values()
        elif isinstance(value, list | tuple):
            found += value
        elif hasattr(value, "storage"):
            value.array.ravel()[:1000].sum()
    for name in list(archive.code.names()):
        record = archive.code.find(name)
        for node in list(ast.walk(record.node))[:50]:
            record.file.location(node)


def run() -> None:
    import ml_dtypes  # noqa: F401 - so that no case imports it

    from stepwell.compiler.frontends.archive import read
    from stepwell.dialects.diagnostics import Error

    touch(read(w.archive()))
    events: list[str] = []
    watched = ("os.", "subprocess.", "exec", "compile", "import", "open", "socket.", "ctypes.", "shutil.", "pickle.")
    sys.addaudithook(lambda event, _: events.append(event) if event.startswith(watched) else None)

    def late(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGPROF, late)  # counts time of the processor: others may use it too
    totals = {"cases": 0, "errors": 0, "read": 0, "slowest": 0.0, "slowest_case": ""}
    for name, data, wanted in cases():
        events.clear()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        begin = time.process_time()
        try:
            touch(read(data))
            outcome = "fine"
        except Error as problem:
            outcome = "error"
            message = str(problem)
        except BaseException as problem:
            outcome = f"{type(problem).__name__}: {problem}"[:500]
        signal.setitimer(signal.ITIMER_PROF, 0)
        spent = time.process_time() - begin
        if spent > totals["slowest"]:
            totals["slowest"], totals["slowest_case"] = spent, name
        totals["cases"] += 1
        totals["errors"] += outcome == "error"
        totals["read"] += outcome == "fine"
        if outcome not in ("error", "fine") or (wanted != "any" and outcome != wanted) or events:
            print(json.dumps({"case": name, "wanted": wanted, "got": outcome, "events": events[:5]}))
        elif outcome == "error" and (not message or len(message) > 4000 or "\0" in message):
            print(json.dumps({"case": name, "message": message[:300]}))
    print(json.dumps(totals))


if __name__ == "__main__":
    run()
