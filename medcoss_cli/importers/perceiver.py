"""The authors' MedCoSS checkpoint, and the Uni-Perceiver weights that it began from: one family of names."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medcoss_cli.importers.blocks import ENCODER, depth, multihead_blocks, projection, timm_blocks, unscaled
from medcoss_cli.importers.imported import DECODERS, WORDS, Imported
from medcoss_cli.importers.weights import Weights
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.plugin import TokenizerSpec

LAYERS = "fused_encoder.layers"
PLACES = "token_embed.embeddings_pos.position_embeddings.weight"
KINDS = "token_embed.embeddings_token_type.weight"
UNUSED = ("video_embed.embeddings_pos.position_embeddings.weight", "video_embed.embeddings_type.weight")
PRETEXT = ("decoder_", "mask_token", "mlm_head.")  # how names of the decoders begin
EDGE = 16  # of a patch, along each axis
IMAGE, VOLUME = "patch2d-16", "patch3d-16"
SIZES = {IMAGE: (224, 224), VOLUME: (16, 192, 192)}  # of the authors' samples, which their grids of positions fit
CHANNELS = {IMAGE: 3, VOLUME: 1}


def is_perceiver(weights: Weights) -> bool:
    """Do the names say so?"""
    return any(name.startswith(LAYERS) for name in weights.tensors)


def perceiver(weights: Weights) -> Imported:
    """Either file. The authors' has positions for both grids and tokenizers for volumes; Uni-Perceiver's has neither.

    Raises: CheckpointError naming the first tensor that is missing, of another shape, or not finite.
    """
    official = "video_embed.embeddings_3D.weight" in weights or "cls_token" in weights
    width, hidden = weights.rows(f"{LAYERS}.0.norm1.weight"), weights.rows(f"{LAYERS}.0.linear1.weight")
    count = depth(weights, LAYERS)
    scaled = official or f"{LAYERS}.0.gamma_1" in weights
    blocks = multihead_blocks(weights, LAYERS, count, width, hidden, scaled=scaled)
    encoder = {f"blocks.{name}": tensor for name, tensor in blocks.items()}
    shape = EncoderShape(width, count, weights.heads(width), hidden / width, layer_scale=1e-3)
    imported = Imported("the authors' MedCoSS checkpoint" if official else "Uni-Perceiver weights", shape, encoder)
    if not scaled:
        encoder |= unscaled(count, width)
    if official:
        encoder["cls"] = weights.take("cls_token", (1, 1, width), ENCODER)
        weights.expect(*UNUSED)
        imported.notes.append(
            "its tiles were blue, green, red, and its volumes depth, width, height: their weights are turned, so that red, "
            "green, blue, and depth, height, width are seen as they were"
        )
    for key in (IMAGE, VOLUME) if official else (IMAGE,):
        _patches(weights, imported, key, width, table=official)
    _words(weights, imported, width, causal=official)
    if any(name.startswith(PRETEXT) for name in weights.tensors):
        _decoders(weights, imported, width)
    return imported


def _patches(weights: Weights, imported: Imported, key: str, width: int, table: bool) -> None:
    """Projection, the norm that images and volumes share, and in `table` the positions of the grid that was trained.

    The temporal row 0 is a part of each position. Uni-Perceiver's positions have another grid, and are not taken.
    """
    size, channels = SIZES[key], CHANNELS[key]
    patch = [EDGE] * len(size)
    grid = tuple(n // EDGE for n in size)
    kernel = weights.take(_name("video_embed.embeddings", key), (width, channels, *patch), key)
    if table:  # the authors' reader gave blue first; a grey image is the same either way
        kernel = kernel.flip(1)
    if key == VOLUME:  # it gave the axes z, x, y; ours are z, y, x
        kernel = kernel.transpose(-1, -2)
    imported.sizes[key] = size
    imported.specs[key] = TokenizerSpec(
        "patches",
        patch=tuple(patch),
        channels=channels,
        positions="table" if table else "sincos",
        grid=grid if table else None,
    )
    imported.tokenizers[key] = {
        "projection.weight": projection(kernel),
        "projection.bias": weights.take(_name("video_embed.embeddings", key, "bias"), (width,), key),
        **_norm(weights, "video_embed.embeddings_norm", width, key),
    }
    if table:
        part = f"video_embed.embeddings_st_pos_{len(size)}D"
        places = f"{part}.spatial_pos_embed.weight"
        spatial = weights.take(places, (weights.rows(places), width), key)[: math.prod(grid)]
        time = weights.take(f"{part}.temporal_pos_embed.weight", (8, width), key)
        imported.tokenizers[key]["table"] = (other_planes(spatial, grid) if key == VOLUME else spatial) + time[0]


def _words(weights: Weights, imported: Imported, width: int, causal: bool) -> None:
    """The word table; row 0 of the token types is a part of each position."""
    words = "token_embed.embeddings.weight"
    imported.rows, places = weights.rows(words), weights.rows(PLACES)
    kind = weights.take(KINDS, (weights.rows(KINDS), width), WORDS)[0]
    imported.sizes[WORDS] = (112,)
    imported.specs[WORDS] = TokenizerSpec("words", cls=False, causal=causal, positions="table", rows=places)
    imported.tokenizers[WORDS] = {
        "embedding.weight": weights.take(words, (imported.rows, width), WORDS),
        "table": weights.take(PLACES, (places, width), WORDS) + kind,
        **_norm(weights, "token_embed.embeddings_norm", width, WORDS),
    }


def _decoders(weights: Weights, imported: Imported, width: int) -> None:
    """Image and volume share one small transformer; the word head has row 0 of its types folded into its bias."""
    group = DECODERS
    small, count = weights.rows("decoder_embed.weight"), depth(weights, "decoder_blocks")
    blocks = timm_blocks(weights, "decoder_blocks", count, small, 4 * small, group)
    shared = {
        "embed.weight": weights.take("decoder_embed.weight", (small, width), group),
        "embed.bias": weights.take("decoder_embed.bias", (small,), group),
        "mask_token": weights.take("mask_token", (1, 1, small), group),
        **{f"blocks.{name}": tensor for name, tensor in blocks.items()},
        **_norm(weights, "decoder_norm", small, group),
    }
    for key, size in ((IMAGE, SIZES[IMAGE]), (VOLUME, SIZES[VOLUME])):
        dims, grid = len(size), tuple(n // EDGE for n in size)
        patch = (*(EDGE,) * dims, CHANNELS[key])
        values, places = math.prod(patch), 1 + math.prod(grid)
        positions = weights.take(f"decoder_pos_embed_{dims}D", (1, places, small), key)[0]
        if key == VOLUME:
            positions = torch.cat([positions[:1], other_planes(positions[1:], grid)])
        turned = other_planes if key == VOLUME else other_colours
        imported.decoder_specs[key] = {"width": small, "depth": count, "heads": 16, "positions": "table"}
        imported.decoders[key] = {
            **shared,
            "positions": positions,
            "predict.weight": turned(weights.take(f"decoder_pred_{dims}D.weight", (values, small), key), patch),
            "predict.bias": turned(weights.take(f"decoder_pred_{dims}D.bias", (values,), key), patch),
        }
    dense = weights.take("mlm_head.transform.dense.weight", (width, width), WORDS)
    kind = weights.take("decoder_pos_embed_1D.weight", (2, width), WORDS)[0]
    imported.decoders[WORDS] = {
        "dense.weight": dense,
        "dense.bias": weights.take("mlm_head.transform.dense.bias", (width,), WORDS) + dense @ kind,
        **_norm(weights, "mlm_head.transform.LayerNorm", width, WORDS),
        "predict.weight": weights.take("mlm_head.decoder.weight", (imported.rows, width), WORDS),
        "predict.bias": weights.take("mlm_head.bias", (imported.rows,), WORDS),
    }


def other_colours(rows: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Rows that stand for a patch's values (*patch, channel), with the channels in the other order."""
    return rows.reshape(*axes, -1).flip(len(axes) - 1).reshape(rows.shape)


def other_planes(rows: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Rows that stand for places or values (z, x, y, ...), in the order of (z, y, x, ...)."""
    return rows.reshape(*axes, -1).transpose(1, 2).reshape(rows.shape)


def _name(part: str, key: str, kind: str = "weight") -> str:
    return f"{part}{'_3D' if key == VOLUME else ''}.{kind}"


def _norm(weights: Weights, name: str, width: int, group: str) -> dict[str, Tensor]:
    return {f"norm.{kind}": weights.take(f"{name}.{kind}", (width,), group) for kind in ("weight", "bias")}
