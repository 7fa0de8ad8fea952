"""Sentences of abstracts: PubMed 20k RCT."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from medcoss_cli.datasets.rows import ManifestRow, Request, home, keep, table
from medcoss_cli.errors import DataError

ROLES = ("BACKGROUND", "CONCLUSIONS", "METHODS", "OBJECTIVE", "RESULTS")
FILES = {"train": "train.txt", "val": "dev.txt", "test": "test.txt"}


def pubmed20k(request: Request) -> list[ManifestRow]:
    """A row for each sentence, its abstract the group; both profiles have the published split.

    Writes train.csv, val.csv and test.csv (id, label, text) beside the files they come from.
    """
    place = home(request, *FILES.values(), layout="train.txt, dev.txt and test.txt of PubMed_20k_RCT")
    rows = []
    for split, name in FILES.items():
        sentences = list(_sentences(request, place / name))
        path = place / f"{split}.csv"
        keep(request, path, table(["id", "label", "text"], sentences, path))
        rows += [ManifestRow(path, split, group, label, index=i) for i, (group, label, _) in enumerate(sentences)]
    return rows


def _sentences(request: Request, path: Path) -> Iterator[tuple[str, str, str]]:
    """(abstract, role, sentence) of each line "ROLE<tab>sentence" below a line "###abstract"."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # not splitlines, for sentences may hold U+2028
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("this cannot be read as text in UTF-8", where=path) from error
    abstract, unknown = "", []
    for number, line in enumerate(lines, start=1):
        if line.startswith("###"):
            abstract = line[3:].strip()
            continue
        role, _, sentence = line.partition("\t")
        if abstract and role in ROLES and sentence.strip():
            yield abstract, role, sentence.strip()
        elif line.strip():
            unknown.append(number)
    if unknown:
        request.warn(
            f"{len(unknown)} lines of {path.name} are no sentence with a role, left out; the first is {unknown[0]}"
        )
