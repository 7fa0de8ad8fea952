"""A ViT of timm or MAE, or of their like: images of three channels in patches, a cls token, learned or fixed positions."""

from __future__ import annotations

import math
import re

from medcoss_cli.errors import CheckpointError
from medcoss_cli.importers.blocks import ENCODER, depth, projection, timm_blocks, unscaled
from medcoss_cli.importers.imported import Imported
from medcoss_cli.importers.weights import Weights
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.plugin import TokenizerSpec

KERNEL = "patch_embed.proj.weight"
NEEDED = (KERNEL, "patch_embed.proj.bias", "pos_embed", "cls_token", "blocks.0.attn.qkv.weight")
KNOWN = re.compile(r"(norm[12]|attn\.(qkv|proj)|mlp\.fc[12])\.(weight|bias)|ls[12]\.gamma")


def is_vit(weights: Weights) -> bool:
    """Do the names say so? CLIP's and SigLIP's lack some of these."""
    return all(name in weights for name in NEEDED)


def vit(weights: Weights) -> Imported:
    """Blocks, cls token, projection and positions. A start to train from, not the same function: the ViT's last norm is
    left out, since this encoder has none, and its tokenizer's norm is new, since the ViT has none.

    Raises: CheckpointError for blocks or patches of another kind, and as `Weights.take` does.
    """
    kernel = weights.tensors[KERNEL]
    if kernel.ndim != 4 or kernel.shape[1] != 3 or kernel.shape[2] != kernel.shape[3]:
        raise CheckpointError("its patches are not square ones of three channels", where=weights.where)
    unknown = [n for n in weights.tensors if (m := re.match(r"blocks\.\d+\.(.+)", n)) and not KNOWN.fullmatch(m[1])]
    if unknown:
        raise CheckpointError(
            f"its blocks have parts that this encoder lacks, such as {unknown[0]}",
            where=weights.where,
            fix="give a plain ViT",
        )
    width, edge, count = len(kernel), kernel.shape[-1], depth(weights, "blocks")
    key, hidden = f"patch2d-{edge}", weights.rows("blocks.0.mlp.fc1.weight")
    blocks = timm_blocks(weights, "blocks", count, width, hidden, ENCODER)
    scaled = "0.ls1.gamma" in blocks
    shape = EncoderShape(width, count, weights.heads(width), hidden / width, 1e-3 if scaled else 1.0)
    places = weights.tensors["pos_embed"].shape[1]
    positions = weights.take("pos_embed", (1, places, width), key)[0]
    side = math.isqrt(places)
    extra = places - side * side  # a place of the cls token's own
    cls = weights.take("cls_token", (1, 1, width), ENCODER)
    if extra > 1:
        raise CheckpointError(f"its {places} positions are not those of a square grid", where=weights.where)
    imported = Imported("a ViT of timm or MAE", shape, {f"blocks.{name}": tensor for name, tensor in blocks.items()})
    imported.encoder["cls"] = cls + positions[:extra].sum(0)
    if not scaled:
        imported.encoder |= unscaled(count, width)
    imported.sizes[key] = (side * edge, side * edge)
    imported.specs[key] = TokenizerSpec("patches", patch=(edge, edge), channels=3, positions="table", grid=(side, side))
    imported.tokenizers[key] = {
        "table": positions[extra:].clone(),
        "projection.weight": projection(weights.take(KERNEL, (width, 3, edge, edge), key)),
        "projection.bias": weights.take("patch_embed.proj.bias", (width,), key),
    }
    imported.notes.append(
        "its last norm is left out, its tokens get a new one: a starting point for training, not the same network"
    )
    if "reg_token" in weights:
        imported.notes.append("its register tokens are left out")
    return imported
