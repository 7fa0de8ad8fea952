"""A tokenizer and the encoder with a head for one task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from medcoss_cli.errors import CheckpointError
from medcoss_cli.model import pooling
from medcoss_cli.model.encoder import Encoder, EncoderShape, initialise
from medcoss_cli.model.heads import ClassHead, HybridDecoder, MaskDecoder, halvings, taps_of
from medcoss_cli.model.networks import build_tokenizer
from medcoss_cli.model.outputs import Array, Network
from medcoss_cli.plugin import CompleteModality, PatchNetwork
from medcoss_cli.randomness import generator, seeded


@dataclass(frozen=True)
class HeadShape:
    """A head's dimensions.

    Args:
        task: classification or segmentation.
        classes: their number.
        layers: of a classification head.
        pool: "real" averages real tokens, "all" padding as well (the authors' code).
        features: channels of a mask decoder at full resolution.
        hybrid: layers of the residual network beside the encoder; None: no such network.
        frozen: the encoder and tokenizer stay as they came.
        standardise: a classification head first brings every feature to mean 0 and deviation 1.
    """

    task: str
    classes: int
    layers: int = 1
    pool: str = "real"
    features: int = 16
    hybrid: int | None = None
    frozen: bool = False
    standardise: bool = False


class Tuned(nn.Module):
    """Inputs to logits: (N, classes), or (N, classes, *size).

    Args:
        modality: complete; its tokenizer is what embeds the inputs.
        drop_path: probability that a block is left out in training.
    """

    def __init__(
        self,
        modality: CompleteModality,
        encoder: EncoderShape,
        head: HeadShape,
        *,
        seed: int = 0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.modality, self.shape, self.head_shape = modality, encoder, head
        self.spec = modality.tokenizer.spec
        self.tokenizer = build_tokenizer(modality, encoder.width)
        self.encoder = Encoder(encoder)
        initialise(self.tokenizer, generator(seed, "weights", "tokenizer", modality.tokenizer.key))
        initialise(self.encoder, generator(seed, "weights", "encoder"))
        with seeded(seed, "weights", "head"):  # MONAI draws its weights from the global generator
            if head.task == "classification":
                norm = "batch" if head.standardise else "none" if self.spec.patch is None else "layer"
                self.head: nn.Module = ClassHead(encoder.width, head.classes, layers=head.layers, norm=norm)
            elif head.hybrid is not None:
                self.taps: tuple[int, ...] = (encoder.depth,)
                self.head = HybridDecoder(modality.dims, modality.channels, encoder.width, head.hybrid, head.classes)
            else:
                steps = halvings(self.spec.patch)
                self.taps = taps_of(encoder.depth, len(steps))
                self.head = MaskDecoder(
                    modality.dims,
                    modality.channels,
                    encoder.width,
                    head.features,
                    steps,
                    head.classes,
                )
        if head.frozen:
            self.tokenizer.requires_grad_(False)
            self.encoder.requires_grad_(False)
        elif drop_path:
            for block in cast("Iterator[Any]", self.encoder.blocks):
                block.drop_path1 = block.drop_path2 = DropPath(drop_path)

    def forward(self, inputs: Tensor) -> Tensor:
        network = cast(PatchNetwork, self.tokenizer)
        tokens = network.embed(inputs)
        if self.head_shape.task == "classification":
            return cast(Tensor, self.head(self.pooled(tokens, network.valid(inputs))))
        grid = network.grid(tuple(inputs.shape[2:]))
        taps = [
            tap.transpose(1, 2).reshape(*tap.shape[:1], tap.shape[2], *grid)
            for tap in self.encoder.taps(tokens, self.taps)
        ]
        return cast(Tensor, self.head(inputs, taps))

    def pooled(self, tokens: Tensor, valid: Tensor | None) -> Tensor:
        """One feature a sample (N, D): the mean over patch tokens, the cls token left out, or over words."""
        features = self.encoder(tokens, valid, cls=self.spec.cls, causal=self.spec.causal)
        if self.spec.cls:
            features = features[:, 1:]
        return pooling.mean(features, None if self.head_shape.pool == "all" else valid)

    def on(self, device: torch.device) -> Network:
        """numpy in, numpy out: the network in eval mode on a device."""
        self.to(device).eval()

        @torch.no_grad()
        def network(inputs: Array) -> Array:
            outputs: Array = self(torch.from_numpy(inputs).to(device)).float().cpu().numpy()
            return outputs

        return network

    def train(self, mode: bool = True) -> Tuned:
        """A frozen encoder stays in eval mode."""
        super().train(mode)
        if self.head_shape.frozen:
            self.tokenizer.eval()
            self.encoder.eval()
        return self

    def take(self, weights: Mapping[str, Tensor], key: str) -> None:
        """Take tokenizer and encoder from a model's state dict. Raises: RuntimeError where one does not fit."""
        for prefix, part in ((f"tokenizers.{key}.", self.tokenizer), ("encoder.", self.encoder)):
            part.load_state_dict({n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)})

    def take_cnn(self, weights: Mapping[str, Tensor]) -> str:
        """Start the residual network of a hybrid from other weights, where names and shapes fit; says what was taken.

        Raises: CheckpointError where nothing fits.
        """
        own = cast(HybridDecoder, self.head).net.encoder.state_dict()
        fit = {n: own[n] for n in own}
        taken = 0
        for name, weight in weights.items():
            ending = next(
                (e for e in (name, name.partition(".")[2]) if e in own and own[e].shape == weight.shape), None
            )
            if ending is not None:
                fit[ending] = weight
                taken += 1
        if not taken:
            raise CheckpointError(
                "no tensor of head.hybrid.cnn fits the residual network", fix="check head.hybrid.depth"
            )
        cast(HybridDecoder, self.head).net.encoder.load_state_dict(fit)
        return f"residual network: {taken} of {len(own)} tensors taken, {len(weights) - taken} left"

    def depth_of(self, name: str) -> int:
        """How deep a weight lies: 0 the tokenizer and cls token, 1 the first block, depth + 1 the head."""
        if name.startswith("encoder.blocks."):
            return int(name.split(".")[2]) + 1
        return self.shape.depth + 1 if name.startswith("head.") else 0
