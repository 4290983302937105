"""The models of the benches: networks of real sizes with random weights, and two archives that others wrote.

    python bench/models.py FOLDER [--tiny] [NAME ...]

writes a folder per model: model.pt (torch.jit.save), model.onnx, inputs.npz and case.json. It needs torch and onnx;
nothing that is measured runs in this process. Weights and inputs come from fixed seeds.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn

Array = np.ndarray[Any, Any]
Argument = Array | int
Arguments = tuple[Argument, ...]
REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Size:
    """What varies between the real models and the tiny ones that tests run."""

    width: int
    extent: int
    """Image side, sequence length or batch, as the model needs."""


@dataclass(frozen=True)
class Network:
    """A network made here. `make` gives the module, `inputs` what it is called with; `how` is script or trace."""

    make: Callable[[Size], nn.Module]
    inputs: Callable[[Size, np.random.Generator], Arguments]
    how: str
    full: Size
    tiny: Size


@dataclass(frozen=True)
class Case:
    """What peers are given of a model beside its archive."""

    onnx: str
    eager: bool = False
    """Whether `module_of` makes the eager module."""
    extra: dict[str, Any] = field(default_factory=dict)
    """How inputs of the ONNX graph differ from the archive's: {"before": n} puts n zeros in front of each row of an
    input, {"zeros": shape} is an input that the archive has not, and what it starts with."""
    feedback: dict[str, str] = field(default_factory=dict)
    """Outputs of the ONNX graph that are inputs of its next call."""


# ------ networks


def _mlp(size: Size) -> nn.Module:
    from torch import nn

    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [nn.Linear(size.width, size.width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(size.width, 10))


def _resnet18(size: Size) -> nn.Module:
    return _networks().ResNet18(size.width, 1000)


def _mobilenet(size: Size) -> nn.Module:
    """MobileNetV2; a width of 32 is the real one."""
    from torch import nn

    def wide(channels: int) -> int:
        return max(8, channels * size.width // 32 // 8 * 8)

    block = _networks().InvertedResidual
    inputs = wide(32)
    layers: list[nn.Module] = [nn.Conv2d(3, inputs, 3, 2, 1, bias=False), nn.BatchNorm2d(inputs), nn.ReLU6()]
    for expand, channels, count, stride in MOBILENET_BLOCKS:
        for i in range(count):
            layers.append(block(inputs, wide(channels), stride if i == 0 else 1, expand))
            inputs = wide(channels)
    last = wide(1280)
    layers += [nn.Conv2d(inputs, last, 1, bias=False), nn.BatchNorm2d(last), nn.ReLU6(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(last, 1000))


MOBILENET_BLOCKS = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
"""Expansion, channels, blocks, stride: the table of the MobileNetV2 paper."""


def _encoder(size: Size) -> nn.Module:
    from torch import nn

    layer = nn.TransformerEncoderLayer(size.width, 8, 4 * size.width, batch_first=True, activation="gelu")
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    for parameter in encoder.parameters():  # the layers are copies of one: give each its own weights
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    return encoder


def _lstm(size: Size) -> nn.Module:
    from torch import nn

    return nn.LSTM(size.width, size.width, num_layers=2, batch_first=True)


def _image(size: Size, random: np.random.Generator) -> Arguments:
    return (random.standard_normal((1, 3, size.extent, size.extent), dtype=np.float32),)


def _sequence(size: Size, random: np.random.Generator) -> Arguments:
    return (random.standard_normal((1, size.extent, size.width), dtype=np.float32),)


def _rows(size: Size, random: np.random.Generator) -> Arguments:
    return (random.standard_normal((size.extent, size.width), dtype=np.float32),)


NETWORKS = {
    "resnet18": Network(_resnet18, _image, "trace", Size(64, 224), Size(8, 32)),
    "mobilenetv2": Network(_mobilenet, _image, "trace", Size(32, 224), Size(8, 32)),
    "encoder": Network(_encoder, _sequence, "script", Size(512, 128), Size(32, 8)),
    "encoder_small": Network(_encoder, _sequence, "script", Size(64, 16), Size(16, 4)),
    "lstm": Network(_lstm, _sequence, "trace", Size(256, 100), Size(16, 4)),
    "mlp": Network(_mlp, _rows, "script", Size(1024, 1), Size(16, 1)),
    "mlp_b64": Network(_mlp, _rows, "script", Size(1024, 64), Size(16, 4)),
}
SILERO, DIGITS = "silero", "digits"
MODELS = (SILERO, *NETWORKS, DIGITS)
"""All models, in the order of reports."""


def _networks() -> Any:
    """The networks of the tests' archives."""
    spec = importlib.util.spec_from_file_location("networks", REPOSITORY / "tests/archives/networks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def module_of(name: str, tiny: bool) -> nn.Module:
    """The eager module of a network, in evaluation mode, the same weights whenever it is made."""
    import torch
    from torch import nn

    network = NETWORKS[name]
    torch.manual_seed(0)
    module = network.make(network.tiny if tiny else network.full).eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.8, 1.2)
    return module


# ------ what is written


def write(name: str, folder: Path, tiny: bool) -> None:
    """The files of one model."""
    folder.mkdir(parents=True, exist_ok=True)
    maker = {SILERO: _write_silero, DIGITS: _write_digits}.get(name)
    case, inputs = maker(folder) if maker is not None else _write_network(name, folder, tiny)
    np.savez(folder / "inputs.npz", *[np.asarray(x) for x in inputs])
    (folder / "case.json").write_text(json.dumps({"name": name, "tiny": tiny, **vars(case)}))


def _write_network(name: str, folder: Path, tiny: bool) -> tuple[Case, Arguments]:
    import torch

    network = NETWORKS[name]
    inputs = network.inputs(network.tiny if tiny else network.full, np.random.default_rng(0))
    tensors = tuple(torch.as_tensor(x) for x in inputs)
    module = module_of(name, tiny)
    made = torch.jit.script(module) if network.how == "script" else torch.jit.trace(module, tensors)
    made.save(str(folder / "model.pt"))
    _export(module, tensors, folder / "model.onnx")
    return Case("model.onnx", eager=True), inputs


def _export(module: Any, tensors: Sequence[Any], path: Path) -> None:
    """torch's exporter that needs nothing but the onnx package."""
    import torch

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        # The fused encoder layer has no ONNX form; the decomposed one is what users export.
        torch.backends.mha.set_fastpath_enabled(False)
        torch.onnx.export(module, tuple(tensors), str(path), dynamo=False, opset_version=17)
        torch.backends.mha.set_fastpath_enabled(True)


def _write_digits(folder: Path) -> tuple[Case, Arguments]:
    import torch

    source = REPOSITORY / "examples/digits"
    shutil.copyfile(source / "digits.pt", folder / "model.pt")
    images = np.load(source / "images.npy")[:1]
    module = torch.jit.load(str(folder / "model.pt"))
    traced = torch.jit.trace(module, torch.from_numpy(images))
    _export(traced, (torch.from_numpy(images),), folder / "model.onnx")
    return Case("model.onnx"), (images,)


def _write_silero(folder: Path) -> tuple[Case, Arguments]:
    """The archive of the package silero-vad, as it is; a chunk of 32 ms at 16 kHz."""
    found = importlib.util.find_spec("silero_vad")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("silero-vad is not installed (pip install --no-deps silero-vad==6.2.3)")
    data = Path(found.submodule_search_locations[0]) / "data"
    shutil.copyfile(data / "silero_vad.jit", folder / "model.pt")
    shutil.copyfile(data / "silero_vad.onnx", folder / "model.onnx")
    chunk = 0.1 * np.random.default_rng(0).standard_normal((1, 512), dtype=np.float32)
    # The ONNX graph leaves the 64 samples before the chunk, which are zero at first, to its caller.
    extra = {"input": {"before": 64}, "state": {"zeros": [2, 1, 128]}}
    return Case("model.onnx", extra=extra, feedback={"stateN": "state"}), (chunk, 16000)


def read_inputs(folder: Path) -> list[Argument]:
    """The arguments of a model's call."""
    with np.load(folder / "inputs.npz") as stored:
        arrays = [stored[key] for key in stored.files]
    return [array.item() if array.ndim == 0 else array for array in arrays]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=list(MODELS), metavar="NAME", help=", ".join(MODELS))
    parser.add_argument("--tiny", action="store_true", help="sizes for tests of the benches")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in given.names:
        write(name, given.folder / name, given.tiny)


if __name__ == "__main__":
    main()
