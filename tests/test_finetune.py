"""Fine-tuning through the doors that the verb uses: it learns, resumes to the same bits, and leaves what it promises."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from medcoss_cli.console import Screen
from medcoss_cli.errors import CheckpointError, DataError, Interrupted, NonFiniteError, RecipeError, UsageError
from medcoss_cli.finetune import finetune
from medcoss_cli.finetuning import setup
from medcoss_cli.importers.shareable import strip
from medcoss_cli.model.finetuned import FinetunedNetwork
from medcoss_cli.model.positions import sincos
from medcoss_cli.recipe.read import shipped_recipes
from medcoss_cli.store import finetuned, plain
from medcoss_cli.store.run import without_paths
from medcoss_cli.tasks.samples import SampleData
from tests.finetuning_runs import CLASSES, MASKS, begin, recipe_of, resume, tune
from tests.pretraining_runs import StopAfter, options, train, write_demo


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), report=80, xray=60, ct=16)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    train(folder, data)
    return folder / "runs" / "run" / "ckpt.pt"


def weights(folder: Path, seed: int = 0) -> dict[str, torch.Tensor]:
    return finetuned.load(folder / f"seed-{seed}" / "model.pt").weights


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_larger_size_scales_positions_and_what_is_left_knows_it(tmp_path: Path, data: Path, checkpoint: Path) -> None:
    """An encoder trained on 4 x 4 places never saw the numbers 4 to 7; the fine-tuned model knows its grid, from scratch none."""
    screen = StopAfter(0)
    job = begin(tmp_path, data, CLASSES, "input.size=[64, 64]", start=str(checkpoint), screen=screen)
    job.run.close()
    assert job.spec.tokenizer_spec["grid"] == [4, 4]
    assert any("learned on 4 x 4 places, are resized to 8 x 8" in line for line in screen.said)
    tokenizer: Any = job.network(0).tokenizer
    assert torch.equal(tokenizer.positions((8, 8), torch.device("cpu")), sincos((8, 8), 32, (4, 4)))
    for number, (size, start) in enumerate((("[32, 32]", str(checkpoint)), ("[64, 64]", "scratch"))):
        other = begin(tmp_path, data, CLASSES, f"input.size={size}", start=start, name=f"other{number}")
        other.run.close()
        assert "grid" not in other.spec.tokenizer_spec
    resumed = setup.resume_finetune(job.run.folder, options(tmp_path, data), Screen())
    resumed.run.close()
    assert resumed.spec == job.spec
    again: Any = resumed.network(0).tokenizer
    assert again.spec.grid == (4, 4)


def test_classes_with_two_seeds_from_a_checkpoint(tmp_path: Path, data: Path, checkpoint: Path) -> None:
    results, run = tune(tmp_path, data, CLASSES, start=str(checkpoint), seeds=(0, 10))
    start = results["start"]
    assert (start["from"], start["strategy"], start["stages"]) == ("checkpoint", "medcoss", ["report", "xray"])
    assert start["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert start["settings"]["name"] == "medcoss"
    assert [seed["seed"] for seed in results["seeds"]] == [0, 10]
    values = [seed["test"]["metrics"]["accuracy"] for seed in results["seeds"]]
    assert results["summary"]["accuracy"]["mean"] == pytest.approx(sum(values) / 2)
    test = results["seeds"][0]["test"]
    assert sum(map(sum, test["confusion"])) == test["samples"] == results["data"]["test"]["samples"]
    low, high = test["intervals"]["accuracy"]
    assert low <= test["metrics"]["accuracy"] <= high
    with (run / "seed-0" / "cases.csv").open() as file:
        cases = list(csv.DictReader(file))
    hits = sum(case["label"] == case["predicted"] for case in cases)
    assert hits / len(cases) == pytest.approx(test["metrics"]["accuracy"])
    steps = [json.loads(line) for line in (run / "seed-10" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps if "loss" in row] == list(range(1, 9))
    assert [row["step"] for row in steps if "validation" in row] == [4, 8]
    assert not (run / "seed-0" / "resume.pt").exists()
    assert list((run / "seed-0" / "cases").glob("*.png"))


def test_the_start_is_the_checkpoints_encoder_and_tokenizer(tmp_path: Path, data: Path, checkpoint: Path) -> None:
    from medcoss_cli.pretraining.state import read_state

    known = read_state(checkpoint).model.state_dict()
    job = begin(tmp_path, data, CLASSES, start=str(checkpoint))
    network = job.network(0).state_dict()
    job.run.close()
    for name, weight in network.items():
        if name.startswith("encoder."):
            assert torch.equal(weight, known[name])
        elif name.startswith("tokenizer."):
            assert torch.equal(weight, known[name.replace("tokenizer.", "tokenizers.patch2d-8.")])
        else:
            assert name.startswith("head.")


def test_a_resume_file_with_a_warning_of_another_form_is_taken_up(tmp_path: Path, data: Path) -> None:
    with pytest.raises(Interrupted):
        tune(tmp_path, data, CLASSES, screen=StopAfter(3))
    place = tmp_path / "runs" / "run" / "seed-0" / "resume.pt"
    content = plain.load(place)
    content["state"]["warned"] = torch.ones(2)
    plain.save(content, place)
    assert resume(tmp_path, data)["seeds"]


def test_what_a_stage_leaves_is_a_start(tmp_path: Path, data: Path, checkpoint: Path) -> None:
    """Of every stage: else a task could be begun from the last one alone, and forgetting could not be drawn."""
    first, last = (next(checkpoint.parent.glob(f"stages/{n}-*/encoder.safetensors")) for n in (1, 2))
    strip(checkpoint, tmp_path / "stripped.safetensors")
    assert last.read_bytes() == (tmp_path / "stripped.safetensors").read_bytes()
    networks = []
    for number, source in enumerate((checkpoint, last)):
        job = begin(tmp_path, data, CLASSES, start=str(source), name=f"run-{number}")
        networks.append(job.network(0).state_dict())
        job.run.close()
    assert same(*networks)
    assert job.run.facts["start"]["stages"] == ["report", "xray"]
    with pytest.raises(CheckpointError, match="has the tokenizers words; xray needs patch2d-8"):
        begin(tmp_path, data, CLASSES, start=str(first), name="early")
    texts = CLASSES.replace("xray", "report").replace("tokenizer: patch2d-8\n", "")
    job = begin(tmp_path, data, texts, "input.size=[32]", "input.augment=none", start=str(first), name="text")
    assert job.run.facts["start"]["stages"] == ["report"]
    job.run.close()


def test_a_frozen_encoder_stays_as_it_came_also_in_the_hybrid(tmp_path: Path, data: Path) -> None:
    for number, (text, overrides) in enumerate(
        [(CLASSES, ["head.probe=true"]), (MASKS, ["head.hybrid.depth=10", "train.steps=2"])]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        job = begin(folder, data, text, *overrides)
        before = {k: v.clone() for k, v in job.network(0).state_dict().items() if not k.startswith("head.")}
        head = {k: v.clone() for k, v in job.network(0).state_dict().items() if k.startswith("head.")}
        finetune(job)
        job.run.close()
        after = weights(job.run.folder)
        assert all(torch.equal(after[k], v) for k, v in before.items())
        assert any(not torch.equal(after[k], v) for k, v in head.items())


@pytest.mark.parametrize("text", [CLASSES, MASKS], ids=["classes", "masks"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path: Path, data: Path, text: str) -> None:
    overrides = ["head.drop_path=0.1", "input.augment=elastic"]
    _, whole = tune(tmp_path, data, text, *overrides, name="whole")
    with pytest.raises(Interrupted):
        tune(tmp_path, data, text, *overrides, screen=StopAfter(3))
    with pytest.raises(Interrupted):
        resume(tmp_path, data, StopAfter(1))
    resume(tmp_path, data)
    run = tmp_path / "runs" / "run"
    assert same(weights(whole), weights(run))
    told = [
        [json.loads(line) | {"seconds": 0} for line in (folder / "seed-0" / "metrics.jsonl").read_text().splitlines()]
        for folder in (whole, run)
    ]
    assert told[0] == told[1]
    tests = [json.loads((f / "results.json").read_text())["seeds"][0]["test"] for f in (whole, run)]
    assert json.dumps(tests[0]) == json.dumps(tests[1])


def test_beginning_again_keeps_nothing_of_the_run_before(tmp_path: Path, data: Path) -> None:
    from medcoss_cli.console import Screen
    from medcoss_cli.finetuning import setup
    from tests.pretraining_runs import options

    _, run = tune(tmp_path, data, CLASSES, "train.steps=2")
    (run / "mine.txt").write_text("the user's own")
    recipe = recipe_of(tmp_path, CLASSES, "train.steps=3")
    chosen = options(tmp_path, data, "run", overwrite=True)
    job = setup.begin_finetune(recipe, "task", None, [0], chosen, Screen())
    assert {path.name for path in run.iterdir()} >= {"mine.txt", "start.pt"}
    assert not (run / "seed-0").exists()
    results = finetune(job)
    job.run.close()
    assert results["seeds"][0]["steps"] == 3


def test_what_is_not_a_number_is_null_in_what_programs_read(tmp_path: Path, data: Path) -> None:
    _, run = tune(tmp_path, data, MASKS)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    json.loads((run / "results.json").read_text(), parse_constant=refuse)


def test_masks_are_scored_on_the_scans_own_grid(tmp_path: Path, data: Path) -> None:
    results, run = tune(tmp_path, data, MASKS)
    test = results["seeds"][0]["test"]
    assert {"dice", "dice_a", "dice_paper_a", "hd95_a", "hd95_mm_a", "missed_a"} <= test["metrics"].keys()
    empty = sum(case["dice_a"] == 1.0 and case["hd95_a"] == 0.0 for case in test["cases"])
    assert test["baseline"]["dice_a"] <= 0.5 + empty  # an empty mask is right where nothing is
    assert len(test["cases"]) == results["data"]["test"]["samples"]
    assert list((run / "seed-0" / "cases").glob("*.png"))


def test_images_with_masks(tmp_path: Path, data: Path) -> None:
    text = CLASSES.replace("classification", "segmentation").replace(
        "input: {size: [32, 32]}", "input: {size: [32, 32]}"
    )
    results, _ = tune(tmp_path, data, text + "classes: {lungs: any}\nhead: {features: 4}\n", "train.steps=4")
    assert 0 <= results["summary"]["dice"]["mean"] <= 1
    assert 0 <= results["summary"]["object_f1"]["mean"] <= 1


@pytest.mark.parametrize("name", ["classify", "segment"])
def test_a_generic_recipe_takes_any_folder_with_a_manifest(tmp_path: Path, data: Path, name: str) -> None:
    tiny = ("encoder={width: 32, depth: 2, heads: 2}", "tokenizer=patch2d-8", "input.size=[32, 32]", "train.steps=8")
    text = shipped_recipes()[name].read_text()
    results, _ = tune(tmp_path, data, text, "modality=xray", "data.folder=xray", *tiny, start="scratch")
    assert results["classes"] == (["effusion", "nodule", "normal"] if name == "classify" else ["lesion"])
    assert results["seeds"][0]["test"]["samples"]


def test_words_from_scratch_learn_their_vocabulary_from_training_texts(tmp_path: Path, data: Path) -> None:
    text = CLASSES.replace("xray", "report").replace("tokenizer: patch2d-8\n", "vocabulary_size: 300\n")
    results, run = tune(tmp_path, data, text, "input.size=[32]", "input.augment=none", "head.layers=2")
    assert results["dims"] == 1
    assert json.loads(finetuned.load(run / "seed-0" / "model.pt").task["vocabulary"])


def test_it_learns_what_can_be_learned(tmp_path: Path, data: Path) -> None:
    """Dark and bright images; a head that learns nothing stays at a half."""
    from PIL import Image

    root = tmp_path / "data" / "shades"
    root.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    lines = ["path,split,group,label"]
    for i in range(48):
        bright = i % 2
        pixels = torch.rand(32, 32, generator=generator) * 100 + 120 * bright
        Image.fromarray(pixels.byte().numpy()).save(root / f"{i}.png")
        lines.append(f"{i}.png,{('train', 'val', 'test')[i % 3]},g{i},{('dark', 'bright')[bright]}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    results, _ = tune(
        tmp_path,
        tmp_path / "data",
        CLASSES,
        "data.folder=shades",
        "train.steps=60",
        "train.lr=3e-3",
        "input.augment=none",
    )
    assert results["summary"]["accuracy"]["mean"] >= 0.9
    assert results["seeds"][0]["test"]["baseline"]["accuracy"] == 0.5


def test_nothing_of_the_data_is_in_what_may_be_shared(tmp_path: Path, data: Path) -> None:
    _, run = tune(tmp_path, data, CLASSES)
    told = (run / "results.json").read_text()
    names = [path.name for path in (data / "xray").rglob("*.png")]
    assert names
    for word in (*names, str(tmp_path), str(data)):
        assert word not in told
    _, run = tune(tmp_path, data, CLASSES, f"data.folder={data / 'xray'}", "train.steps=2", name="absolute")
    assert str(data) not in (run / "results.json").read_text()
    text = "head: {hybrid: {depth: 10, cnn: /home/Zuckerbrodt/weights.pth}}"
    assert "Zuckerbrodt" not in str(
        without_paths(recipe_of(tmp_path, MASKS.replace("head: {features: 4}", text)).model_dump())
    )


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, data: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"the loss is (nan|inf)"):
        tune(tmp_path, data, CLASSES, "train.lr=1e30", "train.clip=1e30", "train.weight_decay=1e20")


def test_a_checkpoint_without_the_tokenizer_says_what_it_has(tmp_path: Path, data: Path, checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has the tokenizers .*patch2d-8.*; ct needs patch3d-8"):
        tune(tmp_path, data, MASKS, start=str(checkpoint))
    with pytest.raises(CheckpointError, match="add tokenizer=new"):
        tune(tmp_path, data, MASKS, start=str(checkpoint))
    assert not (tmp_path / "runs").exists()


def test_an_encoder_crosses_dimensions_with_a_new_tokenizer(tmp_path: Path, data: Path, checkpoint: Path) -> None:
    from medcoss_cli.pretraining.state import read_state

    screen = StopAfter(0)
    pretrained = read_state(checkpoint).model.state_dict()
    job = begin(tmp_path, data, MASKS, "tokenizer=new patch3d-8", start=str(checkpoint), screen=screen)
    networks = [job.network(seed).state_dict() for seed in (0, 1)]
    finetune(job)
    job.run.close()
    for network in networks:
        encoder = {name: weight for name, weight in network.items() if name.startswith("encoder.")}
        assert same(encoder, {name: weight for name, weight in pretrained.items() if name.startswith("encoder.")})
    assert "the tokenizer patch3d-8 is new, with random weights" in " ".join(screen.said)
    assert weights(job.run.folder)["tokenizer.projection.weight"].isfinite().all()
    job = begin(tmp_path, data, CLASSES, "tokenizer=new patch2d-8", start=str(checkpoint), name="same")
    drawn = job.network(0).state_dict()["tokenizer.projection.weight"]
    job.run.close()
    assert not torch.equal(drawn, pretrained["tokenizers.patch2d-8.projection.weight"])  # also where it has it


def test_a_volume_smaller_than_the_patch_is_padded(tmp_path: Path, data: Path) -> None:
    results, _ = tune(tmp_path, data, MASKS, "input.spacing=[40,40,40]", "train.steps=2")
    assert results["seeds"][0]["test"]["samples"] > 0


def test_recipes_that_cannot_be(tmp_path: Path) -> None:
    for overrides, said in (
        (["input.augment=colour"], "does not transform masks"),
        (["classes=[a, b]"], "classes of a segmentation"),
        (["predict.postprocess=largest_organ"], "two classes"),
    ):
        with pytest.raises(RecipeError, match=said):
            recipe_of(tmp_path, MASKS, *overrides)
    with pytest.raises(RecipeError, match=r"head\.hybrid is not for a classification task"):
        recipe_of(tmp_path, CLASSES, "head.hybrid.depth=10")
    with pytest.raises(RecipeError, match=r"needs train\.batch of at least 2"):
        recipe_of(tmp_path, CLASSES, "head.probe=true", "train.batch=1")
    with pytest.raises(RecipeError, match=r"task\.yaml:2: task: there is no task 'segmentatoin'.*mean segmentation\?"):
        recipe_of(tmp_path, MASKS.replace("task: segmentation", "task: segmentatoin"))
    with pytest.raises(RecipeError, match="classification has no settings, not target"):
        recipe_of(tmp_path, CLASSES, "task={name: classification, target: age}")


def manifest(data: Path, to: Path, change: str, instead: str) -> Path:
    """The X-rays with one row of their manifest changed."""
    root = to / "changed"
    (root / "xray").mkdir(parents=True)
    for path in (data / "xray").iterdir():
        if path.name != "manifest.csv":
            (root / "xray" / path.name).symlink_to(path)
    text = (data / "xray" / "manifest.csv").read_text()
    assert change in text
    (root / "xray" / "manifest.csv").write_text(text.replace(change, instead, 1))
    return root


def test_labels_and_groups_that_cannot_be(tmp_path: Path, data: Path) -> None:
    header, first, *_ = (data / "xray" / "manifest.csv").read_text().splitlines()
    row = dict(zip(header.split(","), first.split(","), strict=True))
    label = row["label"]
    others = {line.split(",")[header.split(",").index("label")] for line in _} | {label}
    for i, (old, new, said) in enumerate(
        [
            (first, first.replace(label, "unheard"), "the label 'unheard' is none of"),
            (row["path"], "../../etc/passwd", "leaves the folder"),
            (row["path"], "nowhere.png", "is not there"),
        ]
    ):
        root = manifest(data, tmp_path / str(i), old, new)
        with pytest.raises(DataError, match=said):
            tune(tmp_path / str(i), root, CLASSES, f"classes=[{', '.join(sorted(others))}]")


def test_a_patient_on_two_sides_is_refused(tmp_path: Path, data: Path) -> None:
    lines = (data / "xray" / "manifest.csv").read_text().splitlines()
    at = lines[0].split(",")
    rows = [dict(zip(at, line.split(","), strict=True)) for line in lines[1:]]
    train_, test = (next(r for r in rows if r["split"] == s) for s in ("train", "test"))
    old = ",".join(test[k] for k in at)
    root = manifest(data, tmp_path, old, ",".join((test | {"group": train_["group"]})[k] for k in at))
    with pytest.raises(DataError, match="are in two splits"):
        tune(tmp_path, root, CLASSES)


def test_resume_is_told_what_it_is_not(tmp_path: Path, data: Path, checkpoint: Path) -> None:
    from medcoss_cli.console import Screen
    from medcoss_cli.finetuning import setup
    from medcoss_cli.pretraining import setup as pretraining
    from tests.pretraining_runs import options

    with pytest.raises(UsageError, match="not a run of finetune"):
        setup.resume_finetune(checkpoint.parent, options(tmp_path, data), Screen())
    _, run = tune(tmp_path, data, CLASSES, "train.steps=2")
    with pytest.raises(UsageError, match="a run of finetune"):
        pretraining.resume(run, options(tmp_path, data), Screen())


def test_the_schedule_is_the_papers(tmp_path: Path) -> None:
    from medcoss_cli.finetuning.trainer import rate

    tune_ = recipe_of(tmp_path, CLASSES, "train.lr=2e-4", "train.steps=100", "train.epoch=20").train
    assert [rate(step, tune_, 20) for step in (0, 19, 20, 99)] == pytest.approx(
        [2e-4, 2e-4, 2e-4 * 0.8**0.9, 2e-4 * 0.2**0.9]
    )
    assert math.isclose(rate(0, tune_.model_copy(update={"warmup": 10}), 20), 2e-5)


def test_features_of_a_frozen_encoder_are_computed_once_to_the_same_bits(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, folder = tune(tmp_path, data, CLASSES, "head.probe=true", name="once")
    seen: list[int] = []
    features = FinetunedNetwork.features

    def counted(self: FinetunedNetwork, inputs: torch.Tensor) -> torch.Tensor:
        seen.append(len(inputs))
        return features(self, inputs)

    monkeypatch.setattr(FinetunedNetwork, "features", counted)
    monkeypatch.setattr(SampleData, "is_steady", False)
    each, other = tune(tmp_path, data, CLASSES, "head.probe=true", name="each")
    assert len(seen) > 8  # every step and validation
    assert once["seeds"][0]["test"]["metrics"] == each["seeds"][0]["test"]["metrics"]
    assert same(weights(folder), weights(other))
