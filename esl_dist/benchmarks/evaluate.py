"""Cost of scoring an image at Cityscapes' size beside the plain way: upsample all classes, argmax, histogram."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from esl_dist.benchmarks.extract import NUM_CLASSES, street_like_logits
from esl_dist.metrics.confusion import confusion_matrix
from esl_dist.metrics.upsample import upsampled_argmax

NATIVE = (2048, 1024)  # width, height
REPEATS = 3


def plain(logits: Tensor, label: np.ndarray) -> np.ndarray:
    """The reference procedure for one image ``[C, h, w]``: confusion matrix ``[C, C]``."""
    upsampled = F.interpolate(logits[None], size=(NATIVE[1], NATIVE[0]), mode="bilinear", align_corners=True)[0].numpy()
    predicted = np.asarray(np.argmax(upsampled.transpose(1, 2, 0), axis=2), dtype=np.uint8)
    known = label < NUM_CLASSES
    return np.bincount(NUM_CLASSES * label[known].astype(int) + predicted[known], minlength=NUM_CLASSES**2).reshape(NUM_CLASSES, NUM_CLASSES)


def ours(logits: Tensor, label: np.ndarray) -> np.ndarray:
    """The package's own way."""
    return confusion_matrix(torch.from_numpy(label), upsampled_argmax(logits, NATIVE), NUM_CLASSES).numpy()


def run(images: int = 500) -> dict[str, Any]:
    """CPU seconds per image of both, alternating on one thread; the forward and reading the label are left out on both sides.

    The plain way is timed on every tenth image: it takes its time and does not get better at it.
    """
    torch.set_num_threads(1)
    stream = np.random.RandomState(0)
    maps = [street_like_logits(seed) for seed in range(8)]
    labels = [np.where(stream.random_sample((NATIVE[1], NATIVE[0])) < 0.1, 255, upsampled_argmax(m, NATIVE).numpy()).astype(np.uint8) for m in maps]
    ratios, mine, theirs = [], [], []
    for number in range(images):
        logits, label = maps[number % 8], labels[number % 8]
        mine.append(_cpu(ours, logits, label))
        if number % 10 == 0:
            theirs.append(_cpu(plain, logits, label))
            ratios.append(theirs[-1] / mine[-1])
    differing = [int(np.abs(plain(m, t) - ours(m, t)).sum()) // 2 for m, t in zip(maps[:REPEATS], labels[:REPEATS], strict=True)]
    return {
        "images": images,
        "ours_ms": 1e3 * statistics.median(mine),
        "plain_ms": 1e3 * statistics.median(theirs),
        "ratio": statistics.median(ratios),
        "total_s": sum(mine),
        "differing_pixels": max(differing),
        "pixels": NATIVE[0] * NATIVE[1],
    }


def table(results: dict[str, Any]) -> str:
    return (
        f"scoring one 2048x1024 image, 19 classes, one thread, CPU (median of {results['images']}): ours {results['ours_ms']:.1f} ms, "
        f"plain {results['plain_ms']:.1f} ms, ratio {results['ratio']:.1f}; {results['images']} images in {results['total_s']:.1f} s; "
        f"at most {results['differing_pixels']} of {results['pixels']} pixels scored differently (ties of float rounding)"
    )


def _cpu(function: Callable[[Tensor, np.ndarray], np.ndarray], logits: Tensor, label: np.ndarray) -> float:
    began = time.process_time()
    function(logits, label)
    return time.process_time() - began
