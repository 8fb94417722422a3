"""Integer confusion matrices: exact to add up, over images and over ranks."""

from __future__ import annotations

from types import ModuleType

import torch

from esl_dist.compiled import loops


def compiled() -> ModuleType | None:
    """numba's loops over the pixels, where numba can be used."""
    return loops("esl_dist.metrics.compiled", "scoring an image takes ten times longer")


def confusion_matrix(label: torch.Tensor, prediction: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Count the pixels of every (label, prediction) pair.

    Args:
        label: integers of any shape; whatever lies outside [0, ``num_classes``) is ignored, as in 255 or -1.
        prediction: integers of the same shape and device; pixels without a prediction (255) are left out as well.
        num_classes: C.

    Returns:
        int64 ``[C, C]``, rows = label, columns = prediction, on the device of ``label``.
    """
    assert label.shape == prediction.shape, (label.shape, prediction.shape)
    fast = compiled()
    if fast is not None and label.dtype == prediction.dtype == torch.uint8 and label.device.type == "cpu":
        return torch.from_numpy(
            fast.count_pairs(label.reshape(-1).numpy(), prediction.reshape(-1).numpy(), num_classes)
        )
    # int16 holds every pair of 181 classes, and a narrow type is what makes this a matter of memory bandwidth.
    narrow = torch.int16 if num_classes * num_classes < 2**15 else torch.int64
    label, prediction = label.reshape(-1), prediction.reshape(-1)
    valid = (label >= 0) & (label < num_classes) & (prediction >= 0) & (prediction < num_classes)
    pair = label.to(narrow) * num_classes + prediction.to(narrow)
    spare = num_classes * num_classes  # one more bin takes the ignored pixels, cheaper than selecting the others
    counts = torch.bincount(torch.where(valid, pair, spare), minlength=spare + 1)
    return counts[:spare].reshape(num_classes, num_classes)
