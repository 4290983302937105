"""Sizes that vary from call to call: the second size compiles once more, the third not again."""

from typing import List

import torch
import torch.nn.functional as F
from stepwell_tests_semantics.table import case, t, v
from torch import Tensor


@case([t(2, 3)], [t(4, 3)], [t(7, 3)], [t(11, 3)], compilations=2)
def pointwise(x: Tensor):
    return x * 2 + x.sum(1, keepdim=True)


@case([t(2, 3), t(3)], [t(4, 5), t(5)], [t(7, 6), t(6)], compilations=2)
def broadcast(x: Tensor, y: Tensor):
    return x + y, y - x, (x.unsqueeze(1) + y.unsqueeze(0)).sum(2)


@case([t(2, 3), t(2, 3)], [t(4, 3), t(4, 3)], [t(4, 3), t(1, 3)], [t(5, 3), t(6, 3)])
def broadcast_of_two_batches(x: Tensor, y: Tensor):
    return x + y


@case([t(2, 3), t(3, 4)], [t(5, 6), t(6, 7)], [t(8, 9), t(9, 2)], compilations=2)
def products(x: Tensor, y: Tensor):
    return x @ y


@case([t(2, 8)], [t(4, 6)], [t(5, 10)], compilations=2)
def reshapes(x: Tensor):
    b, n = x.size()
    y = x.view(b, 2, n // 2).transpose(1, 2).reshape(b * (n // 2), 2)
    return y, x.view(-1), x.reshape(b, -1, 1).squeeze(-1)


@case([t(9)], [t(10)], [t(14)], compilations=2)
def frames(x: Tensor):
    n = (x.size(0) - 3) // 2 + 1
    out = torch.zeros(n)
    for i in range(n):
        out[i] = x[2 * i : 2 * i + 3].sum()
    return out, n


@case([t(2, 3, 4)], [t(5, 3, 4)], [t(6, 3, 4)], compilations=2)
def concatenations(x: Tensor):
    return torch.cat([x, x[:, :1]], 1), torch.cat([x, x], 0), torch.stack([x, x])


@case([t(4, 2)], [t(6, 2)], [t(9, 2)], compilations=2)
def halves_of_batch(x: Tensor):
    n = x.size(0) // 2
    return x[:n], x[n:], x[-n:], x[n - 1], x[: n + 1] * 2


@case([t(4)], [t(6)], [t(9)], compilations=2)
def size_arithmetic(x: Tensor):
    n = x.size(0)
    return n, n * 2 + 1, n // 2, n % 3, n / 2, float(n), max(n, 5), min(n, 5), n > 5


@case([t(3, 4)], [t(5, 4)], [t(8, 4)], compilations=2)
def attention_mask(x: Tensor):
    n = x.size(0)
    mask = torch.full((n, n), float("-inf")).triu(1)
    return F.softmax(x @ x.t() + mask, -1) @ x


@case([t(3, 4), 2], [t(5, 4), 3], [t(8, 4), 4], [t(9, 4), 5], [t(11, 4), 6])
def sizes_and_ints(x: Tensor, n: int):
    return x[:n] * n, x.size(0) - n


@case([t(1, 4)], [t(2, 4)], [t(3, 4)], [t(1, 4)], [t(0, 4)], [t(5, 4)])
def ones_and_zeros(x: Tensor):
    return x + torch.ones(1, 4), x.sum(0), x.mean(1)


@case([[t(2, 3), t(4, 3)]], [[t(5, 3), t(6, 3)]], [[t(7, 3), t(2, 3)]])
def lists_of_sizes(xs: List[Tensor]):
    return torch.cat(xs), xs[0].size(0) + xs[1].size(0)


@case([t(3, 3)], [t(3, 5)], [t(4, 4)], [t(5, 7)])
def branch_on_size(x: Tensor):
    if x.size(0) == x.size(1):
        return x.t() + x
    return x * 2


@case([t(6)], [t(7)], [t(10)], compilations=2)
def pad_to_multiple(x: Tensor):
    extra = (4 - x.size(0) % 4) % 4
    return F.pad(x, [0, extra]).view(-1, 4).sum(1)


@case([t(2, 6)], [t(3, 8)], [t(4, 10)], compilations=2)
def chunks(x: Tensor):
    a, b = x.chunk(2, dim=1)
    return a * torch.sigmoid(b)


@case([v(3, 1, 2), t(4)], [v(2, 2), t(5)], [v(1, 1, 1, 4), t(9)])
def lengths_to_mask(lengths: Tensor, x: Tensor):
    n = int(lengths.max())
    mask = torch.arange(n)[None, :] < lengths[:, None]
    return mask, mask.sum(), x[:n]


@case([t(8)], [t(12)], [t(5)])
def nonzero_then_more(x: Tensor):
    i = (x > 0).nonzero().squeeze(1)
    y = x[i]
    z = torch.cat([y, y * 2])
    return z, z.view(2, -1).sum(1), i.size(0) * 2


@case([t(4, 3)], [t(6, 3)])
def unique_rows_loop(x: Tensor):
    kept = x[:1]
    for i in range(1, x.size(0)):
        if bool(((kept - x[i]).abs().sum(1) > 0).all()):
            kept = torch.cat([kept, x[i : i + 1]])
    return kept


@case([t(2, 3, 4)], [t(3, 5, 4)], [t(4, 2, 4)], compilations=2)
def expand_sizes(x: Tensor):
    b, n, c = x.shape
    return (
        x.unsqueeze(2).expand(b, n, 2, c).reshape(b, n * 2, c), x.new_zeros(b, c) + x[:, 0],
        x.mean(1).expand(2, b, c),
    )  # fmt: skip


@case([t(4, 6)], [t(5, 7)], [t(6, 9)], compilations=2)
def orders(x: Tensor):
    a, i = x.sort(1, descending=True)
    b, j = x.topk(3, 0)
    return a, x.gather(1, i), b, x.gather(0, j), x.argsort(stable=True), torch.unique(x)


@case([t(2, 3, 9, 8)], [t(2, 3, 7, 10)], [t(2, 3, 12, 5)], tolerance=1e-5)
def ceiling_pools(x: Tensor):
    return F.max_pool2d(x, 3, 2, 1, ceil_mode=True), F.avg_pool2d(x, 2, 2, ceil_mode=True), F.adaptive_avg_pool2d(x, [2, 3])
