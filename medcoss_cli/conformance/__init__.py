"""The conformance suite: what every plugin has to pass. Importable in a plugin author's own tests."""

from pathlib import Path
from typing import TYPE_CHECKING

from medcoss_cli.conformance.modality import check

if TYPE_CHECKING:
    from medcoss_cli.strategies import Strategy

__all__ = ["check", "check_strategy"]


def check_strategy(strategy: "type[Strategy]", folder: Path) -> list[str]:
    """Everything that is wrong with a strategy; see `conformance.strategy`. It imports torch, this module does not."""
    from medcoss_cli.conformance.strategy import check_strategy as check_it

    return check_it(strategy, folder)
