"""Every option of the program: frozen dataclasses, one docstring line per option, checks in ``__post_init__``.

Each section lies in a file of its own. Defaults are the published constants of ESL and ADVENT (see the methods table of
the README); the embedded pair and every experiment override them in ``configs/``. A check that fails raises
``ValueError`` with one line that names the key and the way out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from esl_dist.config import bounds
from esl_dist.config.alignment import OBJECTIVES, AlignConfig, TermConfig
from esl_dist.config.domains import DataConfig, DomainConfig, StreetsConfig
from esl_dist.config.keeping import CheckpointConfig, GuardConfig, TrackingConfig
from esl_dist.config.model import DeepLabV2Config, EfficientNetConfig, ModelConfig
from esl_dist.config.modes import MmdlConfig
from esl_dist.config.optim import OptimConfig, SupervisedConfig
from esl_dist.config.profile import ProfileConfig
from esl_dist.config.pseudo_labels import RULES, ExtractConfig, PseudoLabelConfig
from esl_dist.config.run import RunConfig
from esl_dist.config.scoring import BnStatistics, EvalConfig, Precision
from esl_dist.config.selftrain import SelfTrainConfig
from esl_dist.config.teacher import TeacherConfig
from esl_dist.config.translation import TranslateConfig

__all__ = [
    "OBJECTIVES",
    "RULES",
    "AlignConfig",
    "BnStatistics",
    "CheckpointConfig",
    "Config",
    "DataConfig",
    "DeepLabV2Config",
    "DomainConfig",
    "EfficientNetConfig",
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
    "TeacherConfig",
    "TermConfig",
    "TrackingConfig",
    "TranslateConfig",
]


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
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    oracle: SupervisedConfig = field(default_factory=SupervisedConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    profile: ProfileConfig = field(default_factory=ProfileConfig)

    def __post_init__(self) -> None:
        bounds.check(self)
