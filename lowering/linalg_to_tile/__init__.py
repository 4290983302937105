"""From linalg to tile: which ops make one kernel (groups), what a kernel is given (kernels), how it is to be
computed (schedule), and the pass that does all three (form_kernels)."""

from stepwell.lowering.linalg_to_tile.form_kernels import FormKernels

__all__ = ["FormKernels"]
