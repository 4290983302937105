"""Every declaration, some of its samples: the kernels that its lowering makes give the same numbers on a GPU."""

from itertools import islice

import numpy as np
import pytest
from xdsl.dialects import func
from xdsl.dialects.builtin import UnitAttr

from stepwell import dialects
from stepwell.compiler.interpreter import Machine
from stepwell.compiler.interpreter.gpu import shadow
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.torch.declare import Undecided
from stepwell.lowering.gpu import device, functions_of, lower_kernels
from stepwell.lowering.linalg_to_tile import FormKernels


def kernels(lowering):
    """A lowered sample at the tile level, for a GPU."""
    module = lowering.module
    for op in module.ops:
        if isinstance(op, func.FuncOp):
            op.attributes["host.entry"] = UnitAttr()
    FormKernels(device().target()).apply(module, dialects.context())
    return module


@pytest.mark.parametrize("symbolic", [False, True], ids=["static", "symbolic"])
def test_kernels_on_a_gpu_give_the_same_numbers(family, symbolic, tools):
    notes = []
    for declaration in family:
        if declaration.evaluate_only:
            continue
        name = declaration.schema.qualified_name

        def check(function, inputs, expected, found, name=name, bound=declaration.tolerance):
            for got, wanted in zip(found, expected, strict=True):
                tools.assert_same(got, wanted, max(bound, 1e-5), f"{name}: {function.sym_name.data}")

        for arguments in islice(tools.samples_of(declaration), 1 if symbolic else 2):
            try:
                lowering = tools.Lowering(declaration, arguments, symbolic)
            except (Undecided, UnsupportedError):
                assert symbolic, "a sample must lower when its sizes are known"
                continue
            module = kernels(lowering)
            lowered, missing = lower_kernels(module, device())
            lowered.verify()
            notes += [f"{name}: {note}" for note in missing]
            machine = Machine(module)
            shadow(machine, functions_of(lowered), check)
            arrays = [a.view(np.int8) if getattr(a, "dtype", None) == np.uint8 else a for a in lowering.arrays]
            machine.call("f", arrays)
    assert not notes
