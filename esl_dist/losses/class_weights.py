"""Weights of classes in a cross-entropy: given, from the classes' pixels, or as published by name.

The loss is a weighted mean over pixels, so a common factor changes nothing: weights are scaled to a largest one of 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from esl_dist.labels import TRAIN_CLASSES, Protocol

COUNTED = ("inverse", "median", "enet")
"""Words that need the classes' pixels."""

# Cityscapes' 19 classes by their train ids: ERFNet (Romera et al., 2018), its decoder; HRNet (Wang et al., 2019).
# fmt: off
_ERFNET = (
    2.8149201869965, 6.9850029945374, 3.7890393733978, 9.9428062438965, 9.7702074050903, 9.5110931396484,
    10.311357498169, 10.026463508606, 4.6323022842407, 9.5608062744141, 7.8698215484619, 9.5168733596802,
    10.373730659485, 6.6616044044495, 10.260489463806, 10.287888526917, 10.289801597595, 10.405355453491,
    10.138095855713,
)
_HRNET = (
    0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023, 0.9539, 0.9843, 1.1116, 0.9037,
    1.0865, 1.0955, 1.0865, 1.1529, 1.0507,
)
# fmt: on

PUBLISHED: dict[str, dict[str, float]] = {
    name: dict(zip(TRAIN_CLASSES, values, strict=True)) for name, values in (("erfnet", _ERFNET), ("hrnet", _HRNET))
}
"""Weights of the classes by the network that they were published with."""


def class_weights(words: str, classes: Protocol, pixels: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """A weight above 0 and up to 1 per class: ``[C]``.

    Args:
        words: ``inverse`` (1 / f_c), ``median`` (median f / f_c; Eigen and Fergus, 2015: the same but for a factor, so
            classes that are absent differ alone), ``enet`` (1 / ln(1.02 + f_c); Paszke et al., 2016), a name of
            ``PUBLISHED``, or a weight per class: ``1,2.5,…`` in the classes' order, or ``gate:4,road:1`` and 1 for the
            others.
        pixels: of each class in the set that is learned from, ``[C]``; ``COUNTED`` words need it. A class without
            pixels has the median's weight.

    Raises:
        ValueError: another word, a class that is not there, or a weight that is not above 0.
    """
    if words in COUNTED:
        assert pixels is not None and len(pixels) == classes.num_classes
        if not pixels.any():
            raise ValueError("class_weights: the labels hold no pixel of any class")
        share = pixels / pixels.sum()
        typical = np.median(share[share > 0])
        share = np.where(share > 0, share, typical)
        found = 1 / np.log(1.02 + share) if words == "enet" else 1 / share
    elif words in PUBLISHED:
        found = _published(words, classes)
    else:
        found = _given(words, classes)
    return np.asarray(found / found.max(), np.float64)


def _published(name: str, classes: Protocol) -> NDArray[np.float64]:
    known = PUBLISHED[name]
    merged = [
        c for c, held in zip(classes.classes, classes.members, strict=True) if len(held) != 1 or held[0] not in known
    ]
    if merged:
        raise ValueError(f"class_weights: {name} knows Cityscapes' 19 classes, and {merged[0]!r} is not one of them")
    return np.array([known[held[0]] for held in classes.members])


def _given(words: str, classes: Protocol) -> NDArray[np.float64]:
    found = np.ones(classes.num_classes)
    parts = [part.strip() for part in words.split(",")]
    named = ":" in words
    if not named and len(parts) != classes.num_classes:
        known = ", ".join((*COUNTED, *PUBLISHED))
        raise ValueError(
            f"class_weights: {words!r} is not one of {known}, nor {classes.num_classes} weights (1,2.5,…), nor weights "
            "by name (gate:4,road:1)"
        )
    for position, part in enumerate(parts):
        name, _, number = part.rpartition(":")
        if named and name.strip() not in classes.classes:
            raise ValueError(
                f"class_weights: there is no class {name.strip()!r}; there are {', '.join(classes.classes)}"
            )
        try:
            value = float(number)
        except ValueError:
            raise ValueError(f"class_weights: {part!r} is no weight") from None
        if not 0 < value < float("inf"):
            raise ValueError(f"class_weights: {part!r} must be above 0")
        found[classes.classes.index(name.strip()) if named else position] = value
    return found
