"""What is printed, where, and how it looks on a terminal and elsewhere."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from medcoss_cli.cli import terminal

ROWS = [["report", "1.000"], ["a longer name", ""]]


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(terminal, "time", clock)
    return clock


def test_results_go_to_standard_output_all_else_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    screen = terminal.screen()
    terminal.result("the answer")
    screen.say("said")
    screen.warn("done otherwise")
    terminal.fault("wrong")
    printed = capsys.readouterr()
    assert printed.out == "the answer\n"
    assert printed.err == "said\nnote: done otherwise\nerror: wrong\n"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_table_is_aligned_and_leaves_standard_output_to_json(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.screen(as_json).table("Retention", ["modality", "1 report"], ROWS)
    out, err = capsys.readouterr()
    assert (err if as_json else out).splitlines() == [
        "Retention",
        "modality       1 report",
        "report         1.000",
        "a longer name",
    ]
    assert (out if as_json else err) == ""


def test_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.result_json({"size": [16, 192], "title": "Röntgen"})
    assert json.loads(capsys.readouterr().out) == {"size": [16, 192], "title": "Röntgen"}


def test_what_would_move_the_cursor_is_shown_as_code(capsys: pytest.CaptureFixture[str]) -> None:
    name = "scan\x1b[2J\r\x07.png"
    screen = terminal.screen()
    screen.say(name)
    screen.warn(name)
    screen.table("", ["file"], [[name]])
    terminal.result(f"{name} \u202egnp.exe\u2066")  # turned around it would end in .png
    terminal.fault(name)
    printed = capsys.readouterr()
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", printed.out + printed.err)
    assert r"\u202egnp.exe\u2066" in printed.out
    assert printed.err.count(r"scan\x1b[2J\x0d\x07.png") == 3


def test_more_than_was_counted_is_never_more_than_all(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.screen().progress("reading", total=2) as bar:
        for _ in range(12):
            clock.now += 10
            bar.advance()
    shares = [int(share) for share in re.findall(r"(\d+) %", capsys.readouterr().err)]
    assert shares
    assert max(shares) == 100


def test_plain_progress_says_where_it_is_every_few_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.screen().progress("stage 1 report", total=40, start=10) as bar:
        for _ in range(30):
            clock.now += 0.5
            bar.advance(loss="0.83")
    lines = capsys.readouterr().err.splitlines()
    assert (
        lines
        == [
            "stage 1 report  20/40  50 %  loss 0.83  2.0/s  10s left",
            "stage 1 report  30/40  75 %  loss 0.83  2.0/s  5s left",
            "stage 1 report  40/40  100 %  loss 0.83  2.0/s",
            "stage 1 report  40/40  100 %  loss 0.83  2.0/s",
        ][: len(lines)]
    )
    assert lines[-1].startswith("stage 1 report  40/40  100 %")


def test_a_day_of_work_does_not_fill_a_log(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.screen().progress("stage 1 ct", total=86_400) as bar:
        for _ in range(86_400):
            clock.now += 1
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert 50 < len(lines) < 500
    assert lines[-1] == "stage 1 ct  86400/86400  100 %  1.0/s"
    assert re.fullmatch(r"stage 1 ct  8\d{4}/86400  9\d %  1\.0/s  [12]\dm\d\ds left", lines[-3])


PROGRAM = """
import time
from medcoss_cli.cli import terminal
screen = terminal.screen()
with screen.progress("stage 5 pathology", 4000, 100) as bar:
    for _ in range(4):
        time.sleep(0.4)
        bar.advance(1, loss="0.831", samples="240/s", waiting="12 %")
    screen.warn("a note")
screen.table("Retention", ["modality", "1 report"], [["report", "1.000"]])
terminal.fault("wrong")
"""


def on_a_terminal(columns: int, **environment: str) -> str:
    """What the program above draws on a terminal of this width, and its output without control sequences."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    variables = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**variables, "TERM": "xterm-256color", **environment},
    ) as process:
        os.close(theirs)
        drawn = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # how Linux says that the other side is closed
                break
            if not part:
                break
            drawn += part
    os.close(ours)
    assert process.returncode == 0
    return drawn.decode()


@pytest.mark.parametrize("columns", [80, 140])
def test_on_a_terminal_steps_loss_and_time_left_are_whole(columns: int) -> None:
    drawn = on_a_terminal(columns)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn)
    last = [line for line in re.split(r"[\r\n]+", plain) if line.startswith("stage 5")][-1]
    assert re.search(r"stage 5 pathology .*104/4000 +loss 0\.831  samples 240/s  waiting 12 % .*[\d:]{4,} left", last)
    assert ("━" in last) == (columns == 140)
    assert "note: a note" in plain
    assert re.search(r"report +1\.000", plain)
    assert "\x1b[31merror:" in drawn


def test_no_color_is_respected() -> None:
    drawn = on_a_terminal(80, NO_COLOR="1")
    assert not re.search(r"\x1b\[3\dm", drawn)
    assert "error: wrong" in drawn
