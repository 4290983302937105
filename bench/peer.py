"""One contender in a process of its own: it loads cases, calls each once, and then runs when it is told to.

    python bench/peer.py NAME THREADS

reads lines of JSON and answers each by one. {"load": folder}: seconds of loading and of the first call, memory in MiB,
and how far the results are from torch's. {"run": folder, "seconds": s}: of each call within about s seconds the time and
what it took of the processor. An answer {"failure": text} says why it cannot.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import cases
import numpy as np
from cases import Case

Call = Callable[[], Any]
Contender = Callable[[Path, Case, list[Any], int], Call]
WARM_SECONDS = 0.01
"""A turn begins with so many seconds of calls that do not count: caches and threads wake up."""


class CannotRun(Exception):
    """There is nothing that this contender could run."""


def stepwell(folder: Path, case: Case, arguments: list[Any], threads: int) -> Call:
    """This project, on the archive. A call that is interpreted is refused."""
    from stepwell import load, set_num_threads

    set_num_threads(threads)
    model = load(folder / "model.pt")
    statistics = model.method("forward").statistics

    def call() -> Any:
        result = model(*arguments)
        if statistics.interpreted_calls:
            raise CannotRun(f"it is interpreted: {'; '.join(statistics.reasons)}")
        return result

    return call


def torch_eager(folder: Path, case: Case, arguments: list[Any], threads: int) -> Call:
    """The module as Python runs it."""
    return _torch_call(_module(folder, case, threads), arguments)


def torch_jit(folder: Path, case: Case, arguments: list[Any], threads: int) -> Call:
    """torch.jit on the archive, frozen."""
    import torch

    torch.set_num_threads(threads)
    return _torch_call(torch.jit.freeze(torch.jit.load(str(folder / "model.pt")).eval()), arguments)


def onednn(folder: Path, case: Case, arguments: list[Any], threads: int) -> Call:
    """torch.jit's frozen graph with oneDNN's ops on packed weights."""
    import torch

    torch.set_num_threads(threads)
    frozen = torch.jit.freeze(torch.jit.load(str(folder / "model.pt")).eval())
    return _torch_call(torch.jit.optimize_for_inference(frozen), arguments)


def inductor(folder: Path, case: Case, arguments: list[Any], threads: int) -> Call:
    """torch.compile with weights frozen, which packs them."""
    module = _module(folder, case, threads)
    import torch
    import torch._inductor.config

    # Given as an option of torch.compile, it would freeze nothing.
    torch._inductor.config.freezing = True
    return _torch_call(torch.compile(module), arguments, inference=False)


def _module(folder: Path, case: Case, threads: int) -> Any:
    import torch

    if not case.has_module:
        raise CannotRun("there is only an archive, no Python module")
    torch.set_num_threads(threads)
    return torch.load(folder / "module.pth", weights_only=False)


def _torch_call(module: Any, arguments: list[Any], inference: bool = True) -> Call:
    import torch

    def tensor(value: Any) -> Any:
        if isinstance(value, list):
            return [tensor(x) for x in value]
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else value

    values, mode = tensor(arguments), torch.inference_mode if inference else torch.no_grad

    def call() -> Any:
        with mode():
            return module(*values)

    return call


def onnxruntime(folder: Path, case: Case, arguments: list[Any], threads: int) -> Call:
    """ONNX Runtime on the exported graph, at its highest level of optimization (its default)."""
    _need_onnx(case)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, ["CPUExecutionProvider"])
    feed = cases.read_feed(folder)
    names = [entry.name for entry in session.get_outputs()]

    def call() -> list[Any]:
        values = session.run(names, feed)
        return _fed_back(case, feed, dict(zip(names, values, strict=True)), values)

    return call


def openvino(folder: Path, case: Case, arguments: list[Any], threads: int) -> Call:
    """OpenVINO on the exported graph: for latency, one stream, in float32, nothing copied at the edges."""
    _need_onnx(case)
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }  # fmt: skip
    compiled = openvino.Core().compile_model(str(folder / "model.onnx"), "CPU", settings)
    feed = cases.read_feed(folder)
    request, names = compiled.create_infer_request(), [port.any_name for port in compiled.outputs]

    def call() -> list[Any]:
        found = request.infer(feed, share_inputs=True, share_outputs=True)
        values = list(found.values())
        return _fed_back(case, feed, dict(zip(names, values, strict=True)), values)

    return call


def _need_onnx(case: Case) -> None:
    if case.without_onnx:
        raise CannotRun(case.without_onnx)


def _fed_back(case: Case, feed: dict[str, Any], named: dict[str, Any], values: list[Any]) -> list[Any]:
    for source, target in case.feedback.items():
        # A copy where the contender writes its results into the same place again.
        feed[target] = np.array(named[source])
    return values[:1] if case.feedback else values


def numpy(folder: Path, case: Case, arguments: list[Any], threads: int) -> Call:
    """numpy's OpenBLAS, for kernels that are one function of numpy."""
    from kernel_cases import KERNELS

    kernel = KERNELS.get(case.name)
    if kernel is None or kernel.numpy is None:
        raise CannotRun("not one function of numpy")
    function, operands = kernel.numpy, kernel.numpy_operands(folder, arguments)
    return lambda: function(*operands)


PEERS: dict[str, Contender] = {
    "stepwell": stepwell,
    "torch": torch_eager,
    "torch.jit": torch_jit,
    "onednn": onednn,
    "inductor": inductor,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "numpy": numpy,
}


def difference(results: Any, expected: Sequence[Any]) -> float:
    """The largest difference of an element, relative to the largest of its array."""
    found = [np.asarray(x) for x in cases.leaves(results)]
    if [x.shape for x in found] != [x.shape for x in expected]:
        raise CannotRun(f"the shapes differ from torch's: {[x.shape for x in found]}")
    worst = 0.0
    for got, want in zip(found, expected, strict=True):
        scale = float(np.abs(want).max(initial=0.0)) or 1.0
        away = float(np.abs(got.astype(np.float64) - want).max(initial=0.0)) / scale
        worst = max(worst, away if away == away else float("inf"))
    return worst


def _turn(call: Call, seconds: float) -> dict[str, list[float]]:
    """Of every call, its time and what it took of the processor, in seconds."""
    clock, worked = time.perf_counter, time.process_time
    end = clock() + WARM_SECONDS
    call()
    while clock() < end:
        call()
    times: list[float] = []
    processor: list[float] = []
    end = clock() + seconds
    while len(times) < 3 or clock() < end:
        before, started = worked(), clock()
        call()
        times.append(clock() - started)
        processor.append(worked() - before)
    return {"times": times, "processor": processor}


class Loaded:
    """The cases that this process has loaded."""

    def __init__(self, contender: Contender, threads: int) -> None:
        self.contender, self.threads = contender, threads
        self.calls: dict[str, Call] = {}

    def load(self, folder: Path) -> dict[str, Any]:
        """Load, call, and compare."""
        case, arguments = cases.read_case(folder), cases.read_arguments(folder)
        started = time.perf_counter()
        call = self.contender(folder, case, arguments, self.threads)
        loaded = time.perf_counter()
        result = call()
        called = time.perf_counter()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        away = difference(result, cases.read_expected(folder))
        self.calls[str(folder)] = call
        return {"load": loaded - started, "first_call": called - loaded, "peak": peak, "difference": away}

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """What a line asks for."""
        if "load" in message:
            return self.load(Path(message["load"]))
        return _turn(self.calls[message["run"]], message["seconds"])


def _say(channel: TextIO, message: dict[str, Any]) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


def main() -> None:
    # What libraries print must not get into the channel.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    loaded = Loaded(PEERS[sys.argv[1]], int(sys.argv[2]))
    for line in sys.stdin:
        try:
            _say(channel, loaded.answer(json.loads(line)))
        except Exception as error:  # whatever a contender raises is its answer
            traceback.print_exc()
            _say(channel, {"failure": " ".join(f"{type(error).__name__}: {error}".split())[:300]})


if __name__ == "__main__":
    main()
