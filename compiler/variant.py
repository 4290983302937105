"""Compiles one variant of a method: raw program -> contract -> native code, by way of the cache.

Everything that needs xDSL is imported inside functions: loading a variant from the cache needs none of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from stepwell.compiler.deferred import Deferred
from stepwell.compiler.executable import Artifact, AttributePath, Executable, Input, leaf_positions
from stepwell.compiler.signature import SMALLEST_SYMBOLIC, Call, Pattern, describe, facts_of

Array = np.ndarray[Any, Any]

if TYPE_CHECKING:
    from stepwell.compiler.packed_weights import PackedWeights
    from stepwell.compiler.program import Program
    from stepwell.dialects.target import Target
    from stepwell.lowering.torch.specialize import Contract


class Arrays(Protocol):
    """Weights by name, some of them not read yet."""

    def __getitem__(self, name: str) -> Array: ...
    def __contains__(self, name: object) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...

    def held(self, name: str) -> Array | Deferred:
        """One as it is, not read for it."""


@dataclass(frozen=True)
class Request:
    """What is asked for: a function of a raw program, and the facts of a call."""

    symbol: str
    names: Sequence[str]
    call: Call
    pattern: Pattern
    state: Sequence[AttributePath]

    def describe(self) -> str:
        """The signature in words."""
        return describe(self.call.key, self.pattern)

    def positions(self) -> dict[tuple[str, tuple[Any, ...]], int]:
        return leaf_positions(self.call, len(self.names), self.state)


@dataclass
class Specialized:
    """A contract as a program, and what ties it to calls."""

    program: Program
    inputs: tuple[Input, ...]
    results: dict[str, Any]
    used_state: frozenset[AttributePath]
    notes: list[str] = field(default_factory=list)


def specialize_request(module: Any, resources: Mapping[str, Any], request: Request) -> Specialized:
    """The contract of a request, pruned; raises CannotSpecialize where only the interpreter can run it."""
    from stepwell.compiler.program import Program, Resources
    from stepwell.dialects import context
    from stepwell.dialects.levels import TORCH
    from stepwell.dialects.torch.sizes import Dim, Symbol
    from stepwell.lowering.torch.prune import PruneTorch
    from stepwell.lowering.torch.specialize import specialize

    symbols = {p: Dim.of(Symbol(p, SMALLEST_SYMBOLIC)) for p in request.pattern.parts if isinstance(p, str)}
    facts = facts_of(request.call.key, request.pattern, symbols)
    count = len(request.names)
    state = dict(zip(request.state, facts[count:], strict=True))
    positions = request.positions()
    where = {position: place for place, position in positions.items()}
    contract = specialize(
        module, request.symbol, facts[:count], names=request.names, state=state,
        shared={where[later]: where[first] for first, later, _ in reversed(request.call.sharing)},
    )  # fmt: skip
    PruneTorch().apply(contract.module, context())
    inputs = _drop_unused(contract)
    program = Program(contract.module, Resources(resources))
    program.mark(TORCH)
    results = _number_written(contract.results, positions)
    used = contract.used_state | {tuple(where) for kind, where in inputs if kind == "state"}
    return Specialized(program, tuple(inputs), results, frozenset(used))


def _drop_unused(contract: Contract) -> list[tuple[str, tuple[Any, ...]]]:
    """Arguments that the contract does not read leave it."""
    from xdsl.dialects import func

    from stepwell.lowering.torch.prune import unused_arguments

    entry = next(op for op in contract.module.ops if isinstance(op, func.FuncOp))
    gone = set(unused_arguments(entry))
    return [where for i, where in enumerate(contract.inputs) if i not in gone]


def _number_written(results: dict[str, Any], positions: Mapping[tuple[str, tuple[Any, ...]], int]) -> dict[str, Any]:
    """Written arguments by their place among a call's leaves."""
    if "choice" in results:
        for side in ("then", "otherwise"):
            results = {**results, side: _number_written(results[side], positions)}
    written = [
        [kind, list(where) if kind == "state" else [positions[kind, tuple(where)]], template]
        for kind, where, template in results["written"]
    ]
    return {**results, "written": written}


def compile_specialized(specialized: Specialized, target: Target | None, cache: Any) -> Artifact:
    """Down the whole stair; everything in the result is bytes and plain data."""
    from stepwell.compiler.driver import compile_program

    compiled, _ = compile_program(specialized.program, target, cache=cache)
    parts = {"forward": compiled.forward.to_bytes()}
    if compiled.prepare is not None:
        parts["prepare"] = compiled.prepare.to_bytes()
    return Artifact(
        parts,
        {
            "inputs": [[kind, list(where)] for kind, where in specialized.inputs],
            "results": specialized.results,
            "used_state": sorted(list(p) for p in specialized.used_state),
            "order": list(compiled.order),
            "constants": sorted(name for name in compiled.forward.constants if name not in compiled.prepared),
            "groups": [[list(group.constants), list(group.prepared)] for group in compiled.groups],
        },
    )


def constant_names(artifact: Artifact) -> set[str]:
    """The resources that an artifact's code takes."""
    return {name for read, _ in artifact.metadata["groups"] for name in read} | set(artifact.metadata["constants"])


def link(artifact: Artifact, resources: Arrays, request: Request, weights: PackedWeights | None = None) -> Executable:
    """An executable from what the cache holds, its weights prepared (or found in `weights`, or left there) and bound,
    for calls like the request's."""
    from stepwell.compiler.backends import jit

    data = artifact.metadata
    constants = _Constants(resources)
    found = weights.find() if weights is not None else None
    constants.prepared.update(_prepared(artifact, resources, weights) if found is None else found)
    native = jit.load(jit.CompiledObject.from_bytes(artifact.parts["forward"]), constants)
    inputs: tuple[Input, ...] = tuple((kind, tuple(where)) for kind, where in data["inputs"])
    positions = request.positions()
    return Executable(
        run=native.call,
        selection=tuple(positions[i] for i in inputs),
        inputs=inputs,
        results=json.loads(json.dumps(data["results"])),
        used_state=frozenset(tuple(p) for p in data["used_state"]),
        order=tuple(data["order"]),
        native=native,
    )


def _prepared(artifact: Artifact, resources: Arrays, weights: PackedWeights | None) -> dict[str, Array]:
    """What is packed of the weights, by name; where it is written to the file `weights`, that has the others too."""
    from stepwell.compiler.backends import jit
    from stepwell.compiler.preparation import Group, prepared
    from stepwell.runtime.abi import FrameLayout

    groups = [Group(tuple(read), tuple(made)) for read, made in artifact.metadata["groups"]]
    code = jit.CompiledObject.from_bytes(artifact.parts["prepare"]) if groups else None
    others = artifact.metadata["constants"]
    file = None
    if weights is not None:
        slots = FrameLayout.from_json(code.layout).arguments if code is not None else ()
        made = {s.name: (s.numpy_dtype, s.shape or ()) for s in slots if s.kind == "output"}
        kept = {name: (resources.held(name).dtype, resources.held(name).shape) for name in others}
        file = weights.begin({**made, **kept})

    def once(name: str) -> Array:
        held = resources.held(name)
        array = held.once() if type(held) is Deferred else held
        return np.ascontiguousarray(array).reshape(array.shape)

    return prepared(code, groups, once, file, others)


class _Constants(Mapping[str, np.ndarray[Any, Any]]):
    """Resources and prepared buffers by name; resources are made contiguous when they are asked for."""

    def __init__(self, resources: Arrays) -> None:
        self.resources = resources
        self.prepared: dict[str, np.ndarray[Any, Any]] = {}

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        if name in self.prepared:
            return self.prepared[name]
        array = self.resources[name]
        return np.ascontiguousarray(array).reshape(array.shape)

    def __contains__(self, name: object) -> bool:
        return name in self.prepared or name in self.resources

    def __iter__(self) -> Any:
        yield from self.prepared
        yield from self.resources

    def __len__(self) -> int:
        return len(self.prepared) + len(self.resources)
