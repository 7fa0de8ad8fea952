"""The conformance suite: what every plugin has to pass. Importable in a plugin author's own tests."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medcoss_cli.conformance.modality import check

if TYPE_CHECKING:
    from medcoss_cli.strategies import Strategy
    from medcoss_cli.tasks import TaskKind

__all__ = ["check", "check_strategy", "check_task"]


def check_strategy(strategy: "type[Strategy]", folder: Path) -> list[str]:
    """Everything that is wrong with a strategy; see `conformance.strategy`. It imports torch, this module does not."""
    from medcoss_cli.conformance.strategy import check_strategy as check_it

    return check_it(strategy, folder)


def check_task(kind: "type[TaskKind]", folder: Path, settings: Mapping[str, Any] | None = None) -> list[str]:
    """Everything that is wrong with a kind of task; see `conformance.task`. It imports torch, this module does not."""
    from medcoss_cli.conformance.task import check_task as check_it

    return check_it(kind, folder, settings)
