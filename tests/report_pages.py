"""What the tests of reports share: folders of runs, written by hand, and what a reader sees of a page."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from medcoss_cli.report import write

PLANTED = ("Mustermann", "secret-host", "/home/someone", "patient_0815.dcm", "annotated-by-Maier", "weights.pth")
LABELS = ("tumour", "stroma", "fat")


class Page(HTMLParser):
    """What a reader of the page sees: words, tables as cells, banners, and what a browser would fetch."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.words: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.links: list[str] = []
        self.banners: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.links += [value for name, value in attrs if value and name in ("src", "href", "xlink:href", "srcset")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if "note" in (values.get("class") or "").split():
            self.banners.append("")
            tag = "note"
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data
        if "note" in self.open:
            self.banners[-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def table(self, *columns: str) -> dict[str, list[str]]:
        """The rows, by their first cell, of the table whose head has these columns."""
        [found] = [table for table in self.tables if table and set(columns) <= set(table[0])]
        return {row[0]: row[1:] for row in found[1:]}


def pretrain_run(folder: Path, *, strategy: str = "medcoss", finished: bool = True, forgets: float = 0.01) -> Path:
    """A run's folder as pretrain leaves it, without a checkpoint; names that must not be told are all over it."""
    folder.mkdir(parents=True)
    names = ["alpha", "beta", "gamma"]
    facts = {
        "kind": "pretrain",
        "data_root": PLANTED[2],
        "host": PLANTED[1],
        "command": ["pretrain", "mini", f"data.root={PLANTED[2]}/{PLANTED[0]}"],
        "versions": {"medcoss": "0.1.0", "torch": "2.10.0"},
        "started": "2026-01-02T03:04:05+0000",
        "finished": "2026-01-02T04:04:05+0000" if finished else None,
    }
    recipe = {
        "schema": 1,
        "kind": "pretrain",
        "title": f"for {PLANTED[0]}",
        "data": {"root": PLANTED[2], "prepared": f"{PLANTED[2]}/p", "split": "train"},
        "train": {"epochs": 2.0, "lr": 0.001},
        "strategy": strategy,
        "encoder": {"width": 128, "depth": 4, "heads": 4},
        "stages": [{"modality": name, "data": f"{name}/{PLANTED[3]}", "size": [16, 64]} for name in names],
    }
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "log.txt").write_text(f"reading {PLANTED[3]} of {PLANTED[0]}")
    stages = []
    with (folder / "metrics.jsonl").open("w") as file:
        for stage, name in enumerate(names, 1):
            for step in range(1, 41):
                new = stage == 1 or step % 4 > 0
                row = {"stage": stage, "step": step, "modality": name if new else names[0], "new": new}
                row |= {"loss": 2 / step, "lr": 0.001, "seconds": 0.5, "samples": 8}
                file.write(json.dumps(row | ({"relative": 1.2 if step < 10 else 0.5} if new else {})) + "\n")
            measured = {
                m: {
                    "cka": 1 - forgets * (stage - i),
                    "cosine": 1.0,
                    "shift": 0.5 * (stage - i),
                    "loss": 2.0,
                    "loss_then": 1.9,
                    "anchors": 16.0,
                }
                for i, m in enumerate(names[:stage], 1)
            }
            stages.append({"stage": stage, "modality": name, "retention": measured})
    (folder / "retention.json").write_text(json.dumps({"stages": stages[: 3 if finished else 1], "lowest": None}))
    return folder


def finetune_run(
    folder: Path,
    *,
    task: str = "classification",
    title: str = "Colon tissue",
    start: str = "medcoss",
    mean: float = 0.9,
    pictures: Sequence[str] = (),
) -> Path:
    """A run's folder as finetune leaves it, two seeds."""
    folder.mkdir(parents=True)
    recipe = {
        "kind": "finetune",
        "task": task,
        "modality": "gamma",
        "from": f"{PLANTED[2]}/ckpt.pt",
        "data": {"folder": PLANTED[0], "root": PLANTED[2], "split": "train"},
        "head": {"layers": 1, "hybrid": {"cnn": PLANTED[5], "depth": 50}},
        "official": {"list": f"C:\\{PLANTED[0]}"},
        "train": {"lr": 0.01, "steps": 60},
    }
    facts = {"kind": "finetune", "command": ["finetune", PLANTED[2]], "host": PLANTED[1], "started": "2026-01-02"}
    (folder / "run.json").write_text(json.dumps(facts | {"finished": "2026-01-03T00:00:00"}))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "cases.csv").write_text(f"case,dice\n{PLANTED[0]},0.5\n{PLANTED[4]},0.9\n")
    main = "accuracy" if task == "classification" else "dice"
    seeds = []
    for seed in (0, 1):
        value = mean + 0.01 * (2 * seed - 1)
        place = folder / f"seed-{seed}"
        place.mkdir()
        with (place / "metrics.jsonl").open("w") as file:
            for step in range(1, 61):
                row: dict[str, Any] = {"step": step, "loss": 1 / step, "lr": 0.01, "seconds": 0.2}
                file.write(json.dumps(row) + "\n")
                if step % 10 == 0:
                    measured = {main: value - 0.2 / step, "loss": 0.3}
                    file.write(json.dumps({"step": step, "validation": measured}) + "\n")
        test: dict[str, Any] = {"metrics": {main: value}, "intervals": {main: [value - 0.05, value + 0.04]}}
        test["baseline"] = {main: 0.4}
        if task == "classification":
            test["metrics"] |= {"auc_ovo": 0.97, "auc_ovr": math.nan, "f1": None, "f1_macro": 0.88}
            test["confusion"] = [[40, 2, 1 + seed], [5, 30, 0], [0, 0, 7]]
        else:
            test["metrics"] |= {f"{m}_{c}": 0.5 for m in ("dice", "dice_paper", "hd95", "hd95_mm") for c in LABELS}
            test["metrics"] |= {f"missed_{c}": 2 for c in LABELS}
            test["cases"] = [
                {f"dice_{c}": 0.6 + 0.03 * k + 0.1 * i for i, c in enumerate(LABELS)}
                | {"dice_fat": math.nan, "hd95_fat": 3.0}
                for k in range(8)
            ]
        entry = {"seed": seed, "steps": 60, "best_step": 50, "seconds": 75.0, "peak_memory_gib": 1.5}
        seeds.append(entry | {"validation": {main: value}, "test": test})
        for name in pictures:
            (place / "cases").mkdir(exist_ok=True)
            Image.new("RGB", (24, 24), (200, 20 * seed, 30)).save(place / "cases" / f"{name}.png")
    data = {
        name: {"samples": n, "groups": n // 2, "classes": dict.fromkeys(LABELS, n // 3)}
        for name, n in (("train", 1200), ("val", 150), ("test", 85))
    }
    summary = {main: {"mean": mean, "sd": 0.0141}}
    results = {"kind": "finetune", "task": task, "title": title, "modality": "gamma", "dims": 2}
    results["start"] = (
        {"from": "scratch"}
        if start == "scratch"
        else {
            "from": "checkpoint",
            "sha256": hashlib.sha256(start.encode()).hexdigest(),
            "strategy": start,
            "stages": ["alpha", "gamma"],
            "title": "",
        }
    )
    results |= {"recipe": recipe, "classes": LABELS, "data": data, "versions": {"medcoss": "0.1.0"}}
    (folder / "results.json").write_text(json.dumps(results | {"seeds": seeds, "summary": summary}))
    return folder


def made(*folders: Path, with_samples: bool = False) -> Page:
    """The page of these runs."""
    written = write(folders, folders[0].parent / "page.html", with_samples=with_samples)
    return Page(written.path)
