"""An exported file in use: onnxruntime, numpy and the plugin's reader; torch is never imported."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.console import Screen
from medcoss_cli.errors import CheckpointError, UsageError, is_of_the_machine
from medcoss_cli.export import metadata
from medcoss_cli.export.metadata import Description
from medcoss_cli.export.operations import operations
from medcoss_cli.finetuning.spec import load_kind, load_modality
from medcoss_cli.model.outputs import Array
from medcoss_cli.plugin import CompleteModality, TokenizerSpec
from medcoss_cli.registry import discovery
from medcoss_cli.registry.configure import fit
from medcoss_cli.registry.fingerprint import check_unchanged
from medcoss_cli.store import weighed
from medcoss_cli.tasks.predictor import Predictor
from medcoss_cli.tasks.spec import TaskSpec


@dataclass(frozen=True)
class Exported:
    """An open file."""

    about: Description
    session: Any
    vocabulary: str | None
    path: Path

    def run(self, *inputs: Array) -> list[Array]:
        """All outputs for these inputs, in the file's order. Raises: UsageError for a size that the file does not take."""
        for axis, size, length in zip(self.about.axes, self.about.sizes, inputs[0].shape, strict=True):
            step = size["step"] if isinstance(size, dict) else None
            if (step is not None and length % step) or (isinstance(size, int) and length != size):
                expected = f"a multiple of {step}" if step is not None else str(size)
                raise UsageError(
                    f"its {axis} is {length}, this file takes {expected}", fix="resize, or pad, what is given"
                )
        names = [entry.name for entry in self.session.get_inputs()]
        try:
            outputs: list[Array] = self.session.run(None, dict(zip(names, inputs, strict=True)))
        except Exception as error:  # onnxruntime has a class of its own for each kind of failure
            raise CheckpointError(
                f"onnxruntime cannot compute it ({_first_line(error)})", where=self.path, fix="export it again"
            ) from error
        return outputs

    def decode(self, integers: Array, scale: float, offset: float) -> Array:
        """Stored integers (N, C, *size) to what the network sees; ids as they are."""
        rule = self.about.intensity
        if rule is None:
            return integers.astype(np.int64)
        values = integers.astype(np.float32) * np.float32(scale) + np.float32(offset)
        normalised: Array = values * np.float32(rule["factor"]) + np.float32(rule["shift"])
        return normalised

    def modality(self, screen: Screen) -> CompleteModality:
        """The installed plugin's modality, as the file knows it.

        Raises: PluginError if it is missing, CheckpointError if it reads otherwise than when the file was exported.
        """
        about = self.about
        if about.modality is None or about.size is None:
            raise UsageError(
                "this file is the encoder alone; it reads no files", fix="export with --modality, or with --run"
            )
        modality = discovery.load_modality(about.modality)
        spec, size = TokenizerSpec.from_plain(about.tokenizer_spec or {}), tuple(about.size)
        if (fault := weighed.size_fault(size, spec.patch)) is not None:
            raise CheckpointError(f"its metadata is damaged: {fault}", where=self.path, fix="export it again")
        modality = fit(modality, tokenizer=about.tokenizer, spec=spec, size=size, vocabulary=self.vocabulary)
        check_unchanged(about.plugin, modality, screen, where=self.path, decodes=False)
        return modality

    def predictor(self, screen: Screen) -> Predictor:
        """A fine-tuned network, ready for samples. Raises: UsageError where it is none."""
        if self.about.task is None:
            raise UsageError(
                "this file has no head for a task", fix="export a fine-tuned run: medcoss export --run RUN"
            )
        spec = TaskSpec.from_plain({**self.about.task, "vocabulary": self.vocabulary}, self.path)
        kind, given = load_kind(spec), self.session.get_outputs()[0].shape[1]
        patch = TokenizerSpec.from_plain(spec.tokenizer_spec).patch
        fault, width = kind.fault(spec) or weighed.size_fault(spec.size, patch), kind.width(spec)
        if width is not None and isinstance(given, int) and given != width:
            fault = f"its task has {width} outputs, its network {given}"
        if fault is not None:
            raise CheckpointError(f"its metadata is damaged: {fault}", where=self.path, fix="export it again")
        modality = load_modality(spec, screen, self.path, decodes=False)
        return Predictor(kind, spec, modality, lambda inputs: self.run(inputs)[0], self.decode)


def load(path: Path) -> Exported:
    """Open an exported file. Raises: CheckpointError for what is none, or lacks what lies beside it."""
    if not path.is_file():
        raise CheckpointError("the file does not exist", where=path, fix="check the path")
    try:
        is_endless = "Loop" in operations(path)
    except (ValueError, OSError) as error:
        if is_of_the_machine(error):
            raise
        raise CheckpointError(
            f"this is not an ONNX file, or it is damaged ({error})", where=path, fix="export it again"
        ) from error
    if is_endless:  # nothing that is exported has one, and nobody can say when it will end
        raise CheckpointError(
            "it holds a loop, which no file of medcoss has; it was not opened", where=path, fix="export it again"
        )
    try:
        session = opened(path)
    except Exception as error:  # onnxruntime has a class of its own for each kind of damage
        raise CheckpointError(
            f"onnxruntime cannot open it ({_first_line(error)})",
            where=path,
            fix="export it again, and keep the files that lie beside it together",
        ) from error
    about = metadata.read(session.get_modelmeta().custom_metadata_map, path)
    ranks = [len(output.shape) for output in session.get_outputs()]
    if not session.get_inputs() or not ranks or 0 in ranks or (about.kind == "features" and ranks != [3, 2]):
        raise CheckpointError("its metadata is damaged: it is of another network", where=path, fix="export it again")
    if {len(about.axes), len(about.sizes)} != {rank := len(session.get_inputs()[0].shape)}:
        raise CheckpointError(
            f"its metadata is damaged: it names {len(about.axes)} axes and {len(about.sizes)} sizes of an input of {rank}",
            where=path,
            fix="export it again",
        )
    return Exported(about, session, _words(about, path), path)


def opened(path: Path) -> Any:
    """An onnxruntime session on whatever this installation of it computes with; threads as OMP_NUM_THREADS says."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    return onnxruntime.InferenceSession(path, options, providers=onnxruntime.get_available_providers())


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _words(about: Description, path: Path) -> str | None:
    if about.vocabulary is None:
        return None
    path_beside = metadata.words_beside(path)
    if not path_beside.is_file():
        raise CheckpointError(
            "its tokenizer is missing", where=path_beside, fix=f"put {path_beside.name} beside {path.name}"
        )
    content = path_beside.read_bytes()
    if metadata.sha256(content) != about.vocabulary:
        raise CheckpointError(
            "this is not the tokenizer it was exported with", where=path_beside, fix="export it again"
        )
    try:
        return content.decode()
    except ValueError as error:
        raise CheckpointError("its tokenizer is no text", where=path_beside, fix="export it again") from error
