"""How a method ends: its results flattened, with a template that says how Python rebuilds them.

The ways through a method become one where their results have one structure. Where they have not (tensors of
different ranks, None or a tensor), every way has results of its own, and a bool says which way was taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from xdsl.ir import SSAValue

from stepwell.dialects.torch import operations
from stepwell.dialects.torch.builder import Value
from stepwell.dialects.torch.sizes import Dim
from stepwell.lowering.torch.specialize import dynamic_lists
from stepwell.lowering.torch.specialize.control import Control, Leaf, parted
from stepwell.lowering.torch.specialize.join import append_if
from stepwell.lowering.torch.specialize.run_time_lists import materialize
from stepwell.lowering.torch.specialize.tensors import read
from stepwell.lowering.torch.specialize.values import (
    Abstract,
    CannotJoin,
    CannotSpecialize,
    DictRef,
    DynamicList,
    Format,
    ListRef,
    ObjectRef,
    Path,
    Split,
    TensorRef,
)


@dataclass
class Template:
    """How a result is rebuilt: {"leaf": n}, {"const": v}, {"tuple": [...]}, {"list": [...]}, {"dict": [[k, v]]}.

    Lists of run-time length: see `_run_time_list`.
    """

    path: Path
    leaves: list[SSAValue] = field(default_factory=list)

    def of(self, value: Abstract) -> dict[str, Any]:
        if isinstance(value, TensorRef):
            return self.contents(read(self.path, value))
        if isinstance(value, (Value, Dim)):
            return self._leaf(self.path.builder.materialize(value))
        if isinstance(value, tuple):
            return {"tuple": [self.of(v) for v in value]}
        if isinstance(value, ListRef):
            known = self.path.store.lists[value.number]
            if isinstance(known, DynamicList):
                return self._run_time_list(known)
            return {"list": [self.of(v) for v in known]}
        if isinstance(value, DictRef):
            return {"dict": [[k, self.of(v)] for k, v in self.path.store.dicts[value.number].items()]}
        if isinstance(value, (ObjectRef, Format)) or not isinstance(value, (int, float, str, bool, type(None))):
            raise CannotSpecialize(f"a {type(value).__name__} is returned")
        return {"const": value}

    def _run_time_list(self, known: DynamicList) -> dict[str, Any]:
        """{"numbers": leaf}, {"rows": leaf}, or {"pieces": [leaf of the elements, leaf of the table]}."""
        elements = self._leaf(dynamic_lists.elements(self.path, known).ssa)
        if isinstance(known.element, str):
            return {"numbers": elements}
        if all(isinstance(s, int) for s in known.element.sizes):
            return {"rows": elements}
        return {"pieces": [elements, self._leaf(dynamic_lists.table(self.path, known).ssa)]}

    def contents(self, value: Value) -> dict[str, Any]:
        return self._leaf(value.ssa)

    def _leaf(self, ssa: SSAValue) -> dict[str, Any]:
        self.leaves.append(ssa)
        return {"leaf": len(self.leaves) - 1}


@dataclass
class Ended:
    """Where all ways of a region have come to: the path that goes on, its results and their leaves."""

    path: Path
    results: dict[str, Any]
    leaves: list[SSAValue]


@dataclass
class Ends:
    """Joins the ways through a method. `outcome(path, returned)` flattens what one of them gives."""

    control: Control
    outcome: Callable[[Path, Abstract], tuple[dict[str, Any], list[SSAValue]]]

    def close(self, leaves: list[Leaf]) -> Ended | None:
        """The end of the method; None if it always raises."""
        closed = self._close(leaves, 0)
        return closed if closed is None or isinstance(closed, Ended) else self._ended(closed)

    def _ended(self, leaf: Leaf) -> Ended:
        path, values = leaf
        return Ended(path, *self.outcome(path, values[0] if values else None))

    def _close(self, leaves: list[Leaf], depth: int) -> Leaf | Ended | None:
        if not leaves:
            return None
        first = leaves[0][0]
        if len(leaves) == 1 and len(first.splits) == depth:
            return leaves[0]
        split, sides = parted(leaves, depth)
        then, otherwise = (self._close(side, depth + 1) for side in sides)
        if not isinstance(then, Ended) and not isinstance(otherwise, Ended):
            try:
                # Nothing is written any more: how the results alias does not matter.
                return self.control.join(split, then, otherwise, strict=False)
            except CannotJoin:
                pass
        return self._apart(split, then, otherwise)

    def _apart(self, split: Split, then: Leaf | Ended | None, otherwise: Leaf | Ended | None) -> Ended:
        """An If whose branches give their own results; those of the other branch are undefined."""
        a, b = (end if end is None or isinstance(end, Ended) else self._ended(end) for end in (then, otherwise))
        known = [end for end in (a, b) if end is not None]
        types = [v.type for end in known for v in end.leaves]
        for which, end in enumerate((a, b)):
            builder = end.path.builder if end is not None else split.builder(which)
            own = iter(end.leaves if end is not None else ())
            operands = [
                next(own) if at is end else materialize(builder, None, leaf.type) for at in known for leaf in at.leaves
            ]
            flag = [builder.constant(which == 0)] if len(known) == 2 else []
            builder.place(operations.IfYield.create(operands=[*flag, *operands]))
        flagged = [operations.ConstantBool.result_type] if len(known) == 2 else []
        leaves = append_if(split, [*flagged, *types])
        path = known[0].path
        after = Path(split.parent, path.store, {}, {}, {}, path.splits[:-1])
        if len(known) == 1:
            return Ended(after, known[0].results, leaves)
        parts = shifted(known[0].results, 1), shifted(known[1].results, 1 + len(known[0].leaves))
        results = {
            "choice": 0, "then": parts[0], "otherwise": parts[1], "returns": {"const": None}, "state": [],
            "written": [*parts[0]["written"], *parts[1]["written"]],
        }  # fmt: skip
        return Ended(after, results, leaves)


def shifted(part: Any, by: int) -> Any:
    """Results or a template whose leaves begin `by` places later."""
    if isinstance(part, dict):
        if "choice" in part:
            return {k: v + by if k == "choice" else shifted(v, by) for k, v in part.items()}
        return {k: v + by if k == "leaf" else v if k == "const" else shifted(v, by) for k, v in part.items()}
    if isinstance(part, list):
        return [shifted(v, by) for v in part]
    return part
