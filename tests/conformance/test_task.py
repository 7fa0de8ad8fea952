"""The suite for kinds of task: the built-in kinds pass it, and each thing that is wrong is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from medcoss_cli import conformance
from medcoss_cli.console import Screen
from medcoss_cli.data.labelled import Case
from medcoss_cli.errors import PluginError, UsageError
from medcoss_cli.registry import discovery
from medcoss_cli.registry.discovery import load_task, make_task
from medcoss_cli.tasks import TaskKind
from medcoss_cli.tasks.pooled import PooledTask
from medcoss_cli.tasks.spec import TaskSpec


class Brightness(PooledTask):
    """The label's length as a number: small, and enough to be wrong in many ways."""

    name = "brightness"
    metrics: ClassVar = {"mae": "Mean absolute error"}
    main = "mae"
    baseline = "zero"

    def fit_target(self, recipe: Any, cases: Sequence[Case], screen: Screen) -> tuple[list[str], dict[str, Any]]:
        return [], {}

    def read(self, spec: TaskSpec, case: Case) -> float:
        return float(len(case.target))

    def width(self, spec: TaskSpec) -> int:
        return 1

    def loss(self, outputs: Any, targets: Any, weight: Any = None) -> Any:
        return (outputs[:, 0] - targets.float()).abs().mean()

    def criterion(self, scores: Mapping[str, float]) -> float:
        return -scores["mae"]

    def score(self, outputs: Any, targets: Any) -> dict[str, float]:
        return {"mae": float(np.abs(outputs[:, 0] - targets).mean())}

    def trivial(self, spec: TaskSpec) -> Any:
        return np.zeros(1)

    def row(self, spec: TaskSpec, output: Any) -> dict[str, Any]:
        return {"predicted": float(output[0])}


class WrongMain(Brightness):
    main = "rmse"


class RaisingLoss(Brightness):
    def loss(self, outputs: Any, targets: Any, weight: Any = None) -> Any:
        raise ZeroDivisionError("by zero")


class OtherMetrics(Brightness):
    def score(self, outputs: Any, targets: Any) -> dict[str, float]:
        return {"rmse": float(np.square(outputs[:, 0] - targets).mean())}

    def criterion(self, scores: Mapping[str, float]) -> float:
        return float("nan")


class Point:
    """An entry point that names a class of this file."""

    name, dist = "brightness", None

    def __init__(self, found: object) -> None:
        self.found = found

    def load(self) -> object:
        return self.found


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install a class as the task brightness, for this test."""
    known = discovery.points

    def install(found: object) -> None:
        points = (*known(discovery.TASKS), Point(found))
        monkeypatch.setattr(discovery, "points", lambda group: points if group == discovery.TASKS else known(group))

    return install


@pytest.mark.parametrize("name", ["classification", "segmentation"])
def test_the_built_in_kinds_conform(tmp_path: Path, name: str) -> None:
    assert conformance.check_task(load_task(name), tmp_path) == []


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (WrongMain, "its main metric rmse has no title in metrics"),
        (RaisingLoss, "its loss fails in finetune (ZeroDivisionError: by zero)"),
        (OtherMetrics, "its evaluate gives rmse, not its main metric mae"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, installed: Any, kind: type[TaskKind], said: str) -> None:
    installed(kind)
    assert said in conformance.check_task(kind, tmp_path)


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    class Bare(TaskKind):
        name = "bare"

    assert "it lacks the method evaluate" in conformance.check_task(Bare, tmp_path)


def test_a_kind_that_is_no_kind_is_refused_by_name(installed: Any) -> None:
    installed(WrongMain)
    assert load_task("brightness") is WrongMain
    for wrong, said in (
        (dict, "is no subclass"),
        (PooledTask, "it lacks "),
        (load_task("classification"), "is called"),
    ):
        installed(wrong)
        with pytest.raises(PluginError, match=said):
            load_task("brightness")


def test_an_unknown_kind_is_refused_with_the_installed_ones() -> None:
    with pytest.raises(UsageError, match=r"there is no task 'segmentaton'; installed are classification, segmentation"):
        load_task("segmentaton")
    with pytest.raises(UsageError, match="classification has no settings, not target"):
        make_task("classification", {"target": "age"})
