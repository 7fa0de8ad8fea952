"""Every verb in a process of its own, without a network: none asks for one, looks a name up, or leaves an id in the home folder.

The judges are strace, which sees what native libraries and children do, and Python's audit events, which see a look-up that a
file of the machine answers. A client that sends in the background keeps what it will send below the home folder until then.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.campaign import artefacts, verbs
from tests.campaign.attempts import Attempt

SECONDS = 120
USED = re.compile(r"\b(?:connect|bind|sendto|sendmsg|sendmmsg|listen)\(.*\b(AF_INET6?|AF_NETLINK|AF_PACKET)\b")
"""Lines of strace. AF_UNIX is how processes of one machine speak; a socket that is only made and closed asks for an address of
this machine's own (uuid1, for the name of a temporary file of onnx)."""
GROUPS = ("data", "plugins", "recipes", "checkpoint")
"""Verbs that have verbs of their own."""
_PLANTED: list[str] = []


@dataclass(frozen=True)
class Verb:
    """What is typed. `makes`: others need what it leaves, so it is run even where it is not tried."""

    typed: str
    makes: bool = False


VERBS = (
    Verb("data demo xray new --count 6"),
    Verb("data check data/xray"),
    Verb("data check data/ct --modality ct --json"),
    Verb("data manifest folder --root folders"),
    Verb("data prepare data/pathology --modality pathology --size 32x32"),
    Verb("data preview data/xray --modality xray"),
    Verb("plugins list"),
    Verb("plugins info ct"),
    Verb("plugins new tongue"),
    Verb("plugins check report"),
    Verb("recipes list"),
    Verb("recipes show mini"),
    Verb("recipes validate classes.yaml"),
    Verb("recipes schema"),
    Verb("doctor"),
    Verb("demo demonstration"),
    Verb("pretrain tiny.yaml --name a", makes=True),
    Verb(
        "extend --modality pathology --from runs/a/ckpt.pt --name e size=[32,32] tokenizer=patch2d-8 train.epochs=0.5"
    ),
    Verb("finetune classes.yaml --name c --from runs/a/ckpt.pt", makes=True),
    Verb("finetune masks.yaml --name m", makes=True),
    Verb("evaluate runs/c"),
    Verb("evaluate runs/m"),
    Verb("predict runs/c data/xray -o p1"),
    Verb("predict runs/m data/ct -o p2"),
    Verb("embed runs/a/ckpt.pt data/xray --modality xray -o f.npz --map map.png"),
    Verb("export runs/a/ckpt.pt -o encoder.onnx --precision int8"),
    Verb("export runs/a/ckpt.pt --modality report -o r.onnx"),
    Verb("export runs/a/ckpt.pt --modality xray --format timm -o vit.safetensors"),
    Verb("export --run runs/c -o c.onnx", makes=True),
    Verb("export --run runs/m -o m.onnx", makes=True),
    Verb("predict c.onnx data/xray -o p3"),
    Verb("predict m.onnx data/ct -o p4"),
    Verb("checkpoint strip runs/a/ckpt.pt s.safetensors", makes=True),
    Verb("checkpoint show runs/a"),
    Verb("checkpoint import s.safetensors -o imported.pt"),
    Verb("report runs/a"),
    Verb("report runs/c --with-samples"),
    Verb(" ".join(artefacts.COMPARE)),
)
"""In an order in which each finds what it needs."""


def run(count: int, seed: int, kinds: Sequence[str] = ()) -> Iterator[Attempt]:
    """Type `count` verbs, drawn from all of them where they are fewer, or those of a kind: the words before the first path."""
    chosen = set(np.random.default_rng((seed, 1)).permutation(len(VERBS))[:count].tolist())
    if kinds:
        chosen = {number for number in range(len(VERBS)) if kind_of(VERBS[number]) in kinds}
    verbs.warm_up()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "place"
        place.mkdir()
        data = artefacts.make_data(Path(name) / "data")
        (place / "data").symlink_to(data)
        artefacts.write_recipes(place)
        artefacts.write_comparison(place)
        _sort_by_class(data / "xray" / "images", place / "folders")
        for number, verb in enumerate(VERBS):
            if number in chosen:
                yield attempt(verb, number, place, data)
            elif verb.makes and number < max(chosen, default=0):
                artefacts.must(*verb.typed.split(), folder=place, data=data, prepared=place / "prepared")


def plant() -> None:
    """Let each process forget that telemetry is off, as it was before it was looked for."""
    _PLANTED.append("--telemetry")


def kind_of(verb: Verb) -> str:
    """The verb, and its own verb where it is a group."""
    words = verb.typed.split()
    return " ".join(words[: 2 if words[0] in GROUPS else 1])


def _sort_by_class(images: Path, target: Path) -> None:
    """A folder of each of two classes."""
    for number, path in enumerate(sorted(images.iterdir())[:12]):
        folder = target / ("a", "b")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)


def attempt(verb: Verb, number: int, place: Path, data: Path) -> Attempt:
    """One verb under the judges that this machine has."""
    home, calls, asked = place.parent / "home", place.parent / "calls.txt", place.parent / "asked.txt"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    asked.unlink(missing_ok=True)
    calls.unlink(missing_ok=True)
    around, judge = _judges(calls)
    command = [*around, sys.executable, "-m", "tests.campaign.watched", str(asked), *_PLANTED, *verb.typed.split()]
    repository = Path(__file__).parents[2]
    settings = artefacts.environment(data) | {"MEDCOSS_PREPARED": str(place / "prepared"), "OMP_NUM_THREADS": "1"}
    # nothing of the caller's: telemetry is quiet by itself where CI is set
    own = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(repository), "LANG": "C.UTF-8"}
    own["MPLCONFIGDIR"] = str(place.parent / "fonts")  # matplotlib's list of fonts, else made for each verb
    try:
        ended = subprocess.run(
            command, cwd=place, env=own | settings, capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return Attempt(kind_of(verb), number, "hangs", f"medcoss {verb.typed}: more than {SECONDS} s", fine=False)
    typed = f"medcoss {verb.typed}: "
    if ended.returncode != 0:
        said = (ended.stdout + ended.stderr)[-500:]
        return Attempt(kind_of(verb), number, f"exit {ended.returncode}", typed + said, fine=False)
    lines = calls.read_text(errors="replace").splitlines() if calls.exists() else []
    if found := [line for line in lines if USED.search(line)]:
        return Attempt(kind_of(verb), number, "connects", typed + "; ".join(found[:4]), fine=False)
    if asked.exists():
        return Attempt(kind_of(verb), number, "looks up or connects", typed + asked.read_text()[:1500], fine=False)
    if left := [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]:
        return Attempt(kind_of(verb), number, "leaves files at home", typed + ", ".join(left), fine=False)
    return Attempt(kind_of(verb), number, f"quiet, by {judge}", typed)


def _judges(calls: Path) -> tuple[list[str], str]:
    """What is put before the command, and its name: a machine may forbid namespaces, or have no strace."""
    around, names = list[str](), ["Python"]
    if _works(["strace", "-f", "true"]):
        around, names = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=network", "-o", str(calls)], ["strace"]
    if _works(["unshare", "-rn", "true"]):
        around, names = ["unshare", "-rn", *around], [*names, "no network"]
    return around, " and ".join(names)


def _works(command: list[str]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
