"""What a Winograd kernel computes, and how its work is divided into units."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from xdsl.ir import SSAValue

from stepwell.lowering.analysis.winograd import Algorithm
from stepwell.lowering.analysis.winograd_cost import Division, Problem, divide
from stepwell.lowering.linalg.shapes import shape_of
from stepwell.lowering.linalg.winograd_form import border_of, input_transform, is_product, is_zero, output_transform
from stepwell.lowering.tile_to_loops.emit import Emitter
from stepwell.lowering.tile_to_loops.frame import Frame
from stepwell.lowering.tile_to_loops.graph import Node
from stepwell.lowering.tile_to_loops.nest import spaces_of
from stepwell.lowering.tile_to_loops.polynomial import Poly


@dataclass(frozen=True)
class Form:
    """The steps of a kernel: the products and the transform of results, the image (an argument) and where it begins
    within its border."""

    algorithm: Algorithm
    products: Node
    results: Node
    image: SSAValue
    offsets: tuple[int, int]
    problem: Problem


def recognise(frame: Frame) -> Form | None:
    """The steps of a kernel; None where it has others."""
    reducing = [node for node in frame.graph.nodes.values() if node.reduced]
    if len(reducing) != 3 or len(spaces_of(frame.evaluator, frame.outputs)) != 1:
        return None
    first, middle, last = reducing
    inputs, outputs = input_transform(first.op), output_transform(last.op)
    if inputs is None or outputs is None or inputs.algorithm != outputs.algorithm or not is_product(middle.op):
        return None
    chained = middle.inputs[0] is first.op.results[0] and outputs.value is middle.op.results[0]
    if not chained or not all(is_zero(init) for node in reducing for init in node.inits):
        return None
    border = border_of(inputs.value)
    image, offsets = (inputs.value, (0, 0)) if border is None else (border.image, border.offsets)
    if image not in frame.evaluator.memories:
        return None
    images, outer, height, width, block = shape_of(last.op.results[0])
    problem = Problem(images, shape_of(image)[1], outer, block, height, width)
    return Form(inputs.algorithm, middle, last, image, offsets, problem)


def division_of(frame: Frame, form: Form) -> Division:
    """The sizes in the schedule, made to fit; what is absent is decided here."""
    problem = form.problem
    best = divide(problem, form.algorithm.m, frame.target).division
    high, wide = problem.tiles(form.algorithm.m)
    rows, columns = (
        max(1, min(frame.setting(key, default), most))
        for key, default, most in (("rows", best.rows, high), ("columns", best.columns, wide))
    )
    cob = gcd(frame.setting("cob", best.cob), problem.outputs)
    blocks = gcd(max(1, frame.setting("blocks", best.blocks) // cob), problem.outputs // cob) * cob
    return Division(rows, columns, blocks, max(1, min(frame.setting("tiles", best.tiles), rows * columns)), cob)


class Unit:
    """The unit of work that is being written: where its tiles and channels begin, and how many there are."""

    def __init__(self, emitter: Emitter, form: Form, division: Division, number: Poly) -> None:
        problem = form.problem
        high, wide = problem.tiles(form.algorithm.m)
        counts = (-(-high // division.rows), -(-wide // division.columns), problem.outputs // division.blocks)
        left, parts = number, list[Poly]()
        for count in reversed(counts):
            parts.insert(0, emitter.remainder(left, count))
            left = emitter.quotient(left, count)
        self.image = left
        self.row, self.column = parts[0] * division.rows, parts[1] * division.columns
        self.output = parts[2] * division.blocks
        self.rows = _count(emitter, self.row, division.rows, high)
        self.columns = _count(emitter, self.column, division.columns, wide)


def _count(emitter: Emitter, first: Poly, most: int, size: int) -> Poly:
    """How many of `size` indices there are from `first` on, up to `most`."""
    return Poly.of(most) if size % most == 0 else emitter.minimum(Poly.of(most), Poly.of(size) - first)


def unit_count(form: Form, division: Division) -> int:
    """How many units there are."""
    high, wide = form.problem.tiles(form.algorithm.m)
    parts = -(-high // division.rows) * -(-wide // division.columns)
    return form.problem.images * parts * (form.problem.outputs // division.blocks)
