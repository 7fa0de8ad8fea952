"""Names and places of files that programs trip over: each is read or refused in a sentence, and nothing outside is touched."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.campaign import artefacts, bomb_files, verbs
from tests.campaign.attempts import Attempt, turns

Make = Callable[[Path, np.random.Generator], None]
CHECK = ("data", "check", "data", "--json")
PREPARE = (
    "data",
    "prepare",
    "data",
    "--modality",
    "xray",
    "--prepared",
    "prepared",
    "--split",
    "all",
    "--bad-share",
    "1",
)
TRAIN = ("pretrain", "tiny.yaml", "--dry-run", "--name")
FINE, USAGE, PLUGIN, DATA, CHECKPOINT, RESOURCE = 0, 2, 3, 4, 5, 6
OUTSIDE = "1 files lie outside of the folder"
UNPRINTED = re.compile("[\0-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
"""Characters that would change what a terminal shows of a line."""


@dataclass(frozen=True)
class Case:
    """A layout of files, and a verb on it.

    Args:
        make: writes the files, in the folder that the verb runs in; beside it is a folder `outside` with one picture.
        ends: the exit codes that it may end with.
        reads: files that `data check` reads, or samples that `data prepare` has; None: it does not matter.
        says: what it prints, as a regular expression.
        needs: "encoder" or "run": what lies beside as `encoder` (a checkpoint), or `tuned` (a fine-tuned run).
        leaves: a file that is there afterwards.
    """

    name: str
    make: Make
    verb: Sequence[str]
    ends: tuple[int, ...] = (FINE,)
    reads: int | None = None
    says: str = ""
    needs: str = ""
    leaves: str = ""


def picture(path: Path, rng: np.random.Generator) -> None:
    """A grey picture, whatever its file is called; folders above it are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        Image.fromarray(rng.integers(0, 255, (40, 40)).astype(np.uint8)).save(file, "png")


def _named(*names: str) -> Make:
    """Pictures of these names in `data`."""

    def make(folder: Path, rng: np.random.Generator) -> None:
        for name in names:
            picture(folder / "data" / name, rng)

    return make


def _scans(*names: str) -> Make:
    """Volumes of these names in `data`."""

    def make(folder: Path, rng: np.random.Generator) -> None:
        (folder / "data").mkdir()
        for name in names:
            bomb_files.nifti(folder / "data" / name, (32, 32, 16), "<i2", zipped=False)

    return make


def _listed(path: str, *names: str) -> Make:
    """A manifest with one path, beside pictures; `{outside}` stands for the folder outside."""

    def make(folder: Path, rng: np.random.Generator) -> None:
        _named(*(names or ("a.png",)))(folder, rng)
        text = path.replace("{outside}", str(folder.parent / "outside"))
        (folder / "data" / "manifest.csv").write_text(f'path\n"{text}"\n')

    return make


def _linked(target: str, name: str, *names: str) -> Make:
    """Pictures, and a link in `data`."""

    def make(folder: Path, rng: np.random.Generator) -> None:
        _named(*(names or ("good.png",)))(folder, rng)
        (folder / "data" / name).symlink_to(target)

    return make


def _deep(folder: Path, rng: np.random.Generator, count: int = 60) -> None:
    """A picture below so many folders."""
    picture(folder / "data" / Path(*["a folder of some thirty letters"] * count) / "a.png", rng)


def _too_deep(folder: Path, rng: np.random.Generator) -> None:
    """A picture whose path is longer than the system takes; and one that is not."""
    picture(folder / "data" / "good.png", rng)
    handle = os.open(folder / "data", os.O_RDONLY)
    for _ in range(40):
        os.mkdir("d" * 200, dir_fd=handle)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(os.open("a.png", os.O_WRONLY | os.O_CREAT, dir_fd=handle))
    os.close(handle)


def _looped(folder: Path, rng: np.random.Generator) -> None:
    """Two links that lead to one another."""
    _linked("two.png", "one.png")(folder, rng)
    (folder / "data" / "two.png").symlink_to("one.png")


def _hard(folder: Path, rng: np.random.Generator) -> None:
    """One file of two names."""
    _named("a.png")(folder, rng)
    os.link(folder / "data" / "a.png", folder / "data" / "b.png")


def _header(name: str) -> Make:
    """A volume whose header names voxels elsewhere."""

    def make(folder: Path, rng: np.random.Generator) -> None:
        _named("good.png")(folder, rng)
        (folder.parent / "outside" / "v.raw").write_bytes(rng.integers(0, 99, 8**3).astype("<i2").tobytes())
        named = name.replace("{outside}", str(folder.parent / "outside"))
        text = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 8 8 8\nspacings: 1 1 1\nendian: little\nencoding: raw\n{named}"
        (folder / "data" / "a.nhdr").write_text(text)

    return make


def _closed(folder: Path, rng: np.random.Generator) -> None:
    """A folder that may not be read."""
    _named("good.png", "closed/a.png")(folder, rng)
    (folder / "data" / "closed").chmod(0)


def _recipe(line: str) -> Make:
    """The tiny recipe, changed."""

    def make(folder: Path, rng: np.random.Generator) -> None:
        artefacts.write_recipes(folder)
        path = folder / "tiny.yaml"
        path.write_text(path.read_text().replace("data: xray", line))

    return make


def _nothing(folder: Path, rng: np.random.Generator) -> None:
    """No file."""


def _embedded(out: str) -> tuple[str, ...]:
    return ("embed", "../encoder", "data", "--modality", "xray", "-o", out)


def _predicted(out: str) -> tuple[str, ...]:
    return ("predict", "../tuned", "data", "-o", out)


BYTES = os.fsdecode(b"caf\xe9-\xff.png")
STRANGE = ("a b.png", "new\nline.png", "\u202egnp.png", BYTES, "..png", "-x.png", "%s{}.png", "back\\slash.png")
CASES = (
    Case("spaces", _named("  a  b .png", " .png"), CHECK, reads=2),
    Case("a new line", _named("a\nb.png"), CHECK, reads=1),
    Case("a new line, prepared", _named("a\nb.png"), PREPARE, reads=1),
    Case("quotation marks", _named("a\"b'c`.png"), CHECK, reads=1),
    Case("an escape sequence", _named("a\x1b[31m\x07.png"), ("data", "check", "data")),
    Case("an escape sequence, refused", _named("a\x1b]0;x\x07.png/"), ("data", "check", "data/a\x1b"), (USAGE, DATA)),
    Case("bytes that are not UTF-8", _named(BYTES), CHECK, reads=1),
    Case("bytes that are not UTF-8, prepared", _named(BYTES), PREPARE, reads=1),
    Case("right to left", _named("a\u202egnp.exe.png"), ("data", "check", "data")),
    Case("emoji", _named("🩻🧠.png"), CHECK, reads=1),
    Case("twins in NFC and NFD", _named("\u00e9.png", "e\u0301.png"), PREPARE, reads=2),
    Case("twins in capital letters", _named("a.png", "A.PNG", "A.png"), PREPARE, reads=3),
    Case("leading dashes", _named("-rf.png", "--help.png"), CHECK, reads=2),
    Case("a folder with a dash", _linked("data", "../-data"), ("data", "check", "--json", "--", "-data"), reads=1),
    Case("a long name", _named("n" * 251 + ".png"), PREPARE, reads=1),
    Case("an argument that is too long", _named("a.png"), ("data", "check", "n" * 5000), (USAGE, DATA)),
    Case("deep folders", _deep, CHECK, reads=1),
    Case("deeper than a path is long", _too_deep, CHECK, (FINE, USAGE)),
    Case("a link to itself", _looped, CHECK, reads=1),
    Case("a link to a folder above", _linked("..", "up"), CHECK, reads=1),
    Case("a link to nothing", _linked("nowhere.png", "a.png"), CHECK, reads=1),
    Case("a link out", _linked("../../outside", "out"), CHECK, reads=2, says=OUTSIDE),
    Case("a link out, prepared", _linked("../../outside/secret.png", "out.png"), PREPARE, reads=2, says=OUTSIDE),
    Case("a hard link", _hard, CHECK, reads=2),
    Case("names of devices", _named("CON.png", "nul", "aux.png", "COM1"), CHECK, reads=4),
    Case("trailing dots and spaces", _named("a.png.", "b.png ", "c..."), CHECK, reads=3),
    Case("patterns", _named("*.png", "[a-z]?.png", "{a,b}.png"), PREPARE, reads=3),
    Case("formats and variables", _named("%s%n.png", "{0}.png", "$HOME.png", "~.png", "$(id).png"), PREPARE, reads=5),
    Case("windows separators", _named("x\\..\\..\\a.png", "C:\\a.png"), CHECK, reads=2),
    Case("a folder like a file", _named("a.png/b.png", "c.nii.gz/d.png"), CHECK, reads=2),
    Case("a file like a folder", _named("a.png"), ("data", "check", "data/a.png/b"), (USAGE, DATA)),
    Case("an empty name", _named("a.png"), ("data", "check", ""), (USAGE, DATA)),
    Case("a folder that is closed", _closed, CHECK, reads=1),
    Case("listed above", _listed("../../outside/secret.png"), PREPARE, (DATA,), says="leaves the folder"),
    Case("listed above, and back", _listed("x/../../data/../../outside/secret.png"), PREPARE, (DATA,), says="leaves"),
    Case("listed in full", _listed("{outside}/secret.png"), PREPARE, (DATA,), says="leaves the folder"),
    Case("listed with backslashes", _listed("..\\..\\outside\\secret.png"), PREPARE, (DATA,), says="leaves"),
    Case("listed of another drive", _listed("D:\\export\\a.png"), PREPARE, reads=1),
    Case("listed with NUL", _listed("a\0.png"), PREPARE, (DATA,)),
    Case("listed as a pattern", _listed("*.png"), PREPARE, (DATA,), says="not there"),
    Case("listed with a variable", _listed("$HOME/~/a.png"), PREPARE, (DATA,), says="not there"),
    Case("listed too long", _listed("n" * 300 + ".png"), PREPARE, (DATA,), says="as long as"),
    Case("listed with a new line", _listed("a\nb.png", "a\nb.png"), PREPARE, reads=1),
    Case("voxels above", _header("data file: ../../outside/v.raw\n"), CHECK, reads=1, says="another folder"),
    Case("voxels in full", _header("data file: LIST\n{outside}/v.raw\n"), CHECK, reads=1, says="another folder"),
    Case("a run above", _recipe("data: xray"), (*TRAIN, "../outside/run"), (USAGE,)),
    Case("a run of two dots", _recipe("data: xray"), (*TRAIN, ".."), (USAGE,)),
    Case("a run without a name", _recipe("data: xray"), (*TRAIN, ""), (USAGE,)),
    Case("a run of a new line", _recipe("data: xray"), (*TRAIN, "a\nb"), (FINE, USAGE)),
    Case("a recipe with NUL", _recipe('data: "x\\0y"'), (*TRAIN, "a"), (USAGE, DATA)),
    Case("a recipe of what is not there", _recipe('data: "../nowhere\\n"'), (*TRAIN, "a"), (USAGE, DATA)),
    Case("a recipe that is a folder", _named("tiny.yaml/a.png"), ("pretrain", "data/tiny.yaml"), (USAGE,)),
    Case("a checkpoint that is a folder", _named("a.png"), ("checkpoint", "show", "data"), (USAGE, DATA, CHECKPOINT)),
    Case("a checkpoint of a new line", _nothing, ("checkpoint", "show", "a\n\x1b[1m.pt"), (USAGE, DATA, CHECKPOINT)),
    Case(
        "embedded", _named(*STRANGE), _embedded("new\nline \u202e.npz"), needs="encoder", leaves="new\nline \u202e.npz"
    ),
    Case("embedded into a file", _named("a.png"), _embedded("data/a.png/out.npz"), (USAGE, RESOURCE), needs="encoder"),
    Case("embedded without a name", _named("a.png"), _embedded(""), (USAGE, RESOURCE), needs="encoder"),
    Case(
        "exported into a file", _named("a.png"), ("export", "../encoder", "-o", "data/a.png/x.onnx"), (USAGE, RESOURCE)
    ),
    Case("predicted", _scans(*STRANGE), _predicted("out"), needs="run", leaves="out"),
    Case("predicted into a file", _scans("a.nii"), _predicted("data/a.nii"), (USAGE, RESOURCE), needs="run"),
)


def run(count: int, seed: int, kinds: Sequence[str] = ()) -> Iterator[Attempt]:
    """Each case in turn, or those named."""
    verbs.warm_up()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, case, rng in turns(CASES, count, seed, kinds):
            _data(folder)
            needed = _needed(folder, case.needs) if case.needs or "../encoder" in case.verb else None
            yield _attempt(case, folder / "try", needed, rng, number)
            _remove(folder / "try")


def _data(folder: Path) -> Path:
    """Synthetic data and recipes, made once."""
    data = folder / "made" / "data"
    if not data.exists():
        artefacts.make_data(data)
        artefacts.write_recipes(folder / "made")
    return data


def _needed(folder: Path, needs: str) -> tuple[str, Path]:
    """What a verb begins with, made once: its name beside the try, and where it is."""
    data = _data(folder)
    if needs == "run":
        if not (folder / "made" / "runs" / "t").exists():
            artefacts.must("finetune", "masks.yaml", "--name", "t", folder=folder / "made", data=data)
        return "tuned", folder / "made" / "runs" / "t"
    if not (folder / "made" / "runs" / "a").exists():
        artefacts.must("pretrain", "tiny.yaml", "--name", "a", folder=folder / "made", data=data)
    return "encoder", folder / "made" / "runs" / "a" / "ckpt.pt"


def _attempt(case: Case, top: Path, needed: tuple[str, Path] | None, rng: np.random.Generator, number: int) -> Attempt:
    work, other = top / "work", top / "outside"
    work.mkdir(parents=True)
    picture(other / "secret.png", rng)
    if needed is not None:
        (top / needed[0]).symlink_to(needed[1])
    try:
        case.make(work, rng)
    except OSError as error:  # a file system that has no such names
        return Attempt(case.name, number, "skipped", str(error))
    if case.make is _closed and os.access(work / "data" / "closed", os.R_OK):
        return Attempt(case.name, number, "skipped", "nothing is closed to this user")
    before, beside = _content(other), _names(top)
    home = {
        "HOME": str(top),
        "MEDCOSS_DATA": str(top.parent / "made" / "data"),
        "MEDCOSS_PREPARED": "prepared",
        "NO_COLOR": "1",
    }
    environment = home | {"MEDCOSS_CACHE": str(work / "cache"), "TMPDIR": str(work), "COLUMNS": "400"}
    ended = verbs.run(*case.verb, folder=work, environment=environment, seconds=60)
    faults = list(_faults(case, ended, work))
    if _content(other) != before:
        faults.append("something outside was changed")
    if more := _names(top) - beside:
        faults.append(f"something was written beside: {sorted(more)}")
    typed = "medcoss " + " ".join(map(repr, case.verb))
    detail = f"{typed}: {'; '.join(faults)}: {ended.said[-600:]!r}" if faults else ""
    return Attempt(case.name, number, ended.outcome, detail, fine=not faults)


def _faults(case: Case, ended: verbs.Ended, work: Path) -> Iterator[str]:
    """What is wrong with how a verb ended."""
    if ended.is_fault or ended.code not in case.ends:
        yield ended.outcome
    if case.reads is not None and (found := _read(ended.said)) != case.reads:
        yield f"{found} read, not {case.reads}"
    if not re.search(case.says, ended.said, re.DOTALL):
        yield f"{case.says!r} is not printed"
    if shown := UNPRINTED.search(ended.said):
        yield f"the character {shown[0]!r} is printed"
    if case.leaves and not (work / case.leaves).exists():
        yield f"{case.leaves!r} is not there"


def _read(said: str) -> int:
    """How many files were read, or samples prepared."""
    if "\n[" in f"\n{said}":
        found, _ = json.JSONDecoder().raw_decode(said, f"\n{said}".index("\n["))
        return sum(verdict["verdict"] == "read" for verdict in found)
    samples = re.search(r"(\d+) samples of", said)
    return int(samples[1]) if samples is not None else 0


def _content(folder: Path) -> dict[str, str]:
    """The files of a folder and what is in them."""
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _remove(folder: Path) -> None:
    """A folder, also one whose paths are too long for most programs."""
    with contextlib.suppress(FileNotFoundError):
        (folder / "work" / "data" / "closed").chmod(0o700)
    shutil.rmtree(folder)


def plant() -> None:
    """A manifest's path that leaves its folder is followed."""
    from medcoss_cli.kit import manifest

    manifest.inside = lambda folder, name, where: Path(os.path.normpath(folder / name))  # type: ignore[assignment]
