"""Branches, loops, early returns, recursion, exceptions."""

from typing import List, Optional

import torch
from stepwell_tests_semantics.table import case, t, v
from torch import Tensor


@case([t(3), 3], [t(3), -3], [t(3), 0])
def branches(x: Tensor, n: int):
    if n > 0:
        y = x + n
    elif n < 0:
        y = x * n
    else:
        y = x
    return y


@case([t(3)], [-t(3)], [t(3) * 0])
def branch_on_tensor(x: Tensor):
    if x.sum() > 0:
        return x
    elif bool((x == 0).all()):
        return x + 100
    return -x


@case([t(3), 10], [t(3), 2], [t(3), 0])
def early_return_in_loop(x: Tensor, n: int):
    for i in range(n):
        x = x + 1
        if i == 4:
            return x, i
    return x, -1


@case([10], [3], [0])
def break_and_continue(n: int):
    total = 0
    for i in range(n):
        if i % 2 == 0:
            continue
        if i > 6:
            break
        total += i
    return total


@case([t(3).abs() + 1], [t(3) * 0])
def while_on_tensor(x: Tensor):
    n = 0
    while bool(x.max() > 0.5):
        x = x / 2
        n += 1
    return x, n


@case([27], [1], [6])
def collatz(n: int):
    steps = 0
    while n != 1:
        if n % 2 == 0:
            n = n // 2
        else:
            n = 3 * n + 1
        steps += 1
    return steps


@case([t(3, 4)], [t(2, 5)], [t(1, 1)])
def nested_loops(x: Tensor):
    total = 0.0
    for i in range(x.size(0)):
        for j in range(x.size(1)):
            if i == j:
                continue
            total += float(x[i, j])
            if total > 50:
                break
    return total


@case([t(4), 5], [t(4), 0])
def infinite_loop_with_break(x: Tensor, limit: int):
    i = 0
    while True:
        if i >= limit:
            break
        x = x * 0.5
        i += 1
    return x, i


@case([t(3), 5], [t(3), 1], [t(3), 2])
def fibonacci(x: Tensor, n: int):
    a, b = x, x + 1
    for _ in range(n):
        a, b = b, a + b
    return a


@case([t(3), 2], [t(3), -2])
def raises(x: Tensor, n: int):
    if n < 0:
        raise ValueError("n is negative")
    return x * n


@case([t(3), 2], [t(3), -2])
def raises_with_value(x: Tensor, n: int):
    if n < 0:
        raise ValueError(f"n is {n}, x has {x.size(0)} elements")
    return x * n


@case([t(3), 5], [t(3), 2])
def raises_in_loop(x: Tensor, n: int):
    for i in range(n):
        x = x + 1
        if i == 3:
            raise RuntimeError("stopped at " + str(i))
    return x


@case([t(3), 5], [t(0), 2])
def asserts(x: Tensor, n: int):
    assert x.numel() > 0, "nothing there"
    assert n > 2
    return x + n


@case([t(3), 5], [t(3), 2])
def asserts_bare(x: Tensor, n: int):
    assert n > 2, f"n must be more than 2 but is {n}"
    return x + n


@case([t(2, 3), t(3)], [t(2, 3), t(2)], [t(2, 3), t(2, 3)])
def shapes_that_do_not_match(x: Tensor, y: Tensor):
    return x + y


@case([t(2, 3), t(3, 2)], [t(2, 3), t(2, 3)])
def products_that_do_not_match(x: Tensor, y: Tensor):
    return x @ y


@case([t(3), 1], [t(3), 2], [t(3), 3])
def ternary(x: Tensor, n: int):
    y = x if n == 1 else x * 2
    k = 1.5 if n > 2 else 0.5
    return y, k, "a" if n == 2 else "b"


@case([t(3), 4], [t(3), 0])
def optional_in_loop(x: Tensor, n: int):
    best: Optional[Tensor] = None
    for i in range(n):
        candidate = x * i
        if best is None:
            best = candidate
        else:
            best = torch.maximum(best, candidate)
    if best is None:
        return x * 0 - 1
    return best


@case([3, t(2)], [None, t(2)])
def optional_int(n: Optional[int], x: Tensor):
    if n is None:
        n = 7
    return x * n


@case([t(5)], [t(6)], [t(7)])
def bisect(x: Tensor):
    s, _ = x.sort()
    low, high = 0, s.size(0)
    while low < high:
        middle = (low + high) // 2
        if bool(s[middle] < 0):
            low = middle + 1
        else:
            high = middle
    return low


@case([t(3, 3), 4], [t(3, 3), 1])
def power_iteration(a: Tensor, n: int):
    x = torch.ones(a.size(0))
    for _ in range(n):
        x = a @ x
        x = x / x.norm()
    return x


@case([t(4)], [t(9)])
def loop_changes_shape(x: Tensor):
    while x.size(0) > 1:
        half = x.size(0) // 2
        x = x[:half] + x[half : 2 * half]
    return x


@case([t(2), 3], [t(2), 0], [t(2), 6])
def loop_grows_tensor(x: Tensor, n: int):
    out = x
    for i in range(n):
        out = torch.cat([out, x + i])
    return out


@case([3, 5], [0, 5], [4, 0])
def negative_ranges(a: int, b: int):
    total = 0
    for i in range(b, -1, -2):
        total += i * a
    for j in range(a, b):
        total -= j
    return total


@case([t(3), True, False], [t(3), False, True], [t(3), False, False])
def nested_branches(x: Tensor, a: bool, b: bool):
    if a:
        if b:
            return x
        y = x + 1
    else:
        if b:
            y = x + 2
        else:
            raise ValueError("neither")
    return y * 2


@case([t(4, 2)], [t(1, 2)])
def iterate_tensor(x: Tensor):
    total = torch.zeros(2)
    for row in x:
        total = total * 2 + row
    return total


@case([[1.5, 2.5], 2], [[], 0])
def enumerate_zip(xs: List[float], n: int):
    total = 0.0
    for i, x in enumerate(xs):
        total += i * x
    for x, k in zip(xs, range(n)):
        total += x * k
    return total


def helper(x: Tensor, n: int = 2, scale: float = 0.5) -> Tensor:
    if n == 0:
        return x
    return x * scale * n


@case([t(3)], [t(4)])
def calls_with_defaults(x: Tensor):
    return helper(x), helper(x, 3), helper(x, scale=2.0), helper(x, n=0)


@case([t(3), 2, 7, 0.5], [t(3), 2, 5, 0.25])
def int_and_float_scale(x: Tensor, n: int, m: int, k: float):
    return x * n + m * k


@case([t(3), v(3)], [t(3), v(0)])
def int_of_tensor(x: Tensor, n: Tensor):
    k = int(n)
    for _ in range(k):
        x = x + 1
    return x, k


@case([t(3)], [-t(3)], [t(5)], [-t(6)])
def different_ranks(x: Tensor):
    if bool(x.sum() > 0):
        y = x
    else:
        y = x[None]
    return y.sum(0)


@case([t(3)], [-t(3)], [t(5)], [-t(6)], [-t(9)])
def returns_different_ranks(x: Tensor):
    if bool(x.sum() > 0):
        return x
    return x[None]


@case([t(6), 0.5], [t(6), 100.0])
def newton(x: Tensor, tolerance: float):
    y = x.abs() + 1
    r = y
    while True:
        n = 0.5 * (r + y / r)
        if bool((n - r).abs().max() < tolerance):
            return n
        r = n


@case([t(3), 3], [t(3), 4])
def loop_with_flag(x: Tensor, n: int):
    done = False
    i = 0
    while not done and i < 10:
        i += 1
        if i == n:
            done = True
        x = x + i
    return x, done, i


@case([t(3)], [-t(3)], [t(5)], [-t(6)])
def nothing_or_something(x: Tensor):
    if bool(x.sum() > 0):
        return None
    if bool(x.sum() < -100):
        raise ValueError("too little")
    return x, x.size(0)


@case([t(3), 1], [-t(3), 2], [t(3), 7])
def writes_and_ends_differently(x: Tensor, n: int) -> Optional[Tensor]:
    x += 1
    if bool(x.sum() > n):
        x *= 2
        return x.sum()
    return None
