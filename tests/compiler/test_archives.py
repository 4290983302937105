"""Archives that torch wrote, run without torch: equal to what torch recorded, natively, at two batch sizes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepwell

ARCHIVES = Path(__file__).parents[1] / "archives"
DIGITS = Path(__file__).parents[2] / "examples" / "digits"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled here is compiled here, not found in somebody's cache."""
    monkeypatch.setenv("STEPWELL_CACHE_DIR", str(tmp_path))


def recorded(name: str, batch: int) -> tuple[list[Any], list[Any]]:
    record = np.load(ARCHIVES / f"{name}.npz")
    inputs = [record[k] for k in record.files if k.startswith("input") and k.endswith(f"_{batch}")]
    return inputs, [record[k] for k in record.files if k.startswith("output") and k.endswith(f"_{batch}")]


@pytest.mark.parametrize("name", ["mlp", "resnet18", "mobilenet", "encoder", "lstm"])
def test_an_archive_gives_what_torch_gave(name: str) -> None:
    model = stepwell.load(ARCHIVES / f"{name}.pt")
    for batch in (2, 5):
        inputs, expected = recorded(name, batch)
        result = model(*inputs)
        for got, want in zip(result if isinstance(result, tuple) else (result,), expected, strict=True):
            assert got.dtype == want.dtype and got.shape == want.shape
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * float(np.abs(want).max()))
    inputs, _ = recorded(name, 5)
    model(*(x[:3] for x in inputs))
    statistics = model.method("forward").statistics
    assert statistics.compilations + statistics.cache_hits == 2, "a third batch size needs no third variant"
    assert statistics.interpreted_calls == 0


def test_the_digit_classifier_reads_digits() -> None:
    model = stepwell.load(DIGITS / "digits.pt")
    logits = model(np.load(DIGITS / "images.npy"))
    np.testing.assert_allclose(logits, np.load(DIGITS / "logits.npy"), rtol=1e-4, atol=1e-4)
    assert np.mean(logits.argmax(1) == np.load(DIGITS / "labels.npy")) > 0.98


def test_the_archive_raises_its_own_exception() -> None:
    model = stepwell.load(DIGITS / "digits.pt")
    with pytest.raises(ValueError, match="expected a batch of images, but got 2 dimensions"):
        model(np.zeros((8, 8), np.float32))


# ------ silero-vad: stateful, with control flow, written by nobody here


def silero() -> Any:
    found = importlib.util.find_spec("silero_vad")
    if found is None or not found.submodule_search_locations:
        pytest.skip("silero-vad is not installed (pip install --no-deps silero-vad==6.2.3)")
    return stepwell.load(Path(found.submodule_search_locations[0]) / "data" / "silero_vad.jit")


def speech() -> np.ndarray[Any, Any]:
    return (0.1 * np.random.RandomState(0).randn(32000)).astype(np.float32)


@pytest.mark.oracle
def test_silero_hears_the_whole_clip() -> None:
    """Against figures recorded from torch."""
    model = silero()
    whole = model.audio_forward(speech(), 16000)
    assert whole.shape == (1, 63)
    np.testing.assert_allclose(whole[0, :4], [0.0185, 0.0203, 0.0205, 0.0165], atol=1e-4)
    assert abs(float(whole.sum()) - 0.590044) < 1e-5
    assert abs(float(model.audio_forward(speech()[:8000], 8000).sum()) - 0.174495) < 1e-5
    assert model.method("audio_forward").statistics.interpreted_calls == 0


@pytest.mark.oracle
@pytest.mark.parametrize(("rate", "size"), [(16000, 512), (8000, 256)])
def test_silero_hears_chunk_by_chunk(rate: int, size: int) -> None:
    """State is carried from call to call; the chunks of a clip give what the clip gives."""
    model = silero()
    clip = speech()[: 20 * size]
    whole = model.audio_forward(clip, rate)[0]
    model.reset_states()
    chunks = [float(model(clip[i : i + size], rate)[0, 0]) for i in range(0, len(clip), size)]
    np.testing.assert_allclose(chunks, whole, atol=1e-5)
    model.reset_states()
    assert abs(float(model(clip[:size], rate)[0, 0]) - chunks[0]) < 1e-6
    assert model.method("forward").statistics.interpreted_calls == 0


@pytest.mark.oracle
def test_silero_refuses_a_sampling_rate_in_its_own_words() -> None:
    with pytest.raises(ValueError, match=r"Supported sampling rates: \[8000, 16000\]"):
        silero()(speech()[:512], 44100)
