"""Every strategy passes the suite, and each broken one is named."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from medcoss_cli import conformance
from medcoss_cli.registry.discovery import load_strategy
from medcoss_cli.strategies import Strategy
from medcoss_cli.strategies.er import ExperienceReplay
from tests.conformance.toy_strategies import BROKEN, Whole


@pytest.mark.parametrize("name", ["medcoss", "er", "sequential", "ewc", "cassle", "packnet", "der", "derpp", "joint"])
def test_the_strategies_of_medcoss_conform(tmp_path: Path, name: str) -> None:
    assert conformance.check_strategy(load_strategy(name), tmp_path) == []


def test_one_that_uses_every_member_conforms(tmp_path: Path) -> None:
    assert conformance.check_strategy(Whole, tmp_path) == []


@pytest.mark.parametrize("broken", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_one_is_named(tmp_path: Path, broken: type[Strategy]) -> None:
    faults = conformance.check_strategy(broken, tmp_path)
    assert any(BROKEN[broken] in fault for fault in faults), faults


def test_er_with_decoders_that_are_carried_on_conforms(tmp_path: Path) -> None:
    class Kept(ExperienceReplay):
        """The other setting as the default."""

        class Settings(ExperienceReplay.Settings):
            """One default is another."""

            decoders: Literal["fresh", "kept"] = Field("kept", description="of old data")

        settings: Settings

    assert conformance.check_strategy(Kept, tmp_path) == []
