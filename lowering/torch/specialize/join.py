"""Where paths meet: two heaps and two lists of values become one, and a torch.prim.If carries what differs.

Two paths join if their values have the same structure: equal types, ranks, dtypes, list lengths and the same
aliasing. Sizes and numbers may differ; they become symbols. What cannot join stays two paths (`Split`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from xdsl.ir import Attribute, Operation, Region, SSAValue

from stepwell.dialects.torch import operations, types
from stepwell.dialects.torch.builder import TorchBuilder, Value, static_type, vtensor_of
from stepwell.dialects.torch.declare import ScalarInfo, TensorInfo
from stepwell.dialects.torch.sizes import Dim, Size, Symbol, bounds
from stepwell.lowering.torch.specialize.run_time_lists import common_element, dynamic_list, list_type, materialize
from stepwell.lowering.torch.specialize.tensors import current, read
from stepwell.lowering.torch.specialize.values import (
    UNDEFINED,
    Abstract,
    CannotJoin,
    DictRef,
    DynamicList,
    Format,
    ListRef,
    ObjectRef,
    Path,
    Split,
    Store,
    TensorRef,
    fresh_number,
)


@dataclass
class Slot:
    """One result of the If: its value on either side (None: not defined there) and its joined facts."""

    then: Any
    otherwise: Any
    type: Attribute
    make: Any = None


@dataclass
class Joiner:
    """Joins abstract values of two paths; collects the If results that this needs.

    `strict` (the program writes tensors in place): references may only join if aliasing agrees.
    """

    then: Path
    otherwise: Path
    strict: bool
    slots: list[Slot] = field(default_factory=list)
    pairs: dict[tuple[str, int], int] = field(default_factory=dict)
    merged: dict[tuple[int, int], int] = field(default_factory=dict)
    shared: dict[tuple[int, int], Slot] = field(default_factory=dict)
    store: Store = field(default_factory=Store)
    pending: list[tuple[str, int, Any]] = field(default_factory=list)

    # ------ values

    def value(self, a: Abstract, b: Abstract) -> Abstract:
        """A placeholder (or final value) for what is `a` on one side and `b` on the other."""
        if a is UNDEFINED:
            return self._one_sided(b, then=False)
        if b is UNDEFINED:
            return self._one_sided(a, then=True)
        if isinstance(a, TensorRef) and isinstance(b, TensorRef):
            return self._tensor(a, b)
        if isinstance(a, ListRef) and isinstance(b, ListRef):
            return ListRef(self._paired("list", a.number, b.number))
        if isinstance(a, DictRef) and isinstance(b, DictRef):
            return DictRef(self._paired("dict", a.number, b.number))
        if isinstance(a, ObjectRef) and isinstance(b, ObjectRef):
            if a.class_name != b.class_name:
                raise CannotJoin(f"an object of {a.class_name} and one of {b.class_name}")
            return ObjectRef(self._paired("object", a.number, b.number), a.class_name)
        if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
            return tuple(self.value(x, y) for x, y in zip(a, b, strict=True))
        return self._scalar(a, b)

    def _one_sided(self, value: Abstract, then: bool) -> Abstract:
        """A value that exists on one side only: it comes through the If as it is."""
        if isinstance(value, TensorRef):
            side = self.then if then else self.otherwise
            other = self.otherwise if then else self.then
            if value.storage in other.store.tensors:
                return value
            contents = read(side, value)
            return self._tensor_slot(contents if then else None, None if then else contents, contents.tensor)
        if isinstance(value, tuple):
            return tuple(self._one_sided(v, then) for v in value)
        if isinstance(value, (ListRef, DictRef, ObjectRef)):
            kind = {ListRef: "list", DictRef: "dict", ObjectRef: "object"}[type(value)]
            number = self._paired(kind, value.number if then else -1, -1 if then else value.number)
            return ObjectRef(number, value.class_name) if isinstance(value, ObjectRef) else type(value)(number)
        if isinstance(value, Value) and isinstance(value.info, ScalarInfo):
            return self._slot(value if then else None, None if then else value, value.ssa.type)
        if isinstance(value, Dim):
            return self._slot(value if then else None, None if then else value, types.INT)
        return value

    def _scalar(self, a: Abstract, b: Abstract) -> Abstract:
        if type(a) is type(b) and not isinstance(a, Value) and _equal(a, b):
            return a
        if isinstance(a, Value) and a is b:
            return a
        type_ = _scalar_type(a)
        if type_ is None or type_ != _scalar_type(b):
            raise CannotJoin(f"{_describe(a)} and {_describe(b)}")
        return self._slot(a, b, type_)

    def _slot(self, a: Any, b: Any, type_: Attribute) -> Abstract:
        slot = Slot(a, b, type_)
        self.slots.append(slot)
        return slot

    # ------ tensors

    def _tensor(self, a: TensorRef, b: TensorRef) -> TensorRef | Slot:
        a, b = current(self.then, a), current(self.otherwise, b)
        if a == b:
            self._storage(a.storage)
            return a
        if self.strict and not self._fresh(a, b):
            raise CannotJoin("tensors that alias differently in the two branches, in a program that writes in place")
        key = (a.storage, b.storage)
        if key in self.shared and not a.chain and not b.chain:
            return self.shared[key]
        x, y = read(self.then, a), read(self.otherwise, b)
        joined = self._tensor_slot(x, y, _joined_info(x.tensor, y.tensor))
        if not a.chain and not b.chain:
            self.shared[key] = joined
        return joined

    def _fresh(self, a: TensorRef, b: TensorRef) -> bool:
        """Both made inside their branches, each joined with one partner only, and no views."""
        if a.chain or b.chain or a.storage in self.otherwise.store.tensors or b.storage in self.then.store.tensors:
            return False
        for key, other in ((("then", a.storage), b.storage), (("else", b.storage), a.storage)):
            if self.pairs.setdefault(key, other) != other:
                return False
        return True

    def _tensor_slot(self, x: Value | None, y: Value | None, info: TensorInfo) -> Slot:
        slot = Slot(x, y, vtensor_of(info))
        slot.make = info
        self.slots.append(slot)
        return slot

    def _storage(self, number: int) -> None:
        """A storage that both sides know, with maybe different contents."""
        if number in self.store.tensors or any(k == "tensor" and n == number for k, n, _ in self.pending):
            return
        x, y = self.then.store.tensors[number], self.otherwise.store.tensors[number]
        if x.ssa is y.ssa:
            self.store.tensors[number] = x
        else:
            self.pending.append(("tensor", number, self._tensor_slot(x, y, _joined_info(x.tensor, y.tensor))))

    # ------ containers

    def _paired(self, kind: str, a: int, b: int) -> int:
        """The joined container of containers a and b (-1: exists on one side only)."""
        number = a if a == b else self.merged.get((a, b), 0)
        if number and (a != b or self._has(kind, number)):
            return number
        if a != b:
            for key, other in (((kind + "then", a), b), ((kind + "else", b), a)):
                if key[1] != -1 and self.pairs.setdefault(key, other) != other:
                    raise CannotJoin(f"a {kind} that aliases differently in the two branches")
            number = fresh_number()
            self.merged[a, b] = number
        table_a, table_b = getattr(self.then.store, kind + "s"), getattr(self.otherwise.store, kind + "s")
        x, y = table_a.get(a), table_b.get(b)
        if x is None or y is None:
            x = y = x if x is not None else y
            if x is None:
                raise CannotJoin(f"a {kind} that exists on no side")
            only = a != -1 and table_a.get(a) is not None
            contents = _map_container(x, lambda v: self._one_sided(v, then=only))
        else:
            contents = self._containers(kind, x, y, number)
        self.pending.append((kind, number, contents))
        return number

    def _has(self, kind: str, number: int) -> bool:
        return number in getattr(self.store, kind + "s") or any(k == kind and n == number for k, n, _ in self.pending)

    def _containers(self, kind: str, x: Any, y: Any, number: int) -> Any:
        if kind == "list":
            if isinstance(x, DynamicList) and isinstance(y, DynamicList):
                return x if x.ssa is y.ssa else self._dynamic(x, y)
            if isinstance(x, DynamicList) or isinstance(y, DynamicList) or len(x) != len(y):
                return self._lengths(x, y)
            self.pending.append((kind, number, []))
            joined = [self.value(p, q) for p, q in zip(x, y, strict=True)]
            self.pending.remove((kind, number, []))
            return joined
        if list(x) != list(y) and set(x) != set(y):
            raise CannotJoin(f"{kind}s with different keys")
        placeholder: dict[Any, Any] = {}
        self.pending.append((kind, number, placeholder))
        for key in x:
            placeholder[key] = self.value(x[key], y[key])
        self.pending.pop(next(i for i, p in enumerate(self.pending) if p[2] is placeholder))
        return placeholder

    def _lengths(self, x: Any, y: Any) -> Slot:
        """Lists of different lengths: from here on one whose length is only known at run time."""
        element = common_element(None, (self.then, x), (self.otherwise, y))
        made = dynamic_list(self.then, x, element), dynamic_list(self.otherwise, y, element)
        self.store.frozen |= self.then.store.frozen | self.otherwise.store.frozen
        slot = Slot(*made, list_type(element))
        slot.make = element
        self.slots.append(slot)
        return slot

    def _dynamic(self, x: DynamicList, y: DynamicList) -> Slot:
        if x.element != y.element:
            raise CannotJoin("lists of different elements")
        slot = Slot(x, y, x.ssa.type)
        slot.make = x.element
        self.slots.append(slot)
        return slot


def _map_container(container: Any, change: Any) -> Any:
    if isinstance(container, list):
        return [change(v) for v in container]
    if isinstance(container, dict):
        return {k: change(v) for k, v in container.items()}
    return container


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, float):
        return repr(a) == repr(b)
    return bool(a == b)


def _scalar_type(value: Any) -> Attribute | None:
    if isinstance(value, Value):
        return value.ssa.type
    if isinstance(value, (bool, int, float, Dim)):
        return static_type(value)
    return None


def _describe(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__} ({value!r:.60})"


def _joined_info(a: TensorInfo, b: TensorInfo) -> TensorInfo:
    if a.dtype != b.dtype:
        raise CannotJoin(f"tensors of dtype {a.dtype} and {b.dtype}")
    if a.rank != b.rank:
        raise CannotJoin(f"tensors of rank {a.rank} and {b.rank}")
    return a.with_sizes(_joined_size(x, y) for x, y in zip(a.sizes, b.sizes, strict=True))


def _joined_size(a: Size, b: Size) -> Size:
    if a == b:
        return a
    (low_a, high_a), (low_b, high_b) = bounds(a), bounds(b)
    return Dim.of(Symbol("s", max(0, min(low_a, low_b)), max(high_a, high_b)))


def join_split(
    split: Split, then: Path | None, otherwise: Path | None, a: list[Abstract], b: list[Abstract], strict: bool
) -> tuple[Path, list[Abstract]]:
    """Close a Split: emit its If in the parent block and go on there with the joined state.

    `a` and `b` are the values that either path brings; None for a path that has raised.
    Raises CannotJoin, leaving everything as it was.
    """
    if then is None or otherwise is None:
        return _close_one_sided(split, then, otherwise, a if then is not None else b)
    joiner = Joiner(then, otherwise, strict)
    if then.store.reshaped != otherwise.store.reshaped:
        raise CannotJoin("tensors that one of the branches gives other sizes in place")
    joiner.store.reshaped = then.store.reshaped
    joiner.store.frozen = then.store.frozen | otherwise.store.frozen
    values = [joiner.value(x, y) for x, y in zip(a, b, strict=True)]
    _join_roots(joiner)
    return _emit(split, joiner, values)


def _join_roots(joiner: Joiner) -> None:
    """Containers and storages that both heaps know stay; those of one side live on only if reached."""
    for kind in ("list", "dict", "object"):
        mine, other = getattr(joiner.then.store, kind + "s"), getattr(joiner.otherwise.store, kind + "s")
        for number in mine:
            if number in other and not joiner._has(kind, number):
                joiner._paired(kind, number, number)
    for number in joiner.then.store.tensors:
        if number in joiner.otherwise.store.tensors:
            joiner._storage(number)


def _emit(split: Split, joiner: Joiner, values: list[Any]) -> tuple[Path, list[Any]]:
    slots = _distinct(joiner.slots)
    for block, side, pick in ((split.then, joiner.then, 0), (split.otherwise, joiner.otherwise, 1)):
        _terminate(side, [(s.then, s.otherwise)[pick] for s in slots], [s.type for s in slots])
        assert block is side.builder.block
    results = append_if(split, [s.type for s in slots])
    parent = split.parent
    final = {id(s): _result(parent, s, r, joiner) for s, r in zip(slots, results, strict=True)}
    path = Path(parent, joiner.store, {}, _common_facts(joiner.then, joiner.otherwise), {}, joiner.then.splits[:-1])
    resolve = _Resolver(path, final, joiner)
    for kind, number, contents in joiner.pending:
        table = getattr(path.store, kind + "s")
        table[number] = resolve.contents(contents)
    path.relations = {k: v for k, v in joiner.then.relations.items() if joiner.otherwise.relations.get(k) is v}
    return path, [resolve.value(v) for v in values]


def _distinct(slots: list[Slot]) -> list[Slot]:
    return list({id(s): s for s in slots}.values())


def _terminate(path: Path, values: list[Any], wanted: list[Attribute]) -> None:
    operands = [materialize(path.builder, v, t) for v, t in zip(values, wanted, strict=True)]
    path.builder.place(operations.IfYield.create(operands=operands))


def append_if(split: Split, result_types: list[Attribute]) -> list[SSAValue]:
    """The If of a split, its branches complete, in the block where they part; gives its results."""
    created: Operation = operations.If.create(
        operands=[split.condition], result_types=result_types, regions=[Region([split.then]), Region([split.otherwise])]
    )
    if split.location is not None:
        created.location = split.location
    split.parent.block.add_op(created)
    return list(created.results)


def _result(builder: TorchBuilder, slot: Slot, result: SSAValue, joiner: Joiner) -> Any:
    if isinstance(slot.make, TensorInfo) and isinstance(result.type, types.ValueTensorType):
        return Value(result, bind_sizes(builder, result, slot.make))
    if isinstance(result.type, types.ListType):
        return DynamicList(result, slot.make)
    return scalar_of(builder, result)


def scalar_of(builder: TorchBuilder, result: SSAValue) -> Any:
    """The abstract value of a run-time scalar."""
    if result.type == types.INT:
        return builder.fresh("i", result)
    kind = {types.FLOAT: "float", types.BOOL: "bool", types.STRING: "str"}[result.type]  # type: ignore[index]
    return Value(result, ScalarInfo(kind))


def bind_sizes(builder: TorchBuilder, value: SSAValue, info: TensorInfo) -> TensorInfo:
    """Give every new symbol among a tensor's sizes its value: the size of that dimension."""
    for dim, size in enumerate(info.sizes):
        if isinstance(size, Dim) and len(size.terms) == 1 and size.symbols():
            symbol = size.symbols()[0]
            if size == Dim.of(symbol) and builder._known(symbol) is None:
                builder.define(symbol, builder.size_of(value, dim))
    return info


@dataclass
class _Resolver:
    """Puts the If's results where placeholders stand."""

    path: Path
    final: dict[int, Any]
    joiner: Joiner
    storages: dict[int, TensorRef] = field(default_factory=dict)

    def value(self, value: Any) -> Any:
        if isinstance(value, Slot):
            made = self.final[id(value)]
            if isinstance(made, Value) and isinstance(made.info, TensorInfo):
                if id(value) not in self.storages:
                    number = fresh_number()
                    self.path.store.tensors[number] = made
                    self.storages[id(value)] = TensorRef(number)
                return self.storages[id(value)]
            return made
        if isinstance(value, tuple):
            return tuple(self.value(v) for v in value)
        if isinstance(value, TensorRef) and value.storage not in self.path.store.tensors:
            for side in (self.joiner.then, self.joiner.otherwise):
                if value.storage in side.store.tensors:
                    self.path.store.tensors.setdefault(value.storage, side.store.tensors[value.storage])
        return value

    def contents(self, contents: Any) -> Any:
        if isinstance(contents, Slot):
            return self.final[id(contents)]
        return _map_container(contents, self.value)


def _common_facts(a: Path, b: Path) -> dict[Symbol, Size]:
    return {k: v for k, v in a.facts.items() if b.facts.get(k) == v}


def _close_one_sided(
    split: Split, then: Path | None, otherwise: Path | None, values: list[Abstract]
) -> tuple[Path, list[Abstract]]:
    """One branch has raised: what the other computed comes out as it is."""
    alive = then if then is not None else otherwise
    assert alive is not None
    outside = split.parent
    outputs: list[tuple[SSAValue, Attribute]] = []
    mapping: dict[SSAValue, int] = {}

    def export(ssa: SSAValue) -> None:
        if ssa not in mapping:
            mapping[ssa] = len(outputs)
            outputs.append((ssa, ssa.type))

    inside = _defined_inside(alive, split)
    walker = _Exporter(alive, inside, export)
    for v in values:
        walker.value(v)
    for contents in (*alive.store.lists.values(), *alive.store.dicts.values(), *alive.store.objects.values()):
        walker.container(contents)
    for value in alive.store.tensors.values():
        walker.tensor(value)
    result_types = [t for _, t in outputs]
    for block, path in ((split.then, then), (split.otherwise, otherwise)):
        if path is not None:
            path.builder.place(operations.IfYield.create(operands=[v for v, _ in outputs]))
        else:
            blank = TorchBuilder(block)
            blank.place(operations.IfYield.create(operands=[materialize(blank, None, t) for t in result_types]))
    results = append_if(split, result_types)
    replaced = {ssa: results[i] for ssa, i in mapping.items()}
    alive.builder.export_to(outside, replaced)
    renamer = _Renamer(replaced)
    path = Path(
        outside, Store(
            {k: renamer.value(v) for k, v in alive.store.tensors.items()},
            {k: renamer.contents(v) for k, v in alive.store.lists.items()},
            {k: renamer.contents(v) for k, v in alive.store.dicts.items()},
            {k: renamer.contents(v) for k, v in alive.store.objects.items()}, alive.store.frozen,
            alive.store.reshaped,
        ), {}, alive.facts,
        {replaced.get(k, k): v for k, v in alive.relations.items()}, alive.splits[:-1],
    )  # fmt: skip
    return path, [renamer.value(v) for v in values]


def _defined_inside(path: Path, split: Split) -> Any:
    block = path.builder.block

    def inside(ssa: SSAValue) -> bool:
        owner = ssa.owner
        at = owner.parent if isinstance(owner, Operation) else owner
        while at is not None:
            if at is block:
                return True
            parent = at.parent_op()
            at = parent.parent if parent is not None else None
        return False

    return inside


@dataclass
class _Exporter:
    """Finds every SSA value that lives inside the branch and is still reachable."""

    path: Path
    inside: Any
    export: Any

    def value(self, value: Any) -> None:
        if isinstance(value, tuple):
            for v in value:
                self.value(v)
        elif isinstance(value, (Value, DynamicList)):
            self.tensor(value)
        elif isinstance(value, Dim):
            self._symbols(value)
        elif isinstance(value, Format):
            for v in value.arguments:
                self.value(v)

    def tensor(self, value: Value | DynamicList) -> None:
        if self.inside(value.ssa):
            self.export(value.ssa)
        info = value.info if isinstance(value, Value) else value.element
        if isinstance(info, TensorInfo):
            for size in info.sizes:
                self._symbols(size)

    def _symbols(self, size: Size) -> None:
        if isinstance(size, Dim):
            for symbol in size.symbols():
                ssa = self.path.builder._known(symbol)
                if ssa is not None and self.inside(ssa):
                    self.export(ssa)

    def container(self, contents: Any) -> None:
        if isinstance(contents, DynamicList):
            self.tensor(contents)
            return
        for v in contents.values() if isinstance(contents, dict) else contents:
            self.value(v)


@dataclass
class _Renamer:
    replaced: dict[SSAValue, SSAValue]

    def value(self, value: Any) -> Any:
        if isinstance(value, Value):
            return Value(self.replaced[value.ssa], value.info) if value.ssa in self.replaced else value
        if isinstance(value, tuple):
            return tuple(self.value(v) for v in value)
        if isinstance(value, Format):
            return Format(value.template, tuple(self.value(v) for v in value.arguments))
        return value

    def contents(self, contents: Any) -> Any:
        if isinstance(contents, DynamicList):
            return DynamicList(self.replaced.get(contents.ssa, contents.ssa), contents.element)
        return _map_container(contents, self.value)
