"""A share of the labels: whole patients, every class, and a smaller share within a larger one."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from medcoss_cli.data.labelled import Case
from medcoss_cli.finetuning.dataset import fewer_labels


def cases(counts: dict[str, int]) -> list[Case]:
    made = [
        Case(Path(f"{label}-{patient}-{view}"), "train", f"{label}-{patient}", "", label=label)
        for label, count in counts.items()
        for patient in range(count)
        for view in range(2)
    ]
    return [*made, Case(Path("held out"), "test", "other", "", label="a")]


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.integers(0, 5))
def test_shares_are_nested_whole_and_of_every_class(a: int, b: int, one: float, two: float, seed: int) -> None:
    everything = cases({"a": a, "b": b})
    small, large = (fewer_labels(everything, share, seed) for share in sorted((one, two)))
    assert set(small) <= set(large) <= set(everything)
    for kept in (small, large):
        assert {case.label for case in kept if case.split == "train"} == {"a", "b"}
        assert [case for case in kept if case.split == "test"] == everything[-1:]
        groups = [case.group for case in kept if case.split == "train"]
        assert all(groups.count(group) == 2 for group in groups)  # a patient comes with all views
    for label, count in (("a", a), ("b", b)):
        assert len({case.group for case in small if case.label == label and case.split == "train"}) == max(
            1, round(min(one, two) * count)
        )


def test_all_labels_are_all() -> None:
    everything = cases({"a": 3, "b": 2})
    assert fewer_labels(everything, 1.0, 0) == everything
