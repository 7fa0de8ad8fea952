"""Masks: a class for each voxel, on independent channels; predicted on each sample's own grid, Dice and HD95."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from medcoss_cli.console import Bar, Screen
from medcoss_cli.data.labelled import MASK, Case, LabelledSet, Target
from medcoss_cli.data.masks import files_of, overlay, write_png, write_segmentation, write_volume
from medcoss_cli.data.masks.postprocess import largest_organ
from medcoss_cli.data.read import read_checked
from medcoss_cli.data.segmented import (
    Values,
    foreground,
    labels_of,
    levels_of,
    on_grid,
    prepare_masks,
    read_labels,
    read_numbers,
    targets_of,
)
from medcoss_cli.errors import DataError, ResourceError, UsageError
from medcoss_cli.metrics import OF, bootstrap, group_numbers, mask_case, mask_summary
from medcoss_cli.model.outputs import Array
from medcoss_cli.model.sliding_window import memory, predict_labels
from medcoss_cli.plugin import CompleteModality, Record, Sample, Skipped
from medcoss_cli.tasks import Evaluation, Prediction, Scores, TaskKind, count_labels
from medcoss_cli.tasks.figures import Distribution, Figure
from medcoss_cli.tasks.predictor import Predictor
from medcoss_cli.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from medcoss_cli.model.heads import Head
    from medcoss_cli.tasks.segmentation_data import MaskData

LARGE = 2**31
"""Bytes from which on a volume's need of memory is printed before it is begun."""


class Settings(BaseModel):
    """The recipe's `task: {name: segmentation, key: ...}`."""

    model_config = ConfigDict(extra="forbid")

    foreground: float = Field(0.5, ge=0, le=1, description="share of training patches cut around a voxel of a class")


class Segmentation(TaskKind):
    """The manifest's `mask`, whose values are classes; label 1 is the first class, 0 the background."""

    name = "segmentation"
    Settings = Settings
    keys = frozenset({"classes", "train.balance", "input.intensity foreground", "head.hybrid", "predict.postprocess"})
    metrics: ClassVar = {
        "dice": "Dice",
        "dice_paper": "Dice as in the paper",
        "hd95_directed": "HD95, directed, in voxels ↓",
        "hd95_mm": "HD95 in mm ↓",
        "hd95": "HD95 in voxels ↓",
        "object_f1": "F1 of objects",
        "missed": "nothing of it found, cases ↓",
        "false_alarm": "false alarms, cases ↓",
        "n_empty": "one of two masks empty, cases ↓",
        "lesions_found": "lesions (connected parts) found",
        "false_lesions": "false lesions ↓",
    }
    among = OF
    main = "dice"
    shown = ("dice", "hd95")
    baseline = "an empty mask"
    example: ClassVar = {"classes": {"any": "any"}, "head": {"features": 4}, "predict": {"mirror": False}}
    unet = True
    packages = ("matplotlib", "pillow", "scipy", "simpleitk")  # write masks, draw them, keep the largest organ

    def check(self, recipe: Any) -> None:
        super().check(recipe)
        if not isinstance(recipe.classes, dict):
            raise ValueError("classes of a segmentation are written {name: [mask values], ...}, or {name: any}")
        if recipe.input.augment in ("modality", "colour"):
            raise ValueError(f"input.augment {recipe.input.augment} does not transform masks; use elastic or none")
        if recipe.predict.postprocess == "largest_organ" and len(recipe.classes) != 2:
            raise ValueError("predict.postprocess largest_organ is for two classes: an organ and what lies inside it")

    @property
    def target(self) -> Target:
        return MASK

    def fit_target(self, recipe: Any, cases: Sequence[Case], screen: Screen) -> tuple[list[str], dict[str, Any]]:
        """The classes, and of each the mask values that are it."""
        return list(recipe.classes), {"values": dict(recipe.classes)}

    def counts(self, cases: Sequence[Case]) -> dict[str, int]:
        return count_labels(cases)

    def foreground(
        self, modality: CompleteModality, cases: Sequence[Case], target: Mapping[str, Any], screen: Screen
    ) -> tuple[float, float, float, float]:
        return foreground(modality, cases, target["values"], screen)

    def head(self, spec: TaskSpec, modality: CompleteModality) -> Head:
        """A UNETR decoder of the hidden states at several depths; with `hybrid`, of the last beside a residual network.

        Of a network of others, the residual U-Net alone.
        """
        from medcoss_cli.model.heads import Head, HybridDecoder, MaskDecoder, ResUNet, halvings, taps_of

        dims, channels, count = modality.dims, modality.channels, self.width(spec)
        if network := spec.encoder.get("network"):
            return Head(ResUNet(dims, network["channels"], network["depth"], count), ())
        width, depth = spec.encoder["width"], spec.encoder["depth"]
        if spec.head["hybrid"] is not None:
            return Head(HybridDecoder(dims, channels, width, spec.head["hybrid"], count), (depth,))
        steps = halvings(modality.tokenizer.spec.patch)
        blocks = taps_of(depth, len(steps))
        return Head(MaskDecoder(dims, channels, width, spec.head["features"], steps, count), blocks)

    def fault(self, spec: TaskSpec) -> str | None:
        return None if set(spec.target.get("values") or ()) == set(spec.classes) else "a class has no mask values"

    def width(self, spec: TaskSpec) -> int:
        return len(spec.classes)

    def axes(self, spec: TaskSpec) -> int:
        return len(spec.size)

    def data(self, spec: TaskSpec, labelled: LabelledSet, augment: str | None, *, balance: bool) -> MaskData:
        from medcoss_cli.tasks.augmentation import elastic
        from medcoss_cli.tasks.segmentation_data import MaskData

        values = values_of(spec)
        prepared = prepare_masks(
            labelled.modality,
            labelled.cases,
            values,
            spec.layout,
            labelled.prepared,
            workers=labelled.workers,
            bad_share=labelled.bad_share,
            screen=labelled.screen,
        )
        augmentation = elastic if augment in (None, "elastic") else None
        return MaskData(
            labelled.modality,
            prepared,
            values,
            tuple(spec.size),
            augmentation,
            spec.predict,
            balance=balance,
            foreground=self.settings.foreground,
        )

    def criterion(self, scores: Mapping[str, float]) -> float:
        return scores["dice"]

    def evaluate(self, predictor: Predictor, labelled: LabelledSet, seed: int) -> Evaluation:
        """Dice, HD95 and what was missed, of every case on its own grid."""
        values, modality, cases = values_of(predictor.spec), predictor.modality, labelled.split("test")
        scored: list[dict[str, float]] = []
        trivial: list[dict[str, float]] = []
        rows, groups, lost = [], [], []
        with labelled.screen.progress("testing", len(cases)) as bar:
            for case in cases:
                assert case.record is not None
                try:
                    sample = read_checked(modality, case.record)
                    labels = segment(predictor, sample, case.where)
                except DataError as error:
                    lost.append(Skipped(case.path, error.what, bad=True))
                    continue
                finally:
                    bar.advance()
                numbers = read_numbers(modality, case, sample)
                truth = _masks(labels_of(numbers, values, case.where), values)
                objects = _objects(numbers, truth, values) if modality.dims == 2 else None
                scored.append(mask_case(_masks(labels, values), truth, sample.spacing, objects))
                nothing = {name: np.zeros_like(mask) for name, mask in truth.items()}
                trivial.append(mask_case(nothing, truth, sample.spacing, objects))
                rows.append({"where": case.where, **scored[-1]})
                groups.append(case.group)
        if not scored:
            raise DataError("no case can be used", where=cases[0].path if cases else None)
        result = {
            "metrics": mask_summary(scored),
            "intervals": bootstrap(groups, lambda drawn: mask_summary([scored[i] for i in drawn]), seed),
            "baseline": mask_summary(trivial),
            "cases": scored,
            "samples": len(scored),
        }
        names = dict.fromkeys(name for case in scored for name in case)
        arrays = {name: np.array([case.get(name, np.nan) for case in scored]) for name in names}
        return Evaluation(result, rows, lost, {**arrays, "group": group_numbers(groups)})

    def rescore(self, arrays: Mapping[str, Array]) -> Scores:
        names = [name for name in arrays if name != "group"]
        return mask_summary([{name: float(arrays[name][i]) for name in names} for i in range(len(arrays["group"]))])

    def draw(self, predictor: Predictor, cases: Sequence[Case], evaluation: Evaluation, folder: Path) -> None:
        """The three best and the three worst cases by Dice."""
        spec, modality = predictor.spec, predictor.modality
        at = {case.where: case for case in cases}
        dice = [np.mean([row[f"dice_{name}"] for name in spec.classes]) for row in evaluation.rows]
        ranking = [evaluation.rows[i]["where"] for i in np.argsort(dice, kind="stable")]
        count = min(3, (len(ranking) + 1) // 2)
        selection = {f"worst-{n}": where for n, where in enumerate(ranking[:count], 1)}
        selection |= {
            f"best-{n}": where for n, where in enumerate(ranking[::-1][: min(count, len(ranking) - count)], 1)
        }
        folder.mkdir(parents=True, exist_ok=True)
        for name, where in selection.items():
            case = at[where]
            assert case.record is not None
            sample = read_checked(modality, case.record)
            truth = read_labels(modality, case, sample, values_of(spec))
            labels = segment(predictor, sample, where)
            overlay(sample.array, labels, truth, spec.classes, folder / f"{name}.png", sample.spacing)

    def row_fault(self, spec: TaskSpec, row: Mapping[str, Any]) -> str | None:
        absent = [name for name in spec.classes if not isinstance(row.get(f"dice_{name}"), float)]
        return f"there is no number in a column dice_{absent[0]}" if absent else None

    def figures(self, tests: Sequence[tuple[int, Mapping[str, Any]]], classes: Sequence[str]) -> list[Figure]:
        """The Dice of every case, by class and seed."""
        cases = [
            (seed, {k[5:]: v for k, v in case.items() if k.startswith("dice_") and not k.startswith("dice_paper_")})
            for seed, test in tests
            for case in _dictionaries(test.get("cases"))
        ]
        about = (
            "The box holds the middle half of the cases, its line is the median; cases without a value are left out."
        )
        return [Distribution("Dice of every case", about, "Dice", classes, cases)]

    def write(
        self, predictor: Predictor, sample: Sample, record: Record, target: Path, *, draw: bool, screen: Screen
    ) -> Prediction:
        """The mask: NIfTI for volumes and, of a DICOM series, a DICOM Segmentation; PNG for images."""
        return Prediction(files=list(_written(predictor, sample, record, target, draw, screen)))

    def predict(self, predictor: Predictor, sample: Sample) -> Prediction:
        """Labels (*size) uint8 on the sample's own grid, 0 the background."""
        return Prediction(outputs=segment(predictor, sample))


def _dictionaries(value: object) -> list[dict[str, Any]]:
    """The dictionaries of a list that was read from a file; none where it is no list."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def values_of(spec: TaskSpec) -> Values:
    """Mask values by class, in the classes' order, which a stored mapping need not keep."""
    return {name: spec.target["values"][name] for name in spec.classes}


def segment(predictor: Predictor, sample: Sample, where: object = None, bar: Bar | None = None) -> Array:
    """Labels (*size) uint8 on the sample's own grid: 0 background, 1 the first class; numpy alone.

    Args:
        where: what errors name.

    Raises: ResourceError where it needs more memory than is free, NonFiniteError where the outputs are not finite.
    """
    spec = predictor.spec
    frame = spec.layout.frame(sample)
    _check_memory(predictor, frame.after, where)
    integers, scale, offset, _ = on_grid(predictor.modality, spec.layout, sample)

    def slices(first: int, end: int) -> Array:
        inputs: Array = predictor.decode(np.array(integers[None, :, first:end]), scale, offset)[0]
        return inputs

    rules = {key: spec.predict[key] for key in ("overlap", "mirror", "pad")}
    levels, window = levels_of(values_of(spec)), tuple(spec.size)
    labels: Array = predict_labels(
        predictor.network, slices, integers.shape[1:], window, levels=levels, bar=bar, **rules
    )
    labels = frame.restore(labels)
    return largest_organ(labels) if spec.predict["postprocess"] == "largest_organ" else labels


def _written(
    predictor: Predictor, sample: Sample, record: Record, target: Path, draw: bool, screen: Screen
) -> Iterator[Path]:
    classes = predictor.spec.classes
    shape = predictor.spec.layout.frame(sample).after
    if (needed := _needed(predictor, shape)) > LARGE:
        screen.say(
            f"a volume of {' x '.join(map(str, shape))} on the network's grid: about {needed / 2**30:.1f} GiB of memory"
        )
    labels = segment(predictor, sample, record.source)
    if predictor.modality.dims == 2:
        write_png(labels, classes, path := target.with_name(f"{target.name}.png"))
        yield path
    else:
        stored = sample.stored
        if stored is None:
            raise DataError("its loader does not say on which grid the volume lies", where=record.source)
        write_volume(labels, stored, path := target.with_name(f"{target.name}.nii.gz"))
        yield path
        if files := files_of(record):
            try:
                path = target.with_name(f"{target.name}.seg.dcm")
                for note in write_segmentation(labels, stored, files, classes, path):
                    screen.warn(note)
                yield path
            except (UsageError, DataError) as error:  # the NIfTI is there all the same
                screen.warn(f"no DICOM Segmentation: {error}")
    if draw:
        path = target.with_name(f"{target.name}-overlay.png")
        overlay(sample.array, labels, None, classes, path, sample.spacing)
        yield path


def _needed(predictor: Predictor, shape: tuple[int, ...]) -> int:
    """About how many bytes the masks of a sample need that has this shape on the network's grid."""
    spec = predictor.spec
    return memory(shape, predictor.modality.channels, tuple(spec.size), len(spec.classes))


def _check_memory(predictor: Predictor, shape: tuple[int, ...], where: object) -> None:
    """Raises: ResourceError where the masks of a sample need more memory than is free."""
    if (needed := _needed(predictor, shape)) > _available():
        raise ResourceError(
            f"the volume needs about {needed / 2**30:.1f} GiB of memory, {_available() / 2**30:.1f} are free",
            where=where,
            fix="close other programs, or fine-tune with a coarser input.spacing",
        )


def _available() -> float:
    """Bytes of memory that are free, infinite where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return float("inf")


def _objects(numbers: Array, truth: dict[str, Array], values: Values) -> dict[str, Array]:
    """Masks whose numbers tell objects apart where a class takes any number, as GlaS files have them."""
    return {name: numbers if values[name] == "any" else mask for name, mask in truth.items()}


def _masks(labels: Array, values: Values) -> dict[str, Array]:
    return dict(zip(values, targets_of(labels, values), strict=True))
