"""What the commands of the command line do; `cli` parses, this prints."""

from __future__ import annotations

import argparse
import ast
import re
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepwell.compiler.progress import progress, progress_bar


class Usage(Exception):
    """The command line asks for something that makes no sense; exit code 2."""


_TYPE = re.compile(r"(\w+)\[([\d,\s]*)\]")
_WORDS = {"true": True, "false": False, "none": None}


def value_of(text: str) -> Any:
    """One --input: an array, a number, a word."""
    if text.endswith(".npy"):
        return np.load(text, allow_pickle=False)
    typed = _TYPE.fullmatch(text)
    if typed:
        return random_array(typed[1], [int(s) for s in typed[2].split(",") if s.strip()])
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise Usage(
            f"--input {text!r} is no .npy file, type such as float32[1,3], number, true, false or none"
        ) from None


def random_array(dtype: str, sizes: Sequence[int]) -> np.ndarray[Any, Any]:
    """Seeded random data: normal for floats, 0 to 9 for integers, both for bool."""
    random = np.random.default_rng(0)
    try:
        kind = np.dtype(dtype)
    except TypeError:
        raise Usage(f"{dtype!r} is no dtype") from None
    if kind.kind == "f":
        return random.standard_normal(sizes).astype(kind)
    return random.integers(0, 2 if kind.kind == "b" else 10, sizes).astype(kind)


def inputs_of(texts: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments of all --input options."""
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if equals and name.isidentifier():
            keywords[name] = value_of(value)
        else:
            positional.append(value_of(text))
    return positional, keywords


def run(options: argparse.Namespace) -> int:
    """`stepwell run`"""
    from stepwell.compiler.api import load
    from stepwell.runtime.threads import get_num_threads, set_num_threads

    if options.threads:
        set_num_threads(options.threads)
    arguments, keywords = inputs_of(options.input)
    start = time.perf_counter()
    model = load(options.model)
    loaded = time.perf_counter()
    method = model.method(options.method)
    with progress(f"compiling {options.method}"):
        result = method(*arguments, **keywords)
    first = time.perf_counter()
    times = _timed(method, arguments, keywords, options.repeat)
    print(f"{options.model}: {options.method}{_describe_arguments(arguments, keywords)} -> {_describe(result)}")
    print(f"  load {_milliseconds(loaded - start)}, first call {_milliseconds(first - loaded)}", end="")
    if times:
        print(
            f", then {_milliseconds(statistics.median(times))} per call (median of {len(times)}, {get_num_threads()} threads)"
        )
    else:
        print()
    _report(options, result, arguments)
    print(f"  stages: stepwell stages {options.model}{_repeat_inputs(options)}")
    print(f"  any level as text: stepwell compile {options.model} --emit=linalg{_repeat_inputs(options)}")
    return 0


def _repeat_inputs(options: argparse.Namespace) -> str:
    method = "" if options.method == "forward" else f" --method {options.method}"
    return method + "".join(f" --input {i}" for i in options.input)


def _timed(method: Any, arguments: Sequence[Any], keywords: dict[str, Any], count: int) -> list[float]:
    times = []
    for _ in range(count):
        start = time.perf_counter()
        method(*arguments, **keywords)
        times.append(time.perf_counter() - start)
    return times


def _report(options: argparse.Namespace, result: Any, arguments: Sequence[Any]) -> None:
    output = result[0] if isinstance(result, (tuple, list)) else result
    if options.labels:
        labels = np.load(options.labels, allow_pickle=False)
        accuracy = float(np.mean(np.argmax(output, axis=-1) == labels))
        print(f"  accuracy {accuracy:.4f} on {len(labels)} examples")
    if options.expect:
        expected = np.load(options.expect, allow_pickle=False)
        print(f"  largest difference from {options.expect}: {float(np.max(np.abs(output - expected))):.3g}")
    if options.output:
        np.save(options.output, output)


def compile(options: argparse.Namespace) -> int:
    """`stepwell compile`"""
    from stepwell.compiler.api import load
    from stepwell.compiler.descent import known, target_of

    if options.emit in BINARY and not options.output:
        raise Usage(f"--emit={options.emit} is binary: say where to write it with -o FILE")
    try:
        target = target_of(options.emit, options.target)
        if options.print_after not in ("", "all"):
            known(options.print_after, target)
    except ValueError as error:
        raise Usage(str(error)) from None
    arguments, keywords = inputs_of(options.input)
    method = load(options.model).method(options.method)
    with progress(f"compiling {options.method} to {options.emit}"):
        made = method.emit(
            options.emit, arguments, keywords, print_after=options.print_after, target=options.target,
            locations=options.locations, own_generic=options.mlir_opt,
        )  # fmt: skip
    _write(made, options.output)
    return 0


BINARY = ("obj",)


def _write(made: str | bytes, path: str | None) -> None:
    """To a file, or to standard output."""
    if isinstance(made, bytes):
        assert path is not None
        Path(path).write_bytes(made)
    elif path:
        Path(path).write_text(made)
    else:
        sys.stdout.write(made if made.endswith("\n") else made + "\n")


def stages(options: argparse.Namespace) -> int:
    """`stepwell stages`"""
    from stepwell.compiler.api import load

    arguments, keywords = inputs_of(options.input)
    method = load(options.model).method(options.method)
    with progress(f"compiling {options.method}"):
        table = method.describe_stages(arguments, keywords)
    print(table)
    return 0


def tune(options: argparse.Namespace) -> int:
    """`stepwell tune`"""
    from stepwell.compiler import tuned
    from stepwell.compiler.api import load
    from stepwell.compiler.api import tune as find
    from stepwell.runtime.threads import set_num_threads

    if options.threads:
        set_num_threads(options.threads)
    if options.seconds <= 0:
        raise Usage(f"--seconds {options.seconds} is no time to measure in")
    arguments, keywords = inputs_of(options.input)
    model = load(options.model)
    with progress_bar(f"tuning {options.method}") as report:
        found = find(
            model, arguments, keywords=keywords, seconds=options.seconds, method=options.method,
            path=options.output, report=report,
        )  # fmt: skip
    print(found)
    where = options.output or tuned.default_path()
    print(f"{len(found.entries)} schedules stored in {where}" if found.gains else "nothing to gain; nothing is stored")
    return 0


def opt(options: argparse.Namespace) -> int:
    """`stepwell opt`"""
    from stepwell.compiler.descent import Showing, continue_from_text
    from stepwell.compiler.threads_of_compilation import deep_stack

    if options.to in BINARY and not options.output:
        raise Usage(f"--to={options.to} is binary: say where to write it with -o FILE")
    name = "<standard input>" if options.file == "-" else options.file
    data = sys.stdin.buffer.read() if options.file == "-" else Path(options.file).read_bytes()
    text = data.decode("utf-8", "replace")
    showing = Showing(options.print_after, options.target, options.locations, options.mlir_opt, options.verify)
    try:
        with progress(f"compiling {name} to {options.passes or options.to}"):
            made = deep_stack(
                lambda: continue_from_text(text, options.to, passes=options.passes, showing=showing, name=name)
            )
    except ValueError as error:
        raise Usage(str(error)) from None
    _write(made, options.output)
    return 0


def ops(options: argparse.Namespace) -> int:
    """`stepwell ops`"""
    from stepwell.compiler.explain import ops_table

    sys.stdout.write(ops_table())
    return 0


def explain(options: argparse.Namespace) -> int:
    """`stepwell explain`"""
    from stepwell.compiler.explain import explain as text_of

    try:
        sys.stdout.write(text_of(options.op))
    except LookupError as error:
        raise Usage(str(error.args[0])) from None
    return 0


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_describe, value))})"
    return repr(value)


def _describe_arguments(arguments: Sequence[Any], keywords: dict[str, Any]) -> str:
    parts = [*map(_describe, arguments), *(f"{k}={_describe(v)}" for k, v in keywords.items())]
    return f"({', '.join(parts)})"
