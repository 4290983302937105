"""Every declaration, every sample: the shape rule, the lowering and the expansion mean what the reference means."""

import numpy as np
import pytest
from xdsl.ir import Block

from stepwell.dialects.diagnostics import UnsupportedError
from stepwell.dialects.torch.builder import TorchBuilder, Value, vtensor_of
from stepwell.dialects.torch.declare import OPS, RuntimeFault, ScalarInfo, TensorInfo, Undecided
from stepwell.dialects.torch.sizes import Dim

NUMBERS = ("int", "float", "bool", "Scalar", "number")


def of(name):
    found = OPS.find(name)
    assert found is not None, name
    return found


def test_exactly_one_rule_says_how_an_op_runs():
    wrong = []
    for declaration in OPS:
        rules = (declaration.expand is not None) + (declaration.lower is not None) + declaration.evaluate_only
        if rules != 1:
            wrong.append(declaration.schema.qualified_name)
    assert not wrong


def every(family, tools):
    """(declaration, arguments) of every sample."""
    for declaration in family:
        for arguments in tools.samples_of(declaration):
            yield declaration, arguments


def test_infer_agrees_with_the_reference(family, tools):
    for declaration, arguments in every(family, tools):
        result = tools.facts_of(tools.evaluate(declaration, arguments))
        inferred = declaration.infer(*(tools.facts_of(a) for a in arguments))
        for got, expected in zip(tools.flat(inferred), tools.flat(result), strict=True):
            if isinstance(got, ScalarInfo):
                assert type(expected).__name__ == got.kind
            elif isinstance(got, TensorInfo):
                assert got.dtype == expected.dtype
                assert len(got.sizes) == len(expected.sizes)
                # Data-dependent sizes are fresh symbols.
                assert all(isinstance(g, Dim) or g == e for g, e in zip(got.sizes, expected.sizes, strict=True))
            else:
                assert repr(got) == repr(expected)


@pytest.mark.parametrize("symbolic", [False, True], ids=["static", "symbolic"])
def test_the_lowering_computes_the_reference(family, symbolic, tools):
    for declaration, arguments in every(family, tools):
        if declaration.evaluate_only:
            continue
        try:
            results = tools.Lowering(declaration, arguments, symbolic).run()
        except (Undecided, UnsupportedError):
            assert symbolic, "a sample must lower when its sizes are known"
            continue
        compare(declaration, results, tools.evaluate(declaration, arguments), tools)


def compare(declaration, results, expected, tools):
    for got, wanted in zip(results, tools.flat(expected), strict=True):
        tools.assert_same(got, wanted, declaration.tolerance, declaration.schema.qualified_name)


def test_numbers_only_known_at_run_time(tools):
    """Arithmetic on numbers becomes scalar IR that means the same."""
    for declaration in OPS:
        bases = {a.type.base for a in declaration.schema.arguments}
        if declaration.samples is None or declaration.evaluate_only or not bases <= set(NUMBERS):
            continue
        for arguments in tools.samples_of(declaration):
            results = tools.Lowering(declaration, arguments, numbers=NUMBERS).run()
            compare(declaration, results, tools.evaluate(declaration, arguments), tools)


def test_parameters_only_known_at_run_time(tools):
    """Scalars beside tensors may come from the program, too."""
    ran = 0
    for declaration in OPS:
        bases = {a.type.base for a in declaration.schema.arguments}
        if declaration.samples is None or declaration.evaluate_only or not ("Tensor" in bases and bases & {"float", "Scalar"}):
            continue
        for arguments in tools.samples_of(declaration):
            if "beta" in str(declaration.schema) and any(isinstance(a, int) and a == 0 for a in arguments):
                continue  # beta = 0 hides NaN only where it is known
            try:
                results = tools.Lowering(declaration, arguments, numbers=("float", "Scalar")).run()
            except UnsupportedError:
                continue
            compare(declaration, results, tools.evaluate(declaration, arguments), tools)
            ran += 1
    assert ran > 300


def test_operations_of_the_contract(family, tools):
    """Every sample can be built as an operation, with the types that the shape rule gives."""
    for declaration, arguments in every(family, tools):
        block = Block()
        builder = TorchBuilder(block)

        def value(argument, block=block):
            if isinstance(argument, np.ndarray):
                info = tools.facts_of(argument)
                return Value(block.insert_arg(vtensor_of(info), len(block.args)), info)
            return [value(a) for a in argument] if isinstance(argument, list) else argument

        result = builder.emit(declaration, [value(a) for a in arguments])
        for operation in block.ops:
            operation.verify()
        for item in tools.flat(result):
            if isinstance(item, Value) and isinstance(item.info, TensorInfo):
                assert item.ssa.type == vtensor_of(item.info)


def test_writes_through_views(tools):
    """write(base, value) gives what numpy's base holds after a store through the view."""
    ran = 0
    for declaration in OPS:
        if declaration.write is None or declaration.samples is None:
            continue
        for arguments in tools.samples_of(declaration):
            base = np.array(arguments[0])
            view = declaration.reference(base, *arguments[1:])
            if not np.shares_memory(view, base) or view.size == 0 or not view.flags.writeable:
                continue
            value = np.arange(view.size).reshape(view.shape).astype(view.dtype)
            view[...] = value
            lowering = tools.Lowering.of_write(declaration, np.array(arguments[0]), value, arguments[1:])
            tools.assert_same(lowering.run()[0], base, 0, declaration.schema.qualified_name)
            ran += 1
    assert ran > 50


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("aten::add.Tensor", [(2, 3), (4,), 1], "The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 1"),  # noqa: E501
        ("aten::mm", [(2, 3), (4, 5)], "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        ("aten::view", [(2, 3), [4]], "shape '[4]' is invalid for input of size 6"),
        ("aten::select.int", [(2, 3), 0, 5], "select(): index 5 out of range for tensor of size [2, 3] at dimension 0"),
        ("aten::transpose.int", [(2, 3), 0, 2], "Dimension out of range (expected to be in range of [-2, 1], but got 2)"),
    ],
)  # fmt: skip
def test_refusals_in_torchs_words(name, arguments, message):
    from stepwell.dialects.dtypes import float32

    facts = [TensorInfo(a, float32) if isinstance(a, tuple) else a for a in arguments]
    with pytest.raises(RuntimeFault) as caught:
        of(name).infer(*facts)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "name, arguments, exception",
    [
        ("aten::embedding", [np.zeros((3, 2), np.float32), np.array([0, 3])], IndexError),
        ("aten::index_select", [np.zeros((3, 2), np.float32), 0, np.array([-1])], IndexError),
        ("aten::index.Tensor", [np.zeros((3, 2), np.float32), [np.array([-4])]], IndexError),
        ("aten::gather", [np.zeros((3, 2), np.float32), 0, np.array([[5]])], RuntimeError),
        ("aten::floor_divide", [np.array([1, 2]), np.array([1, 0])], RuntimeError),
        ("aten::item", [np.zeros((2,))], RuntimeError),
    ],
)
def test_data_that_is_refused_at_run_time(name, arguments, exception, tools):
    """The lowered program raises what the reference raises."""
    bound = of(name).bind(arguments, {})
    with pytest.raises(exception) as expected:
        of(name).reference(*bound)
    with pytest.raises((exception, RuntimeFault)) as caught:
        tools.Lowering(of(name), bound).run()
    assert str(caught.value) == str(expected.value)


def test_division_by_zero_of_numbers(tools):
    with pytest.raises(ZeroDivisionError, match="integer division or modulo by zero"):
        tools.Lowering(OPS.find("aten::floordiv.int"), [1, 0], numbers=NUMBERS).run()


def test_in_place_variants_are_derived():
    add = of("aten::add_.Tensor")
    assert add.functional is of("aten::add.Tensor")
    assert add.schema.arguments[0].type.written
    x = np.array([1.5, 2.5], np.float32)
    assert add.reference(x, np.array([1, 1]), 2).dtype == np.float32
    from stepwell.dialects.dtypes import float32, int64

    with pytest.raises(RuntimeFault, match="result type Float can't be cast to the desired output type Long"):
        add.infer(TensorInfo((2,), int64), TensorInfo((2,), float32), 1)
    assert OPS.find("aten::softmax_.int") is None
