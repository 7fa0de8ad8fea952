"""From what was typed to a job: a new run, one that extends a checkpoint, or one that is resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from medcoss_cli.console import Logged, Screen
from medcoss_cli.errors import CheckpointError, DataError, RecipeError, UsageError
from medcoss_cli.kit.sources.places import local
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.model.multimodal import Model
from medcoss_cli.plugin import CompleteModality
from medcoss_cli.pretraining.branch import branch
from medcoss_cli.pretraining.job import Job, Recipe
from medcoss_cli.pretraining.pace import paced
from medcoss_cli.pretraining.state import State, read_state, versions
from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.recipe.schema import AnyStage, ExtendRecipe, PretrainRecipe, Stage
from medcoss_cli.registry import discovery
from medcoss_cli.registry.configure import for_stage
from medcoss_cli.registry.fingerprint import check_unchanged, fingerprint
from medcoss_cli.store import checkpoint, typed
from medcoss_cli.store.run import CHECKPOINT, INIT, Run
from medcoss_cli.training import distributed
from medcoss_cli.training.distributed import Devices
from medcoss_cli.training.runs import Options, create_run, folders


def begin_pretrain(
    recipe: PretrainRecipe,
    stem: str,
    options: Options,
    screen: Screen,
    start: State | None = None,
    notes: Sequence[str] = (),
    done: State | None = None,
) -> Job:
    """A run through all stages of the recipe, from random weights or from `start`.

    Args:
        start, notes: what `importers.init.read_init` gives for a recipe with `init`.
        done: a state that has seen the recipe's first stage, trained by another strategy; see `branch`.
    """
    place = distributed.join()
    screen = screen if place.first else Screen()
    in_use = _in_use([member.modality for stage in recipe.stages for member in stage.members], recipe.strategy.name)
    state = first_state(recipe, start) if done is None else done
    _check_stages(recipe, state, options, place, screen)
    begin = None if start is None else partial(_keep, start, INIT)
    run = _new_run(recipe, stem, options, place, screen, {"kind": "pretrain", **in_use}, begin)
    job = _job(recipe, recipe.stages, 0, state, run, options, place, screen)
    for line in notes[:1]:
        job.screen.say(line)
    for note in [*notes[1:], *_only_warmup(recipe)]:
        job.screen.warn(note)
    if done is not None:
        branch(job)
        job.save(state)
    return job


def _only_warmup(recipe: PretrainRecipe) -> Iterator[str]:
    """Stages whose learning rate rises to their end: what is learned at its highest has no time to settle."""
    for number, stage in enumerate(recipe.stages, 1):
        epochs, warmup = recipe.train.span(stage.epochs, stage.warmup)
        if warmup >= epochs:
            names = "+".join(member.modality for member in stage.members)
            yield f"stage {number} {names}: the warm-up takes {warmup:g} of {epochs:g} epochs; set warmup to a tenth of them"


def first_state(recipe: PretrainRecipe, start: State | None = None) -> State:
    """What stage 1 begins with: random weights, or the encoder of `start`, whose tokenizers are offered to the stages.

    Raises: RecipeError where that encoder is another than the recipe's.
    """
    shape = EncoderShape(**recipe.encoder.model_dump())
    if start is None:
        if recipe.init is not None:
            raise ValueError("a recipe with `init` needs the weights that it starts from")
        return State(Model(shape, recipe.seed, recipe.masking.model_dump()))
    trained = start.model.shape
    dims = [(s.width, s.depth, s.heads, int(s.width * s.mlp_ratio)) for s in (shape, trained)]
    if dims[0] != dims[1]:
        text = ", ".join(f"{key}: {value}" for key, value in vars(trained).items() if key != "layer_scale")
        raise RecipeError("the encoder in init differs from the recipe's", where="init", fix=f"encoder: {{{text}}}")
    if shape.layer_scale is None:  # trained scales belong to the weights: without them the function is another
        shape = replace(shape, layer_scale=trained.layer_scale)
    model = Model(shape, recipe.seed, recipe.masking.model_dump())
    weights = start.model.encoder.state_dict()
    if trained.layer_scale is None and shape.layer_scale is not None:
        scales = [name for name in model.encoder.state_dict() if name.endswith("gamma")]
        weights |= dict.fromkeys(scales, torch.ones(shape.width))  # which changes nothing
    model.encoder.load_state_dict(weights)
    model.offer(start.model)
    return State(model, origin=start.origin or "a checkpoint of medcoss")


def _check_stages(recipe: PretrainRecipe, state: State, options: Options, place: Devices, screen: Screen) -> None:
    """Check every stage before the first one trains: plugins, tokenizers, sizes, folders."""
    modalities: dict[str, CompleteModality] = {}
    for member in recipe.members:
        decoder = recipe.decoder.model_dump()
        modalities[member.modality] = for_stage(
            member.modality,
            modalities,
            Screen(),
            decoder=decoder,
            offered=state.model.offered,
            positions=recipe.positions,
            **member.parts(),
        )
    root, _ = folders(recipe, options)
    # the others read what rank 0 fetches and prepares
    places = [local(member.data, root, screen.say) for member in recipe.members] if place.first else []
    if missing := [str(folder) for folder in places if not folder.exists()]:
        raise DataError(
            "the folder does not exist" if len(missing) == 1 else "these folders do not exist",
            where=", ".join(missing),
            fix="put the data there, give its root with --data-root DIR, or change `data` in the recipe",
        )


def begin_extend(
    recipe: ExtendRecipe, modality: str, source: Path, data: Path | None, options: Options, screen: Screen
) -> Job:
    """A run of one stage behind those of a checkpoint."""
    place = distributed.join()
    screen = screen if place.first else Screen()
    in_use = _in_use([modality], recipe.strategy.name)
    recipe, state, stage = start_of_extend(recipe, modality, source, data, options, screen)
    facts = in_use | {"kind": "extend", "stage": stage.model_dump(mode="json"), "before": len(state.history)}
    begin = partial(_keep, state, CHECKPOINT)  # where the run goes on from, should it be interrupted
    run = _new_run(recipe, f"extend-{modality}", options, place, screen, facts, begin)
    others = [name for name in state.memory if name != recipe.strategy.name]
    if others:
        screen.warn(
            f"the checkpoint keeps memory of the strategy {', '.join(others)}, which {recipe.strategy.name} does not use"
        )
    unheld = [name for name in state.model.modalities if name not in state.buffer]
    if unheld:
        screen.warn(
            f"the checkpoint has no samples of {', '.join(unheld)}: they cannot be rehearsed and may be forgotten"
        )
    return _job(recipe, [stage], len(state.history), state, run, options, place, screen)


def start_of_extend(
    recipe: ExtendRecipe,
    modality: str,
    source: Path,
    data: Path | None,
    options: Options,
    screen: Screen | None = None,
) -> tuple[ExtendRecipe, State, Stage]:
    """The recipe with its pace, the checkpoint's state, and the stage that comes behind it.

    Raises: DataError where there is no data.
    """
    discovery.load_modality(modality)
    root, _ = folders(recipe, options)
    folder = data if data is not None else root / modality
    if not folder.exists():
        raise DataError(
            f"there is no data for {modality}",
            where=folder,
            fix=f"give a folder with --data DIR, or put it there; to try: medcoss data demo {modality} {folder}",
        )
    state = read_state(source, screen)
    stage = Stage(
        modality=modality,
        data=str(folder.absolute()),
        columns=recipe.columns,
        size=recipe.size,
        tokenizer=recipe.tokenizer,
        vocabulary=recipe.vocabulary,
        vocabulary_size=recipe.vocabulary_size,
    )
    return paced(recipe, state, stage, screen or Screen()), state, stage


def resume(folder: Path, options: Options, screen: Screen) -> Job:
    """A run that was interrupted, exactly as it was begun; only folders may be given anew."""
    place = distributed.join()
    screen = screen if place.first else Screen()
    run = Run.resume(folder, writes=place.first)
    with run.closed_on_error():
        facts = run.facts
        recipe = read_recipe(str(run.recipe), [])
        if not isinstance(recipe, PretrainRecipe | ExtendRecipe):
            raise UsageError(
                f"this is a run of {recipe.kind}", where=folder, fix=f"medcoss {recipe.kind} --resume {folder}"
            )
        _check_in_use(run, screen)
        before = facts.get("before", 0)
        start = read_state(run.init) if run.init.exists() else None
        if isinstance(recipe, PretrainRecipe) and recipe.init and start is None and not facts.get("finished"):
            raise CheckpointError(
                "the weights that the run began from are not in it",
                where=run.init,
                fix="start it again with --overwrite",
            )
        if run.checkpoint.exists():
            state = read_state(run.checkpoint, screen)
            if start is not None:  # tokenizers of later stages
                state.model.offer(start.model)
        elif isinstance(recipe, PretrainRecipe):
            state = first_state(recipe, start)
        else:
            raise CheckpointError(
                "the run was stopped before its checkpoint was written", where=folder, fix="start it again"
            )
        if before > len(state.history):
            raise CheckpointError(
                f"the run's file counts {before} stages before its own, its checkpoint {len(state.history)}",
                where=folder / "run.json",
                fix="restore it from a backup, or start the run again",
            )
        extension = [] if isinstance(recipe, PretrainRecipe) else [_stage(run)]
        stages: Sequence[AnyStage] = recipe.stages if isinstance(recipe, PretrainRecipe) else extension
        job = _job(recipe, stages, before, state, run, options, place, screen)
        job.mend()
        return job


def _stage(run: Run) -> Stage:
    """The stage of a run that extends, as its run.json keeps it."""
    fix = "restore it from a backup, or start the run again"
    place, what = run.folder / "run.json", "the stage in the run's file"
    return typed.checked(Stage, run.facts.get("stage"), place, fix=fix, what=what)


def _in_use(modalities: Sequence[str], strategy: str) -> dict[str, Any]:
    """What run.json says of the plugins: fingerprints of the modalities to train on, versions of all distributions."""
    plugins = {name: fingerprint(discovery.load_modality(name)) for name in modalities}
    return {"plugins": plugins, "versions": versions(plugins, strategy)}


def _check_in_use(run: Run, screen: Screen) -> None:
    """Raises: CheckpointError where a plugin reads otherwise than when the run was begun."""
    for name, facts in run.facts.get("plugins", {}).items():
        check_unchanged(facts, discovery.load_modality(name), screen, where=run.folder)


def _keep(state: State, name: str, folder: Path) -> None:
    checkpoint.save(state.to_checkpoint(), folder / name)


def _new_run(
    recipe: Recipe,
    stem: str,
    options: Options,
    place: Devices,
    screen: Screen,
    facts: dict[str, Any],
    begin: Callable[[Path], object] | None,
) -> Run:
    """Rank 0 makes the folder, the others learn its name."""
    run = create_run(recipe, stem, facts, options, screen, begin) if place.first else None
    folder = place.text_from_first("" if run is None else str(run.folder))
    return run or Run.resume(Path(folder), writes=False)


def _job(
    recipe: Recipe,
    stages: Sequence[AnyStage],
    before: int,
    state: State,
    run: Run,
    options: Options,
    place: Devices,
    screen: Screen,
) -> Job:
    root = options.data_root or Path(run.facts["data_root"])
    prepared = options.prepared or Path(run.facts["prepared"])
    return Job(
        recipe, stages, before, state, run, root, prepared, place, Logged(screen, run.log) if place.first else screen
    )
