"""`plugins new` writes a distribution that passes its own tests untouched."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from medcoss_cli.errors import UsageError
from medcoss_cli.registry.scaffold import new_plugin


@pytest.mark.parametrize("dims", [1, 3])
def test_it_passes_its_own_tests(tmp_path: Path, dims: int) -> None:
    passes_its_own_tests(new_plugin("modality", "ecg", tmp_path, dims=dims), "ecg", "[medcoss]\necg = medcoss_ecg\n")


def test_a_strategy_passes_its_own_tests(tmp_path: Path) -> None:
    passes_its_own_tests(new_plugin("strategy", "ecg", tmp_path), "ecg", "[medcoss.strategies]\necg = medcoss_ecg\n")


def test_a_task_passes_its_own_tests(tmp_path: Path) -> None:
    passes_its_own_tests(new_plugin("task", "age", tmp_path), "age", "[medcoss.tasks]\nage = medcoss_age:Age\n")


def passes_its_own_tests(folder: Path, name: str, entry_points: str) -> None:
    info = folder.parent / "site" / f"medcoss_{name}-0.1.0.dist-info"  # what pip install -e would write
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: medcoss-{name}\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    path = os.pathsep.join([str(folder), str(info.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_what_it_writes_is_tidy_and_names_itself(tmp_path: Path, dims: int) -> None:
    folder = new_plugin("modality", "slit_lamp", tmp_path / "not" / "there", dims=dims)
    assert folder == tmp_path / "not" / "there" / "medcoss-slit_lamp"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {
        "README.md",
        "pyproject.toml",
        "__init__.py",
        "demo.py",
        "test_slit_lamp.py",
    }
    assert not any("$" in path.read_text() or "NAME" in path.read_text() for path in files)
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["medcoss"] == {"slit_lamp": "medcoss_slit_lamp"}
    assert 'title="Slit lamp"' in (folder / "medcoss_slit_lamp" / "__init__.py").read_text()
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "E,F,I,UP,B", "--line-length", "120"]
    done = subprocess.run([*command, "."], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("kind", "module", "base", "taken"),
    [
        ("strategy", "medcoss_far_pull", "Strategy", "er"),
        ("task", "medcoss_far_pull:FarPull", "PooledTask", "classification"),
    ],
)
def test_other_kinds_are_tidy_and_name_themselves(
    tmp_path: Path, kind: str, module: str, base: str, taken: str
) -> None:
    folder = new_plugin(kind, "far_pull", tmp_path)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"README.md", "pyproject.toml", "__init__.py", "test_far_pull.py"}
    assert not any("$" in path.read_text() or "NAME" in path.read_text() for path in files)
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    group = {"strategy": "medcoss.strategies", "task": "medcoss.tasks"}[kind]
    assert project["project"]["entry-points"][group] == {"far_pull": module}
    assert f"class FarPull({base})" in (folder / "medcoss_far_pull" / "__init__.py").read_text()
    with pytest.raises(UsageError, match=f"taken by an installed {kind}"):
        new_plugin(kind, taken, tmp_path)


def test_bad_names_and_taken_places_are_refused(tmp_path: Path) -> None:
    for kind, name, why in (
        ("modality", "E-C-G", "cannot name a modality"),
        ("modality", "xray", "taken by an installed modality"),
        ("task", "segmentation", "taken by an installed task"),
    ):
        with pytest.raises(UsageError, match=why):
            new_plugin(kind, name, tmp_path)
    new_plugin("modality", "ecg", tmp_path)
    with pytest.raises(UsageError, match="already exists"):
        new_plugin("modality", "ecg", tmp_path)
