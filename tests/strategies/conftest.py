"""Data and a folder that the tests of one file share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pretraining_runs import write_demo


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), report=40, xray=40, ultrasound=40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")
