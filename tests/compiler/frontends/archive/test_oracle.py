"""Archives that torch itself wrote: the same values, types and programs that torch.jit.load sees.

Annotations are evaluated here (no `from __future__ import annotations`): torch.jit.script needs it for Final.
"""

import ast
import enum
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Final, List, NamedTuple, Optional, Tuple, Union  # noqa: UP035 - torch 2.13 reads these

import numpy as np
import pytest

from stepwell.compiler.frontends.archive import EnumData, ListData, ScriptObjectData, TensorData, read
from stepwell.compiler.frontends.archive.upgraders import SOURCE, UPGRADERS
from stepwell.compiler.frontends.parser import parse_module
from stepwell.dialects.diagnostics import ArchiveError, UnsupportedError

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.oracle


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Point(NamedTuple):
    x: torch.Tensor
    n: int = 3


class Accumulator:
    def __init__(self, v: int):
        self.v = v
        self.names: List[str] = ["a", "é"]  # noqa: UP006

    def add(self, k: int):
        self.v += k


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.jit.script(Accumulator)


class Inner(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


class Stateful(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(2))
        self.k = 3

    @torch.jit.export
    def __getstate__(self):
        return (self.w, self.k, self.training)

    @torch.jit.export
    def __setstate__(self, state: Tuple[torch.Tensor, int, bool]):  # noqa: UP006
        self.w = state[0]
        self.k = state[1]
        self.training = state[2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.w


class Everything(torch.nn.Module):
    K: Final[int]
    d: Dict[str, torch.Tensor]  # noqa: UP006
    o: Optional[int]  # noqa: UP045
    u: Union[int, str]  # noqa: UP007
    p: Point
    a: Any

    def __init__(self) -> None:
        super().__init__()
        self.K = 7
        self.d = {"a": torch.arange(3.0)}
        self.o = None
        self.u = "text"
        self.p = Point(torch.ones(1), 4)
        self.a = [1, 2]
        self.color = Color.BLUE
        self.ints, self.floats, self.texts = [1, -2], [1.5, float("inf")], ["x", "ü"]
        self.bools, self.tensors = [True, False], [torch.ones(1), torch.zeros(2)]
        self.pairs = torch.jit.annotate(List[Tuple[int, str]], [(1, "a")])  # noqa: UP006
        self.mixed = (1, "x", 2.5)
        self.imaginary = 1 + 2j
        self.device = torch.device("cpu")
        self.dtype = torch.float64
        self.layers = torch.nn.Sequential(Inner(), Inner())
        self.accumulator = Accumulator(3)
        self.stateful = Stateful()
        self.big = 2**40
        self.one, self.two = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        self.two.weight = self.one.weight
        self.register_buffer("transposed", torch.arange(6).reshape(2, 3).t())
        self.register_buffer("brain", torch.linspace(0, 1, 4, dtype=torch.bfloat16))
        self.register_buffer("expanded", torch.ones(1).expand(5))
        self.register_buffer("conjugated", torch.tensor([1 + 2j]).conj())
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("scalar", torch.tensor(3, dtype=torch.int16))
        self.register_buffer("part", torch.arange(10.0)[3:7])
        self.register_parameter("absent", None)

    def forward(self, x: torch.Tensor, n: int = 2, s: str = "é") -> Tuple[torch.Tensor, int]:  # noqa: UP006
        for i in range(1, n, 3):
            x = x + i * self.K
        if self.color == Color.RED:
            x = x - 1
        with torch.no_grad():
            x = self.layers(x) * torch.tensor([1.5, float("inf")])
        while n < 3:
            n += 1
        if n > 5:
            raise ValueError(f"bad {n}")
        self.accumulator.add(n)
        print("quote\n\"'\\", s)
        return self.stateful(x), self.accumulator.v - int(2**3)  # noqa: RUF046 - a float to torch


def saved(model: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(model, buffer, **options)
    return buffer.getvalue()


def same(found: Any, expected: Any) -> None:
    """One attribute of ours against what torch has."""
    if isinstance(expected, torch.Tensor):
        assert isinstance(found, TensorData)
        assert (found.sizes, found.requires_grad) == (tuple(expected.shape), expected.requires_grad)
        assert f"torch.{found.dtype}" == str(expected.dtype)
        theirs = expected.detach().resolve_conj()
        theirs = theirs.float().numpy() if found.dtype == "bfloat16" else theirs.numpy()
        np.testing.assert_array_equal(found.array.astype(theirs.dtype), theirs)
        if expected.numel() and not expected.is_conj():
            assert (found.offset, found.strides) == (expected.storage_offset(), tuple(expected.stride()))
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            same(ours, theirs)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        same(list(found.values()), list(expected.values()))
    elif isinstance(expected, torch.device):
        assert found.text == str(expected)
    else:
        assert found == expected and type(found) is type(expected)


def test_every_attribute() -> None:
    model = Everything()
    data = saved(torch.jit.script(model), _extra_files={"info.txt": "hello"})
    found, theirs = read(data), torch.jit.load(io.BytesIO(data))
    root = found.root.attributes
    for name in (
        "d",
        "o",
        "u",
        "p",
        "a",
        "ints",
        "floats",
        "texts",
        "bools",
        "tensors",
        "pairs",
        "mixed",
        "imaginary",
        "device",
        "big",
        "transposed",
        "brain",
        "expanded",
        "conjugated",
        "empty",
        "scalar",
        "part",
        "training",
    ):
        same(root[name], getattr(theirs, name))  # fmt: skip
    color = root["color"]
    assert isinstance(color, EnumData) and (color.name, color.value) == ("BLUE", 2)
    assert color.qualified_name.endswith(".Color")
    assert root["dtype"] == 7 and root["absent"] is None
    assert root["one"].attributes["weight"] is root["two"].attributes["weight"]
    assert root["accumulator"].attributes["v"] == 3 and root["accumulator"].attributes["names"] == ["a", "é"]
    assert root["stateful"].has_state and root["stateful"].state[1:] == (3, True)
    assert isinstance(root["pairs"], ListData) and str(root["pairs"].type) == "List[Tuple[int, str]]"
    assert found.extra_files == {"info.txt": b"hello"} and "é" in found.constants
    record = found.code.class_named(found.root.qualified_name)
    assert set(record.parameters) == {n for n, _ in model.named_parameters(recurse=False)} | {"absent"}
    assert set(record.buffers) == {n for n, _ in model.named_buffers(recurse=False)}


def test_all_code_is_what_python_reads() -> None:
    found = read(saved(torch.jit.script(Everything())))
    for file in found.code.files.values():
        theirs = ast.parse(file.source.data)
        for node in ast.walk(theirs):
            node.__dict__.pop("end_lineno", None)
            node.__dict__.pop("end_col_offset", None)
        ours = parse_module(file.source)
        assert ast.dump(ours, include_attributes=True) == ast.dump(theirs, include_attributes=True)
        for name in file.definitions:
            prefix = file.source.name.removeprefix("code/").removesuffix(".py").replace("/", ".")
            assert found.code.find(f"{prefix}.{name}") is not None


def test_locations_point_into_this_file() -> None:
    found = read(saved(torch.jit.script(Everything())))
    forward = found.code.class_named(found.root.qualified_name).methods["forward"]
    lines = Path(__file__).read_text().splitlines()
    places = [forward.file.location(node) for node in ast.walk(forward.node) if isinstance(node, ast.Call)]
    here = [place for place in places if place.file == __file__]
    assert len(here) > 20
    assert all((place.text() or "").strip() == lines[place.line - 1].strip() for place in here)


def test_hooks_and_mangled_names() -> None:
    def before(self, input: Tuple[torch.Tensor]) -> Tuple[torch.Tensor]:  # noqa: UP006
        return input

    layers = [torch.nn.Linear(2, n) for n in range(1, 4)]
    layers[0].register_forward_pre_hook(before)
    root = read(saved(torch.jit.script(torch.nn.ModuleList(layers)))).root
    names = [layer.qualified_name for layer in root.attributes.values() if isinstance(layer, ScriptObjectData)]
    assert len(set(names)) == 3 and any("___torch_mangle" in name for name in names)


@pytest.mark.parametrize("freeze", [False, True])
def test_traced_and_frozen(freeze: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.ReLU()).eval()
    traced = torch.jit.trace(model, torch.ones(1, 1, 4, 4))
    found = read(saved(torch.jit.freeze(traced) if freeze else traced))
    if freeze:
        assert any(isinstance(c, TensorData) and c.array.size for c in found.constants)
    else:
        assert found.traced_inputs is not None
        assert found.traced_inputs["forward"][0].sizes == (1, 1, 4, 4)
        same(found.root.attributes["0"].attributes["weight"], model[0].weight)


def test_torch_reads_the_handwritten_archive(writer: ModuleType) -> None:
    data = writer.archive()
    theirs = torch.jit.load(io.BytesIO(data))
    same(read(data).root.attributes["w"], theirs.w)
    assert theirs(torch.zeros(1, 3)).tolist() == [[6.0, 24.0]]
    found = read(saved(theirs))
    assert found.root.qualified_name == "__torch__.Net" and found.root.attributes["lst"] == [1, 2]


def test_big_vocabularies() -> None:
    class Vocabulary(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words: Dict[str, int] = {f"word{i}": i for i in range(20_000)}  # noqa: UP006

        def forward(self, w: str) -> int:
            return self.words[w]

    words = read(saved(torch.jit.script(Vocabulary()))).root.attributes["words"]
    assert len(words) == 20_000 and words["word777"] == 777


def test_what_is_no_archive(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 2)
    path = tmp_path / "file"
    for old in (False, True):
        torch.save(net.state_dict(), path, _use_new_zipfile_serialization=not old)
        with pytest.raises(ArchiveError, match=r"torch\.save"):
            read(path)
    torch.export.save(torch.export.export(net, (torch.ones(1, 2),)), tmp_path / "file.pt2")
    with pytest.raises(ArchiveError, match=r"torch\.export"):
        read(tmp_path / "file.pt2")
    with torch.package.PackageExporter(path) as exporter:
        exporter.save_pickle("net", "net.pkl", {"a": 1})
    with pytest.raises(ArchiveError, match=r"torch\.package"):
        read(path)


def test_quantized_modules_are_named() -> None:
    quantized = torch.jit.script(torch.ao.nn.quantized.Linear(2, 2))
    with pytest.raises(UnsupportedError, match=r"self\._packed_params\._packed_params is an object of the C\+\+ class"):
        read(saved(quantized))


def test_upgraders_are_those_of_torch() -> None:
    entries = torch._C._get_operator_version_map()
    theirs = {
        (name, e.bumped_at_version, e.upgrader_name, e.old_schema) for name, found in entries.items() for e in found
    }
    ours = {(u.op + "." * bool(u.overload) + u.overload, u.bumped_at, u.name, u.old_schema) for u in UPGRADERS}
    assert ours == theirs
    texts = torch._C._get_upgraders_entry_map()
    functions = {node.name: node for node in parse_module(SOURCE).body if isinstance(node, ast.FunctionDef)}
    assert set(functions) == set(texts)
    for name, text in texts.items():
        assert ast.dump(functions[name]) == ast.dump(ast.parse(text.strip()).body[0]), re.sub(r"\s+", " ", text)
