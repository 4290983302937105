"""Archives that torch wrote, run without torch: equal to what torch recorded, natively, at two batch sizes."""

from __future__ import annotations

import subprocess
import sys
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


def test_a_target_keeps_convolutions_direct() -> None:
    image, results = np.random.default_rng(0).standard_normal((1, 3, 64, 96)).astype(np.float32), []
    for target, expected in (("cpu", True), ("cpu,-winograd", False)):
        model = stepwell.load(ARCHIVES / "resnet18.pt")
        stepwell.compile(model, [image], target=target)
        results.append(model(image))
        assert ("tile.launch @winograd" in model.stage("tile")) == expected
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5, atol=1e-5 * float(np.abs(results[1]).max()))


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


@pytest.fixture
def silero(silero_archive: Path) -> Any:
    return stepwell.load(silero_archive)


RATES = [(16000, 512), (8000, 256)]


@pytest.fixture(scope="module")
def heard() -> Any:
    """What torch recorded: see make_silero.py."""
    return np.load(ARCHIVES / "silero.npz")


@pytest.mark.parametrize("rate", [16000, 8000])
def test_silero_hears_the_whole_clip(silero: Any, heard: Any, rate: int) -> None:
    whole = silero.audio_forward(heard[f"clip_{rate}"], rate)
    assert whole.dtype == np.float32 and heard[f"whole_{rate}"].max() > 0.2
    np.testing.assert_allclose(whole, heard[f"whole_{rate}"], rtol=0, atol=1e-5)
    assert silero.method("audio_forward").statistics.interpreted_calls == 0


@pytest.mark.parametrize(("rate", "size"), RATES)
def test_silero_hears_chunk_by_chunk(silero: Any, heard: Any, rate: int, size: int) -> None:
    """State is carried from call to call, and gone after reset_states."""
    clip, expected = heard[f"clip_{rate}"], heard[f"chunks_{rate}"]
    starts = range(0, len(clip) - size + 1, size)
    chunks = [silero(clip[i : i + size], rate).item() for i in starts]
    np.testing.assert_allclose(chunks, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(silero._state, heard[f"state_{rate}"], rtol=0, atol=1e-5)
    silero.reset_states()
    np.testing.assert_allclose(silero(clip[:size], rate).item(), expected[0], rtol=0, atol=1e-5)
    assert silero.method("forward").statistics.interpreted_calls == 0
    assert silero.method("reset_states").statistics.interpreted_calls == 0


def test_silero_starts_anew_where_the_sampling_rate_changes(silero: Any, heard: Any) -> None:
    for rate, size in (*RATES, *RATES):
        first = silero(heard[f"clip_{rate}"][:size], rate).item()
        np.testing.assert_allclose(first, heard[f"chunks_{rate}"][0], rtol=0, atol=1e-5)


def test_silero_refuses_in_its_own_words(silero: Any, heard: Any) -> None:
    clip = heard["clip_16000"]
    with pytest.raises(ValueError, match=r"Supported sampling rates: \[8000, 16000\]"):
        silero(clip[:512], 44100)
    with pytest.raises(ValueError, match="Provided number of samples is 600 "):
        silero(clip[:600], 16000)
    with pytest.raises(ValueError, match="Input audio chunk is too short"):
        silero(clip[:500], 16000)


def test_silero_needs_no_torch(silero_archive: Path) -> None:
    code = (
        "import sys, numpy, stepwell\n"
        f"stepwell.load({str(silero_archive)!r})(numpy.zeros(512, numpy.float32), 16000)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
