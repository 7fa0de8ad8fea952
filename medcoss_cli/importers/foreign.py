"""Which network of others a file's weights belong to, by their names and shapes, and the weights under its own names."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from medcoss_cli.errors import CheckpointError, UsageError
from medcoss_cli.importers.blocks import depth
from medcoss_cli.importers.perceiver import is_perceiver
from medcoss_cli.importers.vit import KERNEL, KNOWN, NEEDED
from medcoss_cli.importers.weights import Weights, read
from medcoss_cli.model import foreign

RESIDUAL, PATCHES, CONTRACTING = "layer1.0.conv1.weight", KERNEL, "down_tr64.ops.0.conv1.weight"
ANCHORS = (RESIDUAL, PATCHES, CONTRACTING)
"""One name of each family, before which a file's prefix stands: "backbone.", "model.encoder."."""
NAME_IT = "name its architecture as timm does, as in network=convnext_tiny"


@dataclass(frozen=True)
class Foreign:
    """A network, in the plain values that `model.foreign` builds, and its weights.

    Args:
        title: what it is, in words.
        prefix: what stands before its names in the file.
        left: the file's names that nothing was made of, such as its classifier.
    """

    network: dict[str, Any]
    title: str
    weights: dict[str, Tensor]
    prefix: str
    left: list[str]

    def unet(self) -> dict[str, Any]:
        """The residual U-Net whose encoder begins with these weights. Raises: UsageError where they are of another kind."""
        blocks = tuple(self.network.get("blocks", ()))
        layers = foreign.UNETS.get((bool(self.network.get("bottleneck")), blocks))
        if layers is None:
            raise UsageError(
                f"masks need a residual network of 10, 18, 34 or 50 layers, and this is {self.title}",
                fix="give a file of one, or import a ViT: medcoss checkpoint import FILE -o ckpt.pt",
            )
        return {"family": foreign.UNET, "depth": layers, **{key: self.network[key] for key in ("dims", "channels")}}


def read_foreign(source: str, name: str | None = None) -> Foreign:
    """The network and weights of a file of torch or safetensors; nothing in it is executed.

    Known by their names are plain ViTs and residual networks of images (timm, torchvision, DINO, PCRLv2's of X-rays), residual
    networks of volumes (DeSD; of those with `bn1` the usual strides are assumed, which no weight shows) and PCRLv2's of
    volumes. Anything of timm is known by `name`.

    Raises: CheckpointError, UsageError for a name that timm does not know.
    """
    weights = read(source)
    if is_perceiver(weights):
        raise CheckpointError(
            "these weights are of MedCoSS's authors or Uni-Perceiver, whose encoder is medcoss's own",
            where=source,
            fix="medcoss checkpoint import FILE -o ckpt.pt, then --from ckpt.pt",
        )
    if name is not None:
        network, title, prefix = _named(weights, name)
    else:
        network, title, prefix = _recognised(weights)
    state = foreign.outline(network).state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items() if tensor.is_floating_point()}
    if absent := [key for key in shapes if prefix + key not in weights]:
        raise CheckpointError(
            f"the file looks like {title}, but lacks {absent[0]}"
            + (f" and {len(absent) - 1} more of its {len(shapes)} tensors" if len(absent) > 1 else ""),
            where=source,
            fix=NAME_IT if name is None else "name the architecture it was made with",
        )
    taken = {key: weights.take(prefix + key, shape, "network") for key, shape in shapes.items()}
    return Foreign(network, title, taken, prefix, weights.left())


def _recognised(weights: Weights) -> tuple[dict[str, Any], str, str]:
    """The network in plain values, its title, and the prefix of its names."""
    anchor, prefix = next(
        ((anchor, prefix) for anchor in ANCHORS if (prefix := _prefix(weights, anchor)) is not None), (None, "")
    )
    tensors = {key.removeprefix(prefix): tensor for key, tensor in weights.tensors.items() if key.startswith(prefix)}
    within = Weights(tensors, weights.where, facts=weights.facts)
    try:
        if anchor == RESIDUAL:
            return *_residual(within), prefix
        if anchor == PATCHES:
            return *_vit(within), prefix
        if anchor == CONTRACTING:
            return *_contracting(within), prefix
    except (KeyError, IndexError) as error:
        raise CheckpointError(f"a network's tensor is missing ({error})", where=weights.where, fix=NAME_IT) from error
    raise CheckpointError(
        f"the names of its {len(weights.tensors)} tensors are of no network known here, such as {next(iter(weights.tensors))}",
        where=weights.where,
        fix=f"{NAME_IT}; without it ViTs and residual networks are known",
    )


def _prefix(weights: Weights, anchor: str) -> str | None:
    """What stands before a name in the file, the shortest where there are several; None where the name is not there."""
    found = [key.removesuffix(anchor) for key in weights.tensors if key == anchor or key.endswith(f".{anchor}")]
    return min(found, key=lambda prefix: (len(prefix), prefix)) if found else None


def _residual(weights: Weights) -> tuple[dict[str, Any], str]:
    tensors = weights.tensors
    stem, blocks = tensors["conv1.weight"], [depth(weights, f"layer{stage}") for stage in foreign.STAGES]
    bottleneck = "layer1.0.conv3.weight" in weights
    network: dict[str, Any] = {"blocks": blocks, "bottleneck": bottleneck, "channels": stem.shape[1]}
    layers = "-".join(map(str, blocks))
    if stem.ndim == 4:
        return {"family": "resnet", "dims": 2, **network}, f"a residual network of images ({layers} blocks)"
    planes = [len(tensors[f"layer{stage}.0.conv1.weight"]) for stage in foreign.STAGES]
    projected = [f"layer{stage}.0.downsample.0.weight" in weights for stage in foreign.STAGES]
    desd = "norm1.weight" in weights
    network |= {"stem": len(stem), "planes": planes, "projected": projected, "desd": desd}
    of = "with DeSD's names" if desd else "with batch norms"
    return {"family": "resnet3d", "dims": 3, **network}, f"a residual network of volumes {of} ({layers} blocks)"


def _vit(weights: Weights) -> tuple[dict[str, Any], str]:
    tensors = weights.tensors
    unknown = [n for n in tensors if (m := re.match(r"blocks\.\d+\.(.+)", n)) and not KNOWN.fullmatch(m[1])]
    kernel, places = tensors[KERNEL], tensors["pos_embed"].shape[1] - 1
    side = math.isqrt(places)
    if unknown or any(key not in weights for key in NEEDED) or kernel.ndim != 4 or side * side != places:
        what = unknown[0] if unknown else "its positions"
        raise CheckpointError(f"this is no plain ViT ({what})", where=weights.where, fix=NAME_IT)
    width, patch, count = len(kernel), kernel.shape[-1], depth(weights, "blocks")
    network = {
        "family": "vit",
        "dims": 2,
        "channels": kernel.shape[1],
        "patch": patch,
        "width": width,
        "depth": count,
        "heads": weights.heads(width),
        "hidden": weights.rows("blocks.0.mlp.fc1.weight"),
        "side": side * patch,
        "scaled": "blocks.0.ls1.gamma" in weights,
        "pool": "avg" if "fc_norm.weight" in weights and "norm.weight" not in weights else "token",
    }
    return network, f"a ViT of width {width}, depth {count}, patch {patch}, {network['heads']} heads"


def _contracting(weights: Weights) -> tuple[dict[str, Any], str]:
    names = [f"down_tr{width}" for width in (64, 128, 256, 512)]
    widths = [[len(weights.tensors[f"{name}.ops.{n}.conv1.weight"]) for n in (0, 1)] for name in names]
    channels = weights.tensors[CONTRACTING].shape[1]
    network = {"family": "pcrlv2", "dims": 3, "channels": channels, "widths": widths}
    return network, "PCRLv2's network of volumes"


def _named(weights: Weights, name: str) -> tuple[dict[str, Any], str, str]:
    """An architecture of timm, with as many channels as the file's weights have."""
    import timm

    if not timm.is_model(name):
        near = timm.list_models(f"*{name}*")[:3]
        raise UsageError(
            f"timm knows no architecture {name!r}",
            where="network",
            fix=f"did you mean {' or '.join(near)}?" if near else "see timm.list_models()",
        )
    network: dict[str, Any] = {"family": "timm", "dims": 2, "channels": 3, "name": name}
    shapes = {key: tensor.shape for key, tensor in foreign.outline(network).state_dict().items()}
    grey = {key: tensor.shape for key, tensor in foreign.outline(network | {"channels": 1}).state_dict().items()}
    prefix = next((found for key in shapes if (found := _prefix(weights, key)) is not None), "")
    differing = next((prefix + key for key in shapes if shapes[key] != grey[key]), "")
    if differing in weights and weights.tensors[differing].shape == grey[differing.removeprefix(prefix)]:
        network["channels"] = 1
    return network, f"timm's {name}", prefix
