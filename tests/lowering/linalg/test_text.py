"""What the passes leave is text that our parser, and mlir-opt where it is installed, read."""

import shutil
import subprocess
from io import StringIO

import pytest
from xdsl.printer import Printer

from stepwell.lowering.linalg import passes

MLIR_OPT = shutil.which("mlir-opt-22") or shutil.which("mlir-opt", path="/usr/lib/llvm-22/bin")


def transformer(graph):
    g = graph(x=(1, 6, 16))
    b = g.builder
    flat = b.reshape(g["x"], [6, 16])
    q, k, v = (b.reshape(g.product(flat, g.weight(n, 16, 16), "mk,nk->mn"), [6, 2, 8]) for n in "qkv")
    scores = g.softmax(g.product(b.transpose(q, [1, 0, 2]), b.transpose(k, [1, 2, 0]), "bmk,bkn->bmn"))
    merged = b.reshape(b.transpose(g.product(scores, b.transpose(v, [1, 0, 2]), "bmk,bkn->bmn"), [1, 0, 2]), [1, 6, 16])
    total = b.elementwise(lambda p, r: p + r, merged, g["x"], dtype=merged.dtype)
    return g.returns(g.layer_norm(total, g.weight("s", 16), g.weight("t", 16)))


def network(graph):
    g = graph(x=("n", 3, 10, 10))
    b = g.builder
    y = b.elementwise(
        lambda e: e.maximum(0.0), g.convolution(g["x"], g.weight("u", 8, 3, 3, 3), 1, 1), dtype=g["x"].dtype
    )
    y = g.pooling(g.convolution(y, g.weight("v", 16, 8, 3, 3)), 2, 2)
    return g.returns(b.slice(y, [0, 0, 0, 0], [y.sizes[0], 8, 2, 2], [1, 1, 2, 1]))


def winograd(graph):
    g = graph(x=(1, 32, 13, 12))
    return g.returns(g.convolution(g["x"], g.weight("w", 32, 32, 3, 3), 1, 1))


@pytest.mark.parametrize("model", [transformer, network, winograd])
def test_text(model, graph, target, parse):
    module = model(graph)
    for step in passes(target):
        step.apply(module, None)
    text = str(module)
    again = parse(text)
    assert str(again) == text
    if MLIR_OPT is None:
        pytest.skip("mlir-opt is not installed")
    stream = StringIO()
    Printer(stream=stream, print_generic_format=False).print_op(module)
    # Discardable attributes of a dialect that mlir-opt does not know.
    done = subprocess.run(
        [MLIR_OPT, "--allow-unregistered-dialect"], input=stream.getvalue(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[:2000]
