"""What is carried from stage to stage: the model, the rehearsal buffer, the anchors, the history."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from medcoss_cli.console import Screen
from medcoss_cli.data.batches import StoredSamples, ids_fault
from medcoss_cli.errors import CheckpointError, PluginError
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.model.multimodal import Model
from medcoss_cli.model.networks import AtMost
from medcoss_cli.plugin import CompleteModality, TokenizerSpec
from medcoss_cli.pretraining.retention import Anchors, anchors_of, measure
from medcoss_cli.pretraining.stage_data import StageData
from medcoss_cli.registry import discovery
from medcoss_cli.registry.configure import fit, said_by
from medcoss_cli.registry.fingerprint import check_unchanged, fingerprint
from medcoss_cli.store import checkpoint, history, plain
from medcoss_cli.store.checkpoint import Checkpoint


@dataclass
class State:
    """Everything a run knows between two stages; a checkpoint is this, written down.

    Args:
        memory: what strategies keep for later stages, by their names.
        origin: what its first weights were, where they were not random; the first stage's entry of the history keeps it.
    """

    model: Model
    buffer: dict[str, StoredSamples] = field(default_factory=dict)
    anchors: dict[str, Anchors] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    origin: str | None = None
    memory: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def vocabularies(self) -> dict[str, str]:
        """Learned or given vocabularies (JSON text) by tokenizer key."""
        return {m.tokenizer.key: m.vocabulary for m in self.model.modalities.values() if m.vocabulary is not None}

    def keep(self, modality: str, samples: StoredSamples) -> None:
        """Add a stage's share to the buffer; a modality that comes a second time keeps both shares."""
        before = self.buffer.get(modality)
        self.buffer[modality] = samples if before is None else StoredSamples.joined(before, samples)

    def remember(self, strategy: str, memory: dict[str, Any]) -> None:
        """Keep what a strategy needs in later stages; nothing is kept for one that needs nothing.

        Raises: PluginError for what is neither a tensor nor a plain value.
        """
        try:
            plain_memory = plain.plain(memory)
        except TypeError as error:
            raise PluginError(
                f"the strategy {strategy} keeps what a checkpoint cannot hold in its memory ({error})",
                fix="report it to its author",
            ) from error
        if memory or strategy in self.memory:
            self.memory[strategy] = plain_memory

    def finish(
        self,
        number: int,
        data: Sequence[StageData],
        facts: dict[str, Any],
        serving: Callable[[Model, str], AbstractContextManager[None]],
    ) -> None:
        """Write a finished stage into the history: take anchors of the new modalities, measure the earlier ones.

        Args:
            serving: the strategy's; within it the model is as it serves a modality.
        """
        for part in data:
            anchors = StoredSamples.of(part.prepared, part.anchors)
            if len(anchors):
                self.anchors[part.modality.name] = anchors_of(self.model, part.modality.name, anchors)
        baselines = {m: part.get("baseline", 1.0) for entry in self.history for m, part in history.parts(entry).items()}
        baselines |= facts["baselines"]
        retention: dict[str, dict[str, float]] = {}
        for name, kept in self.anchors.items():
            with serving(self.model, name):
                retention |= measure(self.model, {name: kept}, baselines)
        self.history.append(
            {
                "stage": number,
                **history.about([self._about(part, facts["baselines"][part.modality.name]) for part in data]),
                **{key: value for key, value in facts.items() if key != "baselines"},
                **({"origin": self.origin} if self.origin is not None and not self.history else {}),
                "versions": versions(self.model.modalities, str(facts.get("strategy")).partition(" (")[0]),
                "retention": retention,
            }
        )

    def _about(self, data: StageData, baseline: float) -> dict[str, Any]:
        name, title = data.modality.name, data.modality.title
        buffered = len(self.buffer.get(name, ()))
        return {"modality": name, "title": title, "buffer": buffered, **data.facts, "baseline": baseline}

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
            anchors={
                name: {**_tensors(kept.samples), "features": kept.features, "loss": kept.loss}
                for name, kept in self.anchors.items()
            },
            history=self.history,
            memory=self.memory,
        )

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, screen: Screen | None = None, *, only: Collection[str] | None = None
    ) -> State:
        """Rebuild the model with the installed plugins and take up the weights.

        Args:
            screen: where it is noted that a plugin is of another version.
            only: modalities that are wanted; what belongs to the others is left out, so this state is not to be saved.

        Raises: PluginError if a plugin is missing, CheckpointError if one reads otherwise than when it was trained.
        """
        names = checkpoint.modalities.keys() if only is None else only
        model = Model(shape_of(checkpoint), checkpoint.encoder["seed"], checkpoint.encoder["masking"])
        for name in names:
            modality = rebuild(name, checkpoint, screen or Screen())
            with AtMost(checkpoint.weights):
                model.add(modality)
        try:
            model.load_state_dict(weights_for(model, checkpoint.weights))
        except RuntimeError as error:
            first = str(error).splitlines()[1:2]
            raise CheckpointError(
                f"the weights do not fit the installed plugins ({''.join(first).strip()})",
                fix="install the plugin versions that `medcoss checkpoint show` lists",
            ) from error
        for name in names:
            for part in (checkpoint.buffer, checkpoint.anchors):
                stored = part.get(name)
                fault = None if stored is None else ids_fault(model.modalities[name], stored["integers"].numpy())
                if fault is not None:
                    raise CheckpointError(f"the checkpoint is damaged: {fault}", fix="use another copy of it")
        return cls(
            model,
            {name: _stored(entry) for name, entry in checkpoint.buffer.items() if name in names},
            {
                name: Anchors(_stored(e), e["features"], e["loss"])
                for name, e in checkpoint.anchors.items()
                if name in names
            },
            list(checkpoint.history),
            next((entry["origin"] for entry in checkpoint.history if "origin" in entry), None),
            dict(checkpoint.memory),
        )


def shape_of(checkpoint: Checkpoint) -> EncoderShape:
    """The dimensions of a checkpoint's encoder."""
    return EncoderShape(**{key: value for key, value in checkpoint.encoder.items() if key not in ("seed", "masking")})


def weights_for(model: Model, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights without those of tokenizers and decoders that the model has no place for."""
    places = {"tokenizers": model.tokenizers, "decoders": model.decoders}
    parts = {name: name.split(".", 2) for name in weights}
    return {n: w for n, w in weights.items() if parts[n][0] not in places or parts[n][1] in places[parts[n][0]]}


def read_state(path: Path, screen: Screen | None = None) -> State:
    """A checkpoint's state, to go on from. Raises: CheckpointError, or PluginError if a plugin that it needs is missing."""
    content = checkpoint.load(path)
    require_plugins(content)
    with said_by(path):
        return State.from_checkpoint(content, screen)


def read_for(path: Path, modality: str | None, screen: Screen | None = None) -> State:
    """The encoder and what belongs to one modality, or the encoder alone; only that modality's plugin is needed.

    Not to be saved: what belongs to the others is left out.

    Raises: CheckpointError if the checkpoint does not know the modality, PluginError if its plugin is missing.
    """
    content = checkpoint.load(path)
    if modality is not None and modality not in content.modalities:
        raise CheckpointError(
            f"the checkpoint knows {', '.join(content.modalities) or 'no modality'}, not {modality}",
            where=path,
            fix=f"medcoss extend --modality {modality} --from CKPT first",
        )
    with said_by(path):
        return State.from_checkpoint(content, screen, only=() if modality is None else (modality,))


@dataclass(frozen=True)
class InertTokenizer:
    """What a checkpoint says of a tokenizer, without the plugin that builds it."""

    key: str
    spec: TokenizerSpec
    vocabulary: str | None


def described_modalities(checkpoint: Checkpoint) -> dict[str, CompleteModality]:
    """A checkpoint's modalities as it describes them, without their plugins: to compare with, not to read or build."""
    absent: Any = None
    modalities = {}
    for name, facts in checkpoint.modalities.items():
        key = facts["tokenizer"]
        spec = TokenizerSpec.from_plain(checkpoint.tokenizers[key])
        part: Any = InertTokenizer(key, spec, checkpoint.vocabularies.get(key))
        modalities[name] = CompleteModality(
            name=name,
            title=name,
            dims=facts["dims"],
            size=tuple(facts["size"]),
            channels=facts["channels"],
            pretext=facts["pretext"],
            loader=absent,
            tokenizer=part,
            intensity=part,
            augment=absent,
            decoder=absent,
        )
    return modalities


def require_plugins(checkpoint: Checkpoint) -> None:
    """Raises: PluginError naming every modality of the checkpoint that is not installed."""
    installed = discovery.names()
    missing = [name for name in checkpoint.modalities if name not in installed]
    if missing:
        sources = [name + _origin(checkpoint.modalities[name]) for name in missing]
        raise PluginError(
            f"the checkpoint knows {', '.join(sources)}, but no installed plugin brings "
            f"{'it' if len(missing) == 1 else 'them'}",
            fix="; ".join(dict.fromkeys(discovery.how_to_get(name, installed) for name in missing)),
        )


def _origin(facts: Mapping[str, Any]) -> str:
    """The distribution a checkpoint names; it may come from a stranger, so only what looks like one is repeated."""
    text = str(facts.get("distribution", ""))
    return f" (of {text})" if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80} [0-9][A-Za-z0-9.+]{0,30}", text) else ""


def rebuild(name: str, checkpoint: Checkpoint, screen: Screen) -> CompleteModality:
    """The installed plugin's modality, shaped as the checkpoint knows it.

    Raises: PluginError if it is missing, CheckpointError if it reads otherwise than when the checkpoint was trained.
    """
    facts = checkpoint.modalities[name]
    key = facts["tokenizer"]
    spec = TokenizerSpec.from_plain(checkpoint.tokenizers[key])
    modality = fit(
        discovery.load_modality(name),
        tokenizer=key,
        spec=spec,
        size=tuple(facts["size"]),
        decoder=facts.get("decoder"),  # a stripped file has none
        vocabulary=checkpoint.vocabularies.get(key),
    )
    check_unchanged(facts.get("fingerprint"), modality, screen)
    if modality.tokenizer.spec != spec:
        trained, installed = spec.to_plain(), modality.tokenizer.spec.to_plain()
        different = sorted(k for k in trained.keys() | installed.keys() if trained.get(k) != installed.get(k))
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
        "fingerprint": fingerprint(modality),
    }


def _tensors(stored: StoredSamples) -> dict[str, torch.Tensor]:
    return {"integers": stored.integers, "scale": stored.scale, "offset": stored.offset}


def _stored(entry: Mapping[str, Any]) -> StoredSamples:
    return StoredSamples(entry["integers"], entry["scale"], entry["offset"])


def versions(modalities: Collection[str], strategy: str | None = None) -> dict[str, str]:
    """Versions a history entry names: medcoss, torch, and the distributions of modalities and strategy."""
    distributions = {name: discovery.distribution_of(name) for name in modalities}
    if strategy in discovery.strategy_names():
        distributions[f"strategy {strategy}"] = discovery.distribution_of_strategy(str(strategy))
    return {"medcoss": version("medcoss"), "torch": str(torch.__version__), **distributions}
