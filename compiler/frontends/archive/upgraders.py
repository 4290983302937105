"""Operators that meant something else in older archives, and the functions that replace them.

An archive of version v uses the old meaning of an operator that was bumped at a version above v. The table and the
functions are those of torch 2.13 (`torch._C._get_operator_version_map`, `torch._C._get_upgraders_entry_map`); a test
compares them where torch is present.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache

from stepwell.compiler.frontends.parser import parse_module


@dataclass(frozen=True)
class Upgrader:
    """In archives before version `bumped_at`, `op` with `overload` had the schema `old_schema` and is replaced by a
    call of the function `name` with the same arguments (defaults taken from the old schema).
    """

    op: str
    overload: str
    bumped_at: int
    name: str
    old_schema: str


_FACTORY = "ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None"

UPGRADERS: tuple[Upgrader, ...] = tuple(
    Upgrader(f"aten::{op}", overload, bumped_at, name, f"aten::{op}{'.' * bool(overload)}{overload}{signature}")
    for op, overload, bumped_at, name, signature in (
        ("div", "Tensor", 4, "div_Tensor_0_3", "(Tensor self, Tensor other) -> Tensor"),
        ("div", "Scalar", 4, "div_Scalar_0_3", "(Tensor self, Scalar other) -> Tensor"),
        (
            "div", "Tensor_mode", 4, "div_Tensor_mode_0_3",
            "(Tensor self, Tensor other, *, str? rounding_mode) -> Tensor",
        ),
        (
            "div", "Scalar_mode", 4, "div_Scalar_mode_0_3",
            "(Tensor self, Scalar other, *, str? rounding_mode) -> Tensor",
        ),
        ("div", "out", 4, "div_out_0_3", "(Tensor self, Tensor other, *, Tensor(a!) out) -> Tensor(a!)"),
        (
            "div", "out_mode", 4, "div_out_mode_0_3",
            "(Tensor self, Tensor other, *, str? rounding_mode, Tensor(a!) out) -> Tensor(a!)",
        ),
        ("div_", "Tensor", 4, "div__Tensor_0_3", "(Tensor(a!) self, Tensor other) -> Tensor(a!)"),
        ("div_", "Scalar", 4, "div__Scalar_0_3", "(Tensor(a!) self, Scalar other) -> Tensor(a!)"),
        (
            "div_", "Tensor_mode", 4, "div__Tensor_mode_0_3",
            "(Tensor(a!) self, Tensor other, *, str? rounding_mode) -> Tensor(a!)",
        ),
        (
            "div_", "Scalar_mode", 4, "div__Scalar_mode_0_3",
            "(Tensor(a!) self, Scalar other, *, str? rounding_mode) -> Tensor(a!)",
        ),
        ("full", "", 5, "full_0_4", f"(int[] size, Scalar fill_value, *, {_FACTORY}) -> Tensor"),
        ("full", "out", 5, "full_out_0_4", "(int[] size, Scalar fill_value, *, Tensor(a!) out) -> Tensor(a!)"),
        (
            "linspace", "", 8, "linspace_0_7",
            f"(Scalar start, Scalar end, int? steps=None, *, {_FACTORY}) -> Tensor",
        ),
        (
            "linspace", "out", 8, "linspace_out_0_7",
            "(Scalar start, Scalar end, int? steps=None, *, Tensor(a!) out) -> Tensor(a!)",
        ),
        (
            "logspace", "", 9, "logspace_0_8",
            f"(Scalar start, Scalar end, int? steps=None, float base=10.0, *, {_FACTORY}) -> Tensor",
        ),
        (
            "logspace", "out", 9, "logspace_out_0_8",
            "(Scalar start, Scalar end, int? steps=None, float base=10.0, *, Tensor(a!) out) -> Tensor(a!)",
        ),
        ("gelu", "", 10, "gelu_0_9", "(Tensor self) -> Tensor"),
        ("gelu", "out", 10, "gelu_out_0_9", "(Tensor self, *, Tensor(a!) out) -> Tensor"),
    )
)  # fmt: skip

_DIV = """
def div{x}_Tensor_0_3(self: Tensor, other: Tensor) -> Tensor:
  if (self.is_floating_point() or other.is_floating_point()):
    return self.true_divide{x}(other)
  return self.divide{x}(other, rounding_mode='trunc')

def div{x}_Scalar_0_3(self: Tensor, other: number) -> Tensor:
  if (self.is_floating_point() or isinstance(other, float)):
    return self.true_divide{x}(other)
  return self.divide{x}(other, rounding_mode='trunc')

def div{x}_Tensor_mode_0_3(self: Tensor, other: Tensor, *, rounding_mode: Optional[str]=None) -> Tensor:
  return self.divide{x}(other, rounding_mode=rounding_mode)

def div{x}_Scalar_mode_0_3(self: Tensor, other: number, *, rounding_mode: Optional[str]=None) -> Tensor:
  return self.divide{x}(other, rounding_mode=rounding_mode)
"""

SOURCE = (
    _DIV.format(x="")
    + _DIV.format(x="_")
    + """
def div_out_0_3(self: Tensor, other: Tensor, *, out: Tensor) -> Tensor:
  if (self.is_floating_point() or other.is_floating_point() or out.is_floating_point()):
    return self.true_divide(other, out=out)
  return self.divide(other, rounding_mode='trunc', out=out)

def div_out_mode_0_3(self: Tensor, other: Tensor, *, rounding_mode: Optional[str]=None, out: Tensor) -> Tensor:
  return self.divide(other, rounding_mode=rounding_mode, out=out)

def full_0_4(size:List[int], fill_value:number, *, dtype:Optional[int]=None,
             layout:Optional[int]=None, device:Optional[Device]=None,
             pin_memory:Optional[bool]=None) -> Tensor:
  if dtype is None:
    fill_value = float(fill_value)
  return torch.full(size, fill_value, dtype=dtype, layout=layout, device=device, pin_memory=pin_memory)

def full_names_0_4(size:List[int], fill_value:number, *, names:Optional[List[str]]=None,
                   dtype:Optional[int]=None, layout:Optional[int]=None, device:Optional[Device]=None,
                   pin_memory:Optional[bool]=None) -> Tensor:
  if dtype is None:
    fill_value = float(fill_value)
  return torch.full(size, fill_value, dtype=dtype, layout=layout, device=device, pin_memory=pin_memory)

def full_out_0_4(size:List[int], fill_value:number, *, out:Tensor) -> Tensor:
  return torch.full(size, fill_value, out=out)

def linspace_0_7(start: Union[int, float, complex], end: Union[int, float, complex], steps: Optional[int], *,
                 dtype: Optional[int], layout: Optional[int], device: Optional[Device], pin_memory: Optional[bool]):
  if (steps is None):
    return torch.linspace(start=start, end=end, steps=100, dtype=dtype, layout=layout, device=device,
                          pin_memory=pin_memory)
  return torch.linspace(start=start, end=end, steps=steps, dtype=dtype, layout=layout, device=device,
                        pin_memory=pin_memory)

def linspace_out_0_7(start: Union[int, float, complex], end: Union[int, float, complex], steps: Optional[int], *,
                     out: Tensor):
  if (steps is None):
    return torch.linspace(start=start, end=end, steps=100, out=out)
  return torch.linspace(start=start, end=end, steps=steps, out=out)

def logspace_0_8(start: Union[int, float, complex], end: Union[int, float, complex], steps: Optional[int],
                 base: float, *, dtype: Optional[int], layout: Optional[int], device: Optional[Device],
                 pin_memory: Optional[bool]):
  if (steps is None):
    return torch.logspace(start=start, end=end, steps=100, base=base, dtype=dtype, layout=layout, device=device,
                          pin_memory=pin_memory)
  return torch.logspace(start=start, end=end, steps=steps, base=base, dtype=dtype, layout=layout, device=device,
                        pin_memory=pin_memory)

def logspace_out_0_8(start: Union[int, float, complex], end: Union[int, float, complex], steps: Optional[int],
                     base: float, *, out: Tensor):
  if (steps is None):
    return torch.logspace(start=start, end=end, steps=100, base=base, out=out)
  return torch.logspace(start=start, end=end, steps=steps, base=base, out=out)

def gelu_0_9(self: Tensor) -> Tensor:
  return torch.gelu(self, approximate='none')

def gelu_out_0_9(self: Tensor, *, out: Tensor) -> Tensor:
  return torch.gelu(self, approximate='none', out=out)
"""
)
"""The replacements as script functions. They are written against the current operators."""


@cache
def _table() -> dict[tuple[str, str], Upgrader]:
    return {(u.op, u.overload): u for u in UPGRADERS}


@cache
def _functions() -> dict[str, ast.FunctionDef]:
    nodes = parse_module(SOURCE, "<upgraders>").body
    return {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}


def upgrade(op_name: str, overload: str, version: int) -> str | None:
    """The function that replaces an operator ("aten::div", "Tensor") in an archive of a version; None if it is as
    it was.
    """
    found = _table().get((op_name, overload))
    return found.name if found is not None and version < found.bumped_at else None


def old_schemas(op_name: str, version: int) -> list[Upgrader]:
    """The overloads of an operator that an archive of a version calls by old schemas."""
    return [u for u in UPGRADERS if u.op == op_name and version < u.bumped_at]


def definition(name: str) -> ast.FunctionDef:
    """The definition of a replacement function; KeyError for a name that `upgrade` never gives."""
    return _functions()[name]
