"""Memory and seconds of one training step of each of the paper's nine recipes, ViT-B at full size, batch and precision.

The sets are small and synthetic, laid out as the real ones were published; `data manifest`, `recipes validate`,
`--dry-run` and `finetune` are called as a user calls them. Run it from the repository's root:

    python bench/recipes.py              # all nine
    python bench/recipes.py lits glas
    STEPS=3 python bench/recipes.py # on a GPU the first step is slow
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.recipe.schema import FinetuneRecipe
from tests.datasets.layouts import NAMES, write

STEPS = int(os.environ.get("STEPS", "1"))


def medcoss(folder: Path, *words: str) -> str:
    """What a verb printed that was called in `folder`. Raises: SystemExit with it where the verb failed."""
    command = [sys.executable, "-m", "medcoss_cli", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"medcoss {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def main() -> None:
    """One row a recipe; the time is that of the step alone, reading and the test that follows left out."""
    print(f"{'recipe':10} {'batch':>5} {'input':>14} {'weights':>9} {'step':>8} {'memory':>9}  dry run", flush=True)
    for name in sys.argv[1:] or NAMES:
        recipe = read_recipe(name, [], kind="finetune")
        assert isinstance(recipe, FinetuneRecipe)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            root = write(name, folder / "data" / recipe.data.folder)
            medcoss(folder, "data", "manifest", name, "--root", str(root))
            medcoss(folder, "recipes", "validate", name)
            common = ["finetune", name, "--from", "scratch", "--data-root", "data"]
            dry = medcoss(folder, *common, "--dry-run").strip().splitlines()[-1]
            medcoss(folder, *common, "--name", "one", f"train.steps={STEPS}", "predict.mirror=false")
            run = folder / "runs" / "one"
            step = json.loads((run / f"seed-{recipe.seed}" / "metrics.jsonl").read_text().splitlines()[STEPS - 1])
            seed = json.loads((run / "results.json").read_text())["seeds"][0]
        gpu = f"{seed['peak_gpu_memory_gib']:5.1f} GiB of the GPU's" if "peak_gpu_memory_gib" in seed else ""
        size = "x".join(map(str, recipe.input.size or ["default"]))
        print(
            f"{name:10} {recipe.train.batch:5} {size:>14} {seed['weights']['weights'] / 1e6:7.1f} M {step['seconds']:6.1f} s "
            f"{seed['peak_memory_gib']:5.1f} GiB {gpu} {dry}",
            flush=True,
        )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    main()
