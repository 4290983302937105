"""The references against torch itself, and the schemas against those that torch registers."""

import warnings

import numpy as np
import pytest

from stepwell.dialects import dtypes
from stepwell.dialects.torch.declare import OPS
from stepwell.dialects.torch.schema import parse_schema

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.oracle

UNDEFINED = ("aten::empty.memory_format", "aten::new_empty", "aten::empty_like")
"""What torch leaves open."""

PYTHONS = {"aten::zfill"}
"""Where Python's own answer is kept: torch's zfill puts zeros before a sign."""

WITHOUT_SCHEMA = {"prim::isinstance"}
"""What torch's IR has as a node with attributes."""

REFUSED = "Expected a value of type|toIValue|No such operator|has no attribute 'default'|got t$|expected int$"
"""Why torch.ops cannot be asked: its bindings do not take generic lists, or want another kind of Scalar."""


def inplace_variants():
    for declaration in list(OPS):
        if declaration.inplace:
            name = f"{declaration.schema.namespace}::{declaration.schema.name}_"
            yield from (d for d in OPS.overloads(name) if d.functional is declaration)


def test_schemas_are_torchs():
    known = {str(s).partition("(")[0]: s for s in torch._C._jit_get_all_schemas()}
    wrong = []
    for declaration in [*OPS, *inplace_variants()]:
        ours = declaration.schema
        if ours.qualified_name in WITHOUT_SCHEMA or ours.namespace == "stepwell":
            continue
        if ours.qualified_name not in known:
            wrong.append(f"{ours}: torch has no such overload")
            continue
        theirs = parse_schema(str(known[ours.qualified_name]))
        if signature(ours) != signature(theirs):
            wrong.append(f"{ours}\n  torch: {theirs}")
    assert not wrong, "\n".join(wrong)


def signature(schema):
    formals = [(a.name, str(a.type), a.type.alias, a.default, a.keyword_only) for a in schema.arguments]
    return formals, [(str(r), r.alias) for r in schema.returns]


def test_references_agree_with_torch(family, tools):
    for declaration in family:
        name = declaration.schema.qualified_name
        if declaration.schema.namespace not in ("aten", "prim", "prims") or name in PYTHONS | WITHOUT_SCHEMA:
            continue
        for arguments in tools.samples_of(declaration):
            try:
                expected = tools.flat(from_torch(call(declaration.schema, arguments)))
            except (RuntimeError, AttributeError) as error:
                import re

                if re.search(REFUSED, str(error).splitlines()[0]):
                    continue
                raise
            got = tools.flat(tools.evaluate(declaration, arguments))
            assert len(got) == len(expected), name
            for g, e in zip(got, expected, strict=True):
                compare(name, g, e, max(declaration.tolerance, 2e-6), tools)


def call(schema, arguments):
    function = getattr(getattr(getattr(torch.ops, schema.namespace), schema.name), schema.overload or "default")
    positional, keywords = [], {}
    for value, formal in zip(arguments, schema.arguments, strict=True):
        if formal.keyword_only:
            keywords[formal.name] = to_torch(value, formal.type)
        else:
            positional.append(to_torch(value, formal.type))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*positional, **keywords)


def to_torch(value, formal):
    if isinstance(value, np.ndarray):
        if value.dtype == dtypes.bfloat16.numpy:
            return torch.from_numpy(value.astype(np.float32)).bfloat16()
        return torch.from_numpy(value.copy()) if value.ndim else torch.tensor(value[()])
    if isinstance(value, dtypes.DType):
        return getattr(torch, value.name)
    if isinstance(value, list):
        return [to_torch(v, formal) for v in value]
    if formal.base == "Device" and isinstance(value, str):
        return torch.device(value)
    return torch.contiguous_format if formal.base == "MemoryFormat" and value == 0 else value


def from_torch(value):
    if isinstance(value, torch.Tensor):
        value = value.detach()
        return value.float().numpy().astype(dtypes.bfloat16.numpy) if value.dtype == torch.bfloat16 else value.numpy()
    return [from_torch(v) for v in value] if isinstance(value, (list, tuple)) else value


def compare(name, got, expected, tolerance, tools):
    if isinstance(got, dtypes.DType):
        assert expected in (got.code, getattr(torch, got.name)), name
    elif isinstance(expected, np.ndarray):
        assert got.dtype == expected.dtype, f"{name}: {got.dtype}, torch {expected.dtype}"
        tools.assert_same(got, got if name in UNDEFINED else expected, tolerance, name)
        assert got.shape == expected.shape, name
    elif isinstance(expected, (int, float)):
        assert type(got) is type(expected), f"{name}: {got!r}, torch {expected!r}"
        tools.assert_same(got, expected, tolerance, name)
    else:
        assert got == expected or str(got) == str(expected), f"{name}: {got!r}, torch {expected!r}"
