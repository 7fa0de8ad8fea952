"""What a fine-tuning begins with: a checkpoint's encoder, a network of others, or nothing; what is taken is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from medcoss_cli.console import Screen
from medcoss_cli.errors import CheckpointError, UsageError
from medcoss_cli.importers.foreign import read_foreign
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.model.foreign import width_of
from medcoss_cli.plugin import CompleteModality
from medcoss_cli.pretraining.state import described_modalities, read_for, rebuild, shape_of
from medcoss_cli.recipe.finetuning import FinetuneRecipe
from medcoss_cli.recipe.strategy import StrategyChoice
from medcoss_cli.registry import discovery
from medcoss_cli.registry.configure import said_by
from medcoss_cli.store import shareable
from medcoss_cli.store import start as begin
from medcoss_cli.store.checkpoint import Checkpoint, find_checkpoint, is_own
from medcoss_cli.strategies import Strategy
from medcoss_cli.tasks import TaskKind
from medcoss_cli.training.resume import taken_up

SCRATCH = "scratch"


def start_of(
    recipe: FinetuneRecipe, kind: TaskKind, start: str, screen: Screen
) -> tuple[dict[str, Any], Mapping[str, CompleteModality], Mapping[str, Tensor], dict[str, Any]]:
    """Encoder (see TaskSpec), modalities, weights and what they are: of a checkpoint, of a file of others, or of nothing.

    Of the modalities only the recipe's needs its plugin; the others are what the checkpoint says of them.
    """
    if start == SCRATCH:
        _no_network(recipe, "scratch")
        if recipe.head.subnetwork:
            raise UsageError(
                "head.subnetwork is of a checkpoint's weights, and this starts from scratch", fix="leave it out"
            )
        shape = shape_from_scratch(recipe)
        screen.say(f"from scratch: width {shape.width}, depth {shape.depth}")
        return asdict(shape), {}, {}, dict(begin.SCRATCH)
    path, note = find_checkpoint(start)
    if note:
        screen.say(note)
    if not shareable.is_stripped(path) and not is_own(path):
        return _foreign(recipe, kind, path, screen)
    _no_network(recipe, "a checkpoint of medcoss")
    content = shareable.read(path)
    if recipe.modality in content.modalities:
        with said_by(path):
            rebuild(recipe.modality, content, screen)
    begun = begin.described(path, content.history)
    weights = content.weights
    if recipe.head.subnetwork:
        with taken_up(path, "use another copy of it, or leave head.subnetwork out"):
            weights = _subnetwork(path, content, recipe.modality, screen)
    return asdict(shape_of(content)), described_modalities(content), weights, begun


def shape_from_scratch(recipe: FinetuneRecipe) -> EncoderShape:
    """The dimensions of an encoder that begins from nothing."""
    return EncoderShape(**recipe.encoder.model_dump()) if recipe.encoder else EncoderShape()


def _subnetwork(path: Path, content: Checkpoint, modality: str, screen: Screen) -> dict[str, Tensor]:
    """Encoder and tokenizer as the checkpoint's strategy has them for one modality: of packnet, without later stages' weights.

    Raises: CheckpointError where the strategy has the same weights for all modalities, or the file does not hold what it kept.
    """
    trained = content.history[-1].get("recipe", {}).get("strategy", "") if content.history else ""
    choice = StrategyChoice.read(trained) if trained else None
    if choice is None or choice.cls.serving is Strategy.serving:
        raise CheckpointError(
            f"head.subnetwork: the strategy {choice or 'of this checkpoint'} has the same weights for all modalities",
            where=path,
            fix="leave head.subnetwork out",
        )
    if choice.name not in content.memory:
        raise CheckpointError(
            f"head.subnetwork: which weights serve {modality} is not in this file",
            where=path,
            fix="give the run's ckpt.pt",
        )
    strategy, state = choice.make(), read_for(path, modality, screen)
    strategy.load_memory(content.memory[choice.name])
    strategy.check_memory(state.model)
    with strategy.serving(state.model, modality):
        weights = {name: weight.clone() for name, weight in state.shared_weights().items()}
    screen.say(f"taken: the weights that serve {modality}; those of later stages are 0")
    return weights


def _no_network(recipe: FinetuneRecipe, start: str) -> None:
    """Raises: UsageError for the key `network` where no file of others is begun with."""
    if recipe.network is not None:
        raise UsageError(
            f"network is the architecture of a file of others, and this starts from {start}",
            where="network",
            fix="leave it out",
        )


def _foreign(
    recipe: FinetuneRecipe, kind: TaskKind, path: Path, screen: Screen
) -> tuple[dict[str, Any], Mapping[str, CompleteModality], Mapping[str, Tensor], dict[str, Any]]:
    """The same of a file of others: its network, or the residual U-Net on it where the kind of task has one.

    Raises: CheckpointError for what is not known or does not take the modality's samples, UsageError for settings that are
        of medcoss's own encoder.
    """
    head = recipe.head
    if head.subnetwork:
        raise UsageError("head.subnetwork is of a checkpoint of medcoss", where=path, fix="leave it out")
    if head.hybrid is not None or (kind.unet and (head.freeze or head.probe)):
        which = "head.hybrid is" if head.hybrid is not None else "head.freeze and head.probe are"
        raise UsageError(
            f"{which} for masks on an encoder of medcoss",
            fix="leave it out: a residual U-Net is trained that begins with this file's weights",
        )
    given = read_foreign(str(path), recipe.network)
    modality = discovery.load_modality(recipe.modality)
    size = recipe.input.size or list(modality.size)
    network = given.unet() if kind.unet else given.network
    dims, channels = network["dims"], network["channels"]
    if modality.dims != dims or modality.channels not in (1, channels):
        raise CheckpointError(
            f"{given.title} takes samples of {dims} axes and {channels} channels; {modality.name} has {modality.dims} and "
            f"{modality.channels}",
            where=path,
            fix="give weights of a network for such samples",
        )
    try:
        width = 0 if kind.unet else width_of(given.network, size)
    except ValueError as error:
        raise CheckpointError(
            f"{given.title} does not take samples of {' x '.join(map(str, size))} ({error})",
            where=path,
            fix="set input.size to the size it was trained on",
        ) from error
    screen.say(f"taken: {given.title}, {len(given.weights)} tensors; left: {len(given.left)}{_some(given.left)}")
    if head.drop_path or head.pool == "all":
        screen.warn("head.drop_path and head.pool are of medcoss's own encoder, and not used")
    begun = begin.described(path, []) | {"from": "weights of others", "title": given.title}
    return {"network": network, "title": given.title, "width": width}, {}, given.weights, begun


def _some(names: Sequence[str]) -> str:
    return f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""


def encoder_weights(
    encoder: Mapping[str, Any], weights: Mapping[str, Tensor], key: str, modality: str, screen: Screen, *, fresh: bool
) -> dict[str, Tensor]:
    """Encoder and tokenizer of a checkpoint, or the encoder alone; says what was taken.

    Args:
        fresh: the tokenizer is to be random, as in rows of the paper's Table 2 that cross dimensions.

    Raises: CheckpointError without the tokenizer.
    """
    if fresh:
        tensors = {name: weight.clone() for name, weight in weights.items() if name.startswith("encoder.")}
        screen.say(
            f"taken: the encoder (width {encoder['width']}, depth {encoder['depth']}), {len(tensors)} tensors; the tokenizer "
            f"{key} is new, with random weights; left: {len(weights) - len(tensors)} (decoders, tokenizers)"
        )
        return tensors
    tokenizers = list(dict.fromkeys(name.split(".", 2)[1] for name in weights if name.startswith("tokenizers.")))
    if key not in tokenizers:
        raise CheckpointError(
            f"the checkpoint has the tokenizers {', '.join(tokenizers)}; {modality} needs {key}",
            fix=f"add tokenizer=new for its encoder with a random tokenizer, medcoss extend --modality {modality} --from CKPT "
            f"first, or --from {SCRATCH}",
        )
    tensors = {n: w.clone() for n, w in weights.items() if n.startswith(("encoder.", f"tokenizers.{key}."))}
    screen.say(
        f"taken: the encoder (width {encoder['width']}, depth {encoder['depth']}) and the tokenizer {key}, "
        f"{len(tensors)} tensors; left: {len(weights) - len(tensors)} (decoders, other tokenizers)"
    )
    return tensors


def tokenizer_of(words: str | None) -> tuple[str | None, bool]:
    """The key that a recipe names, if any, and whether its weights are to be random: "new", "new patch2d-8"."""
    if words is None or words.split(" ", 1)[0] != "new":
        return words, False
    return words[len("new ") :].strip() or None, True
