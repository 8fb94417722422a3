"""Files to arrays: each encoding exactly, and each kind of broken file as one line that names it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esl_dist.data import decode, png16
from esl_dist.data.decode import DataError
from tests.data import disk

MIXTURES = [(0,), (1,), (2,), (3,), (4,), (0, 1, 2), (0, 1, 2, 3, 4), (4, 2, 1, 0, 3), (3, 4)]


@pytest.mark.parametrize("filters", MIXTURES)
@pytest.mark.parametrize("shape", [(13, 17, 3), (1, 9, 3), (9, 1, 4), (1, 1, 3), (30, 5, 4)])
def test_16bit_png_with_every_filter(filters: tuple[int, ...], shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(len(filters)).integers(0, 65536, shape, dtype=np.uint16)
    assert np.array_equal(png16.decode(disk.png16(pixels, filters)), pixels)


def test_16bit_png_with_filters_of_neighbouring_values() -> None:
    """Smooth content makes Paeth's ties and Average's rounding matter."""
    ramp = np.add.outer(np.arange(20), np.arange(23))
    pixels = np.stack([ramp, ramp * 255, 65535 - ramp], axis=-1).astype(np.uint16)
    assert np.array_equal(png16.decode(disk.png16(pixels, (4, 3, 2, 1, 0))), pixels)


@pytest.mark.parametrize("filters", MIXTURES)
def test_opencv_agrees_with_the_decoder(filters: tuple[int, ...]) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is an extra")
    data = disk.png16(np.random.default_rng(0).integers(0, 65536, (11, 14, 3), dtype=np.uint16), filters)
    assert np.array_equal(decode._decode_opencv(cv2, data), png16.decode(data)[..., 0])


@pytest.mark.parametrize("with_opencv", [True, False])
def test_synthia_ids_come_from_the_first_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_opencv: bool
) -> None:
    if with_opencv:
        pytest.importorskip("cv2", reason="OpenCV is an extra")
    else:
        monkeypatch.setattr(decode, "_opencv", lambda: None)
    ids = disk.ids(range(23))
    disk.synthia_label(tmp_path / "a.png", ids)
    assert np.array_equal(decode.read_ids16(tmp_path / "a.png"), ids)


@pytest.mark.parametrize("with_opencv", [True, False])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[: len(data) // 2], "truncated"),
        (lambda data: data[:-12], "truncated"),
        (lambda data: data[:60] + bytes([data[60] ^ 255]) + data[61:], "checksum"),
        (lambda data: b"<html>" + data, "not an image"),
    ],
)
def test_broken_16bit_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: object, words: str, with_opencv: bool
) -> None:
    if with_opencv:
        pytest.importorskip("cv2", reason="OpenCV is an extra")
    else:
        monkeypatch.setattr(decode, "_opencv", lambda: None)
    path = tmp_path / "broken.png"
    disk.synthia_label(path, disk.ids(range(23), (40, 30)))
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DataError, match=words) as raised:
        decode.read_ids16(path)
    assert "broken.png" in str(raised.value) and "\n" not in str(raised.value)


def test_ids_above_255_are_no_classes(tmp_path: Path) -> None:
    pixels = np.full((4, 4, 3), 300, np.uint16)
    (tmp_path / "a.png").write_bytes(disk.png16(pixels, (0,)))
    with pytest.raises(DataError, match=r"a\.png holds id 300"):
        decode.read_ids16(tmp_path / "a.png")
    Image.fromarray(np.full((4, 4), 26001, np.uint16)).save(tmp_path / "instances.png")
    with pytest.raises(DataError, match=r"instances\.png holds id 26001.*instance"):
        decode.read_ids(tmp_path / "instances.png")


def test_interlaced_and_8bit_files_are_refused_by_the_16bit_decoder(tmp_path: Path) -> None:
    data = bytearray(disk.png16(np.zeros((2, 2, 3), np.uint16), (0,)))
    header = bytes(data[16:28]) + b"\x01"
    interlaced = bytes(data[:8]) + disk.chunk(b"IHDR", header) + bytes(data[33:])
    with pytest.raises(ValueError, match="interlaced"):
        png16.decode(interlaced)
    disk.image(tmp_path / "8bit.png")
    with pytest.raises(ValueError, match="16-bit"):
        png16.decode((tmp_path / "8bit.png").read_bytes())


def test_a_palette_is_read_by_index(tmp_path: Path) -> None:
    ids = disk.ids([*range(35), 255], (9, 8))
    disk.palette(tmp_path / "p.png", ids)
    with Image.open(tmp_path / "p.png") as stored:
        assert stored.mode == "P"
    assert np.array_equal(decode.read_ids(tmp_path / "p.png"), ids)
    assert np.array_equal(decode.read_ids16(tmp_path / "p.png"), ids)


def test_colour_where_ids_belong_is_refused(tmp_path: Path) -> None:
    disk.image(tmp_path / "00001_color.png")
    with pytest.raises(DataError, match=r"00001_color\.png is a colour image"):
        decode.read_ids(tmp_path / "00001_color.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_colour_images_in_any_mode(tmp_path: Path, suffix: str) -> None:
    pixels = disk.image(tmp_path / f"a{suffix}")
    found = decode.read_rgb(tmp_path / f"a{suffix}")
    assert found.dtype == np.uint8 and np.array_equal(found, pixels)
    Image.fromarray(pixels[..., 0]).save(tmp_path / f"grey{suffix}")
    assert decode.read_rgb(tmp_path / f"grey{suffix}").shape == (8, 16, 3)
    assert decode.image_size(tmp_path / f"a{suffix}") == (16, 8)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize(
    ("keep", "words"), [(0.6, "cannot be decoded"), (0.0, "is empty"), (0.01, "cannot be decoded")]
)
def test_broken_images_are_named(tmp_path: Path, suffix: str, keep: float, words: str) -> None:
    path = tmp_path / f"broken{suffix}"
    disk.image(path, (64, 48))
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(DataError, match=words) as raised:
        decode.read_rgb(path)
    assert path.name in str(raised.value) and "\n" not in str(raised.value)
    path.unlink()
    with pytest.raises(DataError, match="missing"):
        decode.read_rgb(path)
