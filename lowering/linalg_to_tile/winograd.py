"""How a group that is a Winograd convolution divides its work."""

from __future__ import annotations

from stepwell.dialects.target import Target
from stepwell.lowering.analysis.winograd_cost import Choice, Problem, divide
from stepwell.lowering.linalg.shapes import shape_of
from stepwell.lowering.linalg.winograd_form import input_transform, output_transform
from stepwell.lowering.linalg_to_tile.groups import Group


def divided(group: Group, target: Target) -> Choice:
    """The division of a complete Winograd group."""
    first = next(op for op in group.members if input_transform(op) is not None)
    last = next(op for op in group.members if output_transform(op) is not None)
    transform = input_transform(first)
    assert transform is not None
    _, _, images, inputs, _, _, block = shape_of(first.results[0])
    _, outputs, height, width, _ = shape_of(last.results[0])
    return divide(Problem(images, inputs, outputs, block, height, width), transform.algorithm.m, target)
