"""Scripted functions that are plain Python too: compiled, they give what Python gives. No torch.

Arrays have methods enough (sum, reshape, @) that Python itself can run these functions.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable
from typing import Any, Dict, List, Literal, NamedTuple, Optional, Tuple, Union  # noqa: UP035

import numpy as np
import pytest

import stepwell
from stepwell import Tensor

FACTOR, WEIGHT, TABLE, NAMES = 3, np.arange(3, dtype=np.float32), {"a": 1.5, "b": 2.5}, ("x", "y")
CASES: list[tuple[Callable[..., Any], tuple[tuple[Any, ...], ...]]] = []


def case(*calls: tuple[Any, ...]) -> Callable[[Any], Any]:
    """Put the function below into the table, with the arguments of its calls."""

    def add(function: Any) -> Any:
        CASES.append((function, calls))
        return function

    return add


def array(*sizes: int) -> np.ndarray:
    return (np.arange(np.prod(sizes, dtype=int)) - 1).reshape(sizes).astype(np.float32)


class Point(NamedTuple):
    x: Tensor
    n: int = 3


class Mode(enum.Enum):
    KEEP = "keep"
    DOUBLE = "double"


class Level(enum.Enum):
    LOW = 1
    HIGH = 10


@dataclasses.dataclass
class Scale:
    by: float
    plus: int = 1

    def apply(self, x: Tensor) -> Tensor:
        return x * self.by + self.plus


class Problem(Exception):
    pass


# ------ annotations


@case((array(3),), (array(2, 3),))
def without_annotations(x):
    return x.sum(0) * 2


@case((array(2, 3), array(3)))
def numpy_annotations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return x @ y


@case(([1, 2, 3],), ([],))
def typing_list(xs: List[int]) -> int:  # noqa: UP006
    total = 0
    for x in xs:
        total += x
    return total


@case(([1.5, 2.5],), ([0.25],))
def builtin_list(xs: list[float]) -> float:
    return sum(xs) / len(xs)


@case(({"a": 1, "b": 2},), ({},))
def typing_dict(d: Dict[str, int]) -> int:  # noqa: UP006
    total = 0
    for name, value in d.items():
        if name != "a":
            total += value
    return total


@case(({"a": array(2)},))
def builtin_dict(d: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"twice": d["a"] * 2}


@case(((1, 2.5),))
def typing_tuple(p: Tuple[int, float]) -> Tuple[float, int]:  # noqa: UP006
    n, x = p
    return x, n


@case(((array(2), (1, 2)),))
def nested_tuple(p: tuple[Tensor, tuple[int, int]]) -> Tensor:
    return p[0] * p[1][0] + p[1][1]


@case((array(3), None), (array(3), 2))
def typing_optional(x: Tensor, n: Optional[int] = None) -> Tensor:  # noqa: UP045
    if n is None:
        n = 7
    return x * n


@case((array(3), None), (array(3), 2), (array(3),))
def or_none(x: Tensor, n: int | None = None) -> Tensor:
    return x if n is None else x * n


@case((array(3), 2), (array(3), 2.5))
def typing_union(x: Tensor, n: Union[int, float]) -> Tensor:  # noqa: UP007
    if isinstance(n, int):
        return x + n
    return x * n


@case((array(3), 2), (array(3), "abc"), (array(3), [1, 2]))
def union_of_three(x: Tensor, n: int | str | list[int]) -> Tensor:
    if isinstance(n, str):
        return x * len(n)
    if isinstance(n, int):
        return x + n
    return x - n[1]


@case((array(3), "sum"), (array(3), "mean"))
def literal(x: Tensor, how: Literal["sum", "mean"]) -> Tensor:
    return x.sum(0) if how == "sum" else x.mean(0)


@case((Point(array(2)),), (Point(array(3), 1),))
def named_tuple(p: Point) -> Tensor:
    return p.x * p.n


@case((array(2),))
def named_tuple_given_back(x: Tensor) -> Point:
    return Point(x * 2, n=5)


@case((array(2),))
def named_tuples_in_a_list(x: Tensor) -> list[Point]:
    return [Point(x), Point(x, 1)]


@case((array(2), Mode.KEEP), (array(2), Mode.DOUBLE))
def enum_argument(x: Tensor, mode: Mode) -> Tensor:
    return x * 2 if mode is Mode.DOUBLE else x


@case((True,), (False,))
def enum_given_back(low: bool) -> Level:
    return Level.LOW if low else Level.HIGH


@case((Level.LOW,), (Level.HIGH,))
def enum_value_and_name(level: Level) -> int:
    return level.value * 2


@case((array(2), 0.5), (array(2), 2.0))
def dataclass_inside(x: Tensor, by: float) -> Tensor:
    scale = Scale(by)
    scale.plus += 1
    return scale.apply(x)


@case((3, 4), (0, 1))
def quoted_annotations(a: int, b: int) -> tuple[int, int]:
    return b, a


# ------ names from outside


@case((array(3),))
def globals_are_constants(x):
    return x * FACTOR + WEIGHT


@case((), ())
def tables_are_constants():
    return TABLE["b"] + len(NAMES[0])


ONE = np.ones(1, np.float32)


@case((array(3),))
def a_constant_array_decides(x):
    return x if ONE else -x


def multiplier(k: int, y: np.ndarray) -> Callable[..., Any]:
    def closure(x):
        return x * k + y

    return closure


case((array(3),))(multiplier(4, array(3)))
case((array(3),))(multiplier(5, -array(3)))


def helper(x: Tensor, n: int = 2, *, plus: float = 0.5) -> Tensor:
    if n == 0:
        return x
    return x * n + plus


@case((array(3),))
def calls_others(x):
    return helper(x), helper(x, 3), helper(x, plus=2.0), helper(n=0, x=x)


def factorial(n: int) -> int:
    return 1 if n < 2 else n * factorial(n - 1)


@case((1,), (5,), (10,))
def recursion(n: int) -> int:
    return factorial(n)


@case((array(3),), (array(3), 4), (array(3), 4, 0.25))
def defaults(x, n: int = 2, k: float = 0.5):
    return x * n + k


@case((array(4),))
def function_inside(x):
    def double(y):
        return y * 2

    return double(double(x))


# ------ control


@case((10,), (3,), (0,))
def break_and_continue(n: int) -> int:
    total = 0
    for i in range(n):
        if i % 2 == 0:
            continue
        if i > 6:
            break
        total += i
    return total


@case((27,), (1,), (97,))
def collatz(n: int) -> int:
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


@case((2.0, 1e-9), (100.0, 1e-3))
def newton(x: float, tolerance: float) -> float:
    guess = x
    while abs(guess * guess - x) > tolerance:
        guess = 0.5 * (guess + x / guess)
    return guess


@case((array(6),), (array(1),))
def search(x):
    """The first position past the mean."""
    for i in range(x.shape[0]):
        if x[i] > x.mean():
            return i
    return -1


@case((array(3), 2), (array(3), 0), (array(3), -1))
def branches(x, n: int):
    if n > 0:
        y = x + n
    elif n < 0:
        y = x * n
    else:
        return x
    return y * 2


@case((3, True), (3, False), (0, True))
def chained(n: int, flag: bool) -> bool:
    return (0 < n <= 3 and not flag) or n == 0


@case((array(3), 4), (array(3), 0))
def while_true(x, n: int):
    i = 0
    while True:
        if i >= n:
            break
        x = x * 0.5
        i += 1
    return x, i


# ------ exceptions


@case((array(3), 2), (array(3), -2))
def raises(x, n: int):
    if n < 0:
        raise ValueError(f"n is {n}, x has {x.shape[0]} elements")
    return x * n


@case((1,), (-1,))
def raises_own(n: int) -> int:
    if n < 0:
        raise Problem("no")
    return n


@case((3,), (0,), (-2,))
def asserts(n: int) -> int:
    assert n != 0, "n is zero"
    assert n > 0
    return n


@case(([1, 2], 1), ([1, 2], -1), ([1, 2], 2), ([], 0))
def indexes(xs: list[int], i: int) -> int:
    return xs[i]


@case((7, 2), (-7, 2), (7, 0), (-7, -2))
def divides(a: int, b: int) -> tuple[int, int, float]:
    return a // b, a % b, a / b


# ------ numbers and texts


@case((2.0,), (0.5,))
def math_functions(x: float) -> list[float]:
    return [
        math.sqrt(x), math.exp(x), math.log(x), math.pow(x, 2), math.fabs(-x), math.atan2(x, 1.0), math.sin(x) * math.pi,
        math.tanh(x), math.log1p(x), math.degrees(x),
    ]  # fmt: skip


@case((2.5,), (-2.5,), (3.0,))
def rounding(x: float) -> tuple[int, int, int, int]:
    return math.floor(x), math.ceil(x), round(x), int(x)


@case((7, 3), (-7, 3), (0, 1))
def integers(a: int, b: int) -> list[int]:
    return [a + b, a - b, a * b, a // b, a % b, abs(a), max(a, b), min(a, b), a & b, a | b, a ^ b, a << b, a >> 1]


@case((3, 2.5), (0, -1.0))
def mixed(n: int, x: float) -> tuple[float, float, bool]:
    return n * x, n / 2, n < x


@case((3, 2.5, "ab"), (-1, 1e20, ""))
def f_strings(n: int, x: float, s: str) -> str:
    return f"{n} {x} {s!r} {s:>4} {n:03d} {x:.2f}|"


@case(("Abc d",), ("",))
def texts(s: str) -> tuple[str, int, list[str], bool]:
    return s.upper() + s[:2], len(s), s.split(" "), s.startswith("A")


@case((3, 4),)
def augmented(a: int, b: int) -> tuple[int, float]:
    a += b
    a *= 2
    a -= 1
    c = a / 4
    c **= 2
    return a, c


# ------ containers


@case((5,), (0,))
def comprehension(n: int) -> list[int]:
    return [i * i for i in range(n) if i % 2 == 0]


@case((4,))
def dictionary(n: int) -> dict[str, int]:
    d = {"a": 1}
    d["b"] = n
    d["a"] += 1
    if "c" not in d:
        d["c"] = len(d)
    return d


@case(([3, 1, 2],))
def list_methods(xs: list[int]) -> list[int]:
    ys = list(xs)
    ys.append(9)
    ys.extend([5, 6])
    ys.insert(0, 7)
    ys.remove(1)
    ys.sort()
    ys.reverse()
    ys.pop()
    return ys + [ys.index(9)]  # noqa: RUF005


@case(([1, 2, 3], [4.0, 5.0, 6.0]))
def zips(a: list[int], b: list[float]) -> float:
    total = 0.0
    for i, (x, y) in enumerate(zip(a, b)):  # noqa: B905
        total += i * x * y
    return total


@case((array(3, 4),))
def indexing(x):
    return x[0], x[:, 1], x[1:, ::2], x[-1, -1], x[None], x[..., 0]


@case((array(2, 3),))
def shapes(x):
    n, m = x.shape
    return n * m, len(x.shape), x.ndim, x.reshape(m, n), x.T


@case(([1, 2, 3, 4],))
def slices(xs: list[int]) -> tuple[list[int], list[int], int]:
    return xs[1:3], xs[::-1], xs[-1]


@case((2, 3))
def unpacking(a: int, b: int) -> tuple[int, int, int]:
    a, b = b, a
    (c, d), e = (a, b), a + b
    return c, d, e


# ------ the comparison


@pytest.mark.parametrize(("function", "calls"), CASES, ids=[f"{f.__name__}-{n}" for n, (f, _) in enumerate(CASES)])
def test_a_scripted_function_gives_what_python_gives(function: Any, calls: Any) -> None:
    scripted = stepwell.script(function)
    for arguments in calls:
        try:
            expected = function(*arguments)
        except Exception as error:
            with pytest.raises(type(error)) as caught:
                scripted(*arguments)
            assert type(caught.value) is type(error)
            if not isinstance(error, (ZeroDivisionError, IndexError)):
                # pytest adds lines of its own to what asserts say.
                assert str(caught.value) == str(error).split("\nassert ")[0].split("assert ")[0]
            continue
        same(scripted(*arguments), expected)


def same(actual: Any, expected: Any) -> None:
    """Equal, of the same types."""
    if isinstance(expected, (np.ndarray, np.generic)):
        assert isinstance(actual, np.ndarray) and actual.shape == expected.shape and actual.dtype == expected.dtype
        np.testing.assert_allclose(actual, expected, rtol=1e-6)
    elif isinstance(expected, (list, tuple)):
        assert type(actual) is type(expected) and len(actual) == len(expected)
        for a, e in zip(actual, expected, strict=True):
            same(a, e)
    elif isinstance(expected, dict):
        assert type(actual) is dict and list(actual) == list(expected)
        for key in expected:
            same(actual[key], expected[key])
    elif isinstance(expected, float):
        assert type(actual) is float and actual == pytest.approx(expected, rel=1e-12)
    else:
        assert type(actual) is type(expected) and actual == expected
