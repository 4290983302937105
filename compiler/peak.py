"""What this machine can do: floating-point and memory peaks of one core, measured once per process.

The yardsticks of `profile` and of the benches: independent multiply-add chains for flops, a copy of arrays
larger than the cache for bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from stepwell.dialects.target import Target


@dataclass(frozen=True)
class Peak:
    """flops and bytes per second of one core."""

    flops: float
    bytes: float


CHAINS = 12
"""Independent accumulators: more than latency times throughput of a multiply-add."""

SECONDS = 0.15
"""How long each of the two is tried."""


@cache
def measured() -> Peak:
    """The peaks of the core we are on; takes about a third of a second."""
    from stepwell.compiler.backends.target import host

    target = host()
    return Peak(_flops(target), _bandwidth())


def _flops(target: Target) -> float:
    from stepwell.compiler.backends import jit

    function = jit.build(_chains(target), target)
    trips = 200_000
    return 2.0 * target.lanes(32) * CHAINS * trips / _best(lambda: function(trips))


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of many short runs: somebody else's turn on the core spoils some of them only."""
    best, end = float("inf"), time.perf_counter() + SECONDS
    while (start := time.perf_counter()) < end:
        work()
        best = min(best, time.perf_counter() - start)
    return best


def _chains(target: Target):  # type: ignore[no-untyped-def]
    """A loop of CHAINS vector multiply-adds per trip, at the loops level."""

    from stepwell.dialects.text import parse

    vector = f"vector<{target.lanes(32)}xf32>"
    names = [f"%a{i}" for i in range(CHAINS)]
    carried = ", ".join(f"{n} = %start" for n in names)
    fmas = "\n".join(f"    %b{i} = vector.fma %a{i}, %scale, %start : {vector}" for i in range(CHAINS))
    results = ", ".join([vector] * CHAINS)
    ends = ", ".join(f"%b{i}" for i in range(CHAINS))
    total = "\n".join(
        f"  %t{i} = arith.addf %{'t' + str(i - 1) if i > 1 else 'r#0'}, %r#{i} : {vector}" for i in range(1, CHAINS)
    )
    text = f"""
func.func @forward(%trips: i64 {{host.kind = "input", host.name = "trips"}}) -> f32 attributes {{host.entry}} {{
  %n = arith.index_cast %trips : i64 to index
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %half = arith.constant 0.5 : f32
  %start = vector.broadcast %half : f32 to {vector}
  %scale = vector.broadcast %half : f32 to {vector}
  %r:{CHAINS} = scf.for %i = %zero to %n step %one iter_args({carried}) -> ({results}) {{
{fmas}
    scf.yield {ends} : {results}
  }}
{total}
  %sum = vector.reduction <add>, %t{CHAINS - 1} : {vector} into f32
  func.return %sum : f32
}}"""
    return parse(text)


def _bandwidth() -> float:
    source = np.ones(1 << 24, np.float32)
    target = np.empty_like(source)
    return 2.0 * source.nbytes / _best(lambda: np.copyto(target, source))
