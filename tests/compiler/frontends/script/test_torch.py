"""Scripted code where torch is installed: its names, its tensors, its modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepwell

torch = pytest.importorskip("torch")
F, nn = torch.nn.functional, torch.nn
pytestmark = pytest.mark.oracle


def mixture(x: torch.Tensor, n: int = 2) -> torch.Tensor:
    y = torch.relu(x) + F.softmax(x, dim=1) + x.to(torch.float64).sum()
    return y.masked_fill(x > 0, float(n)) * n


def tensor(*sizes: int) -> Any:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(len(sizes)))


def test_torch_names_and_tensors() -> None:
    scripted, x = stepwell.script(mixture), tensor(2, 3)
    result = scripted(x)
    assert isinstance(result, torch.Tensor)
    torch.testing.assert_close(result, torch.jit.script(mixture)(x))
    assert isinstance(scripted(x.numpy()), np.ndarray)
    torch.testing.assert_close(scripted(x.T.contiguous().T, n=3), mixture(x, 3))
    assert not scripted(x.requires_grad_(True)).requires_grad
    assert scripted(x.detach().bfloat16()).dtype == mixture(x.bfloat16()).dtype


@pytest.mark.parametrize("make", [lambda: torch.empty(2, 3, device="meta"), lambda: torch.eye(3).to_sparse()])
def test_tensors_elsewhere_are_refused_by_name(make: Any) -> None:
    with pytest.raises(stepwell.ArgumentError, match="takes a Tensor as argument 'x', not a float32") as caught:
        stepwell.script(mixture)(make())
    assert caught.value.help == "pass a dense tensor on the CPU: x.cpu().to_dense()"


class Recurrent(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, (h, c) = self.lstm(x)
        return y.sum(1) + h[0] * c[0]


def networks() -> dict[str, tuple[Any, Any]]:
    torch.manual_seed(0)
    return {
        "mlp": (nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3)), (5, 6)),
        "convolutions": (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)), (2, 3, 10, 10)),
        "lstm": (Recurrent(), (2, 6, 4)),
        "encoder": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8)),
    }


@pytest.mark.parametrize("name", networks())
def test_a_module_gives_what_torch_gives(name: str) -> None:
    module, sizes = networks()[name]
    module.eval()
    scripted, x = stepwell.script(module), tensor(*sizes)
    with torch.no_grad():
        torch.testing.assert_close(scripted(x), torch.jit.script(module)(x), rtol=1e-4, atol=1e-5)
    assert isinstance(scripted(x.numpy()), np.ndarray)
    for path, parameter in module.named_parameters():
        assert dict(scripted.named_parameters())[path].__array_interface__["data"][0] == parameter.data_ptr()


def test_scripted_and_traced_by_torch() -> None:
    x = tensor(2, 3)
    torch.testing.assert_close(stepwell.script(torch.jit.script(mixture))(x, 2), mixture(x))
    traced = torch.jit.trace(nn.Linear(3, 4), x)
    torch.testing.assert_close(stepwell.script(traced)(x), traced(x).detach())


def test_what_torch_cannot_script_is_told_in_its_words() -> None:
    class Odd(nn.Module):
        def forward(self, x):  # type: ignore[no-untyped-def]
            return sorted(x, key=lambda v: v)

    with pytest.raises(stepwell.CompileError, match=r"torch\.jit cannot script this Odd"):
        stepwell.script(Odd())
