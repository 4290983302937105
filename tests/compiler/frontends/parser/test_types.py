"""Type expressions: every spelling, printed back in the script's own."""

from __future__ import annotations

import pytest

from stepwell.compiler.frontends.parser import TypeExpr, parse_type
from stepwell.dialects.diagnostics import CompileError


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("int", "int"),
        ("Tensor", "Tensor"),
        ("torch.Tensor", "Tensor"),
        ("None", "NoneType"),
        ("NoneType", "NoneType"),
        ("List[int]", "List[int]"),
        ("list[int]", "List[int]"),
        ("typing.List[typing.Dict[str, torch.Tensor]]", "List[Dict[str, Tensor]]"),
        ("Dict[str, List[Tensor]]", "Dict[str, List[Tensor]]"),
        ("Optional[List[int]]", "Optional[List[int]]"),
        ("Union[int, str, NoneType]", "Union[int, str, NoneType]"),
        ("int | None", "Union[int, NoneType]"),
        ("int | str | List[int]", "Union[int, str, List[int]]"),
        ("Tuple[int, str]", "Tuple[int, str]"),
        ("Tuple[()]", "Tuple[()]"),
        ("Tuple[int, ...]", "Tuple[int, ...]"),
        ("Future[Tensor]", "Future[Tensor]"),
        ("Final[int]", "Final[int]"),
        ("__torch__.a.___torch_mangle_3.C", "__torch__.a.___torch_mangle_3.C"),
        ("'Tensor'", "Tensor"),
        ("Optional['List[int]']", "Optional[List[int]]"),
        ("torch.device", "Device"),
        ("number", "number"),
    ],
)
def test_spellings(text: str, printed: str) -> None:
    assert str(parse_type(text)) == printed


def test_they_are_values() -> None:
    one, two = parse_type("Dict[str, __torch__.C]"), parse_type("dict[str, __torch__.C]")
    assert one == two and hash(one) == hash(two)
    assert one == TypeExpr("Dict", (TypeExpr("str"), TypeExpr("__torch__.C")))
    assert [t.name for t in one.walk()] == ["Dict", "str", "__torch__.C"]
    assert one.args[1].is_class and not one.is_class


@pytest.mark.parametrize(
    "text",
    ["", "1", "f()", "List[int, int]", "Dict[int]", "List[]", "int +", "a < b", "List[1]", "[int]",
     "Optional[int, str]", "'('", "'1'"],
)  # fmt: skip
def test_no_types(text: str) -> None:
    with pytest.raises(CompileError):
        parse_type(text)


def test_depth_is_bounded() -> None:
    assert parse_type("List[" * 20 + "int" + "]" * 20).name == "List"
    with pytest.raises(CompileError, match="levels deep"):
        parse_type("List[" * 40 + "int" + "]" * 40)
