"""Number and string tokens to Python values.

Script integers have 64 bits. Strings are bytes to TorchScript: a character beyond ASCII is written as such or as
octal escapes of its UTF-8 bytes. The value is the text that those bytes spell; bytes that spell none survive as
lone surrogates ("surrogateescape"), so `value.encode("utf-8", "surrogateescape")` is always what torch holds.
"""

from __future__ import annotations

import re

MAX_INT = 2**63

_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_SIMPLE = {
    "\\": "\\", "'": "'", '"': '"', "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\n": "", "\r": "",
}  # fmt: skip


def number(text: str) -> int | float | complex:
    """The value of a number token; ValueError says what is wrong with it.

    The magnitude 2**63 is let through because `-9223372036854775808` is a minus sign before it.
    """
    if text[-1] in "jJ" and text[:2].lower() != "0x":
        return complex(0.0, float(text[:-1]))
    if text[:2].lower() in ("0x", "0o", "0b"):
        if len(text) > 96:
            raise ValueError("the integer does not fit 64 bits")
        value = int(text, 0)
    elif text.isdigit() or ("_" in text and text.replace("_", "").isdigit()):
        if len(text) > 1 and text[0] == "0" and text.strip("0_"):
            raise ValueError("an integer cannot start with 0")
        if len(text) > 40:
            raise ValueError("the integer does not fit 64 bits")
        value = int(text)
    else:
        if len(text) > 4096:
            raise ValueError("the number is too long")
        return float(text)
    if value > MAX_INT:
        raise ValueError("the integer does not fit 64 bits")
    return value


def string(token: str) -> str:
    """The value of a string token (one character per byte, with its quotes); ValueError on an unknown escape."""
    quotes = 3 if token[:3] in ('"""', "'''") else 1
    body = token[quotes:-quotes]
    if "\\" not in body:
        return body if body.isascii() else body.encode("latin-1").decode("utf-8", "surrogateescape")
    pieces: list[bytes] = []
    position = 0
    for escape in _ESCAPE.finditer(body):
        pieces.append(body[position : escape.start()].encode("latin-1"))
        pieces.append(_unescape(escape))
        position = escape.end()
    pieces.append(body[position:].encode("latin-1"))
    return b"".join(pieces).decode("utf-8", "surrogateescape")


def _unescape(escape: re.Match[str]) -> bytes:
    octal, two, four, eight, simple = escape.groups()
    if octal is not None:
        if int(octal, 8) > 255:
            raise ValueError(f"the escape {escape.group()} is no byte")
        return bytes([int(octal, 8)])
    if simple is not None:
        if simple not in _SIMPLE:
            raise ValueError(f"unknown escape {escape.group()!r} in a string")
        return _SIMPLE[simple].encode()
    code = int(two or four or eight, 16)
    if code > 0x10FFFF:
        raise ValueError(f"the escape {escape.group()} is no character")
    return chr(code).encode("utf-8", "surrogatepass")
