"""Radiology reports: .txt files of one report each, and .csv or .jsonl files with a `text` column."""

from pathlib import Path

from medcoss_cli.kit import TextFolder, Words
from medcoss_cli.plugin import Modality, hookimpl

PLUGIN_API = 1


def write_demo(root: Path, count: int, seed: int) -> None:
    """Write `count` invented chest X-ray reports under `root`."""
    from medcoss_report.demo import write

    write(root, count, seed)


@hookimpl
def medcoss_modalities() -> list[Modality]:
    return [
        Modality(
            name="report",
            title="Radiology report",
            dims=1,
            size=(112,),
            channels=0,
            pretext="masked_words",
            loader=TextFolder(column="text", group="id"),
            tokenizer=Words(key="words"),
            demo=write_demo,
        )
    ]
