"""What a stage takes over from those before it: tokenizers that fit, and no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from medcoss_cli.console import Screen
from medcoss_cli.errors import CheckpointError, RecipeError, UsageError
from medcoss_cli.kit import Patches
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.model.multimodal import Model
from medcoss_cli.plugin import Modality, TokenizerSpec
from medcoss_cli.registry import configure, discovery


def small(name: str, **parts: Any) -> Modality:
    """A modality of images seen at 32 x 32, unless told otherwise."""
    return replace(discovery.load_modality("pathology"), name=name, **{"size": (32, 32), **parts})


@pytest.fixture
def known() -> dict[str, Modality]:
    return {"old": small("old", tokenizer=Patches("patch2d-8"), size=(64, 64))}


def as_stage(new: Modality, known: dict[str, Modality], monkeypatch: pytest.MonkeyPatch, **keys: Any) -> Modality:
    """The new modality as a stage behind those that are known would train it."""
    monkeypatch.setattr(configure, "load_modality", lambda name: new)
    return configure.for_stage(new.name, known, Screen(), **keys)


def test_a_tokenizer_that_fits_is_shared_with_its_size(
    known: dict[str, Modality], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = as_stage(small("new", tokenizer=Patches("patch2d-16")), known, monkeypatch)
    assert part.tokenizer == Patches("patch2d-8")
    assert part.size == (64, 64)


@pytest.mark.parametrize("own", [Patches("patch2d-16-new", channels=5), Patches("patch2d-16", norm_eps=1e-6)])
def test_one_of_other_channels_or_another_make_stays_its_own(
    known: dict[str, Modality], monkeypatch: pytest.MonkeyPatch, own: Patches
) -> None:
    part = as_stage(small("new", tokenizer=own, channels=own.channels), known, monkeypatch)
    assert part.tokenizer == own
    assert part.size == (32, 32)


def test_a_tokenizer_of_imported_weights_is_shared_with_its_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = Patches("patch2d-8", positions="table", grid=(8, 8))
    known = {"old": small("old", tokenizer=imported, size=(64, 64))}
    part: Any = as_stage(small("new", tokenizer=Patches("patch2d-8")), known, monkeypatch).tokenizer
    assert part == imported
    network: Any = part.build(32)
    with torch.no_grad():
        network.table.copy_(torch.arange(64.0)[:, None].expand(-1, 32))
    assert torch.equal(network.positions((8, 8), torch.device("cpu")), network.table)
    assert network.positions((4, 8), torch.device("cpu"))[:, 0].view(4, 8)[:, 0].tolist() == [4, 20, 36, 52]


def test_two_networks_under_one_key_are_refused_and_the_way_out_works(
    known: dict[str, Modality], monkeypatch: pytest.MonkeyPatch
) -> None:
    new = small("new", tokenizer=Patches("patch2d-8", channels=5), channels=5)
    with pytest.raises(RecipeError, match="differs from the one that old has under this key; tokenizer=patch2d-8-new"):
        as_stage(new, known, monkeypatch)
    part: Any = as_stage(new, known, monkeypatch, tokenizer="patch2d-8-new").tokenizer
    assert (part.key, part.patch, part.channels) == ("patch2d-8-new", (8, 8), 5)


def test_learned_positions_are_one_for_each_place_and_random(monkeypatch: pytest.MonkeyPatch) -> None:
    new = as_stage(small("new", tokenizer=Patches("patch2d-8")), {}, monkeypatch, positions="table")
    spec = new.tokenizer.spec
    assert (spec.positions, spec.grid) == ("table", (4, 4))
    model = Model(EncoderShape(48, 1, 2), seed=0)
    model.add(new)
    table = dict(model.tokenizers["patch2d-8"].named_parameters())["table"]
    assert table.shape == (16, 48)
    assert table.std().item() == pytest.approx(1, abs=0.1)
    words = configure.learned(discovery.load_modality("report").with_size((40,)).tokenizer, (40,)).spec
    assert (words.positions, words.rows) == ("table", 40)


def test_positions_of_a_tokenizer_that_is_there_stay(
    known: dict[str, Modality], monkeypatch: pytest.MonkeyPatch
) -> None:
    new = as_stage(small("new", tokenizer=Patches("patch2d-8")), known, monkeypatch, positions="table")
    assert new.tokenizer.spec == known["old"].tokenizer.spec


def test_settings_of_reading_reach_the_loader_or_are_refused() -> None:
    ct = discovery.load_modality("ct")
    loader: Any = configure.reading(ct, {"allow": ["burned-in"], "tilt": "correct"}).loader
    assert (loader.allow, loader.tilt, loader.whole().tilt) == (("burned-in",), "correct", "correct")
    assert configure.reading(ct, {}) is ct
    with pytest.raises(UsageError, match="the report modality has no setting tilt for reading files"):
        configure.reading(discovery.load_modality("report"), {"tilt": "correct"})


def test_settings_of_a_loader_by_modality_are_of_its_types() -> None:
    ct = discovery.load_modality("ct")
    settings = {"loader": {"ct": {"window": 8, "spacing": None, "dicom": ["CT", "PT"]}, "mri": {"window": 3}}}
    loader: Any = configure.reading(ct, settings).loader
    assert (loader.window, loader.spacing, loader.dicom) == (8, None, ("CT", "PT"))
    assert configure.reading(ct, {"loader": {"mri": {"window": 3}}}) is ct
    for name, value in (("window", "wide"), ("window", 1.5), ("window", True), ("dicom", "CT"), ("hounsfield", 1)):
        with pytest.raises(UsageError, match=f"the setting {name} of the ct modality is {value!r}, not "):
            configure.reading(ct, {"loader": {"ct": {name: value}}})
    with pytest.raises(UsageError, match="the ct modality has no setting mpp for reading files"):
        configure.reading(ct, {"loader": {"ct": {"mpp": 1.0}}})


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"tilt": "corect"}, "the setting tilt of the ct modality is 'corect', not keep or correct"),
        ({"slices": 3}, "the setting slices of the ct modality is 3, not axial or acquired"),
        ({"spacing": "fine"}, "the setting spacing of the ct modality is 'fine', not float or None"),
        ({"spacing": float("nan")}, "the setting spacing of the ct modality is nan, not float or None"),
        ({"dicom": ["CT", 3]}, r"the setting dicom of the ct modality is \('CT', 3\), not tuple\[text, ...\]"),
        ({"stride": 0}, "window 24 and stride 0 are numbers of slices, at least 1"),
        ({"spacing": -1.0}, "a spacing of -1 mm is impossible"),
        ({"trim": 0.5}, "trim 0.5 is a share"),
        ({"crop_above": 0}, "crop_above 0 is a number of pixels"),
    ],
)
def test_a_setting_is_held_against_its_declared_type(setting: dict[str, Any], said: str) -> None:
    ct = discovery.load_modality("ct")
    with pytest.raises(UsageError, match=said):
        configure.reading(ct, {"loader": {"ct": setting}})
    with pytest.raises(UsageError, match=said):  # of --loader
        configure.reading(ct, setting)


@pytest.mark.parametrize("settings", [{"ct": "x"}, {"ct": ["window", 3]}, "x", {"ct": None}])
def test_settings_that_are_no_names_and_values_are_refused_in_a_sentence(settings: Any) -> None:
    with pytest.raises(UsageError, match="not names with their values"):
        configure.reading(discovery.load_modality("ct"), {"loader": settings})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("width", value) for value in ("x", None, 16.5, [16], 0, -16, True)),
        *(("depth", value) for value in ("x", None, 1.0, 0)),
        *(("heads", value) for value in ("x", None, 2.0, 0, 3)),
        ("positions", 7),
    ],
)
def test_a_decoder_that_cannot_be_built_is_refused(name: str, value: Any) -> None:
    decoder = {"width": 16, "depth": 1, "heads": 2, "positions": "table"}
    assert vars(configure.fit(discovery.load_modality("xray"), decoder={**decoder, "other": "x"}).decoder) == decoder
    with pytest.raises(CheckpointError, match="decoder of xray"):
        configure.fit(discovery.load_modality("xray"), decoder={**decoder, name: value})


def test_a_vocabulary_of_what_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a vocabulary for xray, which is no text"):
        configure.fit(discovery.load_modality("xray"), vocabulary="{}")
    with pytest.raises(RecipeError, match="vocabulary: new is no text and has no vocabulary; leave the key out"):
        as_stage(small("new", tokenizer=Patches("patch2d-8")), {}, monkeypatch, vocabulary=str(tmp_path / "words.json"))


@pytest.mark.parametrize("length", [-1, 1])
def test_a_text_has_room_for_its_ends(length: int) -> None:
    report = discovery.load_modality("report")
    assert configure.fit(report, size=(2,)).size == (2,)
    with pytest.raises(RecipeError, match="has no room for"):
        configure.fit(report, size=(length,))


@pytest.mark.parametrize(
    "spec",
    [TokenizerSpec("patches", patch=(8,), grid=(4,)), TokenizerSpec("mine", patch=(8, 8), positions="table")],
)
def test_a_spec_of_another_tokenizer_is_refused(spec: TokenizerSpec) -> None:
    with pytest.raises(CheckpointError, match="its tokenizer patch2d-16 is none for xray"):
        configure.fit(discovery.load_modality("xray"), tokenizer="patch2d-16", spec=spec)
