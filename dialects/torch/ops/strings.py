"""Strings, devices, modes and messages: what exists at compile time only.

Text is Python's; formatting shows floats as Python does.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

from stepwell.dialects.torch.declare import ScalarInfo, declare, is_constant, sample
from stepwell.dialects.torch.ops.numbers import evaluated, folded

# ------ methods of str, by name

_PREDICATES = (
    "isalnum", "isalpha", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric", "isprintable", "isspace",
    "istitle", "isupper",
)  # fmt: skip
_TRANSFORMS = ("capitalize", "lower", "swapcase", "title", "upper")


def _method(name: str) -> Callable[..., Any]:
    return lambda self, *arguments: getattr(self, name)(*arguments)


for _name in _PREDICATES:
    evaluated(f"aten::{_name}(str self) -> bool", reference=_method(_name), samples=lambda: [sample("aB1"), sample("")])
for _name in _TRANSFORMS:
    evaluated(f"aten::{_name}(str self) -> str", reference=_method(_name), samples=lambda: [sample("aB c"), sample("")])
for _name in ("strip", "lstrip", "rstrip"):
    evaluated(
        f'aten::{_name}(str self, str chars=" \\n\\t\\f\\v") -> str', reference=_method(_name),
        samples=lambda: [sample("  a b\n"), sample("xxaxx", "x")],
    )  # fmt: skip
for _name in ("center", "ljust", "rjust"):
    evaluated(
        f'aten::{_name}(str self, int width, str fillchar=" ") -> str', reference=_method(_name),
        samples=lambda: [sample("ab", 7, "*"), sample("ab", 1)],
    )  # fmt: skip


def _until_end(name: str) -> Callable[..., Any]:
    """find, count and their like: TorchScript's default end of -1 means the end of the text."""

    def search(self: str, part: str, start: int, end: int) -> Any:
        return getattr(self, name)(part, start, len(self) if end == -1 else end)

    return search


for _name, _result in (
    ("count", "int"), ("find", "int"), ("rfind", "int"), ("rindex", "int"), ("startswith", "bool"),
    ("endswith", "bool"),
):  # fmt: skip
    evaluated(
        f"aten::{_name}(str self, str substr, int start=0, int end=-1) -> {_result}", reference=_until_end(_name),
        samples=lambda: [sample("banana", "an"), sample("banana", "na", 1)],
    )  # fmt: skip
evaluated(
    "aten::index.str(str self, str substr, int start=0, int end=-1) -> int", reference=_until_end("index"),
    samples=lambda: [sample("banana", "an")],
)  # fmt: skip
for _name in ("partition", "rpartition"):
    evaluated(
        f"aten::{_name}(str self, str separator) -> (str, str, str)", reference=_method(_name),
        samples=lambda: [sample("a-b-c", "-")],
    )  # fmt: skip
evaluated(
    "aten::replace(str self, str old, str new, int max=-1) -> str", reference=_method("replace"),
    samples=lambda: [sample("banana", "a", "o"), sample("banana", "a", "o", 1)],
)  # fmt: skip
evaluated("aten::split.str(str self, str? separator=None, int max=-1) -> str[]", reference=_method("split"))
evaluated('aten::rsplit(str self, str separator=" ", int max=-1) -> str[]', reference=_method("rsplit"))
evaluated("aten::splitlines(str self, bool keepends=False) -> str[]", reference=_method("splitlines"))
evaluated("aten::join(str self, str[] values) -> str", reference=_method("join"), samples=lambda: [sample("-", ["a", "b"])])
evaluated("aten::expandtabs(str self, int tabsize=8) -> str", reference=_method("expandtabs"))
evaluated("aten::zfill(str self, int width) -> str", reference=_method("zfill"), samples=lambda: [sample("-3", 5)])


# ------ text as a sequence

evaluated("aten::len.str(str s) -> int", reference=len, samples=lambda: [sample("abc")])
evaluated("aten::add.str(str a, str b) -> str", reference=lambda a, b: a + b, samples=lambda: [sample("a", "b")])
evaluated(
    "aten::__getitem__.str(str s, int index) -> str", "prim::StringIndex(str string, int index) -> str",
    reference=lambda s, i: s[i], samples=lambda: [sample("abc", -1)],
)  # fmt: skip
evaluated(
    "aten::slice.str(str string, int? start=None, int? end=None, int step=1) -> str",
    reference=lambda s, start, end, step: s[start:end:step], samples=lambda: [sample("abcdef", 1, -1, 2)],
)  # fmt: skip
evaluated("aten::list(str t) -> str[]", reference=list)
for _name, _function in (
    ("eq", lambda a, b: a == b), ("ne", lambda a, b: a != b), ("lt", lambda a, b: a < b),
    ("le", lambda a, b: a <= b), ("gt", lambda a, b: a > b), ("ge", lambda a, b: a >= b),
):  # fmt: skip
    evaluated(f"aten::{_name}.str(str a, str b) -> bool", reference=_function, samples=lambda: [sample("a", "b")])
evaluated("aten::eq.device(Device a, Device b) -> bool", reference=lambda a, b: _same_device(a, b))
evaluated("aten::ne.device(Device a, Device b) -> bool", reference=lambda a, b: not _same_device(a, b))
evaluated("aten::chr(int i) -> str", reference=chr, samples=lambda: [sample(97)])
evaluated("aten::ord(str string) -> int", reference=ord, samples=lambda: [sample("a")])
evaluated("aten::hex(int i) -> str", reference=hex, samples=lambda: [sample(255)])
evaluated("aten::oct(int i) -> str", reference=oct, samples=lambda: [sample(8)])
evaluated("aten::bin(int i) -> str", reference=bin, samples=lambda: [sample(5)])


def _integer(text: str) -> int:
    return int(text)


evaluated("aten::Int.str(str a) -> int", reference=_integer, samples=lambda: [sample("12")])
evaluated("aten::Float.str(str a) -> float", reference=float, samples=lambda: [sample("1.5")])


# ------ formatting: a text whose parts are only known at run time is of kind "str"


def _text(value: Any) -> str:
    return str(value)


def _format(template: str, *values: Any) -> str:
    return template.format(*values)


def _percent_format(template: str, *values: Any) -> str:
    return str(template % (values[0] if len(values) == 1 else tuple(values)))


def _formatting(*schemas: str, reference: Callable[..., str], doc: str) -> None:
    def infer(*arguments: Any) -> Any:
        return folded(reference, *arguments) if is_constant(list(arguments)) else ScalarInfo("str")

    declare(*schemas, infer=infer, reference=reference, doc=doc, evaluate_only=True, source=f"{__name__} ({schemas[0]})")


_formatting("aten::str(t elem) -> str", reference=_text, doc="str(elem)")
_formatting("aten::format(str self, ...) -> str", reference=_format, doc="self.format(...)")
_formatting("aten::percentFormat(str self, ...) -> str", reference=_percent_format, doc="self % (...)")


# ------ messages and modes


def _warn(message: str, stacklevel: int) -> None:
    warnings.warn(message, stacklevel=2)


evaluated("aten::warn(str message, int stacklevel=2) -> ()", reference=_warn, doc="warnings.warn", effects=True)
evaluated("aten::is_grad_enabled() -> bool", reference=lambda: False, doc="No gradients are recorded.")
evaluated("aten::set_grad_enabled(bool val) -> ()", reference=lambda val: None, doc="No gradients are recorded.")
evaluated("aten::is_scripting() -> bool", reference=lambda: True, doc="True in every compiled program.")
evaluated("aten::_get_tracing_state() -> bool", reference=lambda: False, doc="False in every compiled program.")
evaluated("aten::is_autocast_enabled() -> bool", reference=lambda: False, doc="There is no autocast.")
evaluated("aten::is_autocast_cpu_enabled() -> bool", reference=lambda: False, doc="There is no autocast.")
evaluated("aten::has_torch_function(...) -> bool", reference=lambda *values: False, doc="No tensor overrides functions.")


# ------ devices, as their names: "cpu", "cuda:1"


def _device(text: str) -> str:
    if re.fullmatch(r"[a-z]+(:\d+)?", text) is None:
        raise RuntimeError(f"Invalid device string: '{text}'")
    return text


def _same_device(a: str, b: str) -> bool:
    return _indexed(a) == _indexed(b)


def _indexed(device: str) -> str:
    return device if ":" in device or device == "cpu" else f"{device}:0"


evaluated("aten::device(str a) -> Device", reference=_device, samples=lambda: [sample("cpu")])
evaluated("aten::device.with_index(str type, int index) -> Device", reference=lambda kind, index: f"{kind}:{index}")
evaluated("prim::type(Device self) -> str", reference=lambda d: d.partition(":")[0])
evaluated("prim::index(Device self) -> int?", reference=lambda d: int(d.partition(":")[2]) if ":" in d else None)
