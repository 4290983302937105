"""Scripted classes: `__init__` is plain Python, methods are compiled, state stays in the object. No torch."""

from __future__ import annotations

import copy
import enum
import pickle
import threading
from typing import Any, Final

import numpy as np
import pytest

import stepwell
from stepwell import Tensor


def array(*sizes: int) -> np.ndarray:
    return (np.arange(np.prod(sizes, dtype=int)) - 1).reshape(sizes).astype(np.float32)


class Phase(enum.Enum):
    WARM = 0
    HOT = 1


@stepwell.script
class Linear:
    """y = x w + b"""

    def __init__(self, n: int, m: int) -> None:
        self.w = array(n, m)
        self.b = np.ones(m, np.float32)
        self.seen = np.zeros(1, np.int64)

    def forward(self, x):
        return x @ self.w + self.b


@stepwell.script
class Network:
    total: int
    scale: Final[float] = 2.0
    state: Tensor | None
    phase: Phase

    def __init__(self, **options: Any) -> None:
        # Not the language: this runs in Python.
        self.first, self.second = (Linear(*size) for size in ((3, 4), (4, 2)))
        self.total = 0
        self.state = None
        self.phase = Phase.WARM
        self.layers = [Linear(2, 2), Linear(2, 2)]
        self.note = options.get("note", "none")

    def forward(self, x):
        self.total += 1
        y = self.second(stepwell.relu(self.first(x)))
        for layer in self.layers:
            y = layer(y)
        state = self.state
        if state is not None:
            y = y + state
        self.state = y
        if self.total > 1:
            self.phase = Phase.HOT
        return y * self.scale

    def reset(self) -> None:
        self.total = 0
        self.state = None

    def count(self) -> int:
        return self.total

    @property
    def twice(self) -> int:
        return self.total * 2

    def uses_property(self) -> int:
        return self.twice + 1

    @staticmethod
    def shifted(x: Tensor, by: int = 1) -> Tensor:
        return x + by

    def uses_static(self, x):
        return self.shifted(x) + self.shifted(x, 5)

    def __len__(self) -> int:
        return 7

    def measures(self) -> int:
        return len(self)


def expected(x: np.ndarray) -> np.ndarray:
    y = np.maximum(x @ array(3, 4) + 1, 0) @ array(4, 2) + 1
    for _ in range(2):
        y = y @ array(2, 2) + 1
    return y


def test_state_stays_in_the_object():
    network = Network()
    x = array(2, 3)
    np.testing.assert_allclose(network(x), expected(x) * 2, rtol=1e-6)
    np.testing.assert_allclose(network.forward(x), expected(x) * 4, rtol=1e-6)
    assert (network.total, network.count(), network.twice, network.uses_property()) == (2, 2, 4, 5)
    assert network.phase is Phase.HOT
    np.testing.assert_allclose(network.state, expected(x) * 2, rtol=1e-6)
    network.reset()
    assert network.state is None and network.total == 0
    np.testing.assert_allclose(network(x), expected(x) * 2, rtol=1e-6)
    assert network.method("forward").statistics.interpreted_calls == 0


class Log:
    lines: list[float]
    phase: Phase

    def __init__(self) -> None:
        self.lines = []
        self.phase = Phase.WARM

    def forward(self, x) -> int:
        self.lines.append(float(x.sum()))
        if len(self.lines) > 1 and self.phase is Phase.WARM:
            self.phase = Phase.HOT
        return len(self.lines)


def test_lists_of_an_object_grow():
    log = stepwell.script(Log())
    assert [log(array(n)) for n in (2, 3, 4)] == [1, 2, 3]
    assert log.lines == [-1.0, 0.0, 2.0]
    assert log.phase is Phase.HOT


def test_objects_have_state_of_their_own():
    a, b = Network(), Network(note="b")
    a(array(1, 3))
    assert (a.total, b.total, b.note) == (1, 0, "b")


def test_methods_of_all_kinds():
    network = Network()
    np.testing.assert_array_equal(network.uses_static(array(2)), array(2) * 2 + 6)
    assert network.measures() == 7
    with pytest.raises(AttributeError, match=r"Network has no method 'nope'; it has .*forward"):
        network.method("nope")
    with pytest.raises(AttributeError, match="Network has no attribute 'nope'"):
        network.nope  # noqa: B018


def test_attributes_are_assigned_as_they_are_declared():
    network = Network()
    network.total = 5
    assert network.count() == 5
    network.first = Linear(3, 4)
    network.state = np.ones(2)
    network.phase = Phase.HOT
    assert network.phase is Phase.HOT
    with pytest.raises(stepwell.ArgumentError, match=r"Network\.total is int, not a str"):
        network.total = "five"
    with pytest.raises(stepwell.ArgumentError, match=r"Network\.phase is Phase, not an int"):
        network.phase = 1
    with pytest.raises(AttributeError, match="Network has no attribute 'other'"):
        network.other = 1


def test_it_looks_like_a_module():
    network = Network()
    assert [n for n, _ in network.named_children()] == ["first", "second"]
    assert [n for n, _ in network.first.named_parameters()] == ["w", "b"]
    assert [n for n, _ in network.first.named_buffers()] == ["seen"]
    assert list(network.state_dict()) == [
        "first.w", "first.b", "second.w", "second.b", "first.seen", "second.seen",
    ]  # fmt: skip
    assert repr(network) == "Network(\n  (first): Linear()\n  (second): Linear()\n)"
    assert repr(network.count) == "<stepwell method count()>"
    assert repr(Network) == "<stepwell class Network>"
    assert network.code.startswith("def forward(self, x):\n    self.total += 1")
    assert "torch.prim.SetAttr" in network.graph


def test_arrays_are_shared_not_copied():
    class Holder:
        def __init__(self, w: np.ndarray) -> None:
            self.w = w

        def forward(self, x):
            return x * self.w

    w = array(3)
    module = stepwell.script(Holder(w))
    assert module.w is w
    np.testing.assert_array_equal(module(array(3)), array(3) ** 2)


def test_classes_inherit():
    class Base:
        def __init__(self) -> None:
            self.k = 3

        def forward(self, x):
            return self.step(x) * self.k

        def step(self, x):
            return x + 1

    class Derived(Base):
        def step(self, x):
            return x - 1

    np.testing.assert_array_equal(stepwell.script(Base())(array(2)), (array(2) + 1) * 3)
    np.testing.assert_array_equal(stepwell.script(Derived())(array(2)), (array(2) - 1) * 3)


def test_copies_and_pickles():
    network = Network()
    network(array(1, 3))
    other = copy.deepcopy(network)
    other(array(1, 3))
    assert (network.total, other.total) == (1, 2)
    assert other.first.w is not network.first.w
    same = copy.copy(network)
    same.reset()
    assert network.total == 0
    for thing in (network, network.count, stepwell.script(lone)):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(thing)


def lone(x: Tensor, n: int = 2) -> Tensor:
    """Twice."""
    for _ in range(n):
        x = stepwell.tanh(x) + x
    return x


def test_a_function_keeps_its_name_and_text():
    scripted = stepwell.script(lone)
    assert (scripted.__name__, scripted.__doc__, scripted.__wrapped__) == ("lone", "Twice.", lone)
    assert repr(scripted) == "<stepwell function lone(x, n)>"
    assert scripted.code.startswith("def lone(x: Tensor, n: int=2) -> Tensor:")
    assert stepwell.script(scripted) is scripted


def test_stages_of_the_last_call():
    scripted = stepwell.script(lone)
    with pytest.raises(RuntimeError, match="no call has been made yet"):
        scripted.stage("linalg")
    scripted(array(3))
    for level in ("raw", "torch", "linalg", "tile", "loops", "llvm", "ir", "asm"):
        assert scripted.stage(level).strip()
    with pytest.raises(ValueError, match="no level is called 'bogus'; there are raw, torch, linalg"):
        scripted.stage("bogus")
    assert "map_0" in str(scripted.profile(array(3)))


def test_compile_before_the_first_call():
    scripted = stepwell.compile(lone, inputs=["float32[2, 3]"], keywords={"n": 1})
    assert scripted.signatures() == ["(float32[2, 3], 1)"]
    before = scripted.statistics.compilations
    scripted(array(2, 3), n=1)
    assert scripted.statistics.compilations == before
    with pytest.raises(ValueError, match=r"'float32\[3,' is no type of a tensor"):
        stepwell.compile(lone, inputs=["float32[3,"])
    with pytest.raises(ValueError, match="no target is called 'nope'"):
        stepwell.compile(lone, inputs=[array(3)], target="nope")
    with pytest.raises(stepwell.ArgumentError, match="takes a Tensor as argument 'x', not an int"):
        stepwell.compile(lone, inputs=[3])


def test_calls_from_many_threads_agree():
    scripted, problems = stepwell.script(lone), []
    sizes = [(n, m) for n in (1, 2, 5, 9) for m in (1, 3, 8)]
    wanted = {s: stepwell.script(lone)(array(*s)) for s in sizes}

    def work(seed: int) -> None:
        try:
            for i in np.random.default_rng(seed).permutation(len(sizes)):
                np.testing.assert_array_equal(scripted(array(*sizes[i])), wanted[sizes[i]])
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert len(scripted.signatures()) <= 16


@pytest.mark.parametrize(
    ("thing", "message"),
    [(3, "an int cannot be scripted"), ([1], "a list cannot be scripted"), (len, "built-in function len"), (None, None)],
)
def test_what_is_no_program_cannot_be_scripted(thing: Any, message: str | None) -> None:
    if message is None:
        assert stepwell.script(None) is not None
        return
    with pytest.raises(stepwell.CompileError, match=message):
        stepwell.script(thing)
