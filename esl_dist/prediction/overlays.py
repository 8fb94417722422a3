"""The overlays of a video's frames as a video of its size and rate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esl_dist.data.decode import read_rgb
from esl_dist.prediction import video
from esl_dist.prediction.frames import VideoFrames
from esl_dist.prediction.job import Task


def write_video(task: Task, frames: VideoFrames) -> Path:
    """Write ``<name>.mp4`` into the task's folder and return its path; a frame that could not be decoded is left out.

    Raises:
        ValueError: OpenCV cannot write it.
    """
    size = frames.facts.width, frames.facts.height

    def images() -> Iterator[NDArray[np.uint8]]:
        for name in frames.names:
            path = task.products.path(task.out, "overlays", name)
            if path.is_file():
                yield read_rgb(path)

    path = task.out / f"{frames.path.stem}.mp4"
    video.write(path, images(), size, frames.facts.rate)
    return path
