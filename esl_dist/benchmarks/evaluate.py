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

from esl_dist.benchmarks.common import NUM_CLASSES, Peak, apart, without_numba
from esl_dist.benchmarks.extract import DIFFERENT, street_like_logits
from esl_dist.metrics.confusion import compiled, confusion_matrix
from esl_dist.metrics.upsample import upsampled_argmax

NATIVE = (2048, 1024)  # width, height
SHARE = 10  # the plain way is timed on every tenth image: it takes its time and does not get better at it


def plain(logits: Tensor, label: np.ndarray) -> np.ndarray:
    """The reference procedure for one image ``[C, h, w]``: confusion matrix ``[C, C]``."""
    upsampled = F.interpolate(logits[None], size=(NATIVE[1], NATIVE[0]), mode="bilinear", align_corners=True)[0].numpy()
    predicted = np.asarray(np.argmax(upsampled.transpose(1, 2, 0), axis=2), dtype=np.uint8)
    known = label < NUM_CLASSES
    return np.bincount(NUM_CLASSES * label[known].astype(int) + predicted[known], minlength=NUM_CLASSES**2).reshape(
        NUM_CLASSES, NUM_CLASSES
    )


def ours(logits: Tensor, label: np.ndarray) -> np.ndarray:
    """The package's own way."""
    return confusion_matrix(torch.from_numpy(label), upsampled_argmax(logits, NATIVE), NUM_CLASSES).numpy()


def measure(images: int, fast: bool = True) -> dict[str, Any]:
    """CPU seconds per image and peak memory of both, on one thread of this process; the forward and reading the label
    are left out.

    First all images our way, then a share of them both ways in turn, for the ratio.
    """
    torch.set_num_threads(1)
    if not fast:
        without_numba()
    stream = np.random.RandomState(0)
    maps = [street_like_logits(seed) for seed in range(DIFFERENT)]
    labels = [
        np.where(stream.random_sample((NATIVE[1], NATIVE[0])) < 0.1, 255, upsampled_argmax(m, NATIVE).numpy()).astype(
            np.uint8
        )
        for m in maps
    ]
    pairs = list(zip(maps, labels, strict=True))
    differing = [int(np.abs(plain(*pair) - ours(*pair)).sum()) // 2 for pair in pairs]  # and both are warm
    peak = Peak()
    mine = [_cpu(ours, *pairs[number % DIFFERENT]) for number in range(images)]
    mine_mib, peak = peak.mib(), Peak()
    both = [
        (_cpu(plain, *pairs[number % DIFFERENT]), _cpu(ours, *pairs[number % DIFFERENT]))
        for number in range(-(-images // SHARE))
    ]
    return {
        "loops": "torch alone" if compiled() is None else "numba",
        "ours_ms": 1e3 * statistics.median(mine),
        "plain_ms": 1e3 * statistics.median(theirs for theirs, _ in both),
        "ratio": statistics.median(theirs / ours_s for theirs, ours_s in both),
        "total_s": sum(mine),
        "ours_mib": mine_mib,
        "plain_mib": peak.mib(),
        "differing_pixels": max(differing),
    }


def run(images: int = 500) -> dict[str, Any]:
    """Measure with numba and with torch alone, each in a process of its own."""
    return {
        "images": images,
        "pixels": NATIVE[0] * NATIVE[1],
        "measured": [apart(measure, images, fast) for fast in (True, False)],
    }


def table(results: dict[str, Any]) -> str:
    """The figures of :func:`run` as text."""
    lines = [
        (
            f"scoring a 2048x1024 image, {NUM_CLASSES} classes, upsampling, argmax and confusion, one thread, median of"
            f" {results['images']}"
        ),
        (
            f"{'':<14}{'CPU ms/image':>14}{'all, s':>10}{'peak MiB':>10}{'plain way ms':>14}"
            f"{'its peak MiB':>14}{'less CPU':>10}{'other pixels, most':>20}"
        ),
    ]
    for found in results["measured"]:
        ours_text = f"{found['loops']:<14}{found['ours_ms']:>14.1f}{found['total_s']:>10.1f}{found['ours_mib']:>10.0f}"
        lines.append(
            f"{ours_text}{found['plain_ms']:>14.1f}{found['plain_mib']:>14.0f}"
            f"{found['ratio']:>9.1f}x{found['differing_pixels']:>20}"
        )
    return "\n".join(lines)


def _cpu(function: Callable[[Tensor, np.ndarray], np.ndarray], logits: Tensor, label: np.ndarray) -> float:
    began = time.process_time()
    function(logits, label)
    return time.process_time() - began
