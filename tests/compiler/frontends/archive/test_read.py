"""Reading whole archives: values, sharing, types, mapping, extra files, and what errors say."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from stepwell.compiler.frontends.archive import (
    DeviceData,
    DictData,
    EnumData,
    Limits,
    ListData,
    ScriptObjectData,
    TensorData,
    read,
)
from stepwell.compiler.frontends.archive.check import Checker
from stepwell.compiler.frontends.archive.code import CodeIndex
from stepwell.compiler.frontends.parser import parse_type
from stepwell.dialects.diagnostics import ArchiveError, UnsupportedError


def test_a_small_archive(writer: ModuleType) -> None:
    found = read(writer.archive())
    assert (found.name, found.version, found.root.qualified_name) == ("net", 10, "__torch__.Net")
    assert list(found.root.attributes) == ["w", "lst", "training"]
    weight = found.root.attributes["w"]
    assert isinstance(weight, TensorData)
    assert (weight.dtype, weight.sizes, weight.strides, weight.requires_grad) == ("float32", (2, 3), (3, 1), True)
    np.testing.assert_array_equal(weight.array, writer.WEIGHTS)
    assert not weight.array.flags.writeable
    assert found.root.attributes["lst"] == [1, 2] and str(found.root.attributes["lst"].type) == "List[int]"
    assert len(found.constants) == 1 and found.constants[0].array == np.float32(7)
    assert not found.root.has_state and found.traced_inputs is None and found.extra_files == {}


def test_every_kind_of_value(writer: ModuleType) -> None:
    values = {
        "i": (-(2**63), "int"), "f": (1e300, "float"), "b": (True, "bool"), "s": ("né\n", "str"), "n": (None,
        "NoneType"),
        "c": (1 - 2j, "complex"), "o": (None, "Optional[int]"), "oo": (3, "Optional[int]"), "u": ("x",
        "Union[int, str]"),
        "t": ((1, ("a", 2.5)), "Tuple[int, Tuple[str, float]]"), "e": ((), "Tuple[()]"),
        "d": (writer.call("torch", "device", "cuda:1"), "Device"),
        "l": (writer.typed_list("double", [1.5]), "List[float]"), "bl": (writer.typed_list("bool", [True]),
        "List[bool]"),
        "ls": (writer.tagged(["a"], "List[str]"), "List[str]"), "untagged": ([1, 2], "List[int]"),
        "nested": ([[1], []], "List[List[int]]"), "m": (writer.tagged({"k": 1}, "Dict[str, int]"), "Dict[str, int]"),
        "mi": ({1: [2.0]}, "Dict[int, List[float]]"), "any": ([(1, "x")], "Any"),
        "en": (writer.enum("__torch__.E", "b"), "__torch__.E"), "ob": (writer.obj("__torch__.C", {"v": 3}),
        "__torch__.C"),
        "nt": ((1, "y"), "__torch__.N"), "long": (2**40, "int"), "small": (-5, "int"), "w": (40_000, "int"),
    }  # fmt: skip
    more = 'class E(Enum):\n  A = "a"\n  B = "b"\nclass C:\n  v : int\nclass N(NamedTuple):\n  x : int\n  y : str\n'
    declared = "\n".join(f"{name} : {type}" for name, (_, type) in values.items())
    found = read(writer.module({name: value for name, (value, _) in values.items()}, declared, more)).root.attributes
    plain = {name: value for name, (value, _) in values.items() if not isinstance(value, bytes | list | dict)}
    assert {name: found[name] for name in plain} == plain
    assert found["d"] == DeviceData("cuda:1")
    assert found["en"] == EnumData("__torch__.E", "b", "B")
    assert isinstance(found["ob"], ScriptObjectData) and found["ob"].attributes == {"v": 3}
    assert isinstance(found["l"], ListData) and found["l"] == [1.5]
    assert isinstance(found["m"], DictData) and found["m"] == {"k": 1}
    types = {name: str(found[name].type) for name in ("l", "bl", "ls", "untagged", "nested", "m", "mi")}
    assert types == {name: values[name][1] for name in types}
    assert str(found["nested"][0].type) == "List[int]" and str(found["mi"][1].type) == "List[float]"
    assert found["any"].type is None


def test_declared_types_win_over_tags(writer: ModuleType) -> None:
    more = "class N(NamedTuple):\n  x : int\n  y : str\n"
    tags = ("Dict[str, Tuple[int, str]]", "Dict[str, __torch__.N]", "Dict[str, Tuple[Any]]")
    for tag in tags:
        value = writer.tagged({"k": (1, "y")}, tag)
        found = read(writer.module({"a": value}, "a : Dict[str, __torch__.N]", more)).root.attributes["a"]
        assert str(found.type) == "Dict[str, __torch__.N]"
    with pytest.raises(ArchiveError, match="has 2 elements"):
        read(writer.module({"a": writer.tagged({"k": (1, "y")}, tags[2])}, "a : Any", more))


def test_names_that_are_no_identifiers(writer: ModuleType) -> None:
    found = read(
        writer.module(
            {"0": 1, "a b": 2}, '__annotations__ = []\n__annotations__["0"] = int\n__annotations__["a b"] = int'
        )
    )
    assert found.root.attributes == {"0": 1, "a b": 2}


def test_sharing_is_kept(writer: ModuleType) -> None:
    w = writer
    storage = w.Raw(w.storage("0", "FloatStorage", 6) + b"q\1")
    hooks = w.Raw(w.glob("collections", "OrderedDict") + b")R")
    build = lambda *a: w.call("torch._utils", "_rebuild_tensor_v2", *a, False, hooks)  # noqa: E731
    state = {
        "a": w.Raw(build(storage, 0, (2, 3), (3, 1)) + b"q\2"),
        "tied": w.Raw(b"h\2"),
        "view": build(w.Raw(b"h\1"), 1, (2,), (3,)),
        "again": w.tensor("0", "FloatStorage", 6, 0, (3, 2), (1, 3)),
        "expanded": build(w.Raw(b"h\1"), 2, (4, 2), (0, 1)),
        "empty": build(w.Raw(b"h\1"), 6, (0, 5), (5, 1)),
        "list": w.Raw(w.typed_list("int", [1]) + b"q\3"),
        "same": w.Raw(b"h\3"),
    }
    kinds = {"list": "List[int]", "same": "List[int]"}
    found = read(w.module(state, "\n".join(f"{n} : {kinds.get(n, 'Tensor')}" for n in state))).root.attributes
    assert found["tied"] is found["a"] and found["same"] is found["list"]
    assert found["view"].storage is found["a"].storage is found["again"].storage
    assert np.shares_memory(found["view"].array, found["a"].array)
    np.testing.assert_array_equal(found["view"].array, [1, 4])
    np.testing.assert_array_equal(found["again"].array, w.WEIGHTS.T)
    np.testing.assert_array_equal(found["expanded"].array, [[2, 3]] * 4)
    assert found["empty"].array.shape == (0, 5)


@pytest.mark.parametrize("name", ["uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64",
                                  "complex64", "complex128", "bool", "bfloat16"])  # fmt: skip
@pytest.mark.parametrize("order", ["little", "big"])
def test_dtypes_and_byte_orders(writer: ModuleType, name: str, order: str) -> None:
    import ml_dtypes

    dtype = np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)
    expected = np.array([0, 1, 1, 0, 1], dtype) if name == "bool" else np.arange(5).astype(dtype)
    raw = expected if order == sys.byteorder else expected.byteswap()
    tensor = writer.tensor("9", writer.STORAGE_OF[name], 5, 0, (5,), (1,))
    records = {"data__9": raw.tobytes(), "byteorder": order.encode()}
    if order == "big":
        records |= {"constants.pkl": writer.pickle(()), "data/0": b""}
    found = read(writer.module({"a": tensor}, "a : Tensor", **records)).root.attributes["a"]
    assert found.dtype == name and found.array.dtype == dtype
    np.testing.assert_array_equal(found.array, expected)


def test_bool_bytes_become_bools(writer: ModuleType) -> None:
    tensor = writer.tensor("9", "BoolStorage", 3, 0, (3,), (1,))
    found = read(writer.module({"a": tensor}, "a : Tensor", data__9=b"\0\2\xff")).root.attributes["a"]
    assert found.array.view(np.uint8).tolist() == [0, 1, 1]


def test_lazily_conjugated_tensors(writer: ModuleType) -> None:
    hooks = writer.Raw(writer.glob("collections", "OrderedDict") + b")R")
    bits = writer.tagged({"conj": True, "neg": True}, "Dict[str, bool]")
    storage = writer.storage("9", "ComplexFloatStorage", 2)
    tensor = writer.call("torch._utils", "_rebuild_tensor_v2", storage, 0, (2,), (1,), False, hooks, bits)
    data = np.array([1 + 2j, 3j], np.complex64)
    found = read(writer.module({"a": tensor}, "a : Tensor", data__9=data.tobytes())).root.attributes["a"]
    np.testing.assert_array_equal(found.array, -data.conj())


def test_setstate_keeps_the_state(writer: ModuleType) -> None:
    methods = (
        "  def __getstate__(self: __torch__.M) -> Tuple[int, List[str]]:\n    return (1, [])\n"
        "  def __setstate__(self: __torch__.M, state: Tuple[int, List[str]]) -> NoneType:\n    return None\n"
    )
    records = writer.net_records()
    code = "class M(Module):\n  a : int\n" + methods
    records |= {"data.pkl": writer.pickle(writer.obj("__torch__.M", (3, ["x"]))), "code/__torch__.py": code.encode()}
    root = read(writer.archive(records)).root
    assert root.has_state and root.state == (3, ["x"]) and root.attributes == {}
    assert root.state[1].type == parse_type("List[str]")
    bad = records | {"data.pkl": writer.pickle(writer.obj("__torch__.M", (3, [1])))}
    with pytest.raises(ArchiveError, match=r"__torch__.M: the attribute '\(state\)\[1\]\[0\]' .* is an int"):
        read(writer.archive(bad))


def test_messages_name_class_and_attribute(writer: ModuleType) -> None:
    cases: list[tuple[Any, str, str]] = [
        ("x", "int", "__torch__.M: the attribute 'a' is declared int, but it is a str"),
        ([1, "x"], "List[int]", r"the attribute 'a\[1\]' is declared List\[int\], but it is a str"),
        ({"k": [1.5]}, "Dict[str, List[int]]", r"'a\[0\]\[0\]'"),
        ((1,), "Tuple[int, int]", "has 1 elements"),
        (writer.tagged([], "List[float]"), "List[int]", r"but it has the type List\[float\]"),
        (1, "__torch__.Missing", r"no class '__torch__.Missing': the record 'code/__torch__.py' does not define it"),
        (1, "__torch__.gone.C", "the record 'code/__torch__/gone.py' is missing"),
    ]
    for value, declared, message in cases:
        with pytest.raises(ArchiveError, match=message):
            read(writer.module({"a": value}, f"a : {declared}"))
    with pytest.raises(UnsupportedError, match=r"self\.a\[1\] is a quantized tensor"):
        read(writer.module({"a": [1, writer.call("torch._utils", "_rebuild_qtensor", 1)]}, "a : Any"))
    with pytest.raises(UnsupportedError, match=r"self\.a\.v is an object of the C\+\+ class quantized.X"):
        inner = writer.obj("__torch__.torch.classes.quantized.X", {})
        read(writer.module({"a": writer.obj("__torch__.C", {"v": inner})}, "a : Any"))


def test_files_are_read_copied_and_mapped(writer: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(writer.archive())

    def weight(**options: Any) -> TensorData:
        found = read(path, **options).root.attributes["w"]
        assert isinstance(found, TensorData)
        np.testing.assert_array_equal(found.array, writer.WEIGHTS)
        assert found.array.__array_interface__["data"][0] % 4 == 0
        return found

    assert not weight().storage.mapped, "the file can be written to"
    assert weight(mmap=True).storage.mapped and not weight(mmap=False).storage.mapped
    path.chmod(stat.S_IRUSR)
    kept = weight()
    assert kept.storage.mapped, "nobody may write to the file"
    path.unlink()
    np.testing.assert_array_equal(kept.array, writer.WEIGHTS)
    path.write_bytes(writer.archive())
    with path.open("rb") as file:
        np.testing.assert_array_equal(read(file).root.attributes["w"].array, writer.WEIGHTS)
    np.testing.assert_array_equal(read(io.BytesIO(path.read_bytes())).root.attributes["w"].array, writer.WEIGHTS)
    assert read(str(path)).file == str(path)


def test_unaligned_records_are_copied(writer: ModuleType, tmp_path: Path) -> None:
    mapped = set()
    for length in range(4):
        path = tmp_path / f"{length}.pt"
        path.write_bytes(writer.archive(align=0, root="n" + "e" * length))
        storage = read(path, mmap=True).root.attributes["w"].storage
        assert storage.data is not None and storage.data.flags.aligned
        mapped.add(storage.mapped)
    assert mapped == {True, False}


def test_no_file_stays_open(writer: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(writer.archive())
    fds = Path("/proc/self/fd")
    if not fds.exists():
        pytest.skip("needs /proc")
    before = len(os.listdir(fds))
    kept = [read(path, mmap=False) for _ in range(3)]
    path.write_bytes(writer.archive()[:-3])
    with pytest.raises(ArchiveError):
        read(path)
    assert len(os.listdir(fds)) == before and kept


def test_checksums(writer: ModuleType) -> None:
    records = writer.net_records()
    broken = writer.ZipWriter(64)
    for name, data in records.items():
        broken.add(f"net/{name}", data, **({"crc": 1} if name == "data/0" else {}))
    data = broken.finish()
    with pytest.raises(ArchiveError, match="'data/0' is damaged: its checksum"):
        read(data)
    assert read(data, verify=False).root.attributes["w"].array[1, 2] == 5


def test_wrong_arguments(tmp_path: Path, writer: ModuleType) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing.pt")
    with pytest.raises(TypeError, match="not int"):
        read(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="binary mode"):
        read(io.StringIO("x"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="map_location"):
        read(writer.archive(), map_location=lambda storage, place: storage)


def test_map_location(writer: ModuleType) -> None:
    tensor = writer.tensor("0", "FloatStorage", 6, 0, (6,), (1,), device="cuda:0")
    data = writer.module({"a": tensor, "d": writer.call("torch", "device", "cuda:0")}, "a : Tensor\nd : Device")
    as_saved, moved = read(data).root.attributes, read(data, map_location="cpu").root.attributes
    assert (as_saved["a"].storage.device, as_saved["d"]) == ("cuda:0", DeviceData("cuda:0"))
    assert (moved["a"].storage.device, moved["d"]) == ("cpu", DeviceData("cpu"))


def test_extra_files_and_traced_inputs(writer: ModuleType) -> None:
    absent = writer.tensor("0", "FloatStorage", 2, 0, (1, 2), (2, 1))
    records = writer.net_records() | {
        "extra/info.txt": b"hello", "extra/deep/x": b"\xff",
        "traced_inputs.pkl": writer.pickle(writer.tagged({"forward": [absent, 3]}, "Dict[str, List[Any]]")),
        "traced_inputs/0": b"",
    }  # fmt: skip
    wanted: dict[str, Any] = {"info.txt": "", "other": "kept"}
    found = read(writer.archive(records), extra_files=wanted)
    assert wanted == {"info.txt": b"hello", "other": "kept"}
    assert found.extra_files == {"info.txt": b"hello", "deep/x": b"\xff"}
    assert found.traced_inputs is not None
    tensor, number = found.traced_inputs["forward"]
    assert (tensor.sizes, tensor.dtype, number) == ((1, 2), "float32", 3)
    with pytest.raises(ArchiveError, match="does not hold the data"):
        _ = tensor.array


def test_strings_are_bytes_at_heart(writer: ModuleType) -> None:
    found = read(writer.module({"a": writer.text(b"a\xff"), "b": "é"}, "a : str\nb : str")).root.attributes
    assert found["a"].encode("utf-8", "surrogateescape") == b"a\xff" and found["b"] == "é"


def test_limits_can_be_raised(writer: ModuleType) -> None:
    records = writer.net_records() | {"extra/zeros": bytes(80 << 20)}
    packed = writer.ZipWriter()
    for name, data in records.items():
        packed.add(f"net/{name}", data, deflate=name == "extra/zeros")
    with pytest.raises(ArchiveError, match="zip bomb"):
        read(packed.finish())
    assert len(read(packed.finish(), limits=Limits(inflation=2000)).extra_files["zeros"]) == 80 << 20


def test_one_value_checks_once_per_type(writer: ModuleType) -> None:
    checker = Checker(CodeIndex({}), Limits(check_steps=1000))
    value = ListData(range(100))
    nest: Any = value
    for _ in range(50):
        nest = (nest, nest)
    checker.check_all(nest)
    assert value.type is None


def test_loading_is_light() -> None:
    """The package loads neither xDSL nor LLVM nor torch, and bfloat16 only when it occurs."""
    program = "import sys, stepwell.compiler.frontends.archive as a; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"xdsl", "llvmlite", "torch", "ml_dtypes"} & set(loaded)
