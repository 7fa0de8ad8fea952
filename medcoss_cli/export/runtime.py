"""An exported file in use: onnxruntime, numpy and the plugin's reader; torch is never imported."""

from __future__ import annotations

import os
from collections.abc import Sequence
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
from medcoss_cli.registry.configure import fit, said_by
from medcoss_cli.registry.fingerprint import check_unchanged
from medcoss_cli.store import weighed
from medcoss_cli.tasks import TaskKind
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
        if about.kind == "encoder" or about.modality is None or about.size is None:
            raise UsageError(
                "this file is the encoder alone; it reads no files", fix="export with --modality, or with --run"
            )
        modality = discovery.load_modality(about.modality)
        spec, size = TokenizerSpec.from_plain(about.tokenizer_spec or {}), tuple(about.size)
        self._check(_size_fault(modality, size) or weighed.size_fault(size, spec.patch))
        with said_by(self.path):
            modality = fit(modality, tokenizer=about.tokenizer, spec=spec, size=size, vocabulary=self.vocabulary)
        check_unchanged(about.plugin, modality, screen, where=self.path, decodes=False)
        self._check(self._input_fault(modality))
        return modality

    def predictor(self, screen: Screen) -> Predictor:
        """A fine-tuned network, ready for samples. Raises: UsageError where it is none."""
        if self.about.kind != "task" or self.about.task is None:
            raise UsageError(
                "this file has no head for a task", fix="export a fine-tuned run: medcoss export --run RUN"
            )
        spec = TaskSpec.from_plain({**self.about.task, "vocabulary": self.vocabulary}, self.path)
        kind, patch = load_kind(spec), TokenizerSpec.from_plain(spec.tokenizer_spec).patch
        self._check(self._output_fault(kind, spec) or kind.fault(spec) or weighed.size_fault(spec.size, patch))
        self._check(_size_fault(discovery.load_modality(spec.modality), spec.size))
        modality = load_modality(spec, screen, self.path, decodes=False)
        self._check(self._input_fault(modality))
        return Predictor(kind, spec, modality, lambda inputs: self.run(inputs)[0], self.decode)

    def _check(self, fault: str | None) -> None:
        if fault is not None:
            raise CheckpointError(f"its metadata is damaged: {fault}", where=self.path, fix="export it again")

    def _output_fault(self, kind: TaskKind, spec: TaskSpec) -> str | None:
        """Where the outputs of a task are not those of the graph."""
        width, axes = kind.width(spec), kind.axes(spec)
        given = self.session.get_outputs()[0].shape[1:]
        if width is not None and _differ(given[:1], [width]):
            return f"its task has {width} outputs, its network {_in_words(given[:1])}"
        if axes is not None and axes != len(given[1:]):
            return f"each output of its task has {axes} axes, of its network {len(given[1:])}"
        return None

    def _input_fault(self, modality: CompleteModality) -> str | None:
        """Where the samples of a modality are not what the graph takes."""
        sample = [modality.channels, *modality.size] if modality.channels else list(modality.size)  # words have none
        given = self.session.get_inputs()[0].shape[1:]
        if _differ(given, sample):
            return f"a sample of {modality.name} is {_in_words(sample)}, its network takes {_in_words(given)}"
        return None


def _size_fault(modality: CompleteModality, size: Sequence[int]) -> str | None:
    axes = modality.dims
    return None if len(size) == axes else f"its size has {len(size)} numbers, {modality.name} has {axes} axes"


def _differ(given: Sequence[object], expected: Sequence[int]) -> bool:
    """Is a shape of the graph another one? An axis that may change in size has a name there, not a number."""
    pairs = zip(given, expected, strict=False)
    return len(given) != len(expected) or any(isinstance(a, int) and a != b for a, b in pairs)


def _in_words(shape: Sequence[object]) -> str:
    return " x ".join(map(str, shape)) or "none"


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
    inputs, ranks = len(session.get_inputs()), [len(output.shape) for output in session.get_outputs()]
    known = {"encoder": (2, [3]), "features": (1, [3, 2]), "task": (1, ranks)}[about.kind]
    if (inputs, ranks) != known or not ranks or 0 in ranks:
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
