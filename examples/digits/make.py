"""Trains the digit classifier of this folder and writes it with torch.jit.save.

Run once; its output is what the repository carries. Needs the `oracle` extra (torch and scikit-learn).

    digits.pt         the scripted network, an ordinary TorchScript archive
    images.npy        held-out images, float32[360, 1, 8, 8], never seen in training
    labels.npy        their digits, int64[360]
    logits.npy        what torch computes for them, float32[360, 10]
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

HERE = Path(__file__).parent


class DigitClassifier(nn.Module):
    """Two convolution blocks and a linear layer on 8x8 images."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Linear(32 * 2 * 2, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, 10] of images [N, 1, 8, 8] with values 0 to 1."""
        if images.dim() != 4:
            raise ValueError("expected a batch of images, but got {} dimensions".format(images.dim()))  # noqa: UP032 - torch.jit knows no f-strings
        x = self.features(images)
        return self.classifier(torch.flatten(x, 1))


def save(module: torch.jit.ScriptModule, path: Path) -> None:
    """torch.jit.save, by way of an archive without source ranges: those hold absolute paths of the writer."""
    module.save(str(path))
    with zipfile.ZipFile(path) as full, zipfile.ZipFile(path.with_suffix(".tmp"), "w") as bare:
        for record in full.namelist():
            if not record.endswith(".debug_pkl"):
                bare.writestr(record, full.read(record))
    torch.jit.load(str(path.with_suffix(".tmp"))).save(str(path))
    path.with_suffix(".tmp").unlink()


def main() -> None:
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels))
    train, test = order[:-360], order[-360:]
    model = DigitClassifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(30):
        for batch in train[torch.randperm(len(train))].split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        logits = model(images[test])
    accuracy = (logits.argmax(1) == labels[test]).float().mean().item()
    print(f"accuracy on held-out images: {accuracy:.4f}")
    save(torch.jit.script(model), HERE / "digits.pt")
    np.save(HERE / "images.npy", images[test].numpy())
    np.save(HERE / "labels.npy", labels[test].numpy())
    np.save(HERE / "logits.npy", logits.numpy())


if __name__ == "__main__":
    main()
