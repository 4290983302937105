"""How TorchScript names what a program raises."""

from __future__ import annotations

DEFAULT = "builtins.RuntimeError"

_ASSERTION = "AssertionError: "


def exception_of(message: str, name: str | None) -> tuple[str, str]:
    """Python's type and text of a prim.RaiseException.

    `raise` names the type; `assert` names none and begins its text with it.
    """
    if name:
        return name, message
    if message.startswith(_ASSERTION):
        return "builtins.AssertionError", message.removeprefix(_ASSERTION)
    return DEFAULT, message
