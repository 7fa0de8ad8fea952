"""A checkpoint that knows a modality whose plugin is gone: whoever uses another one of it needs that one's plugin alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medcoss_cli.console import Screen
from medcoss_cli.embed import load_embedder
from medcoss_cli.errors import CheckpointError, PluginError
from medcoss_cli.evaluate import evaluate
from medcoss_cli.export import export
from medcoss_cli.export.onnx import Onnx
from medcoss_cli.importers.convert import convert
from medcoss_cli.importers.shareable import strip
from medcoss_cli.pretraining.state import read_state
from medcoss_cli.registry import discovery
from tests.finetuning_runs import CLASSES, tune
from tests.pretraining_runs import options, train, write_demo
from tests.toy_plugins import MODALITY, modality, put

STAGES = "stages=[{modality: gone, data: xray, size: [32, 32]}, {modality: toy, data: xray, size: [32, 32]}]"


def plugin(name: str) -> str:
    parts = {"loader": "ImageFolder(dicom=('CR', 'DX', 'RG', 'RF'))", "tokenizer": "Patches('patch2d-8')"}
    return MODALITY.format(api=1, body=modality(name, **parts))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a run of two stages, of which the first one's plugin was then taken away."""
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setattr(sys, "dont_write_bytecode", True)
        put(folder, "gone", plugin("gone"))
        put(folder, "toy", plugin("toy"))
        train(folder, write_demo(folder / "data", xray=24), STAGES, "train.epochs=1", "train.warmup=0")
        for file in (folder / "medcoss_x_gone-1.0.dist-info").iterdir():
            file.unlink()
        discovery.forget()
        yield folder
    for name in ("gone", "toy"):
        sys.modules.pop(f"medcoss_x_{name}", None)
    discovery.forget()


@pytest.fixture(scope="module")
def checkpoint(place: Path) -> Path:
    return place / "runs" / "run" / "ckpt.pt"


def test_going_on_needs_all_plugins(checkpoint: Path) -> None:
    with pytest.raises(PluginError, match="the checkpoint knows gone"):
        read_state(checkpoint)


def test_embed_and_export_need_the_plugin_in_use(place: Path, checkpoint: Path) -> None:
    assert load_embedder(checkpoint, "toy", Screen()).modality.name == "toy"
    more = {
        "form": Onnx(),
        "run": None,
        "seed": None,
        "precision": "fp32",
        "opset": None,
        "licence": "none",
        "samples": None,
    }
    for name in ("toy", None):
        export(checkpoint, place / f"{name}.onnx", modality=name, screen=Screen(), **more)  # type: ignore[arg-type]
    with pytest.raises(PluginError, match="there is no modality 'gone'"):
        load_embedder(checkpoint, "gone", Screen())
    with pytest.raises(CheckpointError, match="the checkpoint knows gone, toy, not xray"):
        load_embedder(checkpoint, "xray", Screen())


@pytest.mark.parametrize("name", ["toy", "xray"])
def test_finetune_needs_the_plugin_in_use_and_so_does_a_newer_encoder(place: Path, checkpoint: Path, name: str) -> None:
    """xray is none that the checkpoint knows: it takes the tokenizer that others have."""
    text = CLASSES.replace("modality: xray", f"modality: {name}")
    frozen = ("train.steps=1", "head.freeze=true")
    _, run = tune(place, place / "data", text, *frozen, start=str(checkpoint), name=f"head-{name}")
    results = evaluate(run, None, checkpoint, None, options(place, place / "data"), Screen())
    assert results["summary"]["newer encoder"] == results["summary"]["as trained"]


def test_import_takes_the_modalities_that_are_named(place: Path, checkpoint: Path) -> None:
    strip(checkpoint, place / "encoder.safetensors")
    with pytest.raises(PluginError, match="there is no modality 'gone'"):
        convert(str(place / "encoder.safetensors"))
    state = convert(str(place / "encoder.safetensors"), ["toy"]).state
    assert list(state.model.modalities) == ["toy"]
    assert [entry["modality"] for entry in state.history] == ["toy"]
