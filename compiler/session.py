"""One program in memory: its raw IR, made once, and its methods with their variants.

A session is what all modules and functions of one loaded archive (or one scripted function) share.
"""

from __future__ import annotations

import copy
import hashlib
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from stepwell.compiler import cache as object_cache
from stepwell.compiler.deferred import Deferred, held, identity, peek
from stepwell.compiler.executable import Artifact, AttributePath, Executable, leaf_positions
from stepwell.compiler.method import Method, MoreState, place_of
from stepwell.compiler.objects import ScriptFunction, ScriptObject
from stepwell.compiler.results import Outward, outward
from stepwell.compiler.signature import Call, Pattern
from stepwell.compiler.variant import (
    Request,
    Specialized,
    compile_specialized,
    constant_names,
    link,
    specialize_request,
)

if TYPE_CHECKING:
    from stepwell.compiler.frontends.language.program import RawProgram
    from stepwell.compiler.interpreter.torch import Written
    from stepwell.compiler.packed_weights import PackedWeights
    from stepwell.dialects.target import Target


class Session:
    """root: the object of an archive or scripted class, None for functions. digest: identifies the source text
    (bytes of an archive's code, a script's source); with it variants are found in the cache without a front end.
    constants: arrays that the source names by number (an archive's CONSTANTS). weights: identifies the file that the
    arrays came from, as long as they are what it holds; with it packed weights are found in the cache.
    """

    def __init__(
        self,
        root: ScriptObject | None,
        *,
        digest: str | None = None,
        constants: Sequence[Any] = (),
        target: Target | None = None,
        use_cache: bool = True,
        weights: str | None = None,
    ) -> None:
        self.constants = constants
        self.weights = weights
        self.root, self.digest, self.target = root, digest, target
        self.cache = object_cache.default() if use_cache else None
        self.lock = threading.RLock()
        self.changing: set[tuple[int, str]] = set()
        self._methods: dict[tuple[int, int], Method] = {}
        self._raw: dict[int, RawProgram] = {}

    def method(self, function: ScriptFunction, owner: ScriptObject | None) -> Method:
        """The method of an object (or the function), made once."""
        key = (id(function), id(owner))
        found = self._methods.get(key)
        if found is None:
            # Paths to state begin at the object that the method belongs to.
            found = self._methods[key] = Method(function, owner, owner, self)
        return found

    def like(self, root: ScriptObject) -> Session:
        """A session for another object of the same program."""
        return Session(root, digest=self.digest, constants=self.constants, target=self.target)

    def forget(self) -> None:
        """An attribute was set from outside: what was compiled with its old value is dropped."""
        self.weights = None
        self._raw.clear()
        for method in self._methods.values():
            method.forget()

    def note_changing(self, method: Method, places: Iterable[AttributePath]) -> bool:
        """A method writes these attributes in place: what other methods have compiled with their values is dropped.

        True if that is news.
        """
        found = {place_of(method.root, path) for path in places if method.root is not None}
        if found <= self.changing:
            return False
        self.changing |= found
        for other in self._methods.values():
            if other is not method:
                other.forget()
        return True

    def raw(self, method: Method) -> RawProgram:
        """The raw program of a method and all that it calls."""
        from stepwell.compiler.frontends.language.program import lower_program

        key = id(method)
        if key not in self._raw:
            root = method.owner if method.owner is not None else method.function
            self._raw[key] = lower_program(root, [method.function.node.name])
        return self._raw[key]

    def request(self, method: Method, call: Call, pattern: Pattern, state: Sequence[AttributePath]) -> Request:
        raw = self.raw(method)
        return Request(raw.entries[method.function.node.name].symbol, method.names, call, pattern, state)

    def specialized(self, method: Method, call: Call, pattern: Pattern, state: Sequence[AttributePath]) -> Specialized:
        """The contract of a variant."""
        raw = self.raw(method)
        found = specialize_request(raw.module, raw.resources, self.request(method, call, pattern, state))
        missing = found.used_state - set(state)
        if missing:
            raise MoreState(missing)
        return found

    def compile_variant(
        self, method: Method, call: Call, pattern: Pattern, state: Sequence[AttributePath], interpret: bool = True
    ) -> Executable | None:
        """From the cache, or compiled. Interpreted where there is no static form; None where that would be for lack of
        numbers, unless `interpret` says that there is no other way."""
        from stepwell.compiler.threads_of_compilation import collector_paused, deep_stack

        if method.outward is None:
            method.outward = self._outward(method)
        key = self._key(method, call, pattern, state)
        if not all(same for _, _, same in call.sharing):
            return self._interpreted(method, call, state, "arguments overlap in memory, and the method writes them")
        stored = self.cache.get(key) if self.cache is not None and key is not None else None
        if stored is not None:
            method.statistics.cache_hits += 1
            artifact = Artifact.from_bytes(stored)
            request = Request("", method.names, call, pattern, state)
            resources = FoundArrays(artifact.metadata["sources"], method.owner, self.constants)
            return link(artifact, resources, request, self._packed(key))
        with collector_paused():  # the first compilation imports the compiler
            from stepwell.dialects.diagnostics import NeedsNumber
            from stepwell.lowering.torch.specialize import CannotSpecialize

        try:
            executable = deep_stack(lambda: self._compile(method, call, pattern, state, key))
        except (CannotSpecialize, NeedsNumber) as reason:
            # Not inside: what other methods have compiled is dropped under a lock that this thread holds.
            if isinstance(reason, CannotSpecialize):
                self.note_changing(method, reason.places)
            elif not interpret:
                return None
            executable = self._interpreted(method, call, state, str(reason))
        method.statistics.compilations += 1
        return executable

    def _outward(self, method: Method) -> Outward | None:
        """How results of a method become what users hold, by their type: as annotated, else as the body has it."""
        from stepwell.compiler.threads_of_compilation import deep_stack

        function = method.function
        if function.node.returns is not None:
            return outward(function.environment.type_of(function.node.returns), function.environment, self.wrap)
        signature = deep_stack(lambda: self.raw(method)).entries[function.node.name].signature
        from stepwell.compiler.frontends.language.static_types import NONE, expression_of

        return outward(expression_of(signature.returns or NONE), function.environment, self.wrap)

    def wrap(self, value: ScriptObject) -> Any:
        """An object as users hold it."""
        from stepwell.compiler.module import ScriptModule

        return ScriptModule(self, value)

    def _compile(
        self, method: Method, call: Call, pattern: Pattern, state: Sequence[AttributePath], key: str | None
    ) -> Executable:
        specialized = self.specialized(method, call, pattern, state)
        resources = specialized.program.resources
        artifact = compile_specialized(specialized, self.target, self.cache)
        sources = sources_of({n: resources.held(n) for n in constant_names(artifact)}, method.owner, self.constants)
        if self.cache is not None and key is not None and sources is not None:
            self.cache.put(key, artifact.with_metadata(sources=sources).to_bytes())
        request = self.request(method, call, pattern, state)
        return link(artifact, specialized.program.resources, request, self._packed(key))

    def _packed(self, key: str | None) -> PackedWeights | None:
        """Where the packed weights of a variant lie; None where they are not known to be those of a file."""
        if self.cache is None or key is None or self.weights is None:
            return None
        from stepwell.compiler.packed_weights import PackedWeights

        return PackedWeights(self.cache, self.weights, key)

    def _key(self, method: Method, call: Call, pattern: Pattern, state: Sequence[AttributePath]) -> str | None:
        declared = sys.modules.get("stepwell.dialects.torch.declare")
        if self.digest is None or (declared is not None and declared.OPS.extended):
            return None
        from stepwell.compiler import tuned
        from stepwell.compiler.backends.target import host
        from stepwell.dialects.plugins import fingerprint

        target = self.target or host()
        return object_cache.key_of(
            "variant", self.digest, constants_digest(method.owner), method.function.name, repr(call.key),
            repr(pattern.parts), repr(list(state)), repr(call.sharing), repr(target),
            fingerprint(), tuned.fingerprint(tuned.stored().of(target)),
        )  # fmt: skip

    # ------ what has no static form

    def _interpreted(self, method: Method, call: Call, state: Sequence[AttributePath], reason: str) -> Executable:
        """The raw interpreter on the live objects; results come back as one value."""
        from stepwell.compiler.interpreter.torch import RawMachine
        from stepwell.compiler.writable import make_writable
        from stepwell.lowering.torch.specialize.execute import writes_tensors

        raw = self.raw(method)
        if method.owner is not None and writes_tensors(raw.module, True) and make_writable(self.root or method.owner):
            self.weights = None
            self._raw.clear()
            raw = self.raw(method)
        machine = RawMachine(raw.module, raw.resources, lambda name: ScriptObject(raw.classes[name]))
        symbol = raw.entries[method.function.node.name].symbol
        count = len(method.names)
        method.statistics.reasons.append(reason)

        def run(leaves: Sequence[Any]) -> Sequence[Any]:
            method.statistics.interpreted_calls += 1
            arguments = rebuild_arguments(call.key[:count], iter(leaves))
            # Calls may run at once: each has its own record of what it wrote.
            running = copy.copy(machine)
            running.written = set()
            try:
                return [running.call(symbol, [*([method.owner] if method.owner is not None else []), *arguments])]
            finally:
                # Native variants, of this method too, may hold as constants what has been written.
                if self.note_changing(method, written_places(method.owner, running.written)):
                    method.forget()

        return Executable(
            run=run,
            selection=tuple(range(_leaf_count(call, count))),
            inputs=tuple(i for i in leaf_positions(call, count, state) if i[0] == "argument"),
            results={"returns": {"leaf": 0}, "state": [], "written": []},
            used_state=frozenset(state),
            interpreted=reason,
        )


def written_places(root: ScriptObject | None, written: AbstractSet[Written]) -> list[AttributePath]:
    """The attributes that hold one of the arrays, lists and dicts at these places, or a view of such an array."""
    spans = [place for place in written if isinstance(place, tuple)]

    def holds(value: Any) -> bool:
        if isinstance(value, np.ndarray):
            first, last = byte_bounds(value)
            return any(first < end and start < last for start, end in spans)
        if isinstance(value, (list, tuple)):
            return id(value) in written or any(map(holds, value))
        return isinstance(value, dict) and (id(value) in written or any(map(holds, value.values())))

    found: list[AttributePath] = []
    seen: set[int] = set()

    def walk(owner: ScriptObject, path: AttributePath) -> None:
        if id(owner) in seen:
            return
        seen.add(id(owner))
        for name, value in owner.attributes.items():
            if isinstance(value, ScriptObject):
                walk(value, (*path, name))
            elif holds(value):
                found.append((*path, name))

    if root is not None and written:
        walk(root, ())
    return found


def _leaf_count(call: Call, arguments: int) -> int:
    return sum(kind == "argument" for kind, _ in leaf_positions(call, arguments, [()] * (len(call.key) - arguments)))


def rebuild_arguments(keys: Sequence[Any], leaves: Any) -> list[Any]:
    """The arguments of a call from their keys and leaves."""
    return [_rebuild(key, leaves) for key in keys]


def _rebuild(key: Any, leaves: Any) -> Any:
    if key in ("int", "float") or key[0] == "tensor":
        return next(leaves)
    if key[0] in ("tuple", "list"):
        made = [_rebuild(k, leaves) for k in key[1:]]
        return tuple(made) if key[0] == "tuple" else made
    if key[0] == "dict":
        return {k: _rebuild(v, leaves) for k, v in key[1:]}
    return key[1]


Source = list[str | int]
"""Where an array is found again: attribute names from the object, or ["constants", n]."""


def sources_of(
    resources: Mapping[str, Any], root: ScriptObject | None, constants: Sequence[Any]
) -> dict[str, Source] | None:
    """Where each resource lies in the program's objects; None if one lies nowhere (a literal of the source)."""
    places: dict[int, Source] = {
        identity(c): ["constants", n] for n, c in enumerate(constants) if isinstance(c, np.ndarray)
    }
    if root is not None:
        _places_of(root, ["object"], places, set())
    found = {name: places.get(identity(array)) for name, array in resources.items()}
    return None if None in found.values() else {k: v for k, v in found.items() if v is not None}


def _places_of(value: Any, path: Source, places: dict[int, Source], seen: set[int]) -> None:
    if isinstance(value, (np.ndarray, Deferred)):
        places.setdefault(identity(value), path)
    elif isinstance(value, ScriptObject):
        if id(value) not in seen:
            seen.add(id(value))
            for name, inner in peek(value.attributes):
                _places_of(inner, [*path, name], places, seen)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            _places_of(inner, [*path, number], places, seen)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(key, str):
                _places_of(inner, [*path, key], places, seen)


class FoundArrays(Mapping[str, np.ndarray[Any, Any]]):
    """The opposite: the arrays by resource name, each looked up when it is asked for, and read then; not by `held`."""

    def __init__(self, sources: Mapping[str, Source], root: ScriptObject | None, constants: Sequence[Any]) -> None:
        self.sources, self.root, self.constants = sources, root, constants

    def __getitem__(self, name: str) -> Any:
        found = self.held(name)
        return found.array() if type(found) is Deferred else found

    def held(self, name: str) -> Any:
        """An array as it is, not read for it."""
        first, *rest = self.sources[name]
        value: Any = self.constants if first == "constants" else self.root
        for step in rest:
            value = held(value.attributes, str(step)) if isinstance(value, ScriptObject) else value[step]
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)


def constants_digest(root: ScriptObject | None) -> str:
    """What the compiled code knows of the objects besides weights' contents: scalars, structure, dtypes, sizes."""
    digest = hashlib.sha256()
    for part in _facts(root, set()):
        digest.update(repr(part).encode())
    return digest.hexdigest()


def _facts(value: Any, seen: set[int]) -> Iterable[Any]:
    if isinstance(value, (np.ndarray, Deferred)):
        yield ("array", value.dtype.str, value.shape, value.strides)
    elif isinstance(value, ScriptObject):
        if id(value) in seen:
            yield ("again", value.cls.name)
            return
        seen.add(id(value))
        yield ("object", value.cls.name)
        for name, attribute in peek(value.attributes):
            yield name
            yield from _facts(attribute, seen)
    elif isinstance(value, (list, tuple)):
        yield type(value).__name__, len(value)
        for inner in value:
            yield from _facts(inner, seen)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _facts(inner, seen)
    else:
        yield value
