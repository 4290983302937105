"""Transformers: ViT-small, BERT-base and MiniLM, GPT-2, the encoder of Whisper-tiny. None but GPT-2 masks the future."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class Attention(nn.Module):
    """Multi-head self-attention. The names of the four layers are Hugging Face's."""

    def __init__(self, width: int, heads: int, key_bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.value, self.output = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=key_bias)

    def split(self, x: Tensor) -> Tensor:
        """[batch, length, width] to [batch, heads, length, width of a head]."""
        return x.view(x.size(0), x.size(1), self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        y = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.output(y.transpose(1, 2).reshape(x.size(0), x.size(1), -1))


class Layer(nn.Module):
    """An encoder layer; the norms stand before their parts (ViT, Whisper) or after (BERT)."""

    def __init__(self, width: int, heads: int, eps: float, before: bool, key_bias: bool = True) -> None:
        super().__init__()
        self.before = before
        self.attention = Attention(width, heads, key_bias)
        self.norm, self.last_norm = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def feed(self, x: Tensor) -> Tensor:
        """The two linear layers."""
        return self.narrow(nn.functional.gelu(self.wide(x)))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.before:
            x = x + self.attention(self.norm(x), mask)
            return x + self.feed(self.last_norm(x))
        x = self.norm(x + self.attention(x, mask))
        return self.last_norm(x + self.feed(x))


class VisionTransformer(nn.Module):
    """ViT (Dosovitskiy et al., 2020), small as in DeiT: patches of 16, a class token, 1000 classes."""

    def __init__(self, width: int = 384, depth: int = 12, heads: int = 6, side: int = 224) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, 1 + (side // 16) ** 2, width))
        self.layers = nn.ModuleList(Layer(width, heads, 1e-6, before=True) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.size(0), -1, -1), x), 1) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])


class Bert(nn.Module):
    """BERT (Devlin et al., 2018): tokens and a mask of which count. Gives the states and the pooled first one;
    for MiniLM, as sentence-transformers have it, the normalized mean of the states that count."""

    def __init__(
        self, width: int = 768, depth: int = 12, heads: int = 12, words: int = 30522, sentences: bool = False
    ) -> None:
        super().__init__()
        self.sentences = sentences
        self.words, self.positions = nn.Embedding(words, width), nn.Embedding(512, width)
        self.types, self.norm = nn.Embedding(2, width), nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(Layer(width, heads, 1e-12, before=False) for _ in range(depth))
        self.pooler = nn.Identity() if sentences else nn.Linear(width, width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        places = torch.arange(tokens.size(1), device=tokens.device)
        x = self.words(tokens) + self.positions(places) + self.types(torch.zeros_like(tokens))
        x = self.norm(x)
        counts = mask.to(x.dtype)
        hidden = (1.0 - counts)[:, None, None, :] * -10000.0
        for layer in self.layers:
            x = layer(x, hidden)
        if self.sentences:
            weights = counts[:, :, None]
            return nn.functional.normalize((x * weights).sum(1) / weights.sum(1).clamp(min=1e-9), dim=1)
        return x, torch.tanh(self.pooler(x[:, 0]))


class CausalAttention(nn.Module):
    """GPT-2's attention: one layer makes q, k and v; keys and values are appended to those of the past."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.make, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, past: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        made = self.make(x).view(x.size(0), x.size(1), 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = made[0], made[1], made[2]
        if past:
            k, v = torch.cat((past[0], k), 2), torch.cat((past[1], v), 2)
        y = scaled_dot_product_attention(q, k, v, is_causal=not past)
        return self.output(y.transpose(1, 2).reshape(x.size(0), x.size(1), -1)), k, v


class Gpt2(nn.Module):
    """GPT-2 (Radford et al., 2019), small: logits of every token, and keys and values of all layers.

    Without a past it takes a prompt; with one (keys and values of each layer in turn) it takes one token.
    """

    def __init__(self, width: int = 768, depth: int = 12, heads: int = 12, words: int = 50257) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(words, width), nn.Embedding(1024, width)
        nn.init.normal_(self.words.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.attentions = nn.ModuleList(CausalAttention(width, heads) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth + 1))
        self.wide = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(depth))
        self.narrow = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(depth))

    def forward(self, tokens: Tensor, past: list[Tensor]) -> tuple[Tensor, ...]:
        before = past[0].size(2) if past else 0
        x = self.words(tokens) + self.positions(torch.arange(before, before + tokens.size(1), device=tokens.device))
        kept: list[Tensor] = []
        for i, attention in enumerate(self.attentions):
            y, k, v = attention(self.norms[2 * i](x), past[2 * i : 2 * i + 2])
            kept += [k, v]
            x = x + y
            y = nn.functional.gelu(self.wide[i](self.norms[2 * i + 1](x)), approximate="tanh")
            x = x + self.narrow[i](y)
        return (nn.functional.linear(self.norms[-1](x), self.words.weight), *kept)


class Prompt(Gpt2):
    """GPT-2 called with a prompt only."""

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return super().forward(tokens, [])


class WhisperEncoder(nn.Module):
    """The encoder of Whisper (Radford et al., 2022), tiny: 80 mel bands of 30 s, two convolutions, four layers."""

    def __init__(self, width: int = 384, depth: int = 4, heads: int = 6, frames: int = 3000) -> None:
        super().__init__()
        self.first = nn.Conv1d(80, width, 3, padding=1)
        self.second = nn.Conv1d(width, width, 3, 2, 1)
        self.register_buffer("position", _sinusoids(frames // 2, width))
        self.layers = nn.ModuleList(Layer(width, heads, 1e-5, before=True, key_bias=False) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, mel: Tensor) -> Tensor:
        x = nn.functional.gelu(self.second(nn.functional.gelu(self.first(mel))))
        x = x.transpose(1, 2) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


def _sinusoids(length: int, channels: int) -> Tensor:
    rates = torch.exp(-math.log(10000) / (channels // 2 - 1) * torch.arange(channels // 2))
    angles = torch.arange(length)[:, None] * rates[None, :]
    return torch.cat((angles.sin(), angles.cos()), 1)
