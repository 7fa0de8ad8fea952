"""The processes that read files: how their end is reported, and that none is left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medcoss_cli.data.workers import readers, worker_error
from medcoss_cli.errors import PluginError, ResourceError
from medcoss_cli.registry.discovery import load_modality


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError()])  # what starting a reader then raises
def test_readers_whose_server_is_killed_are_a_sentence(error: Exception) -> None:
    with pytest.raises(ResourceError, match="a process that reads files died"), readers(2, load_modality("xray"), "x"):
        raise error


@pytest.mark.parametrize(
    ("codes", "error", "what"),
    [
        ([-9, -15], ResourceError, "a process that reads files died, possibly out of memory"),
        ([-9, -11], ResourceError, "a process that reads toy was ended by SIGSEGV"),
        ([-7], ResourceError, "a process that reads toy was ended by SIGBUS"),
        ([7, -15], PluginError, "a process that reads toy was ended with code 7 by its plugin"),
    ],
)
def test_a_signal_is_no_proof_against_a_plugin(codes: list[int], error: type[Exception], what: str) -> None:
    told = worker_error(["toy"], codes)
    assert type(told) is error
    assert told.what.startswith(what)


TRAINING = """
import os, sys, time
from medcoss_cli.data.workers import readers
from medcoss_cli.registry.discovery import load_modality
if __name__ == "__main__":
    with readers(2, load_modality("xray"), "x") as pool:
        print(*{future.result() for future in [pool.submit(os.getpid) for _ in range(8)]}, flush=True)
        time.sleep(600)
"""


def test_none_is_left_when_the_process_they_work_for_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout is not None
    workers = [int(number) for number in process.stdout.readline().split()]
    assert workers
    process.kill()
    process.wait()
    for _ in range(100):
        if not any(Path(f"/proc/{worker}").exists() for worker in workers):
            return
        time.sleep(0.05)
    pytest.fail("a worker is left")


@pytest.mark.skipif(sys.platform != "linux", reason="a worker asks Linux to end it with its server")
def test_a_worker_whose_server_was_gone_before_it_began_ends() -> None:
    begin = "from medcoss_cli.data.workers import end_with_parent; end_with_parent(); print('lives')"
    ended = subprocess.run([sys.executable, "-c", begin], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "")
