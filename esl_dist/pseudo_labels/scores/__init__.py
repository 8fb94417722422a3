"""Scores of the pixels of one image: label, normalised entropy and maximum probability from low-resolution logits.

``exact`` has one specification (``spec``, numpy) and implementations with its very bits: ``kernel`` (Triton, CUDA),
``compiled`` (numba, CPU) and ``eager`` (torch, anywhere). ``library`` is torch's own functions, as in the published
code.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from esl_dist.pseudo_labels import counting
from esl_dist.pseudo_labels.counting import ScoreError, count_high
from esl_dist.pseudo_labels.keys import HIGH_BINS, KEY_LIMIT, Kind, keys
from esl_dist.pseudo_labels.scores import eager, library, spec

log = logging.getLogger(__name__)

Histograms = Mapping[Kind, Tensor]
"""int64 ``[C, HIGH_BINS]`` per confidence, on the logits' device."""


class Scores(NamedTuple):
    """``label`` uint8, ``entropy`` and ``probability`` float32 (finite, 0 or more), each ``[H, W]`` on one device."""

    label: Tensor
    entropy: Tensor
    probability: Tensor

    def of(self, kind: Kind) -> Tensor:
        return self.entropy if kind == "entropy" else self.probability


def empty(size: tuple[int, ...]) -> Scores:
    """Memory for the scores of one image: filling the same again spares the system fresh pages for each."""
    return Scores(torch.empty(size, dtype=torch.uint8), torch.empty(size), torch.empty(size))


def shaped(flat: Scores, size_hw: tuple[int, int]) -> Scores:
    """The first pixels of flat maps as an image."""
    return Scores(*(values[: size_hw[0] * size_hw[1]].view(size_hw) for values in flat))


Scorer = Callable[[Tensor, tuple[int, int], Histograms | None, Scores | None], Scores]
"""Logits float32 ``[C, h, w]`` and the output's (height, width) to its scores; counts them into the histograms, may use
the memory given.
"""


def _count(scores: Scores, high: Histograms | None) -> Scores:
    for kind, histogram in (high or {}).items():
        if histogram.device.type == "cpu":
            count_high(histogram.numpy(), scores.label.numpy().reshape(-1), keys(scores.of(kind).numpy()).reshape(-1))
        else:
            cell = scores.label.long() * HIGH_BINS + (scores.of(kind).view(torch.int32) >> 16)
            histogram += torch.bincount(cell.flatten(), minlength=histogram.numel()).view_as(histogram)
    return scores


def _eager(
    logits: Tensor, size_hw: tuple[int, int], high: Histograms | None = None, out: Scores | None = None
) -> Scores:
    return _count(Scores(*eager.score(logits, size_hw)), high)


def _library(
    logits: Tensor, size_hw: tuple[int, int], high: Histograms | None = None, out: Scores | None = None
) -> Scores:
    label, entropy, probability = library.score(logits, size_hw)
    bad = int(np.count_nonzero(keys(entropy.cpu().numpy()) >= KEY_LIMIT))
    if bad:
        raise ScoreError(
            f"{bad} of {entropy.numel()} entropies are NaN (a probability underflowed to 0, where the published log"
            " gives NaN); use pseudo_labels.scores=exact"
        )
    return _count(Scores(label, entropy.clamp_min_(0), probability), high)


def _compiled() -> Scorer | None:
    module = counting.compiled()
    if module is None:
        return None

    idle: list[np.ndarray] = []  # one for every thread that scores at the same time, each used again and again

    def score(
        logits: Tensor, size_hw: tuple[int, int], high: Histograms | None = None, out: Scores | None = None
    ) -> Scores:
        result = out or empty(size_hw)
        counted = [
            high[kind].numpy() if high and kind in high else module.NOT_COUNTED for kind in ("entropy", "probability")
        ]
        try:
            scratch = idle.pop()
        except IndexError:
            scratch = np.empty(0, np.float32)
        needed = module.scratch_length(*logits.shape, size_hw[1])
        if len(scratch) < needed:
            scratch = np.empty(needed, np.float32)
        module.score(logits.numpy(), *(t.numpy() for t in result), *counted, scratch=scratch)
        idle.append(scratch)
        return result

    return score


def _kernel() -> Scorer | None:
    try:
        from esl_dist.pseudo_labels.scores import kernel
    except ImportError:
        log.warning("triton is not installed, so scores run in torch eager, many times slower")
        return None

    def score(
        logits: Tensor, size_hw: tuple[int, int], high: Histograms | None = None, out: Scores | None = None
    ) -> Scores:
        counted = high or {}
        # worker threads start on the first GPU, and a Triton kernel runs on the thread's, not on the tensors'
        with torch.cuda.device(logits.device) if logits.is_cuda else nullcontext():
            return Scores(*kernel.score(logits, size_hw, counted.get("entropy"), counted.get("probability")))

    return score


def scorer(mode: str, device: torch.device | str = "cpu") -> tuple[str, Scorer]:
    """The implementation that this machine runs, named, for ``scores: exact | library``.

    Raises ``ValueError`` where the exact one does not give the specified bits of the golden tile here.
    """
    place = torch.device(device)
    if mode == "library":
        return "library (torch softmax, interpolate, log)", _library
    fast = _kernel() if place.type == "cuda" else _compiled()
    name = "torch eager" if fast is None else "Triton" if place.type == "cuda" else "numba"
    score = fast or _eager
    check_golden_tile(name, score, place)
    return f"exact ({name})", score


def relabel(mode: str, logits: Tensor, size_hw: tuple[int, int], thresholds: np.ndarray) -> np.ndarray:
    """CBST's labels ``argmax_c P_c / t_c``, 255 where that ratio is below 1: uint8 ``[H, W]``, float32 ``thresholds
    [C]`` above 0.
    """
    prob_chw = (library if mode == "library" else eager).probabilities(logits, size_hw)
    return eager.relabel(prob_chw, torch.from_numpy(thresholds).to(logits.device)).cpu().numpy()


def golden_logits() -> np.ndarray:
    """Fixed float32 logits ``[5, 6, 7]`` from integers alone: near-uniform, peaked, tied and far-apart pixels."""
    state = np.arange(5 * 6 * 7, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(1 << 32)
    z = (state >> np.uint64(20)).astype(np.float32) / np.float32(256) - np.float32(8)
    z = z.reshape(5, 6, 7)
    z[:, 0, 0] = 0
    z[:, 1, 1] *= np.float32(16)
    z[:, 2] *= np.float32(1 / 64)
    return z


GOLDEN_SIZE = (23, 31)
GOLDEN_SHA256 = "70341fc537f1d9acadf2d1efd2a23e960a6763a9911a2e2511270928eb99d9f6"


def tile_hash(label: np.ndarray, entropy: np.ndarray, probability: np.ndarray) -> str:
    return hashlib.sha256(label.tobytes() + entropy.tobytes() + probability.tobytes()).hexdigest()


def check_golden_tile(name: str, score: Scorer, device: torch.device) -> None:
    """Compare the specification with its published hash and ``score`` with the specification, bit for bit."""
    expected = tile_hash(*spec.score(golden_logits(), GOLDEN_SIZE))
    found = score(torch.from_numpy(golden_logits()).to(device), GOLDEN_SIZE, None, None)
    got = tile_hash(*(t.cpu().numpy() for t in found))
    for who, value in (("numpy", expected), (name, got)):
        if value != GOLDEN_SHA256:
            raise ValueError(
                f"pseudo_labels.scores: {who} does not give the specified bits on this machine, so labels would differ"
                " from other machines'; set pseudo_labels.scores=library"
            )


def _quiet_sum(values: np.ndarray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sum(values))


def check_finite(logits: Tensor, name: str) -> None:
    """``ValueError`` naming the image whose logits hold NaN or infinity."""
    # NaN and infinity always show in a sum; finite float32 numbers may overflow one, but not in float64
    if not logits.is_cuda and math.isfinite(_quiet_sum(logits.numpy())):
        return
    total = (
        float(logits.sum(dtype=torch.float64)) if logits.is_cuda else float(np.sum(logits.numpy(), dtype=np.float64))
    )
    if math.isfinite(total):
        return
    bad = int(logits.numel() - torch.isfinite(logits).sum())
    raise ValueError(
        f"{name}: {bad} of {logits.numel()} logits are NaN or infinite; the checkpoint is broken or its precision"
        " overflows (extract.precision=fp32)"
    )
