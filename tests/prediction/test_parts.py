"""Frames, windows, files and videos of predictions, part by part."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from esl_dist.labels import protocol
from esl_dist.prediction import video
from esl_dist.prediction.forward import Predicted, Whole, Windows
from esl_dist.prediction.frames import VideoFrames, open_frames
from esl_dist.prediction.products import Products, overlay, server_ids
from esl_dist.prediction.settings import batches, sized


def picture(path: Path, width: int = 8, height: int = 6, value: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)
    return path


def brightness(images: Tensor) -> Tensor:
    """Two classes: class 1 where the image is brighter than 127; logits at a quarter of the size."""
    grey = torch.nn.functional.avg_pool2d(images.float().mean(1, keepdim=True), 4)
    return torch.cat([127.5 - grey, grey - 127.5], 1) / 16


def test_frames_of_folders_patterns_lists_and_files(tmp_path: Path) -> None:
    for name in ("a/x.png", "a/y.jpg", "b/x.png"):
        picture(tmp_path / name)
    assert list(open_frames(str(tmp_path)).names) == ["a/x", "a/y", "b/x"]
    assert list(open_frames(str(tmp_path / "*" / "x.png")).names) == ["a/x", "b/x"]
    assert list(open_frames(str(tmp_path / "a" / "x.png")).names) == ["x"]
    (tmp_path / "list.txt").write_text("\ufeffa/y.jpg\n# none\n\nb/x.png\n")
    found = open_frames(str(tmp_path / "list.txt"))
    assert list(found.names) == ["a/y", "b/x"]
    frames = list(found.read([1]))
    assert frames[0].number == 1 and frames[0].image is not None and frames[0].image.shape == (6, 8, 3)


def test_what_is_not_there_or_ambiguous_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("\n")
    for what, said in (
        ("empty", "no image below it"),
        ("none", "no such folder"),
        ("*.png", "matches no image"),
        ("list.txt", "names no image"),
    ):
        with pytest.raises(ValueError, match=said):
            open_frames(str(tmp_path / what))
    picture(tmp_path / "x.png")
    picture(tmp_path / "x.jpg")
    (tmp_path / "list.txt").write_text("x.png\nx.jpg\n")
    with pytest.raises(ValueError, match="one name"):
        open_frames(str(tmp_path / "list.txt"))


def test_a_damaged_frame_comes_with_its_problem(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    good, bad = open_frames(str(tmp_path)).read([0, 1])
    assert good.image is not None and bad.image is None and "b.png" in bad.problem


@pytest.mark.parametrize("size", [(1, 1), (37, 5), (64, 48), (200, 3)])
def test_any_size_of_image_gets_a_label_of_its_size(size: tuple[int, int]) -> None:
    image = np.full((size[1], size[0], 3), 200, np.uint8)
    for forward in (Whole(brightness, (32, 16), "stretch", 2, True), Windows(brightness, (32, 16), 2, True)):
        (made,) = forward([image])
        assert made.label.shape == (size[1], size[0]) and (made.label == 1).all()
        assert made.confidence is not None and made.entropy is not None
        assert made.confidence.shape == made.label.shape and 0.99 < made.confidence.min() <= 1
        assert 0 <= made.entropy.max() < 0.05


def test_windows_see_what_a_small_view_cannot() -> None:
    image = np.full((64, 128, 3), 20, np.uint8)
    image[:, 64:] = 240
    (made,) = Windows(brightness, (32, 32), 4)([image])
    assert (made.label[:, :60] == 0).all() and (made.label[:, 68:] == 1).all()


def test_an_image_s_prediction_does_not_depend_on_its_neighbours() -> None:
    images = [np.random.RandomState(i).randint(0, 256, (20 + i, 30, 3)).astype(np.uint8) for i in range(3)]
    whole = Whole(brightness, (32, 16), "stretch", 3, True)
    together = whole(images)
    for image, made in zip(images, together, strict=True):
        (alone,) = whole([image])
        assert (alone.label == made.label).all() and (alone.entropy == made.entropy).all()


def test_statistics_take_full_batches_of_evenly_spaced_frames(tmp_path: Path) -> None:
    for number in range(5):
        picture(tmp_path / f"{number}.png", value=10 * number)
    frames = open_frames(str(tmp_path))
    whole = Whole(brightness, (8, 8), "stretch", 2)
    assert [batch[:, 0, 0, 0].tolist() for batch in batches(frames, whole, 5)] == [[0, 10], [20, 30]]
    (few,) = batches(frames, Whole(brightness, (8, 8), "stretch", 8), 3)
    assert len(few) == 8 and len(set(few[:, 0, 0, 0].tolist())) == 3


def test_files_hold_what_they_say() -> None:
    classes = protocol("19")
    label = np.array([[0, 13], [255, 10]], np.uint8)
    image = np.full((2, 2, 3), 100, np.uint8)
    made = Predicted(label, np.array([[1, 0.5], [0, 0.2]], np.float32), np.zeros((2, 2), np.float32))
    products = Products(classes, ("labels", "overlays", "ids", "confidence", "entropy"), 0.5)

    def read(kind: str) -> Image.Image:
        return Image.open(io.BytesIO(products.encode(kind, image, made)))

    labels = read("labels")
    assert labels.mode == "P" and (np.array(labels) == label).all()
    assert labels.convert("RGB").getpixel((0, 0)) == classes.palette[0]
    assert np.array(read("ids")).tolist() == [[7, 26], [0, 23]]
    assert np.array(read("confidence")).tolist() == [[255, 128], [0, 51]]
    assert read("overlays").size == (2, 2)
    mixed = overlay(image, label, classes.palette, 0.5)
    assert mixed[1, 0].tolist() == [100, 100, 100] and mixed[0, 1].tolist() == [50, 50, 121]


def test_classes_that_the_test_server_does_not_know_are_refused() -> None:
    assert server_ids(protocol("16").classes)[15] == 33
    with pytest.raises(ValueError, match="leave --ids out"):
        server_ids(protocol("7").classes)


@pytest.mark.parametrize("name", ["", "../x", "/x"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="outside"):
        Products(protocol("19"), ("labels",)).path(tmp_path, "labels", name)


@pytest.mark.parametrize("text", ["", "0x5", "1x1", "64x15", "5", "5x", "ax5", "-1x5", "100000x5"])
def test_a_size_is_two_numbers(text: str) -> None:
    assert sized("--size", "64x32") == (64, 32)
    with pytest.raises(ValueError, match="--size"):
        sized("--size", text)


def test_a_video_in_and_a_video_out(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    colours = [(0, 0, 0), (255, 255, 255), (0, 0, 0), (255, 255, 255), (0, 0, 0)]
    images = [np.full((48, 64, 3), colour, np.uint8) for colour in colours]
    video.write(tmp_path / "clip.mp4", images, (64, 48), 10.0)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
    frames = open_frames(str(tmp_path / "clip.mp4"))
    assert isinstance(frames, VideoFrames) and frames.facts == (5, 64, 48, 10.0)
    assert list(frames.names)[3] == "clip_000003"
    read = list(frames.read([1, 2, 4, 7]))
    assert [f.number for f in read] == [1, 2, 4, 7] and "cannot be decoded" in read[3].problem
    means = [f.image.mean() for f in read[:3] if f.image is not None]
    assert means[0] > 200 > 50 > means[1] and means[2] < 50
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match="not a video"):
        open_frames(str(tmp_path / "bad.mp4"))
