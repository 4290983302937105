"""What contenders are given of a case: an archive, the same as ONNX and as a Python module, arguments, and what torch
computes for them. Writing a case needs torch and onnx; reading one needs neither."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn

Array = np.ndarray[Any, Any]
Argument = Any
"""An array, a number, or a list of arrays."""


@dataclass(frozen=True)
class Case:
    """What is known of a case beside its files."""

    name: str
    has_module: bool = True
    """Whether module.pth is there; else there is only an archive."""
    without_onnx: str = ""
    """Why there is no model.onnx."""
    flops: float | None = None
    bytes: float | None = None
    """Of one call: weights, arguments and results, each once."""
    feedback: dict[str, str] = field(default_factory=dict)
    """Outputs of the ONNX graph that are inputs of its next call."""


def main(description: str | None, known: Sequence[str], write: Callable[[str, Path, bool], None]) -> None:
    """The command line of a script that writes cases: `write(name, folder, tiny)` for those that are named, or all."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=list(known), metavar="NAME", help=", ".join(known))
    parser.add_argument("--tiny", action="store_true", help="sizes for tests of the benches")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in given.names:
        write(name, given.folder / name, given.tiny)


def leaves(value: Any) -> Iterator[Any]:
    """The arrays and numbers of nested lists and tuples, in order."""
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from leaves(part)
    else:
        yield value


def read_case(folder: Path) -> Case:
    """What `write` wrote."""
    return Case(**json.loads((folder / "case.json").read_text()))


def read_arguments(folder: Path) -> list[Argument]:
    """The arguments of the call; a list's elements are stored as 1/0, 1/1, and so on."""
    arguments: list[Any] = []
    with np.load(folder / "inputs.npz") as stored:
        for key in stored.files:
            array = stored[key]
            position, _, inner = key.partition("/")
            if inner == "0":
                arguments.append([])
            if inner:
                arguments[int(position)].append(array)
            else:
                arguments.append(array.item() if array.ndim == 0 else array)
    return arguments


def write_arguments(folder: Path, arguments: Iterable[Argument]) -> None:
    """Into inputs.npz, for `read_arguments`."""
    stored: dict[str, Array] = {}
    for i, argument in enumerate(arguments):
        if isinstance(argument, list):
            stored |= {f"{i}/{k}": array for k, array in enumerate(argument)}
        else:
            stored[str(i)] = np.asarray(argument)
    np.savez(folder / "inputs.npz", **stored)  # type: ignore[arg-type]


def read_expected(folder: Path) -> list[Array]:
    """What torch computed, flat."""
    with np.load(folder / "expected.npz") as stored:
        return [stored[key] for key in stored.files]


def write_feed(folder: Path, arrays: Sequence[Array]) -> None:
    """The inputs of model.onnx by name, in its order."""
    import onnx

    names = [entry.name for entry in onnx.load(folder / "model.onnx", load_external_data=False).graph.input]
    np.savez(folder / "feed.npz", **dict(zip(names, arrays, strict=True)))  # type: ignore[arg-type]


def read_feed(folder: Path) -> dict[str, Array]:
    """The inputs of model.onnx."""
    with np.load(folder / "feed.npz") as stored:
        return {name: stored[name] for name in stored.files}


def write_case(folder: Path, case: Case, arguments: Sequence[Argument], results: Any) -> None:
    """The description, the arguments, and torch's results."""
    write_arguments(folder, arguments)
    np.savez(folder / "expected.npz", *[np.asarray(x) for x in leaves(results)])
    (folder / "case.json").write_text(json.dumps(asdict(case)))


def write(
    name: str, folder: Path, module: nn.Module, arguments: Sequence[Argument], how: str, flops: float | None = None
) -> None:
    """All files of a module made here. `how` is script or trace; `flops` are counted where they are not given."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    tensors = tuple(_tensor(x) for x in arguments)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.jit.script(module) if how == "script" else torch.jit.trace(module, tensors, check_trace=False)
        results = list(leaves(module(*tensors)))
        flops = _flops(module, tensors) if flops is None else flops
    made.save(str(folder / "model.pt"))
    torch.save(module, folder / "module.pth")
    moved = _weights(module, tensors) + sum(t.nbytes for t in [*leaves(tensors), *results])
    without = export(module, tensors, folder / "model.onnx")
    if not without:
        write_feed(folder, [np.asarray(x) for x in leaves(tensors)])
    case = Case(name, without_onnx=without, flops=flops or None, bytes=float(moved))
    write_case(folder, case, arguments, results)


def export(module: Any, tensors: Sequence[Any], path: Path) -> str:
    """By torch's exporter that needs nothing but the onnx package; gives why it could not, or nothing."""
    import torch

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(module, tuple(tensors), str(path), dynamo=False, opset_version=17)
        except torch.onnx.errors.OnnxExporterError as error:
            return f"no ONNX: {str(error).strip().splitlines()[0]}"
    return ""


def _tensor(value: Argument) -> Any:
    import torch

    return [torch.from_numpy(x) for x in value] if isinstance(value, list) else torch.as_tensor(value)


def _flops(module: nn.Module, tensors: Sequence[Any]) -> float:
    """Of the matrix products and convolutions, two for a multiply-add, as torch counts them."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        module(*tensors)
    return float(counter.get_total_flops())


def _weights(module: nn.Module, tensors: Sequence[Any]) -> int:
    """Bytes of the parameters that a call reads whole: of an embedding it reads some rows."""
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode

    sizes = {p.data_ptr(): p.nbytes for p in module.parameters()}
    read: set[int] = set()

    class Reads(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "embedding" not in str(function):
                read.update(x.data_ptr() for x in leaves(args) if isinstance(x, Tensor))
            return function(*args, **(kwargs or {}))

    import torch

    with torch.no_grad(), Reads():
        module(*tensors)
    return sum(size for place, size in sizes.items() if place in read)


def settle(module: nn.Module, image: Callable[[int], Any]) -> nn.Module:
    """Evaluation mode, batch norms with the statistics of four random inputs, so that no activation grows or dies."""
    import torch
    from torch import nn

    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    if norms:
        for norm in norms:
            norm.momentum = None  # the mean over batches, of which there is one
        with torch.no_grad():
            module.train()(image(4))
    return module.eval()
