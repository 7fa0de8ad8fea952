"""Data, recipes and medcoss' own text files made to harm whoever reads them: YAML and JSON bombs, arrays of objects, codecs.

As in `hostile_weights`, each function writes the number-th file of its kind and returns the verb that reads it, and what it is.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.campaign import pickles
from tests.campaign.hostile_weights import MARKER, Made, Rng, pick


def _laughs(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


def _merged(n: int) -> str:
    return f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}], k{n}: 1}}"


def _yamls(command: str) -> dict[str, str]:
    good = "kind: finetune\n"
    return {
        "billion laughs": good + _laughs(12) + "\nclasses: *a11\n",
        "billion laughs in a used key": good + "data: {folder: &b [" + "x, " * 9 + "x]}\nclasses: {a: [*b, *b]}\n",
        "merged billion times": good + "m0: &m0 {k: 1}\n" + "\n".join(map(_merged, range(1, 12))),
        "merge of itself": good + "a: &a\n  <<: *a\n",
        "an anchor in itself": good + "data: &a {folder: *a}\n",
        "python/object/apply": good + f"title: !!python/object/apply:os.system ['{command}']\n",
        "python/object/new": good + f"title: !!python/object/new:os.system ['{command}']\n",
        "python/name": good + "title: !!python/name:os.system\n",
        "python/module": good + "title: !!python/module:os\n",
        "python/object state": good
        + "title: !!python/object/new:type\n  args: ['z', !!python/tuple [], {'extend': !!python/name:exec }]\n"
        + f"  listitems: \"import os; os.system('{command}')\"\n",
        "deep flow": good + "a: " + "[" * 50_000 + "]" * 50_000,
        "deep mappings": good + "a: " + "{a: " * 20_000 + "1" + "}" * 20_000,
        "deep blocks": good + "\n".join(" " * n + "a:" for n in range(1500)),
        "a huge whole number": good + f"title: {'9' * 1_000_000}\n",
        "a huge number of sixties": good + "title: " + "1:" * 100_000 + "1\n",
        "a huge exponent": good + "train: {lr: 1e999999999}\n",
        "a date of no calendar": good + "title: 9999-99-99\n",
        "a date": good + "title: 2001-12-14t21:59:43.10-05:00\n",
        "binary": good + "title: !!binary AAAA\n",
        "a set": good + "title: !!set {a, b}\n",
        "a key that is a list": good + "? [a, b]\n: 1\n",
        "a key twice": good + good,
        "tabs": good + "\ta: 1\n",
        "two documents": good + "---\n" + good,
        "a NUL": good + "title: a\0b\n",
        "a surrogate": good + 'title: "\\ud800"\n',
        "a tag of nobody": good + "title: !<tag:x> 1\n",
        "paths of the machine": good + "task: classification\nmodality: xray\nfrom: /etc/passwd\ndata: {folder: /proc/self}\n",
        "100,000 keys": good + "\n".join(f"k{n}: 1" for n in range(100_000)),
        "a long line": good + "title: '" + "x" * 5_000_000 + "'\n",
    }  # fmt: skip


def yaml_bomb(place: Path, number: int, rng: Rng) -> Made:
    """A recipe, typed or in a run's folder, a manifest, or a table of columns."""
    bombs = _yamls(f"touch {place / MARKER}")
    name = pick(list(bombs), number)
    text = bombs[name].encode("utf-8", "surrogatepass")
    where, verb = pick(
        (
            ("x.yaml", ("recipes", "validate", "x.yaml")),
            ("x.yaml", ("finetune", "x.yaml", "--dry-run")),
            ("runs/c/recipe.yaml", ("finetune", "--resume", "runs/c")),
            ("runs/a/recipe.yaml", ("pretrain", "--resume", "runs/a")),
            ("runs/a/recipe.yaml", ("report", "runs/a", "-o", "r.html")),
            ("runs/stopped/recipe.yaml", ("pretrain", "--resume", "runs/stopped")),
            ("pictures/manifest.csv", ("data", "check", "pictures", "--modality", "xray")),
            ("pictures/table.csv", ("data", "check", "pictures", "--columns", "path=kind")),
            ("x.yaml", ("compare", "x.yaml", "--dry-run")),
            ("x.yaml", ("pretrain", "x.yaml", "--dry-run")),
        ),
        int(rng.integers(10)),
    )
    (place / "pictures").mkdir(exist_ok=True)
    (place / where).write_bytes(text)
    return verb, f"{name}, as {where}"


def _jsons(good: Any) -> dict[str, str]:
    text = json.dumps(good)
    inside = text[1:-1]
    return {
        "deep lists": "[" * 200_000 + "]" * 200_000,
        "deep objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
        "deep in a key": '{"x": ' + "[" * 5000 + "]" * 5000 + (", " + inside if inside else "") + "}",
        "a number of a million digits": '{"x": ' + "9" * 1_000_000 + "}",
        "a float of a million digits": '{"x": 0.' + "9" * 1_000_000 + "}",
        "a huge exponent": '{"x": 1e999999}',
        "NaN and Infinity": '{"x": [NaN, Infinity, -Infinity]}',
        "a key twice": "{" + inside + (", " if inside else "") + inside + "}",
        "a surrogate": '{"\\ud800": "\\udfff"}',
        "a NUL": '{"a\\u0000": "\\u0000"}',
        "300,000 keys": "{" + ", ".join(f'"k{n}": 1' for n in range(300_000)) + "}",
        "a text of 100 MB": '{"x": "' + "y" * 100_000_000 + '"}',
        "a list": "[]",
        "a number": "1",
        "no JSON": "\x00\x01\x02",
        "nothing": "",
    }


JSONS = (
    ("runs/a/run.json", ("pretrain", "--resume", "runs/a")),
    ("runs/a/run.json", ("checkpoint", "show", "runs/a")),
    ("runs/c/run.json", ("evaluate", "runs/c")),
    ("runs/a/retention.json", ("report", "runs/a", "-o", "r.html")),
    ("runs/a/metrics.jsonl", ("report", "runs/a", "-o", "r.html")),
    ("runs/stopped/metrics.jsonl", ("pretrain", "--resume", "runs/stopped")),
    ("runs/c/results.json", ("report", "runs/c", "-o", "r.html")),
    ("runs/c/seed-0/result.json", ("finetune", "--resume", "runs/c")),
    ("runs/c/training-data.json", ("evaluate", "runs/c")),
    ("reports/x.jsonl", ("data", "check", "reports", "--modality", "report")),
    ("volumes/x.json", ("data", "check", "volumes", "--modality", "ct")),
    ("v.json", ("checkpoint", "import", "s.safetensors", "--vocabulary", "v.json", "-o", "o.pt")),
    ("store.zarr/.zarray", ("data", "check", "store.zarr", "--modality", "xray")),
    ("store.zarr/zarr.json", ("data", "check", "store.zarr", "--modality", "xray")),
)


def json_bomb(place: Path, number: int, rng: Rng) -> Made:
    """A file of a run, a table of reports, a sidecar, a vocabulary or what describes an array."""
    where, verb = pick(JSONS, number)
    path = place / where
    path.parent.mkdir(parents=True, exist_ok=True)
    bombs = _jsons(json.loads(path.read_text().splitlines()[0]) if where.endswith("metrics.jsonl") else {"a": 1})
    name = list(bombs)[int(rng.integers(len(bombs)))]
    path.write_text(bombs[name], encoding="utf-8", errors="surrogatepass")
    return verb, f"{name}, as {where}"


class Payload:
    """Its pickle runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.system, (self.command,)


def _npy_header(shape: str, descr: str = "'|O'", body: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


def _arrays(command: str) -> dict[str, bytes]:
    objects = io.BytesIO()
    np.save(objects, np.array([Payload(command)], object), allow_pickle=True)
    plain = pickles.programs(command)
    return {
        "objects": objects.getvalue(),
        "objects of another pickle": _npy_header("(1,)", body=plain["INST"]),
        "a field of objects": _npy_header("(1,)", "[('a', '|O'), ('b', '<f4')]", plain["GLOBAL REDUCE"]),
        "a header that is code": _npy_header("(1,)", f"__import__('os').system('{command}')"),
        "a header of many brackets": _npy_header("(" * 5000 + "1" + ",)" * 5000, "'<f4'"),
        "a giant shape": _npy_header(f"({2**40}, {2**20})", "'<f4'", bytes(64)),
        "a negative shape": _npy_header("(-1, 4)", "'<f4'", bytes(64)),
        "a shape of no numbers": _npy_header("('a', None)", "'<f4'", bytes(64)),
        "a giant text": _npy_header("(1,)", f"'<U{2**31 - 1}'", bytes(64)),
        "a bare pickle": plain["STACK_GLOBAL REDUCE"],
        "times": _npy_header("(4, 4)", "'<M8[ns]'", bytes(128)),
        "void": _npy_header("(4, 4)", "'|V8'", bytes(128)),
    }


def arrays(place: Path, number: int, rng: Rng) -> Made:
    """.npy and .npz, as data, in a tar, as medcoss' own features, shards, cases and draws."""
    made = _arrays(f"touch {place / MARKER}")
    name = pick(list(made), number)
    content = made[name]
    (place / "arrays").mkdir()
    match int(rng.integers(5)):
        case 0:
            (place / "arrays" / "x.npy").write_bytes(content)
            return ("data", "check", "arrays", "--modality", "xray"), f"{name}, .npy"
        case 1:
            with zipfile.ZipFile(place / "arrays" / "x.npz", "w") as archive:
                archive.writestr("image.npy", content)
                archive.writestr("label.npy", content)
            return ("data", "check", "arrays", "--modality", "xray"), f"{name}, .npz"
        case 2:
            for path in place.glob("prepared/xray-*/shard-00000.npy"):
                path.write_bytes(content)
            return TRAIN, f"{name}, as {path.name}"
        case 3:
            for path in place.glob("prepared/xray-*/rows.npz"):
                with zipfile.ZipFile(path, "w") as archive:
                    for part in ("scale", "offset", "groups", "records"):
                        archive.writestr(f"{part}.npy", content)
            return TRAIN, f"{name}, as rows.npz"
        case _:
            path = sorted(place.glob("prepared/ct-masks-*/*.npy"))[int(rng.integers(6))]
            path.write_bytes(content)
            return TUNE, f"{name}, as {path.name}"


def containers(place: Path, number: int, rng: Rng) -> Made:
    """HDF5, Zarr and Parquet with what only a pickle can decode, or that names other files."""
    command, folder = f"touch {place / MARKER}", place / "held"
    folder.mkdir()
    name = pick(
        ("zarr objects", "zarr pickle codec", "hdf5 objects", "hdf5 outside", "parquet objects", "tar above"), number
    )
    match name:
        case "zarr objects" | "zarr pickle codec":
            store = folder / "x.zarr"
            store.mkdir()
            kind, codec = ("|O", "pickle") if name == "zarr objects" else ("<f4", "pickle")
            about = {
                "zarr_format": 2,
                "shape": [4, 8, 8],
                "chunks": [4, 8, 8],
                "dtype": kind,
                "order": "C",
                "fill_value": 0,
            }
            coded = {"filters": [{"id": codec, "protocol": 4}], "compressor": None}
            (store / ".zarray").write_text(json.dumps(about | coded))
            (store / "0.0.0").write_bytes(pickles.programs(command)["STACK_GLOBAL REDUCE"])
            where = "held/x.zarr"
        case "hdf5 objects" | "hdf5 outside":
            import h5py

            with h5py.File(folder / "x.h5", "w") as file:
                if name == "hdf5 objects":
                    text = np.array([pickles.programs(command)["GLOBAL REDUCE"]] * 4, object)
                    file.create_dataset("images", data=text, dtype=h5py.special_dtype(vlen=bytes))
                else:
                    file["images"] = h5py.ExternalLink("/etc/passwd", "/x")
                    file.create_dataset("more", (4, 8, 8), "u1", external=[("/etc/passwd", 0, 256)])
            where = "held"
        case "parquet objects":
            import pyarrow as pa
            import pyarrow.parquet as pq

            body = pickles.programs(command)["STACK_GLOBAL REDUCE"]
            table = pa.table({"image": pa.array([body] * 4, pa.binary()), "path": ["/etc/passwd"] * 4})
            about = {b"pandas": b'{"columns": [{"name": "image", "pandas_type": "object", "numpy_type": "pickle"}]}'}
            pq.write_table(table.replace_schema_metadata(about), folder / "x.parquet")
            where = "held"
        case _:
            pickles.in_tar(pickles.programs(command)["INST"], folder / "x.tar")
            where = "held"
    verb = ("data", "check", where, "--modality", "xray"), ("data", "prepare", where, "--modality", "xray")
    return verb[int(rng.integers(2))], name


TRAIN, TUNE = ("pretrain", "tiny.yaml", "--name", "z"), ("finetune", "masks.yaml", "--name", "z")
"""What reads prepared sets of pictures, and of volumes with masks."""


def prepared(place: Path, number: int, rng: Rng) -> Made:
    """A prepared set whose parts are cut, swapped, or described by a bomb."""
    texts = ("index.json", "shard-00000.json", "rows.npz", "case-00000.json")
    name = pick((*texts, *("cut", "empty", "longer", "swapped", "folder")), number)
    is_mask = name == "case-00000.json" or (name not in texts[1:3] and bool(rng.integers(2)))
    bombs = _jsons({"a": 1})
    bomb = list(bombs)[int(rng.integers(len(bombs)))]
    parts = ("case-00000.image", "case-00001.mask", "case-00001.points") if is_mask else ("shard-00000", "shard-00001")
    part = f"{parts[int(rng.integers(len(parts)))]}.npy"
    for folder in place.glob("prepared/ct-masks-*" if is_mask else "prepared/xray-*"):
        path = folder / part
        content = path.read_bytes() if path.exists() else b""  # a small set has one shard
        match name:
            case "cut" | "empty" | "longer":
                path.write_bytes(
                    {"cut": content[: len(content) // 2], "empty": b"", "longer": content + bytes(9)}[name]
                )
            case "swapped":
                np.save(path, np.zeros((2, 3, 5, 7), np.int64))
            case "folder":
                path.unlink(missing_ok=True)
                path.mkdir()
            case _:
                if name != "index.json":  # the set is then not finished, and goes on from what is noted
                    (folder / "index.json").unlink()
                (folder / name).write_text(bombs[bomb], encoding="utf-8", errors="surrogatepass")
    return (TUNE if is_mask else TRAIN), f"{name}, {bomb}" if name in texts else f"{name}: {part}"
