"""Nothing leaves the machine: the campaign's part `sockets` watches every verb; here is what it found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
from onnx import TensorProto, helper

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
