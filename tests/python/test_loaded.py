"""`load`: arrays, texts and files give the same features; sources of every kind; what cannot be right is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch
from PIL import Image
from safetensors.torch import save_file

import medcoss_cli
import medcoss_cli.finetune  # binds the verb to the package, which must not hide the function
from medcoss_cli import load
from medcoss_cli.console import Screen
from medcoss_cli.errors import CheckpointError, DataError, MedcossError, UsageError
from medcoss_cli.export import export
from medcoss_cli.export.onnx import Onnx
from medcoss_cli.importers.shareable import strip
from medcoss_cli.python import Loaded
from tests.python.door import door


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return door(tmp_path_factory.mktemp("door"))


@pytest.fixture(scope="module")
def model(place: tuple[Path, Path]) -> Loaded:
    return load(str(place[1]))


@pytest.fixture(scope="module")
def images(place: tuple[Path, Path]) -> list[Path]:
    files = sorted((place[0] / "xray" / "images").glob("*.png"))
    return [path for path in files if Image.open(path).mode == "L"][:3]


@pytest.fixture(scope="module")
def image(images: list[Path]) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(images[0]))


def test_importing_medcoss_imports_nothing_heavy_and_the_verb_hides_no_function() -> None:
    code = "import sys, medcoss_cli; dir(medcoss_cli); print([m for m in ('torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert callable(medcoss_cli.finetune)
    assert {"load", "finetune"} <= set(dir(medcoss_cli))
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = medcoss_cli.lode  # type: ignore[attr-defined]  # on purpose


def test_arrays_and_texts_give_what_their_files_give(
    tmp_path: Path, place: tuple[Path, Path], model: Loaded, images: list[Path]
) -> None:
    arrays = [np.asarray(Image.open(path)) for path in images]
    wanted = model.embed([str(path) for path in images], modality="xray")
    assert wanted.shape == (len(images), 32)
    for given in (arrays, [array[None] for array in arrays], [torch.from_numpy(array.copy()) for array in arrays]):
        np.testing.assert_allclose(model.embed(given, "xray"), wanted, rtol=0, atol=1e-6)
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-4, "they differ from image to image"
    files = sorted((place[0] / "report").rglob("*.txt"))[:3]
    texts = [path.read_text() for path in files]
    np.testing.assert_allclose(model.embed(texts, "report"), model.embed(files, "report"), rtol=0, atol=1e-6)
    volume = np.random.default_rng(0).integers(-1000, 800, (24, 40, 40)).astype(np.int16)
    file = SimpleITK.GetImageFromArray(volume)
    SimpleITK.WriteImage(file, tmp_path / "scan.nii.gz")  # 1 mm on every side: nothing to resample
    scan = model.embed(tmp_path / "scan.nii.gz", "ct")
    np.testing.assert_allclose(model.embed(volume, "ct"), scan, rtol=0, atol=1e-6)


def test_rows_follow_the_inputs(place: tuple[Path, Path], model: Loaded, images: list[Path]) -> None:
    pandas = pytest.importorskip("pandas")

    table = pandas.DataFrame({"path": [str(path) for path in images]})
    assert np.array_equal(model.embed(table["path"], "xray"), model.embed(images, "xray"))
    names, features = model.embed(place[0] / "ct", "ct", names=True)
    assert len(names) == len(set(names)) == len(features) == 4, "windows of a volume are averaged"
    with pytest.raises(UsageError, match=r"one column is expected; give a column"):
        model.embed(table, "xray")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x.astype(np.uint16) * 16, r"from 0 to \d+ where grey levels from 0 to 255.*as_eight_bits"),
        (lambda x: x / 255.0, r"from 0 to 1 where grey levels.*multiply it by 255"),
        (lambda x: x / 127.5 - 1, r"from -1 to .*before its values were normalised"),
        (lambda x: np.stack([x] * 3, -1), r"3 channels where 1 is expected; give array\.mean\(-1\)"),
        (lambda x: np.stack([x] * 3), r"3 channels where 1 is expected; give array\.mean\(0\)"),
        (lambda x: np.stack([x] * 6), r"X-ray is \(height, width\); for several samples give a list"),
        (lambda x: x[0], r"shape \(256,\) where X-ray is"),
        (lambda x: np.where(x > x.mean(), np.nan, x), r"values are NaN or infinite; replace them"),
        (lambda x: np.zeros_like(x) + 9, "every value is the same"),
        (lambda x: x[:0], "which is empty"),
        (lambda x: x.astype(object), "of object where numbers are expected"),
    ],
)
def test_an_image_that_cannot_be_right(
    model: Loaded, image: np.ndarray[Any, Any], change: Callable[[Any], Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        model.embed([image, change(image)], "xray")


@pytest.mark.parametrize(
    ("volume", "said"),
    [
        (np.arange(64.0).reshape(4, 4, 4) * 4, r"from 0 to 252 where Hounsfield units.*slope \+ intercept"),
        (np.arange(64.0).reshape(4, 4, 4) / 63, r"from 0 to 1 where Hounsfield units.*normalised"),
        (np.arange(16.0).reshape(4, 4) - 900, r"CT is \(depth, height, width\)"),
    ],
)
def test_a_volume_that_cannot_be_right(model: Loaded, volume: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        model.embed(volume, "ct")


def test_files_of_more_than_eight_bits_and_their_arrays(tmp_path: Path, model: Loaded) -> None:
    from medcoss_cli.kit.readers.image import as_eight_bits

    deep = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    wanted = model.embed(tmp_path / "deep.png", "xray")
    np.testing.assert_allclose(model.embed(as_eight_bits(deep), "xray"), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.rand(2, 1, 512, 512), r"\(2, 1, 512, 512\) where \(N, 1, 32, 32\) is expected; give .* to \.embed"),
        (torch.rand(2, 3, 32, 32), r"\(N, 1, 32, 32\)"),
        (torch.rand(32, 32), r"\(N, 1, 32, 32\)"),
        (torch.rand(2, 1, 32, 32) * 255, r"where the encoder sees 0 to 1"),
        (torch.full((2, 1, 32, 32), float("inf")), "NaN or infinite"),
    ],
)
def test_a_tensor_that_the_encoder_does_not_see(model: Loaded, tensor: torch.Tensor, said: str) -> None:
    with pytest.raises(MedcossError, match=said):
        model.features(tensor, "xray")


def test_what_cannot_be_embedded(model: Loaded, image: np.ndarray[Any, Any]) -> None:
    for call, said in (
        (lambda: model.embed(image), "knows report, xray, ct; give modality='report'"),
        (lambda: model.embed(image, "mri"), "does not know 'mri'"),
        (lambda: model.embed("missing.png", "xray"), "does not exist"),
        (lambda: model.embed(["missing.txt"], "report"), "does not exist"),
        (lambda: model.embed(image, "report"), "is text; give strings"),
        (lambda: model.predict(image), "no head for a task"),
        (lambda: load("missing"), "does not exist"),
    ):
        with pytest.raises(MedcossError, match=said):
            call()  # type: ignore[no-untyped-call]  # each returns something else


def test_every_kind_of_source_gives_the_same_features(
    tmp_path: Path, place: tuple[Path, Path], model: Loaded, images: list[Path]
) -> None:
    wanted = model.embed(images, "xray")
    stripped, onnx = tmp_path / "encoder.safetensors", tmp_path / "xray.onnx"
    strip(place[1] / "ckpt.pt", stripped)
    more: dict[str, Any] = {"run": None, "seed": None, "precision": "fp32", "opset": None, "samples": None}
    export(place[1], onnx, form=Onnx(), modality="xray", licence="CC0-1.0", screen=Screen(), **more)
    [left] = (place[1] / "stages").glob("3-*/encoder.safetensors")
    for source in (place[1] / "ckpt.pt", stripped, left, str(onnx)):
        loaded = load(source)
        np.testing.assert_allclose(loaded.embed(images, "xray"), wanted, rtol=0, atol=1e-5)
    assert list(load(onnx).modalities) == ["xray"]
    batch = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(load(onnx).features(batch), model.features(batch, "xray"), rtol=0, atol=1e-5)
    assert model.features(batch, "xray", tokens=True).shape == (2, 17, 32)
    save_file({"weight": torch.zeros(1)}, bare := tmp_path / "bare.safetensors")
    with pytest.raises(CheckpointError, match=r"load the run's ckpt\.pt"):
        load(bare)
