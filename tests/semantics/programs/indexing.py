"""Reading and writing parts of tensors."""

from typing import List, Optional

import torch
from stepwell_tests_semantics.table import case, t, v
from torch import Tensor


@case([t(4, 5)], [t(3, 5)], [t(7, 5)], compilations=2)
def basic(x: Tensor):
    return x[0], x[-1], x[1:3], x[:, -2], x[..., 0], x[None], x[:, ::2], x[1, 2], x[-2:, 1:-1]


@case([t(4, 5), 1], [t(4, 5), -1], [t(4, 5), 3])
def run_time_index(x: Tensor, i: int):
    return x[i], x[:, i], x[i, i], x[i:], x[:i]


@case([t(4, 5), 4], [t(4, 5), -5], [t(4, 5), 0])
def index_out_of_range(x: Tensor, i: int):
    return x[i]


@case([t(4, 5)], [t(6, 5)])
def masks(x: Tensor):
    m = x > 0
    return x[m], x[m].sum(), x.masked_fill(m, -1.0), torch.masked_select(x, m), x[m].numel()


@case([t(4, 5), v(0, 2, 2)], [t(6, 5), v(-1, 5)])
def tensors_as_indices(x: Tensor, i: Tensor):
    return (
        x[i], x[:, i.clamp(0, 4)], x[i, i.clamp(0, 4)], torch.index_select(x, 0, i.abs() % 4), x[[0, 1]],
        x[i][:, None],
    )  # fmt: skip


@case([t(4, 5)], [t(3, 5)])
def assign_parts(x: Tensor):
    y = x.clone()
    y[0] = 1.0
    y[:, 1] = y[:, 2]
    y[1:3, ::2] = -y[1:3, 1::2][:, :1]
    y[-1, -1] = 7
    return y, x


@case([t(4, 5)], [t(3, 5)])
def assign_argument(x: Tensor):
    x[1] = 0.0
    x[:, 0] += 1
    return x.sum()


@case([t(4, 5), 2.0], [t(3, 5), -1.0])
def masked_assignment(x: Tensor, value: float):
    y = x.clone()
    y[y > 1] = value
    y[y < -1] *= 2
    return y


@case([t(4, 5), v(0, 2)], [t(6, 5), v(5, 1, 3)])
def index_assignment(x: Tensor, i: Tensor):
    y = x.clone()
    y[i] = 0.0
    y[i, i % 5] += 3.0
    y[:, i % 5] = y[:, :1]
    return y


@case([t(3, 4), t(4)], [t(2, 4), t(1)])
def assign_with_broadcast(x: Tensor, y: Tensor):
    z = torch.zeros_like(x)
    z[:] = y
    z[0] = y.sum()
    return z


@case([t(2, 3, 4)], [t(5, 3, 4)])
def views(x: Tensor):
    return (
        x.view(-1, 4), x.reshape(x.size(0), -1), x.permute(2, 0, 1), x.transpose(0, 1).contiguous().view(-1),
        x.unsqueeze(1).squeeze(1), x.flatten(1), x.narrow(1, 1, 2), x.select(2, -1),
    )  # fmt: skip


@case([t(2, 3, 4)], [t(5, 3, 4)], script=True)
def splits(x: Tensor):
    # Lists, as in TorchScript; eager torch gives tuples.
    a, b, c = x.unbind(1)
    d, e = x.split([1, 2], dim=1)
    f = x.chunk(2, dim=2)
    return a + b, c, d, e, f, x.split(2, 1)[1]


@case([t(2, 3)], [t(4, 3)])
def joins(x: Tensor):
    return (
        torch.cat([x, x * 2]), torch.stack([x, x], 1), torch.cat((x, x[:1]), dim=0), torch.stack([x[0], x[1]]),
        x.repeat(2, 1), x.expand(2, -1, -1), x.repeat_interleave(2, dim=0),
    )  # fmt: skip


@case([t(3, 3)], [t(5, 5)])
def triangles(x: Tensor):
    return x.tril(), x.triu(1), x.diagonal(), torch.diag(x), torch.eye(3), x.trace() if x.size(0) == 3 else x.sum()


@case([t(3, 4), v(1, 0, 3).view(3, 1)], [t(2, 4), v(2, 2).view(2, 1)])
def gather_scatter(x: Tensor, i: Tensor):
    return (
        x.gather(1, i), torch.zeros_like(x).scatter(1, i, 1.0), x.scatter_add(1, i, x[:, :1]),
        torch.take_along_dim(x, i, 1),
    )  # fmt: skip


@case([t(6)], [v(0, 0, 1, 0)], [v(0, 0)])
def nonzero_positions(x: Tensor):
    i = torch.nonzero(x > 0)
    w = torch.where(x > 0)[0]
    return i, w, i.size(0), x[w] * 2


@case([t(4, 5), None], [t(4, 5), t(5)])
def optional_tensor(x: Tensor, b: Optional[Tensor]):
    if b is not None:
        x = x + b
    return x


@case([t(5, 2), [3, 0]], [t(4, 2), [1]])
def list_as_index(x: Tensor, rows: List[int]):
    return x[rows], [x[r] for r in rows]


@case([t(0, 3)], [t(2, 3)])
def zero_size(x: Tensor):
    return (
        x + 1, x.sum(), x.sum(0), torch.cat([x, torch.ones(1, 3)]), x.numel(), x.reshape(-1), x.mean(1),
        (x > 0).any(),
    )  # fmt: skip


@case([t(3, 5), 1], [t(3, 5), 2], [t(3, 5), 3])
def step_slices(x: Tensor, s: int):
    return x[:, ::s], x[:, 1::s].sum(), x[:, :-1:s]


@case([t(6, 2)], [t(3, 2)])
def ellipsis_and_none(x: Tensor):
    return x[..., None], x[None, :, 0], x[:, None, 1:], x[1:, ..., 0]


@case([t(4, 4)], [t(2, 4)])
def squeeze_sizes(x: Tensor):
    y = x[:1]
    return y.squeeze(0), x.unsqueeze(0).squeeze(), x.squeeze(0), x.squeeze()


@case([t(3, 4)], [t(1, 4)], [t(5, 4)], [t(7, 4)])
def squeeze_symbolic(x: Tensor):
    return x.squeeze(0)


@case([t(4)], [t(6)], [t(9)], compilations=2)
def arange_and_friends(x: Tensor):
    n = x.size(0)
    return (
        torch.arange(n), torch.arange(1, n, 2), torch.linspace(0, 1, n), torch.zeros(n, 2), torch.full((n,), 3),
        torch.ones(2, n, dtype=torch.int64), torch.arange(n, dtype=torch.float32) * x,
    )  # fmt: skip


@case([t(3, 4)], [t(6, 2)])
def meshgrid_and_outer(x: Tensor):
    a, b = torch.meshgrid(x[:, 0], x[0], indexing="ij")
    return a, b, torch.outer(x[:, 0], x[0]), torch.einsum("ij,kj->ik", x, x)


@case([t(2, 6)], [t(3, 6)])
def unfold_and_roll(x: Tensor):
    return x.unfold(1, 3, 2), torch.roll(x, 1, 0), torch.roll(x, [-1], [1]), x.view(x.size(0), 2, 3).movedim(1, 2)
