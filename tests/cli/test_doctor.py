"""`medcoss doctor`: what is here, and what would be slow."""

from __future__ import annotations

import ast
import json
import os
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch

import medcoss_cli
from medcoss_cli import doctor
from medcoss_cli.registry import discovery
from tests.conftest import CommandLine


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control groups of version 2, this process in the group job/step."""
    root = tmp_path / "cgroup"
    (root / "job" / "step").mkdir(parents=True)
    own = tmp_path / "self"
    own.write_text("1:cpu:/\n0::/job/step\n")
    monkeypatch.setattr(doctor, "GROUPS", root)
    monkeypatch.setattr(doctor, "GROUP_OF_SELF", own)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    return root


def test_it_tells_versions_machine_plugins_decoders_and_disk(command_line: CommandLine) -> None:
    answer = command_line("doctor")
    assert answer.code == 0
    headings = [line for line in answer.out.splitlines() if not line.startswith(" ")]
    assert headings == ["Versions", "Machine", "Plugins", "Decoders", "Disk", "What would be slow or fail"]
    assert f"  torch            {torch.__version__.partition('+')[0]}" in answer.out
    for name in discovery.names():
        assert f"  {name:16s} " in answer.out


def test_as_json_it_names_no_path(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("MEDCOSS_PREPARED", "MEDCOSS_DATA"):
        monkeypatch.setenv(variable, str(tmp_path / "of-a-hospital"))
    monkeypatch.chdir(tmp_path)
    out = command_line("doctor", "--json").out
    assert json.loads(out)["disk"].keys() == {"runs", "prepared", "data"}
    assert "of-a-hospital" not in out
    assert str(tmp_path) not in out


def test_a_quota_of_any_group_above_counts(groups: Path) -> None:
    assert doctor.allowed_cores() == 64
    (groups / "job" / "step" / "cpu.max").write_text("max 100000\n")
    assert doctor.allowed_cores() == 64
    (groups / "job" / "cpu.max").write_text("350000 100000\n")
    assert doctor.allowed_cores() == 4
    (groups / "job" / "step" / "cpu.max").write_text("50000 100000\n")
    assert doctor.allowed_cores() == 1


def test_a_limit_of_memory_counts(groups: Path) -> None:
    machine = doctor.allowed_memory()
    (groups / "job" / "memory.max").write_text("max\n")
    assert doctor.allowed_memory() == machine
    (groups / "job" / "memory.max").write_text(f"{2**30 // 2}\n")
    assert doctor.allowed_memory() == 0.5
    assert any("0 GiB of memory" in sentence for sentence in doctor.diagnose().slow)


def test_too_many_threads_are_told(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (groups / "cpu.max").write_text("200000 100000\n")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert "torch uses 64 threads on 2 cores: set OMP_NUM_THREADS=2" in doctor.diagnose().slow


def test_too_few_threads_are_told_where_they_were_asked_for(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 32)  # torch's own choice where cores have two threads each
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert not any("torch uses" in sentence for sentence in doctor.diagnose().slow)
    monkeypatch.setenv("OMP_NUM_THREADS", "32")
    assert any("torch uses 32 of 64 cores" in sentence for sentence in doctor.diagnose().slow)


def test_what_is_broken_full_or_read_only_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = discovery.Status("ecg", "medcoss-ecg", "0.3", "broken: it has no loader")
    monkeypatch.setattr(discovery, "statuses", lambda: [broken])
    monkeypatch.setattr(os, "access", lambda *a: False)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**40, 2**40, 2**30))
    slow = doctor.diagnose().slow
    assert "the plugin ecg is broken: it has no loader" in slow
    assert "runs: the folder is not writable" in slow
    assert "prepared: little disk space is left" in slow


def test_every_library_that_the_package_imports_is_looked_at() -> None:
    needed: set[str] = set()
    for path in Path(medcoss_cli.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                needed |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                needed.add(node.module.partition(".")[0])
    looked_at = {name.partition(".")[0] for name in (*doctor.MODULES, *doctor.OPTIONAL)}
    at_start = {"typer", "rich", "pluggy", "pydantic", "pydantic_core", "yaml"}  # without them there is no command line
    ours = {name for name in needed if name.startswith("medcoss_")}
    assert needed - ours - set(sys.stdlib_module_names) - at_start <= looked_at


def test_this_environment_has_all_that_the_verbs_import() -> None:
    assert set(doctor.check_imports(doctor.MODULES, doctor.OPTIONAL).values()) == {"ok"}


def test_what_cannot_be_imported_is_named_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_ops.py").write_text("raise RuntimeError('/opt/site/ops.so: operator ops::nms does not exist')")
    (tmp_path / "built_on_it.py").write_text("import broken_ops")
    (tmp_path / "half_there.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = doctor.check_imports(("broken_ops", "built_on_it", "json"), ("not_there_at_all", "half_there"))
    assert found == {
        "broken_ops": "RuntimeError: ops.so: operator ops::nms does not exist",
        "built_on_it": "broken_ops is broken",
        "json": "ok",
        "half_there": "ModuleNotFoundError: No module named 'not_there_at_all'",
    }


def test_doctor_names_the_repair(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2", None)
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    answer = command_line("doctor")
    assert answer.code == 0
    told = [line for line in answer.out.splitlines() if "cannot be used" in line]
    assert [line.split()[0] for line in told] == ["torchvision.transforms.v2", "sklearn.manifold"]
    assert told[0].endswith("from one index: pip install --force-reinstall torch torchvision")
    assert told[1].endswith("pip install --force-reinstall scikit-learn")
    found = json.loads(command_line("doctor", "--json").out)["imports"]
    assert found["torchvision.transforms.v2"].startswith("ModuleNotFoundError: ")
    assert found["timm.models.vision_transformer"] == "ok"


def test_doctor_works_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "pydicom.pixels", None)
    monkeypatch.setattr(doctor, "MODULES", ("torch", "pydicom.pixels"))
    found = doctor.diagnose()
    assert found.machine["GPUs"] == "none"
    assert found.decoders == {}
    assert "torch cannot be used" in found.slow[0]
