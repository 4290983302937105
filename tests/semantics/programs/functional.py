"""torch.nn.functional and friends."""

import torch
import torch.nn.functional as F
from stepwell_tests_semantics.table import case, t, v
from torch import Tensor


@case([t(2, 3, 7, 7), t(4, 3, 3, 3), t(4)], [t(1, 3, 7, 7), t(4, 3, 3, 3), t(4)], tolerance=1e-4)
def convolutions(x: Tensor, w: Tensor, b: Tensor):
    return (
        F.conv2d(x, w, b), F.conv2d(x, w, None, stride=2, padding=1), F.conv2d(x, w, b, dilation=2),
        F.conv2d(x, w, padding="same"),
    )  # fmt: skip


@case([t(2, 4, 9), t(4, 1, 3)], [t(1, 4, 5), t(4, 1, 3)], tolerance=1e-4)
def depthwise(x: Tensor, w: Tensor):
    return F.conv1d(x, w, groups=4, padding=1), F.conv_transpose1d(x, w, groups=4, stride=2)


@case([t(2, 3, 8, 8)], [t(1, 3, 6, 6)])
def pooling(x: Tensor):
    return (
        F.max_pool2d(x, 2), F.avg_pool2d(x, 3, stride=1, padding=1), F.adaptive_avg_pool2d(x, [2, 3]),
        F.max_pool2d(x, 3, 2, 1, ceil_mode=True), F.adaptive_max_pool2d(x, 1),
    )  # fmt: skip


@case([t(4, 6)], [t(2, 6)], tolerance=1e-4)
def norms(x: Tensor):
    return (
        F.layer_norm(x, [6]), F.normalize(x, dim=1), F.group_norm(x, 2), F.instance_norm(x[None]),
        torch.linalg.vector_norm(x, dim=1), torch.norm(x, 2, [0]),
    )  # fmt: skip


@case([t(3, 5)], [t(2, 5)])
def activations(x: Tensor):
    return (
        F.gelu(x), F.silu(x), F.elu(x), F.softplus(x), F.hardswish(x), F.leaky_relu(x), F.hardtanh(x), F.mish(x),
        torch.sigmoid(x), F.glu(x[:, :4]), F.relu6(x), F.selu(x), F.tanh(x),
    )  # fmt: skip


@case([t(2, 2, 4, 8), t(2, 2, 5, 8)], [t(1, 2, 4, 8), t(1, 2, 6, 8)], tolerance=1e-4)
def attention(q: Tensor, k: Tensor):
    return F.scaled_dot_product_attention(q, k, k), F.scaled_dot_product_attention(q, q, q, is_causal=True)


@case([t(4, 5), v(0, 1, 4, 2)], [t(2, 5), v(3, 3)], tolerance=1e-4)
def losses(x: Tensor, y: Tensor):
    return (
        F.cross_entropy(x, y), F.nll_loss(F.log_softmax(x, 1), y, reduction="none"), F.mse_loss(x, x * 2),
        F.l1_loss(x, x + 1), F.smooth_l1_loss(x, x * 3), F.binary_cross_entropy_with_logits(x, torch.ones_like(x)),
        F.kl_div(F.log_softmax(x, 1), F.softmax(x * 2, 1), reduction="batchmean"),
    )  # fmt: skip


@case([v(1, 3, 0), t(5, 4)], [v(4), t(5, 4)])
def embeddings(i: Tensor, w: Tensor):
    return F.embedding(i, w), F.one_hot(i, 5), F.embedding(i[None], w).sum(1), F.linear(w, w)


@case([t(1, 2, 3, 3)], [t(2, 2, 4, 4)])
def padding(x: Tensor):
    return (
        F.pad(x, [1, 1]), F.pad(x, [1, 0, 2, 1], value=3.0), F.pad(x, [1, 1, 1, 1], mode="reflect"),
        F.pad(x, [1, 1, 1, 1], mode="replicate"),
    )  # fmt: skip


@case([t(1, 2, 3, 3)], [t(2, 2, 4, 4)], tolerance=1e-4)
def resizing(x: Tensor):
    return (
        F.interpolate(x, scale_factor=2.0), F.interpolate(x, size=[5, 5], mode="bilinear", align_corners=False),
        F.interpolate(x, size=[6, 6], mode="bilinear", align_corners=True),
        F.pixel_shuffle(x.repeat(1, 2, 1, 1), 2),
    )  # fmt: skip


@case([t(3, 4), t(5, 4)], [t(2, 4), t(2, 4)], tolerance=1e-4)
def distances(x: Tensor, y: Tensor):
    return torch.cdist(x, y), F.cosine_similarity(x[:1], y, dim=1), F.pairwise_distance(x[:2], y[:2])


@case([t(2, 3, 4), t(2, 4, 2)], [t(5, 3, 4), t(5, 4, 2)])
def batched_products(a: Tensor, b: Tensor):
    return (
        torch.bmm(a, b), a @ b, torch.baddbmm(torch.ones(1), a, b, beta=0.5), torch.einsum("bij,bjk->bik", a, b),
        torch.matmul(a, b[0]),
    )  # fmt: skip


@case([t(6, 4)], [t(3, 4)])
def softmaxes(x: Tensor):
    return (
        F.softmax(x, 1), x.log_softmax(0), torch.logsumexp(x, 1), F.softmax(x, dim=-1, dtype=torch.float64),
        F.softmin(x, 1),
    )  # fmt: skip


@case([t(2, 5)], [t(1, 5)])
def new_tensors(x: Tensor):
    return (
        x.new_zeros([2]), x.new_full([2, 2], 3.5), torch.zeros_like(x, dtype=torch.int64), torch.ones_like(x),
        torch.tensor([1.0, 2.0], dtype=x.dtype), torch.empty(0), x.to(torch.float64),
        x.double().dtype == torch.float64,
    )  # fmt: skip


@case([t(4, 6)], [t(2, 6)])
def type_queries(x: Tensor):
    return (
        x.dtype == torch.float32, x.is_floating_point(), x.dim(), x.numel(), x.shape[1], x.is_cuda,
        x.device == torch.device("cpu"), x.size(-1), x.ndim,
    )  # fmt: skip


@case([t(2, 20)], [t(2, 32)], tolerance=1e-3)
def spectra(x: Tensor):
    s = torch.stft(x, 8, hop_length=4, window=torch.hann_window(8), return_complex=False, center=True)
    return s
