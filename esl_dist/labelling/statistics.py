"""Which batch-norm statistics are the safer ones for pseudo-labels, by what can be measured without target labels.

Statistics re-estimated on the target help some networks and hurt others, and nothing says beforehand which. Measured
are, over a few images:

- how far the label maps of both statistics agree on the target;
- the mean entropy of either, and the share of every class, beside the shares in the source's labels;
- the mIoU on labelled source images with the running statistics, with the target's, and with statistics re-estimated on
  the source itself: what the last costs is the price of re-estimation alone, and it is paid on the target too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from esl_dist.config.schema import Config
from esl_dist.data.dataset import Dataset
from esl_dist.data.loader import inference_batches
from esl_dist.data.sampler import spread
from esl_dist.data.subset import Subset
from esl_dist.distributed import collectives
from esl_dist.distributed.in_step import Stop, in_step
from esl_dist.labelling.open import statistics_batches
from esl_dist.metrics.evaluate import Conditions, EvaluationResult, evaluate
from esl_dist.metrics.inference import Predictor
from esl_dist.pseudo_labels.thresholds.radix import sum_over_ranks

PRICE = 0.01
"""mIoU that re-estimation may cost on the source before it counts as harm: half of a seed's usual spread."""
CLEAR = 0.01
"""Share of pixels below which a difference of the classes' shares tells nothing: the two label maps of one network
differ by more for no reason.
"""


@dataclass(frozen=True)
class Look:
    """What a network makes of target images: label maps of this rank's, sums over all ranks."""

    labels: list[np.ndarray]
    """uint8 ``[h, w]``, at the logits' resolution."""
    entropy: float
    """Mean, 0-1."""
    shares: np.ndarray
    """Of every class among all pixels, float64 ``[C]``."""


def compare_statistics(
    predictor: Predictor, config: Config, target: Dataset, source: Dataset, stop: Stop
) -> dict[str, Any]:
    """Measure both statistics on ``extract.check_statistics`` images of each domain. Collective.

    Args:
        source: labelled images, best those that no stage trained on (``extract.held_out``).

    Returns:
        JSON-ready; ``safer`` names the statistics, ``why`` says by what.
    """
    number = config.extract.check_statistics
    domain = config.data.source
    judged = Subset(source, tuple(spread(len(source), number)))
    conditions = dataclasses.replace(Conditions.of(config), input_size=domain.size, fit=domain.fit, at="crop", images=0)

    def score() -> EvaluationResult:
        return evaluate(predictor, judged, conditions, stop)

    looks: dict[str, Look] = {}
    scores: dict[str, float] = {}
    for kind in ("running", "target"):
        with predictor.statistics(kind, statistics_batches(config, target)):
            looks[kind] = _look(predictor, config, target, number, stop)
            result = score()
            scores[kind] = result.miou
    with predictor.statistics("target", statistics_batches(config, source, domain)):
        scores["source"] = score().miou
    labelled = result.confusion.sum(1)
    both = zip(looks["running"].labels, looks["target"].labels, strict=True)
    same = [[int((a == b).sum()), a.size] for a, b in both]
    agreed = sum_over_ranks(np.array(same or [[0, 0]], np.int64).sum(0))
    found: dict[str, Any] = {
        "images": number,
        "agreement": float(agreed[0]) / max(int(agreed[1]), 1),
        "source_shares": (labelled / max(int(labelled.sum()), 1)).tolist(),
        "source_miou": scores,
    }
    for kind, look in looks.items():
        distance = float(np.abs(look.shares - np.array(found["source_shares"])).sum() / 2)
        found[kind] = {"entropy": look.entropy, "shares": look.shares.tolist(), "distance": distance}
    return {**found, **verdict(found)}


def verdict(found: dict[str, Any]) -> dict[str, str]:
    """``safer`` and ``why``. The running statistics, unless the target's cost nothing on source images and bring the
    target's classes clearly closer to the source's.

    The entropy has no say: the target's statistics lower it on domains where they help and where they hurt.
    """
    price = found["source_miou"]["running"] - found["source_miou"]["source"]
    apart = {kind: found[kind]["distance"] for kind in ("running", "target")}
    if price > PRICE:
        return {
            "safer": "running",
            "why": f"re-estimation alone costs {100 * price:.1f} points of mIoU on source images",
        }
    gain = apart["running"] - apart["target"]
    what = f"costs {100 * price:.1f}" if price >= 0 else f"gains {-100 * price:.1f}"
    return {
        "safer": "target" if gain > CLEAR else "running",
        "why": f"the classes' shares are {100 * apart['target']:.1f} % of pixels apart from the source's with target "
        f"statistics and {100 * apart['running']:.1f} % with running ones, and re-estimation on source images {what} "
        "points of mIoU",
    }


def sentence(found: dict[str, Any], chosen: str) -> str:
    """One line for the log: what is safer, why, and what the run takes."""
    taken = "as the run does" if chosen == found["safer"] else f"but the run takes extract.bn_statistics={chosen}"
    return (
        f"batch-norm statistics for pseudo-labels: {found['safer']} look safer, {taken} ({found['why']}; both agree on "
        f"{100 * found['agreement']:.1f} % of {found['images']} target images)"
    )


def _look(predictor: Predictor, config: Config, target: Dataset, number: int, stop: Stop) -> Look:
    domain, batch = config.data.target, config.extract.batch
    mine = spread(len(target), number)[collectives.rank() :: collectives.world()]
    labels: list[np.ndarray] = []
    sums = np.zeros(2, np.float64)
    counts = np.zeros(256, np.int64)

    def work() -> Iterator[None]:
        for found in inference_batches(target, mine, size=domain.size, batch=batch, fit=domain.fit, leave_out=True):
            for logits in predictor(found.images)[: len(found.indices)] if found.indices else ():
                _add(logits)
            yield

    def _add(logits: Tensor) -> None:
        prob = torch.softmax(logits, 0)
        entropy = torch.special.entr(prob).sum(dtype=torch.float64) / float(np.log(len(prob)))
        labels.append(prob.argmax(0).to(torch.uint8).cpu().numpy())
        counts[:] += np.bincount(labels[-1].reshape(-1), minlength=256)
        sums[:] += float(entropy), labels[-1].size

    in_step(work(), stop)  # type: ignore[arg-type]
    total = collectives.all_reduce_(torch.from_numpy(sums)).tolist()
    sum_over_ranks(counts)
    classes = counts[: predictor.network.num_classes]
    return Look(labels, total[0] / max(total[1], 1), classes / max(int(counts.sum()), 1))
