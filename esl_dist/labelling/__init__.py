"""From a checkpoint to label sets: a run's options, its network and its target set put together, and what can be known
about the labels before anybody learns from them.
"""

from esl_dist.labelling.evidence import gather_evidence, require_held_out
from esl_dist.labelling.open import file_sha256, open_extraction, rules_of, statistics_batches

__all__ = [
    "file_sha256",
    "gather_evidence",
    "open_extraction",
    "require_held_out",
    "rules_of",
    "statistics_batches",
]
