"""Sixty identifiers in data, names and surroundings: none is in what may be shared, in any form, and none in a checkpoint."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.campaign import artefacts, planted, verbs
from tests.campaign.attempts import Attempt
from tests.campaign.planted import Identifier
from tests.pretraining_runs import write_demo

SHARED = (
    "runs/*/retention.json",
    "runs/*/retention.png",
    "runs/*/results.json",
    "runs/*/report.html",
    "runs/*/stages/*/encoder.safetensors",
    "runs/compared/tables.html",
    "runs/compared/tables/*",
    "shared/*",
    "doctor.txt",
)
"""What README calls shareable; `checkpoint strip` and `export` write below shared/. And what goes with a report of a bug."""
NAMELESS = ("runs/*/ckpt.pt", "runs/*/seed-*/model.pt", "runs/*/start.pt")
"""Private, since samples may be in them; but no name and no path is."""
MORE = """\
  - {modality: ct, data: ct, size: [16, 32, 32], tokenizer: patch3d-8}
  - {modality: pathology, data: pathology, size: [32, 32], tokenizer: patch2d-8}
"""


def run(count: int, seed: int, kinds: Sequence[str] = ()) -> Iterator[Attempt]:
    """Plant all, run the verbs once, and search for the first `count` of them, or for those of a kind."""
    verbs.warm_up()
    identifiers = planted.drawn(seed)
    with tempfile.TemporaryDirectory() as name:
        values = {item.place: item.value for item in identifiers if item.kind == "surroundings"}
        data = Path(name) / values["data root"]
        folder = Path(name) / values["working folder"]
        folder.mkdir()
        write_demo(data, **artefacts.DATA)
        planted.plant(identifiers, data)
        inputs = [planted.unpacked(path) for path in data.rglob("*") if path.is_file()]
        names = "\n".join(map(str, data.rglob("*"))).encode()
        inputs.append([(names, names.lower())])
        _verbs(folder, data, values)
        outputs = {path: planted.unpacked(path) for path in shared(folder)}
        for number, item in enumerate(identifiers[:count]):
            if not kinds or item.kind in kinds:
                yield attempt(item, number, inputs, outputs)


def plant() -> None:
    """Let recipes keep their paths."""
    import sys

    from medcoss_cli.store import run as runs

    real = runs.without_paths

    def kept(content: Any, *more: Any, **options: Any) -> Any:
        return content

    for module in list(sys.modules.values()):
        if getattr(module, "without_paths", None) is real:
            module.without_paths = kept  # type: ignore[attr-defined]


def shared(folder: Path) -> list[Path]:
    """Files that hold no identifier."""
    found = [path for pattern in (*SHARED, *NAMELESS) for path in sorted(folder.glob(pattern)) if path.is_file()]
    if missing := [pattern for pattern in (*SHARED, *NAMELESS) if not list(folder.glob(pattern))]:
        raise RuntimeError(f"no verb has written {', '.join(missing)}")
    return found


def attempt(item: Identifier, number: int, inputs: Any, outputs: Any) -> Attempt:
    """Search for one in everything."""
    if item.kind != "surroundings" and not any(planted.search(item.value, file) for file in inputs):
        return Attempt(item.kind, number, "not planted", f"{item.place}: {item.value}", fine=False)
    found = [f"{path} ({form})" for path, file in outputs.items() if (form := planted.search(item.value, file))]
    if found:
        return Attempt(item.kind, number, "found", f"{item.place}, {item.value}: {'; '.join(found[:4])}", fine=False)
    return Attempt(item.kind, number, f"nowhere in {len(outputs)} files", f"{item.place}: {item.value}")


def _verbs(folder: Path, data: Path, values: dict[str, str]) -> None:
    """Whatever leaves something that may be shared, in surroundings that have names."""
    home, prepared, recipes = (
        folder.parent / values[name] for name in ("home folder", "folder of prepared sets", "folder of the recipe")
    )
    for place in (home, recipes, folder / "shared"):
        place.mkdir()
    artefacts.write_recipes(recipes)
    with (recipes / "tiny.yaml").open("a") as file:
        file.write(MORE)
    artefacts.write_comparison(folder)

    def rename() -> None:
        """As on another machine, of another user."""
        import getpass
        import platform
        import socket

        os.environ.update(HOME=str(home), USER=values["user"], LOGNAME=values["user"])
        getpass.getuser = lambda: values["user"]
        platform.node = lambda: values["host"]
        socket.gethostname = lambda: values["host"]

    verb = partial(artefacts.must, folder=folder, data=data, prepared=prepared, before=rename)
    verb("pretrain", str(recipes / "tiny.yaml"), "--name", "a", f"data.root={data}", "data.split=all")
    verb(
        "finetune",
        str(recipes / "classes.yaml"),
        "--name",
        "c",
        "--from",
        "runs/a/ckpt.pt",
        f"data.folder={data / 'xray'}",
    )
    verb("finetune", str(recipes / "masks.yaml"), "--name", "m", "--from", str(folder / "runs/a/ckpt.pt"))
    verb(*artefacts.COMPARE)
    verb("checkpoint", "strip", "runs/a/ckpt.pt", "shared/encoder.safetensors")
    for modality in ("report", "xray"):
        verb("export", "runs/a/ckpt.pt", "--modality", modality, "-o", f"shared/{modality}.onnx")
    verb("export", "runs/a/ckpt.pt", "--modality", "xray", "--format", "timm", "-o", "shared/vit.safetensors")
    verb("export", "--run", "runs/c", "--samples", str(data / "xray"), "-o", "shared/classes.onnx")
    verb("export", "--run", "runs/m", "-o", "shared/masks.onnx")
    for name in ("a", "c", "m"):
        verb("report", f"runs/{name}")
    verb("report", "runs/c", "runs/m", "-o", "shared/both.html")
    (folder / "doctor.txt").write_text(verb("doctor", "--json"))
