"""Every declaration, some of its samples: the kernels that its lowering makes give the same numbers on a GPU."""

import itertools
from itertools import islice

import numpy as np
from xdsl.dialects import func, gpu
from xdsl.dialects.builtin import ModuleOp, StringAttr, SymbolRefAttr, UnitAttr
from xdsl.ir import Block, Region

from stepwell import dialects
from stepwell.compiler.backends.gpu import Kernels
from stepwell.compiler.interpreter import Machine, ptx
from stepwell.compiler.interpreter.gpu import launch, shadow
from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.tile import KernelOp, LaunchOp
from stepwell.dialects.torch.declare import Undecided
from stepwell.lowering.gpu import device, functions_of, lower_kernels
from stepwell.lowering.linalg_to_tile import FormKernels


class Program:
    """A lowered sample at the tile level, and its kernels for a GPU."""

    def __init__(self, name, tolerance, lowering, number):
        self.name, self.tolerance, self.module = name, max(tolerance, 1e-5), lowering.module
        self.arrays = [a.view(np.int8) if getattr(a, "dtype", None) == np.uint8 else a for a in lowering.arrays]
        for op in self.module.ops:
            if isinstance(op, func.FuncOp):
                op.attributes["host.entry"] = UnitAttr()
        FormKernels(device().target()).apply(self.module, dialects.context())
        for op in self.module.walk():
            if isinstance(op, KernelOp):
                op.properties["sym_name"] = StringAttr(f"k{number}_{op.sym_name.data}")
            elif isinstance(op, LaunchOp):
                op.properties["kernel"] = SymbolRefAttr(f"k{number}_{op.kernel.root_reference.data}")
        lowered, notes = lower_kernels(self.module, device())
        assert not notes, f"{name}: {notes[0]}"
        lowered.verify()
        self.functions = functions_of(lowered)

    def run(self, tools, run):
        """One call; every launch is compared."""

        def check(function, inputs, expected, found):
            for got, wanted in zip(found, expected, strict=True):
                tools.assert_same(got, wanted, self.tolerance, f"{self.name}: {function.sym_name.data}")

        machine = Machine(self.module)
        shadow(machine, self.functions, check, run)
        machine.call("f", self.arrays)


def programs(family, tools, symbolic, count):
    """The programs of a family's first samples."""
    numbers = itertools.count()
    for declaration in family:
        if declaration.evaluate_only:
            continue
        for arguments in islice(tools.samples_of(declaration), count):
            try:
                lowering = tools.Lowering(declaration, arguments, symbolic)
            except (Undecided, UnsupportedError):
                assert symbolic, "a sample must lower when its sizes are known"
                continue
            yield Program(declaration.schema.qualified_name, declaration.tolerance, lowering, next(numbers))


def test_kernels_on_a_gpu_give_the_same_numbers(family, tools):
    for program in programs(family, tools, False, 2):
        program.run(tools, launch)


def test_their_ptx_gives_the_same_numbers_for_sizes_known_at_run_time(family, tools):
    made = list(programs(family, tools, True, 1))
    block = Block()
    for program in made:
        for function in program.functions:
            function.detach()
            block.add_op(function)
    kernels = gpu.ModuleOp.create(properties={"sym_name": StringAttr("kernels")}, regions=[Region(block)])
    run = ptx.launcher(Kernels(ModuleOp([kernels]), [], device()).ptx())
    for program in made:
        program.run(tools, run)
