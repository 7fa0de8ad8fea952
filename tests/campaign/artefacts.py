"""What parts of the campaign begin with: tiny data, recipes, checkpoints, runs of each task kind, an exported file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tests import comparisons
from tests.campaign import faults, verbs
from tests.finetuning_runs import CLASSES, MASKS
from tests.pretraining_runs import RECIPE, write_demo

DATA = {"report": 40, "xray": 40, "ct": 2, "pathology": 30}
MORE = "  - {modality: ct, data: ct, size: [16, 32, 32], tokenizer: patch3d-8}\n"


def make_data(place: Path) -> Path:
    """Synthetic sets of several modalities."""
    return write_demo(place, **DATA)


def environment(data: Path) -> dict[str, str]:
    """Where the verbs find data."""
    return {"MEDCOSS_DATA": str(data), "MEDCOSS_PREPARED": str(data / "prepared"), "NO_COLOR": "1"}


def write_recipes(folder: Path) -> None:
    """tiny.yaml (two stages of pre-training), classes.yaml and masks.yaml."""
    often = RECIPE.replace("save_minutes: 1000", "save_minutes: 1e-9")
    (folder / "tiny.yaml").write_text(often.replace("epochs: 2", "epochs: 0.8").replace("warmup: 1", "warmup: 0"))
    (folder / "classes.yaml").write_text(
        CLASSES.replace("steps: 8, epoch: 4", "steps: 4, epoch: 2, save_minutes: 1e-9")
    )
    (folder / "masks.yaml").write_text(MASKS.replace("steps: 4", "steps: 2"))


def must(
    *arguments: str,
    folder: Path,
    data: Path,
    prepared: Path | None = None,
    before: Callable[[], object] | None = None,
) -> str:
    """Run a verb that has to succeed; what it printed. Raises: RuntimeError with it."""
    places = environment(data) | ({} if prepared is None else {"MEDCOSS_PREPARED": str(prepared)})
    ended = verbs.run(*arguments, folder=folder, environment=places, before=before, seconds=300)
    if ended.code != 0:
        raise RuntimeError(f"medcoss {' '.join(arguments)}: {ended.outcome}\n{ended.said}")
    return ended.said


def stop_after(saves: int, *arguments: str, folder: Path, data: Path) -> None:
    """Run a training that is killed at its n-th time of saving."""

    def before() -> None:
        from medcoss_cli.store.progress import Progress

        save, left = Progress.save_resume, [saves]

        def then_kill(self: Progress, state: Mapping[str, Any]) -> None:
            save(self, state)
            left[0] -= 1
            if left[0] == 0:
                faults.kill("save")

        Progress.save_resume = then_kill  # type: ignore[method-assign]

    ended = verbs.run(*arguments, folder=folder, environment=environment(data), before=before, seconds=300)
    if ended.code != -9:
        raise RuntimeError(f"medcoss {' '.join(arguments)}: {ended.outcome}\n{ended.said}")


def make_runs(folder: Path, data: Path) -> Path:
    """A folder with runs of each kind of training, one that was stopped, a stripped file and exported ones."""
    folder.mkdir()
    (folder / "data").symlink_to(data)
    write_recipes(folder)
    verb = partial(must, folder=folder, data=data, prepared=folder / "prepared")
    verb("pretrain", "tiny.yaml", "--name", "a")
    verb("finetune", "classes.yaml", "--name", "c", "--from", "runs/a/ckpt.pt")
    verb("finetune", "masks.yaml", "--name", "m")
    verb("checkpoint", "strip", "runs/a/ckpt.pt", "s.safetensors")
    verb("export", "runs/a/ckpt.pt", "--modality", "xray", "-o", "x.onnx")
    verb("export", "--run", "runs/c", "-o", "c.onnx")
    stop_after(6, "pretrain", "tiny.yaml", "--name", "stopped", folder=folder, data=data)
    return folder


COMPARE = ("compare", "compared/tiny.yaml", "--name", "compared")


def write_comparison(folder: Path) -> None:
    """compared/tiny.yaml: one method, one task."""
    (folder / "compared").mkdir()
    comparisons.write(folder / "compared", "  - {name: medcoss, strategy: medcoss}\n")


def make_comparison(folder: Path, data: Path) -> None:
    """runs/compared."""
    write_comparison(folder)
    must(*COMPARE, folder=folder, data=data, prepared=folder / "prepared")
