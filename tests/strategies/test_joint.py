"""Joint training: one stage only, with decoders by modality or by dimension."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medcoss_cli.errors import Interrupted, RecipeError
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.model.multimodal import Model
from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.registry.configure import fit
from medcoss_cli.registry.discovery import load_modality
from tests.pretraining_runs import StopAfter, resume, train, write_demo

STAGE = (
    "{modalities: [{modality: xray, data: xray, size: [32, 32], tokenizer: patch2d-8}, "
    "{modality: ultrasound, data: ultrasound}, {modality: report, data: report, size: [32], vocabulary_size: 300}]%s}"
)
DIMENSION = STAGE % ", decoders: dimension"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), report=40, xray=40, ultrasound=40)


def test_modalities_of_one_tokenizer_and_size_share_a_decoder_that_counts_once() -> None:
    sizes = {"xray": (32, 32), "pathology": (32, 32), "ultrasound": (48, 48), "ct": None, "mri": None}
    small = {"width": 16, "depth": 1, "heads": 2}
    modalities = [fit(load_modality(name), size=size, decoder=small) for name, size in sizes.items()]
    shared, apart = (Model(EncoderShape(width=16, depth=1, heads=2), seed=0) for _ in range(2))
    for at, modality in enumerate(modalities):
        shared.add(modality, sharing=[m.name for m in modalities[:at]])
        apart.add(modality)
    assert shared.decoders["xray"] is shared.decoders["pathology"] is not shared.decoders["ultrasound"]
    assert shared.decoders["ct"] is shared.decoders["mri"]
    counts = {name: sum(p.numel() for p in decoder.parameters()) for name, decoder in apart.decoders.items()}
    assert sum(p.numel() for p in shared.decoders.parameters()) == sum(counts.values()) - counts["xray"] - counts["mri"]
    shared.separate_decoders()
    assert shared.decoders["xray"] is not shared.decoders["pathology"]
    assert sum(p.numel() for p in shared.decoders.parameters()) == sum(counts.values())


def test_a_joint_stage_trains_one_decoder_for_a_dimension_and_resumes(tmp_path: Path, data: Path) -> None:
    ways = ("strategy=joint", f"stages=[{DIMENSION}]")
    whole = train(tmp_path, data, *ways, name="whole").model
    xray, ultrasound = (whole.decoders[name].state_dict() for name in ("xray", "ultrasound"))
    assert all(torch.equal(tensor, ultrasound[name]) for name, tensor in xray.items())
    with pytest.raises(Interrupted):
        train(tmp_path, data, *ways, name="cut", screen=StopAfter(7))
    again = resume(tmp_path, data, "cut").model.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.state_dict().items())


def test_a_stage_behind_one_of_shared_decoders_resumes(tmp_path: Path, data: Path) -> None:
    later = "{modality: xray, data: xray, size: [32, 32], tokenizer: patch2d-8}"
    ways = ("strategy=er", "train.epochs=1", f"stages=[{DIMENSION}, {later}]")
    whole = train(tmp_path, data, *ways, name="whole")
    with pytest.raises(Interrupted):
        train(tmp_path, data, *ways, name="cut", screen=StopAfter(whole.history[0]["steps"] + 2))
    again = resume(tmp_path, data, "cut").model.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.model.state_dict().items())


def test_several_stages_and_extend_are_refused_in_a_sentence() -> None:
    with pytest.raises(RecipeError, match="strategy: joint trains all modalities in one stage, but the recipe has 5"):
        read_recipe("mini", ["strategy=joint"])
    with pytest.raises(RecipeError, match="so it cannot extend"):
        read_recipe("extend", ["strategy=joint"])
    with pytest.raises(RecipeError, match=r"stages\.0\.decoders"):
        read_recipe("mini", ["strategy=joint", f"stages=[{STAGE % ', decoders: one'}]"])
