"""Fine-tuning from weights of others: classes on the feature, masks by the residual U-Net; what does not fit is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from medcoss_cli import load
from medcoss_cli.console import Screen
from medcoss_cli.errors import CheckpointError, DataError, Interrupted, RecipeError, UsageError
from medcoss_cli.finetuning.checkpoints import best_seed, renewed
from medcoss_cli.finetuning.spec import for_task, load_modality
from medcoss_cli.model import foreign, networks
from medcoss_cli.model.heads import ResUNet
from medcoss_cli.registry import discovery
from medcoss_cli.store import finetuned
from tests.finetuning_runs import CLASSES, MASKS, begin, resume, tune
from tests.model.test_foreign import VOLUMES
from tests.pretraining_runs import StopAfter, write_demo

IMAGES: dict[str, Any] = {"family": "resnet", "dims": 2, "channels": 3, "blocks": [1, 1, 1, 1], "bottleneck": False}
SCANS: dict[str, Any] = VOLUMES | {"blocks": [1, 1, 1, 1], "bottleneck": False, "desd": True}


class Listening(Screen):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), report=24, xray=60, ct=16)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    images = foreign.build(IMAGES).state_dict()
    save_file(images | {"fc.weight": torch.zeros(5, 512), "fc.bias": torch.zeros(5)}, folder / "images.safetensors")
    scans = {f"module.backbone.{name}": tensor for name, tensor in foreign.build(SCANS).state_dict().items()}
    torch.save({"student": scans}, folder / "scans.pth")
    plan = {"side": 32, "patch": 16, "width": 192, "depth": 2, "heads": 3, "hidden": 768}
    vit = foreign.build({"family": "vit", "channels": 3, "scaled": False, "pool": "token"} | plan)
    save_file(vit.state_dict(), folder / "vit.safetensors")
    return folder


@pytest.mark.parametrize("name", ["images", "vit"])
def test_classes_on_the_feature_of_a_network_of_others(tmp_path: Path, data: Path, files: Path, name: str) -> None:
    screen, source = Listening(), str(files / f"{name}.safetensors")
    job = begin(tmp_path, data, CLASSES, "input.size=[64, 64]", start=source, screen=screen)
    before = job.network(0).state_dict()
    job.run.close()
    stored = torch.load(job.run.folder / "start.pt", weights_only=True)["weights"]
    assert stored
    assert all(torch.equal(before[f"backbone.{key}"], tensor) for key, tensor in stored.items())
    assert any("left: 2 (fc.bias, fc.weight)" in line for line in screen.said) == (name == "images")
    results, run = tune(tmp_path, data, CLASSES, "input.size=[64, 64]", start=source, name="tuned")
    after = finetuned.load(run / "seed-0" / "model.pt").weights
    assert any(not torch.equal(after[key], before[key]) for key in before if key.startswith("backbone."))
    assert (results["start"]["from"], results["start"]["stages"]) == ("weights of others", [])
    assert results["start"]["title"] in job.spec.encoder["title"]
    trained = best_seed(run, None, Screen())
    with pytest.raises(UsageError, match=r"this run's network is a .*, which has no newer encoder"):
        renewed(trained, files / "images.safetensors", Screen())
    with pytest.raises(UsageError, match="features are of medcoss's encoder"):
        load(run).embed([data / "xray"], modality="xray")


def test_a_frozen_network_stays_as_it_came(tmp_path: Path, data: Path, files: Path) -> None:
    job = begin(tmp_path, data, CLASSES, "head.probe=true", start=str(files / "images.safetensors"))
    before = {name: tensor.clone() for name, tensor in job.network(0).state_dict().items()}
    job.run.close()
    _, run = tune(tmp_path, data, CLASSES, "head.probe=true", start=str(files / "images.safetensors"), name="tuned")
    after = finetuned.load(run / "seed-0" / "model.pt").weights
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items() if name.startswith("backbone."))
    assert any(not torch.equal(after[name], tensor) for name, tensor in before.items() if name.startswith("head."))


def test_masks_by_the_residual_network_alone(tmp_path: Path, data: Path, files: Path) -> None:
    """Stopped and resumed with the file gone."""
    source = tmp_path / "scans.pth"
    source.write_bytes((files / "scans.pth").read_bytes())
    screen = Listening()
    job = begin(tmp_path, data, MASKS, start=str(source), name="first", screen=screen)
    network = job.network(0)
    job.run.close()
    assert isinstance(network.head, ResUNet)
    known = foreign.build(SCANS).state_dict()
    given = torch.load(source, weights_only=True)["student"]
    assert torch.equal(network.head.net.encoder.conv1.weight, given["module.backbone.conv1.weight"])
    assert torch.equal(network.head.net.encoder.bn1.weight, given["module.backbone.norm1.weight"])
    assert any("residual network: " in line and f", {len(known)} left" not in line for line in screen.said)
    with pytest.raises(Interrupted):
        tune(tmp_path, data, MASKS, start=str(source), screen=StopAfter(3))
    source.unlink()
    assert resume(tmp_path, data)["seeds"]


@pytest.mark.parametrize(
    ("text", "overrides", "file", "error"),
    [
        (MASKS, [], "vit.safetensors", "masks need a residual network of 10, 18, 34 or 50 layers, and this is a ViT"),
        (MASKS, [], "images.safetensors", "takes samples of 2 axes and 3 channels; ct has 3 and 1"),
        (MASKS, ["head.hybrid.depth=10"], "scans.pth", r"head\.hybrid is for masks on an encoder of medcoss"),
        (MASKS, ["head.freeze=true"], "scans.pth", r"head\.freeze and head\.probe are for masks on an encoder"),
        (CLASSES, [], "scans.pth", "takes samples of 3 axes and 1 channels; xray has 2 and 1"),
        (CLASSES, ["network=resnet81"], "images.safetensors", "timm knows no architecture 'resnet81'"),
        (CLASSES, ["network=resnet18"], "scratch", "this starts from scratch; leave it out"),
        (
            CLASSES.replace("xray", "report").replace("[32, 32]", "[32]").replace("tokenizer: patch2d-8\n", ""),
            [],
            "images.safetensors",
            "report has 1 and 0",
        ),
        (CLASSES, ["network=swin_tiny_patch4_window7_224"], "swin.safetensors", "does not take samples of 32 x 32"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, data: Path, files: Path, text: str, overrides: list[str], file: str, error: str
) -> None:
    if file == "swin.safetensors":
        swin = foreign.build({"family": "timm", "channels": 3, "name": "swin_tiny_patch4_window7_224"})
        save_file(swin.state_dict(), files / file)
    with pytest.raises((CheckpointError, UsageError), match=error):
        begin(tmp_path, data, text, *overrides, start=file if file == "scratch" else str(files / file))
    assert not (tmp_path / "runs").exists()


def test_a_class_that_is_missing_is_refused_as_with_a_checkpoint(tmp_path: Path, data: Path, files: Path) -> None:
    with pytest.raises(DataError, match="the class 'unheard' has no training case"):
        begin(
            tmp_path,
            data,
            CLASSES,
            "classes=[normal, effusion, nodule, unheard]",
            start=str(files / "images.safetensors"),
        )


def test_a_stored_network_of_others_is_weighed_before_it_is_built(tmp_path: Path, data: Path, files: Path) -> None:
    changes: dict[str, tuple[list[dict[str, Any]], str]] = {
        "images": (
            [
                {"blocks": [1, 1, 1, 10**6]},
                {"channels": 2**31},
                {"family": "a"},
                {"blocks": []},
                {"family": "timm", "name": "hf-hub:a/b", "blocks": None, "bottleneck": None},
            ],
            "blocks|channels|family|blocks|timm knows no architecture",
        ),
        "vit": (
            [{"depth": 10**6}, {"width": 2**14}, {"hidden": 2**31}, {"heads": 5}, {"side": 2**14}, {"pool": "map"}],
            "blocks|width|hidden|heads|tokens|pool",
        ),
    }
    for name, (several, told) in changes.items():
        folder, source = tmp_path / name, str(files / f"{name}.safetensors")
        folder.mkdir()
        job = begin(folder, data, CLASSES, "input.size=[64, 64]", start=source)
        job.run.close()
        path = job.run.folder / "start.pt"
        content = torch.load(path, weights_only=True)
        known = content["task"]["encoder"]["network"]
        for change, words in zip(several, told.split("|"), strict=True):
            changed = {key: value for key, value in (known | change).items() if value is not None}
            content["task"]["encoder"]["network"] = changed
            torch.save(content, path)
            with pytest.raises(CheckpointError, match=words):
                resume(folder, data)


def test_an_architecture_of_others_is_held_against_its_tensors(tmp_path: Path, data: Path, files: Path) -> None:
    _, run = tune(tmp_path, data, CLASSES, "input.size=[64, 64]", start=str(files / "images.safetensors"))
    content = torch.load(run / "seed-0" / "model.pt", weights_only=True)
    known = content["task"]["encoder"]["network"]
    for change, told in (
        ({"blocks": [1, 1, 1, 3]}, "its network is built with a tensor layer4.1.conv1.weight that the file lacks"),
        (
            {"blocks": [1, 1, 1, 1], "bottleneck": True},
            "its network is built with a tensor layer1.0.conv1.weight that the file lacks",
        ),
    ):
        content["task"]["encoder"]["network"] = known | change
        torch.save(content, run / "seed-0" / "model.pt")
        with pytest.raises(CheckpointError, match=told):
            load(run)


@pytest.mark.parametrize("change", [{"head": {"features": 400}}, {"encoder": {"width": 2**14}}])
def test_what_a_start_says_of_parts_without_tensors_is_as_the_recipe_says(
    tmp_path: Path, data: Path, change: dict[str, dict[str, Any]]
) -> None:
    job = begin(tmp_path, data, MASKS)
    job.run.close()
    path = job.run.folder / "start.pt"
    content = torch.load(path, weights_only=True)
    [(part, values)] = change.items()
    content["task"][part] |= values
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=f"its {part} is not that of the run's recipe"):
        resume(tmp_path, data)


def test_a_head_of_more_values_than_the_file_has_is_not_built(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "ROOM", 2**22)
    _, run = tune(tmp_path, data, MASKS)
    path = run / "seed-0" / "model.pt"
    content = torch.load(path, weights_only=True)
    for features, told in (
        (16, "the weights do not fit the task"),
        (400, "far larger than the .* values that it holds"),
    ):
        content["task"]["head"]["features"] = features
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=told) as refused:
            load(run)
        assert refused.value.where == str(path)


def test_a_task_whose_targets_are_not_its_classes_is_damaged(tmp_path: Path, data: Path) -> None:
    for text, key, told in (
        (CLASSES, "shares", "a class has no share"),
        (MASKS, "values", "a class has no mask values"),
    ):
        folder = tmp_path / key
        folder.mkdir()
        job = begin(folder, data, text)
        job.run.close()
        path = job.run.folder / "start.pt"
        content = torch.load(path, weights_only=True)
        del content["task"]["target"][key]
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=told):
            resume(folder, data)


@pytest.mark.parametrize("intensity", [{"zscore": True}, {"low": 0.0, "high": 1.0, "mean": 0.0, "std": 1.0}])
def test_a_text_has_no_other_intensity(intensity: dict[str, Any]) -> None:
    report = discovery.load_modality("report")
    with pytest.raises(RecipeError, match=r"input\.intensity: report is text, .*; leave the key out"):
        for_task(report, "words", (32,), None, intensity)
    told: dict[str, Any] = {
        "modality": "report",
        "tokenizer": "words",
        "tokenizer_spec": report.tokenizer.spec.to_plain(),
    }
    stored: Any = SimpleNamespace(**told, intensity=intensity)
    with pytest.raises(CheckpointError, match=r"model\.pt: the stored task is damaged: it has an intensity for a text"):
        load_modality(stored, Screen(), Path("model.pt"))
