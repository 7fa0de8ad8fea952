"""From a recipe of a comparison to its cells: every method, task, seed and measure; what several share is there once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medcoss_cli.comparing.cells import Cell, Later, Plan, Simple, Start, Training, Tuning, Use, key_of
from medcoss_cli.comparing.sources import digest_of
from medcoss_cli.data.labelled import read_manifest
from medcoss_cli.errors import CheckpointError, DataError, RecipeError
from medcoss_cli.kit.sources.places import local
from medcoss_cli.recipe.comparison import SCRATCH, CompareRecipe, Joint, Measure, Method, Task
from medcoss_cli.recipe.finetuning import FinetuneRecipe
from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.recipe.schema import AnyStage, JointStage, Member, PretrainRecipe, Rehearsal, Stage
from medcoss_cli.recipe.strategy import StrategyChoice
from medcoss_cli.registry import discovery
from medcoss_cli.store.start import digest
from medcoss_cli.training.runs import Options, folders


def plan(recipe: CompareRecipe, options: Options) -> Plan:
    """All cells of a comparison, in an order in which they can be made.

    Raises: RecipeError for a method or task that is not possible, with its name; DataError where a folder is missing.
    """
    root, _ = folders(recipe, options)
    made = _Planner(recipe, root)
    for method in recipe.methods:
        for seed in method.seeds or recipe.seeds:
            made.method(method, seed)
    unmeasured = [task.name for task in recipe.tasks if not any(use.task == task.name for use in made.plan.uses)]
    if unmeasured:
        raise RecipeError(
            f"no method can be measured by the task {unmeasured[0]}: none learns its modality, and its measures do not "
            "include full",
            fix="give a method that stage, or the task the measure full",
        )
    _check_folders(made.plan.cells.values(), root)
    return made.plan


class _Planner:
    def __init__(self, recipe: CompareRecipe, root: Path) -> None:
        self.recipe, self.root = recipe, root
        self.base = _read(recipe.pretrain, recipe.changes, "pretrain", "pretrain")
        self.tasks = {
            task.name: _read(task.recipe, task.changes, "finetune", f"task {task.name}") for task in recipe.tasks
        }
        self.plan = Plan()
        self.hashes: dict[str, str] = {}
        self.digests: dict[str, str] = {}

    def method(self, method: Method, seed: int) -> None:
        """The cells of one method with one seed."""
        training = None
        if method.start is None and method.stages != "own":
            training = self._training(self._pretraining(method, seed, None))
            self.plan.trainings[method.name, seed] = training.key
        for task in self.recipe.tasks:
            if method.tasks is not None and task.name not in method.tasks:
                continue
            own = training
            if method.stages == "own":
                modality = self.tasks[task.name].modality
                if modality not in [member.modality for member in self.base.members]:
                    continue
                own = self._training(self._pretraining(method, seed, modality))
            self._task(method, seed, task, own)

    def _pretraining(self, method: Method, seed: int, only: str | None) -> PretrainRecipe:
        """The recipe of pre-training of a method."""
        where = f"method {method.name}"
        base = _read(self.recipe.pretrain, [*self.recipe.changes, *method.changes], "pretrain", where)
        stages: list[AnyStage] = list(base.stages)
        names = [only] if only is not None else method.stages
        if isinstance(names, list):
            by_name = {stage.members[0].modality: stage for stage in stages if isinstance(stage, Stage)}
            if unknown := [name for name in names if name not in by_name]:
                raise RecipeError(
                    f"{where}: {self.recipe.pretrain} has no stage of {unknown[0]}",
                    fix=f"it has {', '.join(by_name)}",
                )
            stages = [by_name[name] for name in names]
        content: dict[str, Any] = base.model_dump() | {"seed": seed, "title": method.name}
        strategy = method.strategy or base.strategy
        if method.joint is not None:
            stages, strategy = [_joint(stages, method.joint, where)], StrategyChoice.read("joint")
        content |= {"stages": [stage.model_dump() for stage in stages], "strategy": strategy}
        try:
            return PretrainRecipe.model_validate(content)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise RecipeError(f"{where}: {reason}") from error

    def _training(self, recipe: PretrainRecipe) -> Training:
        """The training cell of a recipe; its first stage is a cell of its own where others can share it."""
        first = None
        if len(recipe.stages) > 1 and isinstance(recipe.stages[0], Stage) and recipe.strategy.cls.plain_first_stage:
            first = self._training(first_stage(recipe)).key
        elif len(recipe.stages) == 1 and isinstance(recipe.stages[0], Stage) and recipe.strategy.cls.plain_first_stage:
            recipe = first_stage(recipe)  # of one stage, all such strategies are the same
        sources = {m.modality: self._source(m.modality, m.data) for m in recipe.members}
        by = discovery.distribution_of_strategy(recipe.strategy.name)
        content = {**recipe.model_dump(mode="json"), "title": "", "sources": sources, "strategy by": by}
        content["init"] = self._file(recipe.init)
        cell = Training(key_of("pretrain", content), recipe, first)
        self._add(cell)
        return cell

    def _task(self, method: Method, seed: int, task: Task, training: Training | None) -> None:
        """All numbers of one task on one encoder."""
        recipe, measures = self.tasks[task.name], task.measures or self.recipe.measures
        linear = self._tuned(task, seed, probe=True)
        learned = _stage_of(training, recipe.modality)
        if training is None:
            last = Start(file=method.start or SCRATCH)
        else:
            last = Start(training.key, len(training.recipe.stages), file="")
        if training is None and last.file == SCRATCH:
            recipe, linear = self._as_stage(recipe), self._as_stage(linear)
        elif training is not None and learned is None:  # another dimension's encoder, which gets a random tokenizer
            recipe = self._as_stage(recipe)
            recipe = recipe.model_copy(update={"tokenizer": f"new {recipe.tokenizer or ''}".strip()})
        for share in self.recipe.labels if "full" in measures else []:
            full = self._tuned(task, seed, probe=False, base=recipe, labels=share)
            self._measure(method, seed, task, "full", share, last.stage, self._tuning(full, last))
        if learned is None and training is not None:
            return  # a linear head on the features of a random tokenizer measures nothing
        if "refitted" in measures:
            self._measure(method, seed, task, "refitted", 1.0, last.stage, self._tuning(linear, last))
        if "frozen" in measures:
            own = last if training is None else replace(last, stage=learned or 0)
            if training is not None and training.first is not None and own.stage == 1:
                head = self._tuning(linear, replace(own, training=training.first))
            else:
                head = self._tuning(linear, own)
            self._measure(method, seed, task, "frozen", 1.0, own.stage, head)
            later = tuple(range(own.stage + 1, last.stage + 1))
            if training is not None and later:
                content = {"head": head.key, "training": training.key, "stages": later}
                cell = Later(key_of("later", content), head.key, training.key, recipe.modality, later)
                self._add(cell)
                for number in later:
                    self._measure(method, seed, task, "frozen", 1.0, number, cell)
        if "frozen" in measures or "refitted" in measures:
            self._yardsticks(task, seed, linear)

    def _yardsticks(self, task: Task, seed: int, linear: FinetuneRecipe) -> None:
        """What a head has to beat: the same on a random encoder, and a linear model without any encoder."""
        random = self._tuning(self._as_stage(linear), Start())
        simple = Simple(key_of("simple", self._content(random.recipe)), random.recipe)
        self._add(simple)
        uses = [
            Use("", seed, task.name, "random", 1.0, 0, random.key),
            Use("", seed, task.name, "simple", 1.0, 0, simple.key),
        ]
        self.plan.uses.extend(use for use in uses if use not in self.plan.uses)

    def _tuned(
        self, task: Task, seed: int, *, probe: bool, base: FinetuneRecipe | None = None, labels: float = 1.0
    ) -> FinetuneRecipe:
        """A task's recipe for one seed; from scratch it has the encoder of the pre-training."""
        if base is None:
            changes = [*task.changes, *(self.recipe.probe if probe else [])]
            base = _read(task.recipe, changes, "finetune", f"task {task.name}")
        data = base.data.model_copy(update={"labels": labels})
        update = {"seed": seed, "title": task.name, "encoder": self.base.encoder, "data": data}
        return base.model_copy(update=update)

    def _as_stage(self, recipe: FinetuneRecipe) -> FinetuneRecipe:
        """The recipe with tokenizer and size of its modality's stage, where it has none of its own: as the others have it."""
        member = next((m for m in self.base.members if m.modality == recipe.modality), None)
        if member is None:
            return recipe
        update: dict[str, Any] = {
            "tokenizer": recipe.tokenizer or member.tokenizer,
            "vocabulary_size": recipe.vocabulary_size or member.vocabulary_size,
            "input": recipe.input.model_copy(update={"size": recipe.input.size or member.size}),
        }
        return recipe.model_copy(update=update)

    def _tuning(self, recipe: FinetuneRecipe, start: Start) -> Tuning:
        content = {**self._content(recipe), "start": [start.training, start.stage, self._hash_of(start.file)]}
        cell = Tuning(key_of("tune", content), recipe, start)
        self._add(cell)
        return cell

    def _content(self, recipe: FinetuneRecipe) -> dict[str, Any]:
        source = self._source(recipe.modality, recipe.data.folder)
        cnn = self._file(recipe.head.hybrid.cnn if recipe.head.hybrid else None)
        return {**recipe.model_dump(mode="json"), "title": "", "source": source, "cnn": cnn}

    def _file(self, name: str | None) -> str | None:
        return self._hash_of(name) if name is not None and Path(name).is_file() else name

    def _source(self, modality: str, folder: str) -> tuple[str, str]:
        """The plugin that reads a folder, and what the folder's content is known by."""
        if folder not in self.digests:
            self.digests[folder] = digest_of(local(folder, self.root))
        return discovery.distribution_of(modality), self.digests[folder]

    def _hash_of(self, file: str) -> str:
        """What a file of weights is known by: its content, so that another file of the same name is another cell."""
        if file in ("", SCRATCH):
            return file
        if not Path(file).is_file():
            raise CheckpointError("there is no such file of weights", where=file, fix="put it there, or change `from`")
        if file not in self.hashes:
            self.hashes[file] = digest(Path(file))
        return self.hashes[file]

    def _measure(
        self, method: Method, seed: int, task: Task, measure: Measure, labels: float, after: int, cell: Cell
    ) -> None:
        self.plan.uses.append(Use(method.name, seed, task.name, measure, labels, after, cell.key))

    def _add(self, cell: Cell) -> None:
        self.plan.cells.setdefault(cell.key, cell)


def first_stage(recipe: PretrainRecipe) -> PretrainRecipe:
    """The first stage as all strategies that train it plainly share it; what it leaves in the buffer is chosen later."""
    update = {
        "stages": recipe.stages[:1],
        "strategy": StrategyChoice.read("sequential"),
        "rehearsal": Rehearsal(),  # type: ignore[call-arg]  # every key has a default
        "title": "first stage",
    }
    return recipe.model_copy(update=update)


def _joint(stages: Sequence[AnyStage], joint: Joint, where: str) -> JointStage:
    """All stages as one."""
    values: dict[str, Any] = {}
    for key in ("epochs", "batch", "lr", "warmup"):
        given, found = getattr(joint, key, None), {getattr(stage, key) for stage in stages}
        if given is None and len(found) > 1:
            if key not in Joint.model_fields:
                continue  # one stage has one rate: that of `train`
            raise RecipeError(
                f"{where}: the stages differ in {key} ({', '.join(map(str, found))}), so a joint stage needs its own",
                fix=f"write joint: {{{key}: ...}}",
            )
        values[key] = given if given is not None else found.pop()
    members = [
        Member(**{key: getattr(m, key) for key in Member.model_fields}) for stage in stages for m in stage.members
    ]
    return JointStage(modalities=members, sampling=joint.sampling, decoders=joint.decoders, **values)


def _stage_of(training: Training | None, modality: str) -> int | None:
    """The stage in which a modality is learned, counted from 1; the last of several."""
    if training is None:
        return None
    numbers = [
        number
        for number, stage in enumerate(training.recipe.stages, 1)
        if modality in [member.modality for member in stage.members]
    ]
    return numbers[-1] if numbers else None


def _read(name: str, changes: Sequence[str], kind: str, where: str) -> Any:
    """A recipe that the comparison names. Raises: RecipeError that says where it is named."""
    try:
        return read_recipe(name, changes, kind=kind)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error.what}", where=error.where, fix=error.fix) from error


def _check_folders(cells: Any, root: Path) -> None:
    """Raises: DataError for folders that are not there, all at once, and for a task's manifest with faults."""
    needed: dict[Path, None] = {}
    for cell in cells:
        if isinstance(cell, Training):
            needed |= {local(member.data, root): None for member in cell.recipe.members}
        elif isinstance(cell, Tuning):
            needed |= {local(cell.recipe.data.folder, root): None}
    if missing := [str(path) for path in needed if not path.exists()]:
        raise DataError(
            "the folder does not exist" if len(missing) == 1 else "these folders do not exist",
            where=", ".join(missing),
            fix="put the data there, give its root with --data-root DIR, or leave out the methods and tasks that need it",
        )
    tuned = [cell.recipe for cell in cells if isinstance(cell, Tuning)]
    for name in {recipe.modality for recipe in tuned}:
        discovery.load_modality(name)
    manifests = {
        (data.folder, data.fold, recipe.task_kind().target, tuple((data.columns or {}).items()))
        for recipe in tuned
        for data in (recipe.data,)
    }
    for folder, fold, target, columns in manifests:
        read_manifest(local(folder, root), target, fold=fold, columns=dict(columns))
