"""Pseudo-labels by exact per-class thresholds, usable without the trainer: :func:`from_logits` is the shortest way."""

from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.pseudo_labels.api import from_logits
from esl_dist.pseudo_labels.confidence import confidence_map
from esl_dist.pseudo_labels.selection import class_quantiles
from esl_dist.pseudo_labels.sets.label_sets import LabelSet

__all__ = ["LabelSet", "PseudoLabelConfig", "class_quantiles", "confidence_map", "from_logits"]
