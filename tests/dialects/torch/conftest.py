"""What the tests of op declarations share: all declarations, and running a declaration's own lowering."""

from __future__ import annotations

import copy
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from xdsl.dialects import func, scf, tensor
from xdsl.dialects.builtin import IndexType, ModuleOp
from xdsl.ir import Block, Region

from stepwell.compiler.interpreter import interpret
from stepwell.dialects import dtypes
from stepwell.dialects.torch.builder import TorchBuilder, Value, coerce, facts
from stepwell.dialects.torch.declare import OPS, ScalarInfo, TensorInfo
from stepwell.dialects.torch.linalg_builder import LinalgBuilder, Tensor, tensor_type
from stepwell.dialects.torch.ops import declare_all
from stepwell.dialects.torch.scalar import Scalar
from stepwell.dialects.torch.sizes import Dim, Symbol

declare_all()

def pytest_generate_tests(metafunc):
    """A test that takes `family` runs for every family: its declarations that have samples."""
    if "family" in metafunc.fixturenames:
        families = {}
        for declaration in OPS:
            if declaration.samples is not None:
                module = declaration.reference.__module__.rpartition(".")[2]
                families.setdefault(module, []).append(declaration)
        metafunc.parametrize("family", families.values(), ids=families.keys())


def samples_of(declaration):
    """Its samples as arguments in schema order, adapted to their schema types."""
    formals = [f.type for f in declaration.schema.arguments]
    for sample in declaration.samples():
        bound = declaration.bind(sample.arguments, sample.keywords)
        yield [coerce(v, t) if not isinstance(v, np.ndarray) else v for v, t in zip(bound, formals, strict=True)]


def facts_of(value):
    """What shape rules see of a reference's argument or result."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = np.asarray(value)
        return TensorInfo(tuple(value.shape), dtypes.from_numpy(value.dtype))
    if isinstance(value, (list, tuple)):
        return type(value)(facts_of(v) for v in value)
    return value


def evaluate(declaration, arguments):
    """The reference's result, or the exception that it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return declaration.reference(*copy.deepcopy(arguments))


class DirectBuilder(TorchBuilder):
    """Lowers what it is asked to append at once: composites are expanded, core ops become linalg."""

    def __init__(self, linalg):
        super().__init__(Block())
        self.linalg = linalg

    def emit(self, declaration, arguments):
        formals = [a.type for a in declaration.schema.arguments]
        arguments = [coerce(a, t) for a, t in zip(arguments, formals, strict=True)]
        inferred = declaration.infer(*(facts(a) for a in arguments))
        if is_known(inferred):
            return inferred
        if declaration.expand is not None:
            return declaration.expand(self, *arguments)
        assert declaration.lower is not None, f"{declaration.schema.qualified_name} has no rule for its run-time value"
        result = declaration.lower(self.linalg, inferred, *(lowered(a, self.linalg) for a in arguments))
        return wrapped(result, inferred, self.linalg)

    def loop(self, trips, carried, body):
        start, end, step = (self.linalg.index(n) for n in (0, trips, 1))
        block = Block(arg_types=[IndexType(), *(v.ssa.type for v in carried)])
        inner = DirectBuilder(self.linalg.child(block))
        iteration = Symbol("k", 0, trips - 1)
        inner.linalg.define(iteration, block.args[0])
        values = [Value(a, v.info) for a, v in zip(block.args[1:], carried, strict=True)]
        ends = body(inner, Dim.of(iteration), values)
        inner.linalg.add(scf.YieldOp(*(v.ssa for v in ends)))
        loop = scf.ForOp(start, end, step, [v.ssa for v in carried], Region([block]))
        results = self.linalg.add(loop).results
        return [Value(r, v.info) for r, v in zip(results, carried, strict=True)]


def is_known(inferred):
    if isinstance(inferred, (list, tuple)):
        return all(is_known(v) for v in inferred)
    return not isinstance(inferred, (TensorInfo, ScalarInfo))


def lowered(value, linalg):
    """A builder's value as a lowering rule gets it."""
    if isinstance(value, Value):
        if isinstance(value.info, TensorInfo):
            return Tensor(value.ssa, value.info.sizes, value.info.dtype)
        kind = {"float": dtypes.float64, "bool": dtypes.bool_}[value.info.kind]
        return Scalar(value.ssa, kind, linalg)
    if isinstance(value, list):
        return [lowered(v, linalg) for v in value]
    return value


def wrapped(result, inferred, linalg):
    if isinstance(inferred, (list, tuple)):
        return type(inferred)(wrapped(r, i, linalg) for r, i in zip(result, inferred, strict=True))
    if isinstance(inferred, ScalarInfo):
        return linalg.symbol_of("i", result.value, -(1 << 62)) if inferred.kind == "int" else Value(result.value, inferred)
    assert result.sizes == inferred.sizes, f"lower gives sizes {result.sizes}, infer {inferred.sizes}"
    assert result.dtype == inferred.dtype, f"lower gives {result.dtype}, infer {inferred.dtype}"
    return Value(result.value, inferred)


class Lowering:
    """One call of a declaration as a function on tensors: @f of the tensor arguments.

    symbolic: sizes are only known at run time. numbers: so are ints, floats and bools (of these schema types).
    """

    def __init__(self, declaration, arguments, symbolic=False, numbers=()):
        self.arrays = []
        self.symbolic = symbolic
        self.numbers = numbers
        self.symbols = {}
        self.block = Block()
        self.linalg = LinalgBuilder(self.block)
        self.builder = DirectBuilder(self.linalg)
        formals = [f.type for f in declaration.schema.arguments]
        values = [self.argument(v, t) for v, t in zip(arguments, formals, strict=True)]
        self.finish(self.builder.emit(declaration, values))

    @classmethod
    def of_write(cls, declaration, base, value, rest):
        """The write through a view: base and value are tensors, the result is the base afterwards."""
        self = cls.__new__(cls)
        self.arrays, self.symbolic, self.numbers, self.symbols = [], False, (), {}
        self.block = Block()
        self.linalg = LinalgBuilder(self.block)
        self.builder = DirectBuilder(self.linalg)
        operands = [self.tensor(base), self.tensor(value)]
        others = [self.tensor(a) if isinstance(a, np.ndarray) else a for a in rest]
        self.finish(declaration.write(self.builder, *operands, *others))
        return self

    def finish(self, result):
        self.result = result
        flat = list(self.flatten(self.result))
        self.infos = [v.info for v in flat]
        self.linalg.add(func.ReturnOp(*(v.ssa for v in flat)))
        function = func.FuncOp("f", (self.block.arg_types, [v.ssa.type for v in flat]), Region([self.block]))
        self.module = ModuleOp([function])
        self.module.verify()

    def argument(self, value, type_):
        if isinstance(value, np.ndarray):
            return self.tensor(value)
        if isinstance(value, list):
            return [self.argument(v, type_) for v in value]
        if type_.base in self.numbers and isinstance(value, (bool, int, float)):
            return self.number(value)
        return value

    def number(self, value):
        kind = {bool: "bool", int: "int", float: "float"}[type(value)]
        builtin = {"bool": dtypes.bool_, "int": dtypes.int64, "float": dtypes.float64}[kind].builtin
        argument = self.block.insert_arg(builtin, len(self.block.args))
        self.arrays.append(value)
        if kind == "int":
            return self.linalg.symbol_of("i", argument, -(1 << 62))
        return Value(argument, ScalarInfo(kind))

    def tensor(self, array):
        dtype = dtypes.from_numpy(array.dtype)
        sizes = tuple(self.size(n) for n in array.shape)
        argument = self.block.insert_arg(tensor_type(sizes, dtype), len(self.block.args))
        for position, size in enumerate(sizes):
            if isinstance(size, Dim):
                symbol = size.terms[0][0][0]
                if symbol not in self.linalg._dims:
                    dim = self.linalg.op(tensor.DimOp, [argument, self.linalg.constant(position, IndexType())], IndexType())
                    self.linalg.define(symbol, dim)
        self.arrays.append(array)
        return Value(argument, TensorInfo(sizes, dtype))

    def size(self, n):
        """With symbolic sizes every size from 2 on is a symbol, equal sizes the same one."""
        if not self.symbolic or n < 2:
            return n
        return Dim.of(self.symbols.setdefault(n, Symbol(f"s{n}", 2)))

    def flatten(self, result):
        if isinstance(result, (list, tuple)):
            for item in result:
                yield from self.flatten(item)
        elif isinstance(result, Value):
            yield result
        else:
            # Known at compile time, or an int: as a scalar result.
            scalar = self.linalg.scalar(result)
            kind = {dtypes.BOOL: "bool", dtypes.INTEGER: "int"}.get(scalar.dtype.category, "float")
            yield Value(scalar.value, ScalarInfo(kind))

    def run(self):
        arrays = [a.view(np.int8) if getattr(a, "dtype", None) == np.uint8 else a for a in self.arrays]
        results = interpret(self.module, "f", arrays)
        return [
            r.view(np.uint8) if isinstance(i, TensorInfo) and i.dtype == dtypes.uint8 else r
            for r, i in zip(results, self.infos, strict=True)
        ]


def flat(result):
    if isinstance(result, (list, tuple)):
        return [v for item in result for v in flat(item)]
    return [result]


def assert_same(got, expected, tolerance, what):
    """Equal arrays or numbers: dtype, shape, values to a tolerance for floats, NaN equal to NaN."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    if expected.dtype.kind in "iub" and got.dtype.kind in "iub":
        assert np.array_equal(got, expected), f"{what}: {got} expected {expected}"
        return
    wide = expected.dtype.itemsize > 2
    bound = tolerance if wide else 1e-2
    np.testing.assert_allclose(
        got.astype(np.float64), expected.astype(np.float64), rtol=bound, atol=bound, equal_nan=True, err_msg=what
    )


@pytest.fixture(scope="session")
def tools():
    """The functions above, for the tests' modules."""
    names = "samples_of facts_of evaluate flat assert_same Lowering"
    return SimpleNamespace(**{name: globals()[name] for name in names.split()})


