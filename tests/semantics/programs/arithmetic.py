"""Numbers: Python's ints and floats, promotion, comparisons, conversions."""

import math
from typing import List, Tuple

import torch
from stepwell_tests_semantics.table import case, t, v
from torch import Tensor


@case([7, 2], [-7, 2], [7, -2], [-7, -2], [0, 3])
def integer_division(a: int, b: int):
    return a // b, a % b, a / b, -a // b


@case([7.5, 2.0], [-7.5, 2.0], [7.0, -2.0])
def float_division(a: float, b: float):
    return a // b, a % b, a / b


@case([7, 0], [7, 2])
def division_by_zero(a: int, b: int):
    return a // b


@case([t(2, 3), 3], [t(4, 3), -2], [t(5, 3), 7])
def tensor_and_int(x: Tensor, n: int):
    return x + n, n - x, x * n, x / n, n / x, x // n, x % n, x**2, 2**x, -x


@case([t(2, 3, dtype=torch.int64), 3], [t(4, 3, dtype=torch.int64), -2])
def integer_tensors(x: Tensor, n: int):
    return x + n, x * 2.5, x / n, x // n, x % n, x.float() / 2, x > n, ~x, x & 3, x | 4, x ^ 1


@case([t(3, dtype=torch.int32), t(3, dtype=torch.int64), t(3)],
    [t(3, dtype=torch.uint8), t(3, dtype=torch.int8), t(3, dtype=torch.float64)])
def promotion(a: Tensor, b: Tensor, c: Tensor):
    return a + b, a * c, b - c, torch.where(a > 0, a, b), torch.cat([a.to(b.dtype), b]), a + 1.5, b / 2


@case([t(3, dtype=torch.bool), t(3, dtype=torch.int64)], [v(True, True, False), v(1, 0, 2)])
def bools(a: Tensor, b: Tensor):
    return a & (b > 0), a | (b > 0), ~a, a + b, a.sum(), a.any(), a.all(), a.float().mean(), a == b, a.int()


@case([t(2, 2), torch.tensor(2.5)], [t(3, 1), torch.tensor(-1.0)])
def zero_dim(x: Tensor, s: Tensor):
    return x + s, s * s, s.item(), float(s), int(s), bool(s), x.sum() * s, (x * s).max()


@case([torch.tensor(3), t(2)], [torch.tensor(-3), t(2)])
def zero_dim_int_does_not_promote(n: Tensor, x: Tensor):
    return x + n, n + 1, n / 2, x.half() * n, n * 1.5


@case([3, 4.0], [-2, 0.25], [0, 0.0])
def scalar_functions(n: int, x: float):
    return abs(n), abs(x), min(n, 2), max(n, 2), max(x, 1.0), float(n), int(x), bool(n), n == 2, x >= 0.25, not n


@case([2.5], [-0.5], [10.0])
def math_functions(x: float):
    return (
        math.floor(x), math.ceil(x), math.exp(x), math.sin(x), math.fabs(x), math.sqrt(abs(x)), math.pi * x,
        math.pow(x, 2.0),
    )  # fmt: skip


@case([5, 3], [6, 2], [-6, 1])
def bit_operations(a: int, b: int):
    return a & b, a | b, a ^ b, a << b, a >> b


@case([t(3, 4), t(4, 3)], [t(2, 4), t(4, 5)])
def matrix_products(a: Tensor, b: Tensor):
    return a @ b, torch.mm(a, b) * 2, a.t() @ a, torch.matmul(a, b[:, 0])


@case([t(5)], [t(8)])
def comparisons_chain(x: Tensor):
    m = x.mean()
    n = x.size(0)
    return (x > m).sum(), 3 < n < 7, (x >= 0) & (x < 1), torch.clamp(x, -1, 1), x.clamp(min=0.5)


@case([t(4, 3)], [t(2, 3)])
def reductions(x: Tensor):
    v, i = x.max(dim=1)
    w, j = torch.min(x, 0, keepdim=True)
    return (
        v, i, w, j, x.argmax(), x.sum(0), x.mean([0, 1]), x.prod(1), x.std(), x.var(1, unbiased=False),
        x.amax((0, 1)),
    )  # fmt: skip


@case([t(4, 3)], [t(2, 3)])
def sorting(x: Tensor):
    a, i = x.flatten().sort(descending=True, stable=True)
    b, j = torch.topk(x.flatten(), 2)
    return a, i, b, j, x.cumsum(0), x.flip(1), x.argsort(dim=1, stable=True), torch.unique(x.int())


@case([3, [1, 2, 3]], [0, [5]])
def sums(n: int, xs: List[int]):
    total = 0
    for i in range(n):
        total += i * i
    return total, sum(xs), max(xs), min(xs), sorted(xs), len(xs)


@case([2.0, 3], [0.5, -2])
def float_powers(x: float, n: int):
    return x**n, x * n, x - n, x + n, n / x, x > n


@case([t(2, 3, dtype=torch.float64), t(3)], [t(4, 3, dtype=torch.float64), t(3)])
def doubles(x: Tensor, y: Tensor):
    return x + y, x * 2, torch.exp(x / 10), x.float() + y, torch.softmax(x, 1)


@case([t(3, 4, dtype=torch.float16)], [t(1, 4, dtype=torch.float16)])
def halves(x: Tensor):
    return x + 1, x * x, x.float() / 3, x.sum(1), torch.relu(x), x.softmax(-1)


@case([t(3, 4, dtype=torch.bfloat16)], [t(1, 4, dtype=torch.bfloat16)])
def bfloats(x: Tensor):
    return x + 1, x * x, x.float() / 3, torch.relu(x), x.sum(1)


@case([t(3, dtype=torch.int8)], [t(5, dtype=torch.int8)])
def small_integers(x: Tensor):
    return x + x, x * 100, x.sum(), x.to(torch.uint8), x // 2, x.float()


@case([t(3, dtype=torch.uint8)], [t(5, dtype=torch.uint8)])
def bytes_wrap(x: Tensor):
    return x - 10, x * 100, x.sum(), x.to(torch.int8), x // 2, x / 2, x << 5, x >> 1


@case([True, 3], [False, 0])
def logic(b: bool, n: int):
    return b and n > 2, b or n > 2, not b, (b and n == 3) or not b, b == (n > 1)


@case([t(3)], [v(0.0, float("nan"), float("inf"))])
def special_values(x: Tensor):
    return torch.isnan(x), torch.isinf(x), x.nan_to_num(), (x / 0).isfinite(), torch.maximum(x, torch.zeros(3)), x == x


@case([[3, 4]], [[-1, 9]])
def divmod_and_round(ab: List[int]):
    a, b = ab[0], ab[1]
    q, r = divmod(a, b)
    return q, r, a * b // 3


@case([t(2, 3), 2], [t(2, 3), 5])
def mixed_tuple(x: Tensor, n: int) -> Tuple[Tensor, int, float, bool, str]:
    return x * n, n + 1, n / 2, n > 3, "done"


@case([t(6), 1.5], [t(3), -0.5])
def rounding(x: Tensor, y: float):
    return (
        x.round(), x.floor(), x.ceil(), x.trunc(), torch.sign(x), x.frac(), torch.div(x, y, rounding_mode="floor"),
        torch.div(x, 2, rounding_mode="trunc"),
    )  # fmt: skip


@case([t(4), t(4)])
def lerp_and_friends(x: Tensor, y: Tensor):
    return (
        torch.lerp(x, y, 0.25), torch.addcmul(x, x, y, value=0.5), torch.atan2(x, y), torch.fmod(x, 2),
        torch.remainder(x, 2),
    )  # fmt: skip
