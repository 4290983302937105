"""Write every level of a model to a folder: from the archive's operations down to the machine's instructions.

    python examples/stages/example.py [folder]

Each file is complete: `stepwell opt folder/2-linalg.mlir --to=loops` takes one further down.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

import stepwell

DIGITS = Path(__file__).parents[1] / "digits"
LEVELS = {
    "torch": "mlir", "linalg": "mlir", "tile": "mlir", "loops": "mlir", "llvm": "mlir", "ir": "ll", "asm": "s",
}  # fmt: skip


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="stages-"))
    folder.mkdir(parents=True, exist_ok=True)
    model = stepwell.load(DIGITS / "digits.pt")
    images = np.load(DIGITS / "images.npy")[:1]
    forward = model.method("forward")
    for number, (level, ending) in enumerate(LEVELS.items(), 1):
        text = forward.emit(level, [images], {})
        assert isinstance(text, str)
        path = folder / f"{number}-{level}.{ending}"
        path.write_text(text)
        print(f"{path.name:16} {len(text):8d} characters   {text.strip().splitlines()[0][:70]}")
    print(forward.describe_stages([images], {}))


if __name__ == "__main__":
    main()
