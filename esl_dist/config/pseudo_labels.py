"""Options of pseudo-labels: the rule, and the forward that they are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from esl_dist.config.bounds import Bound, NonNegativeFloat, NonNegativeInt, Pixels, PositiveFloat, PositiveInt, Share
from esl_dist.config.check import require
from esl_dist.config.scoring import BnStatistics, ForwardPrecision

RULES = ("esl", "ssl", "median", "cbst", "margin", "views")
CONFIDENCES = {
    "esl": ("entropy",),
    "ssl": ("probability",),
    "cbst": ("probability",),
    "margin": ("margin", "logit_margin"),
    "median": ("entropy", "probability", "margin", "logit_margin"),
    "views": ("entropy", "probability", "margin", "logit_margin"),
}
"""What a rule can select by."""


@dataclass(frozen=True)
class PseudoLabelConfig:
    """Which pixels of the target become labels."""

    rule: Literal["esl", "ssl", "median", "cbst", "margin", "views"] = "esl"
    """esl: entropy <= max(nu, median); ssl: probability >= min(mu, median); median: entropy <= median; cbst: portion
    per class; margin: margin of logits >= min(margin, median); views: as ssl, with the mean over mirror and scales.
    """
    confidence: Literal["auto", "entropy", "probability", "margin", "logit_margin"] = "auto"
    """What a pixel is selected by where the rule leaves it open (margin, median, views): entropy, the largest
    probability p1, the margin p1 - p2, or the margin of logits ln p1 - ln p2; ``auto`` is the rule's own.
    """
    nu: Share = 0.1
    """ESL's entropy threshold, 0-1."""
    mu: Share = 0.9
    """SSL's probability threshold, 0-1."""
    margin: Annotated[float, Bound(0, 87.5)] = 2.2
    """The threshold of a margin: of logits in nats (2.2 is odds of 9 to 1), of probabilities 0-1."""
    share: Annotated[float, Bound(0, 1, above=True)] = 0.5
    """Share of each class that the median stands for: 0.5 keeps at least half; needs rank=keep where it is another."""
    scope: Literal["class", "global"] = "class"
    """The order statistic is taken of every class for itself, or of all pixels together."""
    views_mirror: bool = True
    """Rule ``views``: average with the mirrored image."""
    views_scales: tuple[PositiveFloat, ...] = (1.0,)
    """Rule ``views``: average over these factors of the input size; one forward each, two with the mirror."""
    views_heads: bool = False
    """Rule ``views``: average the aux head with the main head (networks that have one)."""
    views_teacher: bool = False
    """Rule ``views``: average the network with the other one that its stage trained with: a student's averaged teacher,
    or a teacher's student (``daformer``, ``mic``, …, ``selftrain.ema``). Twice the forwards.
    """
    portion: Share = 0.2
    """CBST's share of each class in the first round."""
    portion_growth: Share = 0.05
    """Added to the portion each round, up to 0.5."""
    rank: Literal["keep", "lower", "upper", "reference"] = "keep"
    """Which order statistic is the median: keep = the tightest that keeps at least half; reference = the published
    code's.
    """
    ties: Literal["keep", "drop"] = "keep"
    """Pixels exactly at the threshold: kept (code) or dropped (the paper's strict sign)."""
    temperature: PositiveFloat = 1.0
    """The logits are divided by it before the softmax of the scores; above 1 softens them. Thresholds nu and mu mean
    the softened scores.
    """
    scores: Literal["exact", "library"] = "exact"
    """exact: the same bits on every machine; library: torch's interpolate, softmax and log, as the published code."""
    window: NonNegativeInt = 0
    """Images per median as in the published code (3000); 0 uses the whole set."""

    def __post_init__(self) -> None:
        allowed = CONFIDENCES[self.rule]
        require(
            self.confidence in ("auto", *allowed),
            "pseudo_labels.confidence",
            f"pseudo_labels.rule={self.rule} selects by {' or '.join(allowed)}; leave it at auto, or take rule=median",
        )
        require(
            self.margin <= 1 or self.confidence != "margin" or self.rule == "median",
            "pseudo_labels.margin",
            f"must be at most 1 for a margin of probabilities, not {self.margin}; 0.8 is that of 0.9 and 0.1",
        )
        require(
            self.share == 0.5 or (self.rank == "keep" and self.rule != "cbst"),
            "pseudo_labels.share",
            "another share than one half needs pseudo_labels.rank=keep (and is pseudo_labels.portion for rule=cbst)",
        )
        require(
            self.scope == "class" or self.rule != "cbst",
            "pseudo_labels.scope",
            "cbst is a rule per class; take scope=class",
        )
        require(len(self.views_scales) > 0, "pseudo_labels.views_scales", "needs one factor or more, such as [1]")


@dataclass(frozen=True)
class ExtractConfig:
    """The forward over the target set that pseudo-labels are made from."""

    size: tuple[Pixels, Pixels] = (1024, 512)
    """Width and height of the pseudo-labels."""
    batch: PositiveInt = 4
    """Images per forward, one where the device's logits depend on the place in a batch; the last batch is padded so
    that every forward has this shape.
    """
    bn_statistics: BnStatistics = "running"
    """running: as left by training; target: re-estimated on unlabelled target images."""
    bn_images: PositiveInt = 80
    """Images that ``target`` statistics are estimated on."""
    precision: ForwardPrecision = "fastest"
    """Arithmetic of the forward: the training's (auto), or the device's fastest (bf16 or tf32 on a GPU, fp32 on a CPU);
    ``thresholds.json`` names it.
    """
    spool: Literal["auto", "scores", "logits", "memory", "none"] = "auto"
    """What is kept between the passes: label+score per pixel on disk (auto on CPU), low-resolution logits on disk (auto
    on CUDA), the logits in the device's memory, or nothing (two forwards).
    """
    memory: NonNegativeFloat = 0.0
    """GiB of a device's memory that logits may take with spool=memory; 0 is half of what is free. More is spooled on
    disk.
    """
    spool_dir: str = ""
    """A fast, node-local folder for the spool; empty keeps it beside the labels."""
    from_spool: str = ""
    """Folder of a finished spool of the very teacher: the first round's labels are thresholded from it, and the network
    is not run.
    """
    check_statistics: NonNegativeInt = 24
    """Images of each domain that ``running`` and ``target`` statistics are compared on before labels are made, without
    target labels: log and selection page say which look safer. 0 compares nothing.
    """
    compare: NonNegativeInt = 0
    """Images on which every confidence is judged by ground truth, for the selection page: the target's where it is
    labelled, the source's where not. 0 compares nothing; the figures cost nine forwards an image, one more of a network
    with two heads and two more of a stage with a teacher.
    """
    held_out: str = ""
    """Split of the source (its owner's name for it) that no stage trains on, for both of these; empty takes evenly
    spaced training images, on which every figure is too good.
    """
    shard: Annotated[int, Bound(1, 4096)] = 32
    """Images per spool file."""

    def __post_init__(self) -> None:
        require(
            not (self.from_spool and self.spool_dir),
            "extract.from_spool",
            "names the spool, so extract.spool_dir must be empty",
        )
