"""Makes the archives of the tests and records what torch computes for them. Needs the `oracle` extra.

    python tests/archives/make.py

writes NAME.pt and NAME.npz (inputs and outputs at batch sizes 2 and 5) into this folder.
"""

from __future__ import annotations

import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from networks import NETWORKS, export  # noqa: E402


def save(module: torch.jit.ScriptModule, path: Path) -> None:
    """torch.jit.save, by way of an archive without source ranges: those hold absolute paths of the writer."""
    module.save(str(path))
    bare = path.with_suffix(".tmp")
    with zipfile.ZipFile(path) as full, zipfile.ZipFile(bare, "w") as out:
        for record in full.namelist():
            if not record.endswith(".debug_pkl"):
                out.writestr(record, full.read(record))
    torch.jit.load(str(bare)).save(str(path))
    bare.unlink()


def main() -> None:
    warnings.simplefilter("ignore")
    for name, network in NETWORKS.items():
        torch.manual_seed(0)
        module = export(network, network.make())
        save(module, HERE / f"{name}.pt")
        record: dict[str, np.ndarray] = {}
        for batch in (2, 5):
            inputs = network.inputs(batch)
            with torch.no_grad():
                outputs = module(*inputs)
            for i, x in enumerate(inputs):
                record[f"input{i}_{batch}"] = x.numpy()
            for i, y in enumerate(outputs if isinstance(outputs, tuple) else (outputs,)):
                record[f"output{i}_{batch}"] = y.numpy()
        np.savez(HERE / f"{name}.npz", **record)
        print(name, (HERE / f"{name}.pt").stat().st_size)


if __name__ == "__main__":
    main()
