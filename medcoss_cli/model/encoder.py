"""The one ViT that all modalities share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Generator, Tensor, nn

from medcoss_cli.model.block import Block
from medcoss_cli.model.pooling import with_cls


@dataclass(frozen=True)
class EncoderShape:
    """Dimensions of the encoder: ViT-B is 768 x 12 with 12 heads, as in the paper."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    layer_scale: float | None = None


def blocks(
    width: int, depth: int, heads: int, mlp_ratio: float, layer_scale: float | None, norm_eps: float
) -> nn.ModuleList:
    """Pre-norm transformer blocks."""
    return nn.ModuleList(
        Block(width, heads, mlp_ratio, layer_scale=layer_scale, norm_eps=norm_eps) for _ in range(depth)
    )


class TransformerEncoder(nn.Module):
    """Blocks and a cls token; there is no final norm, as in the authors' checkpoints."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.cls = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.blocks = blocks(shape.width, shape.depth, shape.heads, shape.mlp_ratio, shape.layer_scale, norm_eps=1e-5)

    def forward(
        self,
        tokens: Tensor,
        valid: Tensor | None = None,
        *,
        cls: bool = True,
        causal: bool = False,
        factors: Tensor | None = None,
    ) -> Tensor:
        """Tokens to features.

        Args:
            tokens: (N, L, D).
            valid: (N, L) bool, False at padding, which no token attends to; None if all are real.
            cls: put the cls token in front (images), after masking, without a position.
            causal: token q attends to tokens 0..q only (imported text weights).
            factors: (N, depth, 2) of the blocks' branches, from `drop_path`; None: 1.

        Returns: (N, L + 1, D) with cls first, or (N, L, D).
        """
        if cls:
            tokens = torch.cat([self.cls.expand(tokens.shape[0], -1, -1).to(tokens.dtype), tokens], dim=1)
            valid = with_cls(valid, cls)
        mask = None if valid is None else valid[:, None, None, :]  # (N, 1, 1, L): over heads and queries
        if causal:
            past = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=tokens.device).tril()
            mask = past if mask is None else mask & past
        for number, block in enumerate(self.blocks):
            tokens = block(tokens, attn_mask=mask, factors=None if factors is None else factors[:, number])
        return tokens

    def hidden_states(self, tokens: Tensor, after: Sequence[int], factors: Tensor | None = None) -> list[Tensor]:
        """Features (N, L, D) after each of these blocks, counted from 1, without a cls token; for segmentation."""
        states = []
        for number, block in enumerate(self.blocks, 1):
            tokens = block(tokens, factors=None if factors is None else factors[:, number - 1])
            states.append(tokens)
            if number >= max(after):
                break
        return [states[number - 1] for number in after]


def initialise(module: nn.Module, generator: Generator) -> None:
    """Draw all weights anew from `generator`: linear xavier-uniform, norms 1 and 0, embeddings N(0, 1), tokens N(0, 0.02).

    Tables of positions are embeddings.

    LayerScale keeps the constant it was built with.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight, generator=generator)
            if part.bias is not None:
                nn.init.zeros_(cast(Tensor, part.bias))
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, generator=generator)
        for name, parameter in part.named_parameters(recurse=False):
            if name in ("cls", "mask_token"):
                nn.init.normal_(parameter, std=0.02, generator=generator)
            elif name == "table":
                nn.init.normal_(parameter, generator=generator)
