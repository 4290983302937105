"""One callable method of a program: finds or compiles the variant for a call, runs it, rebuilds the results.

Nothing here imports xDSL: a call that finds its variant, in memory or in the cache, needs numpy only.
"""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol, TypeVar

import numpy as np

from stepwell.compiler.arguments import Conversion, Parameters
from stepwell.compiler.deferred import peek
from stepwell.compiler.objects import ScriptFunction, ScriptObject
from stepwell.compiler.results import Outward
from stepwell.compiler.signature import Call, Pattern, Variants, describe, overlaps, size_flags, take_apart

AttributePath = tuple[str, ...]
Result = TypeVar("Result")


class MoreState(Exception):
    """A program reads or writes attributes that change and that the call's signature does not hold.

    Buffers that are written in place are found this way, and state that only some paths of a method touch.
    """

    def __init__(self, places: Iterable[AttributePath]) -> None:
        super().__init__("a method's signature lacks state")
        self.places = sorted(places)


class Compiled(Protocol):
    """What a variant is called through; see `executable.Executable`."""

    @property
    def used_state(self) -> frozenset[AttributePath]: ...

    @property
    def results(self) -> dict[str, Any]: ...

    @property
    def interpreted(self) -> str | None: ...

    def rebound(self, call: Call, arguments: int, state: Sequence[AttributePath]) -> Compiled:
        """The same code for calls with less state in their signature."""

    def __call__(self, leaves: Sequence[Any]) -> Sequence[Any]:
        """Native code on the call's leaves (those that it takes); gives the flat results."""


@dataclass
class Statistics:
    """What `stages` and `profile` say of a method besides its kernels."""

    compilations: int = 0
    cache_hits: int = 0
    interpreted_calls: int = 0
    reasons: list[str] = field(default_factory=list)
    """Why calls were interpreted."""


Place = tuple[int, str]
"""An attribute of one object: the object's id and the name."""


class Program(Protocol):
    """What the methods of one program share; see `session.Session`."""

    lock: threading.RLock
    changing: set[Place]
    """Attributes that some method has turned out to write in place."""

    def compile_variant(
        self, method: Method, call: Call, pattern: Pattern, state: Sequence[AttributePath], interpret: bool = True
    ) -> Compiled | None:
        """None where the program needs numbers for the pattern's symbols and `interpret` is False."""

    def note_changing(self, method: Method, places: Iterable[AttributePath]) -> bool:
        """Some method writes these in place: for the others they are no constants any more."""


class Method:
    """A function, or a method bound to an object. `program` compiles what is missing."""

    def __init__(
        self,
        function: ScriptFunction,
        owner: ScriptObject | None,
        root: ScriptObject | None,
        program: Program,
    ) -> None:
        self.function, self.owner, self.root = function, owner, root
        self.statistics = Statistics()
        self._program = program
        self.parameters = Parameters(function, bound=owner is not None)
        self.names = self.parameters.names
        self.outward: Outward | None = None
        """What makes of a result what users hold, where that differs; known once a variant has been made."""
        self._state = mutable_places(root, program.changing) if root is not None else []
        self._places = self._look_up(self._state)
        self._variants: dict[tuple[Any, ...], Variants] = {}
        self._shared: dict[tuple[Any, ...], Variants] = {}
        """Variants of calls in which arguments share memory that the method writes, by key and sharing."""
        self.last: Compiled | None = None

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        values = self.parameters.bind(arguments, keywords)
        call, foreign = self._take_apart(values)
        variants = self._variants.get(call.key)
        compiled = variants.find(call.numbers) if variants is not None else None
        conversion: Conversion | None = None
        if compiled is None:
            conversion = Conversion(self.function.environment)
            values = self.parameters.convert(values, conversion)
            compiled, call = self._make(call, values)
        results = compiled.results
        if results["written"] and (sharing := overlaps(call.leaves)):
            compiled, call = self._make(call, values, sharing)
            results = compiled.results
        self.last = compiled
        leaves = compiled(call.leaves)
        while "choice" in results:
            results = results["then" if leaves[results["choice"]] else "otherwise"]
        if results["state"] or results["written"]:
            self._store(results, leaves, call)
            if conversion is not None:
                conversion.write_back()
        returned = rebuild(results["returns"], leaves)
        if self.outward is not None:
            returned = self.outward(returned)
        return to_torch(returned) if foreign else returned

    def prepare(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        """Compile (or find in the cache) what a call with these arguments needs, without calling."""
        values = self.bind(arguments, keywords)
        call, _ = self._take_apart(values)
        variants = self._variants.get(call.key)
        if variants is None or variants.find(call.numbers) is None:
            self._make(call, values)

    # ------ arguments

    def bind(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Any]:
        """Arguments in order, with defaults, as the program takes them. Raises ArgumentError."""
        return self.parameters.convert(
            self.parameters.bind(arguments, keywords), Conversion(self.function.environment)
        )

    def _take_apart(self, values: Sequence[Any]) -> tuple[Call, bool]:
        if not self._state:
            return take_apart(values)
        return take_apart([*values, *(attributes[name] for attributes, name in self._places)])

    def _look_up(self, places: Sequence[AttributePath]) -> list[tuple[dict[str, Any], str]]:
        return [_place(self.root, path) for path in places]

    # ------ variants

    def _make(
        self, call: Call, values: Sequence[Any], sharing: tuple[tuple[int, int, bool], ...] = ()
    ) -> tuple[Compiled, Call]:
        """Find or compile a variant for this call, whose leaves overlap as `sharing` says (see `overlaps`).

        State that turns up while compiling enters the signature; what the first variant does not use leaves it.
        """
        with self._program.lock:
            return self.settle(values, lambda call: self._variant(call, values, sharing))

    def settle(self, values: Sequence[Any], work: Callable[[Call], Result]) -> Result:
        """Do something with the call of these values, again where it finds state that the signature lacks."""
        while True:
            call, _ = self._take_apart(values)
            try:
                return work(call)
            except MoreState as more:
                known = set(self._state)
                self._state += [p for p in more.places if p not in known]
                self._places = self._look_up(self._state)
                self._variants.clear()
                self._shared.clear()
                self._program.note_changing(self, more.places)

    def _variant(
        self, call: Call, values: Sequence[Any], sharing: tuple[tuple[int, int, bool], ...]
    ) -> tuple[Compiled, Call]:
        call.sharing = sharing
        table, key = (self._shared, (call.key, sharing)) if sharing else (self._variants, call.key)
        variants = table.get(key)
        found = variants.find(call.numbers) if variants is not None else None
        if found is not None:
            return found, call
        if variants is None:
            variants = Variants(size_flags(call.key))
        pattern, compiled = self._first_that_compiles(call, variants)
        unused = [p for p in self._state if p not in compiled.used_state]
        if unused and not self._variants and not sharing:
            # The first variant shows what the method uses; the signature shrinks to that.
            self._state = [p for p in self._state if p in compiled.used_state]
            self._places = self._look_up(self._state)
            call, _ = self._take_apart(values)
            key, variants = call.key, Variants(size_flags(call.key))
            (pattern,) = variants.patterns(call.numbers)
            compiled = compiled.rebound(call, len(self.names), self._state)
        variants.add(pattern, compiled)
        table[key] = variants
        return compiled, call

    def _first_that_compiles(self, call: Call, variants: Variants) -> tuple[Pattern, Compiled]:
        """The most general variant that has the numbers that the program needs."""
        patterns = variants.patterns(call.numbers)
        for pattern in patterns:
            last = pattern is patterns[-1]
            found = self._program.compile_variant(self, call, pattern, self._state, interpret=last)
            if found is not None:
                return pattern, found
            variants.unfit.add(pattern)
        raise AssertionError("the last pattern is interpreted where it cannot be compiled")

    def forget(self) -> None:
        """Drop all variants: an attribute was set from outside."""
        with self._program.lock:
            self._variants.clear()
            self._shared.clear()
            self._state = mutable_places(self.root, self._program.changing) if self.root is not None else []
            self._places = self._look_up(self._state)

    def signatures(self) -> list[str]:
        """The variants compiled so far, in words."""
        return [describe(key, p) for key, v in self._variants.items() for p, _ in v.compiled]

    # ------ results

    def _store(self, results: Mapping[str, Any], leaves: Sequence[Any], call: Call) -> None:
        for path, template in results["state"]:
            _owner(self.root, tuple(path)).store(path[-1], rebuild(template, leaves))
        for kind, where, template in results["written"]:
            contents = rebuild(template, leaves)
            if kind == "state":
                attributes, name = _place(self.root, tuple(where))
                attributes[name] = contents
            else:
                np.copyto(_argument(call, where), contents)


def _argument(call: Call, where: Sequence[Any]) -> Any:
    """The array of an argument that the method wrote in place: `where` ends in its position among the leaves."""
    return call.leaves[where[-1]]


def place_of(root: ScriptObject | None, path: AttributePath) -> Place:
    """Which object's attribute a path from the root is."""
    return id(_owner(root, path)), path[-1]


def _place(root: ScriptObject | None, path: AttributePath) -> tuple[dict[str, Any], str]:
    """The attribute table and name of a path from the root."""
    return _owner(root, path).attributes, path[-1]


def _owner(root: Any, path: AttributePath) -> ScriptObject:
    value: Any = root
    for step in path[:-1]:
        value = value.attributes[step] if isinstance(value, ScriptObject) else value[int(step)]
    assert isinstance(value, ScriptObject)
    return value


def mutable_places(root: ScriptObject, changing: AbstractSet[Place] = frozenset()) -> list[AttributePath]:
    """Attributes that some method of the program's classes may assign, and those `changing`, as paths from the root."""
    stored: set[str] = set()
    seen: set[int] = set()
    found: list[AttributePath] = []
    _walk_classes(root, (), seen, stored)
    if stored or changing:
        _walk_places(root, (), set(), changing, found)
    return found


_STORES: dict[int, tuple[Any, frozenset[str]]] = {}


def _walk_classes(value: ScriptObject, path: AttributePath, seen: set[int], stored: set[str]) -> None:
    for inner in value.walk():
        if id(inner.cls) in seen:
            continue
        seen.add(id(inner.cls))
        for method in inner.cls.methods.values():
            if method.node.name != "__init__":
                stored |= stored_attributes(method)


def stored_attributes(function: ScriptFunction) -> frozenset[str]:
    """Names of attributes that a function's source assigns (of whatever object)."""
    known = _STORES.get(id(function.node))
    if known is None or known[0] is not function.node:
        names = frozenset(
            node.attr
            for node in ast.walk(function.node)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        )
        known = _STORES[id(function.node)] = (function.node, names)
    return known[1]


def _walk_places(
    value: ScriptObject, path: AttributePath, seen: set[int], changing: AbstractSet[Place], found: list[AttributePath]
) -> None:
    if id(value) in seen:
        return
    seen.add(id(value))
    own = {n for m in value.cls.methods.values() if m.node.name != "__init__" for n in stored_attributes(m)}
    for name, attribute in peek(value.attributes):
        if isinstance(attribute, ScriptObject):
            _walk_places(attribute, (*path, name), seen, changing, found)
        elif name in own or (id(value), name) in changing:
            found.append((*path, name))


def rebuild(template: Mapping[str, Any], leaves: Sequence[Any]) -> Any:
    """A Python value from its template (see specialize's `Template`) and the flat results."""
    ((kind, inner),) = template.items()
    if kind == "leaf":
        return leaves[inner]
    if kind == "const":
        return inner
    if kind == "numbers":
        return leaves[inner["leaf"]].tolist()
    if kind == "rows":
        return [np.array(row) for row in leaves[inner["leaf"]]]
    if kind == "pieces":
        flat, table = (leaves[part["leaf"]] for part in inner)
        return [flat[at : at + prod(sizes)].reshape(sizes).copy() for at, *sizes in table.tolist()]
    if kind == "tuple":
        return tuple(rebuild(t, leaves) for t in inner)
    if kind == "list":
        return [rebuild(t, leaves) for t in inner]
    return {k: rebuild(t, leaves) for k, t in inner}


def to_torch(value: Any) -> Any:
    """Results as torch tensors, for callers that came with torch tensors; no copy."""
    import torch

    if isinstance(value, np.ndarray):
        if value.dtype.name == "bfloat16":
            return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_torch(v) for v in value))
    if isinstance(value, (tuple, list)):
        return type(value)(to_torch(v) for v in value)
    if isinstance(value, dict):
        return {k: to_torch(v) for k, v in value.items()}
    return value
