"""Export: what is written equals torch, says what it is, holds nothing private, and is used without torch."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from medcoss_cli.console import Screen
from medcoss_cli.errors import CheckpointError, ExportError, UsageError
from medcoss_cli.export import export, graph, metadata, runtime, verify
from medcoss_cli.export.onnx import Onnx
from medcoss_cli.export.samples import rule_of
from medcoss_cli.model import foreign
from medcoss_cli.predict import predict
from medcoss_cli.pretraining.state import read_state
from medcoss_cli.registry.scaffold import new_plugin
from tests.conftest import CommandLine
from tests.finetuning_runs import CLASSES, MASKS, tune
from tests.pretraining_runs import train, write_demo


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), report=80, xray=60, ct=8)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    train(folder, data)
    return folder / "runs" / "run" / "ckpt.pt"


def written(source: Path | None, out: Path, **more: Any) -> dict[str, Any]:
    """Export with defaults."""
    asked: dict[str, Any] = {
        "form": Onnx(),
        "modality": None,
        "run": None,
        "seed": None,
        "precision": "fp32",
        "opset": None,
    }
    asked |= {"samples": None, "licence": "CC0-1.0", "screen": Screen()}
    return export(source, out, **(asked | more))


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    out = tmp_path_factory.mktemp("features") / "xray.onnx"
    written(checkpoint, out, modality="xray")
    return out


def test_a_modality_is_what_torch_makes_of_it_at_any_batch_and_size(features: Path, checkpoint: Path) -> None:
    facts = json.loads(metadata.verification_beside(features).read_text())
    assert {row["batch"] for row in facts["rows"]} == {1, 2, 5, 16}
    assert len({tuple(row["size"]) for row in facts["rows"]}) == 3
    assert max(row["relative"] for row in facts["rows"]) < 1e-4
    one, model = runtime.load(features), read_state(checkpoint).model.eval()
    inputs = torch.rand(3, 1, 24, 56, generator=torch.Generator().manual_seed(0))
    tokens, pooled = one.run(inputs.numpy())
    with torch.no_grad():
        wanted = model.encode("xray", inputs)
    assert np.allclose(tokens, wanted.numpy(), atol=1e-5)
    assert np.allclose(pooled, model.pooled("xray", inputs).detach().numpy(), atol=1e-5)


def test_it_says_what_it_is_and_nothing_of_where_it_was_made(features: Path, data: Path, checkpoint: Path) -> None:
    about = runtime.load(features).about
    assert (about.modality, about.axes, about.sizes[2:]) == (
        "xray",
        ["batch", "channel", "height", "width"],
        [{"step": 8}] * 2,
    )
    assert about.licence == "CC0-1.0"
    assert about.checkpoint == metadata.sha256(checkpoint.read_bytes())
    assert about.intensity is not None
    assert about.intensity["factor"] == pytest.approx(1 / 255)
    content = features.read_bytes() + metadata.card_beside(features).read_bytes()
    content += metadata.verification_beside(features).read_bytes()
    for private in (str(Path.home()), str(data), str(checkpoint.parent), "site-packages", "medcoss_cli/"):
        assert private.encode() not in content, private
    assert {path.name for path in features.parent.iterdir()} == {"xray.onnx", "xray.md", "xray.verification.json"}


def test_the_encoder_alone_takes_any_number_of_tokens(tmp_path: Path, checkpoint: Path) -> None:
    written(checkpoint, tmp_path / "encoder.onnx")
    one, encoder = runtime.load(tmp_path / "encoder.onnx"), read_state(checkpoint).model.encoder.eval()
    for batch, length in ((1, 1), (3, 11), (2, 60)):
        tokens, valid = torch.randn(batch, length, 32), torch.arange(length).expand(batch, -1) < max(1, length - 2)
        with torch.no_grad():
            wanted = encoder(tokens, valid, cls=False)
        assert np.allclose(one.run(tokens.numpy(), valid.numpy())[0], wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_smaller_precisions_are_near(tmp_path: Path, checkpoint: Path, features: Path, precision: str) -> None:
    facts = written(checkpoint, tmp_path / "small.onnx", modality="xray", precision=precision)
    assert facts["bytes"] < features.stat().st_size
    assert min(row["cosine"] for row in facts["rows"]) >= Onnx.precisions[precision].cosine
    inputs = runtime.load(tmp_path / "small.onnx").session.get_inputs()
    assert [entry.type for entry in inputs] == ["tensor(float)"], "what goes in stays fp32"


def test_weights_of_a_large_network_lie_beside(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "LARGE", 10_000)
    out = tmp_path / "large.onnx"
    facts = written(checkpoint, out)
    beside = out.with_name("large.onnx.data")
    assert facts["bytes"] == out.stat().st_size + beside.stat().st_size
    assert beside.stat().st_mode == out.stat().st_mode
    assert runtime.load(out).run(np.zeros((1, 3, 32), np.float32), np.ones((1, 3), bool))[0].shape == (1, 3, 32)
    beside.unlink()
    with pytest.raises(CheckpointError, match="keep the files that lie beside it together"):
        runtime.load(out)


def test_words_come_with_their_tokenizer(tmp_path: Path, checkpoint: Path) -> None:
    out = tmp_path / "report.onnx"
    written(checkpoint, out, modality="report")
    one = runtime.load(out)
    assert one.about.vocabulary == metadata.sha256(metadata.words_beside(out).read_bytes())
    assert one.modality(Screen()).tokenizer is not None
    metadata.words_beside(out).write_text("{}")
    with pytest.raises(CheckpointError, match="not the tokenizer"):
        runtime.load(out)
    metadata.words_beside(out).unlink()
    with pytest.raises(CheckpointError, match="missing"):
        runtime.load(out)


@pytest.mark.parametrize(
    ("text", "place", "start"),
    [(CLASSES, "xray", None), (MASKS, "ct", None), (CLASSES, "xray", "weights of others")],
    ids=["classes", "masks", "others"],
)
def test_a_fine_tuned_run_predicts_the_same_without_torch(
    tmp_path: Path, data: Path, text: str, place: str, start: str | None
) -> None:
    if start is not None:
        plan = {"family": "resnet", "channels": 3, "blocks": [1, 1, 1, 1], "bottleneck": False}
        start = str(tmp_path / "others.safetensors")
        save_file(foreign.build(plan).state_dict(), start)
    _, run = tune(tmp_path, data, text, start=start)
    out = tmp_path / "task.onnx"
    written(None, out, run=run)
    told = "import sys\nfor name in ('torch', 'timm', 'monai', 'torchvision'): sys.modules[name] = None\n"
    told += "from medcoss_cli.cli.app import main\nmain()"
    files = [str(path) for path in sorted((data / place / "images").iterdir())[:2]]
    command = [sys.executable, "-c", told, "predict", str(out), *files, "-o", str(tmp_path / "without")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    predict(run, [Path(file) for file in files], tmp_path / "with", seed=None, overlays=0, screen=Screen())
    if place == "xray":
        rows = [json.loads((tmp_path / how / "predictions.json").read_text()) for how in ("without", "with")]
        for one, other in zip(*rows, strict=True):
            assert one.keys() == other.keys()
            assert all(one[k] == pytest.approx(other[k], abs=1e-5) for k in one)
    else:
        import SimpleITK

        masks = [sorted((tmp_path / how).rglob("*.nii.gz")) for how in ("without", "with")]
        assert len(masks[0]) == len(masks[1]) > 0
        for one, other in zip(*masks, strict=True):
            pair = [SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))) for path in (one, other)]
            assert np.array_equal(*pair)
    model = onnx.load(out)
    about = json.loads(model.metadata_props[0].value)
    about["task"]["classes"].append("one more")
    model.metadata_props[0].value = json.dumps(about)
    onnx.save(model, tmp_path / "changed.onnx")
    count = len(about["task"]["classes"])
    with pytest.raises(CheckpointError, match=f"its task has {count} outputs, its network {count - 1}"):
        runtime.load(tmp_path / "changed.onnx").predictor(Screen())


def test_what_it_says_of_itself_is_held_against_its_graph(
    tmp_path: Path, data: Path, command_line: CommandLine
) -> None:
    _, run = tune(tmp_path, data, CLASSES, "train.steps=2")
    written(None, tmp_path / "task.onnx", run=run)
    model = onnx.load(tmp_path / "task.onnx")
    stored = json.loads(model.metadata_props[0].value)
    names = stored["classes"]
    masks = {"kind": "segmentation", "target": {"values": dict.fromkeys(names, "any")}}
    deep = {"size": [16, 32, 32], "tokenizer_spec": stored["tokenizer_spec"] | {"patch": [8, 8, 8], "channels": 1}}
    ct = {"modality": "ct", "plugin": {}, "tokenizer": "patch3d-8"}
    larger = {"size": [64, 64], "plugin": stored["plugin"] | {"size": [64, 64]}}
    image = str(sorted((data / "xray" / "images").iterdir())[0])
    for changes, task, fault in (
        ({}, masks, "each output of its task has 2 axes, of its network 0"),
        ({}, ct, "its size has 2 numbers, ct has 3 axes"),
        ({}, {**masks, **deep, **ct}, "each output of its task has 3 axes, of its network 0"),
        ({}, deep, "its size has 3 numbers, xray has 2 axes"),
        ({}, {**ct, **deep}, "a sample of ct is 1 x 16 x 32 x 32, its network takes 1 x 32 x 32"),
        ({"sizes": ["any", 1, 64, 64]}, larger, "a sample of xray is 1 x 64 x 64, its network takes 1 x 32 x 32"),
        ({"kind": "encoder"}, {}, "it is of another network"),
    ):
        model.metadata_props[0].value = json.dumps({**stored, **changes, "task": stored["task"] | task})
        onnx.save(model, tmp_path / "changed.onnx")
        answer = command_line("predict", str(tmp_path / "changed.onnx"), image, "-o", str(tmp_path / "out"))
        assert (answer.code, fault in answer.err) == (5, True), (fault, answer.err)


def test_what_differs_is_not_left_behind(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine
) -> None:
    def damaged(source: Path, target: Path, precision: str) -> None:
        model = onnx.load(source)
        for weight in model.graph.initializer:
            if weight.data_type == onnx.TensorProto.FLOAT and len(weight.dims) == 2:
                values = onnx.numpy_helper.to_array(weight)[::-1].copy()
                weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        onnx.save(model, target)

    monkeypatch.setattr(graph, "convert", damaged)
    out = tmp_path / "damaged.onnx"
    answer = command_line("export", str(checkpoint), "--modality", "xray", "-o", str(out), "--precision", "int8")
    assert answer.code == 8
    assert "cosine" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_is_not_taken_for_a_network_that_cannot_be_exported(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine
) -> None:
    class Program:
        def save(self, *arguments: object, **options: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch.onnx, "export", lambda *arguments, **options: Program())
    answer = command_line("export", str(checkpoint), "--modality", "xray", "-o", str(tmp_path / "x.onnx"))
    assert answer.code == 6, answer.err
    assert "there is no space left" in answer.err
    assert "axes" not in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_precision_that_onnxruntime_lacks(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine
) -> None:
    def in_bf16(source: Path, target: Path, precision: str) -> None:  # which its CPU has no matrix product for
        kind = onnx.TensorProto.BFLOAT16
        ends = [onnx.helper.make_tensor_value_info(name, kind, ["batch", 4]) for name in ("inputs", "pooled")]
        weight = onnx.helper.make_tensor("w", kind, [4, 4], [0] * 16)
        node = onnx.helper.make_node("MatMul", ["inputs", "w"], ["pooled"])
        opset = [onnx.helper.make_opsetid("", 20)]
        onnx.save(
            onnx.helper.make_model(
                onnx.helper.make_graph([node], "g", ends[:1], ends[1:], [weight]), opset_imports=opset
            ),
            target,
        )

    monkeypatch.setattr(graph, "convert", in_bf16)
    out = tmp_path / "x.onnx"
    answer = command_line("export", str(checkpoint), "--modality", "xray", "-o", str(out), "--precision", "fp16")
    assert answer.code == 8
    assert "cannot compute the file" in answer.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder that nobody may write in")
@pytest.mark.parametrize("form", ["onnx", "timm"])
def test_a_folder_that_may_not_be_written_in(checkpoint: Path, command_line: CommandLine, form: str) -> None:
    name = {"onnx": "x.onnx", "timm": "x.safetensors"}[form]
    answer = command_line(
        "export", str(checkpoint), "--modality", "xray", "--format", form, "-o", f"/sys/kernel/{name}"
    )
    assert answer.code == 6, answer.err
    assert f"/sys/kernel/{name}" in answer.err


def test_labels_of_the_samples_are_asked_what_int8_costs(
    tmp_path: Path, checkpoint: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, allowed = tmp_path / "x.onnx", Onnx.precisions["int8"]
    monkeypatch.setitem(Onnx.precisions, "int8", replace(allowed, lost=1.0))  # one of 60 samples is more than it allows
    facts = written(checkpoint, out, modality="xray", precision="int8", samples=data / "xray")
    assert set(facts["neighbours"]) == {"torch", "onnx"}
    assert "Nearest-neighbour accuracy" in metadata.card_beside(out).read_text()
    with pytest.raises(ExportError, match=r"falls from 0\.900 to 0\.890"):
        verify.judge_neighbours(0.9, 0.89, allowed)
    verify.judge_neighbours(0.9, 0.896, allowed)


def test_a_rule_of_intensity_that_no_file_could_hold(checkpoint: Path) -> None:
    class Squared:
        def decode(self, integers: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
            return (integers * scale + offset) ** 2

    modality = replace(read_state(checkpoint).model.modalities["xray"], intensity=Squared())  # type: ignore[arg-type]  # encodes nothing
    with pytest.raises(ExportError, match="no factor and shift"):
        rule_of(modality)


def test_a_modality_of_somebody_else_exports_without_any_work_of_theirs(tmp_path: Path) -> None:
    folder = new_plugin("modality", "ecg", tmp_path, dims=1)
    info = tmp_path / "site" / "medcoss_ecg-0.1.0.dist-info"  # what pip install -e would write
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: medcoss-ecg\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[medcoss]\necg = medcoss_ecg\n")
    path = os.pathsep.join([str(folder), str(info.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    shape = "{width: 32, depth: 2, heads: 2}"
    (tmp_path / "tiny.yaml").write_text(
        f"kind: pretrain\nencoder: {shape}\ndecoder: {{width: 16, depth: 1, heads: 2}}\n"
        "train: {epochs: 1, warmup: 0, batch: 8}\nstages: [{modality: ecg, data: ecg}]\n"
    )
    for words in (
        ("data", "demo", "ecg", "ecg", "--count", "16"),
        ("pretrain", "tiny.yaml", "--data-root", "."),
        ("export", "runs/tiny", "--modality", "ecg", "-o", "ecg.onnx"),
        ("embed", "ecg.onnx", "ecg", "-o", "ecg.npz"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "medcoss_cli", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (words, done.stderr)
    assert len(np.load(tmp_path / "ecg.npz", allow_pickle=False)["pooled"]) == 16


def test_a_size_the_file_does_not_take(features: Path) -> None:
    with pytest.raises(UsageError, match=r"height is 30, this file takes a multiple of 8"):
        runtime.load(features).run(np.zeros((1, 1, 30, 32), np.float32))
    with pytest.raises(UsageError, match=r"channel is 2, this file takes 1"):
        runtime.load(features).run(np.zeros((1, 2, 32, 32), np.float32))


def test_what_has_no_onnx_form_is_named(tmp_path: Path) -> None:
    class Strange(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigh(x @ x.mT).eigenvalues

    with pytest.raises(ExportError, match="linalg_eigh"):
        graph.trace(Strange(), [torch.randn(2, 3, 3)], [{}], (["x"], ["y"]), tmp_path / "x.onnx", None)


def test_bad_input(tmp_path: Path, checkpoint: Path, features: Path, command_line: CommandLine) -> None:
    with pytest.raises(CheckpointError, match=r"knows report, xray, not ct.*extend"):
        written(checkpoint, tmp_path / "ct.onnx", modality="ct")
    with pytest.raises(UsageError, match=r"ends in \.onnx"):
        written(checkpoint, tmp_path / "ct.pt", modality="xray")
    answer = command_line("export", str(checkpoint), "-o", str(tmp_path / "x.onnx"), "--precision", "fp8")
    assert (answer.code, "take fp32, fp16 or int8" in answer.err) == (2, True)
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(features.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="it is truncated"):
        runtime.load(cut)
    model = onnx.load(features)
    newer = json.loads(model.metadata_props[0].value) | {"schema": metadata.SCHEMA + 1}
    model.metadata_props[0].value = json.dumps(newer)
    onnx.save(model, tmp_path / "newer.onnx")
    with pytest.raises(CheckpointError, match=r"another medcoss.*upgrade"):
        runtime.load(tmp_path / "newer.onnx")
    shorter = json.loads(model.metadata_props[0].value) | {"schema": metadata.SCHEMA, "axes": ["batch"]}
    model.metadata_props[0].value = json.dumps(shorter)
    onnx.save(model, tmp_path / "shorter.onnx")
    with pytest.raises(CheckpointError, match="it names 1 axes and 4 sizes of an input of 4"):
        runtime.load(tmp_path / "shorter.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(CheckpointError, match="not exported by medcoss"):
        runtime.load(tmp_path / "foreign.onnx")
    answer = command_line("checkpoint", "show", str(features))
    assert (answer.code, "this is an exported network, not a checkpoint" in answer.err) == (5, True)
    answer = command_line("predict", str(features), str(features.parent), "-o", str(tmp_path / "out"))
    assert (answer.code, "no head for a task" in answer.err) == (2, True)
