"""Pictures of a preview."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import CommandLine


def scans(folder: Path, divisor: int) -> Path:
    folder.mkdir()
    y, x = np.mgrid[:64, :64]
    for n in range(3):
        levels = np.clip(130 + 120 * np.sin(x / 6 + n) * np.cos(y / 9), 0, 255).astype(np.uint8)
        Image.fromarray(levels // divisor).save(folder / f"{n}.png")
    return folder


def test_what_is_black_to_the_encoder_is_black_in_the_picture(tmp_path: Path, command_line: CommandLine) -> None:
    """Each picture was stretched to its own range, so that 0 to 15 of 255 looked as it should."""
    brightest = {}
    for name, divisor in (("plain", 1), ("dark", 16)):
        out, folder = tmp_path / f"{name}.png", scans(tmp_path / name, divisor)
        answer = command_line("data", "preview", str(folder), "--modality", "xray", "--out", str(out))
        assert answer.code == 0
        with Image.open(out) as picture:
            brightest[name] = np.asarray(picture.convert("L"))[30:150, 50:150].max()  # inside the first picture
        assert (answer.out + answer.err).count("of the range that the encoder sees") == (3 if name == "dark" else 0)
    assert brightest["plain"] > 200
    assert brightest["dark"] < 30


def test_sets_are_compared_with_one_another(tmp_path: Path, command_line: CommandLine) -> None:
    plain, dark = scans(tmp_path / "plain", 1), scans(tmp_path / "dark", 16)
    out = tmp_path / "a.png"
    answer = command_line("data", "preview", str(plain), str(dark), "--modality", "xray", "--out", str(out))
    assert answer.code == 0
    said = answer.out + answer.err
    assert "6 2.png: 0.00 | " in said
    assert "dark: the set has a mean of" in said
    assert out.read_bytes().startswith(b"\x89PNG")
