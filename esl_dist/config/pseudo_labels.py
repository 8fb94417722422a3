"""Options of pseudo-labels: the rule, and the forward that they are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from esl_dist.config.bounds import Bound, NonNegativeInt, Pixels, PositiveFloat, PositiveInt, Share
from esl_dist.config.check import require
from esl_dist.config.scoring import BnStatistics, Precision

RULES = ("esl", "ssl", "median", "cbst")


@dataclass(frozen=True)
class PseudoLabelConfig:
    """Which pixels of the target become labels."""

    rule: Literal["esl", "ssl", "median", "cbst"] = "esl"
    """esl: entropy <= max(nu, median); ssl: probability >= min(mu, median); median: entropy <= median; cbst: portion
    per class.
    """
    nu: Share = 0.1
    """ESL's entropy threshold, 0-1."""
    mu: Share = 0.9
    """SSL's probability threshold, 0-1."""
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


@dataclass(frozen=True)
class ExtractConfig:
    """The forward over the target set that pseudo-labels are made from."""

    size: tuple[Pixels, Pixels] = (1024, 512)
    """Width and height of the pseudo-labels."""
    batch: PositiveInt = 4
    """Images per forward; the last batch is padded so that every forward has this shape."""
    bn_statistics: BnStatistics = "running"
    """running: as left by training; target: re-estimated on unlabelled target images."""
    bn_images: PositiveInt = 80
    """Images that ``target`` statistics are estimated on."""
    precision: Precision = "fp32"
    """Arithmetic of the forward."""
    spool: Literal["auto", "scores", "logits", "none"] = "auto"
    """What is kept on disk: label+score per pixel (auto on CPU), low-resolution logits (auto on CUDA), or nothing (two
    forwards).
    """
    spool_dir: str = ""
    """A fast, node-local folder for the spool; empty keeps it beside the labels."""
    from_spool: str = ""
    """Folder of a finished spool of the very teacher: the first round's labels are thresholded from it, and the network
    is not run.
    """
    shard: Annotated[int, Bound(1, 4096)] = 32
    """Images per spool file."""

    def __post_init__(self) -> None:
        require(
            not (self.from_spool and self.spool_dir),
            "extract.from_spool",
            "names the spool, so extract.spool_dir must be empty",
        )
