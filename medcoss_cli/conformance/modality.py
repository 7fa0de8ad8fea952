"""The suite that every modality passes: `medcoss plugins check NAME`, and in a plugin author's own pytest:

def test_it_conforms(tmp_path):
    (modality,) = my_plugin.medcoss_modalities()
    assert conformance.check(modality, tmp_path) == []
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

from medcoss_cli.errors import MedcossError
from medcoss_cli.plugin import CompleteModality, Modality, Record, Sample, Skipped
from medcoss_cli.registry import validate

COUNT = 6  # demo samples that are written and read


def check(modality: Modality, folder: Path, data: Path | None = None) -> list[str]:
    """Everything that is wrong with a modality, one sentence each; empty if it conforms.

    Args:
        modality: as the plugin's hook returns it; what it leaves out gets the kit's part.
        folder: an empty folder to write the demo set into.
        data: files of this modality to check it on, such as a user's own; None: its demo set.
    """
    try:
        completed = validate.check(modality)
    except validate.Broken as error:
        return [str(error)]
    files = _Files(completed, folder, data)
    steps: list[tuple[str, Callable[[], Iterator[str]]]] = [
        ("importing it", files.imports),
        *([("its demo", files.demo)] if data is None else []),
        ("its manifest.csv", files.manifest),
        ("its loader's find", files.find),
        ("its loader's read", files.read),
        ("its loader's find among odd files", files.odd_files),
        ("its loader, for labelled data,", files.labelled),
    ]
    faults = run_steps(steps)
    if files.samples:
        from medcoss_cli.conformance.networks import Networks

        networks = Networks(completed, files.samples)
        steps = [
            ("its intensity", networks.intensity),
            ("its augment", networks.augment),
            ("its tokenizer's with_key", networks.keys),
            ("its tokenizer's build", networks.tokenizer),
            ("its tokenizer's grid", networks.grid),
            ("its tokenizer's embed", networks.embed),
            ("its tokenizer's valid", networks.valid),
            ("its tokenizer's hide", networks.hide),
            ("its decoder's build", networks.decoder),
            ("its decoder's loss", networks.loss),
            ("its decoder's baseline", networks.baseline),
            ("its decoder's reconstruct", networks.reconstruct),
        ]
        faults += run_steps(steps)
    return faults


def run_steps(steps: list[tuple[str, Callable[[], Iterator[str]]]]) -> list[str]:
    """The faults that steps find, each named; one that raises is a fault, and the next is tried."""
    faults: list[str] = []
    for what, step in steps:
        try:
            faults.extend(step())
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; it becomes a fault, and the next step is tried
            reason = str(error) if isinstance(error, MedcossError) else f"{type(error).__name__}: {error}"
            faults.append(f"{what} fails ({reason})")
    return faults


class _Files:
    """Each step yields what is wrong; a step that needs what an earlier one did not bring is passed over."""

    def __init__(self, modality: CompleteModality, folder: Path, data: Path | None) -> None:
        self.modality, self.folder, self.own = modality, folder, data is None
        self.root, self.place = (folder / "first", "its own demo set") if data is None else (data, "this data")
        self.records: list[Record] = []
        self.samples: list[Sample] = []
        self.listed: list[dict[str, str]] = []

    def imports(self) -> Iterator[str]:
        """Importing the plugin's modules imports nothing heavy."""
        parts = [type(p) for p in vars(self.modality).values()] + [self.modality.demo]
        modules = sorted({getattr(part, "__module__", "") or "" for part in parts})
        roots = ("", "builtins", "pathlib", "medcoss_cli", "__main__")
        for module, heavy in imported_by([m for m in modules if m.split(".")[0] not in roots]).items():
            yield f"importing {module} imports {heavy}; import heavy libraries inside functions"

    def demo(self) -> Iterator[str]:
        """The demo set is written, and is a function of its seed."""
        demo = self.modality.demo
        if demo is None:
            name = self.modality.name
            yield (
                "it has no demo(root, count, seed), so nobody can try it without data; "
                f"check it on yours: medcoss plugins check {name} --data DIR"
            )
            return
        for name, seed in (("first", 0), ("second", 0), ("other", 1)):
            demo(self.folder / name, COUNT, seed)
        first, second, other = (_contents(self.folder / name) for name in ("first", "second", "other"))
        if not first:
            yield "its demo writes no file"
        elif first != second:
            different = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
            yield f"its demo writes other bytes the second time with the same seed ({', '.join(different[:3])})"
        elif first == other:
            yield "its demo writes the same bytes with another seed"

    def manifest(self) -> Iterator[str]:
        """The demo set's manifest names what is there, splits, and groups that stay in one split."""
        root = self.root
        if not root.is_dir():
            return
        if not self.own and not (root / "manifest.csv").is_file():
            return
        if not (root / "manifest.csv").is_file():
            yield "its demo writes no manifest.csv (path, split, group, label)"
            return
        with (root / "manifest.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        missing = {"path", "split", "group"} - set(rows[0] if rows else ())
        if missing and self.own:
            yield f"its manifest.csv lacks the columns {', '.join(sorted(missing))}"
        if missing & {"path", "split"} or (missing and self.own):
            return
        self.listed = rows
        if not self.own:
            return  # what else is wrong with a user's manifest is not the plugin's fault
        splits: dict[str, str] = {}
        for row in rows:
            for key in ("path", "mask"):
                if row.get(key) and not (root / row[key]).exists():
                    yield f"its manifest.csv names a {key} that is not there ({row[key]})"
            if row["split"] not in ("train", "val", "test"):
                yield f"its manifest.csv has a split {row['split']!r}, not train, val or test"
            if row["group"] and splits.setdefault(row["group"], row["split"]) != row["split"]:
                yield f"its manifest.csv has the group {row['group']} in two splits"

    def find(self) -> Iterator[str]:
        """Records are found in the same order each time, and can be sent to worker processes."""
        root = self.root
        if not root.is_dir():
            return
        first, second = (list(self.modality.loader.find(root, "all")) for _ in range(2))
        if first != second:
            yield "its loader finds another order the second time"
        misfit = next((item for item in first if not isinstance(item, Record | Skipped)), None)
        if misfit is not None:
            yield f"its loader yields {type(misfit).__name__}, not Record or Skipped"
        self.records = [item for item in first if isinstance(item, Record)]
        if not self.records:
            reasons = ", ".join(dict.fromkeys(item.reason for item in first if isinstance(item, Skipped)))
            yield f"its loader finds nothing in {self.place}" + (f" (left out: {reasons})" if reasons else "")
        bad = [item for item in first if isinstance(item, Skipped) and item.bad]
        if bad and self.own:
            yield f"its loader calls {len(bad)} files of its own demo set bad ({bad[0].reason})"
        yield from _disorder(self.records)
        yield from self._groups(root)
        yield from self._splits(root)
        try:
            ForkingPickler.dumps(self.modality.loader)
        except Exception as error:  # noqa: BLE001 - any reason will do
            yield f"its loader cannot go to a worker process ({error}); make it a frozen dataclass of plain values"

    def _groups(self, root: Path) -> Iterator[str]:
        """Groups are text, and those of the manifest."""
        misfit = next((r.group for r in self.records if not isinstance(r.group, str | None)), None)
        if misfit is not None:
            yield f"its loader gives the group {misfit!r}, which is {type(misfit).__name__}, not text"
            return
        groups = {(root / row["path"], row.get("index") or ""): row["group"] for row in self.listed if row.get("group")}
        for record in self.records:
            rows = [str(n) for n in record.part or () if isinstance(n, int)][:1]
            places = [(place, index) for place in (record.source, *record.source.parents) for index in ("", *rows)]
            group = next((groups[place] for place in places if place in groups), record.group)
            if group != record.group:
                yield (
                    f"its loader gives {'no group' if record.group is None else f'the group {record.group}'} where its "
                    f"manifest.csv says {group}, so that one patient may be on both sides of a split"
                )
                return

    def _splits(self, root: Path) -> Iterator[str]:
        """Each split has its own records, as the manifest says, or those of no split."""
        for split in ("train", "val", "test"):
            records = [item for item in self.modality.loader.find(root, split) if isinstance(item, Record)]
            listed = {root / row["path"] for row in self.listed if row["split"] in ("", split)}
            others = {root / row["path"] for row in self.listed} - listed
            if not set(records) <= set(self.records):
                yield f"its loader finds records of the {split} split that are not among all"
            if any(place in others for item in records for place in (item.source, *item.source.parents)):
                yield (
                    f"its loader finds records of other splits in the {split} split; "
                    "medcoss_cli.kit.entries reads manifest.csv"
                )
                return
            if split == "train" and self.records and not records and self.own:
                yield "its loader finds no record of the train split in its own demo set"

    def read(self) -> Iterator[str]:
        """Each record is read, twice to the same values."""
        from medcoss_cli.data.read import read_checked

        refused, read = [], list[Record]()
        selection = self.records[:: max(1, len(self.records) // COUNT)][:COUNT]  # of a user's data not the first alone
        for record in selection:
            try:
                sample = read_checked(self.modality, record)
            except MedcossError as error:
                refused.append(error.what)
                continue
            self.samples.append(sample)
            read.append(record)
            if not isinstance(sample.notes, tuple) or not all(isinstance(note, str) for note in sample.notes):
                yield f"its samples' notes are {sample.notes!r}, not a tuple of texts"
            elif any(str(self.root) in note or record.source.name in note for note in sample.notes):
                yield "a note of its samples tells the file's name"
            if sample.spacing is not None and len(sample.spacing) != self.modality.dims:
                yield f"its samples' spacing has {len(sample.spacing)} numbers, not {self.modality.dims}"
        for reason, count in Counter(refused).items():
            if self.own or not self.samples:  # a user's files may be broken: `data check` says which
                yield f"{count} of {len(selection)} samples of {self.place} are refused ({reason})"
        if self.samples:
            before, after = self.samples[0].array, read_checked(self.modality, read[0]).array
            equal = before == after
            if not (equal if isinstance(equal, bool) else equal.all()):
                yield "its loader reads other values the second time"

    def labelled(self) -> Iterator[str]:
        """What fine-tuning asks for: whole recordings, grids, masks."""
        from medcoss_cli.conformance.labelled import check_labelled

        if self.records:
            yield from check_labelled(self.modality, self.root, self.records, self.place)

    def odd_files(self) -> Iterator[str]:
        """Nothing there, nothing in it, and broken files: told, not a crash."""
        loader = self.modality.loader
        odd = self.folder / "odd"
        odd.mkdir(parents=True, exist_ok=True)
        for root, what in ((odd, "an empty folder"), (self.folder / "nowhere", "a folder that is not there")):
            try:
                if any(isinstance(item, Record) for item in loader.find(root, "train")):
                    yield f"its loader finds records in {what}"
            except MedcossError:
                continue
        for record in self.records[:1]:
            if record.source.is_file():
                (odd / record.source.name).write_bytes(b"")
                (odd / f"cut-{record.source.name}").write_bytes(record.source.read_bytes()[:20])
        list(loader.find(odd, "train"))  # broken files among good ones: left out, or refused when read; never a crash


def _disorder(records: Sequence[Record]) -> Iterator[str]:
    """A loader finds each record once, sorted: files of a folder by name, parts of a file by number."""
    counts = Counter((record.source, record.part) for record in records)
    twice = [key for key, count in counts.items() if count > 1]
    if twice:
        yield f"its loader finds {len(twice)} of its records more than once"
    latest: dict[object, object] = {}
    for record in records:
        words = tuple(word for word in record.part or () if isinstance(word, str))
        numbers = tuple(number for number in record.part or () if isinstance(number, int))
        for key, place in ((record.source.parent, record.source.name), ((record.source, words), numbers)):
            if latest.get(key, place) > place:  # type: ignore[operator]  # of one key, places are of one type
                yield "its loader finds records in another order than sorted"
                return
            latest[key] = place


def imported_by(modules: list[str]) -> dict[str, str]:
    """Heavy libraries that modules import, by module, each seen in a fresh process; light modules are left out."""
    heavy = "[m for m in ('torch', 'pydicom', 'SimpleITK') if m in sys.modules]"
    libraries = {}
    for module in modules:
        code = f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}\nimport {module}\nprint(*{heavy})"
        process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        if process.returncode == 0 and process.stdout.strip():
            libraries[module] = process.stdout.strip().splitlines()[-1]
    return libraries


def _contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
