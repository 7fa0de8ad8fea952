from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import floats, integers

from medcoss_cli.console import Screen
from medcoss_cli.pretraining import setup
from medcoss_cli.pretraining.rehearsal import buffer_size, choose_kmeans, choose_random
from medcoss_cli.recipe.read import read_recipe
from tests.data.test_batches import pool
from tests.pretraining_runs import RECIPE, options, write_demo


@settings(deadline=None, max_examples=25)
@given(n=integers(1, 150), ratio=floats(0.01, 1.0), centers=floats(0.001, 0.2), seed=integers(0, 99))
def test_the_buffer_has_exactly_the_asked_size_without_repeats(n, ratio, centers, seed):
    features = np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)
    keep = buffer_size(n, ratio)
    chosen = choose_kmeans(features, keep, centers, (seed,))
    assert keep == max(1, round(ratio * n))
    assert len(np.unique(chosen)) == len(chosen) == keep


def test_each_cluster_gives_its_nearest_members():
    draw = np.random.default_rng(0)
    centres = np.array([[0, 0], [100, 0], [0, 100]], np.float32)
    features = np.concatenate([c + draw.normal(size=(20, 2)) for c in centres]).astype(np.float32)
    chosen = choose_kmeans(features, 15, 3 / 60, (0,))
    for start in (0, 20, 40):
        members = features[start : start + 20]
        distance = np.linalg.norm(members - members.mean(0), axis=1)
        nearest = set(start + np.argsort(distance)[:5])
        assert nearest == {int(i) for i in chosen if start <= i < start + 20}


@pytest.mark.parametrize(("turns", "expected"), [("size", [120, 40]), ("equal", [80, 80])])
def test_a_recipe_says_whether_turns_go_by_what_is_kept(tmp_path: Path, turns: str, expected: list[int]) -> None:
    data = write_demo(tmp_path / "data", report=8, xray=8)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    recipe = read_recipe(
        str(tmp_path / "tiny.yaml"), [f"rehearsal.turns={turns}", "rehearsal.share=0.5"], kind="pretrain"
    )
    job = setup.begin_pretrain(recipe, "tiny", options(tmp_path, data), Screen())  # type: ignore[arg-type]
    job.run.close()
    kept = [pool("xray", 30), pool("pathology", 10)]
    plan = job.plan(2, job.stages[1], [pool("ultrasound", 640)], kept)
    counts = Counter(p.modality.name for p, _, new in map(plan.at, range(plan.steps)) if not new)
    assert [counts["xray"], counts["pathology"]] == expected


def test_samples_that_are_all_alike_still_fill_the_buffer():
    assert len(choose_kmeans(np.ones((30, 3), np.float32), 10, 0.1, (0,))) == 10


def test_the_same_key_gives_the_same_choice_and_another_key_another():
    features = np.random.default_rng(1).normal(size=(300, 8)).astype(np.float32)
    first, again = (choose_kmeans(features, 15, 0.01, (7,)) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(choose_random(300, 15, (7,)), choose_random(300, 15, (8,)))


def test_a_ratio_of_zero_keeps_nothing():
    assert buffer_size(1000, 0.0) == 0
    assert buffer_size(3, 0.05) == 1
    with pytest.raises(ValueError, match="larger sample"):
        choose_random(3, 4, (0,))
