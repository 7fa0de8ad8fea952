"""The operations of an ONNX file, read from its bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from medcoss_cli.errors import CheckpointError
from medcoss_cli.export import runtime
from medcoss_cli.export.operations import operations

VALUE = helper.make_tensor_value_info


def loop() -> Any:
    """A graph that counts to 2^62, in the branch of an If."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["v", "v"], ["w"])],
        "body",
        [VALUE("i", TensorProto.INT64, []), VALUE("go", TensorProto.BOOL, []), VALUE("v", TensorProto.FLOAT, [1])],
        [VALUE("on", TensorProto.BOOL, []), VALUE("w", TensorProto.FLOAT, [1])],
    )
    return helper.make_node("Loop", ["trips", "yes", "x"], ["y"], body=body)


def written(path: Path, *nodes: Any, name: str = "model") -> Path:
    numbers = {"trips": np.array(2**62), "yes": np.array(True)}
    graph = helper.make_graph(
        list(nodes), name, [VALUE("x", TensorProto.FLOAT, [1])], [VALUE("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(number, key) for key, number in numbers.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def branch(name: str, node: Any) -> Any:
    return helper.make_graph([node], name, [], [VALUE("y", TensorProto.FLOAT, [1])])


def test_those_in_branches_are_found_too(tmp_path: Path) -> None:
    still = helper.make_node("Identity", ["x"], ["y"])
    assert operations(written(tmp_path / "a.onnx", still)) == {"Identity"}
    either = helper.make_node("If", ["yes"], ["y"], then_branch=branch("a", loop()), else_branch=branch("b", still))
    assert operations(written(tmp_path / "b.onnx", either)) == {"If", "Loop", "Identity", "Add"}


def test_a_loop_is_refused_before_it_runs(tmp_path: Path) -> None:
    path = written(tmp_path / "x.onnx", loop())
    with pytest.raises(CheckpointError, match="it holds a loop"):
        runtime.load(path)


@pytest.mark.parametrize("content", [b"", b"\x0b", b"\x3a\xff\xff\xff\xff\x0f", b"\x3a", b"\xff" * 20])
def test_other_bytes_are_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not an ONNX file, or it is damaged"):
        runtime.load(path)
