"""The `torch` level: torch-mlir's dialect, and the declarations of all ops that Stepwell knows.

Importing this package declares every op: the families listed in reading order in `ops`, then those of plug-ins.
Raises PluginError where a plug-in cannot be used.
"""

from __future__ import annotations

from xdsl.ir import Dialect

from stepwell.dialects import plugins
from stepwell.dialects.torch import ops as _ops
from stepwell.dialects.torch.declare import OPS, operation_class
from stepwell.dialects.torch.operations import OPERATIONS
from stepwell.dialects.torch.types import TYPES

_ops.declare_all()
plugins.load(OPS)
OPS.settle()

_FORMS = {operation.name for operation in OPERATIONS}
"""Names with a form of their own; their declarations (prim::unchecked_cast, ...) serve resolution only."""

_INPLACE = [v for name in OPS.names() for v in OPS.overloads(f"{name}_") if v.functional is not None]
_ALL = [*OPS, *_INPLACE]

_DECLARED = [operation_class(d) for d in _ALL if d.torch_mlir and d.schema.operation_name not in _FORMS]

Torch = Dialect("torch", [*OPERATIONS, *_DECLARED], list(TYPES))
