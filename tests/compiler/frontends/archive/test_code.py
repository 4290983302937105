"""The program of an archive: names to definitions, class members, locations, upgraders."""

from __future__ import annotations

import ast
from types import ModuleType

import pytest

from stepwell.compiler.frontends.archive import ClassRecord, CodeIndex, FunctionRecord, upgrade
from stepwell.compiler.frontends.archive.upgraders import UPGRADERS, definition, old_schemas
from stepwell.dialects.diagnostics import ArchiveError

A = """class Net(Module):
  __parameters__ = ["w", "b", ]
  __buffers__ = ["r", ]
  __forward_pre_hooks__ = ["pre", ]
  __forward_hooks__ = ["hook", ]
  w : Tensor
  b : Tensor
  r : Tensor
  __annotations__["0"] = __torch__.a.___torch_mangle_3.C
  size : Final[int] = 3
  names : Final[List[str]] = ["x"]
  def forward(self: __torch__.a.Net,
    x: Tensor) -> Tensor:
    return torch.add(x, self.w)
  def __size_getter(self: __torch__.a.Net) -> int:
    return 3
  def __size_setter(self: __torch__.a.Net, v: int) -> NoneType:
    return None
class Color(Enum):
  RED = 1
  LOW = -2
class Name(Enum):
  A = "a"
class P(NamedTuple):
  x : Tensor
  n : int = 3
class I(Interface):
  def get(self) -> int:
    pass
class Plain:
  v : int
def helper(x: Tensor) -> Tensor:
  return x
"""
C = "class C(ModuleInterface):\n  def forward(self, x: Tensor) -> Tensor:\n    pass\n"
SOURCES = {"code/__torch__/a.py": A.encode(), "code/__torch__/a/___torch_mangle_3.py": C.encode()}


def test_members_of_a_module() -> None:
    net = CodeIndex(SOURCES).class_named("__torch__.a.Net")
    assert (net.kind, net.name, net.parameters, net.buffers) == ("module", "Net", ("w", "b"), ("r",))
    assert (net.forward_hooks, net.forward_pre_hooks) == (("hook",), ("pre",))
    assert {n: str(t) for n, t in net.attributes.items()} == {
        "w": "Tensor", "b": "Tensor", "r": "Tensor", "0": "__torch__.a.___torch_mangle_3.C",
    }  # fmt: skip
    assert str(net.constants["size"].type) == "int" and ast.unparse(net.constants["names"].value) == "['x']"
    forward = net.methods["forward"]
    assert forward.qualified_name == "__torch__.a.Net.forward" and forward.node.args.args[1].arg == "x"
    assert set(net.properties["size"]) == {"getter", "setter"} and not net.has_setstate
    place = forward.location
    assert (place.file, place.line, place.text()) == ("code/__torch__/a.py", 12, "  def forward(self: __torch__.a.Net,")


def test_other_kinds() -> None:
    code = CodeIndex(SOURCES)
    assert code.class_named("__torch__.a.Color").members == {"RED": 1, "LOW": -2}
    assert code.class_named("__torch__.a.Name").members == {"A": "a"}
    point = code.class_named("__torch__.a.P")
    assert point.kind == "namedtuple" and list(point.attributes) == ["x", "n"] and list(point.defaults) == ["n"]
    assert code.class_named("__torch__.a.I").kind == "interface"
    assert code.class_named("__torch__.a.Plain").kind == "class"
    assert code.class_named("__torch__.a.___torch_mangle_3.C").kind == "module_interface"
    assert isinstance(code.function_named("__torch__.a.helper"), FunctionRecord)


def test_names() -> None:
    code = CodeIndex(SOURCES)
    assert code.find("__torch__.a.Net") is code.find("__torch__.a.Net")
    assert code.find("__torch__.a.Nothing") is None and code.find("Net") is None and code.find("") is None
    found = code.resolve(("__torch__", "a", "Color", "RED"))
    assert found is not None and isinstance(found[0], ClassRecord) and found[1] == ("RED",)
    found = code.resolve(("__torch__", "a", "___torch_mangle_3", "C", "__new__"))
    assert found is not None and found[0].qualified_name.endswith("C") and found[1] == ("__new__",)
    assert code.resolve(("__torch__", "b")) is None
    assert sorted(code.names())[:2] == ["__torch__.a.Color", "__torch__.a.I"]
    with pytest.raises(ArchiveError, match=r"'__torch__.a.helper' is no class"):
        code.class_named("__torch__.a.helper")
    with pytest.raises(
        ArchiveError, match=r"no function '__torch__.a.b.f': the record 'code/__torch__/a/b.py' is missing"
    ):
        code.function_named("__torch__.a.b.f")


def test_damage_in_one_class_leaves_the_others() -> None:
    code = CodeIndex({"code/__torch__.py": b"class A:\n  v : int\nclass B:\n  v = = 3\n"})
    assert list(code.class_named("__torch__.A").attributes) == ["v"]
    with pytest.raises(ArchiveError, match=r"code/__torch__.py:4:7: expected an expression"):
        code.class_named("__torch__.B")


def test_locations_in_the_models_own_source(writer: ModuleType) -> None:
    text = "def f(x: Tensor) -> Tensor:\n  y = torch.add(x, 1)\n  return y\n"
    table = ("def f(x):\n", "    # é comment\n", "    return x + 1\n", "model.py")
    offset = text.index("torch.add")
    start = len("def f(x):\n    # é comment\n".encode()) + 11
    ranges = ((0, (((0, 1, 2), 3, 10), 0, 5), 0), (offset, (((0, 1, 2), 3, 10), start, start + 5), 1))
    debug = writer.pickle(("FORMAT_WITH_STRING_TABLE", table, ranges))
    old = writer.pickle(((0, (("def f(x):\n    return x + 1\n", "old.py", 7), 25, 30)),))
    for record, expected in (
        (debug, ("model.py", 12, 11, "    return x + 1")),
        (old, ("old.py", 8, 15, "    return x + 1")),
    ):
        file = CodeIndex({"code/__torch__.py": text.encode()}, {"code/__torch__.py": record})
        function = file.function_named("__torch__.f")
        statement = function.node.body[0]
        assert isinstance(statement, ast.Assign)
        place = function.file.location(statement.value)
        assert (place.file, place.line, place.column, place.text()) == expected
        assert function.file.archive_location(statement.value).line == 2
    nothing = CodeIndex({"code/__torch__.py": text.encode()}, {"code/__torch__.py": b"junk"})
    assert nothing.function_named("__torch__.f").location.file == "code/__torch__.py"


def test_upgraders() -> None:
    assert upgrade("aten::div", "Tensor", 3) == "div_Tensor_0_3"
    assert upgrade("aten::div", "Tensor", 4) is None and upgrade("aten::add", "Tensor", 1) is None
    assert upgrade("aten::gelu", "", 9) == "gelu_0_9" and upgrade("aten::gelu", "", 10) is None
    assert [u.overload for u in old_schemas("aten::linspace", 7)] == ["", "out"]
    assert old_schemas("aten::linspace", 8) == []
    for entry in UPGRADERS:
        assert definition(entry.name).name == entry.name and entry.old_schema.startswith(entry.op)
