"""batch-steps: products that leave their loops, and those that must not."""

from typing import Any

import numpy as np
import pytest
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.dialects.scf import ForOp

import stepwell
from stepwell.lowering.linalg import BatchSteps, Canonicalize, Dce, HoistInvariants
from stepwell.lowering.linalg.structure import contraction, loop_sizes

STEPS, ROWS, WIDTH = 5, 2, 32
STATE = f"tensor<{ROWS}x{WIDTH}xf32>"


def times(name: str, row: str, weight: str) -> str:
    """%name = row * weight."""
    return f"""
    %e{name} = tensor.empty() : {STATE}
    %f{name} = linalg.fill ins(%zero : f32) outs(%e{name} : {STATE}) -> {STATE}
    %{name} = linalg.generic {{indexing_maps = [affine_map<(d0, d1, d2) -> (d0, d2)>,
        affine_map<(d0, d1, d2) -> (d2, d1)>, affine_map<(d0, d1, d2) -> (d0, d1)>],
        iterator_types = ["parallel", "parallel", "reduction"]}}
        ins(%{row}, %{weight} : {STATE}, tensor<{WIDTH}x{WIDTH}xf32>) outs(%f{name} : {STATE}) {{
      ^bb0(%va: f32, %vb: f32, %vo: f32):
        %vp = arith.mulf %va, %vb : f32
        %vq = arith.addf %vo, %vp : f32
        linalg.yield %vq : f32
    }} -> {STATE}"""


def tanh_of(name: str, first: str, second: str) -> str:
    """%name = tanh(first + second)."""
    return f"""
    %e{name} = tensor.empty() : {STATE}
    %{name} = linalg.generic {{indexing_maps = [{", ".join(["affine_map<(d0, d1) -> (d0, d1)>"] * 3)}],
        iterator_types = ["parallel", "parallel"]}} ins(%{first}, %{second} : {STATE}, {STATE}) outs(%e{name} : {STATE}) {{
      ^bb0(%va: f32, %vb: f32, %vo: f32):
        %vp = arith.addf %va, %vb : f32
        %vh = math.tanh %vp : f32
        linalg.yield %vh : f32
    }} -> {STATE}"""


def loop(body: str, yields: list[str], steps: str = f"arith.constant {STEPS} : index", before: str = "") -> str:
    """A function of x and four weights whose loop carries states %s0, %s1, ..; %x is the step's row."""
    count = len(yields)
    kinds = ", ".join([STATE] * count)
    starts = ", ".join(f"%s{i} = %start" for i in range(count))
    results = ", ".join(f"%r{i}" for i in range(count))
    weights = ", ".join(f"%w{i} : tensor<{WIDTH}x{WIDTH}xf32>" for i in range(4))
    return f"""func.func @f(%all : tensor<{STEPS}x{ROWS}x{WIDTH}xf32>, %start : {STATE}, {weights}, %n : index) -> ({kinds})
        attributes {{host.entry}} {{
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %zero = arith.constant 0.0 : f32
      %steps = {steps}
      {results} = scf.for %i = %c0 to %steps step %c1 iter_args({starts}) -> ({kinds}) {{
        {before}
        %x1 = tensor.extract_slice %all[%i, 0, 0] [1, {ROWS}, {WIDTH}] [1, 1, 1]
            : tensor<{STEPS}x{ROWS}x{WIDTH}xf32> to tensor<1x{ROWS}x{WIDTH}xf32>
        %x = tensor.collapse_shape %x1 [[0 : i64, 1 : i64], [2 : i64]]
            : tensor<1x{ROWS}x{WIDTH}xf32> into {STATE}
        {body}
        scf.yield {", ".join(f"%{name}" for name in yields)} : {kinds}
      }}
      func.return {results} : {kinds}
    }}"""


def arguments() -> list[Any]:
    random = np.random.default_rng(0)
    shapes = [(STEPS, ROWS, WIDTH), (ROWS, WIDTH), *[(WIDTH, WIDTH)] * 4]
    return [*(random.standard_normal(s).astype(np.float32) / 6 for s in shapes), STEPS]


def divided(check: Any, text: str) -> tuple[int, list[int]]:
    """Loops, and the rows of the products outside of loops, after the pass; numbers stay what they are."""
    passes = [HoistInvariants(), Dce(), BatchSteps(), Canonicalize(), Dce()]
    module = check(text, passes, *arguments(), rtol=1e-5, atol=1e-6)
    loops = [op for op in module.walk() if isinstance(op, ForOp)]
    products = [op for op in module.walk() if isinstance(op, GenericOp) and contraction(op) is not None]
    outside = [op for op in products if not isinstance(op.parent_op(), ForOp)]
    return len(loops), [int(np.prod(loop_sizes(op)[:-2])) for op in outside]


def test_a_recurrent_layer_reads_products_of_all_its_inputs(check: Any) -> None:
    body = times("p", "x", "w0") + times("q", "s0", "w1") + tanh_of("h", "p", "q")
    assert divided(check, loop(body, ["h"])) == (1, [STEPS * ROWS])


def test_each_of_two_layers_has_a_loop_of_its_own(check: Any) -> None:
    body = times("p", "x", "w0") + times("q", "s0", "w1") + tanh_of("h", "p", "q")
    body += times("r", "h", "w2") + times("t", "s1", "w3") + tanh_of("g", "r", "t")
    assert divided(check, loop(body, ["h", "g"])) == (2, [STEPS * ROWS] * 2)


def test_what_both_parts_need_is_kept(check: Any) -> None:
    """The second layer reads the first one's state in three ways: the new, the old, and through an op."""
    body = times("q", "s0", "w1") + tanh_of("h", "x", "q") + tanh_of("v", "h", "s0")
    body += times("r", "v", "w2") + tanh_of("t", "s1", "h") + tanh_of("u", "t", "s0") + tanh_of("g", "r", "u")
    assert divided(check, loop(body, ["h", "g"])) == (2, [STEPS * ROWS])


def test_the_row_of_the_step_before(check: Any) -> None:
    body = times("p", "s1", "w0") + tanh_of("h", "p", "s0") + tanh_of("last", "x", "x")
    assert divided(check, loop(body, ["h", "last"])) == (2, [STEPS * ROWS])


def test_a_product_that_waits_for_itself_stays(check: Any) -> None:
    body = times("q", "s0", "w1") + tanh_of("h", "x", "q")
    assert divided(check, loop(body, ["h"])) == (1, [])
    body = times("p", "s1", "w0") + tanh_of("h", "p", "s0") + tanh_of("g", "x", "h")
    assert divided(check, loop(body, ["h", "g"])) == (1, []), "by way of another state"


RAISES = """%late = arith.cmpi sgt, %i, %n : index
        scf.if %late { host.raise "builtins.RuntimeError", "too late" }"""


@pytest.mark.parametrize(
    ("steps", "before"), [("arith.addi %n, %c0 : index", ""), (f"arith.constant {STEPS} : index", RAISES)]
)
def test_loops_that_may_stop_or_go_on_stay_whole(check: Any, steps: str, before: str) -> None:
    body = times("p", "x", "w0") + times("q", "s0", "w1") + tanh_of("h", "p", "q")
    assert divided(check, loop(body, ["h"], steps, before)) == (1, [])


def test_small_weights_stay(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwell.lowering.linalg.batch_steps.PAYS", 40)
    body = times("p", "x", "w0") + times("q", "s0", "w1") + tanh_of("h", "p", "q")
    assert divided(check, loop(body, ["h"])) == (1, [])


def test_a_check_of_the_counter_against_constants_is_decided(check: Any) -> None:
    before = RAISES.replace("%i, %n", "%i, %limit").replace("sgt", "sge")
    before = f"%limit = arith.constant {STEPS} : index\n{before}"
    text = loop(tanh_of("h", "x", "s0"), ["h"], before=before)
    module = check(text, [Canonicalize(), Dce()], *arguments())
    assert not any(op.name in ("scf.if", "host.raise") for op in module.walk())


@stepwell.script
def layers(
    x: stepwell.Tensor, first: stepwell.Tensor, hidden: stepwell.Tensor, second: stepwell.Tensor, last: stepwell.Tensor
) -> tuple[stepwell.Tensor, stepwell.Tensor]:
    a = stepwell.zeros([x.size(1), first.size(1)])
    b = a
    states: list[stepwell.Tensor] = []
    for step in range(x.size(0)):
        a = stepwell.tanh(stepwell.mm(x[step], first) + stepwell.mm(a, hidden))
        b = stepwell.tanh(stepwell.mm(a, second) + stepwell.mm(b, last))
        states.append(b)
    return stepwell.stack(states), a


@pytest.mark.parametrize(("steps", "rows"), [(2, 1), (9, 1), (7, 3), (1, 1)])
def test_natively(steps: int, rows: int) -> None:
    random = np.random.default_rng(steps)
    x = random.standard_normal((steps, rows, 48)).astype(np.float32)
    weights = [random.standard_normal(s).astype(np.float32) / 7 for s in ((48, 64), (64, 64), (64, 64), (64, 64))]
    found, last = layers(x, *weights)
    a, b, states = np.zeros((rows, 64), np.float32), np.zeros((rows, 64), np.float32), []
    for row in x:
        a = np.tanh(row @ weights[0] + a @ weights[1])
        b = np.tanh(a @ weights[2] + b @ weights[3])
        states.append(b)
    np.testing.assert_allclose(found, np.stack(states), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last, a, rtol=1e-5, atol=1e-6)
