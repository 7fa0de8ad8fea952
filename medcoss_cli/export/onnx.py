"""ONNX: any network as one graph, in fp32, fp16 or with int8 weights, computed by ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from medcoss_cli.errors import ExportError
from medcoss_cli.export import Format, graph, runtime
from medcoss_cli.export.metadata import Description
from medcoss_cli.export.requirements import needed
from medcoss_cli.export.target import Exportable
from medcoss_cli.export.verify import FP32, Run, Tolerance
from medcoss_cli.model.outputs import Array


class Onnx(Format):
    """One `.onnx` file (weights above 2 GB beside it), which `predict` and `embed` use without torch."""

    name = "onnx"
    suffix = ".onnx"
    library = "ONNX Runtime"
    packages = ("onnx", "onnxruntime")
    precisions = {  # noqa: RUF012 - as Format declares it
        "fp32": FP32,
        "fp16": Tolerance(5e-2, 0.9999),
        "int8": Tolerance(None, 0.999, lost=0.005),
    }
    dynamic = True
    opsets = True

    def write(self, item: Exportable, path: Path, about: Description) -> Description:
        """Traced in fp32, converted, checked by onnx. Raises: ExportError naming what has no ONNX form."""
        import onnx

        plain = path.with_name(f"plain-{path.name}") if about.precision != "fp32" else path
        traced = [torch.from_numpy(part) for part in item.batch(2, item.size)]
        graph.trace(item.network, traced, item.dynamic(), item.names, plain, about.opset)
        if plain != path:
            graph.convert(plain, path, about.precision)
        onnx.checker.check_model(str(path))
        kind = about.task["kind"] if about.task is not None else None
        about = replace(
            about,
            opset=onnx.load(path, load_external_data=False).opset_import[0].version,
            packages=needed(about.modality, kind) if about.modality else ["numpy", "onnxruntime"],
        )
        graph.describe(path, about.to_text())
        return about

    def run(self, item: Exportable, path: Path) -> Run:
        """In ONNX Runtime. Raises: ExportError where this one lacks an operation in the precision."""
        try:
            session = runtime.opened(path)
        except Exception as error:  # onnxruntime has a class of its own for each kind of refusal
            raise ExportError(
                f"this onnxruntime cannot compute the file ({str(error).splitlines()[0][:200]})",
                fix="export with --precision fp32, or where another onnxruntime is installed",
            ) from error
        names = [entry.name for entry in session.get_inputs()]

        def run(*inputs: Array) -> list[Array]:
            outputs: list[Array] = session.run(None, dict(zip(names, inputs, strict=True)))
            return outputs

        return run

    def usage(self, item: Exportable, about: Description, name: str) -> list[str]:
        """onnxruntime's own call for the encoder alone, else the verb of medcoss and what to install for it."""
        if about.kind == "encoder":
            return [
                "```python",
                "import onnxruntime",
                f'session = onnxruntime.InferenceSession("{name}")',
                f"# tokens (N, L, {about.encoder['width']}) float32, valid (N, L) bool",
                'features, = session.run(None, {"tokens": tokens, "valid": valid})',
                "```",
            ]
        verb, out = ("predict", "out/") if about.kind == "task" else ("embed", "features.npz")
        plugins = [source.split()[0] for source in (about.distribution, about.task_distribution) if source]
        wheels = " ".join(dict.fromkeys(["medcoss", *plugins]))
        return [
            "Without torch:",
            "",
            "```sh",
            f"pip install {' '.join(about.packages or [])}",
            f"pip install --no-deps {wheels}",
            f"medcoss {verb} {name} FILES -o {out}",
            "```",
        ]
