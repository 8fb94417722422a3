"""What keeps a run from going wrong together: one run per folder, one stop for all ranks, no orphan, no drifting
replica.

The finite check of gradients is part of the update (``engine/update.py``): it shares that step's all-reduce.
"""

from esl_dist.engine.guards.lock import RunLock, alone_in
from esl_dist.engine.guards.parent import die_with_parent
from esl_dist.engine.guards.replica import compare_replicas, weights_checksum
from esl_dist.engine.guards.signals import StopFlag

__all__ = ["RunLock", "StopFlag", "alone_in", "compare_replicas", "die_with_parent", "weights_checksum"]
