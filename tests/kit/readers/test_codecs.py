"""Compressed DICOM: every kind is decoded to what went in, and `doctor` finds it by decoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import codecs
from tests.dicom_files import STILLS, only, save


@pytest.mark.parametrize("name", list(codecs._samples()))
def test_each_kind_gives_the_picture_it_was_made_of(tmp_path: Path, name: str) -> None:
    syntax, frame, bits, tolerance = codecs._samples()[name]
    data = codecs._object(syntax, frame, 8, 8, bits)
    data.Modality = "CR"
    sample = only(STILLS, save(data, tmp_path / "a"))
    truth = codecs.RAMP if bits > 8 else codecs.RAMP >> 4
    picture = sample.array[0] if bits == 8 else codecs.decoded(data, None)
    assert np.abs(picture.astype(int) - truth).max() <= tolerance


def test_a_decoder_that_gives_other_values_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(codecs.decoders().values()) == {"yes"}
    monkeypatch.setattr(codecs, "decoded", lambda data, frame: np.zeros((8, 8)))
    assert set(codecs.decoders().values()) == {
        "no (decoded values are off by 3943)",
        "no (decoded values are off by 246)",
    }


def test_lossless_jpeg_needs_nothing_but_what_is_installed(capfd: pytest.CaptureFixture[str]) -> None:
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEGExtended12Bit, JPEGLosslessSV1

    assert "simpleitk" in get_decoder(JPEGLosslessSV1).available_plugins
    frame = codecs._samples()["DICOM JPEG, 12 bits"][1]
    codecs.decoded(codecs._object(JPEGExtended12Bit, frame, 8, 8, 12), None)
    assert capfd.readouterr().err == ""


def test_a_video_is_named(tmp_path: Path) -> None:
    from pydicom.uid import UID

    with pytest.raises(
        DataError, match=r"compressed as MPEG-4 AVC/H\.264 High Profile / Level 4\.1, which has no decoder here"
    ):
        codecs.check_decoder(UID("1.2.840.10008.1.2.4.102"), tmp_path)
