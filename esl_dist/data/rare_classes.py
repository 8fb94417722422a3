"""Rare-class sampling: source images drawn by class, rare ones more often (Hoyer et al., DAFormer, CVPR 2022, sec.
3.3).

A sample's class and image are pure functions of (seed, position): the sampler has no state, and ranks, workers and
resumes change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esl_dist.data.sampler import uniform

MIN_PIXELS = 3000
"""Of a class, in an image at its own size, for the image to be drawn for it."""
_CLASS, _IMAGE = 32, 33
"""Numbers of these draws at a position; those below are augmentation's."""


def class_probabilities(pixels: NDArray[np.int64], temperature: float) -> NDArray[np.float64]:
    """``softmax over classes of (1 - f_c) / T`` with ``f_c = n_c / sum n``: ``[C]``; 0 for a class without pixels.

    Args:
        pixels: of each class in the whole set.
        temperature: T; 0.01 in DAFormer, 0.05 in VFM-UDA's code. Small: the rarest class nearly alone.
    """
    known = pixels > 0
    if not known.any():
        raise ValueError(
            "rare-class sampling needs labelled pixels, but the source's labels hold none of the protocol's classes"
        )
    frequency = pixels / pixels.sum()
    exponent = np.where(known, (1 - frequency) / temperature, -np.inf)
    weight = np.exp(exponent - exponent.max())
    return np.asarray(weight / weight.sum())


@dataclass(frozen=True)
class RareClasses:
    """Which class and image a position of the source stream draws."""

    cumulative: NDArray[np.float64]
    """``[classes]``: of the classes that can be drawn, in ``classes``."""
    classes: tuple[int, ...]
    images: tuple[NDArray[np.int64], ...]
    """Of each of ``classes``: indices of the images with enough pixels of it."""

    @classmethod
    def of(
        cls, counts: NDArray[np.int64], temperature: float, min_pixels: int = MIN_PIXELS, section: str = "source"
    ) -> RareClasses:
        """From the pixels of each class in each image, int64 ``[images, C]``; ``section`` is whose options these are.

        A class that no image has enough pixels of is never drawn, and the others share its probability.

        Raises:
            ValueError: no image has ``min_pixels`` of any class.
        """
        probability = class_probabilities(counts.sum(axis=0), temperature)
        images = [np.flatnonzero(counts[:, c] > min_pixels) for c in range(counts.shape[1])]
        classes = tuple(c for c, found in enumerate(images) if len(found))
        if not classes:
            most = int(counts.max(initial=0))
            raise ValueError(
                f"{section}.rare_pixels: no image has more than {min_pixels} pixels of any class; lower it (the most"
                f" that one has of a class: {most})"
            )
        chosen = probability[list(classes)]
        return cls(np.cumsum(chosen / chosen.sum()), classes, tuple(images[c] for c in classes))

    def draw(self, seed: int, position: int) -> tuple[int, int]:
        """Class and image of the sample at ``position``."""
        at = int(np.searchsorted(self.cumulative, uniform(seed, position, _CLASS), side="right"))
        at = min(at, len(self.classes) - 1)  # the last sum may be rounded below 1
        images = self.images[at]
        return self.classes[at], int(images[int(uniform(seed, position, _IMAGE) * len(images))])
