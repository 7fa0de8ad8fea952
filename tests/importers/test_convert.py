"""`checkpoint import` and `init`: weights of others, read without executing anything, go on like our own."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from medcoss_cli.errors import CheckpointError, Interrupted
from medcoss_cli.importers.convert import convert
from medcoss_cli.model.multimodal import Model
from medcoss_cli.model.positions import sincos
from medcoss_cli.pretraining.state import read_state
from medcoss_cli.store import checkpoint
from tests.conftest import CommandLine
from tests.importers import theirs
from tests.pretraining_runs import StopAfter, resume, train, write_demo

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "lungs", "clear", "##ly"]
SECRET = "/data/someone/secret_path"


@pytest.fixture
def medcoss(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    """The command line in a folder with the authors' file and a vocabulary."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "theirs.pth", theirs.official())
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    return command_line


def write(path: Path, weights: dict[str, torch.Tensor], **more: Any) -> Path:
    """As the authors' training script writes it."""
    said = argparse.Namespace(data_path_2D_path=SECRET, epochs=300)
    torch.save({"model": weights, "epoch": 299, "args": said, **more}, path)
    return path


def imported(path: Path) -> Model:
    return read_state(path).model.eval()


@torch.no_grad()
def test_the_authors_checkpoint_gives_what_their_network_gives(medcoss: CommandLine, tmp_path: Path) -> None:
    answer = medcoss("checkpoint", "import", "theirs.pth", "-o", "ckpt.pt", "--vocabulary", "vocab.txt")
    assert answer.code == 0, answer.err
    assert "nothing of it is random" in answer.err
    assert "blue, green, red" in answer.err
    assert "2 heads of 64 values" in answer.err
    model, w = imported(tmp_path / "ckpt.pt"), theirs.official()
    assert set(model.modalities) == {"report", "xray", "ct", "mri", "pathology"}
    draw = torch.Generator().manual_seed(1)
    image, volume = torch.rand(2, 3, 224, 224, generator=draw), torch.rand(1, 1, 16, 192, 192, generator=draw)
    for name, inputs in (("xray", image[:, :1]), ("pathology", image)):
        blue_first = inputs.expand(-1, 3, -1, -1).flip(1)  # as the authors' reader
        wanted = theirs.image_features(w, blue_first)
        torch.testing.assert_close(model.encode(name, inputs), wanted, rtol=1e-4, atol=1e-4)
    width_first = volume.transpose(-1, -2)
    wanted = theirs.image_features(w, width_first)
    in_our_order = torch.cat([wanted[:, :1], theirs.of_volume(wanted[:, 1:], (1, 12, 12))], 1)
    for name in ("ct", "mri"):
        torch.testing.assert_close(model.encode(name, volume), in_our_order, rtol=1e-4, atol=1e-4)
    ids = torch.randint(1, theirs.WORDS, (1, 112), generator=draw)
    torch.testing.assert_close(model.encode("report", ids), theirs.word_features(w, ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["pathology", "ct"])
def test_decoders_predict_the_same_patches(medcoss: CommandLine, tmp_path: Path, name: str) -> None:
    """In the authors' order: channels from blue to red; tokens and values of volumes depth, width, height."""
    assert medcoss("checkpoint", "import", "theirs.pth").code == 0
    model, w = imported(tmp_path / "ckpt.pt"), theirs.official()
    features = torch.randn(
        1, 197 if name == "pathology" else 145, theirs.WIDTH, generator=torch.Generator().manual_seed(2)
    )
    every = torch.arange(features.shape[1] - 1)[None]
    head: Any = model.decoders[name]
    if name == "pathology":
        wanted = theirs.pixels(w, features, 2).unflatten(2, (16, 16, 3)).flip(4).flatten(2)
        prediction = head.decode(features, every, every)
    else:
        wanted = theirs.of_volume(theirs.of_volume(theirs.pixels(w, features, 3), (1, 12, 12)), (16, 16, 16), 2)
        ours = torch.cat([features[:, :1], theirs.of_volume(features[:, 1:], (1, 12, 12))], 1)
        prediction = head.decode(ours, every, every)
    torch.testing.assert_close(prediction, wanted, rtol=1e-4, atol=1e-4)


def test_the_real_size_gives_the_references_numbers(tmp_path: Path, real_data: Path) -> None:
    """The stand-in for the published file, and what the authors' own class computes with it."""
    place = real_data.parent / "official_reference"
    if not (place / "reference.npz").exists():
        pytest.skip(f"no reference: {place} is not there")
    sys.path.insert(0, str(place))
    try:
        from make_checkpoint import state_dict  # type: ignore[import-not-found]  # lies beside the data
    finally:
        sys.path.remove(str(place))
    write(tmp_path / "theirs.pth", state_dict())
    vocabulary = tmp_path / "vocab.txt"  # [CLS] is 101 and [SEP] 102, as in BERT's
    names = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary.write_text("\n".join([*names, *(f"w{i}" for i in range(28996 - len(names)))]))
    model = convert(str(tmp_path / "theirs.pth"), vocabulary=vocabulary).state.model.eval()
    reference = np.load(place / "reference.npz", allow_pickle=False)
    r = np.random.default_rng(7)
    inputs = {"pathology": r.random((2, 3, 224, 224), np.float32)}
    inputs["mri"] = 0.5 * r.standard_normal((1, 1, 16, 192, 192)).astype(np.float32)
    with torch.no_grad():
        for (name, array), kind in zip(inputs.items(), ("2d", "3d"), strict=True):
            batch, noise = torch.from_numpy(array), torch.from_numpy(reference[f"noise_{kind}"])
            wanted = torch.from_numpy(reference[f"features_{kind}"])
            if kind == "2d":
                batch = batch.flip(1)  # the authors' network gets blue, green, red; ours the same picture
            else:  # it gets depth, width, height; ours the same volume
                batch, noise = batch.transpose(-1, -2), theirs.of_volume(noise, (1, 12, 12))
                wanted = torch.cat([wanted[:, :1], theirs.of_volume(wanted[:, 1:], (1, 12, 12))], 1)
            assert (model.encode(name, batch) - wanted).abs().max() < 1e-4
            keep = noise.argsort(1)[:, : noise.shape[1] // 4]
            visible = model.encode(name, batch, keep)
            assert np.abs(visible.numpy() - reference[f"visible_{kind}"]).max() < 1e-4
            head: Any = model.decoders[name]
            total, count = head.loss(visible, keep, batch)
            assert abs(float(total) / count - float(reference[f"loss_{kind}"])) < 1e-4
        ids, labels = torch.from_numpy(reference["text_ids"]), torch.from_numpy(reference["text_labels"])
        features = model.encode("report", ids)
        assert np.abs(features.numpy() - reference["features_text"]).max() < 1e-4
        asked, words = labels != -100, model.decoders["report"]
        loss = F.cross_entropy(words.logits(features[asked]), labels[asked])  # type: ignore[operator]  # an nn.Module attribute
        assert abs(float(loss) - float(reference["loss_text"])) < 1e-4


def test_the_same_weights_as_safetensors(medcoss: CommandLine, tmp_path: Path) -> None:
    save_file(theirs.official(), tmp_path / "theirs.safetensors")  # which sorts the names
    assert medcoss("checkpoint", "import", "theirs.safetensors").code == 0
    assert medcoss("checkpoint", "import", "theirs.pth", "-o", "other.pt").code == 0
    one, other = (checkpoint.load(tmp_path / name).weights for name in ("ckpt.pt", "other.pt"))
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_no_hidden_word_becomes_one_that_no_text_has(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    path = write(tmp_path / "theirs.pth", theirs.official())
    words: Any = convert(str(path), vocabulary=tmp_path / "vocab.txt").state.model.tokenizers["words"]
    ids = torch.full((4, 60), PIECES.index("lungs"))
    everywhere, last = torch.zeros(4, 60), torch.full((4, 60), 0.85)
    hidden, _ = words.hide(ids, everywhere, last, torch.full((4, 60), 0.999), 0.5)
    assert int(hidden.max()) < len(PIECES)


def test_what_strip_wrote_comes_back(medcoss: CommandLine, tmp_path: Path) -> None:
    data = write_demo(tmp_path / "data", xray=24, report=30)
    train(tmp_path, data, "train.epochs=1")
    run = tmp_path / "runs" / "run"
    assert medcoss("checkpoint", "strip", str(run), "shared.safetensors").code == 0
    answer = medcoss("checkpoint", "import", "shared.safetensors", "-o", "back.pt")
    assert answer.code == 0, answer.err
    before, after = checkpoint.load(run / "ckpt.pt"), checkpoint.load(tmp_path / "back.pt")
    shared = [name for name in before.weights if not name.startswith("decoders.")]
    assert all(torch.equal(before.weights[name], after.weights[name]) for name in shared)
    assert (after.vocabularies, after.tokenizers) == (before.vocabularies, before.tokenizers)
    assert [entry["modality"] for entry in after.history] == ["report", "xray"]
    assert not after.buffer
    answer = medcoss("export", "back.pt", "--modality", "xray", "-o", "x.onnx")
    assert answer.code == 0, answer.err


def test_nothing_of_the_arguments_is_in_the_result(medcoss: CommandLine, tmp_path: Path) -> None:
    assert SECRET.encode() in (tmp_path / "theirs.pth").read_bytes()
    assert medcoss("checkpoint", "import", "theirs.pth").code == 0
    content = (tmp_path / "ckpt.pt").read_bytes()
    assert SECRET.encode() not in content
    assert b"Namespace" not in content
    assert b"theirs" not in content


def test_names_are_told_when_they_are_asked_for(medcoss: CommandLine) -> None:
    answer = medcoss("checkpoint", "import", "theirs.pth", "--json")
    facts = json.loads(answer.out)
    assert "report" not in facts["modalities"]
    assert "token_embed.embeddings.weight" in facts["dropped"]  # without a vocabulary
    assert "mlm_head.bias" in facts["dropped"]
    assert "cls_token" in facts["taken"]["encoder"]
    every = {name for names in facts["taken"].values() for name in names} | set(facts["dropped"])
    assert every == set(theirs.official())
    assert facts["random"] == []
    told = medcoss("checkpoint", "import", "theirs.pth", "--names", "--overwrite")
    assert "video_embed.embeddings_type.weight" in told.out
    assert medcoss("checkpoint", "import", "theirs.pth").code == 2  # never over a file that is there


def test_it_extends_finetunes_and_exports_like_our_own(medcoss: CommandLine, tmp_path: Path) -> None:
    assert medcoss("checkpoint", "import", "theirs.pth", "--vocabulary", "vocab.txt").code == 0
    write_demo(tmp_path, ultrasound=8)
    common = ("train.epochs=1", "train.batch=4", "train.warmup=0", "decoder={width: 16, depth: 1, heads: 2}")
    answer = medcoss(
        "extend", "--modality", "ultrasound", "--from", "ckpt.pt", "--data", "ultrasound", "--name", "more", *common
    )
    assert answer.code == 0, answer.err
    assert "they cannot be rehearsed" in answer.err
    gate = ("extend", "--modality", "xray", "--from", "ckpt.pt", "--data", "ultrasound", "--min-retention", "0.9")
    answer = medcoss(*gate)
    assert answer.code == 2
    assert "cannot be measured" in answer.err
    before, after = imported(tmp_path / "ckpt.pt"), imported(tmp_path / "runs" / "more" / "ckpt.pt")
    assert set(after.modalities) - set(before.modalities) == {"ultrasound"}
    assert after.modalities["ultrasound"].tokenizer == before.modalities["xray"].tokenizer
    for name in ("ultrasound", "report"):
        answer = medcoss("export", "runs/more/ckpt.pt", "--modality", name, "-o", f"{name}.onnx")
        assert answer.code == 0, answer.err
    assert (tmp_path / "report.tokenizer.json").exists()
    write_demo(tmp_path, xray=24)
    (tmp_path / "task.yaml").write_text(
        "kind: finetune\ntask: classification\nmodality: xray\ndata: {folder: xray}\ninput: {size: [64, 64]}\n"
        "train: {lr: 1e-3, batch: 8, steps: 2, epoch: 2}\n"
    )
    answer = medcoss("finetune", "task.yaml", "--from", "ckpt.pt", "--data-root", ".")
    assert answer.code == 0, answer.err
    assert "positions of patch2d-16, learned on 14 x 14 places, are resized to 4 x 4 for xray" in answer.err


@pytest.mark.parametrize(
    "name", ["cls_token", "fused_encoder.layers.1.norm2.bias", "video_embed.embeddings_type.weight"]
)
@pytest.mark.parametrize("fault", ["missing", "shape", "nan"])
def test_one_bad_tensor_is_named(medcoss: CommandLine, tmp_path: Path, name: str, fault: str) -> None:
    weights = theirs.official()
    if fault == "missing":
        del weights[name]
    elif fault == "shape":
        weights[name] = torch.cat([weights[name], weights[name]], -1)
    else:
        weights[name].view(-1)[3] = torch.nan
    write(tmp_path / "bad.pth", weights)
    answer = medcoss("checkpoint", "import", "bad.pth")
    if "type" in name and fault != "missing":  # nothing is made of it
        assert answer.code == 0
        return
    assert answer.code == 5
    assert name in answer.err
    assert not (tmp_path / "ckpt.pt").exists()


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("executed",))


def test_what_is_no_plain_file_of_weights_is_refused(medcoss: CommandLine, tmp_path: Path) -> None:
    write(tmp_path / "payload.pth", theirs.official(), more=Payload())
    write(tmp_path / "path.pth", theirs.official(), more=pathlib.PurePosixPath("a"))
    whole = (tmp_path / "theirs.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    save_file(theirs.vit(), tmp_path / "vit.safetensors")
    cut = (tmp_path / "vit.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(cut[: len(cut) // 2])
    torch.save({"model": {"a": torch.ones(3)}}, tmp_path / "other.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    for name in ("payload.pth", "path.pth", "half.pth", "half.safetensors", "other.pth", "empty.pth", "none.pth"):
        answer = medcoss("checkpoint", "import", name)
        assert answer.code == 5, (name, answer.err)
        assert name in answer.err
    assert not (tmp_path / "executed").exists()
    assert medcoss("checkpoint", "import", "theirs.pth").code == 0
    answer = medcoss("checkpoint", "import", "ckpt.pt", "-o", "again.pt")
    assert answer.code == 5
    assert "needs no import" in answer.err


def test_a_vocabulary_has_to_fit(medcoss: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("\n".join([*PIECES, *(f"w{i}" for i in range(400))]))
    answer = medcoss("checkpoint", "import", "theirs.pth", "--vocabulary", "long.txt")
    assert answer.code == 2
    assert "408 pieces, the weights have 300" in answer.err
    (tmp_path / "twice.txt").write_text("\n".join([*PIECES, "lungs"]))
    assert "'lungs' is there twice" in medcoss("checkpoint", "import", "theirs.pth", "--vocabulary", "twice.txt").err
    unigram = Tokenizer(models.Unigram([(piece, 0.0) for piece in PIECES], unk_id=1))
    (tmp_path / "unigram.json").write_text(unigram.to_str())
    assert "cannot be made longer" in medcoss("checkpoint", "import", "theirs.pth", "--vocabulary", "unigram.json").err
    (tmp_path / "poor.txt").write_text("lungs\nclear")
    assert "[PAD]" in medcoss("checkpoint", "import", "theirs.pth", "--vocabulary", "poor.txt").err
    answer = medcoss("checkpoint", "import", "theirs.pth", "--modality", "report")
    assert answer.code == 2
    assert "--vocabulary" in answer.err


def test_a_text_is_no_longer_than_its_positions(medcoss: CommandLine, tmp_path: Path) -> None:
    assert medcoss("checkpoint", "import", "theirs.pth", "--vocabulary", "vocab.txt").code == 0
    write_demo(tmp_path, report=24)
    (tmp_path / "task.yaml").write_text(
        "kind: finetune\ntask: classification\nmodality: report\ndata: {folder: report}\ninput: {size: [600]}\n"
        "train: {lr: 1e-3, batch: 8, steps: 2, epoch: 2}\n"
    )
    answer = medcoss("finetune", "task.yaml", "--from", "ckpt.pt", "--data-root", ".")
    assert answer.code == 2
    assert "512 positions" in answer.err


@torch.no_grad()
def test_a_vit_is_a_start_with_its_own_positions(medcoss: CommandLine, tmp_path: Path) -> None:
    weights = theirs.vit()
    save_file(weights, tmp_path / "vit.safetensors")
    answer = medcoss("checkpoint", "import", "vit.safetensors", "--modality", "xray")
    assert answer.code == 0, answer.err
    assert "not the same network" in answer.err
    model = imported(tmp_path / "ckpt.pt")
    image = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    patches = F.conv2d(image, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], 16)
    tokens = patches.flatten(2).transpose(1, 2) + weights["pos_embed"][:, 1:]
    embedded = model.tokenizer("xray").embed(image)
    torch.testing.assert_close(embedded, F.layer_norm(tokens, (theirs.WIDTH,)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.encoder.cls, weights["cls_token"] + weights["pos_embed"][:, :1])
    ours = model.encoder.state_dict()
    assert torch.equal(ours["blocks.1.mlp.fc1.weight"], weights["blocks.1.mlp.fc1.weight"])
    assert torch.equal(ours["blocks.0.ls1.gamma"], torch.ones(theirs.WIDTH))


@torch.no_grad()
def test_uniperceiver_brings_blocks_projection_and_words(medcoss: CommandLine, tmp_path: Path) -> None:
    theirs_alone = ("cls_token", "mask_token", "decoder_", "mlm_head", "video_embed.embeddings_3D")
    weights = {
        name: tensor
        for name, tensor in theirs.official().items()
        if not name.startswith(theirs_alone) and "_st_pos_" not in name and "gamma" not in name
    }
    torch.save({"model": weights}, tmp_path / "uni.pth")
    answer = medcoss("checkpoint", "import", "uni.pth", "--vocabulary", "vocab.txt", "--json")
    assert answer.code == 0, answer.err
    facts = json.loads(answer.out)
    assert facts["origin"] == "Uni-Perceiver weights"
    assert facts["modalities"] == ["pathology", "report", "xray"]
    assert "encoder.cls" in facts["random"]
    assert "encoder.blocks.0.ls1.gamma" not in facts["random"]
    model = imported(tmp_path / "ckpt.pt")
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    tokens = F.conv2d(image, weights["video_embed.embeddings.weight"], weights["video_embed.embeddings.bias"], 16)
    placed = tokens.flatten(2).transpose(1, 2) + sincos((14, 14), theirs.WIDTH)
    wanted = theirs.normed(weights, "video_embed.embeddings_norm", placed)
    torch.testing.assert_close(model.tokenizer("xray").embed(image), wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(model.encoder.state_dict()["blocks.1.ls2.gamma"], torch.ones(theirs.WIDTH))
    assert model.modalities["report"].tokenizer.spec.causal is False


def test_weights_that_timm_fetched_before(
    medcoss: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "hub" / "models--timm--vit_tiny_patch16_224.augreg_in21k"
    (place / "snapshots" / "abc").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    network = timm.create_model("vit_tiny_patch16_224")
    save_file(network.state_dict(), place / "snapshots" / "abc" / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    answer = medcoss("checkpoint", "import", "timm:vit_tiny_patch16_224.augreg_in21k", "--modality", "pathology")
    assert answer.code == 0, answer.err
    model = imported(tmp_path / "ckpt.pt")
    assert (model.shape.width, model.shape.depth, model.shape.heads) == (192, 12, 3)
    assert torch.equal(model.encoder.state_dict()["blocks.3.attn.qkv.weight"], network.blocks[3].attn.qkv.weight)
    assert str(tmp_path).encode() not in (tmp_path / "ckpt.pt").read_bytes()


def test_a_vit_of_another_kind_is_refused(medcoss: CommandLine, tmp_path: Path) -> None:
    strange = theirs.vit() | {"blocks.0.attn.q_norm.weight": torch.ones(64)}
    save_file(strange, tmp_path / "strange.safetensors")
    grey = theirs.vit() | {"patch_embed.proj.weight": torch.ones(theirs.WIDTH, 1, 16, 16)}
    save_file(grey, tmp_path / "grey.safetensors")
    assert "q_norm" in medcoss("checkpoint", "import", "strange.safetensors").err
    assert "three channels" in medcoss("checkpoint", "import", "grey.safetensors").err
    answer = medcoss("checkpoint", "import", "timm:vit_tiny_patch16_224.augreg_in21k")
    assert answer.code == 5
    assert "downloads nothing" in answer.err
    for name in ("vit_of_nowhere", "vit_base_patch16_224.nosuch"):
        assert "no such weights" in medcoss("checkpoint", "import", f"timm:{name}").err
    clip = theirs.vit()
    del clip["patch_embed.proj.bias"]
    save_file(clip, tmp_path / "clip.safetensors")
    assert "are unknown" in medcoss("checkpoint", "import", "clip.safetensors").err


def test_stage_one_begins_from_weights_of_others(medcoss: CommandLine, tmp_path: Path) -> None:
    write_demo(tmp_path / "data", xray=8, report=30)
    save_file(theirs.vit(), tmp_path / "vit.safetensors")
    text = """\
kind: pretrain
init: INIT
encoder: {width: 128, depth: 2, heads: 2}
decoder: {width: 16, depth: 1, heads: 2}
train: {epochs: 1, warmup: 1, batch: 8, lr: 1e-9, weight_decay: 0}
stages: [{modality: report, data: report, vocabulary_size: 300}, {modality: xray, data: xray, size: [64, 64]}]
"""
    (tmp_path / "mine.yaml").write_text(text.replace("INIT", "vit.safetensors"))
    answer = medcoss("pretrain", "mine.yaml")
    assert answer.code == 0, answer.err
    assert "starts from a ViT of timm or MAE" in answer.err
    assert "starts from" in (tmp_path / "runs" / "mine" / "log.txt").read_text()
    assert not (tmp_path / "runs" / "mine" / "init.pt").exists()
    assert "Begun from a ViT of timm or MAE" in medcoss("checkpoint", "show", "runs/mine").out
    state = checkpoint.load(tmp_path / "runs" / "mine" / "ckpt.pt")
    ours, weights = state.weights, theirs.vit()
    torch.testing.assert_close(ours["encoder.blocks.1.attn.qkv.weight"], weights["blocks.1.attn.qkv.weight"])
    torch.testing.assert_close(ours["tokenizers.patch2d-16.table"], weights["pos_embed"][0, 1:])
    assert "vit.safetensors" not in str(state.history)
    assert state.encoder["layer_scale"] is not None  # `layer_scale: null` is what the weights of init have
    (tmp_path / "wrong.yaml").write_text(text.replace("INIT", "vit.safetensors").replace("depth: 2", "depth: 3"))
    answer = medcoss("pretrain", "wrong.yaml")
    assert answer.code == 2, answer.err
    assert "depth: 2" in answer.err
    (tmp_path / "next.yaml").write_text(text.replace("INIT", "runs/mine"))  # a checkpoint of our own
    answer = medcoss("pretrain", "next.yaml", "--dry-run")
    assert answer.code == 0, answer.err
    (tmp_path / "next.yaml").write_text(
        text.replace("INIT", "runs/mine").replace("vocabulary_size: 300", "vocabulary: vocab.txt")
    )
    assert "has a vocabulary" in medcoss("pretrain", "next.yaml", "--dry-run").err


def test_a_run_that_began_from_others_resumes_without_their_file(tmp_path: Path) -> None:
    """Stopped in the second stage, whose tokenizer comes from the file; the same bits as without a stop."""
    data = write_demo(tmp_path / "data", xray=24, report=30)
    save_file(theirs.vit(), tmp_path / "vit.safetensors")
    overrides = (f"init={tmp_path / 'vit.safetensors'}", "encoder={width: 128, depth: 2, heads: 2}")
    overrides += ("stages.1.tokenizer=patch2d-16", "train.epochs=1")
    whole = train(tmp_path, data, *overrides, name="whole").model.state_dict()
    with pytest.raises(Interrupted):
        train(tmp_path, data, *overrides, name="cut", screen=StopAfter(5))
    stopped = tmp_path / "runs" / "cut"
    assert (stopped / "init.pt").exists()
    (tmp_path / "vit.safetensors").unlink()
    (stopped / "init.pt").rename(tmp_path / "aside.pt")
    with pytest.raises(CheckpointError, match="began from are not in it"):  # never from random weights instead
        resume(tmp_path, data, "cut")
    (tmp_path / "aside.pt").rename(stopped / "init.pt")
    again = resume(tmp_path, data, "cut").model.state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
