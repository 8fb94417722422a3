"""The implementation that scores the pixels of one image on this machine: label and confidences from low-resolution
logits.

``exact`` has one specification (``spec``, numpy) and implementations with its very bits: ``kernel`` (Triton, CUDA),
``compiled`` (numba, CPU), ``banded`` (numpy, CPU without numba) and ``eager`` (torch, any other device). ``library`` is
torch's own functions, as in the published code.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from esl_dist.compiled import loops
from esl_dist.pseudo_labels.scores import banded, eager, golden, library
from esl_dist.pseudo_labels.scores.idle import Idle, Line
from esl_dist.pseudo_labels.scores.keys import LIMITS, ScoreError, count_high, keys
from esl_dist.pseudo_labels.scores.kinds import TITLES, Kind
from esl_dist.pseudo_labels.scores.scored import Scored

log = logging.getLogger(__name__)

Histograms = Mapping[Kind, Tensor]
"""int64 ``[C, bins]`` per confidence, on the logits' device."""
NONE: Histograms = MappingProxyType({})


class Scores(NamedTuple):
    """``label`` uint8 and the wanted confidences float32 (finite, 0 or more), each ``[H, W]`` on one device."""

    label: Tensor
    maps: dict[Kind, Tensor]


def empty(size: tuple[int, ...], kinds: Sequence[Kind]) -> Scores:
    """Memory for the scores of one image: filling the same again spares the system fresh pages for each."""
    return Scores(torch.empty(size, dtype=torch.uint8), {kind: torch.empty(size) for kind in kinds})


def shaped(flat: Scores, size_hw: tuple[int, int]) -> Scores:
    """The first pixels of flat maps as an image."""
    pixels = size_hw[0] * size_hw[1]
    return Scores(
        flat.label[:pixels].view(size_hw), {kind: values[:pixels].view(size_hw) for kind, values in flat.maps.items()}
    )


class Wanted(NamedTuple):
    """What a scorer is asked for beside the logits."""

    size_hw: tuple[int, int]
    """Height and width of the output."""
    kinds: Sequence[Kind]
    high: Histograms = NONE
    """Into which every pixel is counted as well; of some of ``kinds``."""
    out: Scores | None = None
    """Memory, with ``kinds``, that may be used."""


Scorer = Callable[[Tensor, Wanted], Scores]
"""Float32 logits ``[C, h, w]`` to the scores."""


def _counted(scores: Scores, high: Histograms) -> Scores:
    for kind, histogram in high.items():
        if histogram.device.type == "cpu":
            count_high(histogram.numpy(), scores.label.numpy().reshape(-1), keys(scores.maps[kind].numpy()).reshape(-1))
        else:
            cell = scores.label.long() * histogram.shape[1] + (scores.maps[kind].view(torch.int32) >> 16)
            histogram += torch.bincount(cell.flatten(), minlength=histogram.numel()).view_as(histogram)
    return scores


def _eager(logits: Tensor, wanted: Wanted) -> Scores:
    return _counted(Scores(*eager.score(logits, wanted.size_hw, wanted.kinds)), wanted.high)


_EAGER: Scorer = _eager


def _library(logits: Tensor, wanted: Wanted) -> Scores:
    label, maps = library.score(logits, wanted.size_hw, wanted.kinds)
    for kind, values in maps.items():
        bad = int(np.count_nonzero(keys(values.cpu().numpy()) >= LIMITS[kind]))
        if bad:
            raise ScoreError(
                f"{TITLES[kind]}: {bad} of {values.numel()} values are NaN or infinite (a probability "
                "underflowed to 0, where the published log "
                "gives NaN); use pseudo_labels.scores=exact, or a rule that does not read it"
            )
        values.clamp_min_(0)
    return _counted(Scores(label, maps), wanted.high)


def _banded() -> Scorer:
    idle = Idle(banded.Scratch)

    def score(logits: Tensor, wanted: Wanted) -> Scores:
        result = wanted.out or empty(wanted.size_hw, wanted.kinds)
        maps = {kind: values.numpy() for kind, values in result.maps.items()}
        label = result.label.numpy()
        with idle.lent() as scratch:
            banded.score(logits.numpy(), label, maps, scratch)
        for kind, histogram in wanted.high.items():
            count_high(histogram.numpy(), label.reshape(-1), maps[kind].view(np.uint32).reshape(-1))
        return result

    return score


def _compiled(module: ModuleType) -> Scorer:
    idle = Idle(Line)

    def score(logits: Tensor, wanted: Wanted) -> Scores:
        result = wanted.out or empty(wanted.size_hw, wanted.kinds)
        needed = module.scratch_length(*logits.shape, wanted.size_hw[1])
        maps = {kind: values.numpy() for kind, values in result.maps.items()}
        counted = {kind: histogram.numpy() for kind, histogram in wanted.high.items()}
        with idle.lent() as line:
            module.score(logits.numpy(), result.label.numpy(), maps, counted, line.of(needed))
        return result

    return score


def _kernel() -> Scorer | None:
    try:
        from esl_dist.pseudo_labels.scores import kernel
    except ImportError:
        log.warning("triton is not installed, so scores run in torch eager, many times slower")
        return None

    def score(logits: Tensor, wanted: Wanted) -> Scores:
        # worker threads start on the first GPU, and a Triton kernel runs on the thread's, not on the tensors'
        with torch.cuda.device(logits.device) if logits.is_cuda else nullcontext():
            return Scores(*kernel.score(logits, wanted.size_hw, wanted.kinds, wanted.high))

    return score


@dataclass(frozen=True)
class Scoring:
    """An implementation of the scores, with what it is called and what it does."""

    mode: str
    """``exact`` or ``library``."""
    name: str
    score: Scorer

    def checked(self, name: str, logits: Tensor, wanted: Wanted) -> Scores:
        """``score`` with the image's name in whatever it refuses: logits that are not finite, scores that are no
        numbers.
        """
        check_finite(logits, name)
        try:
            return self.score(logits.contiguous(), wanted)
        except ScoreError as error:
            raise ScoreError(f"{name}: {error}") from error

    def scored(self, index: int, name: str, logits: Tensor, size_hw: tuple[int, int], kinds: Sequence[Kind]) -> Scored:
        """One image in host memory, its logits beside it."""
        result = self.checked(name, logits, Wanted(size_hw, kinds))
        return Scored(
            index,
            name,
            result.label.cpu().numpy(),
            {kind: values.cpu().numpy() for kind, values in result.maps.items()},
            logits,
        )


def relabel(mode: str, logits: Tensor, size_hw: tuple[int, int], thresholds: np.ndarray) -> np.ndarray:
    """CBST's labels ``argmax_c P_c / t_c``, 255 where that ratio is below 1: uint8 ``[H, W]``, float32 ``thresholds
    [C]`` above 0.
    """
    prob_chw = (library if mode == "library" else eager).probabilities(logits, size_hw)
    return eager.relabel(prob_chw, torch.from_numpy(thresholds).to(logits.device)).cpu().numpy()


def compiled_loops() -> ModuleType | None:
    """numba's scores, where numba can be used."""
    return loops("esl_dist.pseudo_labels.scores.compiled", "scores take five times longer")


def scoring(mode: str, device: torch.device | str = "cpu") -> Scoring:
    """The implementation that this machine runs for ``scores: exact | library``.

    Raises ``ValueError`` where the exact one does not give the specified bits of the golden tile here.
    """
    place = torch.device(device)
    if mode == "library":
        return Scoring(mode, "library (torch softmax, interpolate, log)", _library)
    name, score = "torch eager", _EAGER
    if place.type == "cuda":
        kernel = _kernel()
        if kernel is not None:
            name, score = "Triton", kernel
    elif place.type == "cpu":
        module = compiled_loops()
        name, score = ("numpy", _banded()) if module is None else ("numba", _compiled(module))
    golden.check(name, lambda logits, size_hw, kinds: score(logits, Wanted(size_hw, kinds)), place)
    return Scoring(mode, f"exact ({name})", score)


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
        f"{name}: {bad} of {logits.numel()} logits are NaN or infinite; the checkpoint is broken or its "
        "precision overflows (extract.precision=fp32)"
    )
