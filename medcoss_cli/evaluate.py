"""How good a fine-tuned run is on labelled data: its own test cases, a folder it never saw, or with a newer encoder."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from medcoss_cli.console import Screen
from medcoss_cli.data.labelled import LabelledSet, one_each
from medcoss_cli.errors import UsageError
from medcoss_cli.finetuning import overlap
from medcoss_cli.finetuning.checkpoints import renewed, trained_seeds
from medcoss_cli.finetuning.dataset import bounded, facts_of, find_cases, for_test, rows_in, whole
from medcoss_cli.finetuning.results import json_values, mean_sd
from medcoss_cli.finetuning.setup import one_device
from medcoss_cli.kit.manifest import NAME
from medcoss_cli.kit.sources.places import local
from medcoss_cli.pretraining.state import versions
from medcoss_cli.recipe.finetuning import FinetuneRecipe
from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.store import atomic
from medcoss_cli.store.run import facts_of as run_facts
from medcoss_cli.store.run import without_paths
from medcoss_cli.store.scrubbed import scrubbed
from medcoss_cli.store.table import write_rows
from medcoss_cli.training.runs import Options, folders


def evaluate(
    run: Path,
    data: Path | None,
    encoder: Path | None,
    out: Path | None,
    options: Options,
    screen: Screen,
    *,
    allow_overlap: bool = False,
    columns: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Every seed's metrics on a folder's test cases.

    Args:
        data: a folder with a manifest, or the manifest; None: the run's own.
        encoder: a newer checkpoint, whose encoder takes the place of the frozen one the heads were trained on.
        out: folder for results.json and cases.csv.
        columns: names of the manifest's columns where they differ; None: as the run's recipe has them.
        allow_overlap: test on patients and samples of the training, too; how many is printed and kept.

    Returns: what --json prints.
    Raises: UsageError for an encoder under a head that was trained together with its own; DataError for data that the run was
        trained on.
    """
    _check_out(out)
    device = one_device().device
    recipe, facts, root, prepared = _recipe(run, data, options)
    columns = columns if columns is not None or data is not None else recipe.data.columns
    seeds: list[dict[str, Any]] = []
    labelled: LabelledSet | None = None
    shared: overlap.Overlap | None = None
    for trained in trained_seeds(run, screen):
        if labelled is None:
            fold = None if data else recipe.data.fold
            listed, lost = find_cases(
                trained.modality, root, trained.kind.target, screen=screen, fold=fold, columns=columns
            )
            bounded(listed, lost, recipe.data.bad_share, screen)
            cases = whole(listed, screen) if data else for_test(listed, screen)
            trained.kind.check_cases(trained.spec, cases)
            workers, bad_share = recipe.data.workers, recipe.data.bad_share
            folder = root.parent if root.is_file() else root
            labelled = LabelledSet(trained.modality, folder, cases, prepared, workers, bad_share, screen)
            shared = overlap.check(run, labelled, allowed=allow_overlap) if data else None
        networks = {"as trained": trained.network}
        if encoder is not None:
            networks["newer encoder"] = renewed(trained, encoder, screen)
        for label, network in networks.items():
            predictor = replace(trained, network=network).predictor(device)
            evaluation = trained.kind.evaluate(predictor, labelled, trained.seed)
            seeds.append({"seed": trained.seed, "encoder": label, "test": json_values(evaluation.result)})
            lost_later = len(one_each(cases)) - int(evaluation.result["samples"])
            if out is not None:
                newer = "-newer" if label != "as trained" else ""
                write_rows(out / f"cases-{trained.seed}{newer}.csv", evaluation.rows)
    assert labelled is not None
    left_out = {
        "unreadable": len(lost) + lost_later,
        "without a target": max(0, rows_in(root, columns) - len(lost) - len({case.where for case in listed})),
    }
    if any(left_out.values()):
        screen.warn("left out: " + ", ".join(f"{count} {what}" for what, count in left_out.items() if count))
    labels = list(dict.fromkeys(entry["encoder"] for entry in seeds))
    results: dict[str, Any] = {
        "kind": "evaluate",
        "task": trained.spec.kind,
        "title": trained.spec.title,
        "modality": trained.spec.modality,
        "dims": trained.modality.dims,
        "start": facts["start"],
        "recipe": without_paths(recipe.model_dump(mode="json")),
        "versions": versions({trained.spec.modality: trained.modality}),
        "tested": time.strftime("%Y-%m-%d"),
        "foreign": data is not None,
        "left_out": left_out,
        "classes": trained.spec.classes,
        "data": facts_of(trained.kind, labelled.cases),
        "overlap": None if shared is None else shared.to_plain(),
        "seeds": seeds,
        "summary": {
            label: _summary([e["test"]["metrics"] for e in seeds if e["encoder"] == label]) for label in labels
        },
    }
    results = scrubbed(results)
    if out is not None:
        atomic.write(out / "results.json", json.dumps(results, indent=1).encode())
    return results


def _check_out(out: Path | None) -> None:
    """Raises: UsageError for a folder that holds something else: a run, whose own results would be lost, or data."""
    for name, what in (("run.json", "a run"), (NAME, "data")):
        if out is not None and (out / name).exists():
            raise UsageError(
                f"this is the folder of {what}", where=f"--out {out}", fix="name a folder of its own, as in -o scores"
            )


def _recipe(run: Path, data: Path | None, options: Options) -> tuple[FinetuneRecipe, dict[str, Any], Path, Path]:
    """The run's recipe and facts, the folder of labelled data, and the folder of prepared sets."""
    facts = run_facts(run)
    if facts.get("kind") != "finetune":
        raise UsageError("this is not a run of finetune", where=run, fix="name a folder that `medcoss finetune` left")
    recipe = read_recipe(str(run / "recipe.yaml"), [], kind="finetune")
    assert isinstance(recipe, FinetuneRecipe)
    completed = replace(
        options,
        data_root=options.data_root or Path(facts["data_root"]),
        prepared=options.prepared or Path(facts["prepared"]),
    )
    root, prepared = folders(recipe, completed)
    return recipe, facts, data if data is not None else local(recipe.data.folder, root), prepared


def _summary(tests: list[dict[str, float]]) -> dict[str, Any]:
    return {name: mean_sd([test[name] for test in tests if name in test]) for name in tests[0]}
