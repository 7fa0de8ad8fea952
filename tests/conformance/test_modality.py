"""All installed modalities conform, and the suite finds what does not."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medcoss_cli import conformance
from medcoss_cli.kit import Grey8, ImageFolder, Patches, PixelDecoder, entries
from medcoss_cli.kit.patch_networks import PatchEmbedding, PixelHead
from medcoss_cli.plugin import CompleteModality, Modality, Record, Sample, Skipped
from medcoss_cli.registry import discovery


@pytest.mark.parametrize("name", discovery.names())
def test_an_installed_modality_conforms(name: str, tmp_path: Path) -> None:
    modality = discovery.load_modality(name)
    small = {1: (32,), 2: (32, 32), 3: (16, 32, 32)}[modality.dims]
    assert conformance.check(modality.with_size(small), tmp_path) == []


@dataclass(frozen=True)
class Arrays:
    """Reads `.npy` files, as it should."""

    def find(self, root: Path, split: str = "train") -> Iterator[Any]:
        for entry in entries(root, split):
            if isinstance(entry, Skipped):
                yield entry
            elif entry.path.stat().st_size:
                yield Record(entry.path, group=entry.group)
            else:
                yield Skipped(entry.path, "empty", bad=True)

    def read(self, record: Record) -> Sample:
        return Sample(np.load(record.source, allow_pickle=False))


def write(root: Path, count: int, seed: int, splits: tuple[str, ...] = ("train",), groups: int = 99) -> None:
    """Smooth pictures, and their manifest."""
    root.mkdir(parents=True)
    rows = []
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        y, x = np.mgrid[0:40, 0:40] / rng.uniform(4, 9, (2, 1, 1))
        np.save(root / f"{i}.npy", (127 + 90 * np.sin(x) * np.cos(y))[None])
        rows.append([f"{i}.npy", splits[i % len(splits)], f"p{i % groups}"])
    with (root / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "split", "group"], *rows])


GOOD = Modality("odd", "Odd", dims=2, size=(32, 32), channels=1, loader=Arrays(), demo=write)


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of this file stand beside torch, which is told, rightly, at the cost of a process each."""
    monkeypatch.setattr("medcoss_cli.conformance.modality.imported_by", lambda modules: {})


@pytest.mark.usefixtures("light")
def test_a_modality_of_ones_own_conforms(tmp_path: Path) -> None:
    assert conformance.check(GOOD, tmp_path) == []


def unseeded(root: Path, count: int, seed: int) -> None:
    write(root, count, int(np.random.default_rng().integers(1000)))


def one_seed(root: Path, count: int, seed: int) -> None:
    write(root, count, 0)


def two_splits(root: Path, count: int, seed: int) -> None:
    write(root, count, seed, ("train", "test"), groups=3)


def strange_split(root: Path, count: int, seed: int) -> None:
    write(root, count, seed, ("train", "dev"))


def three_splits(root: Path, count: int, seed: int) -> None:
    write(root, count, seed, ("train", "val", "test"))


def unlisted(root: Path, count: int, seed: int) -> None:
    write(root, count, seed)
    (root / "manifest.csv").unlink()


def missing(root: Path, count: int, seed: int) -> None:
    write(root, count, seed)
    (root / "0.npy").unlink()


def nothing(root: Path, count: int, seed: int) -> None:
    root.mkdir(parents=True)


def raises(root: Path, count: int, seed: int) -> None:
    raise RuntimeError("no licence")


class Unstable(Arrays):
    def read(self, record: Record) -> Sample:
        return Sample(np.random.default_rng().normal(size=(1, 40, 40)))


class Shuffled(Arrays):
    def find(self, root: Path, split: str = "train") -> Iterator[Any]:
        found = list(super().find(root, split))
        yield from np.random.default_rng().permutation(np.array(found, dtype=object)).tolist()


class Ungrouped(Arrays):
    def find(self, root: Path, split: str = "train") -> Iterator[Any]:
        yield from (replace(i, group=None) if isinstance(i, Record) else i for i in super().find(root, split))


class NumberedGroups(Arrays):
    def find(self, root: Path, split: str = "train") -> Iterator[Any]:
        yield from (replace(i, group=5) if isinstance(i, Record) else i for i in super().find(root, split))  # type: ignore[arg-type]  # wrong on purpose


class Twice(Arrays):
    def find(self, root: Path, split: str = "train") -> Iterator[Any]:
        yield from (item for item in super().find(root, split) for _ in range(2))


class Reversed(Arrays):
    def find(self, root: Path, split: str = "train") -> Iterator[Any]:
        yield from reversed(list(super().find(root, split)))


class EverySplit(Arrays):
    def find(self, root: Path, split: str = "train") -> Iterator[Any]:
        return super().find(root, "all")


class Complex(Arrays):
    def read(self, record: Record) -> Sample:
        sample = super().read(record)
        return replace(sample, array=sample.array + 1j)


class OneText(Arrays):
    def read(self, record: Record) -> Sample:
        return replace(super().read(record), notes="text")  # type: ignore[arg-type]  # wrong on purpose


class Strings(Arrays):
    def find(self, root: Path, split: str = "train") -> Iterator[Any]:
        yield from map(str, sorted(root.glob("*.npy")))


class OnlyAll(Arrays):
    def find(self, root: Path, split: str = "train") -> Iterator[Any]:
        return super().find(root) if split == "all" else iter(())


class Dreams(Arrays):
    def find(self, root: Path, split: str = "train") -> Iterator[Any]:
        yield from super().find(root, split)
        yield Record(root / "dreamt.npy")


class Stumbles(Arrays):
    def find(self, root: Path, split: str = "train") -> Iterator[Any]:
        if any(path.stat().st_size == 0 for path in root.glob("*.npy")):
            raise ZeroDivisionError
        return super().find(root, split)


class Tells(Arrays):
    def read(self, record: Record) -> Sample:
        return replace(super().read(record), notes=(f"read {record.source.name}",), spacing=(1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Held(Arrays):
    file: Any = None


class Floats(Grey8):
    def encode(self, sample: Sample) -> tuple[Any, float, float]:
        return np.asarray(sample.array, np.float32), 1.0, 0.0


class Turned(Grey8):
    def encode(self, sample: Sample) -> tuple[Any, float, float]:
        return super().encode(replace(sample, array=sample.array[:, ::-1]))


class Loud(Grey8):
    def decode(self, integers: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        return super().decode(integers, scale, offset) * 1000


class Squared(Grey8):
    def decode(self, integers: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        return super().decode(integers, scale, offset) ** 2


TURNS = itertools.count(1)  # a state of its own, as an augmentation must not have


@dataclass(frozen=True)
class View:
    change: Callable[[Tensor], Tensor]

    def __call__(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        return self.change(batch)


class Mates(PatchEmbedding):
    def embed(self, batch: Tensor, keep: Tensor | None = None) -> Tensor:
        return super().embed(batch - batch.mean(), keep)


class Misplaced(PatchEmbedding):
    def embed(self, batch: Tensor, keep: Tensor | None = None) -> Tensor:
        return super().embed(batch, None if keep is None else keep.flip(1))


class MeanHead(PixelHead):
    def loss(self, features: Tensor, keep: Tensor, batch: Tensor) -> Any:
        value, count = super().loss(features, keep, batch)
        return value / count, count


class Short(PatchEmbedding):
    def embed(self, batch: Tensor, keep: Tensor | None = None) -> Tensor:
        return super().embed(batch, keep)[:, :-1]


class Unclear(PatchEmbedding):
    def valid(self, batch: Tensor) -> Tensor | None:
        return torch.ones(len(batch), 3)


class FlatGrid(PatchEmbedding):
    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return (16,)


class NoBaseline(PixelHead):
    def baseline(self, batch: Tensor) -> float:
        return float("nan")


class Flat(PixelHead):
    def reconstruct(self, features: Tensor, keep: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        seen, made = super().reconstruct(features, keep, batch)
        return seen, made.flatten(2)


class NoGradient(PixelHead):
    def loss(self, features: Tensor, keep: Tensor, batch: Tensor) -> Any:
        return super().loss(features.detach(), keep, batch)


@dataclass(frozen=True)
class Embeds(Patches):
    kind: Any = PatchEmbedding

    def build(self, width: int) -> Any:
        return self.kind(self.spec, width)


@dataclass(frozen=True)
class Deaf(Patches):
    """Takes a key, and keeps its own patch."""

    def with_key(self, key: str) -> Any:
        return self


@dataclass(frozen=True)
class Heads(PixelDecoder):
    kind: Any = PixelHead

    def build(self, width: int, modality: CompleteModality) -> Any:
        return self.kind(width, modality.tokenizer.spec, modality.size, inner=32, depth=1, heads=2)


SMALL: dict[str, Any] = {"width": 32, "depth": 1, "heads": 2}


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"size": (32,)}, "size is (32,)"),
        ({"demo": None}, "it has no demo"),
        ({"demo": unseeded}, "its demo writes other bytes the second time with the same seed"),
        ({"demo": one_seed}, "its demo writes the same bytes with another seed"),
        ({"demo": two_splits}, "has the group p0 in two splits"),
        ({"demo": strange_split}, "has a split 'dev'"),
        ({"demo": three_splits, "loader": EverySplit()}, "its loader finds records of other splits in the train split"),
        ({"demo": unlisted}, "writes no manifest.csv"),
        ({"demo": missing}, "names a path that is not there (0.npy)"),
        ({"demo": nothing}, "its demo writes no file"),
        ({"demo": raises}, "its demo fails (RuntimeError: no licence)"),
        ({"loader": Unstable()}, "its loader reads other values the second time"),
        ({"loader": Shuffled()}, "its loader finds another order the second time"),
        ({"loader": Strings()}, "its loader yields str, not Record or Skipped"),
        ({"loader": OnlyAll()}, "no record of the train split"),
        ({"loader": Dreams()}, "its loader finds records in an empty folder"),
        ({"loader": Stumbles()}, "its loader's find among odd files fails (ZeroDivisionError"),
        ({"loader": Ungrouped()}, "its loader gives no group where its manifest.csv says p0"),
        ({"loader": NumberedGroups()}, "its loader gives the group 5, which is int, not text"),
        ({"loader": Twice()}, "its loader finds 6 of its records more than once"),
        ({"loader": Reversed()}, "its loader finds records in another order than sorted"),
        ({"loader": EverySplit()}, "its loader finds records of other splits in the val split"),
        ({"loader": Complex()}, "are refused (its values are complex128, not real numbers)"),
        ({"loader": OneText()}, "its samples' notes are 'text', not a tuple of texts"),
        ({"intensity": Squared()}, "decode is not (integers * scale + offset) * factor + shift"),
        ({"tokenizer": Deaf("patch2d-16")}, "its tokenizer takes the key patch2d-16-other and ignores it"),
        ({"loader": Tells()}, "a note of its samples tells the file's name"),
        ({"loader": Tells()}, "spacing has 3 numbers, not 2"),
        ({"loader": Held(lambda: 0)}, "cannot go to a worker process"),
        (
            {"loader": ImageFolder(patterns=("*.png",))},
            "finds nothing in its own demo set (left out: the name matches none of *.png)",
        ),
        ({"channels": 3}, "6 of 6 samples of its own demo set are refused (1 channels where 3 are expected)"),
        ({"intensity": Floats()}, "its intensity encodes to torch.float32, not to integers"),
        ({"intensity": Turned()}, "what the encoder sees has a correlation of"),
        ({"intensity": Loud()}, "far from the range of ±1"),
        ({"augment": View(lambda batch: batch.roll(next(TURNS), -1))}, "another view with the same"),
        ({"augment": View(lambda batch: batch[..., 1:])}, "its augmentation turns (1, 1, 32, 32) torch.uint8 into"),
        ({"augment": View(lambda batch: batch.add_(1))}, "changes the sample it is given"),
        ({"tokenizer": Embeds("patch2d-8", kind=Mates)}, "its tokens depend on the other samples of the batch"),
        ({"tokenizer": Embeds("patch2d-8", kind=Misplaced)}, "not those of the whole at the same places"),
        (
            {"tokenizer": Embeds("patch2d-8", kind=nn.Identity)},
            "its tokenizer builds the network Identity, which lacks embed and valid and grid",
        ),
        ({"tokenizer": Embeds("patch2d-8", kind=lambda *given: given)}, "builds tuple, which is no torch nn.Module"),
        ({"tokenizer": Embeds("patch2d-8", kind=FlatGrid)}, "its tokenizer's grid of (32, 32) is (16,), not (4, 4)"),
        ({"tokenizer": Embeds("patch2d-8", kind=Short)}, "its tokenizer's embed gives (6, 15, 48), not (6, 16, 48)"),
        ({"tokenizer": Embeds("patch2d-8", kind=Unclear)}, "valid gives (6, 3) torch.float32, not (6, 16) torch.bool"),
        (
            {"decoder": Heads(kind=lambda *given, **more: nn.Identity())},
            "Identity, which lacks loss and baseline and rec",
        ),
        ({"decoder": Heads(kind=NoBaseline)}, "its decoder's baseline is nan, not a finite number"),
        ({"decoder": Heads(kind=Flat)}, "gives (6, 3, 1024) for what is predicted, not (6, 3, 32, 32)"),
        ({"decoder": Heads(**SMALL, kind=MeanHead)}, "is not the sum of theirs"),
        ({"decoder": Heads(**SMALL, kind=NoGradient)}, "no gradient reaches"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.usefixtures("light")
def test_each_fault_is_told(tmp_path: Path, parts: dict[str, Any], told: str) -> None:
    modality = replace(GOOD, **{"decoder": PixelDecoder(**SMALL), **parts})
    assert told in "\n".join(conformance.check(modality, tmp_path))


def test_a_heavy_import_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import pydicom, torch\ndef demo(root, count, seed): pass\n"
    (tmp_path / "medcoss_heavy_plugin.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    import medcoss_heavy_plugin  # type: ignore[import-not-found]  # just written

    faults = conformance.check(replace(GOOD, demo=medcoss_heavy_plugin.demo), tmp_path / "set")
    assert "importing medcoss_heavy_plugin imports torch pydicom" in faults[0]
