"""Features of files: what torch gives, in three formats; bad files aside, long texts told, interruptions cost little."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medcoss_cli import embed as verb
from medcoss_cli.console import Screen
from medcoss_cli.data.read import encode, read_checked
from medcoss_cli.errors import DataError, Interrupted, UsageError
from medcoss_cli.metrics.neighbours import agreement, neighbours
from medcoss_cli.plugin import Record
from medcoss_cli.pretraining.state import read_state
from medcoss_cli.training.interruption import Interruption
from tests.conftest import CommandLine
from tests.pretraining_runs import train, write_demo


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), report=80, xray=40)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    train(folder, data)
    return folder / "runs" / "run" / "ckpt.pt"


def test_features_are_those_of_the_encoder_in_every_format(tmp_path: Path, data: Path, checkpoint: Path) -> None:
    for ending in (".npz", ".jsonl", ".parquet"):
        verb.embed(checkpoint, "xray", [data / "xray"], tmp_path / f"f{ending}", tokens=True, screen=Screen())
    found = np.load(tmp_path / "f.npz")
    model = read_state(checkpoint).model.eval()
    modality = model.modalities["xray"]
    records = [r for r in modality.loader.find(data / "xray", "all") if isinstance(r, Record)]
    assert len(found["ids"]) == len(records) == 40
    assert modality.intensity is not None
    for i in (0, 17, 39):
        integers, scale, offset = encode(modality, read_checked(modality, records[i]))
        stored = torch.from_numpy(integers)[None]
        inputs = modality.intensity.decode(stored, torch.tensor([scale]), torch.tensor([offset]))
        with torch.no_grad():
            assert np.allclose(found["pooled"][i], model.pooled("xray", inputs)[0].numpy(), atol=1e-5)
            assert np.allclose(found["tokens"][i], model.encode("xray", inputs)[0].numpy(), atol=1e-5)
    lines = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == found["ids"].tolist()
    assert [line["label"] for line in lines] == found["labels"].tolist()
    assert np.allclose([line["pooled"] for line in lines], found["pooled"], atol=1e-6)
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(tmp_path / "f.parquet").to_pylist()
    assert table == lines


def test_what_was_interrupted_goes_on(
    tmp_path: Path, data: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "CHUNK", 10)
    enter, calls = Interruption.__enter__, []
    run = verb._chunk

    def asked(self: Interruption) -> Interruption:
        enter(self)
        self.requested = not calls
        return self

    def counted(one: verb.Embedder, records: list[Record], tokens: bool) -> dict[str, object]:
        calls.append(len(records))
        return run(one, records, tokens)

    monkeypatch.setattr(Interruption, "__enter__", asked)
    monkeypatch.setattr(verb, "_chunk", counted)
    out = tmp_path / "f.npz"
    with pytest.raises(Interrupted, match="10 of 40"):
        verb.embed(checkpoint, "xray", [data / "xray"], out, tokens=False, screen=Screen())
    assert not out.exists()
    [part] = tmp_path.glob("f.npz.unfinished-*/000000.npz")
    whole = part.read_bytes()
    for damaged in (b"", whole[:100]):
        part.write_bytes(damaged)
        with pytest.raises(DataError, match="a part of the features is damaged"):
            verb.embed(checkpoint, "xray", [data / "xray"], out, tokens=False, screen=Screen())
    part.write_bytes(whole)
    verb.embed(checkpoint, "xray", [data / "xray"], out, tokens=False, screen=Screen())
    assert calls == [10, 10, 10, 10], "nothing is computed twice"
    assert len(np.load(out)["ids"]) == 40
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]


def test_bad_files_are_aside_and_neighbours_are_told(
    tmp_path: Path, data: Path, checkpoint: Path, command_line: CommandLine
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    good = sorted((data / "xray" / "images").iterdir())[:6]
    for i, path in enumerate(good):
        (scans / f"{i}{path.suffix}").write_bytes(path.read_bytes())
    (scans / "broken.png").write_bytes(good[0].read_bytes()[:200])
    asked = ["embed", str(checkpoint), str(scans), "--modality", "xray", "-o", str(tmp_path / "f.npz")]
    answer = command_line(*asked, "--neighbours", "2", "--map", str(tmp_path / "map.png"))
    assert answer.code == 4
    assert "f-quarantine.csv; all others are done" in answer.err
    assert "nearest 2" in answer.out
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
    assert len(np.load(tmp_path / "f.npz")["ids"]) == 6
    assert "broken.png" in (tmp_path / "f-quarantine.csv").read_text()


def test_a_long_text_is_cut_aloud(tmp_path: Path, checkpoint: Path, command_line: CommandLine) -> None:
    (tmp_path / "long.txt").write_text("the heart is of normal size and the lungs are clear " * 20)
    (tmp_path / "short.txt").write_text("the lungs are clear")
    answer = command_line(
        "embed", str(checkpoint), str(tmp_path), "--modality", "report", "-o", str(tmp_path / "f.npz")
    )
    assert answer.code == 0, answer.err
    assert "1 x longer than 32 tokens; the rest is cut" in answer.out + answer.err


def test_what_cannot_be(tmp_path: Path, data: Path, checkpoint: Path) -> None:
    with pytest.raises(UsageError, match=r"\.npz, \.jsonl or \.parquet"):
        verb.embed(checkpoint, "xray", [data], tmp_path / "f.txt", tokens=False, screen=Screen())
    with pytest.raises(UsageError, match="several modalities"):
        verb.embed(checkpoint, None, [data], tmp_path / "f.npz", tokens=False, screen=Screen())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 30), count=st.integers(1, 4))
def test_neighbours_are_those_of_two_loops(seed: int, n: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    features, labels = rng.normal(5, 1, (n, 4)), rng.choice(["a", "b", "c"], n).tolist()
    nearest, near = neighbours(features, count)
    centred = features - features.mean(0)
    right = 0
    for i in range(n):
        cosines = [
            (centred[i] @ centred[j]) / (np.linalg.norm(centred[i]) * np.linalg.norm(centred[j])) if i != j else -9.0
            for j in range(n)
        ]
        order = sorted(range(n), key=lambda j, c=cosines: -c[j])[: min(count, n - 1)]  # type: ignore[misc]  # bound at once
        assert np.allclose(near[i], [cosines[j] for j in order])
        votes = [labels[j] for j in nearest[i]]
        right += max(votes, key=lambda label, v=votes: (v.count(label), -v.index(label))) == labels[i]  # type: ignore[misc]  # bound at once
    assert agreement(nearest, labels) == pytest.approx(right / n)


def test_an_archive_a_url_and_arrays_have_the_features_of_their_files(
    tmp_path: Path, data: Path, checkpoint: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("MEDCOSS_CACHE", str(tmp_path / "cache"))
    files = sorted((data / "xray").rglob("*.png"))[:4]
    np.savez(tmp_path / "set.npz", images=np.stack([np.asarray(Image.open(file).convert("L")) for file in files]))
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for n, file in enumerate(files):
            archive.write(file, f"{n}.png")
            fsspec.filesystem("memory").pipe(f"/embedded/{n}.png", file.read_bytes())
    pooled = []
    for name in (str(tmp_path / "set.npz"), str(tmp_path / "set.zip"), "memory://embedded"):
        out = str(tmp_path / "features.npz")
        answer = command_line("embed", str(checkpoint), name, "--modality", "xray", "-o", out)
        assert answer.code == 0, answer.err
        pooled.append(np.load(out)["pooled"])
    assert np.allclose(pooled[0], pooled[1], atol=1e-6)
    assert np.allclose(pooled[0], pooled[2], atol=1e-6)
