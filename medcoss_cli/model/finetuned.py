"""A tokenizer and the encoder with a head for one task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from medcoss_cli.model import pooling
from medcoss_cli.model.block import drop_path
from medcoss_cli.model.encoder import EncoderShape, TransformerEncoder, initialise
from medcoss_cli.model.heads import Head
from medcoss_cli.model.networks import build_tokenizer
from medcoss_cli.model.outputs import Array, Network
from medcoss_cli.plugin import CompleteModality, PatchNetwork
from medcoss_cli.randomness import generator


class FinetunedNetwork(nn.Module):
    """Inputs to what the head gives of them: (N, c), or (N, c, *size).

    Args:
        modality: its tokenizer is what embeds the inputs.
        head: new, or as another network has it.
        pool: "real" averages real tokens, "all" padding as well (the authors' code).
        frozen: encoder and tokenizer stay as they are.
        seed: encoder and tokenizer are drawn from it.
        drop_path: probability that a branch of a block is left out in training; torch's global generator draws.
    """

    def __init__(
        self,
        modality: CompleteModality,
        encoder: EncoderShape,
        head: Head,
        *,
        pool: str = "real",
        frozen: bool = False,
        seed: int = 0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.modality, self.shape, self.pool, self.frozen = modality, encoder, pool, frozen
        self.drop_path = drop_path
        self.spec = modality.tokenizer.spec
        self.tokenizer = build_tokenizer(modality, encoder.width)
        self.encoder = TransformerEncoder(encoder)
        initialise(self.tokenizer, generator(seed, "weights", "tokenizer", modality.tokenizer.key))
        initialise(self.encoder, generator(seed, "weights", "encoder"))
        self.head, self.blocks = head.module, head.blocks
        if frozen:
            self.tokenizer.requires_grad_(False)
            self.encoder.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        network = cast(PatchNetwork, self.tokenizer)
        tokens = network.embed(inputs)
        if self.blocks is None:
            return cast(Tensor, self.head(self.pooled(tokens, network.valid(inputs))))
        factors = self.dropped(tokens)
        grid = network.grid(tuple(inputs.shape[2:]))
        states = [
            state.transpose(1, 2).reshape(*state.shape[:1], state.shape[2], *grid)
            for state in self.encoder.hidden_states(tokens, self.blocks, factors)
        ]
        return cast(Tensor, self.head(inputs, states))

    def pooled(self, tokens: Tensor, valid: Tensor | None) -> Tensor:
        """One feature a sample (N, D): the mean over patch tokens, the cls token left out, or over words."""
        factors = self.dropped(tokens)
        features = self.encoder(tokens, valid, cls=self.spec.cls, causal=self.spec.causal, factors=factors)
        if self.spec.cls:
            features = features[:, 1:]
        return pooling.mean(features, None if self.pool == "all" else valid)

    def dropped(self, tokens: Tensor) -> Tensor | None:
        """Drop path of these samples; None in eval mode or where nothing is left out."""
        if not self.training or self.frozen or not self.drop_path:
            return None
        draws = torch.rand(tokens.shape[0], self.shape.depth, 2, device=tokens.device)
        return drop_path(draws, self.drop_path)

    def on(self, device: torch.device) -> Network:
        """numpy in, numpy out: the network in eval mode on a device."""
        self.to(device).eval()

        @torch.no_grad()
        def network(inputs: Array) -> Array:
            outputs: Array = self(torch.from_numpy(inputs).to(device)).float().cpu().numpy()
            return outputs

        return network

    def train(self, mode: bool = True) -> FinetunedNetwork:
        """A frozen encoder stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.tokenizer.eval()
            self.encoder.eval()
        return self

    def take(self, weights: Mapping[str, Tensor], key: str) -> None:
        """Take tokenizer and encoder from a model's state dict; without weights of the tokenizer it stays as it was drawn.

        Raises: RuntimeError where one does not fit.
        """
        for prefix, part in ((f"tokenizers.{key}.", self.tokenizer), ("encoder.", self.encoder)):
            taken = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
            if taken or part is self.encoder:
                part.load_state_dict(taken)

    def depth_of(self, name: str) -> int:
        """How deep a weight lies: 0 the tokenizer and cls token, 1 the first block, depth + 1 the head."""
        if name.startswith("encoder.blocks."):
            return int(name.split(".")[2]) + 1
        return self.shape.depth + 1 if name.startswith("head.") else 0
