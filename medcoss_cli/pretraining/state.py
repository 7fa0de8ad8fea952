"""What is carried from stage to stage: the model, the rehearsal buffer, the probes, the history."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from medcoss_cli.data.batches import Stored
from medcoss_cli.errors import CheckpointError, PluginError
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.model.multimodal import Model
from medcoss_cli.plugin import CompleteModality, TokenizerSpec
from medcoss_cli.pretraining.retention import Probes, measure, probe
from medcoss_cli.registry import discovery
from medcoss_cli.registry.configure import fit
from medcoss_cli.store import checkpoint
from medcoss_cli.store.checkpoint import Checkpoint


@dataclass
class State:
    """Everything a run knows between two stages; a checkpoint is this, written down.

    Args:
        origin: what its first weights were, where they were not random; the first stage's entry of the history keeps it.
    """

    model: Model
    buffer: dict[str, Stored] = field(default_factory=dict)
    probes: dict[str, Probes] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    origin: str | None = None

    @property
    def vocabularies(self) -> dict[str, str]:
        """Learned or given vocabularies (JSON text) by tokenizer key."""
        return {m.tokenizer.key: m.vocabulary for m in self.model.modalities.values() if m.vocabulary is not None}

    def keep(self, modality: str, samples: Stored) -> None:
        """Add a stage's share to the buffer; a modality that comes a second time keeps both shares."""
        before = self.buffer.get(modality)
        self.buffer[modality] = samples if before is None else Stored.joined(before, samples)

    def finish(self, number: int, modality: CompleteModality, probes: Stored, facts: dict[str, Any]) -> None:
        """Write a finished stage into the history: probe the new modality, measure the earlier ones."""
        name = modality.name
        if len(probes):
            self.probes[name] = probe(self.model, name, probes)
        self.history.append(
            {
                "stage": number,
                "modality": name,
                "title": modality.title,
                "buffer": len(self.buffer.get(name, ())),
                **facts,
                **({"origin": self.origin} if self.origin is not None and not self.history else {}),
                "versions": versions(self.model.modalities),
                "retention": measure(self.model, self.probes),
            }
        )

    def shared_weights(self) -> dict[str, torch.Tensor]:
        """Encoder and tokenizers, without decoders: the product of pre-training."""
        weights = self.model.state_dict()
        return {k: v.detach().cpu().contiguous() for k, v in weights.items() if not k.startswith("decoders.")}

    def to_checkpoint(self) -> Checkpoint:
        """The state as plain values and CPU tensors."""
        modalities = self.model.modalities
        return Checkpoint(
            encoder={**asdict(self.model.shape), "seed": self.model.seed, "masking": dict(self.model.masking)},
            tokenizers={m.tokenizer.key: m.tokenizer.spec.to_plain() for m in modalities.values()},
            modalities={name: _facts(modality) for name, modality in modalities.items()},
            weights={name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()},
            vocabularies=self.vocabularies,
            buffer={name: _tensors(stored) for name, stored in self.buffer.items()},
            probes={
                name: {**_tensors(probe.samples), "features": probe.features, "loss": probe.loss}
                for name, probe in self.probes.items()
            },
            history=self.history,
        )

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> State:
        """Rebuild the model with the installed plugins and take up the weights.

        Raises: PluginError if a plugin is missing, CheckpointError if a plugin's tokenizer or decoder has changed since.
        """
        shape = dict(checkpoint.encoder)
        seed, masking = shape.pop("seed"), shape.pop("masking")
        model = Model(EncoderShape(**shape), seed, masking)
        for name, facts in checkpoint.modalities.items():
            model.add(rebuild(name, facts, checkpoint))
        try:
            model.load_state_dict(checkpoint.weights)
        except RuntimeError as error:
            first = str(error).splitlines()[1:2]
            raise CheckpointError(
                f"the weights do not fit the installed plugins ({''.join(first).strip()})",
                fix="install the plugin versions that `medcoss checkpoint show` lists",
            ) from error
        return cls(
            model,
            {name: _stored(entry) for name, entry in checkpoint.buffer.items()},
            {name: Probes(_stored(e), e["features"], e["loss"]) for name, e in checkpoint.probes.items()},
            list(checkpoint.history),
            next((entry["origin"] for entry in checkpoint.history if "origin" in entry), None),
        )


def read_state(path: Path) -> State:
    """A checkpoint's state. Raises: CheckpointError, or PluginError if a plugin that it needs is missing."""
    known = checkpoint.load(path)
    require_plugins(known)
    return State.from_checkpoint(known)


def require_plugins(known: Checkpoint) -> None:
    """Raises: PluginError naming every modality of the checkpoint that is not installed."""
    installed = discovery.names()
    missing = [name for name in known.modalities if name not in installed]
    if missing:
        told = [name + _origin(known.modalities[name]) for name in missing]
        raise PluginError(
            f"the checkpoint knows {', '.join(told)}, but no installed plugin brings "
            f"{'it' if len(missing) == 1 else 'them'}",
            fix="; ".join(dict.fromkeys(discovery.how_to_get(name, installed) for name in missing)),
        )


def _origin(facts: Mapping[str, Any]) -> str:
    """The distribution a checkpoint names; it may come from a stranger, so only what looks like one is repeated."""
    text = str(facts.get("distribution", ""))
    return f" (of {text})" if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80} [0-9][A-Za-z0-9.+]{0,30}", text) else ""


def rebuild(name: str, facts: Mapping[str, Any], checkpoint: Checkpoint) -> CompleteModality:
    """The installed plugin's modality, shaped as the checkpoint knows it."""
    key = facts["tokenizer"]
    spec = TokenizerSpec.from_plain(checkpoint.tokenizers[key])
    modality = fit(
        discovery.load_modality(name),
        tokenizer=key,
        spec=spec,
        size=tuple(facts["size"]),
        decoder=facts["decoder"],
        vocabulary=checkpoint.vocabularies.get(key),
    )
    if modality.tokenizer.spec != spec:
        known, now = spec.to_plain(), modality.tokenizer.spec.to_plain()
        different = sorted(k for k in known.keys() | now.keys() if known.get(k) != now.get(k))
        raise CheckpointError(
            f"the tokenizer {key} of the installed {name} plugin differs from the checkpoint's in {', '.join(different)}",
            fix=f"install {facts.get('distribution', 'the version it was trained with')}",
        )
    return modality


def _facts(modality: CompleteModality) -> dict[str, Any]:
    return {
        "tokenizer": modality.tokenizer.key,
        "size": list(modality.size),
        "dims": modality.dims,
        "channels": modality.channels,
        "pretext": modality.pretext,
        "decoder": asdict(modality.decoder),
        "distribution": discovery.distribution_of(modality.name),
    }


def _tensors(stored: Stored) -> dict[str, torch.Tensor]:
    return {"integers": stored.integers, "scale": stored.scale, "offset": stored.offset}


def _stored(entry: Mapping[str, Any]) -> Stored:
    return Stored(entry["integers"], entry["scale"], entry["offset"])


def versions(modalities: Mapping[str, CompleteModality]) -> dict[str, str]:
    """Versions a history entry names: medcoss, torch, and the plugins' distributions."""
    plugins = {name: discovery.distribution_of(name) for name in modalities}
    return {"medcoss": version("medcoss"), "torch": str(torch.__version__), **plugins}
