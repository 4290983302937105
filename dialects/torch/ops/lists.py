"""Lists, dictionaries and tuples whose structure is known at compile time.

The rules work on Python's own lists and dicts and write them in place where the op does; elements may be anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepwell.dialects.torch.declare import ScalarInfo, declare, is_constant, sample
from stepwell.dialects.torch.linalg_builder import LinalgBuilder
from stepwell.dialects.torch.ops.numbers import evaluated, folded
from stepwell.dialects.torch.scalar import Scalar
from stepwell.dialects.torch.sizes import Dim

Values = list[Any]


def _equal(a: Any, b: Any) -> bool:
    """Whether two elements are the same value; tensors by identity."""
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    return a is b or bool(a == b)


# ------ lists whose length is only known at run time: values, as nothing mutates in the contract


def _popped(values: Values, index: int) -> tuple[Values, Any]:
    rest = list(values)
    return rest, rest.pop(index)


evaluated("stepwell::list_pop(t[] list, int index) -> (t[], t)", reference=_popped, doc="The list without an element, and it.")
evaluated(
    "stepwell::list_set(t[] list, int index, t value) -> t[]",
    reference=lambda values, index, value: _assign(list(values), [*values[:index], value, *values[index:][1:]]),
    doc="The list with another element at a position.",
)  # fmt: skip
evaluated(
    "stepwell::list_elements(t[] list) -> Tensor", reference=np.stack,
    doc="All elements one after another, tensors of varying sizes flat: how a list leaves a native function.",
)  # fmt: skip
evaluated(
    "stepwell::list_table(t[] list) -> Tensor", reference=lambda values: _table(values),
    doc="Where each element of varying sizes begins in stepwell::list_elements, and its sizes.",
)  # fmt: skip


def _table(values: Values) -> Any:
    starts = np.cumsum([0, *(v.size for v in values)])
    return np.array([[start, *v.shape] for start, v in zip(starts, values, strict=False)], np.int64)


# ------ reading

evaluated(
    "aten::len.t(t[] a) -> int", "aten::len.any(Any[] a) -> int", reference=len, doc="len(a)",
    samples=lambda: [sample([1, 2, 3]), sample([])],
)  # fmt: skip
evaluated(
    "aten::__getitem__.t(t[](a) list, int idx) -> t(*)", "aten::select.t(t[](a) list, int idx) -> t(*)",
    reference=lambda values, index: values[index], doc="list[idx]; an IndexError where it is out of range",
    samples=lambda: [sample([1, 2, 3], -1)],
)  # fmt: skip
evaluated(
    "aten::slice.t(t[] l, int? start=None, int? end=None, int step=1) -> t[]",
    reference=lambda values, start, end, step: list(values[start:end:step]), doc="l[start:end:step]",
    samples=lambda: [sample([1, 2, 3, 4], 1, None, 2), sample([1, 2, 3], -2, 100)],
)  # fmt: skip
evaluated("aten::list.t(t[] l) -> t[]", "aten::copy.t(t[](a) self) -> t[]", reference=list, doc="A shallow copy.")
evaluated(
    "aten::add.t(t[] a, t[] b) -> t[]", reference=lambda a, b: [*a, *b], doc="a + b",
    samples=lambda: [sample([1], [2, 3])],
)  # fmt: skip
evaluated("aten::mul.left_t(t[] l, int n) -> t[]", reference=lambda values, n: list(values) * n, doc="l * n")
evaluated("aten::mul.right_(int n, t[] l) -> t[]", reference=lambda n, values: list(values) * n, doc="n * l")
evaluated("aten::mul_.t(t[](a!) l, int n) -> t[](a!)", reference=lambda values, n: _assign(values, list(values) * n))
for _kind in ("int", "float", "str"):
    evaluated(
        f"aten::__contains__.{_kind}_list({_kind}[] l, {_kind} item) -> bool",
        reference=lambda values, item: any(_equal(v, item) for v in values), doc="item in l",
    )  # fmt: skip
for _kind in ("int", "float", "bool", "str"):
    evaluated(
        f"aten::index.list_{_kind}({_kind}[] self, {_kind} el) -> int",
        reference=lambda values, item: _index(values, item), doc="self.index(el)",
    )  # fmt: skip
    evaluated(
        f"aten::count.{_kind}({_kind}[] self, {_kind} el) -> int",
        reference=lambda values, item: sum(_equal(v, item) for v in values), doc="self.count(el)",
    )  # fmt: skip
    evaluated(
        f"aten::remove.{_kind}({_kind}[](a!) self, {_kind} el) -> ()",
        reference=lambda values, item: _remove(values, item), doc="self.remove(el)",
    )  # fmt: skip
    evaluated(
        f"aten::sorted.{_kind}({_kind}[](a) input) -> {_kind}[]", reference=sorted, doc="sorted(input)",
        samples=lambda: [],
    )  # fmt: skip
    evaluated(
        f"aten::sort.{_kind}({_kind}[](a!) self, bool reverse=False) -> ()",
        reference=lambda values, reverse: values.sort(reverse=reverse), doc="self.sort(reverse)",
    )  # fmt: skip


def _index(values: Values, item: Any) -> int:
    for position, value in enumerate(values):
        if _equal(value, item):
            return position
    raise ValueError(f"'{item}' is not in list")


def _remove(values: Values, item: Any) -> None:
    for position, value in enumerate(values):
        if _equal(value, item):
            del values[position]
            return
    raise ValueError("list.remove(x): x not in list")


# ------ comparison and reduction, element by element where elements are only known at run time


def _equality(name: str, kind: str) -> None:
    expected = name == "eq"

    def reference(a: Values, b: Values) -> bool:
        return _equal(list(a), list(b)) is expected

    def infer(a: Values, b: Values) -> Any:
        if len(a) != len(b):
            return not expected
        if all(is_constant(x) and is_constant(y) for x, y in zip(a, b, strict=True)) or _equal(a, b):
            return reference(a, b)
        if any(is_constant(x) and is_constant(y) and x != y for x, y in zip(a, b, strict=True)):
            return not expected
        return ScalarInfo("bool")

    def lower(b: LinalgBuilder, out: Any, left: Values, right: Values) -> Scalar:
        same = b.scalar(True)
        for x, y in zip(left, right, strict=True):
            p, q = b.scalar(x), b.scalar(y)
            same = same & p.compare("eq", q.cast(p.dtype))
        return same if expected else ~same

    declare(
        f"aten::{name}.{kind}_list({kind}[] a, {kind}[] b) -> bool", infer=infer, reference=reference, lower=lower,
        doc=f"Python's {name} of lists", source=f"{__name__} (aten::{name})",
        samples=lambda: [sample([_LITERAL[kind]], [_LITERAL[kind]]), sample([_LITERAL[kind]], [])],
    )  # fmt: skip


_LITERAL: dict[str, Any] = {"int": 3, "float": 2.5, "bool": True, "str": "a"}
for _name in ("eq", "ne"):
    for _kind in ("int", "float", "bool", "str"):
        _equality(_name, _kind)


def _fold(
    name: str, kind: str, result: str, reference: Callable[[Values], Any], body: Callable[[Scalar, Scalar], Scalar]
) -> None:
    def infer(values: Values) -> Any:
        if is_constant(values):
            return folded(reference, values)
        if result == "int" and all(isinstance(v, (int, Dim)) for v in values):
            return sum(values[1:], start=values[0])
        return ScalarInfo(result)

    def lower(b: LinalgBuilder, out: Any, values: Values) -> Scalar:
        scalars = [b.scalar(v) for v in values]
        if result == "bool":
            scalars = [s.compare("ne", 0) for s in scalars]
        total = scalars[0]
        for value in scalars[1:]:
            total = body(total, value)
        return total

    declare(
        f"aten::{name}.{kind}({kind}[] self) -> {result}", infer=infer, reference=reference, lower=lower,
        doc=f"{name} of a list", source=f"{__name__} (aten::{name})",
        samples=lambda: [sample([_LITERAL[kind], _LITERAL[kind]]), sample([])],
    )  # fmt: skip


for _kind in ("int", "float", "bool"):
    _fold("all", _kind, "bool", lambda v: all(v), lambda p, q: p & q)
    _fold("any", _kind, "bool", lambda v: any(v), lambda p, q: p | q)
_fold("sum", "int", "int", sum, lambda p, q: p + q)
_fold("sum", "float", "float", lambda v: float(sum(v)), lambda p, q: p + q)
evaluated("aten::sum.bool(bool[] self) -> int", reference=lambda v: int(sum(v)), doc="How many hold.")
evaluated("aten::any.str(str[] self) -> bool", reference=lambda v: any(v), doc="any(self)")


# ------ writing


def _assign(values: Values, new: Values) -> Values:
    values[:] = new
    return values


def _append(values: Values, item: Any) -> Values:
    values.append(item)
    return values


def _set(values: Any, key: Any, item: Any) -> Any:
    if isinstance(values, list) and not -len(values) <= key < len(values):
        raise IndexError("list index out of range")
    values[key] = item
    return values


def _delete(values: Any, key: Any) -> None:
    del values[key]


evaluated(
    "aten::append.t(t[](a!) self, t(c -> *) el) -> t[](a!)", reference=_append, doc="self.append(el)",
)  # fmt: skip
evaluated("aten::extend.t(t[](a!) self, t[] other) -> ()", reference=lambda v, other: v.extend(other), doc="extend")
evaluated("aten::add_.t(t[](a!) self, t[] b) -> t[]", reference=lambda v, b: _assign(v, [*v, *b]), doc="self += b")
evaluated("aten::insert.t(t[](a!) self, int idx, t(b -> *) el) -> ()", reference=lambda v, i, x: v.insert(i, x))
evaluated("aten::pop.t(t[](a!) self, int idx=-1) -> t(*)", reference=lambda v, i: v.pop(i), doc="self.pop(idx)")
evaluated("aten::_set_item.t(t[](a!) l, int idx, t(b -> *) el) -> t[](a!)", reference=_set, doc="l[idx] = el")
evaluated("aten::Delete.t(t[](a!) self, int idx) -> ()", reference=_delete, doc="del self[idx]")
evaluated("aten::reverse.t(t[](a!) self) -> ()", reference=lambda v: v.reverse(), doc="self.reverse()")
evaluated("aten::clear.t(t[](a!) self) -> ()", reference=lambda v: v.clear(), doc="self.clear()")


# ------ dictionaries

for _kind in ("str", "int", "bool", "float", "Tensor"):
    _d = f"Dict({_kind}, t)"
    evaluated(f"aten::len.Dict_{_kind}({_d} self) -> int", reference=len, doc="len(self)")
    evaluated(
        f"aten::__getitem__.Dict_{_kind}({_d} self, {_kind} key) -> t(*)", reference=lambda d, k: _lookup(d, k),
        doc="self[key]; a KeyError where it is missing",
    )  # fmt: skip
    evaluated(f"aten::__contains__.{_kind}({_d} dict, {_kind} key) -> bool", reference=lambda d, k: k in d)
    evaluated(f"aten::_set_item.{_kind}({_d}(a!) l, {_kind}(b -> *) idx, t(c -> *) v) -> ()", reference=_set)
    evaluated(f"aten::Delete.Dict_{_kind}({_d}(a!) self, {_kind} key) -> ()", reference=_delete)
    evaluated(f"aten::keys.{_kind}({_d} self) -> {_kind}[](*)", reference=lambda d: list(d))
    evaluated(f"aten::values.{_kind}({_d} self) -> t[](*)", reference=lambda d: list(d.values()))
    evaluated(f"aten::items.{_kind}({_d} self) -> (({_kind}, t)[])", reference=lambda d: list(d.items()))
    evaluated(f"aten::get.{_kind}({_d} self, {_kind} key) -> t(*)?", reference=lambda d, k: d.get(k))
    evaluated(
        f"aten::get.default_{_kind}({_d} self, {_kind} key, t default_value) -> t(*)",
        reference=lambda d, k, otherwise: d.get(k, otherwise),
    )  # fmt: skip
    evaluated(f"aten::pop.Dict_{_kind}({_d}(a!) self, {_kind} key) -> t(*)", reference=lambda d, k: d.pop(k))
    evaluated(
        f"aten::pop.Dict_default_{_kind}({_d}(a!) self, {_kind} key, t default_value) -> t(*)",
        reference=lambda d, k, otherwise: d.pop(k, otherwise),
    )  # fmt: skip
    evaluated(f"aten::popitem.{_kind}({_d}(a!) self) -> (({_kind}, t))", reference=lambda d: d.popitem())
    evaluated(
        f"aten::setdefault.{_kind}({_d}(a!) self, {_kind}(b -> *) key, t(c -> *) default_value) -> t(*)",
        reference=lambda d, k, otherwise: d.setdefault(k, otherwise),
    )  # fmt: skip
    evaluated(f"aten::update.{_kind}({_d}(a!) self, {_d}(a!) to_add) -> ()", reference=lambda d, o: d.update(o))
    evaluated(f"aten::clear.{_kind}({_d}(a!) self) -> ()", reference=lambda d: d.clear())
    evaluated(f"aten::copy.Dict_{_kind}({_d}(a) self) -> {_d}", reference=dict)
    evaluated(f"aten::dict.Dict_{_kind}({_d}(a) self) -> {_d}", reference=dict)
    evaluated(f"aten::dict.{_kind}(({_kind}, tVal)[] inputs) -> Dict({_kind}, tVal)", reference=dict)
evaluated("aten::dict() -> Dict(str, Tensor)", reference=dict, doc="{}")


def _lookup(values: dict[Any, Any], key: Any) -> Any:
    if key not in values:
        raise KeyError(key)
    return values[key]


# ------ identity, optionals


def _is(a: Any, b: Any) -> bool:
    if isinstance(a, (bool, int, float, str)) and isinstance(b, (bool, int, float, str)):
        return type(a) is type(b) and a == b
    return a is b


evaluated("aten::__is__(t1 self, t2 obj) -> bool", reference=_is, doc="self is obj", samples=lambda: [sample(3, None)])
evaluated("aten::__isnot__(t1 self, t2 obj) -> bool", reference=lambda a, b: not _is(a, b), doc="self is not obj")


def _unwrap(value: Any) -> Any:
    if value is None:
        raise ValueError("Unwrapping null optional")
    return value


evaluated("aten::_unwrap_optional(t(a)? optional) -> t(a)", reference=_unwrap, doc="The value, which must not be None.")
evaluated("prim::unchecked_unwrap_optional(t(a)? optional) -> t(a)", reference=lambda v: v, doc="The value.")
evaluated("prim::unchecked_cast(t x) -> t", reference=lambda v: v, doc="The value, under a narrower type.")
evaluated("prim::rangelist(int n) -> int[]", reference=lambda n: list(range(n)), doc="list(range(n))")
evaluated("aten::Size(int[] sizes) -> int[]", reference=list, doc="The sizes themselves.")
evaluated(
    "prim::ReductionSizes(int[] size, int[] red_axes, bool keepdim=False) -> int[]",
    reference=lambda sizes, axes, keep: [1 if d in axes else s for d, s in enumerate(sizes) if keep or d not in axes],
    doc="Sizes after a reduction.",
)  # fmt: skip
evaluated("aten::hash.generic(t value) -> int", reference=hash, doc="hash(value)")

