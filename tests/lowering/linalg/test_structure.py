"""Recognition of generics by maps and bodies."""

import pytest
from xdsl.context import Context
from xdsl.dialects import arith, builtin, func, linalg, tensor
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.parser import Parser

from stepwell.lowering.linalg import structure
from stepwell.lowering.linalg.structure import Combiner, Contraction, Convolution, Rows, Window

MULTIPLY_ADD = """%p = arith.mulf %a, %b : f32
    %s = arith.addf %o, %p : f32
    linalg.yield %s : f32"""


def parse_generic(maps: str, kinds: str, ins: str, outs: str, body: str) -> GenericOp:
    """The generic with inputs of types `ins` (separated by `;`), body arguments %a, %b, ... and %o."""
    context = Context()
    for dialect in (builtin.Builtin, func.Func, arith.Arith, linalg.Linalg, tensor.Tensor):
        context.load_dialect(dialect)
    types = [t.strip() for t in ins.split(";")]
    names = "abcd"[: len(types)]
    iterators = ", ".join({"p": '"parallel"', "r": '"reduction"'}[k] for k in kinds)
    affine = ", ".join(
        f"affine_map<({', '.join(f'd{i}' for i in range(len(kinds)))}) -> ({m})>" for m in maps.split(";")
    )
    arguments = ", ".join(f"%{n}t : {t}" for n, t in zip([*names, "o"], [*types, outs], strict=True))
    text = f"""func.func @f({arguments}) -> {outs} {{
  %r = linalg.generic {{indexing_maps = [{affine}], iterator_types = [{iterators}]}}
    ins({', '.join(f'%{n}t' for n in names)} : {', '.join(types)}) outs(%ot : {outs}) {{
  ^bb0({', '.join(f'%{n} : f32' for n in names)}, %o : f32):
    {body}
  }} -> {outs}
  func.return %r : {outs}
}}"""  # fmt: skip
    module = Parser(context, text).parse_module()
    module.verify()
    return next(op for op in module.walk() if isinstance(op, GenericOp))


@pytest.mark.parametrize(
    ("maps", "kinds", "ins", "outs", "expected"),
    [
        ("d0, d2; d2, d1; d0, d1", "ppr", "tensor<4x6xf32>; tensor<6x5xf32>", "tensor<4x5xf32>",
         Contraction((), (0,), (1,), (2,), 0, 1)),
        ("d0, d2; d1, d2; d0, d1", "ppr", "tensor<4x6xf32>; tensor<5x6xf32>", "tensor<4x5xf32>",
         Contraction((), (0,), (1,), (2,), 0, 1)),
        ("d0, d2; d2, d1; d1, d0", "ppr", "tensor<4x6xf32>; tensor<6x5xf32>", "tensor<5x4xf32>",
         Contraction((), (1,), (0,), (2,), 1, 0)),
        ("d0, d1, d3; d0, d3, d2; d0, d1, d2", "pppr", "tensor<2x4x6xf32>; tensor<2x6x5xf32>", "tensor<2x4x5xf32>",
         Contraction((0,), (1,), (2,), (3,), 0, 1)),
        ("d0; d0;", "r", "tensor<6xf32>; tensor<6xf32>", "tensor<f32>", Contraction((), (), (), (0,), 0, 1)),
        ("d0, d1; d1; d0", "pr", "tensor<4x6xf32>; tensor<6xf32>", "tensor<4xf32>",
         Contraction((), (0,), (), (1,), 0, 1)),
        ("d0, d2; d1 floordiv 4, d2, d1 mod 4; d0, d1", "ppr", "tensor<4x6xf32>; tensor<2x6x4xf32>", "tensor<4x5xf32>",
         Contraction((), (0,), (1,), (2,), 0, 1)),
    ],
)  # fmt: skip
def test_contractions(maps: str, kinds: str, ins: str, outs: str, expected: Contraction) -> None:
    op = parse_generic(maps, kinds, ins, outs, MULTIPLY_ADD)
    assert structure.contraction(op) == expected
    assert structure.convolution(op) is None


@pytest.mark.parametrize("read", ["d1 floordiv 4, d2, d1 mod 2", "d1 floordiv 4, d2, d2 mod 4", "d1, d2, d1 mod 4"])
def test_what_is_not_quite_in_panels_is_no_contraction(read: str) -> None:
    op = parse_generic(f"d0, d2; {read}; d0, d1", "ppr", "tensor<4x6xf32>; tensor<5x6x6xf32>", "tensor<4x5xf32>", MULTIPLY_ADD)
    assert structure.contraction(op) is None


def test_a_row_that_is_a_slice_is_the_left_factor_of_a_contraction() -> None:
    """What a linear layer reads behind a mean over the image: the row's number indexes nothing."""
    maps, kinds = "0,d2,0,0; d1,d2; d0,d1", "ppr"
    op = parse_generic(maps, kinds, "tensor<1x8x1x1xf32>; tensor<5x8xf32>", "tensor<1x5xf32>", MULTIPLY_ADD)
    assert structure.contraction(op) == Contraction((), (0,), (1,), (2,), 0, 1)
    op = parse_generic(maps, kinds, "tensor<1x8x1x1xf32>; tensor<5x8xf32>", "tensor<2x5xf32>", MULTIPLY_ADD)
    assert structure.contraction(op) is None


def test_sum_of_one_factor_only_is_no_contraction() -> None:
    op = parse_generic("d0, d1; d0; d0", "pr", "tensor<4x6xf32>; tensor<4xf32>", "tensor<4xf32>", MULTIPLY_ADD)
    assert structure.contraction(op) is None
    assert structure.rows(op) == Rows((0,), (1,))


def test_strided_dilated_convolution() -> None:
    op = parse_generic(
        "d0, d4, d2 * 2 + d5 * 3, d3 + d6; d1, d4, d5, d6; d0, d1, d2, d3", "pppprrr",
        "tensor<1x8x14x12xf32>; tensor<16x8x3x3xf32>", "tensor<1x16x4x10xf32>", MULTIPLY_ADD,
    )  # fmt: skip
    assert structure.convolution(op) == Convolution(
        (0,), (), (1,), (2, 3), (4,), (5, 6), (2, 1), (3, 1), input=0, filter=1
    )
    assert structure.contraction(op) is None


def test_depthwise_convolution() -> None:
    op = parse_generic(
        "d0, d1, d2 + d4, d3 + d5; d1, d4, d5; d0, d1, d2, d3", "pppprr",
        "tensor<1x8x14x12xf32>; tensor<8x3x3xf32>", "tensor<1x8x12x10xf32>", MULTIPLY_ADD,
    )  # fmt: skip
    found = structure.convolution(op)
    assert found is not None and found.is_depthwise and found.group == (1,)


def test_pooling_takes_its_window_from_a_shape() -> None:
    body = "%m = arith.maximumf %o, %a : f32\n linalg.yield %m : f32"
    op = parse_generic(
        "d0, d1, d2 * 2 + d4, d3 * 2 + d5; d4, d5; d0, d1, d2, d3", "pppprr",
        "tensor<1x8x14x12xf32>; tensor<2x2xf32>", "tensor<1x8x7x6xf32>", body,
    )  # fmt: skip
    assert structure.window(op) == Window((0, 1), (2, 3), (4, 5), (2, 2), (1, 1), 0)
    assert structure.rows(op) is None
    reduction = structure.reduction(op)
    assert reduction is not None and reduction[0].combiner is Combiner.MAX
    assert structure.loop_sizes(op) == (1, 8, 7, 6, 2, 2)


def test_elementwise_and_data_movement() -> None:
    add = "%s = arith.addf %a, %b : f32\n linalg.yield %s : f32"
    broadcast = parse_generic("d1, d0; 0, d1; d0, d1", "pp", "tensor<5x4xf32>; tensor<1x5xf32>", "tensor<4x5xf32>", add)
    assert structure.is_elementwise(broadcast) and not structure.is_data_movement(broadcast)
    assert structure.recomputed(broadcast, 1) == 4
    move = parse_generic("d1 + 2, d0; d0, d1", "pp", "tensor<9x4xf32>", "tensor<4x5xf32>", "linalg.yield %a : f32")
    assert structure.is_data_movement(move) and not structure.is_elementwise(move)
