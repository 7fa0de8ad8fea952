"""The networks of patch tokenizers and pixel decoders. N samples, L patches, K visible, V values of a patch, D width."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medcoss_cli.model.encoder import blocks
from medcoss_cli.model.losses import masked_pixels, normalise_patches
from medcoss_cli.model.masking import removed
from medcoss_cli.model.patches import grid_of, patchify, unpatchify
from medcoss_cli.model.positions import sincos
from medcoss_cli.plugin import TokenizerSpec


def _take(tokens: Tensor, index: Tensor) -> Tensor:
    """(N, L, V) at index (N, K): (N, K, V)."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


class PatchEmbedding(nn.Module):
    """Projection, position, LayerNorm; removed patches are dropped before they are embedded."""

    def __init__(self, spec: TokenizerSpec, width: int) -> None:
        super().__init__()
        self.spec, self.patch = spec, patch_in(spec)
        self.projection = nn.Linear(math.prod(self.patch) * spec.channels, width)
        self.norm = nn.LayerNorm(width, eps=spec.norm_eps)
        self.table = nn.Parameter(torch.zeros(math.prod(spec.grid or ()), width)) if spec.positions == "table" else None
        self._positions: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}

    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Patches per axis. Raises ValueError if the size is no multiple of the patch."""
        return grid_of(size, self.patch)

    def positions(self, grid: tuple[int, ...], device: torch.device) -> Tensor:
        """(L, D): the table, resized where it meets another grid; or sine-cosine positions, computed once per grid.

        In-plane, those of a larger grid than the encoder was trained on lie between the ones it knows.
        """
        if self.table is not None:
            assert self.spec.grid is not None
            return resized(self.table, self.spec.grid, grid)
        key = (grid, device)
        if key not in self._positions:
            self._positions[key] = sincos(grid, self.norm.weight.shape[0], self.spec.grid).to(device)
        return self._positions[key]

    def embed(self, batch: Tensor, keep: Tensor | None = None) -> Tensor:
        """(N, C, *size) and kept patches (N, K) to (N, K, D); all patches (N, L, D) where keep is None."""
        patches = patchify(batch, self.patch, self.spec.channels)
        position = self.positions(self.grid(tuple(batch.shape[2:])), batch.device)
        if keep is not None:
            patches, position = _take(patches, keep), position[keep]
        tokens: Tensor = self.norm(self.projection(patches) + position)
        return tokens

    def valid(self, batch: Tensor) -> Tensor | None:
        """Every patch is real."""
        return None


def patch_in(spec: TokenizerSpec) -> tuple[int, ...]:
    """Edges of a patch, one per axis. Raises: ValueError for a tokenizer without patches."""
    if spec.patch is None:
        raise ValueError(f"a tokenizer of kind {spec.kind} has no patches")
    return spec.patch


def resized(table: Tensor, trained: tuple[int, ...], grid: tuple[int, ...]) -> Tensor:
    """A table of positions (L, D) of its own grid for another one, by linear interpolation."""
    if grid == trained:
        return table
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(trained)]
    image = table.T.reshape(1, table.shape[1], *trained)
    return F.interpolate(image, grid, mode=mode, align_corners=False).flatten(2)[0].T


class PixelHead(nn.Module):
    """MAE's decoder: mask tokens at removed places, small transformer, pixels of the removed patches.

    Args:
        width: D of the features.
        spec: of the tokenizer whose patches are predicted.
        size: of a sample.
        inner, depth, heads: of the transformer.
        positions: "sincos" or "table" (learned).
    """

    def __init__(
        self,
        width: int,
        spec: TokenizerSpec,
        size: tuple[int, ...],
        *,
        inner: int,
        depth: int,
        heads: int,
        positions: str = "sincos",
    ) -> None:
        super().__init__()
        self.patch, self.channels, self.size = patch_in(spec), spec.channels, size
        grid = grid_of(size, self.patch)
        self.embed = nn.Linear(width, inner)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, inner))
        table = torch.cat([torch.zeros(1, inner), sincos(grid, inner)])
        if positions == "table":
            self.positions = nn.Parameter(torch.zeros_like(table))
        else:
            self.register_buffer("positions", table, persistent=False)
        self.blocks = blocks(inner, depth, heads, 4.0, None, norm_eps=1e-6)
        self.norm = nn.LayerNorm(inner, eps=1e-6)
        self.predict = nn.Linear(inner, math.prod(self.patch) * self.channels)

    def decode(self, features: Tensor, keep: Tensor, at: Tensor) -> Tensor:
        """Features (N, 1 + K, D), cls first, of kept patches (N, K) to normalised pixels (N, M, V) of patches `at` (N, M)."""
        tokens = self.embed(features)
        cls, visible = tokens[:, :1], tokens[:, 1:]
        length, width = self.positions.shape
        full = self.mask_token.to(tokens.dtype).expand(keep.shape[0], length - 1, width)
        full = full.scatter(1, keep.unsqueeze(-1).expand(-1, -1, width), visible)
        tokens = torch.cat([cls, full], dim=1) + self.positions.to(tokens.dtype)
        for block in self.blocks:
            tokens = block(tokens)
        prediction: Tensor = self.predict(self.norm(_take(tokens[:, 1:], at)))
        return prediction

    def loss(self, features: Tensor, keep: Tensor, batch: Tensor) -> tuple[Tensor, int]:
        """Sum over removed patches of the mean squared error, and their number (L_mim)."""
        patches = patchify(batch, self.patch, self.channels)
        hidden = removed(keep, patches.shape[1])
        at = hidden.nonzero()[:, 1].view(patches.shape[0], -1)
        return masked_pixels(self.decode(features, keep, at), _take(patches, at))

    def baseline(self, batch: Tensor) -> float:
        """The loss of predicting each patch's mean: 1 minus the share of constant patches, nearly."""
        return normalise_patches(patchify(batch, self.patch, self.channels)).square().mean().item()

    def reconstruct(self, features: Tensor, keep: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoder saw and what the decoder makes of it, both shaped like the batch with the tokenizer's channels.

        Removed patches are as dark as the darkest value in the first; in the second they are the prediction, taken back
        from its normalisation with the true mean and std of each patch, as MAE's own pictures are made.
        """
        patches = patchify(batch, self.patch, self.channels)
        everywhere = torch.arange(patches.shape[1], device=batch.device).expand(patches.shape[0], -1)
        variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
        pred = self.decode(features, keep, everywhere).float() * (variance + 1e-6).sqrt() + mean
        hidden = removed(keep, patches.shape[1]).unsqueeze(-1)
        shown = torch.where(hidden, patches.amin((1, 2), keepdim=True), patches)
        filled = torch.where(hidden, pred, patches)
        return (
            unpatchify(shown, self.size, self.patch, self.channels),
            unpatchify(filled, self.size, self.patch, self.channels),
        )
