"""Nothing leaves the machine: the campaign's part `sockets` watches every verb; here is what it found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from medcoss_cli.cli import app
from tests.campaign import sockets

OPEN = """
import sys
from pathlib import Path
from medcoss_cli.export.runtime import opened
opened(Path(sys.argv[1]))
"""


def test_onnxruntime_keeps_no_account_of_the_models_it_opens(tmp_path: Path) -> None:
    """From 1.29 on it sends them, and the machine's id, to its vendor; both wait in the home folder until then."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "x.onnx")
    home = tmp_path / "home"
    home.mkdir()
    # as on a user's machine: it is quiet by itself where CI is set
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "ORT_DISABLE_TELEMETRY": "0"}
    subprocess.run([sys.executable, "-c", OPEN, str(tmp_path / "x.onnx")], env=environment, check=True)
    assert [str(path) for path in home.rglob("*")] == []


def test_the_campaign_watches_every_verb() -> None:
    """The part itself takes minutes; a verb that is not in it would be watched by nobody."""
    every = set()
    for name in app.VERBS:
        command: Any = app.Verbs().get_command(None, name)
        inner = list(getattr(command, "commands", {}))
        every |= {f"{name} {verb}" for verb in inner} if name in sockets.GROUPS else {name}
    assert {sockets.kind_of(verb) for verb in sockets.VERBS} == every


LOOKS_UP = """
import socket, sys
from pathlib import Path
from tests.campaign.watched import watch
watch(Path(sys.argv[1]))
a, b = socket.socketpair()
a.sendmsg([b"x"])
try:
    socket.getaddrinfo("localhost", 80) if sys.argv[2] == "name" else socket.create_connection(("127.0.0.1", 9), 1)
except OSError:
    pass
"""


@pytest.mark.parametrize("what", ["name", "connection"])
def test_a_look_up_and_a_connection_are_written_down(tmp_path: Path, what: str) -> None:
    repository = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": repository}
    subprocess.run([sys.executable, "-c", LOOKS_UP, str(tmp_path / "asked"), what], env=environment, check=True)
    said = (tmp_path / "asked").read_text()
    assert "socket.getaddrinfo" in said if what == "name" else "socket.connect" in said
    assert "socket.sendmsg" not in said
