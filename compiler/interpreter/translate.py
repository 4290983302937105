"""From IR to Python: each function becomes the source of a Python function over numpy, compiled once.

SSA values become Python locals, `scf` becomes Python's own control flow, and every other op one call of what its
rule returned, so an executed op costs little more than the numpy operation it stands for. A table from source
line to op turns any exception into one that names the op (machine.py).

    %2 = arith.addf %0, %1 : f32             v2 = f0(v0, v1)
    %3 = scf.for %i = %a to %b step %c       v3 = v2
           iter_args(%x = %2) -> f32 {       for v4 in range(va, vb, vc):
      %4 = arith.mulf %x, %x : f32               v5 = f1(v3, v3)
      scf.yield %4 : f32                         v3 = v5
    }
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from xdsl.dialects.builtin import IndexType, TensorType
from xdsl.ir import Block, Operation, Region, SSAValue

from stepwell.compiler.interpreter.rules import EMITTERS, RULES, unsupported

if TYPE_CHECKING:
    from stepwell.compiler.interpreter.machine import Machine

MAX_NESTING = 12
"""How deep Python loops nest before the next one gets a function of its own (Python stops at 20)."""


class Writer:
    """Writes the Python source of one function. Emitters use the methods; `vectorised` says that the code stands
    in the body of a structured op, where scalars are arrays over the iteration space.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.vectorised = False
        self.lines: list[str] = []
        self.operations: list[Operation | None] = []
        self._names: dict[SSAValue, str] = {}
        self._depth = 0
        self._nesting = 0
        self._blocks: dict[Block, int] = {}
        self._operation: Operation | None = None

    # Names.

    def name(self, value: SSAValue) -> str:
        """The Python expression of a value. In a graph a use may be written before its definition."""
        found = self._names.get(value)
        return self.define(value) if found is None else found

    def names(self, values: Sequence[SSAValue]) -> str:
        """The values as the elements of a tuple display: `a, b,` (with the comma that one element needs)."""
        return "".join([f"{self.name(value)}, " for value in values])

    def define(self, value: SSAValue) -> str:
        """The local of a value that is about to be assigned."""
        found = self._names.get(value)
        if found is None:
            found = self._names[value] = self.fresh("v")
        return found

    def alias(self, value: SSAValue, expression: str) -> None:
        """Let a value be an expression that is already there; written only where the value has a name yet."""
        found = self._names.setdefault(value, expression)
        if found != expression:
            self.line(f"{found} = {expression}")

    def fresh(self, prefix: str) -> str:
        """A name not used before in this machine."""
        return self.machine.fresh(prefix)

    def constant(self, value: Any, prefix: str = "k") -> str:
        """The name of a Python object that the code refers to."""
        return self.machine.constant(value, prefix)

    # Statements.

    def line(self, text: str) -> None:
        """One statement, on behalf of the op being emitted."""
        self.lines.append("    " * self._depth + text)
        self.operations.append(self._operation)

    def assign(self, names: Sequence[str], values: Sequence[str]) -> None:
        """Assign all at once; nothing where there is nothing to assign."""
        pairs = [(name, value) for name, value in zip(names, values, strict=True) if name != value]
        if pairs:
            left, right = zip(*pairs, strict=True)
            self.line(f"{', '.join(left)} = {', '.join(right)}")

    @contextmanager
    def indented(self, header: str) -> Iterator[None]:
        """A compound statement; an empty body becomes `pass`."""
        self.line(header)
        self._depth += 1
        before = len(self.lines)
        yield
        if len(self.lines) == before:
            self.line("pass")
        self._depth -= 1

    @contextmanager
    def loop(self, header: str, carried: Sequence[str]) -> Iterator[None]:
        """A Python loop that rebinds the locals `carried`, in a function of its own where nesting gets deep."""
        if self._nesting < MAX_NESTING:
            self._nesting += 1
            with self.indented(header):
                yield
            self._nesting -= 1
            return
        nesting, self._nesting = self._nesting, 0
        function = self.fresh("loop")
        with self.indented(f"def {function}({', '.join(carried)}):"):
            with self.loop(header, carried):
                yield
            self.line(f"return ({''.join(name + ', ' for name in carried)})")
        self._nesting = nesting
        target = f"({''.join(name + ', ' for name in carried)}) = " if carried else ""
        self.line(f"{target}{function}({', '.join(carried)})")

    @contextmanager
    def function(self, name: str, parameters: Sequence[str]) -> Iterator[None]:
        """A nested function; it sees the locals around it."""
        nesting, self._nesting = self._nesting, 0
        with self.indented(f"def {name}({', '.join(parameters)}):"):
            yield
        self._nesting = nesting

    # IR.

    def operation(self, op: Operation) -> None:
        """The statements of one op."""
        outer, self._operation = self._operation, op
        emit = EMITTERS.get(op.name)
        if emit is not None:
            emit(self, op)
            self._operation = outer
            return
        declared = RULES.get(op.name)
        if declared is None:
            raise unsupported(op)
        function = self.constant(declared(op), "f")
        arguments = ", ".join([self.name(value) for value in op.operands])
        results = [self.define(result) for result in op.results]
        self.line((f"{', '.join(results)} = " if results else "") + f"{function}({arguments})")
        self._operation = outer

    def body(self, block: Block) -> Operation:
        """The statements of a block without its terminator, which is returned for the caller to act on."""
        last = block.last_op
        if last is None:
            raise ValueError("a block without a terminator")
        for op in block.ops:
            if op is not last:
                self.operation(op)
        self._operation = last
        return last

    def callable_region(self, block: Block, extra: Sequence[str] = ()) -> str:
        """A nested function of the block's arguments (and `extra` names) that returns its terminator's operands
        as a tuple; its name."""
        name, outer = self.fresh("region"), self._operation
        parameters = [self.define(argument) for argument in block.args]
        with self.function(name, [*parameters, *extra]):
            last = self.body(block)
            self.line(f"return ({self.names(last.operands)})")
        self._operation = outer
        return name

    def jump(self, target: Block, operands: Sequence[SSAValue]) -> None:
        """Leave a block of a control-flow graph for another."""
        self.assign([self.name(arg) for arg in target.args], [self.name(value) for value in operands])
        self.line(f"at = {self._blocks[target]}")

    def graph(self, region: Region) -> None:
        """A region of several blocks: a loop around a binary decision over the number of the next block."""
        blocks = list(region.blocks)
        self._blocks |= {block: number for number, block in enumerate(blocks)}
        for block in blocks[1:]:
            for argument in block.args:
                self.define(argument)
        self.line("at = 0")
        with self.indented("while True:"):
            self._decide(blocks, 0)

    def _decide(self, blocks: list[Block], first: int) -> None:
        if len(blocks) == 1:
            for op in blocks[0].ops:
                self.operation(op)
            return
        middle = len(blocks) // 2
        with self.indented(f"if at < {first + middle}:"):
            self._decide(blocks[:middle], first)
        with self.indented("else:"):
            self._decide(blocks[middle:], first + middle)


def translate(
    machine: Machine, op: Operation, region: Region, name: str, finish: Callable[[Writer, Operation], None]
) -> str:
    """Compile one function-like op into `machine.namespace[name]`; returns the Python source.

    The Python function takes the thread (`C`) and one value per argument of the region's first block. `finish`
    writes the return statement from the terminator of a single block; in a graph the terminators do it.
    """
    writer = Writer(machine)
    blocks = list(region.blocks)
    parameters = [writer.define(argument) for argument in blocks[0].args]
    with writer.function(name, ["C", *parameters]):
        if len(blocks) == 1:
            _straight(writer, blocks[0], finish)
        else:
            writer.graph(region)
    source = "\n".join(writer.lines) + "\n"
    filename = f"<interpreter {name}>"
    machine.sources[filename] = writer.operations
    exec(compile(source, filename, "exec"), machine.namespace)
    return source


def _straight(writer: Writer, block: Block, finish: Callable[[Writer, Operation], None]) -> None:
    """The function's only block; each tensor is let go after its last use, since all locals live to the end."""
    last_use = _last_uses(block)
    last = block.last_op
    assert last is not None
    for op in block.ops:
        if op is last:
            writer._operation = op
            finish(writer, op)
            return
        writer.operation(op)
        gone = [writer.name(value) for value in last_use.get(op, ())]
        gone = [name for name in gone if name.startswith("v")]
        if gone:
            writer.line(f"{' = '.join(gone)} = None")


def _last_uses(block: Block) -> dict[Operation, list[SSAValue]]:
    """For each op of the block, the tensors of the block that nothing after it reads."""
    seen: set[int] = set()
    uses: dict[Operation, list[SSAValue]] = {}
    for op in reversed(list(block.ops)):
        for inner in op.walk():
            for value in inner.operands:
                if id(value) not in seen:
                    seen.add(id(value))
                    owner = value.owner
                    home = owner.parent if isinstance(owner, Operation) else owner
                    if home is block and isinstance(value.type, TensorType):
                        uses.setdefault(op, []).append(value)
    return uses


def is_index(value: SSAValue) -> bool:
    """Whether a value is a Python int here."""
    return isinstance(value.type, IndexType)
