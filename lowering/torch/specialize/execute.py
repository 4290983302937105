"""Runs the operations of a raw function abstractly, one by one, and writes the contract as it goes.

What is known now (constants, lists, strings, objects, shapes) is computed now; what is not becomes an operation
of the contract. Calls are inlined. Paths that raise end; the others come back with the values they return.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from xdsl.dialects import func
from xdsl.dialects.builtin import (
    DenseIntOrFPElementsAttr,
    DenseResourceAttr,
    ModuleOp,
    StringAttr,
    SymbolRefAttr,
    TensorType,
)
from xdsl.ir import Block, Operation, Region, SSAValue

from stepwell.dialects import dtypes
from stepwell.dialects.diagnostics import CompileError, UnsupportedError
from stepwell.dialects.torch import operations, types
from stepwell.dialects.torch.builder import TorchBuilder, Value, vtensor_of
from stepwell.dialects.torch.declare import RuntimeFault, TensorInfo, Undecided, declaration_of
from stepwell.dialects.torch.exceptions import DEFAULT, exception_of
from stepwell.lowering.torch.specialize import calls, numbers
from stepwell.lowering.torch.specialize.control import Control, Leaf
from stepwell.lowering.torch.specialize.source import source_location
from stepwell.lowering.torch.specialize.tensors import resolve
from stepwell.lowering.torch.specialize.values import (
    UNDEFINED,
    Abstract,
    CannotSpecialize,
    DictRef,
    Format,
    ObjectRef,
    Path,
    fresh_number,
    new_list,
    new_tensor,
)

MOST_CHECKS = 16
"""Pairs of sizes that one operation may need to be equal."""

DEEPEST_CALL = 200
"""Calls nested deeper than this are taken for endless recursion."""


class Raised(Exception):
    """The path has raised at run time; nothing after it is executed."""


@dataclass
class Executor:
    """Abstract execution of the functions of one raw module."""

    functions: dict[str, func.FuncOp]
    methods: dict[str, dict[str, str]]
    control: Control = field(init=False)
    strict: bool = False
    depth: int = 0
    touched: set[tuple[int, str]] = field(default_factory=set)
    """Attributes read or written, by object number."""

    def __post_init__(self) -> None:
        self.strict = self.strict or any(map(writes_tensors, self.functions.values()))
        self.control = Control(self.run_block, self.strict)

    # ------ functions and blocks

    def call(self, name: str, arguments: list[Abstract], path: Path) -> list[Leaf]:
        """Inline a function; each path that comes back has the caller's variables and the returned values."""
        function = self.functions.get(name)
        if function is None:
            raise UnsupportedError(f"the program calls {name}, which it does not define")
        if self.depth >= DEEPEST_CALL:
            raise CannotSpecialize(f"calls nested deeper than {DEEPEST_CALL} (recursion that sizes do not bound)")
        caller = path.env
        path.env = dict(zip(function.body.block.args, arguments, strict=True))
        self.depth += 1
        leaves = self.run_block(function.body.block, path)
        self.depth -= 1
        for after, _ in leaves:
            after.env = dict(caller)
        return leaves

    def run_block(self, block: Block, path: Path) -> list[Leaf]:
        """Execute a block; the paths that reach its end, with the terminator's operands."""
        paths = [path]
        for op in block.ops:
            if isinstance(op, _TERMINATORS):
                return [(p, [p.env[v] for v in op.operands]) for p in paths]
            following: list[Path] = []
            for current in paths:
                following += self.run(op, current)
            paths = following
            if not paths:
                return []
        raise CannotSpecialize("a block without a terminator")

    def run(self, op: Operation, path: Path) -> list[Path]:
        """Execute one operation on one path; several paths (or none) may come back."""
        for _ in range(MOST_CHECKS):
            try:
                return self._run(op, path)
            except Undecided as question:
                check_equal(path, question)
        raise CannotSpecialize(f"{op.name} depends on more than {MOST_CHECKS} pairs of sizes being equal")

    def _run(self, op: Operation, path: Path) -> list[Path]:
        path.builder.location = op.location
        handler = _HANDLERS.get(type(op))
        try:
            if handler is not None:
                return handler(self, op, path)
            declaration = declaration_of(op)
            if declaration is None:
                return _missing(op, path)
            results = calls.run_declared(self, declaration, [path.env[v] for v in op.operands], path)
            bind(path, op, results)
            return [path]
        except RuntimeFault as fault:
            emit_raise(path, str(fault), f"builtins.{fault.exception}")
            return []
        except Raised:
            return []
        except CompileError as error:
            raise error.at(source_location(op)) from None

    def several(self, op: Operation, leaves: list[Leaf]) -> list[Path]:
        """Bind the values that each path brings to the operation's results."""
        for path, values in leaves:
            for result, value in zip(op.results, values, strict=True):
                path.env[result] = value
            path.builder.location = op.location
        return [path for path, _ in leaves]


def check_equal(path: Path, question: Undecided) -> None:
    """A run-time check that two sizes are equal, as torch would demand; after it they are one."""
    from stepwell.lowering.torch.specialize.control import learn_equal

    if question.right == 1 or not question.required:
        raise CannotSpecialize(str(question))
    builder = path.builder
    differs = builder.call("aten::ne", question.left, question.right)
    if not isinstance(differs, Value):
        raise CannotSpecialize(str(question))
    blocks = [Block(), Block()]
    inside = path.fork(TorchBuilder(blocks[0], builder.location, builder))
    emit_raise(inside, str(question), "builtins.RuntimeError")
    for block in blocks:
        TorchBuilder(block).place(operations.IfYield.create())
    builder.place(operations.If.create(operands=[differs.ssa], regions=[Region([b]) for b in blocks]))
    learn_equal(path, question.left, question.right)
    if resolve(path, question.left) != resolve(path, question.right):
        raise CannotSpecialize(f"whether {question.left} is {question.right} is only known at run time")


def _missing(op: Operation, path: Path) -> list[Path]:
    """An op that is not declared: an error now, or where a branch that run time decides would reach it."""
    name = op.operator.removeprefix("torch.").replace(".", "::", 1) if isinstance(op, operations.Operator) else op.name
    message, help_ = f"there is no op {name}", "docs/adding_an_op.md shows how to declare one, in a file of your own"
    problem, advice = op.attributes.get("problem"), op.attributes.get("help")
    if isinstance(problem, StringAttr) and isinstance(advice, StringAttr):
        message, help_ = problem.data, advice.data
    if path.builder.parent is None:
        raise UnsupportedError(message, help=help_)
    emit_raise(path, f"{message} ({help_})", "builtins.NotImplementedError")
    return []


_TERMINATORS = (func.ReturnOp, operations.IfYield, operations.LoopCondition)


def writes_tensors(program: Operation, statistics: bool = False) -> bool:
    """True if an op of a function or module writes a tensor in place; with `statistics`, or may while training."""
    for op in program.walk():
        declaration = declaration_of(op)
        if declaration is not None and (
            (statistics and declaration.updates is not None)
            or any(
                a.type.written and a.type.base == "Tensor" and not a.type.is_list for a in declaration.schema.arguments
            )
        ):
            return True
    return False


def bind(path: Path, op: Operation, results: Any) -> None:
    """Give the results of an operation their abstract values."""
    values = results if len(op.results) > 1 else [results]
    for result, value in zip(op.results, values, strict=False):
        path.env[result] = value


def emit_raise(path: Path, message: Any, exception: str | None) -> None:
    """`torch.prim.RaiseException` at this place; what follows on this path is dead."""
    builder = path.builder
    if isinstance(message, Format):
        exception, template = exception_of(message.template, exception)
        message = Format(template, message.arguments)
    elif isinstance(message, str):
        exception, message = exception_of(message, exception)
    if isinstance(message, Format):
        operands = [builder.constant(message.template), *(calls.operand(path, a) for a in message.arguments)]
        created = builder.place(operations.FormatText.create(operands=operands, result_types=[types.STRING]))
        text: SSAValue = created.results[0]
    elif isinstance(message, Value):
        text = message.ssa
    else:
        text = builder.constant(str(message))
    builder.place(operations.RaiseException.create(operands=[text, builder.constant(exception or DEFAULT)]))


# ------ prim's own operations


Handler = Callable[[Executor, Any, Path], list[Path]]


def _constant(_: Executor, op: Any, path: Path) -> list[Path]:
    path.env[op.results[0]] = op.value
    return [path]


def _literal(_: Executor, op: Operation, path: Path) -> list[Path]:
    """A tensor of the archive: shared by all paths, so its storage is made where the program starts."""
    contents = literal_value(path, op)
    inline = op.properties["value"]
    if not contents.sizes and isinstance(inline, DenseIntOrFPElementsAttr):
        numbers.note(path, contents, inline.get_values()[0])
    path.env[op.results[0]] = new_tensor(path, contents)
    return [path]


def literal_value(path: Path, op: Operation) -> Value:
    """The contract constant of a raw literal (weights by resource handle, small ones inline)."""
    attribute = op.properties["value"]
    assert isinstance(attribute, (DenseIntOrFPElementsAttr, DenseResourceAttr))
    type_ = attribute.type
    assert isinstance(type_, TensorType)
    dtype = next(d for d in dtypes.ALL if type_.element_type in (d.torch, d.builtin))
    info = TensorInfo(tuple(type_.get_shape()), dtype)
    created = operations.ValueTensorLiteral.create(properties={"value": attribute}, result_types=[vtensor_of(info)])
    return Value(path.builder.place(created).results[0], info)


def _list(_: Executor, op: Operation, path: Path) -> list[Path]:
    path.env[op.results[0]] = new_list(path, [path.env[v] for v in op.operands])
    return [path]


def _dict(_: Executor, op: Operation, path: Path) -> list[Path]:
    half = len(op.operands) // 2
    keys, values = op.operands[:half], op.operands[half:]
    number = fresh_number()
    path.store.dicts[number] = {
        calls.known(path.env[k], "a dict key"): path.env[v] for k, v in zip(keys, values, strict=True)
    }
    path.env[op.results[0]] = DictRef(number)
    return [path]


def _tuple(_: Executor, op: Operation, path: Path) -> list[Path]:
    path.env[op.results[0]] = tuple(path.env[v] for v in op.operands)
    return [path]


def _unpack(_: Executor, op: Operation, path: Path) -> list[Path]:
    value = path.env[op.operands[0]]
    elements = calls.elements(path, value)
    if len(elements) != len(op.results):
        emit_raise(
            path, f"Provided list has {len(elements)} elements, expected {len(op.results)}", "builtins.RuntimeError"
        )
        return []
    for result, element in zip(op.results, elements, strict=True):
        path.env[result] = element
    return [path]


def _index(_: Executor, op: Operation, path: Path) -> list[Path]:
    elements = path.env[op.operands[0]]
    position = calls.known(path.env[op.operands[1]], "the index of a tuple")
    path.env[op.results[0]] = elements[position]
    return [path]


def _same(_: Executor, op: Operation, path: Path) -> list[Path]:
    path.env[op.results[0]] = path.env[op.operands[0]]
    return [path]


def _undefined(_: Executor, op: Operation, path: Path) -> list[Path]:
    path.env[op.results[0]] = UNDEFINED
    return [path]


def _format(_: Executor, op: Operation, path: Path) -> list[Path]:
    path.env[op.results[0]] = calls.format_text(path, [path.env[v] for v in op.operands])
    return [path]


def _raise(_: Executor, op: Operation, path: Path) -> list[Path]:
    emit_raise(path, path.env[op.operands[0]], path.env[op.operands[1]])
    return []


def _if(executor: Executor, op: Operation, path: Path) -> list[Path]:
    env = path.env
    leaves = executor.control.run_if(op, path)
    for after, _ in leaves:
        after.env = {**env} if len(leaves) == 1 else dict(env)
    return executor.several(op, leaves)


def _loop(executor: Executor, op: Operation, path: Path) -> list[Path]:
    env = dict(path.env)
    leaves = executor.control.run_loop(op, path)
    for after, _ in leaves:
        after.env = dict(env)
    return executor.several(op, leaves)


def _get_attribute(executor: Executor, op: Operation, path: Path) -> list[Path]:
    owner = path.env[op.operands[0]]
    if isinstance(owner, ObjectRef):
        executor.touched.add((owner.number, _name(op)))
    path.env[op.results[0]] = get_attribute(path, owner, _name(op))
    return [path]


def get_attribute(path: Path, owner: Abstract, name: str) -> Abstract:
    if not isinstance(owner, ObjectRef):
        raise CannotSpecialize(f"the attribute {name!r} of something that is no object ({owner!r:.40})")
    attributes = path.store.objects[owner.number]
    if name not in attributes:
        emit_raise(path, f"'{owner.class_name}' object has no attribute '{name}'", "builtins.AttributeError")
        raise Raised
    return attributes[name]


def _set_attribute(executor: Executor, op: Operation, path: Path) -> list[Path]:
    owner = path.env[op.operands[0]]
    if not isinstance(owner, ObjectRef):
        raise CannotSpecialize("an attribute is set on something that is no object")
    executor.touched.add((owner.number, _name(op)))
    path.store.objects[owner.number][_name(op)] = path.env[op.operands[1]]
    return [path]


def _name(op: Operation) -> str:
    name = op.properties["name"]
    assert isinstance(name, StringAttr)
    return name.data


def _create(_: Executor, op: Operation, path: Path) -> list[Path]:
    type_ = op.results[0].type
    assert isinstance(type_, types.ModuleType)
    number = fresh_number()
    path.store.objects[number] = {}
    path.env[op.results[0]] = ObjectRef(number, type_.class_name.data)
    return [path]


def _call_method(executor: Executor, op: Operation, path: Path) -> list[Path]:
    owner = path.env[op.operands[0]]
    if not isinstance(owner, ObjectRef):
        raise CannotSpecialize(f"the method {_name(op)!r} of something that is no object")
    name = executor.methods.get(owner.class_name, {}).get(_name(op))
    if name is None:
        raise UnsupportedError(f"{owner.class_name} has no method {_name(op)!r}")
    return executor.several(op, executor.call(name, [path.env[v] for v in op.operands], path))


def _call_function(executor: Executor, op: func.CallOp, path: Path) -> list[Path]:
    name = str(op.callee.root_reference.data)
    return executor.several(op, executor.call(name, [path.env[v] for v in op.operands], path))


_HANDLERS: dict[type[Operation], Handler] = {
    operations.ConstantInt: _constant,
    operations.ConstantFloat: _constant,
    operations.ConstantBool: _constant,
    operations.ConstantString: _constant,
    operations.ConstantDevice: _constant,
    operations.ConstantNone: _constant,
    operations.TensorLiteral: _literal,
    operations.ValueTensorLiteral: _literal,
    operations.ListConstruct: _list,
    operations.DictConstruct: _dict,
    operations.TupleConstruct: _tuple,
    operations.TupleUnpack: _unpack,
    operations.ListUnpack: _unpack,
    operations.TupleIndex: _index,
    operations.UncheckedCast: _same,
    operations.Derefine: _same,
    operations.TensorStaticInfoCast: _same,
    operations.Uninitialized: _undefined,
    operations.RaiseException: _raise,
    operations.FormatText: _format,
    operations.If: _if,
    operations.Loop: _loop,
    operations.GetAttribute: _get_attribute,
    operations.SetAttribute: _set_attribute,
    operations.CallMethod: _call_method,
    operations.CreateObject: _create,
    func.CallOp: _call_function,
}


def executor_for(module: ModuleOp, strict: bool = False) -> Executor:
    """The executor of a raw module: its functions by symbol, its classes' methods by name.

    `strict`: the program writes tensors in place, even where its schemas do not say so.
    """
    functions: dict[str, func.FuncOp] = {}
    methods: dict[str, dict[str, str]] = {}
    for op in module.body.block.ops:
        if isinstance(op, func.FuncOp):
            functions[op.sym_name.data] = op
        elif isinstance(op, operations.ClassType):
            symbol = op.properties["sym_name"]
            assert isinstance(symbol, StringAttr)
            table = methods.setdefault(symbol.data, {})
            for entry in op.regions[0].block.ops:
                if isinstance(entry, operations.Method):
                    target = entry.properties["function"]
                    assert isinstance(target, SymbolRefAttr)
                    table[_name(entry)] = str(target.root_reference.data)
    return Executor(functions, methods, strict=strict)
