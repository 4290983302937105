"""Load a TorchScript archive without torch, call it, look inside, and see where the time goes.

    python examples/archive/example.py

The archive is a convolutional classifier of handwritten digits that torch.jit.save wrote (examples/digits/make.py).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import stepwell

DIGITS = Path(__file__).parents[1] / "digits"


def main() -> None:
    model = stepwell.load(DIGITS / "digits.pt")
    images, labels = np.load(DIGITS / "images.npy"), np.load(DIGITS / "labels.npy")

    logits = model(images)
    print(f"accuracy on {len(labels)} held-out images: {(logits.argmax(1) == labels).mean():.3f}")

    print("\nits modules:", model, sep="\n")
    print("\nits parameters:")
    for name, array in model.named_parameters():
        print(f"  {name:24} {array.dtype}{list(array.shape)}")
    print("\nits source, as the archive has it:", model.code, sep="\n")

    # A size that varies costs one more compilation, ever.
    for count in (1, 2, 7, 30):
        np.testing.assert_allclose(model(images[:count]), logits[:count], rtol=1e-4, atol=1e-5)
    print("\ncompiled variants:", *model.method("forward").signatures(), sep="\n  ")

    print("\nwhere the time of a call goes:", model.profile(images), sep="\n")


if __name__ == "__main__":
    main()
