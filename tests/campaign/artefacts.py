"""What parts of the campaign begin with: tiny data, recipes, checkpoints, runs of each task kind, an exported file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from safetensors.torch import save_file

from medcoss_cli.model import foreign
from tests import comparisons
from tests.campaign import faults, verbs
from tests.finetuning_runs import CLASSES, MASKS
from tests.pretraining_runs import RECIPE, write_demo

DATA = {"report": 40, "xray": 40, "ct": 2, "pathology": 30}
VOLUMES = "  - {modality: ct, data: ct, size: [16, 32, 32], tokenizer: patch3d-8}\n"
OTHERS = {
    **{"family": "vit", "channels": 3, "scaled": False, "pool": "token"},
    **{"side": 64, "patch": 16, "width": 64, "depth": 2, "heads": 1, "hidden": 256},
}
"""A network of others, as `model.foreign` builds it."""
COMPARISON = """\
kind: compare
pretrain: base.yaml
methods:
  - {name: scratch, from: scratch}
  - {name: sequential, strategy: sequential}
tasks:
  - {name: pictures, recipe: classes.yaml}
draws: 100
labels: [1]
"""


def make_data(place: Path) -> Path:
    """Synthetic sets of several modalities."""
    return write_demo(place, **DATA)


def environment(data: Path) -> dict[str, str]:
    """Where the verbs find data, and those that start others (`compare`) this very medcoss."""
    places = {"MEDCOSS_DATA": data, "MEDCOSS_PREPARED": data / "prepared", "PYTHONPATH": Path(__file__).parents[2]}
    return {"NO_COLOR": "1", **{name: str(place) for name, place in places.items()}}


def write_recipes(folder: Path) -> None:
    """Pre-training in two stages (tiny.yaml) and in one (1d, 2d, 3d, joint), fine-tuning (classes, masks), comparing (small)."""
    often = RECIPE.replace("save_minutes: 1000", "save_minutes: 1e-9").replace("warmup: 1", "warmup: 0")
    tiny = often.replace("epochs: 2", "epochs: 0.8")
    (folder / "tiny.yaml").write_text(tiny)
    head, stages = tiny.split("stages:\n")
    text, picture = stages.splitlines(keepends=True)
    together = "".join(f"    {line}" for line in (text, picture))
    for name, stage in {"1d": text, "2d": picture, "3d": VOLUMES, "joint": f"  - modalities:\n{together}"}.items():
        (folder / f"{name}.yaml").write_text(f"{head}stages:\n{stage}")
    (folder / "classes.yaml").write_text(
        CLASSES.replace("steps: 8, epoch: 4", "steps: 4, epoch: 2, save_minutes: 1e-9")
    )
    (folder / "masks.yaml").write_text(MASKS.replace("steps: 4, epoch: 2", "steps: 2, epoch: 1, save_minutes: 1e-9"))
    (folder / "base.yaml").write_text(f"{head}stages:\n{picture}")
    (folder / "small.yaml").write_text(COMPARISON)


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

    before = partial(faults.at_save, saves, faults.kill)
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
    save_file(foreign.build(OTHERS).state_dict(), folder / "others.safetensors")
    verb("finetune", "classes.yaml", "--name", "o", "--from", "others.safetensors", "input.size=[64,64]")
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
