"""Fixtures of all tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

# Tests run side by side, and what they start too: with a thread for each core they would wait for each other. Set before
# the libraries are imported, which read it then.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
    os.environ.setdefault(variable, "1")

import torch  # noqa: E402

from medcoss_cli.cli import app  # noqa: E402

torch.set_num_threads(1)  # bits are the same for the same thread count


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real files to read: $MEDCOSS_TEST_DATA, else ../shared/data beside the repository."""
    repository = Path(__file__).parents[1]
    path = Path(os.environ.get("MEDCOSS_TEST_DATA", repository.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real data: {path} is not there (set MEDCOSS_TEST_DATA)")
    return path


@dataclass(frozen=True)
class Answer:
    """What the command line gave back."""

    code: int
    out: str
    err: str


CommandLine = Callable[..., Answer]


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Run `medcoss ...` in this process; there is never a traceback."""
    monkeypatch.setattr("signal.signal", lambda *a: None)

    def run(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["medcoss", *arguments])
        code = 0
        try:
            app.main()
        except SystemExit as done:
            code = int(done.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Answer(code, captured.out, captured.err)

    return run
