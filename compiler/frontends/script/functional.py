"""torch.nn.functional in the script language: its signatures, in terms of ops."""

from __future__ import annotations


def _simple(names: str, arguments: str = "") -> str:
    """Functions of one tensor (and `arguments`) that are ops of the same name, with an in-place form."""
    passed = "".join(f", {a.split(':')[0].strip()}" for a in arguments.split(",") if a.strip())
    return "".join(
        f"def {name}(input: Tensor, {arguments + ', ' if arguments else ''}inplace: bool=False) -> Tensor:\n"
        f"  if inplace:\n    return torch.{name}_(input{passed})\n  return torch.{name}(input{passed})\n"
        for name in names.split()
    )


def _plain(names: str, arguments: str = "") -> str:
    """As `_simple`, without an in-place form."""
    passed = "".join(f", {a.split(':')[0].strip()}" for a in arguments.split(",") if a.strip())
    return "".join(
        f"def {name}(input: Tensor{', ' + arguments if arguments else ''}) -> Tensor:\n"
        f"  return torch.{name}(input{passed})\n"
        for name in names.split()
    )


def _pooling() -> str:
    text = ""
    for n in (1, 2, 3):
        text += f"""
def max_pool{n}d(input: Tensor, kernel_size: BroadcastingList{n}, stride: Optional[BroadcastingList{n}]=None,
    padding: BroadcastingList{n}=0, dilation: BroadcastingList{n}=1, ceil_mode: bool=False,
    return_indices: bool=False) -> Tensor:
  if stride is None:
    stride = annotate(BroadcastingList{n}, [])
  return torch.max_pool{n}d(input, kernel_size, stride, padding, dilation, ceil_mode)
def adaptive_avg_pool{n}d(input: Tensor, output_size: BroadcastingList{n}) -> Tensor:
  return torch.adaptive_avg_pool{n}d(input, output_size)
"""
    text += """
def avg_pool1d(input: Tensor, kernel_size: BroadcastingList1, stride: Optional[BroadcastingList1]=None,
    padding: BroadcastingList1=0, ceil_mode: bool=False, count_include_pad: bool=True) -> Tensor:
  if stride is None:
    stride = annotate(BroadcastingList1, [])
  return torch.avg_pool1d(input, kernel_size, stride, padding, ceil_mode, count_include_pad)
"""
    for n in (2, 3):
        text += f"""
def avg_pool{n}d(input: Tensor, kernel_size: BroadcastingList{n}, stride: Optional[BroadcastingList{n}]=None,
    padding: BroadcastingList{n}=0, ceil_mode: bool=False, count_include_pad: bool=True,
    divisor_override: Optional[int]=None) -> Tensor:
  if stride is None:
    stride = annotate(BroadcastingList{n}, [])
  return torch.avg_pool{n}d(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
"""
    return text


_ACTIVATIONS = (
    _simple("relu relu6 silu mish hardswish hardsigmoid selu")
    + _simple("elu celu", "alpha: float=1.0")
    + _simple("leaky_relu", "negative_slope: float=0.01")
    + _simple("hardtanh", "min_val: float=-1.0, max_val: float=1.0")
    + _simple("threshold", "threshold: float, value: float")
    + _plain("sigmoid tanh relu_ softsign tanhshrink")
    + _plain("log_sigmoid")
    + _plain("hardshrink softshrink", "lambd: float=0.5")
    + _plain("glu", "dim: int=-1")
    + _plain("prelu", "weight: Tensor")
)

_REDUCTION = """
def _reduction(reduction: str) -> int:
  if reduction == "none":
    return 0
  if reduction == "mean":
    return 1
  if reduction == "sum":
    return 2
  ops.prim.RaiseException("{} is not a valid value for reduction".format(reduction), "builtins.ValueError")
"""

SOURCE = (
    _ACTIVATIONS.replace("def log_sigmoid(input: Tensor)", "def logsigmoid(input: Tensor)")
    .replace("torch.softsign(input)", "torch.div(input, torch.add(torch.abs(input), 1))")
    .replace("torch.tanhshrink(input)", "torch.sub(input, torch.tanh(input))")
    + _pooling()
    + _REDUCTION
    + """
def gelu(input: Tensor, *, approximate: str="none") -> Tensor:
  return torch.gelu(input, approximate=approximate)
def softplus(input: Tensor, beta: float=1.0, threshold: float=20.0) -> Tensor:
  return torch.softplus(input, beta, threshold)
def softmax(input: Tensor, dim: Optional[int]=None, _stacklevel: int=3, dtype: Optional[int]=None) -> Tensor:
  if dim is None:
    dim = __torch__.torch.nn.functional._softmax_dim(torch.dim(input))
  return torch.softmax(input, dim, dtype)
def log_softmax(input: Tensor, dim: Optional[int]=None, _stacklevel: int=3, dtype: Optional[int]=None) -> Tensor:
  if dim is None:
    dim = __torch__.torch.nn.functional._softmax_dim(torch.dim(input))
  return torch.log_softmax(input, dim, dtype)
def softmin(input: Tensor, dim: Optional[int]=None, _stacklevel: int=3, dtype: Optional[int]=None) -> Tensor:
  if dim is None:
    dim = __torch__.torch.nn.functional._softmax_dim(torch.dim(input))
  return torch.softmax(torch.neg(input), dim, dtype)
def _softmax_dim(rank: int) -> int:
  if rank == 0 or rank == 1 or rank == 3:
    return 0
  return 1
def dropout(input: Tensor, p: float=0.5, training: bool=True, inplace: bool=False) -> Tensor:
  if inplace:
    return torch.dropout_(input, p, training)
  return torch.dropout(input, p, training)
def linear(input: Tensor, weight: Tensor, bias: Optional[Tensor]=None) -> Tensor:
  return torch.linear(input, weight, bias)
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Optional[Tensor]=None) -> Tensor:
  return torch.bilinear(input1, input2, weight, bias)
def embedding(input: Tensor, weight: Tensor, padding_idx: Optional[int]=None, max_norm: Optional[float]=None,
    norm_type: float=2.0, scale_grad_by_freq: bool=False, sparse: bool=False) -> Tensor:
  if padding_idx is None:
    padding_idx = -1
  return torch.embedding(weight, input, padding_idx, scale_grad_by_freq, sparse)
def one_hot(input: Tensor, num_classes: int=-1) -> Tensor:
  return torch.one_hot(input, num_classes)
def layer_norm(input: Tensor, normalized_shape: List[int], weight: Optional[Tensor]=None,
    bias: Optional[Tensor]=None, eps: float=1e-05) -> Tensor:
  return torch.layer_norm(input, normalized_shape, weight, bias, eps)
def rms_norm(input: Tensor, normalized_shape: List[int], weight: Optional[Tensor]=None,
    eps: Optional[float]=None) -> Tensor:
  return torch.rms_norm(input, normalized_shape, weight, eps)
def group_norm(input: Tensor, num_groups: int, weight: Optional[Tensor]=None, bias: Optional[Tensor]=None,
    eps: float=1e-05) -> Tensor:
  return torch.group_norm(input, num_groups, weight, bias, eps)
def batch_norm(input: Tensor, running_mean: Optional[Tensor], running_var: Optional[Tensor],
    weight: Optional[Tensor]=None, bias: Optional[Tensor]=None, training: bool=False, momentum: float=0.1,
    eps: float=1e-05) -> Tensor:
  return torch.batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, True)
def instance_norm(input: Tensor, running_mean: Optional[Tensor]=None, running_var: Optional[Tensor]=None,
    weight: Optional[Tensor]=None, bias: Optional[Tensor]=None, use_input_stats: bool=True, momentum: float=0.1,
    eps: float=1e-05) -> Tensor:
  return torch.instance_norm(input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps, True)
def normalize(input: Tensor, p: float=2.0, dim: int=1, eps: float=1e-12) -> Tensor:
  norm = torch.linalg_vector_norm(input, p, [dim], True)
  return torch.div(input, torch.expand_as(torch.clamp_min(norm, eps), input))
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int=1, eps: float=1e-08) -> Tensor:
  return torch.cosine_similarity(x1, x2, dim, eps)
def pairwise_distance(x1: Tensor, x2: Tensor, p: float=2.0, eps: float=1e-06, keepdim: bool=False) -> Tensor:
  return torch.pairwise_distance(x1, x2, p, eps, keepdim)
def pad(input: Tensor, pad: List[int], mode: str="constant", value: Optional[float]=None) -> Tensor:
  return torch.pad(input, pad, mode, value)
def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Optional[Tensor]=None,
    dropout_p: float=0.0, is_causal: bool=False, scale: Optional[float]=None, enable_gqa: bool=False) -> Tensor:
  return torch.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale,
      enable_gqa=enable_gqa)
def mse_loss(input: Tensor, target: Tensor, reduction: str="mean") -> Tensor:
  return torch.mse_loss(input, target, __torch__.torch.nn.functional._reduction(reduction))
def l1_loss(input: Tensor, target: Tensor, reduction: str="mean") -> Tensor:
  return torch.l1_loss(input, target, __torch__.torch.nn.functional._reduction(reduction))
def cross_entropy(input: Tensor, target: Tensor, weight: Optional[Tensor]=None, ignore_index: int=-100,
    reduction: str="mean", label_smoothing: float=0.0) -> Tensor:
  return torch.cross_entropy_loss(input, target, weight, __torch__.torch.nn.functional._reduction(reduction),
      ignore_index, label_smoothing)
def nll_loss(input: Tensor, target: Tensor, weight: Optional[Tensor]=None, ignore_index: int=-100,
    reduction: str="mean") -> Tensor:
  return torch.nll_loss_nd(input, target, weight, __torch__.torch.nn.functional._reduction(reduction), ignore_index)
def upsample_nearest(input: Tensor, size: Optional[List[int]]=None, scale_factor: Optional[List[float]]=None
    ) -> Tensor:
  return torch.upsample_nearest2d(input, size, scale_factor)
def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
  return torch.pixel_shuffle(input, upscale_factor)
"""
)
"""The functions that are more than an op of the same name and arguments; conv and unfold, say, are such ops."""
