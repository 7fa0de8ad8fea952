"""What is exported of a checkpoint or a run: the encoder alone, a modality's features, a fine-tuned network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medcoss_cli.console import Screen
from medcoss_cli.errors import UsageError
from medcoss_cli.export.networks import EncoderAlone, Features
from medcoss_cli.export.samples import LEAST, VerificationSamples, gather, of_size, rule_of
from medcoss_cli.export.verify import Run
from medcoss_cli.finetuning.checkpoints import TrainedSeed, best_seed
from medcoss_cli.model.outputs import Array
from medcoss_cli.plugin import CompleteModality
from medcoss_cli.pretraining.state import State, read_for, versions
from medcoss_cli.registry import discovery
from medcoss_cli.registry.fingerprint import fingerprint
from medcoss_cli.store.checkpoint import find_checkpoint

AXES = {1: ["words"], 2: ["height", "width"], 3: ["depth", "height", "width"]}
TOKENS = 37
"""Of the encoder alone: a number for tracing that is no dimension of anything."""


@dataclass(frozen=True)
class Exportable:
    """A network, and what is known of its inputs.

    Args:
        names: of inputs and outputs; the last output is what is pooled.
        steps: of the axes behind batch and channel, whose multiples the network takes; None where they are fixed.
        about: what the description says of it.
        modality: whose inputs it takes; None for the encoder alone.
        words: its vocabulary, JSON text.
    """

    network: nn.Module
    names: tuple[Sequence[str], Sequence[str]]
    inputs: tuple[Array, ...]
    steps: tuple[int, ...] | None
    about: Mapping[str, Any]
    modality: CompleteModality | None = None
    words: str | None = None

    def fixed(self) -> Exportable:
        """The same with its axes fixed."""
        return replace(self, steps=None)

    def run(self, network: nn.Module | None = None) -> Run:
        """Input arrays to all outputs, in torch on the CPU; of another network that takes the same inputs, if given."""
        module = (network or self.network).cpu().eval()

        @torch.no_grad()
        def run(*inputs: Array) -> list[Array]:
            outputs = module(*(torch.from_numpy(part) for part in inputs))
            return [part.float().numpy() for part in (outputs if isinstance(outputs, tuple) else (outputs,))]

        return run

    def dynamic(self) -> list[dict[int, Any]]:
        """Axes that may change, as torch.export has them: the batch; multiples of the steps."""
        batch = torch.export.Dim("batch", min=1, max=65536)
        axes = {0: batch}
        for axis, step in enumerate(self.steps or (), 1 if self.tokens else 2):
            part = torch.export.Dim(f"part{axis}", min=1, max=65536)
            axes[axis] = part if step == 1 else step * part
        return [axes] * len(self.inputs)

    @property
    def tokens(self) -> bool:
        """Are the inputs tokens, (N, L, D)?"""
        return bool(self.about["kind"] == "encoder")

    @property
    def size(self) -> tuple[int, ...]:
        """Of a sample as it was trained."""
        return (TOKENS,) if self.tokens else self.inputs[0].shape[1 if self.inputs[0].ndim == 2 else 2 :]

    def sizes(self) -> list[tuple[int, ...]]:
        """Its own size, and two that are never traced."""
        if self.steps is None:
            return [self.size]
        larger = tuple(n + step for n, step in zip(self.size, self.steps, strict=True))
        less = tuple(max(step, n // 2 // step * step) for n, step in zip(self.size, self.steps, strict=True))
        return [self.size, larger, less]

    def batch(self, count: int, size: tuple[int, ...]) -> tuple[Array, ...]:
        """Inputs of so many samples at a size."""
        if self.tokens:
            return tokens(count, size[0], self.inputs[0].shape[2])
        return tuple(of_size(part[:count], size) if size != self.size else part[:count] for part in self.inputs)

    def axes(self) -> tuple[list[str], list[Any]]:
        """Names of the first input's axes, and which sizes each may have."""
        if self.tokens:
            return ["batch", "tokens", "width"], ["any", "any", self.inputs[0].shape[2]]
        space = AXES[len(self.size)]
        sizes = list(self.size) if self.steps is None else [{"step": step} for step in self.steps]
        channel = [] if self.inputs[0].ndim == 2 else ["channel"]
        return ["batch", *channel, *space], ["any", *([self.inputs[0].shape[1]] if channel else []), *sizes]


def tokens(count: int, length: int, width: int) -> tuple[Array, Array]:
    """Tokens (N, L, D) as LayerNorm leaves them, and which are real: the first always, of the others most."""
    rng = np.random.default_rng((count, length, width))
    valid = rng.random((count, length)) < 0.8
    valid[:, 0] = True
    return rng.standard_normal((count, length, width)).astype(np.float32), valid


def choose_target(
    source: Path | None, modality: str | None, run: Path | None, seed: int | None, folder: Path | None, screen: Screen
) -> tuple[Exportable, VerificationSamples | None, Path]:
    """What is exported, what it is verified on, and the file it comes from. Raises: UsageError, CheckpointError."""
    if run is not None:
        if modality is not None or source is not None:
            raise UsageError("a run says itself what it is", where="--run", fix="leave CKPT and --modality out")
        trained = best_seed(run, seed, screen)
        shown = gather(trained.modality, folder, None, screen)
        return task_of(trained, shown), shown, run / f"seed-{trained.seed}" / "model.pt"
    file, note = find_checkpoint(source)
    if note:
        screen.say(note)
    state = read_for(file, modality, screen)
    if modality is None:
        return encoder_alone(state), None, file
    part = state.model.modalities[modality]
    shown = gather(part, folder, state.buffer.get(modality), screen)
    return features_of(state, part, shown), shown, file


def encoder_alone(state: State) -> Exportable:
    """Tokens and validity to features, any batch and any number of tokens."""
    shape = state.model.shape
    about = {"kind": "encoder", "encoder": asdict(shape), "versions": versions({})}
    names = (["tokens", "valid"], ["features"])
    return Exportable(EncoderAlone(state.model), names, tokens(LEAST, TOKENS, shape.width), (1,), about)


def features_of(state: State, modality: CompleteModality, samples: VerificationSamples) -> Exportable:
    """A modality's inputs to token features and pooled features."""
    about = {
        "kind": "features",
        "encoder": asdict(state.model.shape),
        "versions": versions({modality.name: modality}),
        **_inputs(modality, samples),
    }
    network = Features.of(state.model, modality.name)
    names = (["ids" if modality.channels == 0 else "inputs"], ["tokens", "pooled"])
    return Exportable(network, names, (samples.inputs,), _steps(modality), about, modality, modality.vocabulary)


def task_of(trained: TrainedSeed, samples: VerificationSamples) -> Exportable:
    """A fine-tuned network's inputs to its outputs."""
    spec, modality = trained.spec, trained.modality
    plain = spec.to_plain()
    words = plain.pop("vocabulary")
    about = {
        "kind": "task",
        "encoder": spec.encoder,
        "versions": versions({modality.name: modality}),
        **_inputs(modality, samples),
        "spacing": spec.spacing,
        "classes": spec.classes or None,
        "task": plain,
        "task_distribution": discovery.task_distribution(spec.kind),
    }
    names = (["ids" if modality.channels == 0 else "inputs"], [trained.kind.output])
    return Exportable(trained.network.eval(), names, (samples.inputs,), None, about, modality, words)


def _inputs(modality: CompleteModality, samples: VerificationSamples) -> dict[str, Any]:
    words = modality.text_tokenizer is not None
    return {
        "modality": modality.name,
        "title": modality.title,
        "distribution": discovery.distribution_of(modality.name),
        "plugin": fingerprint(modality),
        "dims": modality.dims,
        "channels": modality.channels,
        "size": list(modality.size),
        "value_range": None if words else [float(samples.inputs.min()), float(samples.inputs.max())],
        "unit": "id of a word piece" if words else "normalised value, see intensity",
        "intensity": rule_of(modality),
        "tokenizer": modality.tokenizer.key,
        "tokenizer_spec": modality.tokenizer.spec.to_plain(),
    }


def _steps(modality: CompleteModality) -> tuple[int, ...] | None:
    """Edges of a patch, if there are patches and their positions are computed for any grid."""
    spec = modality.tokenizer.spec
    return spec.patch if spec.positions == "sincos" else None
