"""The verbs `data demo|check|prepare|preview|manifest`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medcoss_cli.cli import options, terminal
from medcoss_cli.errors import DataError, MedcossError, PluginError, UsageError

if TYPE_CHECKING:
    from medcoss_cli.plugin import CompleteModality

SETS = "pubmed20k, chestxr, qata, ricord, lits, vs, la, nch, glas; to pre-train on: mimic-cxr, deeplesion, adni, tcga"

app = typer.Typer(
    add_completion=False, help="Inspect and prepare data.\n\nExample: medcoss data check scans --modality ct"
)

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        parser=options.place,
        help="A folder, one file, a zip archive, or a URL such as s3://bucket/scans.",
    ),
]
ModalityOption = Annotated[str, typer.Option("--modality", help="Name of the modality; see `medcoss plugins list`.")]
Split = Annotated[str, typer.Option("--split", help="Rows of manifest.csv to read: train, val, test or all.")]
Size = Annotated[str | None, typer.Option("--size", metavar="AxBxC", help="Size the encoder sees, such as 16x192x192.")]


@app.command()
def demo(
    modality: Annotated[
        str, typer.Argument(metavar="MODALITY", help="Name of the modality; see `medcoss plugins list`.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Output folder; new or empty.")],
    count: Annotated[int, typer.Option(min=1, help="Samples to write.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the synthetic data.")] = 0,
) -> None:
    """Write a small synthetic set in a modality's real file formats, with labels and masks.

    Example: medcoss data demo ct demo-data/ct --count 4
    """
    from medcoss_cli.registry.discovery import load_modality

    write = load_modality(modality).demo
    if write is None:
        raise UsageError(
            f"the {modality} plugin brings no demo set", fix="see `medcoss plugins list` for one that does"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError("the folder is not empty", where=folder, fix="name a new one")
    try:
        write(folder, count, seed)
    except (MedcossError, OSError):
        raise
    except Exception as error:
        raise PluginError(
            f"the demo of the {modality} plugin fails ({type(error).__name__}: {error})",
            fix="see its traceback with --debug and report it to its author",
        ) from error
    terminal.screen().say(f"{count} synthetic {modality} samples in {folder}")


@app.command()
def check(
    folder: Folder,
    modality: Annotated[
        str | None, typer.Option("--modality", help="Read the files as this modality (default: by content).")
    ] = None,
    split: Split = "all",
    columns: options.Columns = None,
    allow: options.Allow = None,
    tilt: options.Tilt = "keep",
    loader: options.Loader = None,
    as_json: options.Json = False,
) -> None:
    """Read every file and report what was read, what was refused and why.

    Example: medcoss data check scans --modality ct
    """
    from medcoss_cli.data.check import check_content, check_modality, nothing_found, show
    from medcoss_cli.registry import discovery

    screen = terminal.screen(as_json)
    part = None
    if modality is None:
        if columns is not None:
            raise UsageError("--columns needs --modality: files are read by content, whatever a manifest lists")
        installed = [status.modality for status in discovery.statuses() if status.modality is not None]
        checked = check_content(folder, screen, installed)
    else:
        from medcoss_cli.registry.configure import reading

        part = reading(discovery.load_modality(modality), options.reading(allow, tilt, loader))
        checked = check_modality(part, folder, split, screen, options.columns_of(columns))
    if as_json:
        terminal.result_json([vars(verdict) for verdict in checked.verdicts])
    elif checked.verdicts:
        show(checked, screen, _given(columns, allow, tilt, loader))
    if not checked.verdicts:
        raise nothing_found(folder, part)
    if not any(verdict.verdict == "read" for verdict in checked.verdicts):
        raise DataError("nothing here can be read", where=folder, fix="the table lists the reasons")


def _given(columns: str | None, allow: list[str] | None, tilt: str, loader: list[str] | None) -> list[str]:
    """These options as they were typed: without them the next command would read other files, or groups, than this one."""
    several = {"--allow": allow, "--loader": loader}
    words = [word for name, values in several.items() for value in values or () for word in (name, value)]
    words += ["--columns", columns] if columns is not None else []
    return [*words, "--tilt", tilt] if tilt != "keep" else words


@app.command()
def prepare(
    folder: Folder,
    modality: ModalityOption,
    size: Size = None,
    split: Split = "train",
    columns: options.Columns = None,
    prepared: options.Prepared = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read files (default: one per core).")] = None,
    bad_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Largest share of files that may be unreadable.")
    ] = 0.05,
    allow: options.Allow = None,
    tilt: options.Tilt = "keep",
    loader: options.Loader = None,
    as_json: options.Json = False,
) -> None:
    """Read, resize and store a folder once, so that training reads integers from memory-mapped files.

    pretrain and extend do this themselves; here it is done ahead, perhaps on another machine.

    Example: medcoss data prepare scans --modality ct --size 16x192x192
    """
    import os

    from medcoss_cli.data import read
    from medcoss_cli.data.prepare import prepare as write_prepared
    from medcoss_cli.registry.configure import reading

    screen = terminal.screen(as_json)
    part = reading(_modality(modality, size), options.reading(allow, tilt, loader))
    where = prepared or Path(os.environ.get("MEDCOSS_PREPARED", "prepared"))
    listing = read.find(part, folder, split, screen, columns=options.columns_of(columns))
    part = read.with_vocabulary(part, listing, screen)
    rows = write_prepared(part, listing, where, workers=workers, bad_share=bad_share, screen=screen)
    screen.say(f"prepared set (private: holds samples): {rows.folder}")
    if as_json:
        keys = ("modality", "size", "rows", "data_hash", "bad", "refused", "notes")
        terminal.result_json({"folder": str(rows.folder), **{key: rows.index[key] for key in keys}})


@app.command()
def preview(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", parser=options.place, help="A folder (or URL), or several sets to compare."),
    ],
    modality: ModalityOption,
    out: Annotated[Path, typer.Option("--out", help="PNG file to write.")] = Path("preview.png"),
    checkpoint: Annotated[
        Path | None, typer.Option("--from", metavar="CKPT", help="Show masked, reconstructed and original.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=32, help="Number of samples to show.")] = 6,
    size: Size = None,
    split: Split = "train",
    columns: options.Columns = None,
    seed: Annotated[int, typer.Option(help="Seed of augmentation and masks.")] = 0,
    allow: options.Allow = None,
    tilt: options.Tilt = "keep",
    loader: options.Loader = None,
) -> None:
    """Draw what the model sees, in the encoder's range, and name what is unlike the rest; with a checkpoint, reconstruct.

    Under each picture: least | mean | largest value, the share of values at the ends of the range, size and spacing.

    Example: medcoss data preview site-a site-b --modality ct
    """
    from medcoss_cli.data import preview as draw
    from medcoss_cli.data import read
    from medcoss_cli.registry.configure import reading
    from medcoss_cli.store import atomic

    screen = terminal.screen()
    if checkpoint is None:
        part = reading(_modality(modality, size), options.reading(allow, tilt, loader))
        listings = [read.find(part, folder, split, screen, columns=options.columns_of(columns)) for folder in folders]
        part = read.with_vocabulary(part, listings[0], screen)
        model = None
    else:
        from medcoss_cli.pretraining.state import read_for
        from medcoss_cli.store.checkpoint import find_checkpoint

        model = read_for(find_checkpoint(checkpoint)[0], modality, screen).model
        part = reading(model.modalities[modality], options.reading(allow, tilt, loader))
        listings = [read.find(part, folder, split, screen, columns=options.columns_of(columns)) for folder in folders]
    sets = [(str(listing.root), draw.read_some(part, listing, count)) for listing in listings]
    samples = [item.sample for _, shown in sets for item in shown]
    rows = draw.views(part, samples, seed) if model is None else draw.reconstructions(model, modality, samples, seed)
    numbers, notes = draw.described(part, rows, sets)
    atomic.write(out, draw.montage(part, rows, numbers))
    names = [item.name for _, shown in sets for item in shown]
    for number, (name, item) in enumerate(zip(names, numbers, strict=False), 1):
        screen.say(f"{number} {name}: {item.text}")
    for note in notes:
        screen.warn(note)
    screen.say(f"picture (private: shows samples): {out}")


@app.command()
def manifest(
    name: Annotated[str, typer.Argument(help=f"A published set ({SETS}), or `folder` for your own.")],
    root: Annotated[
        Path, typer.Option("--root", metavar="DIR", help="Folder of the data set; manifest.csv is written here.")
    ],
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", help="Selection and splits of a published set as in the paper (default), or official."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random splits.")] = 0,
    val: Annotated[
        float | None, typer.Option(min=0.0, max=0.9, help="folder: share of validation groups (default 0.2).")
    ] = None,
    test: Annotated[
        float | None, typer.Option(min=0.0, max=0.9, help="folder: share of test groups (default 0.2).")
    ] = None,
    group_pattern: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX", help=r"folder: regular expression whose group is the patient, such as '^(p\d+)_'."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing manifest.csv.")] = False,
    as_json: options.Json = False,
) -> None:
    """Write the manifest.csv of a data set: path, split, group (patient), and label or mask.

    Published sets are taken in the layout they were published in. An own folder holds a folder per class, or images
    and masks, each perhaps inside train, val and test; or tables with the columns label and text.

    Example: medcoss data manifest glas --root data/Warwick_QU_Dataset
    """
    from medcoss_cli import datasets

    is_folder = name == "folder"
    if is_folder and profile is not None:
        raise UsageError("--profile is for published sets", fix="leave it out")
    if not is_folder and any(value is not None for value in (val, test, group_pattern)):
        raise UsageError(f"{name} has splits of its own", fix="leave --val, --test and --group-pattern out")
    screen = terminal.screen(as_json)
    path = datasets.build(
        name,
        root,
        profile or "paper",
        seed,
        screen,
        overwrite=overwrite,
        val=0.2 if val is None else val,
        test=0.2 if test is None else test,
        pattern=group_pattern,
    )
    counts = datasets.counts(path)
    rows = [[count.split, count.label, f"{count.cases:,}", f"{count.groups:,}"] for count in counts]
    screen.table(f"{name}: {datasets.PUBLISHED[name].title}", ["split", "class", "cases", "groups"], rows)
    screen.say(f"manifest (private: names files and patients): {path}")
    if as_json:
        terminal.result_json({"manifest": str(path), "counts": [asdict(count) for count in counts]})


def _modality(name: str, size: str | None) -> CompleteModality:
    from medcoss_cli.registry.configure import fit
    from medcoss_cli.registry.discovery import load_modality

    try:
        numbers = tuple(int(part) for part in size.split("x")) if size else None
    except ValueError as error:
        raise UsageError(f"--size {size} is not of the form 16x192x192") from error
    return fit(load_modality(name), size=numbers)
