"""One recording, many windows: one label, one prediction, the mean of its windows' probabilities; no neighbours within."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medcoss_cli.data.recordings import averaged, parts_of
from medcoss_cli.kit import entries
from medcoss_cli.plugin import LeftOut, Modality, Record, Sample
from medcoss_cli.registry import discovery
from tests.conftest import CommandLine
from tests.finetuning_runs import begin, tune
from tests.toy_plugins import code_of, put

CUTS = 3
TASK = """\
kind: finetune
task: classification
modality: pulse
from: scratch
encoder: {width: 32, depth: 1, heads: 2}
data: {folder: pulse}
train: {lr: 1e-3, batch: 4, steps: 4, epoch: 2}
"""
STAGES = """\
kind: pretrain
stages: [{modality: pulse, data: pulse}]
encoder: {width: 32, depth: 1, heads: 2}
train: {batch: 8, epochs: 1}
"""


@dataclass(frozen=True)
class Windows:
    """Each .npy recording (1, 192) in three windows, as a plugin's author would cut it."""

    def find(self, root: Path, split: str = "train") -> Iterator[Record | LeftOut]:
        for entry in entries(root, split):
            if isinstance(entry, LeftOut):
                yield entry
            else:
                yield from (Record(entry.path, ("window", i, i + 1), entry.group) for i in range(CUTS))

    def read(self, record: Record) -> Sample:
        assert record.part is not None
        first = 64 * int(record.part[1])
        return Sample(np.load(record.source, allow_pickle=False)[:, first : first + 64])


PULSE = Modality("pulse", "Pulse", dims=1, size=(64,), channels=1, loader=Windows())


def write(root: Path, count: int) -> None:
    """Recordings of two frequencies, without groups."""
    (root / "wards").mkdir(parents=True)
    rows = []
    for i in range(count):
        rng = np.random.default_rng(i)
        wave = np.sin(np.arange(192) / (3 + 4 * (i % 2))) + rng.normal(0, 0.8, 192)
        np.save(root / "wards" / f"{i}.npy", wave[None].astype(np.float32))
        split = ("train", "train", "val", "test")[i // 2 % 4]
        rows.append([f"wards/{i}.npy", split, "fast" if i % 2 == 0 else "slow"])
    with (root / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "split", "label"], *rows])


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path / "site"))
        put(tmp_path / "site", "pulse", code_of(__name__, "PULSE"))
        patch.chdir(tmp_path)
        write(tmp_path / "data" / "pulse", 16)
        yield tmp_path / "data"
    discovery.forget()


def test_predict_gives_a_recording_the_mean_of_its_windows(
    tmp_path: Path, pulse: Path, command_line: CommandLine
) -> None:
    results, run = tune(tmp_path, pulse, TASK)
    answer = command_line("predict", str(run), str(pulse / "pulse"), "-o", str(tmp_path / "out"))
    assert answer.code == 0
    rows, parts = (table(tmp_path / "out" / f"predictions{end}.csv") for end in ("", "-parts"))
    assert sorted(row["input"] for row in rows) == sorted(f"wards/{i}" for i in range(16))
    assert len({part["input"] for part in parts}) == 48
    for row in rows:
        own = [float(part["p_slow"]) for part in parts if part["input"].rpartition("-window-")[0] == row["input"]]
        assert len(own) == CUTS
        assert len(set(own)) == CUTS
        assert float(row["p_slow"]) == pytest.approx(sum(own) / CUTS, abs=2e-6)
        assert row["predicted"] == ("slow" if sum(own) / CUTS > 0.5 else "fast")
    # the test's table has the same recordings and probabilities
    of = {f"wards/{i}": f":{i + 2}" for i in range(16)}
    cases = table(run / "seed-0" / "cases.csv")
    assert len(cases) == 4
    for case in cases:
        [row] = [row for row in rows if case["where"].endswith(of[row["input"]])]
        assert float(case["p_slow"]) == pytest.approx(float(row["p_slow"]), abs=1e-4)
    assert results["seeds"][0]["test"]["samples"] == 4
    hits = sum(case["label"] == case["predicted"] for case in cases)
    assert results["seeds"][0]["test"]["metrics"]["accuracy"] == pytest.approx(hits / 4)
    assert results["data"]["train"] == {"samples": 8, "groups": 8, "classes": {"fast": 4, "slow": 4}}


def test_a_row_of_the_manifest_labels_every_window_and_no_split_parts_a_recording(tmp_path: Path, pulse: Path) -> None:
    lines = (pulse / "pulse" / "manifest.csv").read_text().replace(",val,", ",train,")
    (pulse / "pulse" / "manifest.csv").write_text(lines)
    job = begin(tmp_path, pulse, TASK, "data.validation=0.3")
    job.run.close()
    assert len(job.labelled.cases) == 48
    by_file: dict[Path, set[Any]] = {}
    for case in job.labelled.cases:
        by_file.setdefault(case.path, set()).add((case.split, case.label))
    assert all(len(known) == 1 for known in by_file.values())
    assert {split for known in by_file.values() for split, _ in known} == {"train", "val", "test"}


def test_windows_of_a_recording_are_no_neighbours(tmp_path: Path, pulse: Path, command_line: CommandLine) -> None:
    recipe = tmp_path / "stages.yaml"
    recipe.write_text(STAGES)
    answer = command_line("pretrain", str(recipe), "--data-root", str(pulse), "--name", "run")
    assert answer.code == 0, answer.err
    checkpoint = tmp_path / "runs" / "run" / "ckpt.pt"
    out = tmp_path / "f.npz"
    arguments = [str(checkpoint), str(pulse / "pulse"), "--modality", "pulse", "-o", str(out), "--neighbours", "2"]
    answer = command_line("embed", *arguments, "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)["neighbours"]
    assert len(found) == 48
    assert np.unique(np.load(out)["ids"]).size == 48
    for name, nearest in found.items():
        assert len(nearest) == 2
        assert name.partition("-")[0] not in {other.partition("-")[0] for other in nearest}


def test_the_mean_is_of_probabilities_and_one_part_keeps_its_values() -> None:
    records = [Record(Path("a"), ("window", 0)), Record(Path("b"), ("row", 1)), Record(Path("a"), ("window", 1))]
    records += [Record(Path("b"), ("row", 2)), Record(Path("c"), ("series", "7", "window", 0, 4))]
    parts = parts_of(records)
    assert parts == [[0, 2], [1], [3], [4]]
    scores = np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.1, 0.9], [1 / 3, 2 / 3]], np.float32)
    mean = averaged(scores, parts)
    assert mean[0].tolist() == pytest.approx([0.55, 0.45])
    assert np.array_equal(mean[1:], scores[[1, 3, 4]])
