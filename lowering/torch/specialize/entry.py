"""From a raw module and a call's signature to one contract function: the way in and the way out.

In: tensors, run-time scalars and the state that methods assign become function arguments; everything else of the
signature and of the object graph is known. Out: the returned value, changed state and written inputs are
flattened into results; a template says how Python rebuilds the structure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xdsl.dialects import func
from xdsl.dialects.builtin import (
    AffineMapAttr,
    ArrayAttr,
    DictionaryAttr,
    FunctionType,
    IntegerAttr,
    ModuleOp,
    StringAttr,
    UnitAttr,
    i64,
)
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.ir.affine import AffineBinaryOpExpr, AffineBinaryOpKind, AffineExpr, AffineMap

from stepwell.dialects.torch import operations, types
from stepwell.dialects.torch.builder import TorchBuilder, Value, vtensor_of
from stepwell.dialects.torch.declare import ScalarInfo, TensorInfo
from stepwell.dialects.torch.sizes import INFINITY, Call, Dim, Size, Symbol, bounds
from stepwell.lowering.torch.specialize.execute import Executor, executor_for, literal_value
from stepwell.lowering.torch.specialize.results import Ends, Template
from stepwell.lowering.torch.specialize.values import (
    Abstract,
    CannotSpecialize,
    DictRef,
    DynamicList,
    ListRef,
    ObjectRef,
    Path,
    Store,
    TensorRef,
    WritesTensors,
    fresh_number,
    new_list,
    new_tensor,
)

AttributePath = tuple[str, ...]
"""Where an attribute lives: names from the root object ("encoder", "0", "weight")."""

Input = tuple[str, tuple[Any, ...]]
"""("argument", position...) or ("state", attribute path)."""

_HOST_KIND = {"argument": "input", "state": "state"}
_SCALARS = {"int": types.INT, "float": types.FLOAT, "bool": types.BOOL}


@dataclass
class Contract:
    """One specialised method. The entry function is `@forward`, whatever the method's name.

    inputs: for each function argument, what it is: ("argument", where...) or ("state", attribute path).
    results: the template (see `Template`), also on the function as `host.results`.
    """

    module: ModuleOp
    inputs: list[Input]
    results: dict[str, Any]
    used_state: frozenset[AttributePath] = frozenset()
    """Attributes of the state that the method reads or writes."""


def mutable_attributes(module: ModuleOp) -> set[tuple[str, str]]:
    """(class, attribute) of everything that some function of the module assigns."""
    found: set[tuple[str, str]] = set()
    for op in module.walk():
        if isinstance(op, operations.SetAttribute):
            owner, name = op.operands[0].type, op.properties["name"]
            if isinstance(owner, types.ModuleType) and isinstance(name, StringAttr):
                found.add((owner.class_name.data, name.data))
    return found


def specialize(
    module: ModuleOp,
    function: str,
    arguments: Sequence[Any],
    *,
    names: Sequence[str] = (),
    state: Mapping[AttributePath, Any] | None = None,
    shared: Mapping[Input, Input] | None = None,
) -> Contract:
    """Specialise `function` for these arguments.

    arguments: without self; nested tuples and lists of TensorInfo and ScalarInfo (unknown until run time)
    and of values known now. state: the same for attributes that methods assign; its keys also name buffers
    that methods write in place. shared: inputs that are the same tensor as an earlier one. Raises CompileError for
    what the program cannot mean, CannotSpecialize for what only the interpreter runs.
    """
    state = dict(state or {})
    strict = False
    for _ in range(4):
        run = _Run(module, function, arguments, names, state, shared or {}, strict)
        try:
            contract = run.specialize()
        except WritesTensors:
            strict = True
            continue
        if not run.written_literals:
            return contract
        state.update(run.written_literals)
    raise CannotSpecialize("buffers keep being found that the method writes")


@dataclass
class _Run:
    module: ModuleOp
    function: str
    arguments: Sequence[Any]
    names: Sequence[str]
    state: Mapping[AttributePath, Any]
    shared: Mapping[Input, Input] = field(default_factory=dict)
    strict: bool = False
    made: dict[Input, TensorRef] = field(default_factory=dict)
    executor: Executor = field(init=False)
    block: Block = field(default_factory=Block)
    inputs: list[Input] = field(default_factory=list)
    input_names: list[str] = field(default_factory=list)
    objects: dict[SSAValue, Abstract] = field(default_factory=dict)
    literals: dict[int, AttributePath] = field(default_factory=dict)
    containers: dict[ListRef | DictRef, tuple[AttributePath, list[Abstract]]] = field(default_factory=dict)
    """Lists and dicts that attributes hold, with what is in them at the start."""
    input_storages: dict[int, int] = field(default_factory=dict)
    places: dict[AttributePath, tuple[ObjectRef, str]] = field(default_factory=dict)
    written_literals: dict[AttributePath, TensorInfo] = field(default_factory=dict)

    def specialize(self) -> Contract:
        executor = self.executor = executor_for(self.module, self.strict)
        builder = TorchBuilder(self.block)
        path = Path(builder, Store(), {})
        values = self._arguments(path, executor)
        self._bind_symbols(builder)
        start = {n: v for n, v in path.store.tensors.items()}
        before = {p: path.store.objects[o.number][a] for p, (o, a) in self.places.items()}
        ends = Ends(executor.control, lambda path, returned: self._outcome(path, returned, start, before))
        ended = ends.close(executor.call(self.function, values, path))
        if ended is None:
            builder.place(func.ReturnOp.create())
            return self._finish([], {"returns": {"const": None}, "state": [], "written": []})
        ended.path.builder.place(func.ReturnOp.create(operands=ended.leaves))
        return self._finish([v.type for v in ended.leaves], ended.results)

    def _outcome(
        self, path: Path, returned: Abstract, start: Mapping[int, Value], before: Mapping[AttributePath, Abstract]
    ) -> tuple[dict[str, Any], list[SSAValue]]:
        """What one way through the method gives: returned value, changed state, written inputs; and their leaves."""
        self._check_containers(path)
        if any(ref.storage in self.input_storages or ref.storage in self.literals for ref in path.store.reshaped):
            raise CannotSpecialize("an argument or attribute is given other sizes in place")
        template = Template(path)
        results: dict[str, Any] = {"returns": template.of(returned)}
        results["state"] = [
            [list(where), template.of(path.store.objects[o.number][a])]
            for where, (o, a) in self.places.items()
            if not _unchanged(path, before[where], path.store.objects[o.number][a])
        ]
        results["written"] = list(self._written(path, start, template))
        return results, template.leaves

    def _finish(self, result_types: list[Attribute], results: dict[str, Any]) -> Contract:
        type_ = FunctionType.from_lists([a.type for a in self.block.args], result_types)
        entry = func.FuncOp("forward", type_, Region([self.block]))
        attributes = [
            DictionaryAttr(
                {"host.kind": StringAttr("state" if kind == "state" else "input"), "host.name": StringAttr(n)}
            )
            for (kind, _), n in zip(self.inputs, self.input_names, strict=True)
        ]
        if attributes:
            entry.arg_attrs = ArrayAttr(attributes)
        entry.attributes["host.entry"] = UnitAttr()
        entry.attributes["host.results"] = StringAttr(json.dumps(results, default=str))
        # Dry runs of loops have left uses behind in blocks that were thrown away; a clone has none of them.
        touched = {
            where for where, (owner, name) in self.places.items() if (owner.number, name) in self.executor.touched
        }
        return Contract(ModuleOp([entry.clone()]), self.inputs, results, frozenset(touched))

    # ------ in

    def _arguments(self, path: Path, executor: Executor) -> list[Abstract]:
        function = executor.functions[self.function]
        values = [
            self._argument(path, a, ("argument", (i,)), self.names[i] if i < len(self.names) else f"arg{i}")
            for i, a in enumerate(self.arguments)
        ]
        formals = function.body.block.args
        if len(formals) == len(values) + 1 and isinstance(formals[0].type, types.ModuleType):
            return [self._root(path), *values]
        if len(formals) != len(values):
            raise CannotSpecialize(f"{self.function} takes {len(formals)} arguments, not {len(values)}")
        return values

    def _argument(self, path: Path, value: Any, where: Input, name: str) -> Abstract:
        if isinstance(value, TensorInfo):
            first = self.shared.get(where)
            if first is not None:
                return self.made[first]
            argument = self._input(vtensor_of(value), where, name)
            ref = self.made[where] = new_tensor(path, Value(argument, value))
            self.input_storages[ref.storage] = len(self.inputs) - 1
            return ref
        if isinstance(value, ScalarInfo):
            argument = self._input(_SCALARS[value.kind], where, name)
            if value.kind != "int":
                return Value(argument, value)
            symbol = Symbol(name, -INFINITY)
            path.builder.define(symbol, argument)
            return Dim.of(symbol)
        kind, inner = where
        if isinstance(value, tuple):
            return tuple(self._argument(path, v, (kind, (*inner, i)), f"{name}_{i}") for i, v in enumerate(value))
        if isinstance(value, list):
            made = [self._argument(path, v, (kind, (*inner, i)), f"{name}_{i}") for i, v in enumerate(value)]
            return self._container(path, new_list(path, made), kind, inner)
        if isinstance(value, dict):
            number = fresh_number()
            path.store.dicts[number] = {
                k: self._argument(path, v, (kind, (*inner, k)), f"{name}_{k}") for k, v in value.items()
            }
            return self._container(path, DictRef(number), kind, inner)
        return value

    def _input(self, type_: Attribute, where: Input, name: str) -> SSAValue:
        argument = self.block.insert_arg(type_, len(self.block.args))
        if name.isidentifier():
            argument.name_hint = name
        self.inputs.append(where)
        self.input_names.append(name)
        return argument

    def _bind_symbols(self, builder: TorchBuilder) -> None:
        """Name every symbolic size of the arguments, and say which tensor has it where."""
        tensors = list(_symbolic(self.block, self._infos()))
        values: dict[Symbol, SSAValue] = {}
        for _, info in tensors:
            for size in info.sizes:
                for symbol in size.symbols() if isinstance(size, Dim) else []:
                    if symbol not in values and builder._known(symbol) is None:
                        values[symbol] = _symbolic_int(builder, symbol)
                        builder.define(symbol, values[symbol])
        for argument, info in tensors:
            bind_shape(builder, argument, info, values)

    def _infos(self) -> dict[SSAValue, TensorInfo]:
        found: dict[SSAValue, TensorInfo] = {}
        for (kind, where), argument in zip(self.inputs, self.block.args, strict=True):
            spec: Any = self.arguments if kind == "argument" else self.state.get(where)
            for step in where if kind == "argument" else ():
                spec = spec[step]
            if isinstance(spec, TensorInfo):
                found[argument] = spec
        return found

    # ------ the object graph

    def _root(self, path: Path) -> Abstract:
        top = None
        for op in self.module.body.block.ops:
            if isinstance(op, operations.ModuleObject):
                top = op
        if top is None:
            raise CannotSpecialize("a method without an object")
        return self._object(path, top.results[0], ())

    def _object(self, path: Path, value: SSAValue, where: AttributePath) -> Abstract:
        """The abstract value of one value of the archive's object graph; shared objects stay shared."""
        if value in self.objects and where not in self.state:
            return self.objects[value]
        if where in self.state:
            spec = self.state[where]
            made: Abstract = self._argument(path, spec, ("state", where), "_".join(where))
            if isinstance(made, TensorRef):
                self.literals[made.storage] = where
        else:
            made = self._graph(path, value, where)
        if isinstance(made, (TensorRef, ListRef, DictRef, ObjectRef)):
            # Numbers have no identity: one constant of the graph may be what several attributes happen to hold.
            self.objects[value] = made
        return made

    def _graph(self, path: Path, value: SSAValue, where: AttributePath) -> Abstract:
        op = value.owner
        assert isinstance(op, Operation)
        if isinstance(op, operations.ModuleObject):
            return self._module(path, op, value, where)
        if isinstance(op, (operations.TensorLiteral, operations.ValueTensorLiteral)):
            ref = new_tensor(path, literal_value(path, op))
            self.literals[ref.storage] = where
            return ref
        if isinstance(op, (operations.ListConstruct, operations.TupleConstruct)):
            parts = [self._object(path, v, (*where, str(i))) for i, v in enumerate(op.operands)]
            if isinstance(op, operations.TupleConstruct):
                return tuple(parts)
            return self._container(path, new_list(path, parts), "state", where)
        if isinstance(op, operations.DictConstruct):
            half = len(op.operands) // 2
            keys = [self._object(path, v, (*where, "key")) for v in op.operands[:half]]
            number = fresh_number()
            path.store.dicts[number] = {
                k: self._object(path, v, (*where, str(k))) for k, v in zip(keys, op.operands[half:], strict=True)
            }
            return self._container(path, DictRef(number), "state", where)
        if isinstance(op, operations.Derefine):
            return self._object(path, op.operands[0], where)
        return getattr(op, "value", None)

    def _module(self, path: Path, op: operations.ModuleObject, value: SSAValue, where: AttributePath) -> ObjectRef:
        type_ = value.type
        assert isinstance(type_, types.ModuleType)
        ref = ObjectRef(fresh_number(), type_.class_name.data)
        path.store.objects[ref.number] = attributes = {}
        self.objects[value] = ref
        mutable = _mutable_of(self.module)
        for slot in op.regions[0].block.ops:
            name = slot.properties["name"]
            assert isinstance(name, StringAttr)
            inner = (*where, name.data)
            attributes[name.data] = self._object(path, slot.operands[0], inner)
            if (ref.class_name, name.data) in mutable or inner in self.state:
                self.places[inner] = (ref, name.data)
        return ref

    def _container(self, path: Path, ref: ListRef | DictRef, kind: str, where: tuple[Any, ...]) -> ListRef | DictRef:
        """Remember what is in a list or dict of the object graph."""
        if kind == "state":
            self.containers[ref] = (where, _contents(path, ref))
        return ref

    # ------ out

    def _check_containers(self, path: Path) -> None:
        """Lists and dicts of the objects must be as they were: one that grows would be another signature each call."""
        for ref, (where, before) in self.containers.items():
            if not _alike(before, _contents(path, ref)):
                shown = ".".join(map(str, where))
                problem = CannotSpecialize(f"the method changes {shown}, a list or dict that its object keeps")
                problem.places = frozenset({where})
                raise problem

    def _written(self, path: Path, start: Mapping[int, Value], template: Template) -> Iterator[list[Any]]:
        """Inputs and buffers that the method wrote in place, with their new contents."""
        for storage, before in start.items():
            after = path.store.tensors.get(storage)
            if after is None or after.ssa is before.ssa or _same_bits(after, before):
                continue
            if storage in self.input_storages:
                kind, where = self.inputs[self.input_storages[storage]]
                self._check_attribute(kind, where)
                yield [kind, list(where), template.contents(after)]
            elif storage in self.literals:
                self._check_attribute("state", self.literals[storage])
                self.written_literals[self.literals[storage]] = before.tensor


    def _check_attribute(self, kind: str, where: tuple[Any, ...]) -> None:
        """A tensor of the objects that is written must be an attribute by itself."""
        holder = next((w for w, _ in self.containers.values() if kind == "state" and where[: len(w)] == w), None)
        if holder is not None:
            problem = CannotSpecialize(f"the method writes a tensor in {'.'.join(map(str, holder))}")
            problem.places = frozenset({holder})
            raise problem


def _contents(path: Path, ref: ListRef | DictRef) -> list[Abstract]:
    """What is in a list or dict: elements, or keys and values."""
    if isinstance(ref, ListRef):
        known = path.store.lists[ref.number]
        return [known] if isinstance(known, DynamicList) else list(known)
    return [part for item in path.store.dicts[ref.number].items() for part in item]


def _alike(before: Sequence[Abstract], after: Sequence[Abstract]) -> bool:
    return len(before) == len(after) and all(
        a is b or (not isinstance(a, (Value, DynamicList)) and type(a) is type(b) and bool(a == b))
        for a, b in zip(before, after, strict=True)
    )


_MUTABLE: dict[int, tuple[ModuleOp, set[tuple[str, str]]]] = {}


def _mutable_of(module: ModuleOp) -> set[tuple[str, str]]:
    found = _MUTABLE.get(id(module))
    if found is None or found[0] is not module:
        _MUTABLE.clear()
        found = _MUTABLE[id(module)] = (module, mutable_attributes(module))
    return found[1]


def _same_bits(after: Value, before: Value) -> bool:
    owner = after.ssa.owner
    return isinstance(owner, operations.TensorStaticInfoCast) and owner.operands[0] is before.ssa


def _unchanged(path: Path, before: Abstract, after: Abstract) -> bool:
    if isinstance(before, (Value, DynamicList)):
        return before is after
    return type(before) is type(after) and bool(before == after)


# ------ named sizes


def _symbolic(block: Block, infos: Mapping[SSAValue, TensorInfo]) -> Iterator[tuple[SSAValue, TensorInfo]]:
    for argument in block.args:
        info = infos.get(argument)
        if info is not None and not all(isinstance(s, int) for s in info.sizes):
            yield argument, info


def _symbolic_int(builder: TorchBuilder, symbol: Symbol) -> SSAValue:
    high = min(bounds(symbol.high)[1], (1 << 63) - 1)
    properties: dict[str, Attribute] = {
        "symbol_name": StringAttr(symbol.name),
        "min_val": IntegerAttr(max(symbol.low, -(1 << 63)), i64),
        "max_val": IntegerAttr(high, i64),
    }
    return builder.place(operations.SymbolicInt.create(result_types=[types.INT], properties=properties)).results[0]


def bind_shape(builder: TorchBuilder, tensor: SSAValue, info: TensorInfo, values: Mapping[Symbol, SSAValue]) -> None:
    """torch.bind_symbolic_shape for a tensor whose symbols all have named values."""
    symbols = list(dict.fromkeys(s for size in info.sizes if isinstance(size, Dim) for s in size.symbols()))
    if any(s not in values for s in symbols):
        return
    position = {s: i for i, s in enumerate(symbols)}
    results = tuple(affine(size, position) for size in info.sizes)
    properties: dict[str, Attribute] = {"shape_expressions": AffineMapAttr(AffineMap(0, len(symbols), results))}
    builder.place(
        operations.BindSymbolicShape.create(operands=[tensor, *(values[s] for s in symbols)], properties=properties)
    )


def affine(size: Size, position: Mapping[Symbol, int]) -> AffineExpr:
    """A symbolic size as an affine expression over symbols."""
    if isinstance(size, int):
        return AffineExpr.constant(size)
    total: AffineExpr | None = None
    for monomial, coefficient in size.terms:
        term = AffineExpr.constant(coefficient)
        for atom in monomial:
            factor = _affine_atom(atom, position)
            term = factor if term == AffineExpr.constant(1) else term * factor
        total = term if total is None else total + term
    return total if total is not None else AffineExpr.constant(0)


def _affine_atom(atom: Symbol | Call, position: Mapping[Symbol, int]) -> AffineExpr:
    if isinstance(atom, Symbol):
        return AffineExpr.symbol(position[atom])
    if atom.operator != "floordiv":
        raise CannotSpecialize(f"the size {atom} has no affine form")
    left, right = affine(atom.left, position), affine(atom.right, position)
    return AffineBinaryOpExpr(AffineBinaryOpKind.FloorDiv, left, right)
