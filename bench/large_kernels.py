"""One kernel of each template, large enough to be measured on a GPU: (name, function, shapes of its arguments)."""

from stepwell import Tensor


def chain(x: Tensor, y: Tensor) -> Tensor:
    return (x * y + x).relu()


def softmax(x: Tensor) -> Tensor:
    return x.softmax(-1)


def sums(x: Tensor) -> Tensor:
    return x.sum(-1)


def product(a: Tensor, b: Tensor, bias: Tensor) -> Tensor:
    return (a @ b + bias).relu()


def product_transposed(a: Tensor, b: Tensor) -> Tensor:
    return a @ b.t()


KERNELS = [
    ("pointwise", chain, [(8192, 8192), (8192, 8192)]),
    ("softmax-1024", softmax, [(32768, 1024)]),
    ("softmax-8192", softmax, [(4096, 8192)]),
    ("softmax-odd", softmax, [(8192, 3001)]),
    ("sums", sums, [(16384, 4096)]),
    ("matmul", product, [(2048, 2048), (2048, 2048), (2048,)]),
    ("matmul-odd", product, [(1001, 777), (777, 1003), (1003,)]),
    ("matmul-transposed", product_transposed, [(2048, 2048), (2048, 2048)]),
    ("matmul-few-rows", product, [(8, 4096), (4096, 4096), (4096,)]),
]
