"""The models of the benches: networks of real sizes with random weights, and an archive that others wrote.

    python bench/models.py FOLDER [--tiny] [NAME ...]

writes a folder per model, see cases.py. It needs torch and onnx; nothing that is measured runs in this process, and
nothing is downloaded. Weights and inputs come from fixed seeds.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cases
import numpy as np

if TYPE_CHECKING:
    from torch import nn

Settings = dict[str, Any]
Inputs = Callable[[np.random.Generator, Settings], list[Any]]


@dataclass(frozen=True)
class Network:
    """A network made here: of which file and name, its settings, and what it is called with.

    `size` is for the inputs: an image's side, or how long a sequence is; `tiny` are settings and size for tests.
    """

    made_by: str
    inputs: Inputs
    settings: Settings
    size: Settings
    tiny: tuple[Settings, Settings]
    how: str = "trace"
    flops: Callable[[Settings], float] | None = field(default=None)
    """Where torch does not count them."""


def _image(random: np.random.Generator, size: Settings) -> list[Any]:
    return [random.standard_normal((size.get("batch", 1), 3, size["side"], size["side"]), dtype=np.float32)]


def _rows(random: np.random.Generator, size: Settings) -> list[Any]:
    return [random.standard_normal((size["rows"], size["width"]), dtype=np.float32)]


def _steps(random: np.random.Generator, size: Settings) -> list[Any]:
    return [random.standard_normal((size["steps"], 1, size["width"]), dtype=np.float32)]


def _mel(random: np.random.Generator, size: Settings) -> list[Any]:
    return [random.standard_normal((1, 80, size["frames"]), dtype=np.float32)]


def _tokens(random: np.random.Generator, size: Settings) -> list[Any]:
    return [random.integers(0, size["words"], (1, size["length"]))]


def _text(random: np.random.Generator, size: Settings) -> list[Any]:
    mask = np.ones((1, size["length"]), np.int64)
    mask[:, -(size["length"] // 8) :] = 0
    return [*_tokens(random, size), mask]


def _token_and_past(random: np.random.Generator, size: Settings) -> list[Any]:
    shape = (1, size["heads"], size["past"], size["head"])
    past = [random.standard_normal(shape, dtype=np.float32) for _ in range(2 * size["depth"])]
    return [random.integers(0, size["words"], (1, 1)), past]


def _lstm_flops(size: Settings) -> float:
    return 2.0 * size["steps"] * 2 * (4 * size["width"]) * (2 * size["width"])


WIDE, NARROW = {"width": 1024}, {"width": 16}
SMALL_BERT = {"width": 32, "depth": 2, "heads": 4, "words": 50}
SMALL_GPT = {"width": 32, "depth": 2, "heads": 4, "words": 50}
SMALL_IMAGE = {"side": 32}
NETWORKS = {
    "mlp": Network("small.mlp", _rows, WIDE, {**WIDE, "rows": 1}, (NARROW, {**NARROW, "rows": 1}), "script"),
    "mlp_b64": Network("small.mlp", _rows, WIDE, {**WIDE, "rows": 64}, (NARROW, {**NARROW, "rows": 4}), "script"),
    "resnet18": Network("residual.resnet", _image, {"deep": False, "blocks": (2, 2, 2, 2)}, {"side": 224},
                        ({"deep": False, "blocks": (1, 1, 1, 1), "width": 8}, SMALL_IMAGE)),
    "resnet50": Network("residual.resnet", _image, {"deep": True, "blocks": (3, 4, 6, 3)}, {"side": 224},
                        ({"deep": True, "blocks": (1, 1, 1, 1), "width": 8}, SMALL_IMAGE)),
    "mobilenetv2": Network("mobile.mobile", _image, {"efficient": False}, {"side": 224},
                           ({"efficient": False, "divisor": 4, "most": 3}, SMALL_IMAGE)),
    "efficientnet_b0": Network("mobile.mobile", _image, {"efficient": True}, {"side": 224},
                               ({"efficient": True, "divisor": 4, "most": 3}, SMALL_IMAGE)),
    "convnext_tiny": Network("convnext.convnext", _image, {}, {"side": 224},
                             ({"widths": (8, 16), "blocks": (1, 1)}, SMALL_IMAGE)),
    "unet": Network("unet.UNet", _image, {}, {"side": 256}, ({"features": 4}, SMALL_IMAGE)),
    "vit_small": Network("transformers.VisionTransformer", _image, {}, {"side": 224},
                         ({"width": 32, "depth": 2, "heads": 4, "side": 32}, SMALL_IMAGE)),
    "bert_base": Network("transformers.Bert", _text, {}, {"words": 30522, "length": 128},
                         (SMALL_BERT, {"words": 50, "length": 16})),
    "minilm": Network("transformers.Bert", _text, {"width": 384, "depth": 6, "sentences": True},
                      {"words": 30522, "length": 128},
                      ({**SMALL_BERT, "sentences": True}, {"words": 50, "length": 16})),
    "gpt2_prefill": Network("transformers.Prompt", _tokens, {}, {"words": 50257, "length": 64},
                            (SMALL_GPT, {"words": 50, "length": 8})),
    "gpt2_decode": Network("transformers.Gpt2", _token_and_past, {},
                           {"words": 50257, "past": 64, "depth": 12, "heads": 12, "head": 64},
                           (SMALL_GPT, {"words": 50, "past": 5, "depth": 2, "heads": 4, "head": 8})),
    "lstm": Network("small.lstm", _steps, {"width": 256}, {"width": 256, "steps": 100},
                    (NARROW, {**NARROW, "steps": 4}), flops=_lstm_flops),
    "lstm_cell": Network("recurrent.CellLoop", _steps, {"width": 256}, {"width": 256, "steps": 100},
                         (NARROW, {**NARROW, "steps": 4}), "script"),
    "whisper_encoder": Network("transformers.WhisperEncoder", _mel, {}, {"frames": 3000},
                               ({"width": 32, "depth": 1, "heads": 4, "frames": 16}, {"frames": 16})),
}  # fmt: skip
SILERO = "silero"
MODELS = (*NETWORKS, SILERO)
"""All models, in the order of reports."""


def network_of(name: str, tiny: bool) -> tuple[nn.Module, list[Any]]:
    """The module of a network in evaluation mode, and arguments of a call: the same whenever they are made."""
    import torch

    network = NETWORKS[name]
    settings, size = network.tiny if tiny else (network.settings, network.size)
    file, _, maker = network.made_by.partition(".")
    torch.manual_seed(0)
    module = getattr(importlib.import_module(f"networks.{file}"), maker)(**settings)

    def batch(count: int) -> Any:
        return torch.from_numpy(network.inputs(np.random.default_rng(1), {**size, "batch": count})[0])

    return cases.settle(module, batch), network.inputs(np.random.default_rng(0), size)


def write(name: str, folder: Path, tiny: bool) -> None:
    """The files of one model."""
    if name == SILERO:
        return _write_silero(folder)
    network = NETWORKS[name]
    module, arguments = network_of(name, tiny)
    flops = network.flops(network.tiny[1] if tiny else network.size) if network.flops else None
    cases.write(name, folder, module, arguments, network.how, flops)


def _write_silero(folder: Path) -> None:
    """The archive of the package silero-vad, as it is; a chunk of 32 ms at 16 kHz.

    Of its ONNX graphs the one that OpenVINO takes, which is also the fastest in ONNX Runtime. It leaves the 64 samples
    before the chunk, which are zero at first, and the state to its caller.
    """
    import torch

    found = importlib.util.find_spec("silero_vad")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("silero-vad is not installed (pip install --no-deps silero-vad==6.2.3)")
    folder.mkdir(parents=True, exist_ok=True)
    data = Path(found.submodule_search_locations[0]) / "data"
    shutil.copyfile(data / "silero_vad.jit", folder / "model.pt")
    shutil.copyfile(data / "silero_vad_openvino_16k.onnx", folder / "model.onnx")
    chunk = 0.1 * np.random.default_rng(0).standard_normal((1, 512), dtype=np.float32)
    with torch.no_grad():
        result = torch.jit.load(str(folder / "model.pt"))(torch.from_numpy(chunk), 16000)
    cases.write_feed(folder, [np.pad(chunk, ((0, 0), (64, 0))), np.zeros((2, 1, 128), np.float32)])
    case = cases.Case(SILERO, has_module=False, feedback={"stateN": "state"})
    cases.write_case(folder, case, [chunk, 16000], result)


if __name__ == "__main__":
    cases.main(__doc__, list(MODELS), write)
