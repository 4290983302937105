"""Sums of products: matrix products in all forms, linear, einsum. Each is one linalg.generic over labelled dimensions."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from xdsl.ir.affine import AffineExpr, AffineMap

from stepwell.dialects import dtypes
from stepwell.dialects.dtypes import DType
from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, RuntimeFault, Sample, TensorInfo, declare, op, sample
from stepwell.dialects.torch.linalg_builder import PARALLEL, REDUCTION, LinalgBuilder, Tensor
from stepwell.dialects.torch.ops.dimensions import broadcast_sizes, differ, is_one, require, wrap
from stepwell.dialects.torch.ops.elementwise import as_dtype
from stepwell.dialects.torch.ops.promotion import facts
from stepwell.dialects.torch.ops.samples import integers, normal
from stepwell.dialects.torch.scalar import Scalar, compute_dtype
from stepwell.dialects.torch.sizes import Size, product


def contract(
    b: LinalgBuilder, labels: Sequence[str], out: str, tensors: Sequence[Tensor], dtype: DType, refused: str = ""
) -> Tensor:
    """The sum over all labels that are not in `out` of the product of the tensors' elements.

    labels[n] names tensor n's dimensions, a character each; equal labels have equal sizes (or 1, read at 0).
    Iterates over the labels of `out`, then over the summed ones in order of appearance. 16-bit floats
    accumulate in float32.
    """
    order = [*out, *dict.fromkeys(c for text in labels for c in text if c not in out)]
    sizes = label_sizes(labels, [t.sizes for t in tensors], lambda a, s: b.require_equal(a, s, refused))
    inner = compute_dtype(dtype)
    maps = [_label_map(text, t.sizes, order, sizes) for text, t in zip(labels, tensors, strict=True)]
    result_sizes = [sizes[c] for c in out]

    def body(at: Any, elements: list[Scalar]) -> Scalar:
        value = elements[0].cast(inner)
        for element in elements[1:-1]:
            value = value * element.cast(inner)
        return elements[-1] + value

    result = b.generic(
        tensors, maps, [PARALLEL if c in out else REDUCTION for c in order], result_sizes, inner, body,
        output_map=AffineMap(len(order), 0, tuple(AffineExpr.dimension(n) for n in range(len(out)))),
        initial=b.fill(0, result_sizes, inner),
    )  # fmt: skip
    return b.cast(result, dtype)


def label_sizes(
    labels: Sequence[str], shapes: Sequence[Sequence[Size]], check: Callable[[Size, Size], None]
) -> dict[str, Size]:
    """The size of each label; size 1 gives way to others, check(a, b) is told of symbolic ones to be equal."""
    found: dict[str, Size] = {}
    for text, shape in zip(labels, shapes, strict=True):
        for label, size in zip(text, shape, strict=True):
            known = found.get(label)
            if known is None or is_one(known):
                found[label] = size
            elif not is_one(size) and known != size:
                check(known, size)
    return found


def _label_map(text: str, shape: Sequence[Size], order: Sequence[str], sizes: dict[str, Size]) -> AffineMap:
    results = [
        AffineExpr.constant(0) if is_one(size) and not is_one(sizes[c]) else AffineExpr.dimension(order.index(c))
        for c, size in zip(text, shape, strict=True)
    ]
    return AffineMap(len(order), 0, tuple(results))


def _numpy_einsum(equation: str, *arrays: Array) -> Array:
    """Floats are summed in float64."""
    dtype = arrays[0].dtype
    wide = [a if a.dtype.kind in "iub" else a.astype(np.float64) for a in arrays]
    return as_dtype(np.asarray(np.einsum(equation, *wide)), dtypes.from_numpy(dtype))


def _same_dtype(x: TensorInfo, y: TensorInfo) -> None:
    require(x.dtype == y.dtype, f"expected m1 and m2 to have the same dtype, but got: {_cpp(x.dtype)} != {_cpp(y.dtype)}")


def _cpp(dtype: DType) -> str:
    names = {"float32": "float", "float64": "double", "int64": "long int", "int32": "int", "float16": "c10::Half"}
    return names.get(dtype.name, dtype.name)


def _rank(x: TensorInfo, rank: int, message: str) -> None:
    require(x.rank == rank, message)


# ------ products of fixed ranks


def _fixed(
    schema: str, equation: str, ranks: tuple[int, int], messages: tuple[str, str], mismatch: Callable[..., str],
    samples: Callable[[], Any], doc: str,
) -> None:  # fmt: skip
    """Declare a product of two tensors by its labels: "mk,kn->mn"."""
    labels, _, out = equation.partition("->")
    left, right = labels.split(",")

    def infer(x: TensorInfo, y: TensorInfo) -> TensorInfo:
        _rank(x, ranks[0], messages[0])
        _rank(y, ranks[1], messages[1])
        sizes: dict[str, Size] = {}
        for label, size in zip(left + right, (*x.sizes, *y.sizes), strict=True):
            require(not differ(sizes.setdefault(label, size), size), mismatch(x, y))
        _same_dtype(x, y)
        return x.with_sizes(sizes[c] for c in out)

    def lower(b: LinalgBuilder, info: TensorInfo, x: Tensor, y: Tensor) -> Tensor:
        return contract(b, [left, right], out, [x, y], info.dtype, mismatch(x.info, y.info))

    declare(
        schema, infer=infer, reference=lambda x, y: _numpy_einsum(equation, x, y), lower=lower, samples=samples, doc=doc,
        source=f"{__name__} ({schema.partition('(')[0]})",
    )  # fmt: skip


def _by(*sizes: Size) -> str:
    return "x".join(map(str, sizes))


_fixed(
    "aten::mm(Tensor self, Tensor mat2) -> Tensor", "mk,kn->mn", (2, 2), ("self must be a matrix", "mat2 must be a matrix"),
    lambda x, y: f"mat1 and mat2 shapes cannot be multiplied ({_by(*x.sizes)} and {_by(*y.sizes)})",
    lambda: [sample(normal(2, 3), normal(3, 4)), sample(normal(2, 0), normal(0, 3)), sample(integers(2, 3), integers(3, 2)),
             sample(normal(1, 5), normal(5, 1)), sample(normal(2, 3, dtype=np.float16), normal(3, 2, dtype=np.float16))],
    "The matrix product.",
)  # fmt: skip
_fixed(
    "aten::bmm(Tensor self, Tensor mat2) -> Tensor", "bmk,bkn->bmn", (3, 3),
    ("batch1 must be a 3D tensor", "batch2 must be a 3D tensor"),
    lambda x, y: f"Expected size for first two dimensions of batch2 tensor to be: [{x.sizes[0]}, {x.sizes[2]}] but got: [{y.sizes[0]}, {y.sizes[1]}].",  # noqa: E501
    lambda: [sample(normal(2, 3, 4), normal(2, 4, 5)), sample(normal(0, 3, 4), normal(0, 4, 5))],
    "Matrix products in a batch.",
)  # fmt: skip
_fixed(
    "aten::mv(Tensor self, Tensor vec) -> Tensor", "mk,k->m", (2, 1), ("vector + matrix @ vector expected, got 1, 1, 1",) * 2,
    lambda x, y: f"size mismatch, got input ({x.sizes[0]}), mat ({_by(*x.sizes)}), vec ({y.sizes[0]})",
    lambda: [sample(normal(2, 3), normal(3))], "A matrix times a vector.",
)  # fmt: skip
for _schema in ("aten::dot(Tensor self, Tensor tensor) -> Tensor", "aten::vdot(Tensor self, Tensor other) -> Tensor"):
    _fixed(
        _schema, "k,k->", (1, 1), ("1D tensors expected",) * 2,
        lambda x, y: f"inconsistent tensor size, expected tensor [{x.sizes[0]}] and src [{y.sizes[0]}] to have the same number of elements, but got {x.sizes[0]} and {y.sizes[0]} elements respectively",  # noqa: E501
        lambda: [sample(normal(3), normal(3, seed=1)), sample(normal(0), normal(0)), sample(integers(4), integers(4))],
        "The inner product of two vectors.",
    )  # fmt: skip
for _schema in ("aten::outer(Tensor self, Tensor vec2) -> Tensor", "aten::ger(Tensor self, Tensor vec2) -> Tensor"):
    declare(
        _schema, infer=lambda x, y: x.with_sizes((x.sizes[0], y.sizes[0])), reference=lambda x, y: np.outer(x, y),
        expand=lambda b, x, y: b.mul(b.unsqueeze(x, 1), y), samples=lambda: [sample(normal(2), normal(3))],
        doc="All products of two vectors' elements.", source=f"{__name__} ({_schema.partition('(')[0]})",
    )  # fmt: skip


# ------ linear


@op("aten::linear(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor")
class Linear:
    """x W^T + bias over the last dimension; the weight is read as it lies, without a transpose."""

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield sample(normal(2, 3), normal(4, 3), normal(4))
        yield sample(normal(2, 5, 3), normal(4, 3))
        yield sample(normal(3), normal(4, 3), normal(4))
        yield sample(normal(0, 3), normal(4, 3), normal(4))
        yield sample(normal(2, 3), normal(3))

    @staticmethod
    def infer(x: TensorInfo, weight: TensorInfo, bias: TensorInfo | None) -> TensorInfo:
        require(x.rank > 0 and weight.rank in (1, 2), f"both arguments to linear need to be at least 1D, but they are {x.rank}D and {weight.rank}D")  # noqa: E501  # fmt: skip
        if differ(x.sizes[-1], weight.sizes[-1]):
            rows = product(x.sizes[:-1])
            raise RuntimeFault(f"mat1 and mat2 shapes cannot be multiplied ({_by(rows, x.sizes[-1])} and {_by(*weight.sizes[::-1])})")
        _same_dtype(x, weight)
        return x.with_sizes((*x.sizes[:-1], *weight.sizes[:-1]))

    @staticmethod
    def reference(x: Array, weight: Array, bias: Array | None) -> Array:
        y = x.astype(np.float64) @ weight.astype(np.float64).T
        return np.asarray(y if bias is None else y + bias).astype(x.dtype)

    @staticmethod
    def lower(b: LinalgBuilder, out: TensorInfo, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        flat = b.reshape(x, [product(x.sizes[:-1]), x.sizes[-1]]) if x.rank != 2 else x
        columns = "n" if weight.rank == 2 else ""
        message = "mat1 and mat2 shapes cannot be multiplied"
        result = contract(b, ["mk", f"{columns}k"], f"m{columns}", [flat, weight], compute_dtype(out.dtype), message)
        if bias is not None:
            result = b.elementwise(lambda p, q: p + q, result, bias, dtype=out.dtype, compute=compute_dtype(out.dtype))
        return b.reshape(b.cast(result, out.dtype), out.sizes)


# ------ matmul of all ranks


def _matmul_info(x: TensorInfo, y: TensorInfo) -> TensorInfo:
    require(x.rank > 0 and y.rank > 0, f"both arguments to matmul need to be at least 1D, but they are {x.rank}D and {y.rank}D")
    _same_dtype(x, y)
    inner = y.sizes[-2] if y.rank > 1 else y.sizes[0]
    if differ(x.sizes[-1], inner):
        if x.rank <= 2 and y.rank <= 2:
            left = (1, *x.sizes) if x.rank == 1 else x.sizes
            raise RuntimeFault(f"mat1 and mat2 shapes cannot be multiplied ({_by(*left)} and {_by(*y.sizes)})")
        raise RuntimeFault(
            f"Expected size for first two dimensions of batch2 tensor to be: [{product(y.sizes[:-2])}, {x.sizes[-1]}] but "
            f"got: [{product(y.sizes[:-2])}, {inner}]."
        )
    batch = broadcast_sizes(x.sizes[:-2], y.sizes[:-2])
    rows = x.sizes[-2:-1]
    columns = y.sizes[-1:] if y.rank > 1 else ()
    return x.with_sizes((*batch, *rows, *columns))


def _matmul_expand(b: TorchBuilder, x: Value, y: Value) -> Value:
    sizes = list(_matmul_info(x.tensor, y.tensor).sizes)
    if y.rank == 1:
        if x.rank == 1:
            return b.dot(x, y)  # type: ignore[no-any-return]
        flat = x if x.rank == 2 else b.view(x, [product(x.sizes[:-1]), x.sizes[-1]])
        return _under(b, b.mv(flat, y), sizes)
    if y.rank == 2:
        # All rows of the batch in one product.
        flat = x if x.rank == 2 else b.view(x, [product(x.sizes[:-1]), x.sizes[-1]])
        return _under(b, b.mm(flat, y), sizes)
    if x.rank == 1:
        return _under(b, _matmul_expand(b, b.unsqueeze(x, 0), y), sizes)
    batch = list(broadcast_sizes(x.sizes[:-2], y.sizes[:-2]))
    left, right = (
        b.view(b.expand(v, [*batch, *v.sizes[-2:]]) if list(v.sizes[:-2]) != batch else v, [product(batch), *v.sizes[-2:]])
        for v in (x, y)
    )
    return _under(b, b.bmm(left, right), sizes)


def _under(b: TorchBuilder, x: Value, sizes: list[Size]) -> Value:
    return x if list(x.sizes) == sizes else b.view(x, sizes)


def _matmul_reference(x: Array, y: Array) -> Array:
    _matmul_info(facts(x), facts(y))
    if x.dtype.kind in "iub":
        return np.asarray(x @ y)
    return np.asarray(x.astype(np.float64) @ y.astype(np.float64)).astype(x.dtype)


declare(
    "aten::matmul(Tensor self, Tensor other) -> Tensor", infer=_matmul_info, reference=_matmul_reference,
    expand=_matmul_expand, doc="The matrix product; leading dimensions are a batch and broadcast.",
    samples=lambda: [
        sample(normal(2, 3), normal(3, 4)), sample(normal(3), normal(3)), sample(normal(2, 3), normal(3)), sample(normal(3), normal(3, 4)),
        sample(normal(2, 3, 4), normal(4, 5)), sample(normal(2, 3, 4), normal(4)), sample(normal(2, 3, 4), normal(2, 4, 5)),
        sample(normal(2, 1, 3, 4), normal(5, 4, 2)), sample(normal(4), normal(2, 4, 3)), sample(normal(3, 4), normal(2, 4, 3)),
        sample(normal(0, 3, 4), normal(4, 5)),
    ],
)  # fmt: skip


# ------ products added to something: beta * self + alpha * (a @ b)


def _added(name: str, arguments: str, multiply: str, doc: str, samples: Callable[[], Any]) -> None:
    def infer(x: TensorInfo, p: TensorInfo, q: TensorInfo, beta: Any, alpha: Any) -> TensorInfo:
        result = _product_info(multiply, p, q)
        require(broadcast_sizes(result.sizes, x.sizes) == result.sizes, f"The expanded size of the tensor must match the existing size. Target sizes: {list(result.sizes)}.  Tensor sizes: {list(x.sizes)}")  # noqa: E501  # fmt: skip
        require(x.dtype == result.dtype, f"self and mat2 must have the same dtype, but got {x.dtype.title} and {q.dtype.title}")
        return result

    def reference(x: Array, p: Array, q: Array, beta: Any, alpha: Any) -> Array:
        exact = x.dtype.kind in "iub"
        left, right = (p, q) if exact else (p.astype(np.float64), q.astype(np.float64))
        result = np.multiply.outer(left, right) if multiply == "outer" else left @ right
        if multiply == "sum":
            result = result.sum(0)
        result = result * alpha
        return as_dtype(np.asarray(result if beta == 0 else result + x * beta), facts(x).dtype)

    def expand(b: TorchBuilder, x: Value, p: Value, q: Value, beta: Any, alpha: Any) -> Value:
        result = _product(b, multiply, p, q)
        result = result if alpha == 1 else b.mul(result, alpha)
        if beta == 0:
            return result
        return b.add(result, x if beta == 1 else b.mul(x, beta))  # type: ignore[no-any-return]

    declare(
        f"aten::{name}(Tensor self, {arguments}, *, Scalar beta=1, Scalar alpha=1) -> Tensor", infer=infer,
        reference=reference, expand=expand, inplace=True, doc=doc, samples=samples, source=f"{__name__} (aten::{name})",
    )  # fmt: skip


def _product_info(multiply: str, p: TensorInfo, q: TensorInfo) -> TensorInfo:
    if multiply == "outer":
        return p.with_sizes((*p.sizes, *q.sizes))
    result = _matmul_info(p, q)
    return result.with_sizes(result.sizes[1:]) if multiply == "sum" else result


def _product(b: TorchBuilder, multiply: str, p: Value, q: Value) -> Value:
    if multiply == "sum":
        return b.sum(b.bmm(p, q), [0])  # type: ignore[no-any-return]
    return b.call(f"aten::{multiply}", p, q)  # type: ignore[no-any-return]


_added("addmm", "Tensor mat1, Tensor mat2", "mm", "beta * self + alpha * mat1 @ mat2",
       lambda: [sample(normal(4), normal(2, 3), normal(3, 4)), sample(normal(2, 4), normal(2, 3), normal(3, 4), beta=0.5, alpha=2),
                sample(np.full((2, 4), np.nan, np.float32), normal(2, 3), normal(3, 4), beta=0)])  # fmt: skip
_added("baddbmm", "Tensor batch1, Tensor batch2", "bmm", "beta * self + alpha * batch1 @ batch2",
       lambda: [sample(normal(2, 3, 5), normal(2, 3, 4), normal(2, 4, 5)), sample(normal(5), normal(2, 3, 4), normal(2, 4, 5), alpha=2)])  # fmt: skip  # noqa: E501
_added("addbmm", "Tensor batch1, Tensor batch2", "sum", "beta * self + alpha * the sum of batch1 @ batch2",
       lambda: [sample(normal(3, 5), normal(2, 3, 4), normal(2, 4, 5))])  # fmt: skip
_added("addmv", "Tensor mat, Tensor vec", "mv", "beta * self + alpha * mat @ vec", lambda: [sample(normal(2), normal(2, 3), normal(3))])
_added("addr", "Tensor vec1, Tensor vec2", "outer", "beta * self + alpha * vec1 outer vec2",
       lambda: [sample(normal(2, 3), normal(2), normal(3))])  # fmt: skip


# ------ einsum, tensordot


def parse_einsum(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Labels of every operand and of the result; the dimensions of `...` get labels of their own."""
    text = equation.replace(" ", "")
    inputs, arrow, out = text.partition("->")
    terms = inputs.split(",")
    require(len(terms) == len(ranks), "einsum(): fewer operands were provided than specified in the equation" if len(terms) > len(ranks) else "einsum(): more operands were provided than specified in the equation")  # noqa: E501  # fmt: skip
    unused = [c for c in "αβγδεζηθικλμνξοπρστυφχψω" if c not in text]
    widest = max((r - len(t.replace("...", "")) for t, r in zip(terms, ranks, strict=True) if "..." in t), default=0)
    dots = unused[:widest]
    labels: list[str] = []
    for term, rank in zip(terms, ranks, strict=True):
        own = rank - len(term.replace("...", ""))
        fits = own >= 0 if "..." in term else own == 0
        require(fits, f"einsum(): the number of subscripts in the equation ({len(term.replace('...', ''))}) does not match the number of dimensions ({rank}) for operand {len(labels)}")  # noqa: E501  # fmt: skip
        labels.append(term.replace("...", "".join(dots[widest - own :])))
    if arrow:
        result = out.replace("...", "".join(dots))
    else:
        letters = sorted(c for c in set("".join(terms)) - {"."} if "".join(terms).count(c) == 1)
        result = "".join(dots) + "".join(letters)
    for c in result:
        require(any(c in text for text in labels), f"einsum(): output subscript {c} does not appear in the equation for any input operand")  # fmt: skip  # noqa: E501
    return labels, result


def _einsum_sizes(labels: Sequence[str], tensors: Sequence[TensorInfo]) -> dict[str, Size]:
    def check(a: Size, b: Size) -> None:
        require(not differ(a, b), f"einsum(): operands do not broadcast with remapped shapes: sizes {a} and {b} of one subscript")

    return label_sizes(labels, [t.sizes for t in tensors], check)


@op("aten::einsum(str equation, Tensor[] tensors, *, int[]? path=None) -> Tensor")
class Einsum:
    """Sums of products by labels; more than two operands from left to right."""

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield sample("ij,jk->ik", [normal(2, 3), normal(3, 4)])
        yield sample("bhid,bhjd->bhij", [normal(2, 2, 3, 4), normal(2, 2, 5, 4)])
        yield sample("bij,bjk", [normal(2, 3, 4), normal(2, 4, 2)])
        yield sample("i,j->ij", [normal(2), normal(3)])
        yield sample("ij->ji", [normal(2, 3)])
        yield sample("ii->i", [normal(3, 3)])
        yield sample("ij->", [normal(2, 3)])
        yield sample("...ij,...jk->...ik", [normal(2, 1, 3, 4), normal(5, 4, 2)])
        yield sample("ij,jk,kl->il", [normal(2, 3), normal(3, 4), normal(4, 2)])

    @staticmethod
    def infer(equation: str, tensors: Sequence[TensorInfo], path: Any) -> TensorInfo:
        labels, out = parse_einsum(equation, [t.rank for t in tensors])
        sizes = _einsum_sizes(labels, tensors)
        return tensors[0].with_sizes(sizes[c] for c in out)

    @staticmethod
    def reference(equation: str, tensors: Sequence[Array], path: Any) -> Array:
        labels, out = parse_einsum(equation, [t.ndim for t in tensors])
        plain = {c: string.ascii_letters[n] for n, c in enumerate(dict.fromkeys("".join(labels)))}
        texts = ["".join(plain[c] for c in text) for text in (*labels, out)]
        return _numpy_einsum(f"{','.join(texts[:-1])}->{texts[-1]}", *tensors)

    @staticmethod
    def lower(b: LinalgBuilder, info: TensorInfo, equation: str, tensors: Sequence[Tensor], path: Any) -> Tensor:
        labels, out = parse_einsum(equation, [t.rank for t in tensors])
        refused = "einsum(): operands do not broadcast"
        done, result = labels[0], tensors[0]
        for n in range(1, len(tensors)):
            later = set(out).union(*labels[n + 1 :])
            kept = "".join(c for c in dict.fromkeys(done + labels[n]) if c in later)
            target = out if n == len(tensors) - 1 else kept
            result, done = contract(b, [done, labels[n]], target, [result, tensors[n]], info.dtype, refused), target
        if len(tensors) == 1:
            result = contract(b, labels, out, tensors, info.dtype, refused)
        return result


@op("aten::tensordot(Tensor self, Tensor other, int[] dims_self, int[] dims_other) -> Tensor")
class Tensordot:
    """The sum of products over given dimensions of both; the others of self, then of other, remain."""

    samples = staticmethod(
        lambda: [sample(normal(2, 3, 4), normal(4, 3, 5), [1, 2], [1, 0]), sample(normal(2, 3), normal(3, 4), [-1], [0])]
    )

    @staticmethod
    def labels(ranks: tuple[int, int], dims: Sequence[int], other: Sequence[int]) -> tuple[str, str, str]:
        require(len(dims) == len(other), "both dimension lists should have same length")
        letters = iter(string.ascii_letters)
        left = [next(letters) for _ in range(ranks[0])]
        right = [next(letters) for _ in range(ranks[1])]
        for p, q in zip(dims, other, strict=True):
            right[wrap(q, ranks[1])] = left[wrap(p, ranks[0])]
        out = [c for c in left if c not in right] + [c for c in right if c not in left]
        return "".join(left), "".join(right), "".join(out)

    @staticmethod
    def infer(x: TensorInfo, y: TensorInfo, dims: Sequence[int], other: Sequence[int]) -> TensorInfo:
        left, right, out = Tensordot.labels((x.rank, y.rank), dims, other)
        sizes = _einsum_sizes([left, right], [x, y])
        return x.with_sizes(sizes[c] for c in out)

    @staticmethod
    def reference(x: Array, y: Array, dims: Sequence[int], other: Sequence[int]) -> Array:
        left, right, out = Tensordot.labels((x.ndim, y.ndim), dims, other)
        return _numpy_einsum(f"{left},{right}->{out}", x, y)

    @staticmethod
    def lower(b: LinalgBuilder, info: TensorInfo, x: Tensor, y: Tensor, dims: Sequence[int], other: Sequence[int]) -> Tensor:
        left, right, out = Tensordot.labels((x.rank, y.rank), dims, other)
        return contract(b, [left, right], out, [x, y], info.dtype, "contracted dimensions need to match")


@op("aten::inner(Tensor self, Tensor other) -> Tensor")
class Inner:
    """The sum of products over both last dimensions."""

    samples = staticmethod(lambda: [sample(normal(2, 3), normal(4, 3)), sample(normal(3), normal(3))])

    @staticmethod
    def infer(x: TensorInfo, y: TensorInfo) -> TensorInfo:
        return x.with_sizes((*x.sizes[:-1], *y.sizes[:-1]))

    @staticmethod
    def reference(x: Array, y: Array) -> Array:
        return np.asarray(np.inner(x.astype(np.float64), y.astype(np.float64))).astype(x.dtype)

    @staticmethod
    def expand(b: TorchBuilder, x: Value, y: Value) -> Value:
        result: Value = b.tensordot(x, y, [x.rank - 1], [y.rank - 1])
        return result


@op("aten::bilinear(Tensor input1, Tensor input2, Tensor weight, Tensor? bias=None) -> Tensor")
class Bilinear:
    """x1 W x2 + bias for every output."""

    samples = staticmethod(lambda: [sample(normal(2, 3), normal(2, 4), normal(5, 3, 4), normal(5))])

    @staticmethod
    def infer(x: TensorInfo, y: TensorInfo, weight: TensorInfo, bias: TensorInfo | None) -> TensorInfo:
        return x.with_sizes((*x.sizes[:-1], weight.sizes[0]))

    @staticmethod
    def reference(x: Array, y: Array, weight: Array, bias: Array | None) -> Array:
        result = np.einsum("...i,oij,...j->...o", *(v.astype(np.float64) for v in (x, weight, y)))
        return np.asarray(result if bias is None else result + bias).astype(x.dtype)

    @staticmethod
    def expand(b: TorchBuilder, x: Value, y: Value, weight: Value, bias: Value | None) -> Value:
        result: Value = b.einsum("...i,oij,...j->...o", [x, weight, y])
        result = result if bias is None else b.add(result, bias)
        return result
