"""What every pass looks like: a frozen dataclass whose fields are its options.

    @dataclass(frozen=True)
    class FuseElementwise(Pass):
        \"\"\"Merge producers into their consumers. After: no elementwise result has one elementwise reader.\"\"\"

        name = "fuse-elementwise"
        limit: int = 64

        def apply(self, module: ModuleOp, context: Context) -> None: ...

The docstring is two sentences: what the pass does; what is true after it.
On a command line a pass is written `fuse-elementwise{limit=32}`; `Pass.from_spec` of xDSL's `ArgSpec` reads that.
"""

from abc import abstractmethod
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.utils.arg_spec import ArgSpecConvertible


@dataclass(frozen=True)
class Pass(ArgSpecConvertible):
    """One rewrite of a module in place; subclasses say `name`, their options, and `apply`."""

    @abstractmethod
    def apply(self, module: ModuleOp, context: Context) -> None:
        """Rewrite `module`, which is valid before and after. `context` knows the dialects."""
