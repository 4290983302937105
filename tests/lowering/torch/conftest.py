"""Runs raw torch programs on both sides of the specializer: by the raw interpreter, and as linalg."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser

from stepwell.compiler.executable import leaf_positions
from stepwell.compiler.interpreter import interpret
from stepwell.compiler.interpreter.torch import RawMachine
from stepwell.compiler.method import rebuild
from stepwell.compiler.signature import SMALLEST_SYMBOLIC, Pattern, facts_of, size_flags, take_apart
from stepwell.dialects import context
from stepwell.dialects.torch.sizes import Dim, Symbol
from stepwell.lowering.torch.expand_composites import ExpandComposites
from stepwell.lowering.torch.prune import PruneTorch
from stepwell.lowering.torch.specialize import Contract, specialize
from stepwell.lowering.torch_to_linalg import TorchToLinalg


@dataclass
class Checker:
    """`both(text, args)` specialises for these arguments and checks that the contract means the same."""

    text: str
    function: str = "f"
    contract: Contract | None = None
    module: ModuleOp | None = None

    def both(self, *arguments: Any, symbolic: bool = False, state: dict[tuple[str, ...], Any] | None = None) -> Any:
        """The program's result by the raw interpreter, after comparing it with the specialised one."""
        context_ = context()
        raw = Parser(context_, self.text).parse_module()
        raw.verify()
        state = state or {}
        names = [f"x{i}" for i in range(len(arguments))]
        call, _ = take_apart([*arguments, *state.values()])
        parts: list[int | str] = list(call.numbers)
        if symbolic:
            by_value: dict[tuple[int, bool], str] = {}
            for i, (n, size) in enumerate(zip(call.numbers, size_flags(call.key), strict=True)):
                if not size or n >= SMALLEST_SYMBOLIC:
                    parts[i] = by_value.setdefault((n, size), f"s{len(by_value)}")
        symbols = {p: Dim.of(Symbol(p, SMALLEST_SYMBOLIC)) for p in parts if isinstance(p, str)}
        facts = facts_of(call.key, Pattern(tuple(parts)), symbols)
        given = dict(zip(state, facts[len(arguments) :], strict=True))
        self.contract = specialize(raw, self.function, facts[: len(arguments)], names=names, state=given)
        self.contract.module.verify()
        PruneTorch().apply(self.contract.module, context_)
        self.contract.module.verify()
        self.module = self.contract.module.clone()
        ExpandComposites().apply(self.module, context_)
        self.module.verify()
        TorchToLinalg().apply(self.module, context_)
        self.module.verify()
        expected = self._outcome(
            lambda: RawMachine(raw, {}).call(self.function, copy.deepcopy(list(arguments)))
        )
        positions = leaf_positions(call, len(arguments), list(state))
        leaves = [call.leaves[positions[where]] for where in self.contract.inputs]
        actual = self._outcome(
            lambda: rebuild(self.contract.results["returns"], interpret(self.module, "forward", leaves))
        )
        compare(actual, expected)
        return expected

    def _outcome(self, run: Any) -> Any:
        try:
            return run()
        except (ValueError, IndexError, RuntimeError, ZeroDivisionError) as error:
            return (type(error), str(error))


def compare(actual: Any, expected: Any) -> None:
    """Equal structure, dtypes, shapes; numbers within float32 rounding."""
    if isinstance(expected, (tuple, list)):
        assert type(actual) is type(expected) and len(actual) == len(expected)
        for a, b in zip(actual, expected, strict=True):
            compare(a, b)
    elif isinstance(expected, np.ndarray):
        assert isinstance(actual, np.ndarray)
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    else:
        assert actual == expected


@pytest.fixture
def program() -> type[Checker]:
    return Checker
