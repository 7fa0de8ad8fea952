"""Files of others: the network is known by names and shapes, its features are timm's own, and what is not known is refused."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medcoss_cli.errors import CheckpointError, UsageError
from medcoss_cli.importers.foreign import Foreign, read_foreign
from medcoss_cli.model import foreign
from tests.importers.theirs import official
from tests.model.test_foreign import VOLUMES, randomised


def saved(path: Path, weights: dict[str, Tensor], prefix: str = "") -> str:
    save_file({prefix + name: tensor.contiguous() for name, tensor in weights.items()}, path)
    return str(path)


@torch.no_grad()
def features(given: Foreign, inputs: Tensor) -> Tensor:
    network = foreign.build(given.network).eval()
    lacking = network.load_state_dict(given.weights, strict=False)
    assert not lacking.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in lacking.missing_keys)
    out: Tensor = network(inputs)
    return out


@pytest.mark.parametrize(
    ("name", "options", "side"),
    [
        ("resnet18", {}, 64),
        ("resnet50", {"in_chans": 1}, 64),
        ("vit_tiny_patch16_224", {}, 224),
        ("vit_tiny_patch16_224", {"global_pool": "avg", "img_size": 64, "init_values": 1e-5}, 64),
    ],
)
@torch.no_grad()
def test_features_are_timms_own(tmp_path: Path, name: str, options: dict[str, Any], side: int) -> None:
    torch.manual_seed(0)
    theirs = randomised(timm.create_model(name, **options))
    given = read_foreign(saved(tmp_path / "weights.safetensors", theirs.state_dict()))
    inputs = torch.randn(2, options.get("in_chans", 3), side, side)
    wanted = theirs.forward_head(theirs.forward_features(inputs), pre_logits=True)
    torch.testing.assert_close(features(given, inputs), wanted, rtol=1e-5, atol=1e-5)
    classifier = theirs.get_classifier()
    assert isinstance(classifier, nn.Linear)
    assert len(given.left) == 2  # the classifier's weight and bias
    assert len(given.weights) + 2 == sum(tensor.is_floating_point() for tensor in theirs.state_dict().values())


@torch.no_grad()
def test_any_architecture_of_timm_by_its_name(tmp_path: Path) -> None:
    theirs = timm.create_model("convnext_atto", in_chans=1).eval()
    path = saved(tmp_path / "weights.safetensors", theirs.state_dict(), "model.encoder.")
    with pytest.raises(CheckpointError, match=r"of no network known here.*name its architecture as timm does"):
        read_foreign(path)
    given = read_foreign(path, "convnext_atto")
    assert (given.prefix, given.network["channels"]) == ("model.encoder.", 1)
    inputs = torch.randn(2, 1, 64, 64)
    wanted = theirs.forward_head(theirs.forward_features(inputs), pre_logits=True)
    torch.testing.assert_close(features(given, inputs), wanted, rtol=1e-5, atol=1e-5)
    with pytest.raises(CheckpointError, match=r"looks like timm's convnext_tiny, but lacks .* tensors"):
        read_foreign(path, "convnext_tiny")
    with pytest.raises(UsageError, match="timm knows no architecture 'convnext_at'; did you mean convnext_at"):
        read_foreign(path, "convnext_at")


def test_desds_checkpoint_as_its_script_writes_it(tmp_path: Path) -> None:
    network = randomised(foreign.build(VOLUMES | {"desd": True, "blocks": [1, 1, 1, 1], "bottleneck": False}))
    student = {f"module.backbone.{name}": tensor for name, tensor in network.state_dict().items()}
    student |= {"module.head.0.mlp.0.weight": torch.zeros(4, 512)}
    path = tmp_path / "checkpoint.pth"
    torch.save({"student": student, "teacher": {}, "epoch": 100, "args": argparse.Namespace(arch="res3d10")}, path)
    given = read_foreign(str(path))
    assert (given.network["family"], given.network["dims"], given.network["desd"]) == ("resnet3d", 3, True)
    assert (given.prefix, given.left) == ("backbone.", ["head.0.mlp.0.weight"])
    inputs = torch.randn(1, 1, 32, 64, 64)
    torch.testing.assert_close(features(given, inputs), network(inputs))
    assert given.unet() == {"family": "resunet", "depth": 10, "dims": 3, "channels": 1}


def test_pcrlv2s_networks_of_images_and_of_volumes(tmp_path: Path) -> None:
    images = timm.create_model("resnet18", num_classes=0).state_dict()
    decoder = {"model.decoder.blocks.0.conv1.0.weight": torch.zeros(2, 2, 3, 3)}
    weights = {f"model.encoder.{name}": tensor for name, tensor in images.items()} | decoder
    given = read_foreign(saved(tmp_path / "images.safetensors", weights))
    assert (given.network["family"], given.left) == ("resnet", list(decoder))
    assert given.unet()["depth"] == 18
    widths = [[32, 64], [64, 128], [128, 256], [256, 512]]
    volumes = foreign.build({"family": "pcrlv2", "dims": 3, "channels": 1, "widths": widths})
    given = read_foreign(saved(tmp_path / "volumes.safetensors", volumes.state_dict()))
    assert given.network == {"family": "pcrlv2", "dims": 3, "channels": 1, "widths": widths}
    with pytest.raises(UsageError, match=r"masks need a residual network .*PCRLv2's network of volumes"):
        given.unet()


def test_what_is_not_whole_or_not_known_is_refused_in_a_sentence(tmp_path: Path) -> None:
    whole = dict(timm.create_model("resnet18").state_dict())
    part = {name: tensor for name, tensor in whole.items() if name != "layer3.0.bn2.running_var"}
    with pytest.raises(CheckpointError, match=r"lacks layer3\.0\.bn2\.running_var; name its architecture"):
        read_foreign(saved(tmp_path / "part.safetensors", part))
    other = whole | {"layer4.1.conv2.weight": torch.zeros(512, 512, 1, 1)}
    with pytest.raises(CheckpointError, match=r"layer4\.1\.conv2\.weight has the shape 512 x 512 x 1 x 1"):
        read_foreign(saved(tmp_path / "other.safetensors", other))
    nan = whole | {"bn1.bias": torch.full((64,), torch.nan)}
    with pytest.raises(CheckpointError, match="not finite"):
        read_foreign(saved(tmp_path / "nan.safetensors", nan))
    gone = {name: tensor for name, tensor in whole.items() if name != "conv1.weight"}
    with pytest.raises(CheckpointError, match=r"a network's tensor is missing \('conv1\.weight'\)"):
        read_foreign(saved(tmp_path / "gone.safetensors", gone))
    swiglu = dict(timm.create_model("vit_tiny_patch16_224").state_dict()) | {"blocks.0.mlp.w12.weight": torch.ones(2)}
    with pytest.raises(CheckpointError, match=r"this is no plain ViT \(blocks\.0\.mlp\.w12\.weight\)"):
        read_foreign(saved(tmp_path / "swiglu.safetensors", swiglu))
    (tmp_path / "broken.safetensors").write_bytes(b'\x08\0\0\0\0\0\0\0{"a":')
    with pytest.raises(CheckpointError, match="damaged"):
        read_foreign(str(tmp_path / "broken.safetensors"))


def test_weights_of_the_authors_are_imported_not_taken_as_a_network(tmp_path: Path) -> None:
    path = saved(tmp_path / "authors.safetensors", official())
    with pytest.raises(CheckpointError, match=r"whose encoder is medcoss's own; medcoss checkpoint import FILE"):
        read_foreign(path)
