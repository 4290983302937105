"""Recurrent cells and layers: linear maps and one pointwise update; layers loop over time.

A layer multiplies its whole input by the input weights at once, so that the loop holds the recurrent product only.
Gate order is torch's: input, forget, cell, output for LSTM; reset, update, new for GRU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from stepwell.dialects.torch.builder import TorchBuilder, Value
from stepwell.dialects.torch.declare import Array, RuntimeFault, Sample, TensorInfo, op, sample
from stepwell.dialects.torch.sizes import Dim


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)), dtype=x.dtype)


def _affine(x: Array, weight: Array, bias: Array | None) -> Array:
    y = x @ weight.T
    return np.asarray(y if bias is None else y + bias, dtype=x.dtype)


# ------ one step, in numpy and in ops: gates of the input (gx) and of the hidden state (gh)


def _lstm_step(gx: Array, gh: Array, state: Sequence[Array]) -> tuple[Array, Array]:
    i, f, g, o = np.split(gx + gh, 4, axis=-1)
    c = _sigmoid(f) * state[1] + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


def _gru_step(gx: Array, gh: Array, state: Sequence[Array]) -> tuple[Array]:
    rx, zx, nx = np.split(gx, 3, axis=-1)
    rh, zh, nh = np.split(gh, 3, axis=-1)
    z = _sigmoid(zx + zh)
    n = np.tanh(nx + _sigmoid(rx + rh) * nh)
    return (np.asarray(n + z * (state[0] - n), dtype=gx.dtype),)


def _tanh_step(gx: Array, gh: Array, state: Sequence[Array]) -> tuple[Array]:
    return (np.tanh(gx + gh),)


def _relu_step(gx: Array, gh: Array, state: Sequence[Array]) -> tuple[Array]:
    return (np.maximum(gx + gh, 0),)


def _lstm_expand(b: TorchBuilder, gx: Value, gh: Value, state: Sequence[Value]) -> list[Value]:
    i, f, g, o = b.chunk(b.add(gx, gh), 4, gx.rank - 1)
    c = b.add(b.mul(b.sigmoid(f), state[1]), b.mul(b.sigmoid(i), b.tanh(g)))
    return [b.mul(b.sigmoid(o), b.tanh(c)), c]


def _gru_expand(b: TorchBuilder, gx: Value, gh: Value, state: Sequence[Value]) -> list[Value]:
    rx, zx, nx = b.chunk(gx, 3, gx.rank - 1)
    rh, zh, nh = b.chunk(gh, 3, gh.rank - 1)
    z = b.sigmoid(b.add(zx, zh))
    n = b.tanh(b.add(nx, b.mul(b.sigmoid(b.add(rx, rh)), nh)))
    return [b.add(n, b.mul(z, b.sub(state[0], n)))]


def _tanh_expand(b: TorchBuilder, gx: Value, gh: Value, state: Sequence[Value]) -> list[Value]:
    return [b.tanh(b.add(gx, gh))]


def _relu_expand(b: TorchBuilder, gx: Value, gh: Value, state: Sequence[Value]) -> list[Value]:
    return [b.relu(b.add(gx, gh))]


_KINDS: dict[str, tuple[int, int, Callable[..., Any], Callable[..., Any]]] = {
    "lstm": (4, 2, _lstm_step, _lstm_expand),
    "gru": (3, 1, _gru_step, _gru_expand),
    "rnn_tanh": (1, 1, _tanh_step, _tanh_expand),
    "rnn_relu": (1, 1, _relu_step, _relu_expand),
}
"""Gates, state tensors, and the step in numpy and in ops."""


def _check_cell(kind: str, gates: int, x: TensorInfo, h: TensorInfo, w_ih: TensorInfo, w_hh: TensorInfo) -> None:
    if isinstance(x.sizes[-1], int) and isinstance(w_ih.sizes[1], int) and x.sizes[-1] != w_ih.sizes[1]:
        raise RuntimeFault(f"input has inconsistent input_size: got {x.sizes[-1]} expected {w_ih.sizes[1]}")
    if isinstance(h.sizes[-1], int) and isinstance(w_hh.sizes[1], int) and h.sizes[-1] != w_hh.sizes[1]:
        raise RuntimeFault(f"hidden0 has inconsistent hidden_size: got {h.sizes[-1]}, expected {w_hh.sizes[1]}")


# ------ cells


def _cell_arrays(gates: int, states: int) -> tuple[list[Array], list[Array]]:
    random = np.random.default_rng(gates)

    def normal(*sizes: int) -> Array:
        return random.standard_normal(sizes).astype(np.float32)

    return [normal(2, 4) for _ in range(states)], [
        normal(2, 3), normal(4 * gates, 3), normal(4 * gates, 4), normal(4 * gates), normal(4 * gates),
    ]  # fmt: skip


def _declare_cell(kind: str) -> None:
    """lstm_cell, gru_cell, rnn_tanh_cell, rnn_relu_cell."""
    gates, states, step, expand_step = _KINDS[kind]
    several = kind == "lstm"

    def samples() -> Iterable[Sample]:
        hidden, (x, w_ih, w_hh, b_ih, b_hh) = _cell_arrays(gates, states)
        state: Any = hidden if several else hidden[0]
        yield sample(x, state, w_ih, w_hh, b_ih, b_hh)
        yield sample(x, state, w_ih, w_hh, None, None)

    def infer(x: TensorInfo, hx: Any, w_ih: TensorInfo, w_hh: TensorInfo, b_ih: Any, b_hh: Any) -> Any:
        state = hx if several else [hx]
        _check_cell(kind, gates, x, state[0], w_ih, w_hh)
        return (state[0], state[1]) if several else state[0]

    def reference(x: Array, hx: Any, w_ih: Array, w_hh: Array, b_ih: Any, b_hh: Any) -> Any:
        state = hx if several else [hx]
        with np.errstate(over="ignore"):
            result = step(_affine(x, w_ih, b_ih), _affine(state[0], w_hh, b_hh), state)
        return result if several else result[0]

    def expand(b: TorchBuilder, x: Value, hx: Any, w_ih: Value, w_hh: Value, b_ih: Any, b_hh: Any) -> Any:
        state = hx if several else [hx]
        result = expand_step(b, b.linear(x, w_ih, b_ih), b.linear(state[0], w_hh, b_hh), state)
        return tuple(result) if several else result[0]

    rules: dict[str, Any] = {"infer": infer, "reference": reference, "expand": expand, "samples": samples}
    cls = type(f"{kind}_cell", (), {k: staticmethod(v) for k, v in rules.items()})
    cls.__doc__ = f"One step of {kind} on a batch: x [N, input], state [N, hidden], weights [gates*hidden, ...]."
    result, hx = ("(Tensor, Tensor)", "Tensor[] hx") if several else ("Tensor", "Tensor hx")
    op(
        f"aten::{kind}_cell(Tensor input, {hx}, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, Tensor? b_hh=None)"
        f" -> {result}",
        torch_mlir=False,
    )(cls)


# ------ layers


def _layer_parts(
    params: Sequence[Any], has_biases: bool, num_layers: int, bidirectional: bool
) -> list[list[tuple[Any, Any, Any, Any]]]:
    """Per layer and direction: w_ih, w_hh, b_ih, b_hh."""
    each = 4 if has_biases else 2
    directions = 2 if bidirectional else 1
    if len(params) != each * directions * num_layers:
        raise RuntimeFault(
            f"got {len(params)} weights for {num_layers} layers of {directions} directions with {each} each "
            "(LSTM projections are not supported)"
        )
    flat = [tuple(params[i : i + each]) + (None,) * (4 - each) for i in range(0, len(params), each)]
    return [flat[i : i + directions] for i in range(0, len(flat), directions)]


def _declare_layer(kind: str) -> None:
    """lstm.input, gru.input, rnn_tanh.input, rnn_relu.input: all layers and directions over a whole sequence."""
    _, states, step, expand_step = _KINDS[kind]
    several = kind == "lstm"
    gates = _KINDS[kind][0]

    def samples() -> Iterable[Sample]:
        random = np.random.default_rng(0)

        def normal(*sizes: int) -> Array:
            return (random.standard_normal(sizes) / 2).astype(np.float32)

        for layers, directions, batch_first in ((1, 1, False), (2, 2, True)):
            x = normal(2, 5, 3) if batch_first else normal(5, 2, 3)
            params: list[Array] = []
            for layer in range(layers):
                for _ in range(directions):
                    size = 3 if layer == 0 else 4 * directions
                    params += [normal(4 * gates, size), normal(4 * gates, 4), normal(4 * gates), normal(4 * gates)]
            hidden = [normal(layers * directions, 2, 4) for _ in range(states)]
            state: Any = hidden if several else hidden[0]
            yield sample(x, state, params, True, layers, 0.0, False, directions == 2, batch_first)

    def infer(
        x: TensorInfo, hx: Any, params: list[TensorInfo], has_biases: bool, num_layers: int, dropout: float,
        train: bool, bidirectional: bool, batch_first: bool,
    ) -> Any:  # fmt: skip
        _layer_parts(params, has_biases, num_layers, bidirectional)
        hidden = params[1].sizes[1]
        out = x.with_sizes([*x.sizes[:-1], hidden * (2 if bidirectional else 1)])
        state = hx if several else [hx]
        if isinstance(x.sizes[-1], int) and x.sizes[-1] != params[0].sizes[1]:
            raise RuntimeFault(
                f"input.size(-1) must be equal to input_size. Expected {params[0].sizes[1]}, got {x.sizes[-1]}"
            )
        return (out, *state)

    def reference(
        x: Array, hx: Any, params: list[Array], has_biases: bool, num_layers: int, dropout: float, train: bool,
        bidirectional: bool, batch_first: bool,
    ) -> Any:  # fmt: skip
        state = hx if several else [hx]
        x = x.swapaxes(0, 1) if batch_first else x
        finals: list[list[Array]] = [[] for _ in range(states)]
        number = 0
        for layer in _layer_parts(params, has_biases, num_layers, bidirectional):
            outputs = []
            for direction, (w_ih, w_hh, b_ih, b_hh) in enumerate(layer):
                current = [s[number] for s in state]
                gates_x = _affine(x, w_ih, b_ih)
                steps: list[Array] = [np.empty(0)] * len(x)
                for t in range(len(x)) if direction == 0 else reversed(range(len(x))):
                    current = list(step(gates_x[t], _affine(current[0], w_hh, b_hh), current))
                    steps[t] = current[0]
                outputs.append(np.stack(steps) if steps else np.zeros((0, *current[0].shape), x.dtype))
                for final, value in zip(finals, current, strict=True):
                    final.append(value)
                number += 1
            x = np.concatenate(outputs, axis=-1)
        x = x.swapaxes(0, 1) if batch_first else x
        return (np.ascontiguousarray(x), *(np.stack(f) for f in finals))

    def expand(
        b: TorchBuilder, x: Value, hx: Any, params: list[Value], has_biases: bool, num_layers: int, dropout: float,
        train: bool, bidirectional: bool, batch_first: bool,
    ) -> Any:  # fmt: skip
        if train and dropout:
            from stepwell.dialects.diagnostics import UnsupportedError

            raise UnsupportedError(f"aten::{kind} with dropout in training mode needs random numbers")
        state = hx if several else [hx]
        x = b.transpose(x, 0, 1) if batch_first else x
        finals: list[list[Value]] = [[] for _ in range(states)]
        number = 0
        for layer in _layer_parts(params, has_biases, num_layers, bidirectional):
            outputs = []
            for direction, weights in enumerate(layer):
                start = [b.select(s, 0, number) for s in state]
                out, ends = _sequence(b, expand_step, x, start, weights, reverse=direction == 1)
                outputs.append(out)
                for final, value in zip(finals, ends, strict=True):
                    final.append(value)
                number += 1
            x = outputs[0] if len(outputs) == 1 else b.cat(outputs, 2)
        x = b.transpose(x, 0, 1) if batch_first else x
        return (x, *(b.stack(f, 0) for f in finals))

    rules: dict[str, Any] = {"infer": infer, "reference": reference, "expand": expand, "samples": samples}
    cls = type(f"{kind}_layer", (), {k: staticmethod(v) for k, v in rules.items()})
    cls.__doc__ = f"Stacked {kind} over a sequence [T, N, input] (or [N, T, input] if batch_first)."
    hx, result = ("Tensor[] hx", "(Tensor, Tensor, Tensor)") if several else ("Tensor hx", "(Tensor, Tensor)")
    op(
        f"aten::{kind}.input(Tensor input, {hx}, Tensor[] params, bool has_biases, int num_layers, float dropout, "
        f"bool train, bool bidirectional, bool batch_first) -> {result}",
        torch_mlir=False,
    )(cls)


def _sequence(
    b: TorchBuilder, step: Callable[..., Any], x: Value, start: list[Value], weights: Sequence[Any], *, reverse: bool
) -> tuple[Value, list[Value]]:
    """One direction of one layer: outputs [T, N, hidden] and the last state.

    gates = x @ w_ih.T + b_ih          (all steps at once)
    for t: state = step(gates[t], h @ w_hh.T + b_hh, state); out[t] = h
    """
    w_ih, w_hh, b_ih, b_hh = weights
    gates = b.linear(x, w_ih, b_ih)
    length, hidden = x.sizes[0], w_hh.sizes[1]
    out = b.empty([length, x.sizes[1], hidden], dtype=x.dtype)

    def body(inner: TorchBuilder, k: Dim, values: list[Value]) -> list[Value]:
        *state, written = values
        t = length - 1 - k if reverse else k
        now = inner.select(gates, 0, t)
        state = step(inner, now, inner.linear(state[0], w_hh, b_hh), state)
        return [*state, inner.select_scatter(written, state[0], 0, t)]

    *ends, out = b.loop(length, [*start, out], body)
    return out, ends


for _kind in _KINDS:
    _declare_cell(_kind)
    _declare_layer(_kind)
