"""What an importer makes of a file: shapes, specs and weights, ready to become a checkpoint like our own."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from medcoss_cli.errors import RecipeError, UsageError
from medcoss_cli.kit.vocabulary import Codec, padded
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.model.multimodal import Model
from medcoss_cli.plugin import CompleteModality, TokenizerSpec
from medcoss_cli.pretraining.state import State, versions
from medcoss_cli.registry import discovery
from medcoss_cli.registry.configure import fit, with_key

DECODERS = "decoders"  # where what several decoders share went
WORDS = "words"  # the key of a text tokenizer: without a vocabulary its table says nothing


@dataclass
class Imported:
    """Weights under medcoss's names.

    Args:
        origin: what the file is, for readers and for the history.
        shape: of the encoder.
        encoder: its weights by name; all of them.
        specs: of the tokenizers that the file brings, by key.
        sizes: of the samples these were trained on, by key.
        tokenizers: key to weights by name; what is not among them keeps its initial value.
        decoders: the same for decoders, by the tokenizer's key.
        decoder_specs: their dimensions.
        rows: entries of the word table.
        notes: what a user should know.
    """

    origin: str
    shape: EncoderShape
    encoder: dict[str, Tensor]
    specs: dict[str, TokenizerSpec] = field(default_factory=dict)
    sizes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    tokenizers: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    decoders: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    decoder_specs: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: int = 0
    notes: list[str] = field(default_factory=list)


def state_of(
    imported: Imported, names: Sequence[str], vocabulary: str | None, seed: int = 0
) -> tuple[State, list[str]]:
    """A state that knows these modalities, and the names of weights that the file did not bring: they are random.

    Args:
        names: modalities that take one of its tokenizers; none are those of medcoss itself that do.
        vocabulary: JSON text for a text tokenizer; without it text is left out.

    Raises: UsageError where none of them, or a named one, has a tokenizer there; RecipeError for an unfit vocabulary.
    """
    modalities = _modalities(imported, names, vocabulary)
    model = Model(imported.shape, seed)
    tensors = {f"encoder.{name}": tensor for name, tensor in imported.encoder.items()}
    for modality in modalities:
        model.add(modality)
        key = modality.tokenizer.key
        tensors |= {f"tokenizers.{key}.{name}": tensor for name, tensor in imported.tokenizers[key].items()}
        tensors |= {
            f"decoders.{modality.name}.{name}": tensor for name, tensor in imported.decoders.get(key, {}).items()
        }
    random = [name for name in model.state_dict() if name not in tensors]
    model.load_state_dict(tensors, strict=False)
    state = State(model, origin=imported.origin)
    for number, modality in enumerate(modalities, 1):
        about = {"stage": number, "modality": modality.name, "title": modality.title, "strategy": "imported"}
        distributions = versions({modality.name: modality})
        state.history.append({**about, "origin": imported.origin, "versions": distributions, "retention": {}})
    return state, random


def _modalities(imported: Imported, names: Sequence[str], vocabulary: str | None) -> list[CompleteModality]:
    modalities = []
    for name in dict.fromkeys(names or discovery.own_names()):
        modality = discovery.load_modality(name)
        key = _key(imported, modality)
        if key is None or (key == WORDS and vocabulary is None):
            if names:
                raise UsageError(
                    f"the file brings no tokenizer that {name} could take"
                    if key is None
                    else f"{name} needs the vocabulary that the weights were trained with",
                    where="--modality",
                    fix=f"it brings {', '.join(imported.specs)}" if key is None else "give it with --vocabulary FILE",
                )
            continue
        modalities.append(
            fit(
                modality,
                tokenizer=key,
                spec=imported.specs[key],
                size=imported.sizes[key],
                decoder=imported.decoder_specs.get(key),
                vocabulary=_vocabulary(imported, vocabulary) if key == WORDS else None,
            )
        )
    if not modalities:
        raise UsageError(
            "none of the installed modalities can take its tokenizers",
            fix=f"it brings {', '.join(imported.specs)}; name a modality with --modality",
        )
    return modalities


def _key(imported: Imported, modality: CompleteModality) -> str | None:
    """The tokenizer of the file that a modality can take: one of its own axes, channels and pretext."""
    part = modality.tokenizer
    for key, spec in imported.specs.items():
        if spec.kind != part.spec.kind:
            continue
        if key == part.key:
            return key
        if spec.patch is not None and len(spec.patch) == modality.dims:
            with contextlib.suppress(RecipeError):  # a tokenizer of one form
                if with_key(part, key).spec.channels == spec.channels:
                    return key
    return None


def _vocabulary(imported: Imported, vocabulary: str | None) -> str | None:
    if vocabulary is None:
        return None
    size = Codec(vocabulary).size
    if size > imported.rows:
        raise UsageError(
            f"the vocabulary has {size} pieces, the weights have {imported.rows}",
            where="--vocabulary",
            fix="give the vocabulary that the weights were trained with",
        )
    return padded(vocabulary, imported.rows) if size < imported.rows else vocabulary
