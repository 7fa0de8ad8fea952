"""The model: one encoder, tokenizers by key, and the last decoder of every modality."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from medcoss_cli.model import pooling
from medcoss_cli.model.batch import Batch
from medcoss_cli.model.block import drop_path
from medcoss_cli.model.encoder import EncoderShape, TransformerEncoder, initialise
from medcoss_cli.model.masking import random_keep
from medcoss_cli.model.networks import build_decoder, build_tokenizer
from medcoss_cli.model.pooling import with_cls
from medcoss_cli.plugin import CompleteModality, DecoderNetwork, PatchNetwork, TextNetwork, TokenNetwork
from medcoss_cli.randomness import generator, seeded


class Model(nn.Module):
    """T, phi and psi of the paper: tokenizers, encoder, decoders.

    Args:
        shape: dimensions of the encoder.
        seed: all weights are drawn from generators keyed by it.
        masking: share of patches removed and of words hidden.
    """

    def __init__(self, shape: EncoderShape, seed: int, masking: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.shape, self.seed = shape, seed
        self.masking = dict(masking or {"patches": 0.75, "words": 0.15})
        self.modalities: dict[str, CompleteModality] = {}
        self.offered: dict[str, CompleteModality] = {}
        self._given: dict[str, dict[str, Tensor]] = {}
        self.drop_path = 0.0
        """Share of the encoder's branches that are left out in training."""
        self.encoder = TransformerEncoder(shape)
        self.tokenizers = nn.ModuleDict()
        self.decoders = nn.ModuleDict()
        initialise(self.encoder, generator(seed, "weights", "encoder"))

    def offer(self, other: Model) -> None:
        """Tokenizers of another model, each taken up by the first modality that has its key."""
        self.offered = dict(other.modalities)
        self._given = {key: dict(part.state_dict()) for key, part in other.tokenizers.items()}

    def add(self, modality: CompleteModality, *, sharing: Collection[str] = ()) -> None:
        """Make room for a modality: its tokenizer if the key is new, and a fresh decoder (psi_i).

        Args:
            sharing: modalities whose decoder it takes instead, if theirs is for the same tokenizer and size.
        """
        device = self.encoder.cls.device
        key = modality.tokenizer.key
        if key not in self.tokenizers:
            tokenizer = build_tokenizer(modality, self.shape.width)
            initialise(tokenizer, generator(self.seed, "weights", "tokenizer", key))
            if key in self._given:
                tokenizer.load_state_dict(self._given.pop(key))
            self.tokenizers[key] = tokenizer.to(device)
        alike = [name for name in sharing if _decoded_alike(self.modalities[name], modality)]
        fresh = None if alike else self.fresh_decoder(modality, "decoder", modality.name)
        self.decoders[modality.name] = self.decoders[alike[0]] if fresh is None else fresh
        self.modalities[modality.name] = modality

    def separate_decoders(self) -> None:
        """Give every modality a decoder of its own again, as a checkpoint has them; shared ones become copies."""
        seen: set[nn.Module] = set()
        for name, decoder in self.decoders.items():
            if decoder in seen:
                self.decoders[name] = copy.deepcopy(decoder)
            seen.add(decoder)

    def fresh_decoder(self, modality: CompleteModality, *key: int | str) -> nn.Module:
        """A decoder with random weights that are a function of the model's seed and the key."""
        with seeded(self.seed, "weights", *key):  # torch draws while it builds; what is kept is drawn below
            decoder = build_decoder(modality, self.shape.width)
        initialise(decoder, generator(self.seed, "weights", *key))
        return decoder.to(self.encoder.cls.device)

    def tokenizer(self, modality: str) -> nn.Module:
        """The network that embeds this modality."""
        return self.tokenizers[self.modalities[modality].tokenizer.key]

    def decoder(self, modality: str) -> DecoderNetwork:
        """The network that decodes this modality."""
        return cast(DecoderNetwork, self.decoders[modality])

    def shared_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Those of encoder and tokenizers, by name: what is carried from stage to stage, without the decoders."""
        for name, parameter in self.named_parameters():
            if not name.startswith("decoders."):
                yield name, parameter

    def encode(
        self, modality: str, inputs: Tensor, keep: Tensor | None = None, factors: Tensor | None = None
    ) -> Tensor:
        """Inputs to features of the tokens in `keep`, or of all: (N, 1 + K, D) with cls first, or (N, L, D) for words.

        Args:
            factors: of the blocks' branches, in training: `self.dropped(batch)`.
        """
        tokens = cast(TokenNetwork, self.tokenizer(modality)).embed(inputs, keep)
        spec = self.modalities[modality].tokenizer.spec
        valid = self._valid(modality, inputs, keep)
        return cast(Tensor, self.encoder(tokens, valid, cls=spec.cls, causal=spec.causal, factors=factors))

    def dropped(self, batch: Batch) -> Tensor | None:
        """Drop path of a batch, drawn from its key; None where nothing is left out, in eval mode for one."""
        if not self.training or not self.drop_path:
            return None
        return drop_path(batch.draw("drop path", self.shape.depth, 2), self.drop_path)

    def valid(self, modality: str, inputs: Tensor, keep: Tensor | None = None) -> Tensor | None:
        """Which features of `encode` are of real tokens, (N, tokens) bool; None if all are."""
        return with_cls(self._valid(modality, inputs, keep), self.modalities[modality].tokenizer.spec.cls)

    def _valid(self, modality: str, inputs: Tensor, keep: Tensor | None) -> Tensor | None:
        valid = cast(TokenNetwork, self.tokenizer(modality)).valid(inputs)
        return valid if valid is None or keep is None else valid.gather(1, keep)

    def hide(self, batch: Batch) -> tuple[Tensor, Tensor | None, Tensor]:
        """The pretext's masking of a batch: what the encoder gets, the patches it keeps, and what the decoder has to predict.

        Drawn from the batch's key, so that student and teacher, and every rank, hide the same.
        """
        tokenizer = self.tokenizer(batch.modality)
        if self.modalities[batch.modality].text_tokenizer is not None:
            length = batch.inputs.shape[1]
            order, action, substitute = (batch.draw(name, length) for name in ("words", "action", "substitute"))
            hidden, targets = cast(TextNetwork, tokenizer).hide(
                batch.inputs, order, action, substitute, self.masking["words"]
            )
            return hidden, None, targets
        patches = math.prod(cast(PatchNetwork, tokenizer).grid(tuple(batch.inputs.shape[2:])))
        keep = random_keep(batch.draw("mask", patches), self.masking["patches"])
        return batch.inputs, keep, keep

    def masked_loss(self, batch: Batch, decoder: nn.Module | None = None) -> tuple[Tensor, Tensor | int]:
        """L_mim of a batch: sum and count, with the modality's own decoder unless another is given."""
        inputs, keep, targets = self.hide(batch)
        head = self.decoder(batch.modality) if decoder is None else cast(DecoderNetwork, decoder)
        features = self.encode(batch.modality, inputs, keep, self.dropped(batch))
        return head.loss(features, targets, batch.inputs)

    def features(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Features of a batch under its mask (N, tokens, D), and which of them are real (N, tokens), None if all are."""
        inputs, keep, _ = self.hide(batch)
        features = self.encode(batch.modality, inputs, keep, self.dropped(batch))
        return features, self.valid(batch.modality, inputs, keep)

    def pooled(self, modality: str, inputs: Tensor) -> Tensor:
        """One feature a sample (N, D): the mean over all real tokens, nothing masked."""
        return pooling.mean(self.encode(modality, inputs).float(), self.valid(modality, inputs))

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the encoder saw of a batch under its mask, and what the decoder makes of it; for previews."""
        inputs, keep, targets = self.hide(batch)
        features = self.encode(batch.modality, inputs, keep)
        shown, reconstruction = self.decoder(batch.modality).reconstruct(features, targets, batch.inputs)
        return (inputs if keep is None else shown), reconstruction


def _decoded_alike(a: CompleteModality, b: CompleteModality) -> bool:
    """Can one decoder serve both?"""
    return (a.dims, a.tokenizer.key, a.size, a.decoder) == (b.dims, b.tokenizer.key, b.size, b.decoder)
