"""What a comparison is made of: shared cells are there once, and what is not possible is said before anything is made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from medcoss_cli.comparing.cells import Later, Simple, Training, Tuning
from medcoss_cli.errors import DataError, MedcossError, RecipeError
from tests.comparisons import HEAD, planned
from tests.pretraining_runs import write_demo


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), report=20, pathology=20)


def methods(*lines: str) -> str:
    return "".join(f"  - {{{line}}}\n" for line in lines)


def test_strategies_share_one_first_stage_and_its_head(tmp_path: Path, data: Path) -> None:
    _, made = planned(
        tmp_path,
        data,
        methods=methods("name: a, strategy: sequential", "name: b, strategy: medcoss", "name: c, strategy: packnet"),
    )
    trainings = {name: made.cells[made.trainings[name, 0]] for name in "abc"}
    assert all(isinstance(cell, Training) for cell in trainings.values())
    first = trainings["a"].needs
    assert first == trainings["b"].needs
    assert trainings["c"].needs == ()  # its first stage is of its own kind
    assert len([cell for cell in made.cells.values() if isinstance(cell, Training)]) == 4
    heads = {use.method: use.cell for use in made.uses if use.measure == "frozen" and use.after == 1}
    assert heads["a"] == heads["b"] != heads["c"]
    assert made.cells[heads["a"]].needs == first


def test_a_cell_is_another_where_its_data_have_changed(tmp_path: Path, data: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    before = set(planned(tmp_path, data)[1].cells)
    assert set(planned(tmp_path, copy)[1].cells) == before, "the same files elsewhere"
    labels = copy / "pathology" / "manifest.csv"
    rows = labels.read_text().splitlines()
    labels.write_text("\n".join([rows[0], *reversed(rows[1:])]) + "\n")  # of the same size
    after = planned(tmp_path, copy)[1]
    assert not before & set(after.cells), "pathology is in every cell"
    (copy / "report" / "more.txt").write_text("No acute finding.")
    again = planned(tmp_path, copy)[1]
    kept = {type(cell) for key, cell in again.cells.items() if key in after.cells}
    assert {Simple, Tuning} <= kept, "reports are not read for what is of pathology alone"
    assert after.trainings["medcoss", 0] not in again.cells


def test_a_cell_comes_behind_what_it_needs(tmp_path: Path, data: Path) -> None:
    _, made = planned(tmp_path, data)
    order = list(made.cells)
    assert all(order.index(need) < order.index(key) for key, cell in made.cells.items() for need in cell.needs)


def test_single_models_share_the_first_stage_too(tmp_path: Path, data: Path) -> None:
    _, made = planned(tmp_path, data)
    [own] = {use.cell for use in made.uses if use.method == "single" and use.measure == "frozen"}
    tuned = made.cells[own]
    assert isinstance(tuned, Tuning)
    assert tuned.start.training == made.cells[made.trainings["medcoss", 0]].needs[0]


def test_frozen_heads_are_tested_after_every_later_stage(tmp_path: Path, data: Path) -> None:
    _, made = planned(tmp_path, data)
    assert [use.after for use in made.uses if (use.method, use.measure) == ("medcoss", "frozen")] == [1, 2]
    assert [cell.stages for cell in made.cells.values() if isinstance(cell, Later)] == [(2,), (2,)]


def test_an_encoder_of_another_dimension_gets_a_random_tokenizer(tmp_path: Path, data: Path) -> None:
    _, made = planned(tmp_path, data, methods=methods("name: words, stages: [report]"))
    uses = [use for use in made.uses if use.method == "words"]
    assert [use.measure for use in uses] == ["full"]  # a head on random tokens measures nothing
    cell = made.cells[uses[0].cell]
    assert isinstance(cell, Tuning)
    assert cell.recipe.tokenizer == "new patch2d-8"


def test_scratch_has_the_size_and_the_tokenizer_of_the_stage(tmp_path: Path, data: Path) -> None:
    recipe, made = planned(tmp_path, data)
    cells = [made.cells[use.cell] for use in made.uses if use.method in ("scratch", "") and use.measure != "simple"]
    for cell in cells:
        assert isinstance(cell, Tuning)
        assert (cell.recipe.tokenizer, cell.recipe.input.size) == ("patch2d-8", [32, 32])
        assert cell.recipe.encoder is not None
        assert cell.recipe.encoder.width == 32
    assert recipe.reference is None
    assert recipe.shown()[0].reference == "medcoss"


def test_seeds_labels_and_only(tmp_path: Path, data: Path) -> None:
    _, made = planned(tmp_path, data, "seeds=[0, 1]", "labels=[0.5, 1]")
    full = {(use.seed, use.labels) for use in made.uses if (use.method, use.measure) == ("medcoss", "full")}
    assert full == {(0, 0.5), (0, 1.0), (1, 0.5), (1, 1.0)}
    wanted = made.wanted(["medcoss"])
    assert len(wanted) < len(made.cells)
    assert all(need in wanted for cell in wanted.values() for need in cell.needs)


def test_another_order_is_another_training(tmp_path: Path, data: Path) -> None:
    _, made = planned(tmp_path, data, methods=methods("name: a", "name: b, stages: [report, pathology]"))
    cell = made.cells[made.trainings["b", 0]]
    assert isinstance(cell, Training)
    assert cell.order == ["report", "pathology"]
    assert cell.needs != made.cells[made.trainings["a", 0]].needs


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"methods": methods("name: a", "name: a")}, "two of its methods are called 'a'"),
        ({"methods": methods("name: a, from: scratch, strategy: er")}, "from: scratch is not pre-trained"),
        ({"methods": methods("name: a, stages: [xray]")}, "method a: .* has no stage of xray"),
        ({"methods": methods("name: a, strategy: {name: ewc, weight: .inf}")}, "weight"),
        ({"methods": methods("name: a, strategy: {name: ewc, weight: .nan}")}, "weight"),
        ({"methods": methods("name: a, strategy: nothing")}, "'nothing' is none of"),
        ({"methods": methods("name: a, joint: {}, strategy: er")}, "joint is one stage"),
        ({"methods": methods("name: a, set: [train.epochs=none]")}, "method a: .*train.epochs"),
        ({"more": "reference: b"}, "no method is called 'b'"),
        ({"more": "seeds: [1, 1]"}, "twice"),
        ({"more": "data: {bad_share: 0.6}"}, r"bad_share is of the recipes .*set: \[data.bad_share"),
        ({"task": "set: [modality=pathology]"}, "task tiles: .*data.folder"),
        (
            {"methods": methods("name: a, stages: [report]"), "task": f"set: {HEAD}, measures: [frozen]"},
            "no method can be measured by the task tiles",
        ),
    ],
)
def test_what_is_not_possible_is_said(tmp_path: Path, data: Path, parts: dict[str, str], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        planned(tmp_path, data, **parts)


def test_a_joint_stage_of_different_batches_needs_its_own(tmp_path: Path, data: Path) -> None:
    with pytest.raises(RecipeError, match=r"method all: the stages differ in batch .*joint: \{batch"):
        planned(tmp_path, data, methods=methods('name: all, joint: {}, set: ["stages.0.batch=4"]'))
    _, made = planned(tmp_path, data, methods=methods('name: all, joint: {batch: 8}, set: ["stages.0.batch=4"]'))
    cell = made.cells[made.trainings["all", 0]]
    assert isinstance(cell, Training)
    assert cell.order == ["pathology+report"]


def test_a_manifest_with_faults_is_told_before_anything_is_made(tmp_path: Path, data: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    (copy / "pathology" / "manifest.csv").write_text("path,split\n")
    with pytest.raises(DataError, match="the manifest has no row with a label"):
        planned(tmp_path, copy)


def test_all_missing_folders_are_named(tmp_path: Path, data: Path) -> None:
    with pytest.raises(DataError, match="these folders do not exist") as caught:
        planned(tmp_path, tmp_path / "nothing")
    assert "report" in str(caught.value)
    with pytest.raises(MedcossError, match="the folder does not exist"):
        planned(tmp_path, data, task="set: [modality=pathology, data.folder=elsewhere]")
