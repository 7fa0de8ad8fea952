"""How good a fine-tuned run is on labelled data: its own test cases, a folder it never saw, or with a newer encoder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from medcoss_cli.console import Screen
from medcoss_cli.data.labelled import Case, only_labels
from medcoss_cli.data.prepare import prepare
from medcoss_cli.data.read import Found
from medcoss_cli.errors import UsageError
from medcoss_cli.finetuning.checkpoints import Trained, applied, renewed, trained
from medcoss_cli.finetuning.dataset import bounded, facts_of, find_cases, for_test
from medcoss_cli.finetuning.evaluation import Outcome, examine_classes, examine_masks
from medcoss_cli.finetuning.results import known, mean_sd
from medcoss_cli.finetuning.setup import one_device
from medcoss_cli.model.finetuned import Tuned
from medcoss_cli.pretraining.state import read_state
from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.recipe.schema import FinetuneRecipe
from medcoss_cli.store import atomic
from medcoss_cli.store.table import write_rows
from medcoss_cli.tasks.classification import Classification
from medcoss_cli.training.distributed import Devices
from medcoss_cli.training.runs import Options, folders


def evaluate(
    run: Path, data: Path | None, encoder: Path | None, out: Path | None, options: Options, screen: Screen
) -> dict[str, Any]:
    """Every seed's metrics on a folder's test cases.

    Args:
        data: a folder with a manifest; None: the run's own.
        encoder: a newer checkpoint, whose encoder takes the place of the frozen one the heads were trained on.
        out: folder for results.json and cases.csv.

    Returns: what --json prints. Raises: UsageError for an encoder under a head that was trained together with its own.
    """
    place = one_device()
    recipe, root, prepared = _recipe(run, data, options)
    seeds: list[dict[str, Any]] = []
    cases: list[Case] = []
    for one in trained(run):
        device, masks = place.device, one.task.kind == "segmentation"
        if not cases:
            every, lost = find_cases(
                one.modality,
                root,
                masks=masks,
                screen=screen,
                fold=None if data else recipe.data.fold,
            )
            bounded(every, lost, recipe.data.bad_share, screen)
            cases = for_test(every, screen)
            if not masks:
                only_labels(cases, one.task.classes)
        networks = {"as trained": one.network}
        if encoder is not None:
            networks["newer encoder"] = renewed(one, read_state(encoder).model, encoder)
        for label, network in networks.items():
            outcome = _examine(one, network.to(device), cases, root, prepared, recipe, place, screen)
            seeds.append({"seed": one.seed, "encoder": label, "test": known(outcome.result)})
            if out is not None:
                write_rows(out / f"cases-{one.seed}{'-newer' if label != 'as trained' else ''}.csv", outcome.rows)
    labels = list(dict.fromkeys(entry["encoder"] for entry in seeds))
    results = {
        "kind": "evaluate",
        "task": one.task.kind,
        "title": one.task.title,
        "modality": one.task.modality,
        "classes": one.task.classes,
        "data": facts_of(cases),
        "seeds": seeds,
        "summary": {
            label: _summary([e["test"]["metrics"] for e in seeds if e["encoder"] == label]) for label in labels
        },
    }
    if out is not None:
        atomic.write(out / "results.json", json.dumps(results, indent=1).encode())
    return results


def _recipe(run: Path, data: Path | None, options: Options) -> tuple[FinetuneRecipe, Path, Path]:
    """The run's recipe, the folder of labelled data, and the folder of prepared sets."""
    if not (run / "run.json").is_file() or not (run / "recipe.yaml").is_file():
        raise UsageError("this is no run's folder", where=run, fix="name a folder that `medcoss finetune` left")
    recipe = read_recipe(str(run / "recipe.yaml"), [], kind="finetune")
    assert isinstance(recipe, FinetuneRecipe)
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    own = replace(
        options,
        data_root=options.data_root or Path(facts["data_root"]),
        prepared=options.prepared or Path(facts["prepared"]),
    )
    root, prepared = folders(recipe, own)
    return recipe, data if data is not None else root / recipe.data.folder, prepared


def _examine(
    one: Trained,
    network: Tuned,
    cases: list[Case],
    root: Path,
    prepared: Path,
    recipe: FinetuneRecipe,
    place: Devices,
    screen: Screen,
) -> Outcome:
    if one.task.kind == "segmentation":
        return examine_masks(applied(one.task, one.modality, network, place.device), cases, one.seed, screen)
    found = Found(root, [case.record for case in cases if case.record is not None], [])
    rows = prepare(
        one.modality, found, prepared, workers=recipe.data.workers, bad_share=recipe.data.bad_share, screen=screen
    )
    lesson = Classification(one.modality, rows, cases, one.task.classes, None, balance=False)
    return examine_classes(lesson, network, "test", place.device, one.seed)


def _summary(tests: list[dict[str, float]]) -> dict[str, Any]:
    return {name: mean_sd([test[name] for test in tests if name in test]) for name in tests[0]}
