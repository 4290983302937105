"""Raw torch to the torch contract, by running the program abstractly.

One pass does what inlining, freezing, constant propagation, functionalization and shape inference would do one
after another: it executes the method with the facts of a call (dtypes, ranks, static or symbolic sizes) in the
place of data. Objects, lists, strings and known numbers are computed; tensors become values of the contract.
Aliasing is exact, because references are: a storage and a chain of views (`tensors`). Branches join, or stay
apart where their structure differs (`join`, `control`); loops stay loops (`loop_state`).

After: one function; nothing mutates; every tensor has a known rank and dtype, its sizes known or symbolic.
"""

from stepwell.lowering.torch.specialize.entry import Contract, mutable_attributes, specialize
from stepwell.lowering.torch.specialize.values import CannotSpecialize

__all__ = ["CannotSpecialize", "Contract", "mutable_attributes", "specialize"]
