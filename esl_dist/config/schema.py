"""Every option of the program: frozen dataclasses, one docstring line per option, checks in ``__post_init__``.

Defaults are the published constants of ESL and ADVENT (see the methods table of the README); the embedded pair and
every experiment override them in ``configs/``. A check that fails raises ``ValueError`` with one line that names the
key and the way out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from esl_dist.config.alignment import OBJECTIVES, AlignConfig, TermConfig
from esl_dist.config.domains import DataConfig, DomainConfig, StreetsConfig
from esl_dist.config.domains import require as _require
from esl_dist.config.entries import parse
from esl_dist.config.modes import MmdlConfig
from esl_dist.config.profile import ProfileConfig
from esl_dist.config.translation import TranslateConfig

__all__ = [
    "OBJECTIVES",
    "RULES",
    "STAGE_NAMES",
    "AlignConfig",
    "BnStatistics",
    "CheckpointConfig",
    "Config",
    "DataConfig",
    "DomainConfig",
    "EvalConfig",
    "ExtractConfig",
    "GuardConfig",
    "MmdlConfig",
    "ModelConfig",
    "OptimConfig",
    "Precision",
    "ProfileConfig",
    "PseudoLabelConfig",
    "RunConfig",
    "SelfTrainConfig",
    "StreetsConfig",
    "SupervisedConfig",
    "TermConfig",
    "TrackingConfig",
    "TranslateConfig",
]

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
BnStatistics = Literal["running", "target"]

STAGE_NAMES = ("initial", "source", "translate", "align", "selftrain", "oracle")
RULES = ("esl", "ssl", "median", "cbst")


@dataclass(frozen=True)
class RunConfig:
    """Where a run lives and what it runs on."""

    name: str = "run"
    """Names the run folder ``runs/<name>`` and the MLflow run."""
    dir: str = ""
    """The run folder itself; empty means ``runs/<name>``."""
    stages: tuple[str, ...] = ("source", "align", "selftrain")
    """Stages in order, each ``name`` or ``name:variant`` (``align:minent``, ``selftrain:ssl``); a variant overrides
    ``align.objective`` or ``pseudo_labels.rule``. ``+it`` after it takes source images as ``translate`` rewrote them,
    ``+it2`` as ``translate:2`` did."""
    adopted: tuple[str, ...] = ()
    """Entries of ``stages`` whose finished folders were put into the run folder (by a study): taken as they are,
    whatever options made them.
    """
    seed: int = 1
    """Seed of weights, data order and augmentation."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto`` takes CUDA where there is one and says so."""
    precision: Precision = "auto"
    """Arithmetic of forward and backward; ``auto`` is bf16 on CUDA and fp32 on CPU. Softmax, entropy and losses stay
    float32.
    """
    threads: int = 0
    """CPU threads of a rank while training; 0 shares the cores among the ranks of this machine."""
    inference_threads: int = 1
    """CPU threads of a rank in extraction and evaluation: a fixed number, because the bits of a convolution depend on
    it.
    """
    log_every: int = 20
    """Optimiser steps between two log lines; losses are read from the device only then."""
    deterministic: bool = True
    """Deterministic kernels: a resumed run equals an uninterrupted one bit for bit."""
    compile: bool = False
    """Compile the networks with torch.compile: a slower first step, then fused kernels; needs a C++ compiler on a CPU,
    Triton on a GPU.
    """
    timeout_s: int = 100
    """Seconds that a collective may take after the first step (300 before it)."""

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "run.seed", f"must be 0 or more, not {self.seed}")
        _require(self.threads >= 0, "run.threads", f"must be 0 (automatic) or more, not {self.threads}")
        _require(self.inference_threads >= 1, "run.inference_threads", "must be 1 or more")
        _require(self.log_every >= 1, "run.log_every", "must be 1 or more")
        _require(len(self.stages) > 0, "run.stages", f"is empty: name at least one of {', '.join(STAGE_NAMES)}")
        for entry in self.stages:
            parsed = parse(entry)
            name, variant = parsed.name, parsed.variant
            _require(name in STAGE_NAMES, "run.stages", f"unknown stage {entry!r}; known: {', '.join(STAGE_NAMES)}")
            known = {"align": OBJECTIVES, "selftrain": RULES, "translate": tuple("23456789")}.get(name, ())
            _require(
                not variant or variant in known,
                "run.stages",
                f"{entry!r}: {name} takes {', '.join(known) or 'no variant'} after the colon",
            )
            _require(
                not parsed.images or name in ("source", "align", "selftrain"),
                "run.stages",
                f"{entry!r}: +it is for source, align and selftrain",
            )
        _require(len(set(self.stages)) == len(self.stages), "run.stages", "names a stage twice")
        _require(set(self.adopted) <= set(self.stages), "run.adopted", "names a stage that run.stages has not")


@dataclass(frozen=True)
class ModelConfig:
    """DeepLab-v2 and its discriminators."""

    layers: tuple[int, int, int, int] = (3, 4, 23, 3)
    """Bottlenecks per residual layer; (3, 4, 23, 3) is ResNet-101."""
    width: int = 64
    """Channels of the stem; 64 is ResNet."""
    multi_level: bool = True
    """A second (aux) head on layer3."""
    aspp_branches: Literal[2, 4] = 4
    """Dilated convolutions summed by a head: 4 in ADVENT, ESL and BDL, 2 in AdaptSegNet and MaxSquare."""
    init: Literal["normal", "kaiming"] = "normal"
    """Distribution of the convolutions before a checkpoint is loaded: N(0, 0.01) as published, or Kaiming for training
    from nothing.
    """
    checkpoint: str = ""
    """Initial weights (ImageNet+COCO ResNet-101, or any lineage's checkpoint); empty starts from ``init``."""
    layout: str = "auto"
    """Lineage of ``checkpoint`` where its keys cannot tell: auto, advent, adaptsegnet, bdl, maxsquare,
    crst, resnet101.
    """
    bn: Literal["train", "frozen", "sync"] = "train"
    """Batch-norm statistics. The affine part is always frozen.

    train: of the batch, source and target each its own (as the papers; at one image a rank, of that image), running
    averages kept for evaluation. frozen: the running averages of the weights that a stage starts from, neither used up
    nor moved: N ranks then equal one process exactly. sync: as train, over the batch of all ranks: the statistics
    change with the number of ranks, and every layer waits for all (CUDA).
    """
    discriminator_width: int = 64
    """Channels of the first discriminator convolution (ndf)."""

    def __post_init__(self) -> None:
        _require(min(self.layers) >= 1, "model.layers", "needs at least one bottleneck per layer")
        _require(self.width >= 4, "model.width", "must be 4 or more")


@dataclass(frozen=True)
class OptimConfig:
    """SGD for the segmenter, Adam for the discriminators, polynomial decay for both."""

    batch: int = 1
    """Source images (and as many target images) per rank and micro-batch."""
    accumulate: int = 1
    """Micro-batches per optimiser step; the global batch is ranks x batch x accumulate."""
    count: Literal["steps", "samples"] = "steps"
    """What every stage's ``steps``, ``decay_steps`` and ``warmup`` count: optimiser steps, or source images of all
    ranks (rounded up to whole steps).
    """
    lr: float = 2.5e-4
    """Learning rate of the backbone."""
    head_lr: float = 10.0
    """Heads learn this many times faster."""
    scale_lr: Literal["none", "linear", "sqrt"] = "none"
    """Multiply ``lr`` and ``discriminator_lr`` by global batch / ``base_batch``, or by its square root."""
    base_batch: int = 1
    """Global batch that the rates are meant for (published: 1)."""
    warmup: int = 0
    """Steps at the start of a stage over which the rates rise linearly."""
    momentum: float = 0.9
    """SGD momentum."""
    weight_decay: float = 5e-4
    """SGD weight decay (1e-4 in the ESL paper)."""
    discriminator_lr: float = 1e-4
    """Adam learning rate of the discriminators and of DRSL's second head, betas (0.9, 0.99)."""
    power: float = 0.9
    """Exponent of the decay (1 - step/decay_steps)^power."""
    decay_steps: int = 250_000
    """Steps over which the rate decays to zero; a stage may stop earlier. 0 means the stage's own number of steps."""
    updates: Literal["once", "published"] = "once"
    """``published`` repeats each parameter's update as often as the published code lists it (about 3x the backbone
    rate).
    """
    backend: Literal["auto", "fused", "foreach", "apex"] = "auto"
    """Implementation of the update; ``auto`` is torch's fused one, ``apex`` NVIDIA's (see
    ``esl_dist/engine/apex.py``).
    """
    clip: float = 0.0
    """Maximum gradient norm of the segmenter; 0 does not clip."""

    def __post_init__(self) -> None:
        _require(self.batch >= 1, "optim.batch", "must be 1 or more")
        _require(self.accumulate >= 1, "optim.accumulate", "must be 1 or more")
        for name in ("lr", "head_lr", "discriminator_lr", "power"):
            _require(getattr(self, name) > 0, f"optim.{name}", "must be positive")
        _require(0 <= self.momentum < 1, "optim.momentum", "must be in [0, 1)")
        _require(self.decay_steps >= 0, "optim.decay_steps", "must be 0 or more")
        _require(self.base_batch >= 1, "optim.base_batch", "must be 1 or more")
        _require(self.warmup >= 0, "optim.warmup", "must be 0 (none) or more")
        _require(
            self.updates == "once" or self.backend not in ("fused", "apex"),
            "optim.updates",
            "published updates have their own implementation; use optim.backend=auto",
        )


@dataclass(frozen=True)
class SupervisedConfig:
    """Training on labels: the stages ``initial``, ``source`` and ``oracle``."""

    steps: int = 120_000
    """Optimiser steps."""

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "steps", "must be 1 or more")


@dataclass(frozen=True)
class PseudoLabelConfig:
    """Which pixels of the target become labels."""

    rule: Literal["esl", "ssl", "median", "cbst"] = "esl"
    """esl: entropy <= max(nu, median); ssl: probability >= min(mu, median); median: entropy <= median; cbst: portion
    per class.
    """
    nu: float = 0.1
    """ESL's entropy threshold, 0-1."""
    mu: float = 0.9
    """SSL's probability threshold, 0-1."""
    portion: float = 0.2
    """CBST's share of each class in the first round."""
    portion_growth: float = 0.05
    """Added to the portion each round, up to 0.5."""
    rank: Literal["keep", "lower", "upper", "reference"] = "keep"
    """Which order statistic is the median: keep = the tightest that keeps at least half; reference = the published
    code's.
    """
    ties: Literal["keep", "drop"] = "keep"
    """Pixels exactly at the threshold: kept (code) or dropped (the paper's strict sign)."""
    temperature: float = 1.0
    """The logits are divided by it before the softmax of the scores; above 1 softens them. Thresholds nu and mu mean
    the softened scores.
    """
    scores: Literal["exact", "library"] = "exact"
    """exact: the same bits on every machine; library: torch's interpolate, softmax and log, as the published code."""
    window: int = 0
    """Images per median as in the published code (3000); 0 uses the whole set."""

    def __post_init__(self) -> None:
        for name in ("nu", "mu", "portion"):
            _require(
                0 <= getattr(self, name) <= 1,
                f"pseudo_labels.{name}",
                f"must be between 0 and 1, not {getattr(self, name)}",
            )
        _require(self.window >= 0, "pseudo_labels.window", "must be 0 or more")
        _require(self.temperature > 0, "pseudo_labels.temperature", "must be above 0; 1 leaves the scores as they are")


@dataclass(frozen=True)
class ExtractConfig:
    """The forward over the target set that pseudo-labels are made from."""

    size: tuple[int, int] = (1024, 512)
    """Width and height of the pseudo-labels."""
    batch: int = 4
    """Images per forward; the last batch is padded so that every forward has this shape."""
    bn_statistics: BnStatistics = "running"
    """running: as left by training; target: re-estimated on unlabelled target images."""
    bn_images: int = 80
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
    shard: int = 32
    """Images per spool file."""

    def __post_init__(self) -> None:
        _require(self.batch >= 1, "extract.batch", "must be 1 or more")
        _require(1 <= self.shard <= 4096, "extract.shard", "must be between 1 and 4096")
        _require(
            not (self.from_spool and self.spool_dir),
            "extract.from_spool",
            "names the spool, so extract.spool_dir must be empty",
        )


@dataclass(frozen=True)
class SelfTrainConfig:
    """Re-training with pseudo-labels, alignment kept on."""

    steps: int = 120_000
    """Optimiser steps per round."""
    rounds: int = 1
    """Times that labels are made and the network re-trained."""
    init: Literal["initial", "source", "align", "teacher"] = "initial"
    """Weights every round starts from (the paper: initial); ``teacher`` goes on from the network that made
    its labels.
    """
    ema: float = 0.0
    """Decay of an exponential moving average of the weights; above 0 that average is a round's result: scored, and
    teacher of the next round.
    """
    weight: float = 1.0
    """Weight of the target cross-entropy on the main head."""
    weight_aux: float = 0.1
    """Weight of the target cross-entropy on the aux head."""
    label_weight: Literal["none", "confidence"] = "none"
    """confidence: a pixel counts by 1 - E (esl, median) or p (ssl) of its label, and the mean is the weighted one;
    none: all alike.
    """
    objective: str = "same"
    """Alignment kept on beside it: ``same`` as ``align.objective``, or any of its values (``none`` drops it)."""

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "selftrain.steps", "must be 1 or more")
        _require(self.rounds >= 1, "selftrain.rounds", "must be 1 or more")
        _require(0 <= self.ema < 1, "selftrain.ema", f"must be 0 (off) or more and below 1, not {self.ema}")


@dataclass(frozen=True)
class EvalConfig:
    """Evaluation on labelled target images."""

    split: str = "val"
    """The target split that is scored; empty skips evaluation (labels withheld)."""
    input_size: tuple[int, int] = (1024, 512)
    """Width and height that the network sees."""
    at: Literal["native", "crop"] = "native"
    """Score at the label's own size, or at ``input_size`` (as MaxSquare's numbers are)."""
    batch: int = 1
    """Images per forward."""
    bn_statistics: tuple[BnStatistics, ...] = ("running",)
    """Statistics to evaluate with; each gives a row."""
    every: int = 0
    """Steps between evaluations while training; 0 evaluates at the end of a stage only."""
    images: int = 0
    """Score the first so many images only; 0 scores all."""


@dataclass(frozen=True)
class CheckpointConfig:
    """What survives a kill."""

    every: int = 1000
    """Optimiser steps between checkpoints."""
    keep: int = 2
    """Newest checkpoints kept per stage."""
    background: bool = True
    """Write from a thread, so that the step does not wait."""

    def __post_init__(self) -> None:
        _require(self.every >= 1, "checkpoint.every", "must be 1 or more")
        _require(self.keep >= 1, "checkpoint.keep", "must be 1 or more")


@dataclass(frozen=True)
class GuardConfig:
    """What is done when numbers or replicas go bad."""

    non_finite: Literal["stop", "skip"] = "stop"
    """A gradient that is not finite: stop, or skip the step (state unchanged)."""
    max_skips: int = 10
    """Skipped steps in a row before the run stops."""
    replica_every: int = 500
    """Steps between comparisons of the weights over the ranks; 0 never compares."""


@dataclass(frozen=True)
class TrackingConfig:
    """Mirrors of ``metrics.jsonl``, which is the truth."""

    mlflow: bool = True
    """Mirror to MLflow; without the extra ``track`` the program says so once and goes on."""
    uri: str = ""
    """Tracking server; empty takes MLFLOW_TRACKING_URI or ``sqlite:///<runs>/mlflow.db``."""
    experiment: str = "esl_dist"
    """MLflow experiment."""


@dataclass(frozen=True)
class Config:
    """The whole configuration of a run."""

    protocol: Literal["ours", "paper", "code"] = "ours"
    """Where paper and published code differ: take the paper's, the code's, or this project's defaults."""
    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    initial: SupervisedConfig = field(default_factory=SupervisedConfig)
    source: SupervisedConfig = field(default_factory=SupervisedConfig)
    translate: TranslateConfig = field(default_factory=TranslateConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    mmdl: MmdlConfig = field(default_factory=MmdlConfig)
    pseudo_labels: PseudoLabelConfig = field(default_factory=PseudoLabelConfig)
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    selftrain: SelfTrainConfig = field(default_factory=SelfTrainConfig)
    oracle: SupervisedConfig = field(default_factory=SupervisedConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    profile: ProfileConfig = field(default_factory=ProfileConfig)

    def __post_init__(self) -> None:
        entries = [parse(word) for word in self.run.stages]
        stages = [entry.name for entry in entries]
        made: set[int] = set()
        for word, entry in zip(self.run.stages, entries, strict=True):
            if entry.name == "translate":
                made.add(entry.number)
            _require(
                not entry.images or entry.images in made,
                "run.stages",
                f"{word} needs translate{f':{entry.images}' if entry.images > 1 else ''} before it",
            )
        if self.translate.rounds > 1:
            _require(
                made == {1},
                "translate.rounds",
                "repeats the first translation and the stages marked +it: name translate once in run.stages, or the"
                " rounds there and leave this at 1",
            )
        if "selftrain" in stages:
            _require(
                any(s in stages[: stages.index("selftrain")] for s in ("align", "source", "initial")),
                "run.stages",
                "selftrain needs an align, source or initial stage before it to make its labels",
            )
        rules = {entry.variant or self.pseudo_labels.rule for entry in entries if entry.name == "selftrain"}
        _require(
            self.selftrain.label_weight == "none" or "cbst" not in rules,
            "selftrain.label_weight",
            "confidence is not defined for cbst, which relabels pixels; use esl, ssl or median, or none",
        )
        if self.selftrain.init == "align":
            _require("align" in stages, "selftrain.init", "align needs an align stage in run.stages")
        if not self.model.multi_level:
            _require(not self.align.self_guidance, "align.self_guidance", "needs two heads: set model.multi_level=true")
        if "oracle" in stages:
            _require(
                self.data.target.labelled,
                "run.stages",
                "oracle trains on target labels, but data.target.labelled is false",
            )
