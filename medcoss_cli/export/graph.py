"""From a torch module to an ONNX graph, in one of three precisions."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medcoss_cli.errors import ExportError
from medcoss_cli.export.metadata import KEY

LARGE = 1_900_000_000
"""Bytes of weights from which on they lie in a file beside; protobuf holds 2 GB."""


def trace(
    network: nn.Module,
    inputs: Sequence[Tensor],
    dynamic: Sequence[Mapping[int, Any]],
    names: tuple[Sequence[str], Sequence[str]],
    path: Path,
    opset: int | None,
) -> None:
    """Write a module's graph in fp32.

    Args:
        dynamic: of each input, its axes that may change, as torch.export has them.
        names: of inputs and outputs.

    Raises: ExportError naming the operation where one has no ONNX form.
    """
    size = sum(p.numel() * p.element_size() for p in network.parameters())
    duplicate = copy.deepcopy(network).cpu().eval()  # tracing may leave traces in a module
    with _quiet():
        try:
            program: Any = torch.onnx.export(
                duplicate,
                tuple(inputs),
                dynamo=True,
                dynamic_shapes=tuple(dict(axes) for axes in dynamic),
                input_names=list(names[0]),
                output_names=list(names[1]),
                opset_version=opset,
                external_data=size > LARGE,
                verbose=False,
            )
            program.save(str(path), external_data=size > LARGE)
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the file cannot be written; that says nothing about the network
            raise ExportError(f"it cannot be exported: {_operation(error)}") from error


def convert(source: Path, target: Path, precision: str) -> None:
    """An fp32 file as fp16 (inputs and outputs stay fp32), or with int8 weights where they are large."""
    import onnx

    with _quiet():
        if precision == "fp16":
            from onnxruntime.transformers.float16 import convert_float_to_float16
            from onnxruntime.transformers.onnx_model import OnnxModel

            halved = OnnxModel(convert_float_to_float16(onnx.load(source), keep_io_types=True))
            halved.topological_sort()  # the converter puts casts of the inputs at the end
            save(halved.model, target)
        else:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            quantize_dynamic(
                source,
                target,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=sensitive(onnx.load(source, load_external_data=False)),
                use_external_data_format=source.stat().st_size > LARGE or _beside(source).exists(),
            )


def sensitive(model: Any) -> list[str]:
    """Names of the products that stay in fp32: the projection before the first norm, and heads after the last block."""
    nodes = list(model.graph.node)
    norms = [i for i, node in enumerate(nodes) if node.op_type == "LayerNormalization"]
    gelus = [i for i, node in enumerate(nodes) if node.op_type in ("Gelu", "Erf")]
    products = [(i, node.name) for i, node in enumerate(nodes) if node.op_type in ("MatMul", "Gemm")]
    before = [name for i, name in products if norms and i < norms[0]]
    after = [name for i, name in products if gelus and i > gelus[-1]][1:]  # the first belongs to the last block
    return before + after


def describe(path: Path, text: str) -> None:
    """Put a description into a file's metadata."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    for entry in list(model.metadata_props):
        model.metadata_props.remove(entry)
    graph = model.graph
    for part in [
        graph,
        *graph.node,
        *graph.value_info,
        *graph.input,
        *graph.output,
        *graph.initializer,
        *model.functions,
    ]:
        del part.metadata_props[:]  # where in the source each operation came from: paths of this machine
    for node in graph.node:
        node.doc_string = ""
    model.metadata_props.add(key=KEY, value=text)
    onnx.save(model, path)  # weights that lie beside stay there


def save(model: Any, path: Path) -> None:
    """Write a model; weights beside it where it is large."""
    import onnx

    large = model.ByteSize() > LARGE
    onnx.save(model, path, save_as_external_data=large, location=_beside(path).name if large else None)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".data")


def _operation(error: BaseException) -> str:
    """The line of an exporter's message that names the operation, or the first line of its cause."""
    lines = [line.strip() for e in _chain(error) for line in str(e).splitlines() if line.strip()]
    candidates = [line for line in lines if "aten" in line or "operator" in line or "No ONNX function" in line]
    return (candidates or lines or [type(error).__name__])[0][:300]


def _chain(error: BaseException | None) -> list[BaseException]:
    return [] if error is None else [*_chain(error.__cause__), error]


@contextmanager
def _quiet() -> Any:
    """Without the libraries' talk."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
