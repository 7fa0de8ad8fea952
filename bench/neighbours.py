"""Nearest-neighbour accuracy of `medcoss embed`'s features, beside a random encoder's and raw pixels'.

    python bench/neighbours.py CKPT xray=DIR pathology=DIR ultrasound=DIR
    python bench/neighbours.py --tiny   # does it run? a small checkpoint and synthetic images, made here

Each folder has a manifest.csv with labels. Neighbours are those of the centred vectors by cosine, each sample left out of its
own; where the manifest names groups, a sample of the same group is no neighbour.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the small checkpoint is that of the tests

import numpy as np

from medcoss_cli.console import Screen
from medcoss_cli.data.inputs import list_records
from medcoss_cli.data.read import encode, read_checked
from medcoss_cli.embed import embed
from medcoss_cli.export.checkpoint import features_of
from medcoss_cli.kit.manifest import rows_of
from medcoss_cli.model.multimodal import Model
from medcoss_cli.pretraining.state import read_state
from medcoss_cli.store import checkpoint
from tests.pretraining_runs import train, write_demo


def accuracy(vectors: np.ndarray, labels: np.ndarray, groups: np.ndarray, count: int) -> float:
    """Share of samples whose label most of the `count` nearest of other groups have; the nearest decides a tie."""
    x = vectors - vectors.mean(0)
    x /= np.linalg.norm(x, axis=1, keepdims=True) + 1e-12
    similarities = x @ x.T
    similarities[groups[:, None] == groups[None]] = -np.inf
    right = 0
    for i, order in enumerate(np.argsort(-similarities, axis=1)[:, :count]):
        names, votes = np.unique(labels[order], return_counts=True)
        winners = set(names[votes == votes.max()])
        right += next(label for label in labels[order] if label in winners) == labels[i]
    return right / len(labels)


def main() -> None:
    """Compare what the command line names."""
    if sys.argv[1:] != ["--tiny"]:
        compare(Path(sys.argv[1]), dict(part.split("=", 1) for part in sys.argv[2:]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_demo(folder / "data", report=20, xray=20)
        train(folder, data, "train.epochs=0.2", "train.warmup=0")
        compare(folder / "runs" / "run" / "ckpt.pt", {"xray": str(data / "xray")})


def compare(source: Path, folders: dict[str, str]) -> None:
    """One row a modality."""
    print(
        f"{'modality':12} {'samples':>7} {'chance':>7}  accuracy with 1 and 5 neighbours: features, random encoder, pixels"
    )
    with tempfile.TemporaryDirectory() as scratch:
        state = read_state(source)
        blank = Model(state.model.shape, seed=1)
        for modality in state.model.modalities.values():
            blank.add(modality)
        state.model = blank
        random = Path(scratch) / "random.pt"
        checkpoint.save(state.to_checkpoint(), random)
        for name, folder in folders.items():
            embeddings = [
                embed(start, name, [Path(folder)], Path(scratch) / f"{number}.npz", tokens=False, screen=Screen())
                for number, start in enumerate((source, random))
            ]
            pixels = pixels_of(source, name, Path(folder))
            labels = np.array(embeddings[0].labels)
            owners = {row["path"]: row.get("group") or row["path"] for _, row in rows_of(Path(folder) / "manifest.csv")}
            groups = np.array([owners.get(Path(sample).as_posix(), sample) for sample in embeddings[0].ids])
            chance = max(np.unique(labels, return_counts=True)[1]) / len(labels)
            cells = [
                " ".join(f"{accuracy(vectors, labels, groups, count):.3f}" for count in (1, 5))
                for vectors in (embeddings[0].pooled, embeddings[1].pooled, pixels)
            ]
            print(f"{name:12} {len(labels):7} {chance:7.3f}  " + " | ".join(cells), flush=True)


def pixels_of(source: Path, name: str, folder: Path) -> np.ndarray:
    """The samples themselves, as the network sees them, one vector each, in the order of `embed`."""
    part, _, decode, _ = features_of(source, name, Screen())
    records, _ = list_records(part, [folder], Screen())
    return np.concatenate(
        [
            decode(integers[None], scale, offset).reshape(1, -1)
            for integers, scale, offset in (encode(part, read_checked(part, record)) for _, record in records)
        ]
    )


if __name__ == "__main__":
    main()
