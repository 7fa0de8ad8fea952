"""The verb `demo`: one encoder learns synthetic modalities one after another, with rehearsal and without.

What is forgotten is shown by heads that stay as they were trained right after their own stage, as a user's would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from medcoss_cli import report
from medcoss_cli.console import Screen
from medcoss_cli.demonstration import picture
from medcoss_cli.demonstration.accuracy import Accuracies, Head
from medcoss_cli.demonstration.parts import Parts
from medcoss_cli.demonstration.samples import accuracy, first_of_each, strips
from medcoss_cli.errors import Interrupted, UsageError
from medcoss_cli.finetune import finetune
from medcoss_cli.finetuning.setup import FinetuneJob, begin_finetune
from medcoss_cli.plugin import Modality
from medcoss_cli.pretrain import pretrain
from medcoss_cli.pretraining import retention, setup
from medcoss_cli.pretraining.job import Job
from medcoss_cli.recipe.finetuning import FinetuneRecipe
from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.recipe.schema import ExtendRecipe, PretrainRecipe
from medcoss_cli.recipe.strategy import StrategyChoice
from medcoss_cli.registry.discovery import load_modality, statuses
from medcoss_cli.training.runs import Options

STRATEGIES = {"with rehearsal": "medcoss", "without rehearsal": "sequential"}
COUNTS = {1: 300, 2: 192, 3: 14}
"""Synthetic samples by dims; a volume gives several windows."""
WRITING, LEARNING, DRAWING = {1: 1.0, 2: 15.0, 3: 5.0}, {1: 10.0, 2: 16.0, 3: 12.0}, 8.0
"""Seconds for a modality's data and stage, by dims, and for the picture: measured once, for the time left."""
HEAD = (
    "head.probe=true",
    "train.lr=3e-2",
    "train.steps=60",
    "train.warmup=5",
    "train.validate_every=20",
    "data.workers=1",
)
PICTURE = "demo.png"


@dataclass(frozen=True)
class _Demonstration:
    """What all parts share.

    Args:
        modalities: in the order they are learned; the last is `extra` where there is one.
        extra: a modality that the recipe does not have, learned by `extend`.
    """

    folder: Path
    recipe: PretrainRecipe
    modalities: Mapping[str, Modality]
    extra: str | None
    screen: Parts
    heads: Accuracies

    def options(self, name: str | None, overwrite: bool = False) -> Options:
        """The folders of every run of the demonstration."""
        return Options(name, overwrite, self.folder / "data", self.folder / "prepared", self.folder / "runs")

    def part(self, label: str) -> str:
        """The heading of learning all modalities."""
        return f"{len(self.modalities)} modalities, one after another, {label}"


def demo(
    folder: Path, seed: int, screen: Screen, *, recipe: str = "demo", counts: Mapping[int, int] = COUNTS
) -> dict[str, Any]:
    """Write the data, learn twice, test frozen heads after every stage, draw; a second call goes on where one was stopped.

    Args:
        counts: synthetic samples by dims.

    Returns: accuracies by label and modality, the picture, the page, the last checkpoint with rehearsal.
    Raises: Interrupted with the command that goes on; UsageError for a folder of another seed.
    """
    read = read_recipe(recipe, [], kind="pretrain")
    assert isinstance(read, PretrainRecipe)
    names = [member.modality for member in read.members]
    extra = _another(names)
    known = {name: load_modality(name) for name in [*names, *([extra] if extra else [])]}
    work = _Demonstration(folder, read, known, extra, Parts(screen, {}), Accuracies(folder, seed))
    learning = [LEARNING[modality.dims] for modality in known.values()]
    parts: dict[str, Sequence[float]] = {"synthetic data": [WRITING[modality.dims] for modality in known.values()]}
    parts |= {work.part(label): learning for label in STRATEGIES} | {"picture and page": [DRAWING]}
    work = replace(work, screen=Parts(screen, parts))
    with _goes_on(folder, seed):
        work.heads.write()
        _write_data(work, counts, seed)
        jobs = {label: _learn(work, label, strategy) for label, strategy in STRATEGIES.items()}
        _compare({label: job.state.history for label, job in jobs.items()}, screen)
        work.heads.table(screen)
        with work.screen.piece("picture and page"):
            _draw(work, jobs)
            page = report.write([job.run.folder for job in jobs.values()], folder / "report.html").path
    last = next(iter(jobs.values())).run.checkpoint
    _next(work, page, last)
    return {"heads": work.heads.heads, "picture": folder / PICTURE, "page": page, "checkpoint": last}


@contextmanager
def _goes_on(folder: Path, seed: int) -> Iterator[None]:
    """Ctrl-C names the command that goes on with the demonstration, whatever was running."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as error:
        again = f"medcoss demo {folder}" + (f" --seed {seed}" if seed else "")
        raise Interrupted("the demonstration was stopped, everything is kept", fix=f"{again} goes on") from error


def _another(names: Sequence[str]) -> str | None:
    """An installed modality that the recipe does not use and that can write a demo set; best an image that others brought.

    Small images are learned in the seconds that a demonstration has; clips and slides are not.
    """
    usable = [s for s in statuses() if s.modality is not None and s.modality.demo is not None and s.name not in names]
    usable.sort(
        key=lambda s: (
            s.distribution == "medcoss",
            s.modality is not None and (s.modality.dims, s.modality.channels) != (2, 1),
        )
    )
    return usable[0].name if usable else None


def _write_data(work: _Demonstration, counts: Mapping[int, int], seed: int) -> None:
    for name, modality in work.modalities.items():
        with work.screen.piece("synthetic data"), work.screen.progress(f"writing {modality.title}", 1) as bar:
            target = work.folder / "data" / name
            if modality.demo is not None and not (target / "manifest.csv").exists():
                modality.demo(target, counts[modality.dims], seed)
            bar.advance()


def _learn(work: _Demonstration, label: str, strategy: str) -> Job:
    """All modalities with one strategy; heads are trained and tested after each."""
    recipe = work.recipe.model_copy(update={"strategy": StrategyChoice.read(strategy)})
    options = work.options(strategy)
    job = _job(options, work.screen, partial(setup.begin_pretrain, recipe, strategy, options, work.screen))
    with _finishing(job):
        for number, member in enumerate(recipe.members, 1):  # one a stage
            with work.screen.piece(work.part(label)):
                pretrain(job, last=number)
                _test_heads(work, label, strategy, member.modality, job, number)
    if work.extra is None:
        work.screen.say("with another plugin (pip install medcoss-ultrasound) the demonstration also extends by it")
        return job
    start, extra = job.run.checkpoint, work.extra
    further = read_recipe("extend", [f"strategy={strategy}", *_pace(recipe)], kind="extend")
    assert isinstance(further, ExtendRecipe)
    options = work.options(f"{strategy}-{extra}")
    work.screen.say(f"one more: medcoss extend --modality {extra} --from {start}")
    new = partial(setup.begin_extend, further, extra, start, None, options, work.screen)
    job = _job(options, work.screen, new)
    with work.screen.piece(work.part(label)), _finishing(job):
        pretrain(job)
        _test_heads(work, label, strategy, extra, job, len(work.modalities))
    return job


def _job(options: Options, screen: Screen, new: Callable[[], Job]) -> Job:
    """The run of this name, gone on with if it is there."""
    folder = options.runs / str(options.name)
    return setup.resume(folder, options, screen) if (folder / "run.json").exists() else new()


@contextmanager
def _finishing(job: Job | FinetuneJob) -> Iterator[None]:
    """A run that is finished if nothing stops it; its folder is free afterwards in any case."""
    try:
        yield
        job.run.finish()
    finally:
        job.run.close()


def _pace(recipe: PretrainRecipe) -> list[str]:
    """The pace of the demo recipe for the extension."""
    train, rehearsal = recipe.train, recipe.rehearsal
    values = {f"train.{key}": getattr(train, key) for key in ("epochs", "warmup", "batch", "lr", "mix", "accumulate")}
    values |= {f"rehearsal.{key}": getattr(rehearsal, key) for key in ("ratio", "share")}
    return [f"{key}={str(value).lower()}" for key, value in values.items()]


def _test_heads(work: _Demonstration, label: str, strategy: str, modality: str, job: Job, number: int) -> None:
    """After a stage: the heads of earlier images under the new encoder, then one for its own images.

    A dozen volumes are too few to train and test a head on, a text is no picture, and the last one cannot be forgotten.
    """
    heads, checkpoint = work.heads.heads.setdefault(label, {}), job.run.checkpoint
    new = modality not in heads and work.modalities[modality].dims == 2 and number < len(work.modalities)
    waiting = [name for name, head in heads.items() if modality not in head.accuracy]
    if (new or waiting) and len(job.state.history) != number:
        raise UsageError(
            f"{work.heads.path.name} does not fit the runs in this folder",
            where=work.folder,
            fix="begin again in another folder",
        )
    for name in waiting:
        run = work.folder / "runs" / f"{strategy}-head-{name}"
        data, prepared = work.folder / "data" / name, work.folder / "prepared"
        heads[name].accuracy[modality] = accuracy(run, job.state.model, checkpoint, data, prepared)
    if new:
        heads[modality] = _train_head(work, strategy, modality, checkpoint)
    work.heads.write()
    for name, head in heads.items():
        if name == modality or name in waiting:
            share = f"{head.accuracy[modality]:.2f} of {head.cases} test images (guessing: {head.guessing:.2f})"
            work.screen.say(f"head for {head.title} after {work.modalities[modality].title}: right on {share}")


def _train_head(work: _Demonstration, strategy: str, modality: str, checkpoint: Path) -> Head:
    """One linear layer on the encoder as it is now, chosen on validation images, tested on test images."""
    name = f"{strategy}-head-{modality}"
    recipe = read_recipe("classify", [f"modality={modality}", f"data.folder={modality}", *HEAD], kind="finetune")
    assert isinstance(recipe, FinetuneRecipe)
    job = begin_finetune(recipe, name, str(checkpoint), None, work.options(name, overwrite=True), Screen())
    with _finishing(job):
        [seed] = finetune(job)["seeds"]
    test = seed["test"]
    return Head(
        work.modalities[modality].title.partition(" (")[0],
        test["samples"],
        test["baseline"]["accuracy"],
        seed["validation"]["accuracy"],
        {modality: test["metrics"]["accuracy"]},
    )


def _compare(histories: Mapping[str, Sequence[Mapping[str, Any]]], screen: Screen) -> None:
    """The last column of the retention tables, side by side."""
    last = {label: history[-1]["retention"] for label, history in histories.items()}
    stages = next(iter(histories.values()))
    unit = {stage["modality"]: stage["baseline"] or 1.0 for stage in stages}
    columns = [
        "modality",
        *(f"features {label}" for label in last),
        *(f"shift {label}" for label in last),
        *(f"loss {label}" for label in last),
        "loss at first",
    ]
    rows = []
    for name in next(iter(last.values())):
        then = [measured.get(name, {}) for measured in last.values()]
        cells = [f"{retention.similarity(row):.3f}" for row in then] + [f"{row['shift']:.1f}" for row in then]
        cells += [f"{row['loss'] / unit[name]:.3f}" for row in then]
        rows.append([retention.named(name, then[0]), *cells, f"{then[0]['loss_then'] / unit[name]:.3f}"])
    screen.table("Retention at the end (features 1, shift 0: unchanged; loss 1: predicting the mean)", columns, rows)


def _draw(work: _Demonstration, jobs: Mapping[str, Job]) -> None:
    shown = work.heads.shown()
    label, job = next(iter(jobs.items()))
    heads = {label: heads[shown] for label, heads in work.heads.heads.items()} if shown else {}
    run = work.folder / "runs" / f"{STRATEGIES[label]}-head-{shown}"
    picture.draw(
        work.folder / PICTURE,
        heads,
        {name: modality.title.partition(" (")[0] for name, modality in work.modalities.items()},
        strips(job.state.model, work.folder / "data"),
        first_of_each(run, work.folder / "data" / shown) if shown else [],
    )


def _next(work: _Demonstration, page: Path, checkpoint: Path) -> None:
    """What there is now, and what to type with it."""
    say, shown = work.screen.say, work.heads.shown() or next(iter(work.modalities))
    data, run = work.folder / "data" / shown, work.folder / "runs" / f"{next(iter(STRATEGIES.values()))}-head-{shown}"
    say(f"\npicture: {work.folder / PICTURE}; page: {page}; checkpoint: {checkpoint}\nnext:")
    say(f"  medcoss embed {checkpoint} {data} --modality {shown} -o features.npz --neighbours 3")
    if work.heads.shown():
        say(f"  medcoss predict {run} {data} -o predictions")
    say(f"  medcoss finetune classify --from {checkpoint} modality={shown} data.folder=MY-LABELS")
    say("  medcoss recipes show mini > mine.yaml, put your folders into it, then: medcoss pretrain mine.yaml")
