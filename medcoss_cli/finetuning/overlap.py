"""Was a network trained on what it is tested on? Hashes of patients and of samples are kept in the run.

They are salted with random bytes, so that no name can be looked up in a table of hashes, nor two runs be compared.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from medcoss_cli.console import Screen
from medcoss_cli.data.labelled import Case, LabelledSet
from medcoss_cli.data.read import read_checked
from medcoss_cli.errors import DataError, shortage
from medcoss_cli.plugin import CompleteModality, Record
from medcoss_cli.store import atomic, typed

FILE = "training-data.json"


class _Hashes(BaseModel, strict=True):
    salt: Annotated[str, Field(pattern="^([0-9a-f]{2}){1,64}$")]
    groups: list[str]
    samples: list[str]


@dataclass(frozen=True)
class Overlap:
    """What of the test cases the run was trained on, or chosen by.

    Args:
        groups: patients (or documents) among the test cases that are among the training or validation cases.
        samples: recordings among the test cases whose content is; another name or group does not hide them.
        allowed: the user said so.
    """

    groups: int
    samples: int
    allowed: bool

    def to_plain(self) -> dict[str, Any]:
        """As results.json has it."""
        return asdict(self)


def keep(labelled: LabelledSet, folder: Path) -> None:
    """Write the hashes of the training and validation cases into a run's folder."""
    salt = secrets.token_hex(16)
    cases = [case for case in labelled.cases if case.split != "test"]
    samples = _samples(labelled.modality, cases, salt, labelled.screen)
    content = {
        "salt": salt,
        "groups": sorted(set(_groups(labelled.root, cases, salt).values())),
        "samples": sorted(set(samples.values())),
    }
    atomic.write(folder / FILE, json.dumps(content, indent=0).encode())


def check(run: Path, labelled: LabelledSet, *, allowed: bool) -> Overlap | None:
    """The overlap of the test cases with what the run in this folder was trained on, printed where it is allowed.

    Returns: None where the run has no hashes. Raises: DataError for an overlap that is not allowed.
    """
    if not (run / FILE).is_file():
        labelled.screen.warn(f"the run has no {FILE}: whether it was trained on these cases cannot be seen")
        return None
    fix = "restore it; without the file what the run was trained on cannot be compared"
    content = typed.read_json(_Hashes, run / FILE, fix=fix, what="the run's hashes of its training data")
    salt, tests = content.salt, labelled.split("test")
    groups = _groups(labelled.root, tests, salt)
    known = set(content.groups)
    shared_groups = {group for group, code in groups.items() if code in known}
    samples = _samples(labelled.modality, tests, salt, labelled.screen)
    codes = set(content.samples)
    shared_samples = {recording for recording, code in samples.items() if code in codes}
    overlap = Overlap(len(shared_groups), len(shared_samples), allowed)
    if not shared_groups and not shared_samples:
        return overlap
    words = (
        f"the run was trained on or chosen by {len(shared_groups)} of these {len({case.group for case in tests})} patients "
        f"and {len(shared_samples)} of these {len(samples)} samples, so its scores here are too good"
    )
    if not allowed:
        raise DataError(
            words,
            where=labelled.root,
            fix="leave them out of manifest.csv; or, if only names are the same, add --allow-overlap (kept in the results)",
        )
    labelled.screen.warn(words)
    return overlap


def _groups(root: Path, cases: Iterable[Case], salt: str) -> dict[str, str]:
    """Hash by group; a group that is only the file's name or the row's number says nothing of who it is."""
    groups = {}
    for case in cases:
        place = case.path.relative_to(root).as_posix() if case.path.is_relative_to(root) else case.path.name
        row = "" if case.row is None else str(case.row)
        if case.group not in (place, f"{place}|{row}", f"{case.path.name} {row}"):
            groups[case.group] = _hash(salt, case.group.encode("utf-8", "surrogateescape"))
    return groups


def _samples(modality: CompleteModality, cases: Sequence[Case], salt: str, screen: Screen) -> dict[object, str]:
    """Hash by recording, of the bytes of its files or of the text in its row; what cannot be read has none."""
    hashes: dict[object, str] = {}
    with screen.progress("hashes of samples", len(cases)) as bar:
        for case in cases:
            bar.advance()
            if case.record is None or case.record.recording in hashes:
                continue
            try:
                hashes[case.record.recording] = _hash(salt, _content(modality, case.record))
            except (OSError, DataError) as error:
                if (fault := shortage(error, case.record.source)) is not None:
                    raise fault from error
    return hashes


def _content(modality: CompleteModality, record: Record) -> bytes:
    """The text of a row; else the hash of each file, and which recording of them it is."""
    if modality.text_tokenizer is not None:
        text: Any = read_checked(modality, record).array
        return str(text).encode("utf-8", "surrogateescape")
    folder = record.source.is_dir()
    files = [path for path in record.source.iterdir() if path.is_file()] if folder else [record.source]
    digests = []
    for path in files:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    part = record.recording[1]
    return repr((sorted(digests), part)).encode()


def _hash(salt: str, content: bytes) -> str:
    return hashlib.blake2b(content, key=bytes.fromhex(salt), digest_size=16).hexdigest()
