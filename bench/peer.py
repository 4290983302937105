"""One contender in a process of its own: it loads a model, calls it once, and then runs when it is told to.

    python bench/peer.py NAME FOLDER THREADS

writes a line of JSON when it is ready (times of loading and of the first call in seconds, memory in MiB), and one
for every line that it reads, {"seconds": s}: the times of its calls within about s seconds, and what a call took of
the processor.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from models import Argument, read_inputs

Call = Callable[[], Any]
WARM_SECONDS = 0.01
"""A turn begins with so many seconds of calls that do not count: caches and threads wake up."""


def stepwell(folder: Path, case: dict[str, Any], inputs: list[Argument], threads: int) -> Call:
    """This project, on the archive."""
    from stepwell import load, set_num_threads

    set_num_threads(threads)
    model = load(folder / "model.pt")
    return lambda: model(*inputs)


def torch_eager(folder: Path, case: dict[str, Any], inputs: list[Argument], threads: int) -> Call:
    """The module as Python runs it."""
    import torch
    from models import module_of

    if not case["eager"]:
        raise SystemExit("there is only an archive of this model, no Python module")
    torch.set_num_threads(threads)
    module = module_of(case["name"], case["tiny"])
    return _torch_call(module, inputs)


def torch_jit(folder: Path, case: dict[str, Any], inputs: list[Argument], threads: int) -> Call:
    """torch.jit on the archive, frozen."""
    import torch

    torch.set_num_threads(threads)
    module = torch.jit.load(str(folder / "model.pt")).eval()
    return _torch_call(torch.jit.freeze(module), inputs)


def _torch_call(module: Any, inputs: list[Argument]) -> Call:
    import torch

    values = [x if isinstance(x, int) else torch.from_numpy(x) for x in inputs]

    def call() -> Any:
        with torch.inference_mode():
            return module(*values)

    return call


def onnxruntime(folder: Path, case: dict[str, Any], inputs: list[Argument], threads: int) -> Call:
    """ONNX Runtime on the exported graph, at its highest level of optimization (its default)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(folder / case["onnx"]), options, ["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    wanted = [name for name in names if name not in case["extra"] or "before" in case["extra"][name]]
    feed = {name: np.asarray(value) for name, value in zip(wanted, inputs, strict=True)}
    for name, rule in case["extra"].items():
        if "before" in rule:
            feed[name] = np.pad(feed[name], ((0, 0), (rule["before"], 0)))
        else:
            feed[name] = np.zeros(rule["zeros"], np.float32)
    results = [entry.name for entry in session.get_outputs()]

    def call() -> Any:
        values = dict(zip(results, session.run(results, feed), strict=True))
        for source, target in case["feedback"].items():
            feed[target] = values[source]
        return next(iter(values.values()))

    return call


PEERS: dict[str, Callable[[Path, dict[str, Any], list[Argument], int], Call]] = {
    "stepwell": stepwell,
    "torch": torch_eager,
    "torch.jit": torch_jit,
    "onnxruntime": onnxruntime,
}


def _first_array(result: Any) -> np.ndarray[Any, Any]:
    while isinstance(result, (tuple, list)):
        result = result[0]
    return np.asarray(result)


def _turn(call: Call, seconds: float) -> dict[str, Any]:
    """The times of calls, and processor time per call, in seconds."""
    clock = time.perf_counter
    end = clock() + WARM_SECONDS
    call()
    while clock() < end:
        call()
    times: list[float] = []
    before, end = time.process_time(), clock() + seconds
    while len(times) < 3 or clock() < end:
        started = clock()
        call()
        times.append(clock() - started)
    return {"times": times, "processor": (time.process_time() - before) / len(times)}


def _say(channel: TextIO, message: dict[str, Any]) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


def main() -> None:
    # What libraries print must not get into the channel.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    name, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    case = json.loads((folder / "case.json").read_text())
    inputs = read_inputs(folder)
    started = time.perf_counter()
    call = PEERS[name](folder, case, inputs, threads)
    loaded = time.perf_counter()
    result = call()
    called = time.perf_counter()
    np.save(folder / f"{name}.npy", _first_array(result))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    _say(channel, {"load": loaded - started, "first_call": called - loaded, "peak": peak})
    for line in sys.stdin:
        _say(channel, _turn(call, json.loads(line)["seconds"]))


if __name__ == "__main__":
    main()
