"""The blocks that the architectures of `hesrl.bench.model_zoo` are made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _normed(n_in: int, n_out: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    filters = nn.Conv2d(n_in, n_out, size, stride, size // 2, groups=groups, bias=False)
    return [filters, nn.BatchNorm2d(n_out)]


def _mlp(width: int, wide: int, approximate: str = "none") -> nn.Module:
    return nn.Sequential(nn.Linear(width, wide), nn.GELU(approximate), nn.Linear(wide, width))


class Residual(nn.Module):
    """``relu(x + f(x))`` with two convolutions and batch norms in f."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_normed(n_in, n_out, 3, stride), nn.ReLU(inplace=True), *_normed(n_out, n_out, 3)
        )
        same = stride == 1 and n_in == n_out
        self.skip = nn.Identity() if same else nn.Sequential(*_normed(n_in, n_out, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        return F.relu(self.body(x) + self.skip(x))


class Depthwise(nn.Module):
    """An inverted bottleneck of MobileNetV3: expand, filter by channel, weigh channels, project."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        wide = 4 * n_in
        self.body = nn.Sequential(
            *_normed(n_in, wide, 1),
            nn.ReLU6(),
            *_normed(wide, wide, 3, stride, wide),
            nn.Hardswish(),
        )
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(wide, wide // 4, 1),
            nn.ReLU(),
            nn.Conv2d(wide // 4, wide, 1),
            nn.Hardsigmoid(),
        )
        self.project = nn.Sequential(*_normed(wide, n_out, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        x = self.body(x)
        return self.project(x * self.weigh(x))


class DenseBlock(nn.Module):
    """Layers each of which adds channels to what all before it made."""

    def __init__(self, n_in: int, growth: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(4, n), nn.SiLU(), nn.Conv2d(n, growth, 3, padding=1))
            for n in range(n_in, n_in + depth * growth, growth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C + depth · growth, H, W)."""
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


class Next(nn.Module):
    """A block of ConvNeXt."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.filter = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.mlp = _mlp(width, 4 * width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        y = self.scale * self.mlp(self.norm(self.filter(x).permute(0, 2, 3, 1)))
        return x + y.permute(0, 3, 1, 2)


class Unet(nn.Module):
    """Two levels down and up again, with connections across."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = self._block(3, width)
        self.down = self._block(width, 2 * width)
        self.middle = self._block(2 * width, 4 * width)
        self.up = self._block(6 * width, 2 * width)
        self.leave = self._block(3 * width, width)
        self.last = nn.Conv2d(width, 3, 1)

    @staticmethod
    def _block(n_in: int, n_out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, padding=1),
            nn.GroupNorm(8, n_out),
            nn.SiLU(),
            nn.Conv2d(n_out, n_out, 3, padding=1),
            nn.SiLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to images."""
        high = self.enter(x)
        low = self.down(F.max_pool2d(high, 2))
        y = F.interpolate(self.middle(F.avg_pool2d(low, 2)), scale_factor=2.0)
        y = self.up(torch.cat([y, low], 1))
        y = F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.last(self.leave(torch.cat([y, high], 1)))


class Block(nn.Module):
    """A transformer block with the norms first, as GPT-2 and ViT have it."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = _mlp(width, 4 * width, "tanh")

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, E) to the same shape."""
        n, length, width = x.shape
        split = self.qkv(self.norm_1(x)).view(n, length, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(y.transpose(1, 2).reshape(n, length, width))
        return x + self.mlp(self.norm_2(x))


class Vit(nn.Module):
    """Images as patches of 4 × 4 with a class token."""

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 65, width))
        self.blocks = nn.Sequential(*(Block(width, heads, False) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, 32, 32) to logits (N, 10)."""
        x = self.patches(x).flatten(2).mT
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x)[:, 0]))


class Language(nn.Module):
    """A small GPT with the same weight for tokens in and out."""

    def __init__(self, tokens: int, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(tokens, width), nn.Embedding(64, width)
        self.blocks = nn.Sequential(*(Block(width, heads, True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (N, L) to logits (N, L, tokens)."""
        x = self.embedding(tokens) + self.positions(torch.arange(tokens.shape[1]))
        return F.linear(self.norm(self.blocks(x)), self.embedding.weight)


class Decoder(nn.Module):
    """The decoder of torch.nn, with attention to a memory."""

    def __init__(self, tokens: int, width: int, depth: int) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(tokens, width), nn.Linear(width, tokens)
        layer = nn.TransformerDecoderLayer(width, 4, 4 * width, 0.0, batch_first=True)
        self.layers = nn.TransformerDecoder(layer, depth)

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """Map tokens (N, L) to logits (N, L, tokens), given a memory (N, S, E)."""
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        y = self.layers(self.embedding(tokens), memory, tgt_mask=mask, tgt_is_causal=True)
        return self.head(y)


class Unrolled(nn.Module):
    """A recurrent cell that takes a sequence step by step."""

    def __init__(self, cell: nn.LSTMCell, width: int) -> None:
        super().__init__()
        self.cell, self.head = cell, nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map sequences (N, T, in) to logits (N, 10)."""
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        assert state is not None
        return self.head(state[0])


class Mixer(nn.Module):
    """MLPs over the patches and over the channels in turn."""

    def __init__(self, width: int, patches: int, depth: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth + 1))
        sizes = [(patches, 2 * patches), (width, 4 * width)] * depth
        self.mlps = nn.ModuleList(_mlp(n, wide) for n, wide in sizes)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, 32, 32) to logits (N, 10)."""
        x = self.patches(x).flatten(2).mT
        for n, mlp in enumerate(self.mlps):
            y = self.norms[n](x)
            x = x + (mlp(y) if n % 2 else mlp(y.mT).mT)
        return self.head(self.norms[-1](x).mean(1))


class Graph(nn.Module):
    """Message passing: ``x_t + Σ_{s → t} f(x_s, x_t)``."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.messages = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(depth)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.head = nn.Linear(width, 7)

    def forward(self, x: Tensor, sources: Tensor, targets: Tensor) -> Tensor:
        """Map nodes (V, E) and edges, given by two numbers (U), to logits (V, 7)."""
        for message, norm in zip(self.messages, self.norms, strict=True):
            along = message(torch.cat([x[sources], x[targets]], 1))
            x = norm(x + torch.zeros_like(x).index_add(0, targets, along))
        return self.head(x)
