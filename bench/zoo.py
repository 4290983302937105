"""Archives of ordinary models, as people have them: do they run, natively, and with torch's numbers?

    pip install -e '.[oracle,zoo]'
    python bench/zoo.py                 every architecture; exit code 1 where one does not run or differs
    python bench/zoo.py bert swin       some of them

Small instances with random weights of the architectures of Hugging Face's transformers are traced by torch and saved
by torch.jit.save. Each is loaded in a process without torch, called, and compared. This is a nightly sweep.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 1e-4
"""Of the largest element of a result."""

SECONDS = 300
"""For one model, compiling included."""

HIDDEN = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
TEXT = {**HIDDEN, "vocab_size": 200}
IMAGE = {**HIDDEN, "image_size": 64, "patch_size": 16}
STAGES = {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]}
SPEECH = {
    **HIDDEN, "vocab_size": 32, "conv_dim": (16, 16, 16), "conv_kernel": (10, 3, 3), "conv_stride": (5, 2, 2),
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
ENCODER_DECODER = {
    "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "vocab_size": 200,
}  # fmt: skip


def _ids() -> Any:
    import torch

    return torch.randint(3, 200, (2, 12))


def _image() -> Any:
    import torch

    return torch.randn(2, 3, 64, 64)


def _wave() -> Any:
    import torch

    return torch.randn(2, 1600)


def _spectrum() -> Any:
    import torch

    return torch.randn(2, 64, 32)


ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any], Callable[[], Any]]] = {
    "bert": ("BertModel", "BertConfig", TEXT, _ids),
    "bert_classifier": ("BertForSequenceClassification", "BertConfig", TEXT, _ids),
    "distilbert": ("DistilBertModel", "DistilBertConfig",
                   {"vocab_size": 200, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128}, _ids),
    "albert": ("AlbertModel", "AlbertConfig", {**TEXT, "embedding_size": 32}, _ids),
    "electra": ("ElectraModel", "ElectraConfig", {**TEXT, "embedding_size": 32}, _ids),
    "roberta": ("RobertaModel", "RobertaConfig", TEXT, _ids),
    "deberta": ("DebertaV2Model", "DebertaV2Config",
                {**TEXT, "relative_attention": True, "position_buckets": 16, "pos_att_type": ["c2p", "p2c"]}, _ids),
    "mpnet": ("MPNetModel", "MPNetConfig", TEXT, _ids),
    "squeezebert": ("SqueezeBertModel", "SqueezeBertConfig", {**TEXT, "embedding_size": 64}, _ids),
    "gptneo": ("GPTNeoModel", "GPTNeoConfig",
               {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 200, "use_cache": False,
                "attention_types": [[["global", "local"], 1]]}, _ids),
    "opt": ("OPTModel", "OPTConfig",
            {**TEXT, "ffn_dim": 128, "word_embed_proj_dim": 64, "use_cache": False}, _ids),
    "t5_encoder": ("T5EncoderModel", "T5Config",
                   {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 200}, _ids),
    "bart": ("BartModel", "BartConfig", {**ENCODER_DECODER, "use_cache": False}, _ids),
    "clip_text": ("CLIPTextModel", "CLIPTextConfig", TEXT, _ids),
    "vit": ("ViTModel", "ViTConfig", IMAGE, _image),
    "deit": ("DeiTModel", "DeiTConfig", IMAGE, _image),
    "beit": ("BeitModel", "BeitConfig", {**IMAGE, "use_relative_position_bias": True}, _image),
    "dinov2": ("Dinov2Model", "Dinov2Config", IMAGE, _image),
    "yolos": ("YolosForObjectDetection", "YolosConfig",
              {**IMAGE, "image_size": [64, 64], "num_detection_tokens": 10}, _image),
    "clip_vision": ("CLIPVisionModel", "CLIPVisionConfig", IMAGE, _image),
    "dpt": ("DPTForDepthEstimation", "DPTConfig",
            {**IMAGE, "num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3],
             "neck_hidden_sizes": [16, 32, 48, 64], "fusion_hidden_size": 32}, _image),
    "swin": ("SwinModel", "SwinConfig",
             {"image_size": 64, "patch_size": 4, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4],
              "window_size": 4}, _image),
    "levit": ("LevitModel", "LevitConfig",
              {"image_size": 64, "hidden_sizes": [16, 32, 48], "num_attention_heads": [2, 2, 3], "depths": [1, 1, 1],
               "key_dim": [8, 8, 8]}, _image),
    "convnext": ("ConvNextModel", "ConvNextConfig", STAGES, _image),
    "resnet": ("ResNetModel", "ResNetConfig", {**STAGES, "embedding_size": 16}, _image),
    "regnet": ("RegNetModel", "RegNetConfig", {**STAGES, "embedding_size": 16, "groups_width": 16}, _image),
    "mobilenet_v1": ("MobileNetV1Model", "MobileNetV1Config", {"depth_multiplier": 0.25, "image_size": 64}, _image),
    "mobilenet_v2": ("MobileNetV2Model", "MobileNetV2Config", {"depth_multiplier": 0.35, "image_size": 64}, _image),
    "deeplab": ("MobileNetV2ForSemanticSegmentation", "MobileNetV2Config",
                {"depth_multiplier": 0.35, "image_size": 64}, _image),
    "efficientnet": ("EfficientNetModel", "EfficientNetConfig",
                     {"image_size": 64, "width_coefficient": 0.5, "depth_coefficient": 0.5, "hidden_dim": 640}, _image),
    "mobilevit": ("MobileViTModel", "MobileViTConfig",
                  {"image_size": 64, "hidden_sizes": [32, 40, 48],
                   "neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 64]}, _image),
    "segformer": ("SegformerForSemanticSegmentation", "SegformerConfig",
                  {"hidden_sizes": [16, 32, 40, 64], "depths": [1, 1, 1, 1], "decoder_hidden_size": 32}, _image),
    "wav2vec2": ("Wav2Vec2Model", "Wav2Vec2Config", SPEECH, _wave),
    "hubert": ("HubertModel", "HubertConfig", SPEECH, _wave),
    "audio_spectrogram": ("ASTModel", "ASTConfig", {**HIDDEN, "max_length": 64, "num_mel_bins": 32}, _spectrum),
}  # fmt: skip
"""Name: the class, its configuration, and an input."""


def make(names: list[str], folder: Path) -> None:
    """Trace and save; what torch computes goes beside each archive. Needs torch and transformers."""
    import torch
    import transformers

    warnings.simplefilter("ignore")
    for name in names:
        cls, configuration, settings, given = ARCHITECTURES[name]
        torch.manual_seed(0)
        config = getattr(transformers, configuration)(**settings, torchscript=True)
        model, x = getattr(transformers, cls)(config).eval(), given()
        with torch.no_grad():
            traced = torch.jit.trace(model, x, strict=False, check_trace=False)
            results = list(_tensors(traced(x)))
        traced.save(str(folder / f"{name}.pt"))
        np.savez(folder / f"{name}.npz", x.numpy(), *(r.numpy() for r in results))


def _tensors(value: Any) -> Iterator[Any]:
    """The tensors of a result, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
    elif value is not None:
        yield value


def check(name: str, folder: Path) -> dict[str, Any]:
    """Run one archive, here, without torch."""
    import time

    import stepwell

    x, *expected = np.load(folder / f"{name}.npz").values()
    started = time.perf_counter()
    model = stepwell.load(folder / f"{name}.pt")
    found = list(_tensors(model(x)))
    seconds = time.perf_counter() - started
    assert "torch" not in sys.modules and len(found) == len(expected)
    error = 0.0
    for got, want in zip(found, expected, strict=True):
        assert got.shape == want.shape and got.dtype == want.dtype, (got.shape, got.dtype, want.shape, want.dtype)
        scale = float(np.abs(want).max(initial=1e-6))
        error = max(error, float(np.abs(got.astype(np.float64) - want).max(initial=0)) / scale)
    statistics = model.method("forward").statistics
    return {
        "error": error,
        "seconds": seconds,
        "interpreted": statistics.interpreted_calls,
        "why": statistics.reasons[:1],
    }


def outcome(name: str, folder: Path) -> tuple[bool, str]:
    """Whether an archive runs as it should, and how it went in words."""
    command = [sys.executable, __file__, "--check", name, str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return False, f"takes longer than {SECONDS} s"
    if done.returncode:
        return False, done.stderr.strip().splitlines()[-1][:200]
    found = json.loads(done.stdout)
    text = f"error {found['error']:.1e}, first call {found['seconds']:.1f} s"
    if found["interpreted"]:
        return False, f"{text}, interpreted: {found['why']}"
    return found["error"] < TOLERANCE, text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ARCHITECTURES))
    parser.add_argument("--check", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.check:
        print(json.dumps(check(given.check[0], Path(given.check[1]))))
        return 0
    names = given.names or list(ARCHITECTURES)
    if unknown := set(names) - set(ARCHITECTURES):
        parser.error(f"no architecture is called {', '.join(sorted(unknown))}")
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        make(names, Path(temporary))
        for name in names:
            fine, text = outcome(name, Path(temporary))
            failed += not fine
            print(f"{'ok' if fine else 'NO':3} {name:20} {text}", flush=True)
    print(f"{len(names) - failed} of {len(names)} run natively with torch's numbers")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
