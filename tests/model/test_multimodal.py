"""The model as a whole: what is visible, who sees whom, and sizes as in the paper."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medcoss_cli.model.batch import Batch
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.model.multimodal import Model
from medcoss_cli.plugin import Modality
from medcoss_cli.registry.discovery import load_modality
from medcoss_cli.strategies import StageInfo
from medcoss_cli.strategies.medcoss import MedCoSS

TEXTS = [f"the heart is of normal size and the lungs are clear in case {i}" for i in range(30)]


def text() -> Modality:
    modality = load_modality("report").with_size((40,))
    tokenizer = modality.tokenizer
    return modality.with_vocabulary(tokenizer.learn(TEXTS, [None] * len(TEXTS)))  # type: ignore[union-attr]  # Words


def batch_of(name: str, inputs: torch.Tensor, partner: torch.Tensor | None = None, step: int = 0) -> Batch:
    return Batch(name, partner is None, inputs, partner, slice(0, len(inputs)), len(inputs), (0, 1, step))


@pytest.mark.parametrize(("name", "visible", "of"), [("xray", 49, 196), ("ct", 36, 144)])
def test_a_quarter_of_the_patches_reaches_the_encoder(name: str, visible: int, of: int) -> None:
    modality = load_modality(name)
    model = Model(EncoderShape(48, 1, 2), seed=0)
    model.add(modality)
    inputs = torch.zeros(2, modality.channels, *modality.size)
    grid = model.tokenizer(name).grid(modality.size)
    assert torch.Size(grid).numel() == of
    hidden, keep, _ = model.hide(batch_of(name, inputs))
    assert keep is not None
    assert keep.shape == (2, visible)
    assert model.encode(name, hidden, keep).shape == (2, 1 + visible, 48)
    assert model.tokenizer(name).embed(inputs, keep).shape == (2, visible, 48)


def test_text_features_do_not_depend_on_batch_mates() -> None:
    modality = text()
    model = Model(EncoderShape(48, 2, 2), seed=0).eval()
    model.add(modality)
    words = modality.tokenizer
    codes = [words.encode(type("S", (), {"array": t})())[0] for t in ("clear", TEXTS[0], TEXTS[1] + " " + TEXTS[2])]  # type: ignore[union-attr]
    together = torch.stack([torch.from_numpy(code).long() for code in codes])
    with torch.no_grad():
        alone = torch.cat([model.pooled(modality.name, together[i : i + 1]) for i in range(3)])
        mixed = model.pooled(modality.name, together)
        reordered = model.pooled(modality.name, together.flip(0)).flip(0)
    assert torch.allclose(mixed, alone, atol=1e-5)
    assert torch.allclose(reordered, alone, atol=1e-5)


def test_padding_changes_nothing() -> None:
    short, long = text().with_size((20,)), text().with_size((40,))
    ids = [m.tokenizer.encode(type("S", (), {"array": TEXTS[0]})())[0] for m in (short, long)]  # type: ignore[union-attr]
    results = []
    for modality, code in zip((short, long), ids, strict=True):
        model = Model(EncoderShape(48, 2, 2), seed=0).eval()
        model.add(modality)
        with torch.no_grad():
            results.append(model.pooled(modality.name, torch.from_numpy(code).long()[None]))
    assert torch.allclose(*results, atol=1e-5)


@pytest.mark.parametrize("name", ["xray", "ct", "report"])
def test_distillation_is_exactly_zero_at_the_start_of_a_stage(name: str) -> None:
    modality = text() if name == "report" else load_modality(name)
    if name != "report":
        modality = modality.with_size((32, 32) if modality.dims == 2 else (16, 32, 32))
    model = Model(EncoderShape(48, 2, 2), seed=0)
    model.add(modality)
    strategy = MedCoSS(MedCoSS.Settings())
    strategy.begin_stage(model, StageInfo(2, None, (name,), ()))
    inputs = torch.randint(5, 60, (4, 40)) if name == "report" else torch.rand(4, modality.channels, *modality.size)
    model.train()
    value, count = strategy.loss(model, batch_of(name, inputs, inputs.flip(0)))
    assert value.item() == 0.0
    assert float(count) > 0
    with torch.no_grad():
        model.encoder.blocks[0].mlp.fc1.weight.add_(0.01)
    moved, _ = strategy.loss(model, batch_of(name, inputs, inputs.flip(0)))
    assert moved.item() > 0


def test_vit_b_has_the_papers_size() -> None:
    model = Model(EncoderShape(), seed=0)
    weights = sum(p.numel() for p in model.encoder.parameters())
    assert weights == 12 * (4 * 768 * 768 + 2 * 4 * 768 * 768 + 3 * 768 + 768 + 4 * 768 + 768 + 4 * 768) + 768
    assert not any("norm" in name and "blocks" not in name for name, _ in model.encoder.named_parameters())


def test_a_second_modality_with_the_same_key_shares_the_tokenizer() -> None:
    model = Model(EncoderShape(48, 1, 2), seed=0)
    model.add(load_modality("xray").with_size((32, 32)))
    before = model.tokenizers["patch2d-16"]
    model.add(load_modality("pathology").with_size((32, 32)))
    assert list(model.tokenizers) == ["patch2d-16"]
    assert model.tokenizers["patch2d-16"] is before
    assert set(model.decoders) == {"xray", "pathology"}


def test_weights_are_a_function_of_the_seed() -> None:
    def built(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(int(torch.empty((), dtype=torch.int64).random_() % 1000))  # global state must not matter
        model = Model(EncoderShape(48, 1, 2), seed=seed)
        model.add(load_modality("xray").with_size((32, 32)))
        return model.state_dict()

    first, second, other = built(1), built(1), built(2)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["encoder.blocks.0.mlp.fc1.weight"], other["encoder.blocks.0.mlp.fc1.weight"])


@pytest.mark.parametrize("name", ["xray", "report"])
def test_drop_path_is_a_function_of_the_batch_and_ends_with_training(name: str) -> None:
    modality = text() if name == "report" else load_modality(name).with_size((32, 32))
    model = Model(EncoderShape(48, 3, 2), seed=0)
    model.add(modality)
    inputs = torch.randint(5, 60, (8, 40)) if name == "report" else torch.rand(8, 1, 32, 32)
    batch = batch_of(name, inputs)
    whole = model.features(batch)[0]
    model.drop_path = 0.5
    left_out = model.features(batch)[0]
    assert torch.equal(model.features(batch)[0], left_out)
    assert not torch.equal(left_out, whole)
    parts = [replace(batch, inputs=inputs[rows], rows=rows) for rows in (slice(0, 3), slice(3, 8))]  # two ranks
    torch.testing.assert_close(torch.cat([model.features(part)[0] for part in parts]), left_out)
    factors = model.dropped(batch)
    assert factors is not None
    assert factors.shape == (8, 3, 2)
    assert set(factors.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(model.eval().features(batch)[0], whole)
