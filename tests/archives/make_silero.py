"""Records what torch computes with the archive of the PyPI package silero-vad, which is not in this repository.

    pip install torch==2.13.0 && pip install --no-deps silero-vad==6.2.3
    python tests/archives/make_silero.py

writes silero.npz: per sampling rate the clip, the speech probability of the whole clip, that of each chunk with the
state carried over, and the state after the last one.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent


def clip() -> np.ndarray:
    """Two seconds of noise, swelling and fading, with a buzz in the middle."""
    time = np.arange(32000) / 16000
    buzz = np.sign(np.sin(2 * np.pi * 140 * time)) * (np.abs(time - 1) < 0.4)
    noise = np.random.RandomState(0).randn(32000) * (1 + np.sin(3 * time))
    return (0.05 * noise + 0.2 * buzz).astype(np.float32)


def main() -> None:
    warnings.simplefilter("ignore")
    package = importlib.util.find_spec("silero_vad")
    assert package is not None and package.submodule_search_locations, "install silero-vad"
    model = torch.jit.load(str(Path(package.submodule_search_locations[0]) / "data" / "silero_vad.jit"))
    record: dict[str, np.ndarray] = {}
    for rate, size in ((16000, 512), (8000, 256)):
        sound = torch.from_numpy(clip())[: 2 * rate]
        with torch.no_grad():
            record[f"clip_{rate}"] = sound.numpy()
            record[f"whole_{rate}"] = model.audio_forward(sound, rate).numpy()
            model.reset_states()
            chunks = sound[: len(sound) // size * size].split(size)
            record[f"chunks_{rate}"] = np.array([float(model(chunk, rate)) for chunk in chunks])
            record[f"state_{rate}"] = model._state.numpy()
    np.savez_compressed(HERE / "silero.npz", **record)
    print({name: value.shape for name, value in record.items()})


if __name__ == "__main__":
    main()
