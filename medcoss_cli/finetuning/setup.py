"""From what was typed to a fine-tuning that is ready to go: the task, its cases, its start; new, or resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from medcoss_cli.console import Logged, Screen
from medcoss_cli.data.labelled import LabelledSet
from medcoss_cli.data.read import Listing, with_vocabulary
from medcoss_cli.errors import CheckpointError, DataError, UsageError
from medcoss_cli.finetuning import overlap
from medcoss_cli.finetuning.dataset import bounded, facts_of, fewer_labels, find_cases
from medcoss_cli.finetuning.spec import build, for_task, load_kind, load_modality, stored_spec
from medcoss_cli.finetuning.start import encoder_weights, shape_from_scratch, start_of, tokenizer_of
from medcoss_cli.finetuning.trainer import parameters_of
from medcoss_cli.importers.weights import read
from medcoss_cli.kit.sources.places import local
from medcoss_cli.model.finetuned import TaskNetwork
from medcoss_cli.model.heads import HybridDecoder
from medcoss_cli.plugin import CompleteModality, Skipped
from medcoss_cli.pretraining.state import versions
from medcoss_cli.recipe.finetuning import FinetuneRecipe
from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.registry.configure import for_stage, reading, resized, trained_on
from medcoss_cli.registry.fingerprint import fingerprint
from medcoss_cli.store import finetuned
from medcoss_cli.store.run import Run
from medcoss_cli.tasks import TaskData, TaskKind
from medcoss_cli.tasks.spec import TaskSpec
from medcoss_cli.training import distributed
from medcoss_cli.training.distributed import Devices
from medcoss_cli.training.runs import Options, create_run, folders

START = "start.pt"


@dataclass(frozen=True)
class FinetuneJob:
    """One run of finetune, ready to go.

    Args:
        weights: encoder and tokenizer to begin with; empty: from scratch.
        labelled: the manifest's cases with their records; `lost` are those that cannot be read.
    """

    recipe: FinetuneRecipe
    kind: TaskKind
    spec: TaskSpec
    weights: Mapping[str, Tensor]
    labelled: LabelledSet
    lost: Sequence[Skipped]
    data: TaskData
    seeds: Sequence[int]
    run: Run
    devices: Devices
    screen: Screen

    @property
    def modality(self) -> CompleteModality:
        """The task's, as its cases are read."""
        return self.labelled.modality

    def network(self, seed: int) -> TaskNetwork:
        """The network before its first step: the head drawn from the seed, the rest from the checkpoint, if any."""
        network = build(self.spec, self.modality, seed, self.recipe.head.drop_path)
        self.data.initialise(network.head)
        if self.weights and (note := network.take(self.weights, self.spec.tokenizer)):
            self.screen.say(note)
        if self.recipe.head.hybrid is not None and self.recipe.head.hybrid.cnn is not None:
            residual = cast(HybridDecoder, network.head)
            self.screen.say(residual.take_cnn(read(self.recipe.head.hybrid.cnn).tensors))
        return network


def begin_finetune(
    recipe: FinetuneRecipe, stem: str, start: str | None, seeds: Sequence[int] | None, options: Options, screen: Screen
) -> FinetuneJob:
    """A new run. Raises: CheckpointError, DataError, UsageError before anything is written."""
    place = one_device()
    kind, spec, weights, begun, labelled, lost = settle(recipe, start, options, screen)
    data = _data(recipe, kind, spec, labelled, lost)
    numbers = list(seeds or [recipe.seed])
    in_use = {"plugins": {spec.modality: spec.plugin}, "versions": versions([spec.modality])}
    facts = {"kind": "finetune", "seeds": numbers, "start": begun, **in_use}

    def begin(folder: Path) -> None:
        finetuned.save(finetuned.StoredTask(spec.to_plain(), dict(weights), {}), folder / START)
        overlap.keep(labelled, folder)

    run = create_run(recipe, stem, facts, options, screen, begin)
    logged = Logged(screen, run.log)
    return FinetuneJob(recipe, kind, spec, weights, labelled, lost, data, numbers, run, place, logged)


def resume_finetune(folder: Path, options: Options, screen: Screen) -> FinetuneJob:
    """A run that was interrupted, exactly as it was begun; only folders may be given anew."""
    place, run = one_device(), Run.resume(folder)
    with run.closed_on_error():
        if run.facts.get("kind") != "finetune":
            raise UsageError(
                "this is not a run of finetune", where=folder, fix=f"medcoss {run.facts.get('kind')} --resume {folder}"
            )
        recipe = read_recipe(str(run.recipe), [], kind="finetune")
        assert isinstance(recipe, FinetuneRecipe)
        if not (folder / START).exists():
            raise CheckpointError("the run was stopped before it had its start", where=folder, fix="start it again")
        stored = finetuned.load(folder / START)
        spec = stored_spec(stored, folder / START)
        # what a start has no tensors of is as the recipe has it
        fits = {
            "head": spec.head == _head_of(recipe),
            "encoder": bool(stored.weights) or spec.encoder == asdict(shape_from_scratch(recipe)),
        }
        for part in (part for part, is_fit in fits.items() if not is_fit):
            raise CheckpointError(
                f"the start of this run is damaged: its {part} is not that of the run's recipe",
                where=folder / START,
                fix="start it again",
            )
        kind, modality = load_kind(spec), load_modality(spec, screen, folder / START)
        completed = Options(
            None,
            False,
            options.data_root or Path(run.facts["data_root"]),
            options.prepared or Path(run.facts["prepared"]),
        )
        labelled, lost = _labelled(recipe, kind, modality, completed, screen)
        data = _data(recipe, kind, spec, labelled, lost)
        logged = Logged(screen, run.log)
        return FinetuneJob(
            recipe, kind, spec, stored.weights, labelled, lost, data, run.facts["seeds"], run, place, logged
        )


def outlook(recipe: FinetuneRecipe, start: str | None, options: Options, screen: Screen) -> None:
    """What a run would do, from headers alone: cases, classes, the size of the network; nothing is written."""
    kind, spec, _, _, labelled, lost = settle(recipe, start, options, screen)
    modality = labelled.modality
    bounded(labelled.cases, lost, recipe.data.bad_share, screen)
    facts = facts_of(kind, labelled.cases)
    rows = [[split, str(part["samples"]), str(part["groups"])] for split, part in facts.items()]
    what = ", ".join(spec.classes) or kind.target.column
    screen.table(f"{spec.kind} of {modality.title}: {what}", ["split", "cases", "groups"], rows)
    size, tune = parameters_of(build(spec, modality, recipe.seed)), recipe.train
    screen.say(f"network of {size['weights'] / 1e6:.1f} million parameters, {size['trained'] / 1e6:.1f} trained")
    passes = tune.steps * tune.batch / max(1, facts["train"]["samples"])
    screen.say(f"{tune.steps} steps of {tune.batch}, {passes:.1f} passes over the training cases; nothing was written")


def settle(
    recipe: FinetuneRecipe, start: str | None, options: Options, screen: Screen
) -> tuple[TaskKind, TaskSpec, Mapping[str, Tensor], dict[str, Any], LabelledSet, list[Skipped]]:
    """What the recipe, the checkpoint and the manifest say together: the task and its start in plain values, and its cases."""
    kind = recipe.task_kind()
    encoder, modalities, weights, begun = start_of(recipe, kind, start or recipe.start, screen)
    asked, fresh = tokenizer_of(recipe.tokenizer)
    fitted = for_stage(
        recipe.modality,
        {} if fresh else modalities,
        screen,
        tokenizer=asked,
        vocabulary_size=recipe.vocabulary_size,
    )
    fitted = reading(fitted, recipe.data.reading)
    key = fitted.tokenizer.key
    if weights and "network" not in encoder:
        weights = encoder_weights(encoder, weights, key, recipe.modality, screen, fresh=fresh)
    size = tuple(recipe.input.size or fitted.size)
    if weights and not fresh and len(size) == fitted.dims:
        fitted = trained_on(fitted, size)
    vocabulary = fitted.vocabulary
    intensity: dict[str, Any] | None = {"zscore": True} if recipe.input.intensity == "zscore" else None
    labelled, lost = _labelled(recipe, kind, for_task(fitted, key, size, vocabulary, intensity), options, screen)
    if vocabulary is None:
        train = [case.record for case in labelled.split("train") if case.record is not None]
        vocabulary = with_vocabulary(labelled.modality, Listing(labelled.root, train, []), screen).vocabulary
    classes, target = kind.fit_target(recipe, labelled.cases, screen)
    if not isinstance(recipe.input.intensity, str):
        fixed = recipe.input.intensity
        intensity = {"low": fixed.clip[0], "high": fixed.clip[1], "mean": fixed.mean, "std": fixed.std}
    elif recipe.input.intensity == "foreground":
        low, high, mean, std = kind.foreground(labelled.modality, labelled.cases, target, screen)
        intensity = {"low": low, "high": high, "mean": mean, "std": std}
    modality = for_task(fitted, key, size, vocabulary, intensity)
    if note := resized(modality):
        screen.warn(note)
    spec = spec_of(recipe, kind, modality, encoder, classes, target, intensity)
    return kind, spec, weights, begun, replace(labelled, modality=modality), lost


def spec_of(
    recipe: FinetuneRecipe,
    kind: TaskKind,
    modality: CompleteModality,
    encoder: dict[str, Any],
    classes: list[str],
    target: dict[str, Any],
    intensity: dict[str, Any] | None,
) -> TaskSpec:
    """A recipe's task in plain values.

    Args:
        modality: as the task reads it.
        encoder: see TaskSpec.
        classes, target: what the kind fitted to the training cases.
        intensity: None: the modality's own.
    """
    return TaskSpec(
        kind=kind.name,
        settings=recipe.task_settings(),
        title=recipe.title,
        modality=recipe.modality,
        classes=classes,
        target=target,
        tokenizer=modality.tokenizer.key,
        tokenizer_spec=modality.tokenizer.spec.to_plain(),
        vocabulary=modality.vocabulary,
        size=list(modality.size),
        spacing=recipe.input.spacing,
        crop=recipe.input.crop,
        intensity=intensity,
        predict=recipe.predict.model_dump(),
        encoder=encoder,
        head=_head_of(recipe),
        plugin=fingerprint(modality),
        reading=recipe.data.reading,
    )


def _head_of(recipe: FinetuneRecipe) -> dict[str, Any]:
    head = recipe.head
    return {
        "layers": 1 if head.probe else head.layers,
        "pool": head.pool,
        "features": head.features,
        "hybrid": head.hybrid.depth if head.hybrid else None,
        "frozen": head.freeze or head.probe or head.hybrid is not None,
    }


def _labelled(
    recipe: FinetuneRecipe, kind: TaskKind, modality: CompleteModality, options: Options, screen: Screen
) -> tuple[LabelledSet, list[Skipped]]:
    """The recipe's cases, and what of them the modality's loader cannot use."""
    data, (place, prepared) = recipe.data, folders(recipe, options)
    root = local(data.folder, place, screen.say)
    cases, lost = find_cases(
        modality,
        root,
        kind.target,
        screen=screen,
        fold=data.fold,
        validation=data.validation,
        seed=recipe.seed,
        columns=data.columns,
    )
    cases = fewer_labels(cases, data.labels, recipe.seed)
    root = root.parent if root.is_file() else root  # a table in place of its folder
    return LabelledSet(modality, root, cases, prepared, data.workers, data.bad_share, screen), lost


def _data(
    recipe: FinetuneRecipe, kind: TaskKind, spec: TaskSpec, labelled: LabelledSet, lost: Sequence[Skipped]
) -> TaskData:
    """Prepared samples. Raises: DataError, also where nothing is left to train on."""
    bounded(labelled.cases, lost, labelled.bad_share, labelled.screen)
    augment = "none" if recipe.head.probe and recipe.input.augment is None else recipe.input.augment
    data = kind.data(spec, labelled, augment, balance=recipe.train.balance)
    if not data.cases:
        raise DataError("no training case is left", where=labelled.root)
    return data


def one_device() -> Devices:
    """Where this process computes. Raises: UsageError under torchrun with several ranks."""
    place = distributed.join()
    if place.ranks > 1:
        raise UsageError("a head is trained on one device", fix="start it without torchrun")
    return place
