"""Fixtures of all lowering tests: reading IR, running passes with the interpreter as oracle."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from xdsl.dialects import arith, func
from xdsl.dialects import tensor as tensor_ops
from xdsl.dialects.builtin import DenseResourceAttr, FunctionType, IndexType, ModuleOp, UnitAttr
from xdsl.ir import Block, Region
from xdsl.ir.affine import AffineExpr, AffineMap
from xdsl.parser import Parser

from stepwell import dialects
from stepwell.compiler.interpreter import interpret
from stepwell.dialects import dtypes
from stepwell.dialects.target import Target
from stepwell.dialects.torch.declare import TensorInfo
from stepwell.dialects.torch.linalg_builder import PARALLEL, REDUCTION, LinalgBuilder, Tensor, tensor_type
from stepwell.dialects.torch.ops.convolution_linalg import lower_convolution
from stepwell.dialects.torch.sizes import Dim, Symbol
from stepwell.lowering.pass_ import Pass

Parse = Callable[[str], ModuleOp]
Check = Callable[..., ModuleOp]


def read(text: str) -> ModuleOp:
    """A verified module from text."""
    module = Parser(dialects.context(), text).parse_module()
    module.verify()
    return module


def prepared(module: ModuleOp, resources: Mapping[str, np.ndarray[Any, Any]] | None) -> list[Any]:
    """What the entry function takes from @prepare, if there is one."""
    names = [op.sym_name.data for op in module.ops if isinstance(op, func.FuncOp)]
    return interpret(module, "prepare", [], resources=resources) if "prepare" in names else []


@pytest.fixture
def parse() -> Parse:
    return read


@pytest.fixture
def check() -> Check:
    """`check(text_or_module, passes, *arguments, entry="f")`: run the passes one by one; after each the module is
    valid, and gives the numbers that it gave at first (exactly, or within `rtol`). Returns the module."""

    def run(
        source: str | ModuleOp,
        passes: Sequence[Pass],
        *arguments: Any,
        entry: str = "f",
        resources: Mapping[str, np.ndarray[Any, Any]] | None = None,
        rtol: float = 0.0,
        atol: float = 0.0,
    ) -> ModuleOp:
        module = read(source) if isinstance(source, str) else source
        known = dialects.context()
        before = interpret(module, entry, arguments, resources=resources)
        for step in passes:
            step.apply(module, known)
            try:
                module.verify()
                after = interpret(module, entry, [*arguments, *prepared(module, resources)], resources=resources)
                for expected, found in zip(before, after, strict=True):
                    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol, err_msg=step.name)
                    assert np.asarray(found).dtype == np.asarray(expected).dtype
            except Exception as error:
                error.add_note(f"after {step.name}:\n{module}")
                raise
        return module

    return run


class Graph:
    """A function `f` built op by op with the builder that op declarations use.

    graph = Graph(x=(4, 5), y=(5,)); b = graph.builder; graph.returns(b.elementwise(...)) gives the module.
    A size may be a name: a dynamic size. `(shape, dtype)` gives another dtype than float32.
    """

    def __init__(self, **inputs: Any) -> None:
        self.block = Block()
        self.builder = LinalgBuilder(self.block)
        self.inputs: dict[str, Tensor] = {}
        named: dict[str, Symbol] = {}
        for name, given in inputs.items():
            shape, dtype = given if given and isinstance(given[0], tuple) else (given, dtypes.float32)
            sizes = [s if isinstance(s, int) else Dim.of(named.setdefault(s, Symbol(s))) for s in shape]
            value = self.block.insert_arg(tensor_type(sizes, dtype), len(self.block.args))
            self.inputs[name] = Tensor(value, tuple(sizes), dtype)
        for symbol in named.values():
            size = Dim.of(symbol)
            source, at = next((t, t.sizes.index(size)) for t in self.inputs.values() if size in t.sizes)
            index = self.builder.constant(at, IndexType())
            self.builder.define(symbol, self.builder.op(tensor_ops.DimOp, [source.value, index], IndexType()))

    def __getitem__(self, name: str) -> Tensor:
        return self.inputs[name]

    def weight(self, name: str, *shape: int) -> Tensor:
        """A constant whose data is in the resources."""
        kind = tensor_type(shape, dtypes.float32)
        value = self.builder.op(arith.ConstantOp, [], kind, {"value": DenseResourceAttr.from_params(name, kind)})
        return Tensor(value, shape, dtypes.float32)

    def product(self, a: Tensor, b: Tensor, spec: str) -> Tensor:
        """A contraction written as for numpy.einsum: "mk,kn->mn"."""
        left, rest = spec.split(",")
        right, out = rest.split("->")
        loops = out + "".join(c for c in left if c not in out)
        sizes = dict(zip(left + right, a.sizes + b.sizes, strict=True))
        maps = [AffineMap(len(loops), 0, tuple(AffineExpr.dimension(loops.index(c)) for c in part))
                for part in (left, right, out)]  # fmt: skip
        shape = [sizes[c] for c in out]
        return self.builder.generic(
            [a, b], maps[:2], [PARALLEL if c in out else REDUCTION for c in loops], shape, a.dtype,
            lambda at, e: e[2] + e[0] * e[1], output_map=maps[2],
            initial=self.builder.fill(0, shape, a.dtype),
        )  # fmt: skip

    def convolution(self, x: Tensor, w: Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> Tensor:
        """conv2d of NCHW by FCHW."""
        n, _, h, wide = x.sizes
        f, _, kh, kw = w.sizes
        shape = (n, f, (h + 2 * padding - kh) // stride + 1, (wide + 2 * padding - kw) // stride + 1)
        out = TensorInfo(shape, x.dtype)
        return lower_convolution(self.builder, out, x, w, None, [stride], [padding], [1], False, [0], groups)

    def pooling(self, x: Tensor, size: int, stride: int, largest: bool = True) -> Tensor:
        """max_pool2d or the sum over windows."""
        b = self.builder
        n, c, h, w = x.sizes
        shape = [n, c, (h - size) // stride + 1, (w - size) // stride + 1]
        window = Tensor(b.empty([size, size], x.dtype), (size, size), x.dtype)
        d = [AffineExpr.dimension(i) for i in range(6)]
        maps = [
            AffineMap(6, 0, (d[0], d[1], d[2] * stride + d[4], d[3] * stride + d[5])),
            AffineMap(6, 0, (d[4], d[5])),
        ]
        return b.generic(
            [x, window], maps, [PARALLEL] * 4 + [REDUCTION] * 2, shape, x.dtype,
            lambda at, e: e[2].maximum(e[0]) if largest else e[2] + e[0],
            output_map=AffineMap(6, 0, tuple(d[:4])),
            initial=b.fill(-np.inf if largest else 0, shape, x.dtype),
        )  # fmt: skip

    def softmax(self, x: Tensor) -> Tensor:
        """Over the last dimension."""
        b, last = self.builder, [x.rank - 1]
        top = b.reduce(lambda a, e: a.maximum(e), -np.inf, x, last, keep=True)
        e = b.elementwise(lambda p, q: (p - q).math("exp"), x, top, dtype=x.dtype)
        total = b.reduce(lambda a, e: a + e, 0, e, last, keep=True)
        return b.elementwise(lambda p, q: p / q, e, total, dtype=x.dtype)

    def layer_norm(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Over the last dimension."""
        b, last, n = self.builder, [x.rank - 1], float(x.sizes[-1])
        total = b.reduce(lambda a, e: a + e, 0, x, last, keep=True)
        centred = b.elementwise(lambda p, q: p - q / n, x, total, dtype=x.dtype)
        squares = b.reduce(lambda a, e: a + e * e, 0, centred, last, keep=True)
        normal = b.elementwise(lambda p, q: p / (q / n + 1e-5).math("sqrt"), centred, squares, dtype=x.dtype)
        return b.elementwise(lambda p, q, r: p * q + r, normal, scale, shift, dtype=x.dtype)

    def returns(self, *results: Tensor) -> ModuleOp:
        """The finished module."""
        values = [r.value for r in results]
        self.block.add_op(func.ReturnOp(*values))
        kind = FunctionType.from_lists([a.type for a in self.block.args], [v.type for v in values])
        function = func.FuncOp("f", kind, Region(self.block))
        function.attributes["host.entry"] = UnitAttr()
        module = ModuleOp([function])
        module.verify()
        return module


@pytest.fixture
def graph() -> type[Graph]:
    return Graph


@pytest.fixture
def target() -> Target:
    """Two cores with 256-bit vectors."""
    return Target("x86_64-unknown-linux-gnu", "x86-64-v3", "+avx2,+fma", 256, 16, cores=2)
