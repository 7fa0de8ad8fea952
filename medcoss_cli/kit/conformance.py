"""The suite that every modality passes: `medcoss plugins check NAME`, and in a plugin author's own pytest:

def test_it_conforms(tmp_path):
    (modality,) = my_plugin.medcoss_modalities()
    assert conformance.check(modality, tmp_path) == []
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from medcoss_cli import discovery
from medcoss_cli.errors import MedcossError
from medcoss_cli.plugin import LeftOut, Modality, Record, Sample

COUNT = 6  # demo samples that are written and read
WIDTH = 48  # of the small networks that are built


def check(modality: Modality, folder: Path) -> list[str]:
    """Everything that is wrong with a modality, one sentence each; empty if it conforms.

    Args:
        modality: as the plugin's hook returns it; what it leaves out gets the kit's part.
        folder: an empty folder to write the demo set into.
    """
    try:
        modality = discovery.check(modality)
    except Exception as error:  # noqa: BLE001 - whatever is wrong is told
        return [str(error)]
    faults: list[str] = []
    found: list[Record] = []
    samples: list[Sample] = []
    steps: list[tuple[str, Callable[[], None]]] = [
        ("importing it", lambda: _imports_no_torch(modality, faults)),
        ("its demo", lambda: _demo(modality, folder, faults)),
        ("its loader's find", lambda: _find(modality, folder, found, faults)),
        ("its loader's read", lambda: _read(modality, found, samples, faults)),
        ("an empty folder", lambda: _empty(modality, folder / "empty", faults)),
        ("its networks", lambda: _train(modality, samples, faults)),
    ]
    for what, step in steps:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; it is told, and the next step tried
            told = str(error) if isinstance(error, MedcossError) else f"{type(error).__name__}: {error}"
            faults.append(f"{what} fails ({told})")
    return faults


def _imports_no_torch(modality: Modality, faults: list[str]) -> None:
    module = type(modality.loader).__module__ if modality.demo is None else modality.demo.__module__
    code = f"import sys, {module}; print([m for m in ('torch', 'pydicom', 'SimpleITK') if m in sys.modules])"
    environment_path = [path for path in sys.path if path]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {environment_path!r}\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0 and done.stdout.strip() != "[]":
        faults.append(f"importing {module} imports {done.stdout.strip()}; import heavy libraries inside functions")


def _demo(modality: Modality, folder: Path, faults: list[str]) -> None:
    if modality.demo is None:
        faults.append("it has no demo(root, count, seed), so nobody can try it without data")
        return
    for name in ("first", "second"):
        modality.demo(folder / name, COUNT, 0)
    first, second = (
        {p.name: p.read_bytes() for p in (folder / n).rglob("*") if p.is_file()} for n in ("first", "second")
    )
    if not first:
        faults.append("its demo writes no file")
    if first != second:
        different = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
        faults.append(f"its demo writes other bytes the second time with the same seed ({', '.join(different[:3])})")


def _find(modality: Modality, folder: Path, found: list[Record], faults: list[str]) -> None:
    if modality.demo is None:
        return
    items = [list(modality.loader.find(folder / "first", "all")) for _ in range(2)]
    if items[0] != items[1]:
        faults.append("its loader finds another order the second time")
    strange = next((item for item in items[0] if not isinstance(item, Record | LeftOut)), None)
    if strange is not None:
        faults.append(f"its loader yields {type(strange).__name__}, not Record or LeftOut")
    found += [item for item in items[0] if isinstance(item, Record)]
    if not found:
        faults.append("its loader finds nothing in its own demo set")
    bad = [item for item in items[0] if isinstance(item, LeftOut) and item.bad]
    if bad:
        faults.append(f"its loader calls {len(bad)} files of its own demo set bad ({bad[0].reason})")
    try:
        ForkingPickler.dumps(modality.loader)
    except Exception as error:  # noqa: BLE001 - any reason will do
        faults.append(f"its loader cannot go to a worker process ({error}); make it a frozen dataclass of plain values")


def _read(modality: Modality, found: list[Record], samples: list[Sample], faults: list[str]) -> None:
    from medcoss_cli.data.read import read_checked

    for record in found[:COUNT]:
        try:
            samples.append(read_checked(modality, record))
        except MedcossError as error:
            faults.append(f"a file of its own demo set is refused ({error.what})")
    if samples and found and not isinstance(samples[0].array, str):
        again = read_checked(modality, found[0]).array
        if not (again == samples[0].array).all():
            faults.append("its loader reads other values the second time")


def _empty(modality: Modality, folder: Path, faults: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    if any(isinstance(item, Record) for item in modality.loader.find(folder, "train")):
        faults.append("its loader finds records in an empty folder")


def _train(modality: Modality, samples: list[Sample], faults: list[str]) -> None:
    """Encode, decode, augment, embed, decode, loss, gradient: on its own demo samples."""
    if not samples:
        return
    import numpy as np
    import torch

    from medcoss_cli.data.batches import Batch
    from medcoss_cli.data.read import encode
    from medcoss_cli.model.encoder import EncoderShape
    from medcoss_cli.model.model import Model
    from medcoss_cli.randomness import generator

    tokenizer: Any = modality.tokenizer
    if hasattr(tokenizer, "learn"):
        modality = modality.with_vocabulary(tokenizer.learn([s.array for s in samples], [None] * len(samples)))
    assert modality.intensity is not None
    assert modality.augment is not None
    rows = [encode(modality, sample) for sample in samples]
    stored = torch.from_numpy(np.stack([row[0] for row in rows]))
    if stored.is_floating_point():
        faults.append(f"its intensity encodes to {stored.dtype}, not to integers")
    views = [modality.augment(stored[:1], generator(0, "check")) for _ in range(2)]
    if not torch.equal(*views):
        faults.append("its augmentation gives another view with the same generator")
    if views[0].shape != stored[:1].shape or views[0].dtype != stored.dtype:
        faults.append(f"its augmentation turns {tuple(stored[:1].shape)} into {tuple(views[0].shape)} {views[0].dtype}")
    scale, offset = (torch.tensor([row[i] for row in rows], dtype=torch.float32) for i in (1, 2))
    inputs = modality.intensity.decode(stored, scale, offset)
    if inputs.is_floating_point() and not (inputs.isfinite().all() and inputs.abs().max() < 100):
        faults.append(
            f"what its intensity decodes is not finite or far from the range of ±1 ({inputs.abs().max():.3g})"
        )
    model = Model(EncoderShape(width=WIDTH, depth=1, heads=2), seed=0)
    model.add(modality)
    batch = Batch(modality.name, True, inputs, None, slice(0, len(inputs)), len(inputs), (0, "check"))
    value, count = model.masked_loss(batch)
    if not (math.isfinite(value.item()) and float(count) > 0):
        faults.append(f"its loss is {value.item()} over {float(count)}")
        return
    value.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
    still = [name for name, p in model.named_parameters() if p.grad is None and not name.startswith("encoder.cls")]
    if still:
        faults.append(f"no gradient reaches {', '.join(still[:3])}")
    pooled = model.pooled(modality.name, inputs)
    if pooled.shape != (len(inputs), WIDTH):
        faults.append(f"pooled features are {tuple(pooled.shape)}, not {(len(inputs), WIDTH)}")
