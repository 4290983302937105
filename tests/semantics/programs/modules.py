"""Modules: state, buffers, submodules, several methods."""

from typing import Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from stepwell_tests_semantics.table import call, case, t
from torch import Tensor, nn


@case([t(2, 3)], [t(4, 3)], [t(7, 3)], compilations=2)
class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 5)

    def forward(self, x: Tensor):
        return F.relu(self.inner(x))


@case([t(2)], [t(2)], [t(2)])
class CountsCalls(nn.Module):
    def __init__(self):
        super().__init__()
        self.count = 0
        self.scale = 0.5

    def forward(self, x: Tensor):
        self.count += 1
        self.scale *= 2
        return x * self.count * self.scale


@case([t(2), 8], [t(2), 16], [t(2), 8], [t(2), 8])
class StateThatEqualsAConstant(nn.Module):
    """The number 16 is what two attributes happen to hold; only one of them changes."""

    def __init__(self):
        super().__init__()
        self.last = 16
        self.rates = [8, 16]

    def forward(self, x: Tensor, rate: int):
        changed = self.last != rate
        self.last = rate
        return x * self.rates[1] + self.rates[0], changed


@case([t(2)], [t(2)], [t(2)])
class BufferInPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(2))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor):
        self.total += x
        self.calls.add_(1)
        return self.total * 2, self.calls


@case([t(2)], [t(2)], [t(2)])
class BufferAssigned(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("state", torch.zeros(2))

    def forward(self, x: Tensor):
        self.state = self.state * 0.5 + x
        return self.state + 1


@case([t(2)], [t(2)], call(method="reset"), [t(2)], [t(3)])
class NoneThenTensor(nn.Module):
    state: Optional[Tensor]

    def __init__(self):
        super().__init__()
        self.state = None

    @torch.jit.export
    def reset(self):
        self.state = None

    def forward(self, x: Tensor):
        state = self.state
        if state is None or state.size(0) != x.size(0):
            state = torch.zeros_like(x)
        state = state + x
        self.state = state
        return state * 2


@case([t(2)], [t(2)], [t(2)], dynamic="lists of the module grow with every call")
class KeepsList(nn.Module):
    seen: List[float]
    sizes: List[int]

    def __init__(self):
        super().__init__()
        self.seen = []
        self.sizes = [0]

    def forward(self, x: Tensor):
        self.seen.append(float(x.sum()))
        self.sizes.append(x.size(0))
        return len(self.seen), self.seen[-1]


@case(
    call(method="seen"), [t(2)], call(method="seen"), [t(2)], call(method="seen"), [t(2)],
    dynamic="a growing list of tuples",
)  # fmt: skip
class InterpretedMethodThatWrites(nn.Module):
    """What other methods have compiled with the buffer's and the list's first contents is not used again."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(2))
        self.names = ["a"]

    @torch.jit.export
    def seen(self):
        return self.total * 2, len(self.names)

    def forward(self, x: Tensor):
        pairs: List[Tuple[int, float]] = []
        for i in range(x.size(0)):
            pairs.append((i, float(x[i])))
        self.total += x
        self.names.append("b")
        return self.total, len(pairs)


@case([t(2)], [t(2)], [t(2)], dynamic="a list of the module grows")
class KeepsTensors(nn.Module):
    history: List[Tensor]

    def __init__(self):
        super().__init__()
        self.history = []

    def forward(self, x: Tensor):
        self.history.append(x * 2)
        if len(self.history) > 2:
            self.history.pop(0)
        return torch.stack(self.history).sum(0)


class Cell(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("memory", torch.zeros(size))
        self.steps = 0
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor):
        self.steps += 1
        self.memory = self.memory * 0.9 + x * self.weight
        return self.memory


@case([t(2)], [t(2)])
class SubmodulesWithState(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = Cell(2)
        self.b = Cell(2)

    def forward(self, x: Tensor):
        y = self.a(x)
        y = self.a(y)
        z = self.b(y)
        return y + z, self.a.steps


@case([t(2)], [t(2)], script=True)
class SharedSubmodule(nn.Module):
    """torch.jit.script makes two modules of the one, so that archives hold two."""

    def __init__(self):
        super().__init__()
        self.a = Cell(2)
        self.b = self.a

    def forward(self, x: Tensor):
        return self.a(x) + self.b(x)


@case([t(2)], call(3, method="set_scale"), [t(2)], call(method="get"))
class SeveralMethods(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = 1
        self.register_buffer("last", torch.zeros(2))

    @torch.jit.export
    def set_scale(self, n: int):
        self.scale = n

    @torch.jit.export
    def get(self):
        return self.last, self.scale

    def forward(self, x: Tensor):
        self.last = x * self.scale
        return self.last + 1


@case([t(2, 4)], [t(3, 4)])
class ModuleList(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.named = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Tanh()})

    def forward(self, x: Tensor):
        for i, layer in enumerate(self.layers):
            x = layer(x) * (i + 1)
        for name, act in self.named.items():
            x = act(x)
        return x + len(self.layers)


@case([t(1, 3, 8, 8)], [t(2, 3, 8, 8)], [t(5, 3, 8, 8)], tolerance=1e-4, compilations=3)
class SmallConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3, stride=2),
            nn.GELU(),
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor):
        x = self.features(x)
        x = F.adaptive_avg_pool2d(x, (1, 1)).flatten(1)
        return F.log_softmax(self.head(x), dim=1)


@case([t(2, 5, 4)], [t(3, 5, 4)], [t(3, 7, 4)], tolerance=1e-4)
class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 6, batch_first=True)
        self.gru = nn.GRU(6, 3)

    def forward(self, x: Tensor):
        y, (h, c) = self.rnn(x)
        z, g = self.gru(y)
        return z, h, c, g


@case([t(2, 4)], [t(2, 4), (t(2, 6), t(2, 6))], tolerance=1e-4)
class CellLoop(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(4, 6)

    def forward(self, x: Tensor, state: Optional[Tuple[Tensor, Tensor]] = None):
        if state is None:
            state = (torch.zeros(x.size(0), 6), torch.zeros(x.size(0), 6))
        h, c = state
        for _ in range(3):
            h, c = self.cell(x, (h, c))
        return h, c


@case([torch.tensor([[1, 2, 0]])], [torch.tensor([[3, 3, 3], [1, 0, 2]])], tolerance=1e-4)
class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 8, padding_idx=0)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.feed = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, 8))

    def forward(self, tokens: Tensor):
        x = self.embedding(tokens)
        a, w = self.attention(x, x, x)
        x = self.norm(x + a)
        return x + self.feed(x), w


@case([t(2, 3)], [t(2, 3)])
class BatchNormTraining(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.norm.train()

    def eval(self):
        return self

    def forward(self, x: Tensor):
        return self.norm(x)


@case([t(2), t(2)], call(t(2), y=t(2)), call(x=t(2), y=t(2), k=3), call(t(2), k=1, y=t(2)))
class Keywords(nn.Module):
    def forward(self, x: Tensor, y: Tensor, k: int = 2, mode: str = "sum"):
        z = x * k + y
        return z.sum() if mode == "sum" else z


@case([t(2)], [t(4)])
class DictOutput(nn.Module):
    def __init__(self):
        super().__init__()
        self.names = ["a", "b"]
        self.sizes = (1, 2.5)
        self.table: Dict[str, int] = {"x": 3}

    def forward(self, x: Tensor) -> Dict[str, Tensor]:
        out: Dict[str, Tensor] = {}
        for i, name in enumerate(self.names):
            out[name] = x * i + self.table["x"] + self.sizes[0]
        return out


@case([t(2)], [t(2)], dynamic="a dict of the module grows")
class KeepsDict(nn.Module):
    cache: Dict[str, Tensor]

    def __init__(self):
        super().__init__()
        self.cache = {}
        self.hits = 0

    def forward(self, x: Tensor):
        if "x" in self.cache:
            self.hits += 1
            return self.cache["x"]
        self.cache["x"] = x * 2
        return x


@case([t(3)], [t(3)], [t(3)])
class RingBuffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("ring", torch.zeros(2, 3))
        self.position = 0

    def forward(self, x: Tensor):
        self.ring[self.position] = x
        self.position = (self.position + 1) % 2
        return self.ring.sum(0)


@case([t(1, 2, 6)], [t(1, 2, 6)], [t(1, 2, 4)], tolerance=1e-4)
class StreamingConv(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 3)
        self.register_buffer("left", torch.zeros(1, 2, 2))

    def forward(self, x: Tensor):
        padded = torch.cat([self.left, x], 2)
        self.left = padded[:, :, -2:]
        return self.conv(padded)


@case([t(2)], [t(2)])
class StateAliasesOutput(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("state", torch.zeros(2))

    def forward(self, x: Tensor):
        self.state += x
        y = self.state
        y *= 2
        return y


@case([t(2)], [t(2)])
class RaisesAfterChange(nn.Module):
    def __init__(self):
        super().__init__()
        self.count = 0

    def forward(self, x: Tensor):
        if self.count > 0:
            raise RuntimeError("only once")
        self.count += 1
        return x


@case([t(3)], [t(3)])
class TrainingFlag(nn.Module):
    def forward(self, x: Tensor):
        if self.training:
            return x * 100
        return F.dropout(x, 0.5, self.training)


@case([t(2), 3], [t(2), 1])
class TensorsFromInts(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.arange(4.0))

    def forward(self, x: Tensor, n: int):
        y = torch.tensor([n, 2, 3])
        z = torch.tensor(float(n))
        return self.weight[:n] * 2, y, z + x, torch.full([2], n), torch.zeros(n), torch.as_tensor(n)


@case([t(2)], [t(2)])
class Property(nn.Module):
    def __init__(self):
        super().__init__()
        self._scale = 2

    @property
    def scale(self) -> int:
        return self._scale + 1

    @torch.jit.export
    def helper(self, x: Tensor) -> Tensor:
        return x * self.scale

    def forward(self, x: Tensor):
        self._scale += 1
        return self.helper(x)


@case([t(2, 3)], [t(4, 3)], traced=True)
class Traced(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 3)

    def forward(self, x):
        y = torch.tanh(self.a(x))
        y = y.view(y.size(0), -1) * 2
        return y[:, 1:], (y.sum(1), x)


@case([t(1, 1, 6, 6)], [t(2, 1, 6, 6)], traced=True, tolerance=1e-4)
class TracedConv(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.up = nn.ConvTranspose2d(2, 1, 2, stride=2)

    def forward(self, x):
        y = F.leaky_relu(self.conv(x), 0.1)
        y = F.interpolate(y, scale_factor=2.0, mode="nearest")
        y[:, 0] = 0
        return self.up(y).mean(dim=(2, 3))


@case(call(method="total"), [t(2)], call(method="total"), [t(2)], call(method="total"))
class BufferReadElsewhere(nn.Module):
    """A method that was compiled before another one wrote the buffer sees what it wrote."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(2))

    @torch.jit.export
    def total(self):
        return self.seen * 10

    def forward(self, x: Tensor):
        self.seen += x
        return self.seen.sum()


@case([t(2), False], [t(2), True], [t(2), False], [t(2), True])
class StateOfOnePath(nn.Module):
    """State that the first call does not touch is still state."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def forward(self, x: Tensor, counts: bool):
        if counts:
            self.count += 1
            return x * self.count
        return x


@case([t(4, 3)], [t(6, 3)], [t(9, 3)], tolerance=1e-4)
class BatchNormOfImages(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3, momentum=0.3)

    def eval(self):
        return self.train()

    def forward(self, x: Tensor):
        return self.norm(x), self.norm(x[:, :, None] * 2)
