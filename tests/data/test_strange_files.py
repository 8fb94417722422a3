"""Files that are not what their name says, or not what a decoder would make of them: read as stored, or refused by
name.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esl_dist.config.schema import DomainConfig
from esl_dist.data import DataError, decode, open_dataset
from esl_dist.data.dataset import FolderDataset
from tests.data import disk

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 8\n%%EndComments\nshowpage\n"


def gta5(root: Path, count: int = 3) -> None:
    for number in range(1, count + 1):
        disk.image(root / f"images/{number:05d}.png", seed=number)
        disk.palette(root / f"labels/{number:05d}.png", disk.ids(range(35)))


def opened(root: Path, **options: object) -> FolderDataset:
    return open_dataset(DomainConfig(dataset="gta5", root=".", **options), str(root), "19")  # type: ignore[arg-type]


def grey_png(values: np.ndarray, depth: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits a pixel; a row of ``values`` fills whole bytes."""
    per_byte = 8 // depth
    packed = np.zeros((len(values), values.shape[1] // per_byte), np.uint8)
    for place in range(per_byte):
        packed |= (values[:, place::per_byte] << (8 - depth * (place + 1))).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", values.shape[1], len(values), depth, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(disk.chunk(kind, body) for kind, body in parts)


def test_postscript_under_a_pictures_name_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*words: object, **options: object) -> None:
        raise AssertionError("something was started")

    monkeypatch.setattr("subprocess.check_call", started)
    monkeypatch.setattr("subprocess.Popen", started)
    (tmp_path / "a.png").write_bytes(EPS)
    for read in (decode.read_rgb, decode.read_ids, decode.image_size):
        with pytest.raises(DataError, match=r"a\.png is PostScript"):
            read(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["GIF", "JPEG", "WebP"])
def test_formats_that_smear_ids_are_no_labels(tmp_path: Path, name: str) -> None:
    Image.fromarray(disk.ids(range(12))).save(tmp_path / "a.png", format=name.upper())
    with pytest.raises(DataError, match=rf"a\.png is a {name}"):
        decode.read_ids(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".webp", ".bmp", ".tif"])
def test_other_formats_of_images(tmp_path: Path, suffix: str) -> None:
    gta5(tmp_path, 1)
    (tmp_path / "images/00001.png").unlink()
    pixels = disk.image(tmp_path / f"images/00001{suffix}")
    assert np.array_equal(opened(tmp_path).image(0), pixels)


def test_pictures_in_a_format_that_is_not_read_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gta5(tmp_path)
    (tmp_path / "images/00004.gif").write_bytes(b"GIF89a")
    assert len(opened(tmp_path)) == 3
    assert "1 .gif files are left out" in caplog.text


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16bit_grey_is_scaled_not_cut_off(tmp_path: Path, suffix: str) -> None:
    grey = np.arange(0, 256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(grey).save(tmp_path / f"a{suffix}")
    found = decode.read_rgb(tmp_path / f"a{suffix}")
    assert np.array_equal(found, np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2))


def test_values_without_a_known_white_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="32-bit values"):
        decode.read_rgb(tmp_path / "a.tif")


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_labels_of_few_bits_keep_their_ids(tmp_path: Path, depth: int) -> None:
    ids = np.arange(64).reshape(4, 16) % (1 << depth)
    (tmp_path / "a.png").write_bytes(grey_png(ids, depth))
    assert np.array_equal(decode.read_ids(tmp_path / "a.png"), ids)


def test_an_inverted_tiff_is_no_label(tmp_path: Path) -> None:
    Image.fromarray(disk.ids(range(12))).save(tmp_path / "a.tif", tiffinfo={262: 0})
    with pytest.raises(DataError, match="white is zero"):
        decode.read_ids(tmp_path / "a.tif")


def turned(path: Path, orientation: int, size: tuple[int, int] = (16, 8)) -> np.ndarray:
    exif = Image.Exif()
    exif[274] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)
    return pixels


@pytest.mark.parametrize(("orientation", "rotate"), [(3, 2), (6, -1), (8, 1)])
def test_images_are_turned_as_their_exif_says(tmp_path: Path, orientation: int, rotate: int) -> None:
    pixels = turned(tmp_path / "a.png", orientation)
    upright = np.rot90(pixels, rotate)
    assert np.array_equal(decode.read_rgb(tmp_path / "a.png"), upright)
    assert decode.image_size(tmp_path / "a.png") == upright.shape[1::-1]


def test_a_turned_image_and_its_label_must_be_seen_to_agree(tmp_path: Path) -> None:
    gta5(tmp_path)
    turned(tmp_path / "images/00001.png", 6)
    turned(tmp_path / "images/00002.png", 3)
    data = opened(tmp_path)
    with pytest.raises(DataError, match=r"16x8 but its image .* is 8x16 \(turned as its EXIF says"):
        data.label(0)
    with pytest.raises(DataError, match="its size cannot tell; save the image upright"):
        data.label(1)
    disk.palette(tmp_path / "labels/00001.png", disk.ids([7], (8, 16)))
    assert data.label(0).shape == data.image(0).shape[:2] == (16, 8)


@pytest.mark.parametrize("side", [1_200, 1_500, 60_000])
def test_a_claimed_size_is_bounded(tmp_path: Path, side: int) -> None:
    header = struct.pack(">IIBBBBB", 60_000, side, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + disk.chunk(b"IHDR", header) + disk.chunk(b"IDAT", zlib.compress(bytes(1000)))
    (tmp_path / "a.png").write_bytes(bomb + disk.chunk(b"IEND", b""))
    for read in (decode.read_rgb, decode.read_ids, decode.image_size):
        with pytest.raises(DataError, match=rf"60000x{side} pixels|{60_000 * side} pixels"):
            read(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks about odd tags
def test_random_bytes_are_refused_by_name(tmp_path: Path) -> None:
    """Headers of every format with rubbish behind, and good files with a few bytes changed: a ``DataError`` or a
    picture.
    """
    rng = np.random.default_rng(0)
    good = {}
    for name in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"):
        Image.fromarray(disk.ids(range(200), (32, 24))).save(tmp_path / "good", format=name)
        good[name] = (tmp_path / "good").read_bytes()
    read = refused = 0
    for number in range(300):
        data = bytearray(list(good.values())[number % len(good)])
        for _ in range(int(rng.integers(1, 12))):
            data[int(rng.integers(0, len(data)))] = int(rng.integers(0, 256))
        file = tmp_path / f"{number}.png"
        file.write_bytes(bytes(data[: int(rng.integers(1, len(data) + 1))] if number % 3 == 0 else data))
        for reader in (decode.read_rgb, decode.read_ids, decode.read_ids16, decode.image_size):
            try:
                reader(file)
                read += 1
            except DataError as error:
                assert file.name in str(error) and "\n" not in str(error)
                refused += 1
    assert read > 50 and refused > 50


def test_an_unreadable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gta5(tmp_path)
    (tmp_path / "images/more").mkdir()
    scan = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "more":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr("esl_dist.data.walk.os.scandir", refuse)
    with pytest.raises(ValueError, match=r"images/more cannot be read \(Permission denied\)"):
        opened(tmp_path)


def test_a_loop_of_links_and_a_pipe_are_named(tmp_path: Path) -> None:
    gta5(tmp_path)
    loop = tmp_path / "images/again"
    loop.symlink_to(tmp_path / "images")
    with pytest.raises(ValueError, match=r"again is the same folder as .*images: its images would count twice"):
        opened(tmp_path)
    loop.unlink()
    os.mkfifo(tmp_path / "images/pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png is no file but a pipe"):
        opened(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf00002.png\n00001.png\n",
        b"images\\00002.png\r\nimages\\00001.png\r\n",
        b"  00002.png  \n\n00001.png labels/00001.png\n",
        b"C:\\my data\\images\\00002.png\nC:\\my data\\images\\00001.png\n",
        b"/my data/images/00002.png /my data/labels/00002.png\n00001.png\tlabels/00001.png\n",
    ],
)
def test_lists_as_other_systems_write_them(tmp_path: Path, text: bytes) -> None:
    gta5(tmp_path)
    (tmp_path / "mine.txt").write_bytes(text)
    assert opened(tmp_path, list="mine.txt").names == ("00002", "00001")


def test_names_with_blanks_can_be_listed(tmp_path: Path) -> None:
    for name in ("front left 1", "front left"):
        disk.image(tmp_path / f"images/{name}.png")
        disk.palette(tmp_path / f"labels/{name}.png", disk.ids(range(35)))
    (tmp_path / "mine.txt").write_text("front left 1.png\nfront left.png labels/front left.png\n")
    assert opened(tmp_path, list="mine.txt").names == ("front left 1", "front left")
