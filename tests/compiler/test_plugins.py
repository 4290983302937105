"""An op in a package of its own: found by its entry point, from script and archives down to native code."""

from __future__ import annotations

import importlib.util
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = ROOT / "examples" / "plugins"


@pytest.fixture
def clipping(site: Any) -> Any:
    """The example's package, installed."""
    project = tomllib.loads((PLUGINS / "pyproject.toml").read_text())["project"]
    ((entry, module),) = project["entry-points"]["stepwell.dialects"].items()
    shutil.copytree(PLUGINS / "src" / "clipping", site.place / "clipping")
    site.install(project["name"], project["version"], entry, module)
    return site


def test_the_example_runs(clipping: Any) -> None:
    printed = clipping.python(str(PLUGINS / "example.py"))
    assert 'torch.operator "torch.mylib.clip_norm"' in printed and "linalg.generic" in printed


SAMPLES = """
import numpy as np
import stepwell
from stepwell.compiler.program import Program
from stepwell.dialects.torch import OPS

def clip(x: stepwell.Tensor, most: float) -> stepwell.Tensor:
    return stepwell.ops.mylib.clip_norm(x, most)

def sign(x: stepwell.Tensor) -> stepwell.Tensor:
    return stepwell.ops.mylib.soft_sign(x)

count = 0
for name, function in (("mylib::clip_norm", clip), ("mylib::soft_sign", sign)):
    declaration = OPS.find(name)
    for sample in declaration.samples():
        arguments = declaration.bind(sample.arguments, sample.keywords)
        scripted = stepwell.script(function)
        np.testing.assert_allclose(scripted(*arguments), declaration.reference(*arguments), rtol=1e-5, atol=1e-6)
        assert scripted.statistics.interpreted_calls == 0
        for level in ("raw", "torch", "linalg", "tile", "loops", "llvm"):
            text = scripted.stage(level)
            assert Program.from_text(text).text() == text, level
        assert f'torch.operator "torch.{name.replace("::", ".")}"' in scripted.stage("raw")
        count += 1
print(count, "samples")
"""


def test_its_samples_run_natively_and_read_back_at_every_level(clipping: Any) -> None:
    (clipping.place / "samples.py").write_text(SAMPLES)
    assert "5 samples" in clipping.python(str(clipping.place / "samples.py"))


def archive_writer() -> Any:
    place = Path(__file__).parent / "frontends" / "archive" / "writer.py"
    spec = importlib.util.spec_from_file_location("plugin_tests_writer", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_archives_call_it(clipping: Any) -> None:
    """torch writes `ops.mylib.clip_norm` for an op of a library."""
    writer = archive_writer()
    forward = "  def forward(self: __torch__.M, x: Tensor) -> Tensor:\n    return ops.mylib.clip_norm(x, 1.)\n"
    (clipping.place / "model.pt").write_bytes(writer.module({"a": 1}, "a : int", forward))
    command = ("-m", "stepwell.compiler.cli")
    options = (str(clipping.place / "model.pt"), "--input", "float32[3,5]")
    assert "float32[3, 5]" in clipping.python(*command, "run", *options)
    assert 'torch.operator "torch.mylib.clip_norm"' in clipping.python(*command, "compile", "--emit=raw", *options)
    without = clipping.python(*command, "run", *options, code=1, STEPWELL_PLUGINS="0")
    assert "mylib::clip_norm" in without and "Traceback" not in without


def test_it_is_listed_and_explained(clipping: Any) -> None:
    listed = clipping.python("-m", "stepwell.compiler.cli", "ops")
    assert "| `mylib::clip_norm` | default | composite |  | yes |" in listed
    assert "| `mylib::soft_sign` | default | core |  | yes |" in listed
    explained = clipping.python("-m", "stepwell.compiler.cli", "explain", "mylib::clip_norm")
    assert "clipping" in explained and "ops.py" in explained and "aten::clamp_min" in explained


def test_nothing_is_imported_before_it_is_needed(clipping: Any) -> None:
    """Neither `import stepwell` nor a start from the cache imports a plug-in; its state is in the cache's key."""
    program = (
        "import sys, numpy, stepwell\n"
        "assert 'clipping' not in sys.modules\n"
        f"m = stepwell.load({str(ROOT / 'tests' / 'archives' / 'mlp.pt')!r})\n"
        "m(numpy.zeros((2, 16), numpy.float32))\n"
        "s = m.method('forward').statistics\n"
        "print(s.cache_hits, s.compilations, 'clipping.ops' in sys.modules)\n"
    )
    assert clipping.python("-c", program) == "0 1 True\n"
    assert clipping.python("-c", program) == "1 0 False\n"
    source = clipping.place / "clipping" / "ops.py"
    source.write_text(source.read_text() + "\n# another version\n")
    assert clipping.python("-c", program) == "0 1 True\n"


OWN_OP = """
import sys, numpy as np, stepwell
from stepwell.dialects.torch.declare import TensorInfo, op

@op("mylib::clip_norm(Tensor x, float max_norm) -> Tensor")
class Scaled:
    @staticmethod
    def infer(x, max_norm): return x
    @staticmethod
    def reference(x, max_norm): return x * FACTOR
    @staticmethod
    def expand(b, x, max_norm): return b.mul(x, FACTOR)

model = stepwell.load(sys.argv[1])
print(model(np.ones(2, np.float32)).tolist(), model.method("forward").statistics.cache_hits)
"""


def test_an_op_of_the_program_itself_is_not_met_by_old_code(site: Any) -> None:
    writer = archive_writer()
    forward = "  def forward(self: __torch__.M, x: Tensor) -> Tensor:\n    return ops.mylib.clip_norm(x, 1.)\n"
    (site.place / "model.pt").write_bytes(writer.module({"a": 1}, "a : int", forward))
    for factor in (2, 3):
        (site.place / "own.py").write_text(OWN_OP.replace("FACTOR", str(factor)))
        printed = site.python(str(site.place / "own.py"), str(site.place / "model.pt"))
        assert printed == f"[{factor}.0, {factor}.0] 0\n"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import missing_module", "ModuleNotFoundError: No module named 'missing_module'"),
        ("from stepwell.dialects.torch.declare import op\n@op('mylib::f(Tensor x -> Tensor')\nclass F: ...", "SchemaError"),
        (
            "from stepwell.dialects.torch.declare import declare\n"
            "declare('mylib::f(Tensor x) -> Tensor', infer=lambda x: x, reference=lambda x: x)\n"
            "declare('aten::relu(Tensor self) -> Tensor', infer=lambda x: x, reference=lambda x: x)\n",
            "aten::relu is declared twice: in stepwell.dialects.torch.ops.",
        ),
    ],
    ids=["does-not-import", "no-schema", "declared-twice"],
)  # fmt: skip
def test_a_broken_plug_in_is_named(site: Any, source: str, reason: str) -> None:
    """What fails, whose it is, and what to do; the next try says the same."""
    (site.place / "broken_ops.py").write_text(source)
    site.install("broken-ops", "2.1", "broken", "broken_ops")
    program = (
        "from stepwell.dialects.plugins import PluginError\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        import stepwell.dialects.torch\n"
        "    except PluginError as problem:\n"
        "        print(problem)\n"
    )
    printed = site.python("-c", program)
    assert printed.count("the plug-in broken of the package broken-ops 2.1 cannot be used: ") == 2
    assert printed.count(reason) == 2 and printed.count("STEPWELL_PLUGINS=0") == 2
    shown = site.python("-m", "stepwell.compiler.cli", "ops", code=1)
    assert "broken-ops 2.1" in shown and "Traceback" not in shown
    assert "aten::relu" in site.python("-m", "stepwell.compiler.cli", "ops", STEPWELL_PLUGINS="0")
