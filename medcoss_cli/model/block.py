"""The transformer block of the encoder and of the decoders.

The same network as timm's `Block`, with the same parameter names, in the few lines that are used here. Importing timm
imports torchvision and with it torch's compiler, which takes longer than torch itself, at the start of every command.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Pre-norm attention and MLP, each added to its input (Dosovitskiy et al. 2021).

    Args:
        layer_scale: what the factors of both branches begin with (Touvron et al. 2021); None: no such factors.
        norm_eps: of both layer norms.
    """

    def __init__(
        self, width: int, heads: int, mlp_ratio: float, *, layer_scale: float | None = None, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attn = Attention(width, heads)
        self.ls1 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = MLP(width, int(width * mlp_ratio))
        self.ls2 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None, factors: Tensor | None = None) -> Tensor:
        """Tokens (N, L, D) to tokens.

        Args:
            attn_mask: bool, to be broadcast to (N, heads, L, L), False where a query does not attend to a key.
            factors: (N, 2) of both branches, from `drop_path`; None: 1.
        """
        attended = self.ls1(self.attn(self.norm1(tokens), attn_mask))
        tokens = tokens + (attended if factors is None else attended * factors[:, 0, None, None].to(attended.dtype))
        mapped = self.ls2(self.mlp(self.norm2(tokens)))
        tokens = tokens + (mapped if factors is None else mapped * factors[:, 1, None, None].to(mapped.dtype))
        return tokens


class Attention(nn.Module):
    """Attention of several heads, with queries, keys and values from one matrix."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """(N, L, D) to (N, L, D)."""
        n, length, width = tokens.shape
        qkv = self.qkv(tokens).reshape(n, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (N, heads, L, D / heads) each
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(n, length, width))
        return projected


class MLP(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        projected: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return projected


class LayerScale(nn.Module):
    """A factor for each channel."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), float(start)))

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return tokens * self.gamma


def drop_path(draws: Tensor, probability: float) -> Tensor:
    """Factors of branches in training: 0 leaves one out, with this probability, the others are scaled up (Huang et al. 2016).

    Args:
        draws: (N, depth, 2), uniform in [0, 1): a draw for each sample, block and branch.
    """
    return (draws >= probability).float() / (1 - probability)
