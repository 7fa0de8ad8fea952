"""From what was typed to a fine-tuning that is ready to go: the task, its cases, its start; new, or resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from medcoss_cli.console import Logged, Screen
from medcoss_cli.data.labelled import Case, classes_of
from medcoss_cli.data.read import Found, with_vocabulary
from medcoss_cli.data.segmented import foreground
from medcoss_cli.errors import CheckpointError, UsageError
from medcoss_cli.finetuning.dataset import Reading, bounded, facts_of, find_cases, lesson_of
from medcoss_cli.finetuning.spec import Task, for_task
from medcoss_cli.finetuning.trainer import parameters_of
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.model.finetuned import HeadShape, Tuned
from medcoss_cli.model.heads import HybridDecoder, MaskDecoder, expect
from medcoss_cli.model.multimodal import Model
from medcoss_cli.plugin import CompleteModality, LeftOut
from medcoss_cli.pretraining.state import read_state
from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.recipe.schema import FinetuneRecipe
from medcoss_cli.registry.configure import for_stage, resized
from medcoss_cli.store import finetuned, plain
from medcoss_cli.store.checkpoint import find_checkpoint
from medcoss_cli.store.run import Run
from medcoss_cli.tasks.classification import Classification
from medcoss_cli.tasks.segmentation import Segmentation
from medcoss_cli.training import distributed
from medcoss_cli.training.distributed import Devices
from medcoss_cli.training.runs import Options, create_run, folders

SCRATCH = "scratch"
START = "start.pt"


@dataclass(frozen=True)
class Tuning:
    """One run of finetune, ready to go.

    Args:
        weights: encoder and tokenizer to begin with; empty: from scratch.
        cases: the manifest's, with their records; `lost` are those that cannot be read.
    """

    recipe: FinetuneRecipe
    task: Task
    modality: CompleteModality
    weights: Mapping[str, Tensor]
    cases: Sequence[Case]
    lost: Sequence[LeftOut]
    lesson: Classification | Segmentation
    seeds: Sequence[int]
    run: Run
    devices: Devices
    screen: Screen

    def network(self, seed: int) -> Tuned:
        """The network before its first step: the head drawn from the seed, the rest from the checkpoint, if any."""
        network = build(self.task, self.modality, seed, self.recipe.head.drop_path)
        if isinstance(self.lesson, Segmentation):
            expect(cast("MaskDecoder | HybridDecoder", network.head), self.lesson.shares)
        if self.weights:
            network.take(self.weights, self.task.tokenizer)
        if self.recipe.head.hybrid is not None and self.recipe.head.hybrid.cnn is not None:
            self.screen.say(network.take_cnn(read_weights(Path(self.recipe.head.hybrid.cnn))))
        return network


def begin_finetune(
    recipe: FinetuneRecipe, stem: str, start: str | None, seeds: Sequence[int] | None, options: Options, screen: Screen
) -> Tuning:
    """A new run. Raises: CheckpointError, DataError, UsageError before anything is written."""
    place = one_device()
    task, modality, weights, cases, lost, root = settle(recipe, start, options, screen)
    lesson = _lesson(recipe, task, modality, cases, lost, root, options, screen)
    chosen = list(seeds or [recipe.seed])
    facts = {"kind": "finetune", "seeds": chosen, "start": "checkpoint" if weights else SCRATCH}
    run = create_run(recipe, stem, facts, options, screen)
    finetuned.save(finetuned.Stored(task.to_plain(), dict(weights), {}), run.folder / START)
    logged = Logged(screen, run.log)
    return Tuning(recipe, task, modality, weights, cases, lost, lesson, chosen, run, place, logged)


def resume_finetune(folder: Path, options: Options, screen: Screen) -> Tuning:
    """A run that was interrupted, exactly as it was begun; only folders may be given anew."""
    place, run = one_device(), Run.resume(folder)
    if run.facts.get("kind") != "finetune":
        raise UsageError(
            "this is no run of finetune", where=folder, fix=f"medcoss {run.facts.get('kind')} --resume {folder}"
        )
    recipe = read_recipe(str(run.recipe), [], kind="finetune")
    assert isinstance(recipe, FinetuneRecipe)
    if not (folder / START).exists():
        raise CheckpointError("the run was stopped before it had its start", where=folder, fix="begin it again")
    stored = finetuned.load(folder / START)
    task = Task(**stored.task)
    modality = task.load_modality()
    known = Options(
        None, False, options.data_root or Path(run.facts["data_root"]), options.prepared or Path(run.facts["prepared"])
    )
    root = folders(recipe, known)[0] / recipe.data.folder
    cases, lost = _cases(recipe, modality, root, screen)
    lesson = _lesson(recipe, task, modality, cases, lost, root, known, screen)
    logged = Logged(screen, run.log)
    return Tuning(recipe, task, modality, stored.weights, cases, lost, lesson, run.facts["seeds"], run, place, logged)


def outlook(recipe: FinetuneRecipe, start: str | None, options: Options, screen: Screen) -> None:
    """What a run would do, from headers alone: cases, classes, the size of the network; nothing is written."""
    task, modality, _, cases, lost, _ = settle(recipe, start, options, screen)
    bounded(cases, lost, recipe.data.bad_share, screen)
    facts = facts_of(cases)
    rows = [[split, str(part["samples"]), str(part["groups"])] for split, part in facts.items()]
    screen.table(f"{task.kind} of {modality.title}: {', '.join(task.classes)}", ["split", "cases", "groups"], rows)
    size, tune = parameters_of(build(task, modality, recipe.seed)), recipe.train
    screen.say(f"network of {size['weights'] / 1e6:.1f} million weights, {size['trained'] / 1e6:.1f} trained")
    passes = tune.steps * tune.batch / max(1, facts["train"]["samples"])
    screen.say(f"{tune.steps} steps of {tune.batch}, {passes:.1f} passes over the training cases; nothing was written")


def build(task: Task, modality: CompleteModality, seed: int, drop_path: float = 0.0) -> Tuned:
    """A task's network with weights drawn from the seed."""
    return Tuned(modality, EncoderShape(**task.encoder), HeadShape(**task.head), seed=seed, drop_path=drop_path)


def settle(
    recipe: FinetuneRecipe, start: str | None, options: Options, screen: Screen
) -> tuple[Task, CompleteModality, Mapping[str, Tensor], list[Case], list[LeftOut], Path]:
    """What the recipe, the checkpoint and the manifest say together: the task in plain values, and its cases."""
    model, weights = _start(recipe, start or recipe.start, screen)
    chosen = for_stage(
        recipe.modality,
        model.modalities,
        screen,
        tokenizer=recipe.tokenizer,
        vocabulary_size=recipe.vocabulary_size,
    )
    key = chosen.tokenizer.key
    if weights:
        weights = _taken(model, weights, key, recipe.modality, screen)
    size = tuple(recipe.input.size or chosen.size)
    vocabulary = chosen.vocabulary
    intensity: dict[str, Any] | None = {"zscore": True} if recipe.input.intensity == "zscore" else None
    root = folders(recipe, options)[0] / recipe.data.folder
    modality = for_task(chosen, key, size, vocabulary, intensity)
    cases, lost = _cases(recipe, modality, root, screen)
    if vocabulary is None:
        train = [case.record for case in cases if case.split == "train" and case.record is not None]
        vocabulary = with_vocabulary(modality, Found(root, train, []), screen).vocabulary
    values = recipe.classes if isinstance(recipe.classes, dict) else None
    if values is None:
        asked = recipe.classes if isinstance(recipe.classes, list) else None
        classes = classes_of(cases, asked, screen)
    else:
        classes = list(values)
    if not isinstance(recipe.input.intensity, str):
        fixed = recipe.input.intensity
        intensity = {"low": fixed.clip[0], "high": fixed.clip[1], "mean": fixed.mean, "deviation": fixed.deviation}
    elif recipe.input.intensity == "foreground":
        assert values is not None
        low, high, mean, deviation = foreground(modality, cases, values, screen)
        intensity = {"low": low, "high": high, "mean": mean, "deviation": deviation}
    modality = for_task(chosen, key, size, vocabulary, intensity)
    if note := resized(modality):
        screen.warn(note)
    head = recipe.head
    frozen = head.freeze or head.probe or head.hybrid is not None
    shape = HeadShape(
        recipe.task,
        len(classes),
        1 if head.probe else head.layers,
        head.pool,
        head.features,
        head.hybrid.depth if head.hybrid else None,
        frozen=frozen,
        standardise=frozen and recipe.task == "classification",
    )
    task = Task(
        kind=recipe.task,
        title=recipe.title,
        modality=recipe.modality,
        classes=classes,
        values=values,
        tokenizer=key,
        tokenizer_spec=modality.tokenizer.spec.to_plain(),
        vocabulary=vocabulary,
        size=list(size),
        spacing=recipe.input.spacing,
        crop=recipe.input.crop,
        intensity=intensity,
        predict=recipe.predict.model_dump(),
        encoder=asdict(model.shape),
        head=asdict(shape),
    )
    return task, modality, weights, cases, lost, root


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a safetensors or torch file; nothing in it is executed. Raises: CheckpointError."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors: dict[str, Tensor] = load_file(path)
            return tensors
        except (OSError, SafetensorError) as error:
            raise CheckpointError("it cannot be read as safetensors", where=path) from error
    content = plain.load(path)
    for key in ("state_dict", "model", "student"):
        content = content[key] if isinstance(content.get(key), dict) else content
    return {str(name).removeprefix("module."): w for name, w in content.items() if isinstance(w, Tensor)}


def _start(recipe: FinetuneRecipe, start: str, screen: Screen) -> tuple[Model, Mapping[str, Tensor]]:
    """The checkpoint's model with its weights, or an empty model of the recipe's dimensions and no weights."""
    if start == SCRATCH:
        shape = EncoderShape(**recipe.encoder.model_dump()) if recipe.encoder else EncoderShape()
        screen.say(f"from scratch: width {shape.width}, depth {shape.depth}")
        return Model(shape, recipe.seed), {}
    path, said = find_checkpoint(start)
    if said:
        screen.say(said)
    state = read_state(path)
    return state.model, state.model.state_dict()


def _taken(model: Model, weights: Mapping[str, Tensor], key: str, modality: str, screen: Screen) -> dict[str, Tensor]:
    """Encoder and tokenizer of a checkpoint; says what was taken. Raises: CheckpointError without the tokenizer."""
    if key not in model.tokenizers:
        raise CheckpointError(
            f"the checkpoint has the tokenizers {', '.join(model.tokenizers)}; {modality} needs {key}",
            fix=f"medcoss extend --modality {modality} --from CKPT first, or --from {SCRATCH}",
        )
    taken = {n: w.clone() for n, w in weights.items() if n.startswith(("encoder.", f"tokenizers.{key}."))}
    screen.say(
        f"taken: the encoder (width {model.shape.width}, depth {model.shape.depth}) and the tokenizer {key}, "
        f"{len(taken)} tensors; left: {len(weights) - len(taken)} (decoders, other tokenizers)"
    )
    return taken


def _cases(
    recipe: FinetuneRecipe, modality: CompleteModality, root: Path, screen: Screen
) -> tuple[list[Case], list[LeftOut]]:
    masks, data = recipe.task == "segmentation", recipe.data
    return find_cases(
        modality, root, masks=masks, screen=screen, fold=data.fold, validation=data.validation, seed=recipe.seed
    )


def _lesson(
    recipe: FinetuneRecipe,
    task: Task,
    modality: CompleteModality,
    cases: list[Case],
    lost: list[LeftOut],
    root: Path,
    options: Options,
    screen: Screen,
) -> Classification | Segmentation:
    bounded(cases, lost, recipe.data.bad_share, screen)
    prepared = folders(recipe, options)[1]
    reading = Reading(prepared, recipe.data.workers, recipe.data.bad_share)
    augment = "none" if recipe.head.probe and recipe.input.augment is None else recipe.input.augment
    return lesson_of(task, modality, cases, root, augment, recipe.train.balance, reading, screen)


def one_device() -> Devices:
    """Where this process computes. Raises: UsageError under torchrun with several ranks."""
    place = distributed.join()
    if place.ranks > 1:
        raise UsageError("a head is trained on one device", fix="start it without torchrun")
    return place
