"""What is trained for one task: a tokenizer and the encoder with a head, or a network of others with one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from medcoss_cli.errors import CheckpointError
from medcoss_cli.model import foreign, pooling
from medcoss_cli.model.block import drop_path
from medcoss_cli.model.encoder import EncoderShape, TransformerEncoder, initialise
from medcoss_cli.model.heads import Head, ResUNet
from medcoss_cli.model.networks import build_tokenizer, within
from medcoss_cli.model.outputs import Array, Network
from medcoss_cli.plugin import CompleteModality, PatchNetwork
from medcoss_cli.randomness import generator, seeded


class TaskNetwork(nn.Module):
    """Inputs (N, C, *size), or ids (N, L), to what the head gives of them: (N, c), or (N, c, *size).

    A subclass makes what lies below the head, and `head` last.

    Args:
        width, depth: of what lies below the head: its feature, and how many learning rates of their own its blocks may have.
        frozen: what lies below the head stays as it is.
    """

    head: nn.Module
    blocks: Sequence[int] | None
    """Blocks whose hidden states a decoder of masks takes; None: the head takes `features`."""

    def __init__(self, width: int, depth: int, *, frozen: bool) -> None:
        super().__init__()
        self.width, self.depth, self.frozen = width, depth, frozen

    def features(self, inputs: Tensor) -> Tensor:
        """What a head on the pooled feature sees of inputs: (N, D)."""
        raise NotImplementedError  # each kind of network has its own

    def below(self) -> list[nn.Module]:
        """The parts below the head."""
        return [part for name, part in self.named_children() if name != "head"]

    def on(self, device: torch.device) -> Network:
        """numpy in, numpy out: the network in eval mode on a device."""
        self.to(device).eval()

        @torch.no_grad()
        def network(inputs: Array) -> Array:
            outputs: Array = self(torch.from_numpy(inputs).to(device)).float().cpu().numpy()
            return outputs

        return network

    def train(self, mode: bool = True) -> Self:
        """What is frozen stays in eval mode."""
        super().train(mode)
        if self.frozen:
            for part in self.below():
                part.eval()
        return self

    def take(self, weights: Mapping[str, Tensor], key: str) -> str | None:
        """Take the weights that a fine-tuning begins with; returns what to print about it, if anything.

        Args:
            key: of the tokenizer.
        """
        raise NotImplementedError  # each kind of network has its own

    def depth_of(self, name: str) -> int:
        """How deep a weight lies: depth + 1 in the head, less below."""
        return self.depth + 1 if name.startswith("head.") else 0


class FinetunedNetwork(TaskNetwork):
    """Tokenizer, encoder and head.

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
        super().__init__(encoder.width, encoder.depth, frozen=frozen)
        self.modality, self.pool = modality, pool
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
        if self.blocks is None:
            return cast(Tensor, self.head(self.features(inputs)))
        network = cast(PatchNetwork, self.tokenizer)
        tokens = network.embed(inputs)
        factors = self.dropped(tokens)
        grid = network.grid(tuple(inputs.shape[2:]))
        states = [
            state.transpose(1, 2).reshape(*state.shape[:1], state.shape[2], *grid)
            for state in self.encoder.hidden_states(tokens, self.blocks, factors)
        ]
        return cast(Tensor, self.head(inputs, states))

    def features(self, inputs: Tensor) -> Tensor:
        network = cast(PatchNetwork, self.tokenizer)
        return self.pooled(network.embed(inputs), network.valid(inputs))

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
        draws = torch.rand(tokens.shape[0], self.depth, 2, device=tokens.device)
        return drop_path(draws, self.drop_path)

    def take(self, weights: Mapping[str, Tensor], key: str) -> None:
        """Tokenizer and encoder of a model's state dict; without weights of the tokenizer it stays as it was drawn.

        Raises: CheckpointError where one does not fit.
        """
        for prefix, part in ((f"tokenizers.{key}.", self.tokenizer), ("encoder.", self.encoder)):
            taken = within(prefix, weights)
            if taken or part is self.encoder:
                _take(part, taken)

    def depth_of(self, name: str) -> int:
        """How deep a weight lies: 0 the tokenizer and cls token, 1 the first block, depth + 1 the head."""
        return int(name.split(".")[2]) + 1 if name.startswith("encoder.blocks.") else super().depth_of(name)


class ForeignNetwork(TaskNetwork):
    """A network of others that gives one feature a sample, and a head; or, for masks, a residual U-Net that is all head.

    Args:
        network: in plain values, see `model.foreign`.
        width: of its feature.
        head: new, or as another network has it.
        seed: what the file does not bring is drawn from it.
    """

    def __init__(
        self, network: Mapping[str, Any], width: int, head: Head, *, frozen: bool = False, seed: int = 0
    ) -> None:
        super().__init__(width, 0, frozen=frozen)
        self.channels = int(network["channels"])
        if head.blocks is None:
            with seeded(seed, "weights", "encoder"):
                self.backbone = foreign.build(network)
            self.backbone.requires_grad_(not frozen)
        self.head, self.blocks = head.module, head.blocks

    def forward(self, inputs: Tensor) -> Tensor:
        if self.blocks is None:
            return cast(Tensor, self.head(self.features(inputs)))
        return cast(Tensor, self.head(self._coloured(inputs), []))

    def features(self, inputs: Tensor) -> Tensor:
        return cast(Tensor, self.backbone(self._coloured(inputs)))

    def _coloured(self, inputs: Tensor) -> Tensor:
        """Grey images three times, for what was trained on colour."""
        return inputs.expand(-1, self.channels, *inputs.shape[2:])

    def take(self, weights: Mapping[str, Tensor], key: str) -> str | None:
        """The backbone's weights by its own names; a U-Net takes what fits, and says how much.

        Raises: CheckpointError where one does not fit, or nothing does.
        """
        if self.blocks is not None:
            return cast(ResUNet, self.head).take_cnn(weights)
        _take(self.backbone, weights, strict=False)  # counters of batch norms are not in a file's float tensors
        return None


def _take(network: nn.Module, weights: Mapping[str, Tensor], *, strict: bool = True) -> None:
    try:
        network.load_state_dict(weights, strict=strict)
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[1:2]
        raise CheckpointError(
            f"the weights do not fit the network ({''.join(reason).strip()[:150]})",
            fix="use another copy of the checkpoint",
        ) from error
