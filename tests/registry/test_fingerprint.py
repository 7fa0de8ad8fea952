"""A plugin's upgrade is noticed: what reads otherwise is refused by name, what reads the same is a note."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medcoss_cli.console import Screen
from medcoss_cli.errors import CheckpointError
from medcoss_cli.evaluate import evaluate
from medcoss_cli.export import export
from medcoss_cli.export.onnx import Onnx
from medcoss_cli.predict import predict
from medcoss_cli.registry import discovery
from medcoss_cli.registry.fingerprint import check_unchanged, fingerprint
from tests.finetuning_runs import CLASSES, tune
from tests.pretraining_runs import StopAfter, options, resume, train, write_demo
from tests.toy_plugins import MODALITY, modality, put

LOADER = "ImageFolder(dicom=('CR', 'DX', 'RG', 'RF'))"
RULE = """
from dataclasses import dataclass
from medcoss_cli.kit import Grey8, Mirror, ZScore
@dataclass(frozen=True)
class Rule(Grey8):
    power: float = 1.0
    def encode(self, sample):
        integers, scale, offset = super().encode(sample)
        return integers // {divisor}, scale, offset
"""


def toy(intensity: str, divisor: int = 1, comment: str = "", **parts: str) -> str:
    given = {"loader": LOADER, "tokenizer": "Patches('patch2d-8')", "augment": "Mirror()", "intensity": intensity}
    body = modality("toy", **given | parts)
    return RULE.format(divisor=divisor) + MODALITY.format(api=1, body=body) + comment


class Notes(Screen):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def warn(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield folder
    monkeypatch.undo()
    sys.modules.pop("medcoss_x_toy", None)
    discovery.forget()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), xray=24)


def test_predict_evaluate_and_an_exported_file_refuse_a_plugin_that_reads_otherwise(
    site: Path, tmp_path: Path, data: Path
) -> None:
    """An upgrade from ZScore to Grey8 once turned a probability of .482 into .223 without a word."""
    put(site, "toy", toy("ZScore()"))
    _, run = tune(tmp_path, data, CLASSES.replace("modality: xray", "modality: toy"), "train.steps=2")
    made = tmp_path / "toy.onnx"
    more = {"form": Onnx(), "modality": None, "seed": None, "precision": "fp32", "opset": None, "licence": "none"}
    export(None, made, run=run, samples=data / "xray", screen=Screen(), **more)  # type: ignore[arg-type]
    facts = json.loads((run / "run.json").read_text())
    assert facts["versions"]["toy"] == "medcoss-x-toy 1.0"
    assert facts["plugins"]["toy"]["intensity"]["part"] == "ZScore"

    inputs = [next((data / "xray").rglob("*.png"))]
    before = predict(run, inputs, tmp_path / "out", seed=None, overlays=0, screen=Screen())
    assert before.done == 1
    put(site, "toy", toy("Grey8()"), version="2.0")
    told = r"intensity was ZScore\(by_channel=False, high=99.8, low=0.2\), is now Grey8\(\); install medcoss-x-toy 1.0"
    for source in (run, made):
        with pytest.raises(CheckpointError, match=told):
            predict(source, inputs, tmp_path / "out", seed=None, overlays=0, screen=Screen())
    with pytest.raises(CheckpointError, match=told):
        evaluate(run, None, None, None, options(tmp_path, data), Screen())

    put(site, "toy", toy("ZScore()", comment="# says more\n"), version="2.0")
    screen = Notes()
    predict(run, inputs, tmp_path / "out", seed=None, overlays=0, screen=screen)
    assert screen.notes == ["the toy plugin: it was medcoss-x-toy 1.0, is now medcoss-x-toy 2.0"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (toy("Rule()", divisor=2), "of a fixed sample its intensity stores"),
        (
            toy("Rule(power=2.0)"),
            r"intensity was medcoss_x_toy.Rule\(power=1.0\), is now medcoss_x_toy.Rule\(power=2.0\)",
        ),
        (toy("Rule()", size="(64, 64)"), r"size was \[32, 32\], is now \[64, 64\]"),
        (
            toy("Rule()").replace("'patch2d-8'", "'patch2d-16'"),
            "tokenizer was key=patch2d-8, patch=.*, is now key=patch2d-16",
        ),
        (
            toy("Rule()").replace("('CR', 'DX', 'RG', 'RF')", "('CR',)"),
            "loader was ImageFolder.*RF.*, is now ImageFolder",
        ),
    ],
)
def test_what_differs_is_named(site: Path, changed: str, told: str) -> None:
    put(site, "toy", toy("Rule()"))
    known = fingerprint(discovery.load_modality("toy"))
    put(site, "toy", changed)
    with pytest.raises(CheckpointError, match=told):
        check_unchanged(known, discovery.load_modality("toy"), Screen())


def test_a_source_that_reads_the_same_is_a_note_and_a_setting_that_is_new_is_none(site: Path) -> None:
    put(site, "toy", toy("Rule()"))
    known = fingerprint(discovery.load_modality("toy"))
    screen = Notes()
    check_unchanged(json.loads(json.dumps(known)), discovery.load_modality("toy"), screen)
    assert screen.notes == []
    put(site, "toy", toy("Rule()", comment="# says more\n"))
    check_unchanged(known, discovery.load_modality("toy"), screen)
    assert screen.notes == ["the toy plugin: its source has changed"]
    del known["intensity"]["power"]  # as an older release had it
    check_unchanged(known, discovery.load_modality("toy"), Notes())


def test_a_fingerprint_holds_no_path_and_a_file_of_a_stranger_names_nothing(site: Path) -> None:
    code = toy("Rule()").replace(LOADER, "ImageFolder(patterns=('/home/jane/list.txt', 'x' * 100))")
    put(site, "toy", code)
    known = fingerprint(discovery.load_modality("toy"))
    assert "jane" not in json.dumps(known)
    assert str(site) not in json.dumps(known)
    known |= {"distribution": "evil; rm -rf /", "channels": 2}
    with pytest.raises(CheckpointError) as refused:
        check_unchanged(known, discovery.load_modality("toy"), Screen())
    assert "evil" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("loader", [["x"]]), ("intensity", 1), ("stored", ["x"]), ("stored", 1.0), ("seen", [float("nan")])],
)
def test_a_fingerprint_of_wrong_types_is_damaged(site: Path, key: str, value: object) -> None:
    put(site, "toy", toy("Rule()"))
    known = fingerprint(discovery.load_modality("toy")) | {key: value}
    with pytest.raises(CheckpointError, match=rf"what is known of its plugin is damaged \({key}"):
        check_unchanged(known, discovery.load_modality("toy"), Screen())


def test_a_run_is_not_resumed_nor_its_prepared_set_used_with_other_code(site: Path, tmp_path: Path, data: Path) -> None:
    put(site, "toy", toy("Rule()"))
    stages = "stages=[{modality: toy, data: xray, size: [32, 32]}]"
    with pytest.raises(Exception, match="stopped"):
        train(tmp_path, data, stages, screen=StopAfter(1))
    put(site, "toy", toy("Rule()", divisor=2))
    with pytest.raises(CheckpointError, match="of a fixed sample its intensity stores"):
        resume(tmp_path, data)
    before = set((data / "prepared").glob("toy-*"))
    train(tmp_path, data, stages, name="other")
    assert len(set((data / "prepared").glob("toy-*")) - before) == 1
    put(site, "toy", toy("Rule()"))
    state = resume(tmp_path, data)
    assert state.history[0]["versions"]["toy"] == "medcoss-x-toy 1.0"
    assert state.history[0]["versions"]["strategy medcoss"].startswith("medcoss ")
    put(site, "toy", toy("Rule()", divisor=2))
    with pytest.raises(CheckpointError, match="of a fixed sample its intensity stores"):
        evaluate_checkpoint(tmp_path / "runs" / "run" / "ckpt.pt")


def evaluate_checkpoint(path: Path) -> None:
    """What embed, export and finetune begin with."""
    from medcoss_cli.pretraining.state import read_for

    read_for(path, "toy")
