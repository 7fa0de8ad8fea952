"""From a file of somebody else's to a state like our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medcoss_cli.console import Screen
from medcoss_cli.errors import CheckpointError
from medcoss_cli.importers.imported import DECODERS, WORDS, Imported, state_of
from medcoss_cli.importers.perceiver import is_perceiver, perceiver
from medcoss_cli.importers.shareable import unstripped
from medcoss_cli.importers.vit import is_vit, vit
from medcoss_cli.importers.weights import read
from medcoss_cli.kit.vocabulary import read_vocabulary
from medcoss_cli.pretraining.state import State
from medcoss_cli.store.shareable import is_stripped


@dataclass(frozen=True)
class Conversion:
    """A state, and what became of the file's tensors.

    Args:
        origin: what the file is.
        taken: the file's names by where they went: the encoder, a tokenizer's key, "decoders".
        dropped: the file's names that nothing was made of.
        random: our names that the file brought nothing for; they begin as in a new network.
        notes: what a user should know.
    """

    state: State
    origin: str
    taken: dict[str, list[str]]
    dropped: list[str]
    random: list[str]
    notes: list[str]


def convert(
    source: str,
    names: Sequence[str] = (),
    vocabulary: Path | None = None,
    heads: int | None = None,
    seed: int = 0,
    screen: Screen | None = None,
) -> Conversion:
    """Read the authors' MedCoSS checkpoint, Uni-Perceiver weights, a ViT of timm or MAE, or what `checkpoint strip` wrote.

    Args:
        source: a file, or `timm:NAME` where its weights were fetched before.
        names: modalities to make it known to; none are those of medcoss itself that can take its tokenizers, or all
            that a stripped file knows.
        vocabulary: file of the vocabulary that text was trained with; without it text is left out.
        heads: of the attention; else 64 values a head.
        seed: of what stays random.

    Raises: CheckpointError, UsageError, RecipeError, ResourceError.
    """
    if is_stripped(Path(source)):
        state, random = unstripped(Path(source), names, screen)
        loaded = {"encoder and tokenizers": list(state.shared_weights())}
        return Conversion(state, "what `medcoss checkpoint strip` wrote", loaded, [], random, [])
    weights = read(source)
    if heads is not None:
        weights.facts["heads"] = heads
    guessed = "heads" not in weights.facts
    imported: Imported
    if is_perceiver(weights):
        imported = perceiver(weights)
    elif is_vit(weights):
        imported = vit(weights)
    else:
        raise CheckpointError(
            f"the names of its {len(weights.tensors)} tensors are unknown",
            where=source,
            fix="known are the authors' MedCoSS checkpoint, Uni-Perceiver, and plain ViTs of timm or MAE",
        )
    text = None if vocabulary is None else read_vocabulary(vocabulary)
    state, random = state_of(imported, names, text, seed)
    used = {part.key for part in (m.tokenizer for m in state.model.modalities.values()) if part is not None}
    unused = [key for key in imported.specs if key not in used]
    if not used - {WORDS}:
        unused.append(DECODERS)  # what they share: words have a head of their own
    dropped = weights.left() + [name for key in unused for name in weights.taken.get(key, [])]
    loaded = {group: tensors for group, tensors in weights.taken.items() if group not in unused}
    shape = imported.shape
    notes = (
        [f"its attention is taken to have {shape.heads} heads of {shape.width // shape.heads} values"]
        if guessed
        else []
    )
    notes += imported.notes + [f"{key} left out: {_why(key, vocabulary)}" for key in imported.specs if key not in used]
    return Conversion(state, imported.origin, loaded, sorted(set(dropped)), random, notes)


def _why(key: str, vocabulary: Path | None) -> str:
    if key == WORDS and vocabulary is None:
        return "it needs its vocabulary (--vocabulary FILE, or in a recipe `vocabulary` of the stage)"
    return "no installed modality uses it"
