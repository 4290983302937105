"""Writing tensors: through views, through arguments, through several names of one tensor."""

from typing import List, Tuple

import torch
from stepwell_tests_semantics.table import call, case, t, v
from torch import Tensor

SHARED = t(3, 3)


@case([t(3, 4)], [t(2, 4)])
def through_views(x: Tensor):
    y = x.clone()
    row = y[0]
    row += 10
    column = y.t()[1]
    column.mul_(2)
    y.view(-1)[::3].zero_()
    return y, row, column


@case([t(3, 4)], [t(2, 4)])
def argument_through_view(x: Tensor):
    x[:, 1:3].add_(100)
    x.view(-1)[0] = -5
    return x.size(0)


@case([t(3, 4), t(3, 4)], [t(2, 4), t(2, 4)])
def two_arguments(x: Tensor, y: Tensor):
    x += y
    y -= x
    return x * y


@case([t(2, 2)])
def two_names(x: Tensor):
    a = x
    b = x.clone()
    a += 1
    b += 1
    return a, b, x


@case([t(2, 2), True], [t(2, 2), False])
def one_of_two(x: Tensor, first: bool):
    y = x * 2
    z = x if first else y
    z += 1
    return x, y, z


@case([t(2, 2), 1], [t(2, 2), -1], [t(2, 2), 3])
def one_of_two_at_run_time(x: Tensor, n: int):
    y = x * 2
    z = y
    if x.sum() > n:
        z = x
    z += 1
    return x, y, z


@case([t(2, 2)])
def list_of_aliases(x: Tensor):
    a = [x, x, x.clone()]
    a[0] += 1
    a[2] += 10
    return a[0], a[1], a[2]


@case([t(3), t(3)], [t(4), t(4)])
def swap_in_loop(a: Tensor, b: Tensor):
    a, b = a + 1, b + 2
    for i in range(3):
        a, b = b, a
        a += i
    return a, b


@case([t(1), t(1), t(1)])
def rotate_in_loop(a: Tensor, b: Tensor, c: Tensor):
    a, b, c = a * 0, b * 0, c * 0
    for i in range(3):
        a, b, c = c, a, b
        a[0] += 1
    return a, b, c


@case([t(4), 3], [t(4), 0], [t(4), 5])
def accumulate(x: Tensor, n: int):
    total = torch.zeros_like(x)
    for i in range(n):
        total += x * i
        total[0] -= 1
    return total


@case([t(4, 3)], [t(6, 3)])
def fill_rows(x: Tensor):
    out = torch.zeros(x.size(0), 2)
    for i in range(x.size(0)):
        out[i, 0] = x[i].sum()
        out[i, 1] = x[i].max()
    return out


@case([t(5)], [t(8)])
def running_sum(x: Tensor):
    y = x.clone()
    for i in range(1, y.size(0)):
        y[i] += y[i - 1]
    return y


@case([t(2, 3)])
def inplace_activations(x: Tensor):
    y = x + 0
    torch.relu_(y)
    y.clamp_(0, 1).add_(2).div_(3)
    z = torch.nn.functional.relu(y - 1, inplace=True)
    return y, z


@case([t(3, dtype=torch.int64)])
def inplace_keeps_dtype(x: Tensor):
    y = x.clone()
    y += 2
    y *= 3
    z = y.float()
    z += y
    return y, z


@case([t(3, dtype=torch.int64)])
def inplace_refuses_dtype(x: Tensor):
    y = x.clone()
    y += 0.5
    return y


@case([t(3, 1), t(3, 4)])
def inplace_refuses_shape(x: Tensor, y: Tensor):
    z = x.clone()
    z += y
    return z


@case([t(3)])
def returns_view_and_base(x: Tensor):
    y = x * 2
    z = y[1:]
    z += 1
    return y, z


@case([t(3)])
def copy_in_place(x: Tensor):
    y = torch.empty_like(x)
    y.copy_(x)
    y[1:].copy_(x[:-1])
    y.fill_(2.5)
    w = x.clone()
    w[0].fill_(9)
    return y, w


@case([t(3)])
def detach_shares(x: Tensor):
    y = x.clone()
    z = y.detach()
    z += 1
    return y


def bump(x: Tensor, by: int) -> int:
    x += by
    return by + 1


@case([t(3), 1], [t(3), 4])
def callee_writes(x: Tensor, n: int):
    y = x * 1
    n = bump(y, n)
    n = bump(y[1:], n)
    return y, n


@case([t(3), 2], [t(3), 5])
def loop_writes_argument(x: Tensor, n: int):
    for i in range(n):
        x[i % 3] += 1
    return n


@case([t(2, 3), v(True, False)], [t(2, 3), v(False, False)])
def branch_writes(x: Tensor, flags: Tensor):
    y = x.clone()
    for i in range(2):
        if bool(flags[i]):
            y[i] = -1
        else:
            y[i] += 1
    return y


@case([[t(2), t(3)]], [[t(4)]])
def writes_list_argument(xs: List[Tensor]):
    for x in xs:
        x += 1
    xs[0][0] = 5
    return len(xs)


@case([t(3)], [t(5)])
def append_then_write(x: Tensor):
    kept: List[Tensor] = []
    y = x.clone()
    for i in range(3):
        kept.append(y)
        y += 1
    return torch.stack(kept)


@case([t(3)], [t(5)])
def append_copies(x: Tensor):
    kept: List[Tensor] = []
    y = x.clone()
    for i in range(3):
        kept.append(y.clone())
        y += 1
    return torch.stack(kept)


@case([t(3, 3), t(3, 3)], call(SHARED, SHARED))
def same_argument_twice(x: Tensor, y: Tensor):
    x += 1
    return x + y


OVERLAPPING = t(6)


@case(call(OVERLAPPING[1:], OVERLAPPING[:-1]), dynamic="the arguments overlap, and one is written")
def overlapping_arguments(x: Tensor, y: Tensor):
    x += 1
    return x + y


@case([t(3, 4)])
def transpose_in_place(x: Tensor):
    y = x.clone()
    z = y.t()
    z[0] = 1
    y.unsqueeze_(0)
    return y, z


@case([t(4)])
def returns_argument(x: Tensor):
    return x, x, x[1:], x.view(2, 2)


@case([t(4), 3], [t(4), 1])
def masked_in_place(x: Tensor, n: int):
    y = x.clone()
    y.masked_fill_(y > n, 0.0)
    y.index_fill_(0, torch.tensor([0]), -1.0)
    y.index_add_(0, torch.tensor([1, 1]), torch.ones(2))
    return y


@case([t(2, 3)])
def tuple_of_views(x: Tensor) -> Tuple[Tensor, Tensor]:
    y = x.clone()
    a, b = y.unbind(0)
    a += 1
    b.copy_(a)
    return y, a


@case([t(3, 4)], [t(2, 4)])
def reshape_of_transposed_is_a_copy(x: Tensor):
    y = x * 1
    z = y.t().reshape(-1)
    z += 100
    w = y.reshape(-1)
    w += 1
    return y, z, w


@case([t(3, 4)], [t(2, 4)])
def conversions_share_or_copy(x: Tensor):
    y = x * 1
    y.to(torch.float32).add_(1)
    y.to(torch.float64).add_(100)
    y.contiguous().add_(10)
    y.t().contiguous().add_(1000)
    return y


@case([t(4, 6)], [t(4, 8)])
def pieces_are_views(x: Tensor):
    y = x * 1
    for piece in y.split(2):
        piece += 1
    a, b = y.chunk(2, 1)
    a -= b
    return y


@case([t(2, 3)], [t(4, 3)])
def sizes_changed_in_place(x: Tensor):
    y = x * 1
    z = y[0]
    y.unsqueeze_(1).add_(1)
    y.squeeze_(1)
    y.t_()
    y.transpose_(0, 1)
    y[0] = 7
    return y, z


@case([t(20)], [t(25)], dynamic="a tensor is written that a growing list holds")
def list_elements_written_later(x: Tensor):
    kept: List[Tensor] = []
    y = x * 1
    for i in range(x.size(0)):
        kept.append(y)
        y += 1
    return torch.stack(kept).sum(0)
