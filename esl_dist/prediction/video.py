"""Videos by OpenCV (the extra ``opencv``): frames out of one, and frames into one."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esl_dist import atomic

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")


class Facts(NamedTuple):
    """What a video says about itself."""

    frames: int
    width: int
    height: int
    rate: float
    """Frames per second."""


def facts(path: Path) -> Facts:
    """Look at a video. Frames are counted by going through them: what the file's head says is often a few off.

    Raises:
        ValueError: OpenCV is not installed, or cannot read it.
    """
    cv2 = _opencv()
    capture = _open(cv2, path)
    try:
        count = 0
        while capture.grab():
            count += 1
        if not count:
            raise ValueError(f"{path}: holds no frame that OpenCV can decode")
        width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        return Facts(count, width, height, rate if 0 < rate < 1000 else 25.0)
    finally:
        capture.release()


def read(path: Path, indices: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(index, uint8 RGB ``[H, W, 3]``) of ascending ``indices``; ends early where the video does. Every frame before
    the last is decoded.
    """
    cv2 = _opencv()
    capture = _open(cv2, path)
    try:
        at = 0
        for index in indices:
            while at < index and capture.grab():
                at += 1
            good, image = capture.read() if at == index else (False, None)
            if not good or image is None:
                return
            at += 1
            yield index, np.ascontiguousarray(image[..., ::-1])
    finally:
        capture.release()


def write(path: Path, images: Iterable[NDArray[np.uint8]], size: tuple[int, int], rate: float) -> None:
    """An MP4 of uint8 RGB images of ``size`` (width, height), written aside and renamed.

    Raises:
        ValueError: OpenCV cannot write it.
    """
    cv2 = _opencv()
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.stem}.tmp-{os.getpid()}{path.suffix}")
    writer = cv2.VideoWriter(str(aside), cv2.VideoWriter_fourcc(*"mp4v"), rate, size)
    try:
        if not writer.isOpened():
            raise ValueError(
                f"{path}: this OpenCV writes no MP4 video; leave out --video, the frames are in the folders"
            )
        for image in images:
            writer.write(np.ascontiguousarray(image[..., ::-1]))
        writer.release()
        atomic.rename(aside, path)
    finally:
        writer.release()
        aside.unlink(missing_ok=True)


def _open(cv2: Any, path: Path) -> Any:
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise ValueError(f"{path}: is not a video that OpenCV can read")
    return capture


def _opencv() -> Any:
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError:
        raise ValueError("videos need OpenCV: pip install 'esl_dist[opencv]'") from None
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # likewise FFmpeg, which it asks first
    with_log = getattr(cv2, "setLogLevel", None)
    if with_log is not None:
        with_log(0)  # it prints what this program says in a line of its own
    return cv2
