"""Weight files made to harm whoever reads them: pickles in every container, archives, safetensors headers, ONNX graphs.

Each function writes the number-th file of its kind below a folder, and returns the verb that reads it, and what it is.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.campaign import pickles

MARKER = "executed"
"""What a payload leaves in the folder."""
Rng = np.random.Generator
Made = tuple[Sequence[str], str]


def pick(names: Sequence[Any], number: int) -> Any:
    """In turns."""
    return names[number % len(names)]


FOREIGN = (
    ("checkpoint", "show", "FILE"),
    ("checkpoint", "import", "FILE", "-o", "o.pt"),
    ("embed", "FILE", "data/xray", "--modality", "xray", "-o", "f.npz"),
    ("pretrain", "tiny.yaml", "init=FILE", "--dry-run"),
    ("finetune", "classes.yaml", "--from", "FILE", "--dry-run"),
    ("extend", "--modality", "pathology", "--from", "FILE", "--dry-run"),
    ("checkpoint", "strip", "FILE", "s2.safetensors"),
    ("export", "FILE", "-o", "n.onnx"),
)
"""Verbs that take a weight file of anybody's."""
OWN = (
    ("runs/a/ckpt.pt", ("report", "runs/a", "-o", "r.html")),
    ("runs/a/ckpt.pt", ("pretrain", "--resume", "runs/a")),
    ("runs/stopped/resume.pt", ("pretrain", "--resume", "runs/stopped")),
    ("runs/stopped/ckpt.pt", ("pretrain", "--resume", "runs/stopped")),
    ("runs/c/start.pt", ("finetune", "--resume", "runs/c")),
    ("runs/c/seed-0/model.pt", ("predict", "runs/c", "data/xray", "-o", "p")),
    ("runs/c/seed-0/model.pt", ("evaluate", "runs/c")),
    ("runs/m/seed-0/model.pt", ("export", "--run", "runs/m", "-o", "n.onnx")),
)
"""Files that medcoss wrote, replaced."""


def _verb(typed: Sequence[str], path: str) -> tuple[str, ...]:
    return tuple(word.replace("FILE", path) for word in typed)


def foreign_pickle(place: Path, number: int, rng: Rng) -> Made:
    """A weight file from anywhere."""
    programs = pickles.programs(f"touch {place / MARKER}") | pickles.tensors(rng)
    name, container = pick(list(programs), number), str(rng.choice(list(pickles.CONTAINERS)))
    ending = str(rng.choice(["pt", "pth", "pkl", "bin", "ckpt"]))
    pickles.CONTAINERS[container](programs[name], place / f"x.{ending}")
    return _verb(FOREIGN[int(rng.integers(len(FOREIGN)))], f"x.{ending}"), f"{name}, {container}, .{ending}"


def own_pickle(place: Path, number: int, rng: Rng) -> Made:
    """In place of a file that medcoss wrote."""
    programs = pickles.programs(f"touch {place / MARKER}") | pickles.tensors(rng)
    name = list(programs)[int(rng.integers(len(programs)))]
    file, verb = pick(OWN, number)
    container = str(rng.choice(["zip", "zip", "alone", "legacy"]))
    pickles.CONTAINERS[container](programs[name], place / file)
    return verb, f"{name}, {container}, as {file}"


def zip_header(place: Path, number: int, rng: Rng) -> Made:
    """A good checkpoint whose archive is not what its directory says."""
    path = place / "runs/a/ckpt.pt"
    how = pick(list(ZIPS), number)
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if how == "compressed" else zipfile.ZIP_STORED) as archive:
        for name, content in ZIPS[how](entries):
            archive.writestr(name, content)
    data = bytearray(out.getvalue())
    if how in DIRECTORIES:
        DIRECTORIES[how](data)
    path.write_bytes(data)
    verb = _verb(FOREIGN[int(rng.choice([0, 2, 4, 6]))], "runs/a/ckpt.pt")
    return verb, how


Entries = list[tuple[str, bytes]]


def _renamed(entries: Entries, end: str, name: str) -> Entries:
    return [(name if key.endswith(end) else key, content) for key, content in entries]


ZIPS: dict[str, Callable[[Entries], Entries]] = {
    "compressed": list,
    "a pickle twice": lambda e: [*e, next(entry for entry in e if entry[0].endswith("data.pkl"))],
    "another pickle beside": lambda e: [*e, ("other/data.pkl", b"cos\nsystem\n(S'touch executed'\ntR.")],
    "a storage twice": lambda e: [*e, next(entry for entry in e if entry[0].endswith("/data/0"))],
    "a storage missing": lambda e: [entry for entry in e if not entry[0].endswith("/data/0")],
    "a storage cut": lambda e: [(k, c[:3] if k.endswith("/data/0") else c) for k, c in e],
    "a storage above the folder": lambda e: _renamed(e, "/data/0", "../../data/0"),
    "code beside": lambda e: [*e, ("archive/code/x.py", b"import os; os.system('touch executed')"), ("a/constants.pkl", b"N.")],
    "no entries": lambda e: [],
    "a version of no number": lambda e: [(k, b"9" * 10**6 if k.endswith("version") else c) for k, c in e],
    "an unknown byte order": lambda e: [(k, b"middle" if k.endswith("byteorder") else c) for k, c in e],
    "giant sizes": list,
    "the directory elsewhere": list,
    "entries on one another": list,
    "more entries than there are": list,
}  # fmt: skip


def _central(data: bytearray, field: int, value: int, size: int = 4) -> None:
    """Overwrite a field of every entry of the central directory."""
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        data[at + field : at + field + size] = value.to_bytes(size, "little")
        at = data.find(b"PK\x01\x02", at + 4)


def _end(data: bytearray, field: int, value: int, size: int) -> None:
    at = data.rfind(b"PK\x05\x06")
    data[at + field : at + field + size] = value.to_bytes(size, "little")


def _sizes(data: bytearray) -> None:
    _central(data, 20, 2**32 - 2)
    _central(data, 24, 2**32 - 2)


DIRECTORIES: dict[str, Callable[[bytearray], None]] = {
    "giant sizes": _sizes,
    "the directory elsewhere": lambda data: _end(data, 16, 17, 4),
    "entries on one another": lambda data: _central(data, 42, 0),
    "more entries than there are": lambda data: _end(data, 10, 65000, 2),
}


def safetensors(place: Path, number: int, rng: Rng) -> Made:
    """A stripped file whose header says something else."""
    path = place / "s.safetensors"
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8:end]), data[end:]
    how = pick(list(HEADERS), number)
    text = HEADERS[how](header)
    length = how if isinstance(how, int) else len(text)
    path.write_bytes(struct.pack("<Q", length) + text + body)
    verb = _verb(FOREIGN[int(rng.choice([0, 1, 2, 3, 4]))], "s.safetensors")
    return verb, f"header: {how}"


def _first(header: dict[str, Any], **values: Any) -> bytes:
    name = next(key for key in header if key != "__metadata__")
    return json.dumps({**header, name: {**header[name], **values}}).encode()


def _every(header: dict[str, Any], **values: Any) -> bytes:
    return json.dumps(
        {key: {**entry, **values} if "dtype" in entry else entry for key, entry in header.items()}
    ).encode()


def _about(header: dict[str, Any], text: str) -> bytes:
    key = next(iter(header["__metadata__"]))
    return json.dumps({**header, "__metadata__": {**header["__metadata__"], key: text}}).encode()


HEADERS: dict[Any, Callable[[dict[str, Any]], bytes]] = {
    2**63: lambda h: json.dumps(h).encode(),
    2**40: lambda h: json.dumps(h).encode(),
    0: lambda h: json.dumps(h).encode(),
    5: lambda h: json.dumps(h).encode(),
    "offsets on one another": lambda h: _every(h, data_offsets=[0, 4]),
    "an end before its beginning": lambda h: _first(h, data_offsets=[8, 4]),
    "a negative offset": lambda h: _first(h, data_offsets=[-4, 0]),
    "an offset beyond the file": lambda h: _first(h, data_offsets=[0, 2**50]),
    "a shape that overflows": lambda h: _first(h, shape=[2**62, 4]),
    "a negative shape": lambda h: _first(h, shape=[-1]),
    "a dtype of nobody": lambda h: _first(h, dtype="F13"),
    "a dtype of text": lambda h: _first(h, dtype="../../x"),
    "a tensor that is a list": lambda h: json.dumps({**h, "x": [1, 2]}).encode(),
    "a key twice": lambda h: json.dumps(h).encode()[:-1] + b"," + _first(h)[1:],
    "deep": lambda h: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "100 MB": lambda h: json.dumps({**h, "__metadata__": {**h["__metadata__"], "x": "y" * 100_000_000}}).encode(),
    "no JSON": lambda h: b'{"' + b"\xff" * 1000,
    "metadata deep": lambda h: _about(h, "[" * 100_000 + "]" * 100_000),
    "metadata of many digits": lambda h: _about(h, "9" * 1_000_000),
    "metadata of NaN": lambda h: _about(h, "NaN"),
}  # fmt: skip


def onnx(place: Path, number: int, rng: Rng) -> Made:
    """An exported file with something in its graph."""
    import onnx

    how = pick(list(GRAPHS), number)
    file = ("x.onnx", "c.onnx")[int(rng.integers(2))]
    model = onnx.load(str(place / file))
    (place / "beside.data").write_bytes(bytes(64))
    GRAPHS[how](model)
    (place / file).write_bytes(model.SerializeToString())
    if how == "a link beside":
        (place / "link.data").symlink_to("/etc/passwd")
    reads = (("embed", "x.onnx", "data/xray", "-o", "f.npz"), ("predict", "c.onnx", "data/xray", "-o", "p"))
    verb = reads[0] if file == "x.onnx" else reads[1]
    return (("checkpoint", "show", file) if rng.random() < 0.2 else verb), f"{how}, {file}"


def _outside(location: str, offset: int = 0, length: int | None = None) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        tensor = max(model.graph.initializer, key=lambda part: len(part.raw_data))
        size = len(tensor.raw_data) if length is None else length
        tensor.ClearField("raw_data")
        tensor.data_location = 1
        for key, value in (("location", location), ("offset", str(offset)), ("length", str(size))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value

    return change


def _computed(kind: str) -> Callable[[Any], None]:
    """Behind the last output, something that takes for ever or all of the memory."""

    def change(model: Any) -> None:
        from onnx import TensorProto, helper, numpy_helper

        graph = model.graph
        last = graph.output[-1].name
        for node in graph.node:
            for i, name in enumerate(node.output):
                if name == last:
                    node.output[i] = "before"
        start = [
            numpy_helper.from_array(np.array([2**36], np.int64), "many"),
            numpy_helper.from_array(np.array(2**62), "trips"),
        ]
        graph.initializer.extend([*start, numpy_helper.from_array(np.array(True), "yes")])
        if kind == "allocates":
            graph.node.append(helper.make_node("ConstantOfShape", ["many"], ["zeros"]))
            graph.node.append(helper.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0))
            graph.node.append(helper.make_node("Add", ["before", "zero"], [last]))
            return
        value = helper.make_tensor_value_info
        body = helper.make_graph(
            [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["value", "value"], ["next"])],
            "body",
            [
                value("i", TensorProto.INT64, []),
                value("go", TensorProto.BOOL, []),
                value("value", TensorProto.FLOAT, None),
            ],
            [value("on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, None)],
        )
        graph.node.append(helper.make_node("Loop", ["trips", "yes", "before"], [last], body=body))

    return change


def _nested(model: Any) -> None:
    from onnx import helper

    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "inner", [], [])
    for number in range(30):  # of three messages each; protobuf itself makes no more than 100
        inner = helper.make_graph([helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner)] if number < 12
                                  else [helper.make_node("If", ["yes"], ["y"], then_branch=inner)], "g", [], [])  # fmt: skip
    model.graph.node.extend(inner.node)


def _unknown(model: Any) -> None:
    model.graph.node[0].op_type = "Execute"
    model.graph.node[0].domain = "ai.onnx.contrib"


def _giant(model: Any) -> None:
    tensor = model.graph.initializer[0]
    del tensor.dims[:]
    tensor.dims.extend([2**20, 2**20, 2**20])


def _circle(model: Any) -> None:
    node = model.graph.node[0]
    node.input[0] = node.output[0]


def _metadata(text: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for entry in model.metadata_props:
            entry.value = text

    return change


GRAPHS: dict[str, Callable[[Any], None]] = {
    "data at ../../etc/passwd": _outside("../" * 12 + "etc/passwd", 0, 64),
    "data at /etc/passwd": _outside("/etc/passwd", 0, 64),
    "data in a link": _outside("link.data", 0, 64),
    "a link beside": _outside("link.data"),
    "data in a device": _outside("/dev/zero"),
    "data beyond its file": _outside("beside.data", 2**40),
    "data before its file": _outside("beside.data", -8),
    "data that is not there": _outside("absent.data"),
    "data in a folder": _outside("."),
    "a loop without end": _computed("loops"),
    "a tensor of all memory": _computed("allocates"),
    "nested graphs": _nested,
    "an operation of nobody": _unknown,
    "giant dimensions": _giant,
    "a circle": _circle,
    "metadata deep": _metadata("[" * 100_000 + "]" * 100_000),
    "metadata of many digits": _metadata('{"schema": ' + "9" * 1_000_000 + "}"),
    "no inputs": lambda model: model.graph.ClearField("input"),
}
