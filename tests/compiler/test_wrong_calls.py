"""Calls with the wrong arguments, and with unusual ones: the right answer, or an error that names the argument,
what it should be, and the model's line. No torch is needed; what torch tensors do is in test_torch_tensors.py."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

import stepwell
from stepwell import ArgumentError, Tensor

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits" / "digits.pt"


class Mode(enum.Enum):
    KEEP = 1
    DOUBLE = 2


class Other(enum.Enum):
    KEEP = 1


class Pair(NamedTuple):
    x: Tensor
    n: int = 2


@stepwell.script
def scaled(x: Tensor, n: int = 2, *, scale: float = 1.0) -> Tensor:
    return x * n * scale


@stepwell.script
def untyped(x, n):
    return x * n


@stepwell.script
def written(x: Tensor) -> Tensor:
    x.add_(1)
    return x * 2


@stepwell.script
def of_flag(b: bool) -> bool:
    return not b


@stepwell.script
def of_float(k: float) -> float:
    return k / 2


@stepwell.script
def of_list(xs: list[int]) -> int:
    return sum(xs)


@stepwell.script
def of_tuple(p: tuple[int, float]) -> float:
    return p[0] + p[1]


@stepwell.script
def of_tensors(xs: list[Tensor]) -> Tensor:
    return stepwell.stack(xs).sum(0)


@stepwell.script
def of_table(d: dict[str, int]) -> int:
    return d["a"]


@stepwell.script
def of_mode(x: Tensor, mode: Mode) -> Tensor:
    return x * 2 if mode is Mode.DOUBLE else x


@stepwell.script
def of_pair(p: Pair) -> Tensor:
    return p.x * p.n


@stepwell.script
def of_option(x: Tensor, n: int | None = None) -> Tensor:
    return x if n is None else x * n


@stepwell.script
def of_size(x: Tensor, y: Tensor) -> Tensor:
    return x @ y


def array(*sizes: int, dtype: Any = np.float32) -> np.ndarray:
    return (np.arange(np.prod(sizes, dtype=int)) + 1).reshape(sizes).astype(dtype)


# ------ refused


REFUSED = {
    "nothing given": (scaled, (), {}, "scaled() needs an argument 'x': Tensor"),
    "too many": (scaled, (array(3), 1, 2.0), {}, "scaled() takes 2 arguments by position, not 3"),
    "unknown keyword": (scaled, (array(3),), {"m": 2}, "scaled() has no argument 'm'; its arguments: x, n, scale"),
    "given twice": (scaled, (array(3),), {"x": 1}, "scaled() got its argument 'x' twice, by position and by name"),
    "float for int": (scaled, (array(3), 2.5), {}, "scaled() takes an int as argument 'n', not a float"),
    "text for int": (scaled, (array(3), "2"), {}, "scaled() takes an int as argument 'n', not a str"),
    "none for int": (scaled, (array(3), None), {}, "scaled() takes an int as argument 'n', not None"),
    "array for int": (scaled, (array(3), array(3)), {}, "scaled() takes an int as argument 'n', not a float32[3] array"),
    "float array for int": (
        scaled, (array(3), array()), {}, "scaled() takes an int as argument 'n', not a float32[] array",
    ),
    "int past 64 bits": (
        scaled, (array(3), 1 << 70), {}, "scaled() takes an int as argument 'n', not an int (it does not fit into 64 bits)",
    ),
    "text for float": (scaled, (array(3),), {"scale": "1"}, "scaled() takes a float as argument 'scale', not a str"),
    "complex for float": (scaled, (array(3),), {"scale": 1j}, "scaled() takes a float as argument 'scale', not a complex"),
    "list for tensor": (scaled, ([1.0, 2.0],), {}, "scaled() takes a Tensor as argument 'x', not a list"),
    "number for tensor": (scaled, (2.0,), {}, "scaled() takes a Tensor as argument 'x', not a float"),
    "none for tensor": (scaled, (None,), {}, "scaled() takes a Tensor as argument 'x', not None"),
    "number for untyped": (untyped, (array(3), 2), {}, "untyped() takes a Tensor as argument 'n', not an int"),
    "objects": (
        scaled, (np.array([None]),), {},
        "scaled() takes a Tensor as argument 'x', not an object[1] array (that dtype is not supported)",
    ),
    "texts": (
        scaled, (np.array(["a"]),), {},
        "scaled() takes a Tensor as argument 'x', not a <U1[1] array (that dtype is not supported)",
    ),
    "complex tensor": (
        scaled, (array(3, dtype=np.complex64),), {},
        "scaled() takes a Tensor as argument 'x', not a complex64[3] array (that dtype is not supported)",
    ),
    "uint16": (
        scaled, (array(3, dtype=np.uint16),), {},
        "scaled() takes a Tensor as argument 'x', not a uint16[3] array (that dtype is not supported)",
    ),
    "float8": (
        scaled, (array(3).astype(ml_dtypes.float8_e4m3fn),), {},
        "scaled() takes a Tensor as argument 'x', not a float8_e4m3fn[3] array (that dtype is not supported)",
    ),
    "dates": (
        scaled, (np.array(["2020-01-01"], "M8[D]"),), {},
        "scaled() takes a Tensor as argument 'x', not a datetime64[D][1] array (that dtype is not supported)",
    ),
    "masked": (
        scaled, (np.ma.array([1.0, 2.0]),), {},
        "scaled() takes a Tensor as argument 'x', not a float64[2] array (a masked array)",
    ),
    "a set": (scaled, ({1},), {}, "scaled() takes a Tensor as argument 'x', not a set"),
    "an object": (scaled, (object(),), {}, "scaled() takes a Tensor as argument 'x', not an object"),
    "a class": (scaled, (np.ndarray,), {}, "scaled() takes a Tensor as argument 'x', not a type"),
    "text for flag": (of_flag, ("yes",), {}, "of_flag() takes a bool as argument 'b', not a str"),
    "text in list": (
        of_list, ([1, "2"],), {}, "of_list() takes a List[int] as argument 'xs', not a list (at [1] an int is needed, not a str)",
    ),
    "number for list": (of_list, (3,), {}, "of_list() takes a List[int] as argument 'xs', not an int"),
    "short tuple": (of_tuple, ((1,),), {}, "of_tuple() takes a Tuple[int, float] as argument 'p', not a tuple (it has 1 elements)"),
    "numbers for tensors": (
        of_tensors, ([array(2), 1.0],), {},
        "of_tensors() takes a List[Tensor] as argument 'xs', not a list (at [1] a Tensor is needed, not a float)",
    ),
    "wrong value in table": (
        of_table, ({"a": 1.5},), {},
        "of_table() takes a Dict[str, int] as argument 'd', not a dict (at ['a'] an int is needed, not a float)",
    ),
    "wrong key in table": (
        of_table, ({1: 1},), {},
        "of_table() takes a Dict[str, int] as argument 'd', not a dict (as a key a str is needed, not an int)",
    ),
    "other enum": (of_mode, (array(2), Other.KEEP), {}, "of_mode() takes a Mode as argument 'mode', not an Other"),
    "int for enum": (of_mode, (array(2), 1), {}, "of_mode() takes a Mode as argument 'mode', not an int"),
    "short named tuple": (of_pair, ((array(2),),), {}, "of_pair() takes a Pair as argument 'p', not a tuple (it has the fields x, n)"),
    "text for optional": (of_option, (array(2), "a"), {}, "of_option() takes an Optional[int] as argument 'n', not a str"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_call_is_refused_by_name_type_and_line(name: str) -> None:
    f, arguments, keywords, message = REFUSED[name]
    for _ in range(2):
        with pytest.raises(ArgumentError) as caught:
            f(*arguments, **keywords)
        assert caught.value.message == message
        assert isinstance(caught.value, TypeError) and isinstance(caught.value, stepwell.Error)
        location = caught.value.location
        assert location is not None and location.file == __file__
        line = (location.text() or "")[location.column :]
        assert line.startswith(("def ", message.split("argument '")[1].split("'")[0] if "argument '" in message else "def "))


def test_the_error_shows_the_line_and_says_what_to_do() -> None:
    with pytest.raises(ArgumentError) as caught:
        untyped(array(3), 2)
    place = f"{__file__}:{caught.value.location.line}:16"
    assert str(caught.value).splitlines() == [
        f"{place}: untyped() takes a Tensor as argument 'n', not an int",
        f"{caught.value.location.line:6d} | def untyped(x, n):",
        "       |                ^",
        "    help: it has no annotation, so it is a tensor: write n: int",
    ]


def test_a_wrong_call_leaves_the_function_usable() -> None:
    for bad in ("a", None, [1]):
        with pytest.raises(ArgumentError):
            scaled(bad)
    np.testing.assert_array_equal(scaled(array(3)), array(3) * 2)


# ------ converted


CONVERTED = {
    "bool for int": (scaled, (array(3), True), {}, array(3)),
    "numpy int": (scaled, (array(3), np.int64(3)), {}, array(3) * 3),
    "int array without dimensions": (scaled, (array(3), np.array(3)), {}, array(3) * 3),
    "int for float": (scaled, (array(3),), {"scale": 3}, array(3) * 6),
    "int for float, of ints": (scaled, (array(3, dtype=np.int64),), {"scale": 3}, array(3) * 6),
    "bool for float": (of_float, (True,), {}, 0.5),
    "numpy float": (scaled, (array(3),), {"scale": np.float32(0.5)}, array(3)),
    "longdouble": (of_float, (np.longdouble(3),), {}, 1.5),
    "array for float": (of_float, (np.array(3, np.int32),), {}, 1.5),
    "int for bool": (of_flag, (0,), {}, True),
    "numpy bool": (of_flag, (np.bool_(True),), {}, False),
    "numpy scalar for tensor": (scaled, (np.float32(2),), {}, np.array(4, np.float32)),
    "tuple for list": (of_list, ((1, 2, 3),), {}, 6),
    "range for list": (of_list, (range(4),), {}, 6),
    "array for list": (of_list, (np.arange(4),), {}, 6),
    "list for tuple": (of_tuple, ([1, 2],), {}, 3.0),
    "tuple of tensors": (of_tensors, ((array(2), array(2)),), {}, array(2) * 2),
    "tuple for named tuple": (of_pair, ((array(2), True),), {}, array(2)),
    "named tuple": (of_pair, (Pair(array(2)),), {}, array(2) * 2),
    "enum": (of_mode, (array(2), Mode.DOUBLE), {}, array(2) * 2),
    "enum again": (of_mode, (array(2), Mode.KEEP), {}, array(2)),
    "absent": (of_option, (array(2),), {}, array(2)),
    "none": (of_option, (array(2), None), {}, array(2)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERTED)
def test_arguments_are_converted_as_torchscript_converts(name: str) -> None:
    f, arguments, keywords, expected = CONVERTED[name]
    for _ in range(3):
        result = f(*arguments, **keywords)
        np.testing.assert_array_equal(result, expected)
        assert np.asarray(result).dtype == np.asarray(expected).dtype
        assert type(result) is type(expected)


# ------ arrays of every kind


class Subclass(np.ndarray):
    pass


class Interface:
    """Something that only says how it becomes an array."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return array(2, 3)


BASE = array(4, 6)
FROZEN = array(2, 3)
FROZEN.flags.writeable = False

ARRAYS = {
    "sliced": BASE[1:3, ::2],
    "columns": BASE[:, 1:2],
    "transposed": BASE.T,
    "reversed": BASE[::-1],
    "reversed rows": BASE[:, ::-1],
    "fortran order": np.asfortranarray(BASE),
    "broadcast": np.broadcast_to(array(3), (4, 3)),
    "overlapping windows": np.lib.stride_tricks.sliding_window_view(array(6), 3),
    "read-only": FROZEN,
    "no elements": array(0, 3),
    "no columns": array(3, 0),
    "no dimensions": np.array(2.5, np.float32),
    "one element": array(1, 1, 1),
    "seven dimensions": array(1, 2, 1, 2, 1, 2, 1),
    "big-endian": array(2, 3).astype(">f4"),
    "unaligned": np.frombuffer(b"\0" + array(5).tobytes(), np.uint8)[1:].view(np.float32),
    "matrix": np.matrix([[1.0, 2.0], [3.0, 4.0]]),
    "subclass": array(3).view(Subclass),
    "float16": array(3, dtype=np.float16),
    "bfloat16": array(3).astype(ml_dtypes.bfloat16),
    "float64": array(3, dtype=np.float64),
    "int8": array(3, dtype=np.int8),
    "uint8": array(3, dtype=np.uint8),
    "int16": array(3, dtype=np.int16),
    "int32": array(3, dtype=np.int32),
    "big-endian ints": array(3).astype(">i8"),
    "array interface": Interface(),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_every_kind_give_the_right_answer(name: str) -> None:
    given = ARRAYS[name]
    plain = np.ascontiguousarray(np.asarray(given)).reshape(np.shape(given))
    before = plain.copy()
    result = scaled(given, 3, scale=0.5)
    assert type(result) is np.ndarray
    floating = plain.dtype.kind == "f" or plain.dtype.name == "bfloat16"
    assert result.dtype == (plain.dtype.newbyteorder("=") if floating else np.float32)
    np.testing.assert_array_equal(result.astype(np.float64), plain.astype(np.float64) * 1.5)
    np.testing.assert_array_equal(np.asarray(given), before)


WRITTEN = ("sliced", "columns", "transposed", "reversed", "fortran order", "no elements", "no dimensions", "big-endian", "subclass")


@pytest.mark.parametrize("name", WRITTEN)
def test_writes_reach_the_callers_array(name: str) -> None:
    given = ARRAYS[name].copy() if name in ("no dimensions", "big-endian", "subclass") else ARRAYS[name]
    before = np.array(given)
    result = written(given)
    np.testing.assert_array_equal(np.asarray(given), before + 1)
    np.testing.assert_array_equal(result, (before + 1) * 2)
    given -= 1


@pytest.mark.parametrize("name", ["read-only", "broadcast"])
def test_a_read_only_array_that_would_be_written_is_refused(name: str) -> None:
    before = np.array(ARRAYS[name])
    with pytest.raises(ValueError, match="read-only"):
        written(ARRAYS[name])
    np.testing.assert_array_equal(ARRAYS[name], before)


@pytest.mark.parametrize("sizes", [((2, 3), (2, 3)), ((4,), (3,)), ((2, 3), (4,)), ((0, 3), (2, 2))])
def test_sizes_that_do_not_match_raise_at_the_models_line(sizes: Any) -> None:
    x, y = (array(*s) for s in sizes)
    with pytest.raises(RuntimeError) as caught:
        of_size(x, y)
    assert not isinstance(caught.value, stepwell.Error)
    assert any(__file__ in note for note in caught.value.__notes__)


# ------ archives


WRONG_FOR_DIGITS = {
    "nothing": ((), {}, ArgumentError, "needs an argument 'images': Tensor"),
    "two": ((array(1, 1, 8, 8), 1), {}, ArgumentError, "takes 1 argument by position, not 2"),
    "keyword": ((), {"image": array(1, 1, 8, 8)}, ArgumentError, "has no argument 'image'; its arguments: images"),
    "list": ((array(1, 1, 8, 8).tolist(),), {}, ArgumentError, "takes a Tensor as argument 'images', not a list"),
    "dtype": ((array(1, 1, 8, 8, dtype=np.int64),), {}, RuntimeError, "Input type"),
    "rank": ((array(8, 8),), {}, ValueError, "expected a batch of images, but got 2 dimensions"),
    "channels": ((array(1, 3, 8, 8),), {}, RuntimeError, "channels"),
    "sizes": ((array(1, 1, 4, 4),), {}, RuntimeError, "mat1 and mat2 shapes cannot be multiplied"),
}  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> Any:
    return stepwell.load(DIGITS)


@pytest.mark.parametrize("name", WRONG_FOR_DIGITS)
def test_a_wrong_call_of_an_archive(digits: Any, name: str) -> None:
    arguments, keywords, error, text = WRONG_FOR_DIGITS[name]
    with pytest.raises(error) as caught:
        digits(*arguments, **keywords)
    assert text in str(caught.value)
    place = str(caught.value) if error is ArgumentError else " ".join(caught.value.__notes__)
    assert "code/__torch__" in place


@pytest.mark.parametrize("change", ["reversed", "transposed", "fortran", "big-endian", "read-only", "strided"])
def test_an_archive_takes_arrays_of_every_kind(digits: Any, change: str) -> None:
    images = np.load(ROOT / "examples" / "digits" / "images.npy")[:4].astype(np.float32)
    expected = digits(images)
    wide = np.zeros((4, 1, 8, 16), np.float32)
    wide[..., ::2] = images
    frozen = images.copy()
    frozen.flags.writeable = False
    changed = {
        "reversed": np.ascontiguousarray(images[:, :, ::-1, ::-1])[:, :, ::-1, ::-1],
        "transposed": np.ascontiguousarray(images.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0),
        "fortran": np.asfortranarray(images),
        "big-endian": images.astype(">f4"),
        "read-only": frozen,
        "strided": wide[..., ::2],
    }[change]
    np.testing.assert_array_equal(digits(changed), expected)
