"""How NCCL adds, fixed before its group is brought up, so that a run that is gone on with adds in the same order.

Left alone NCCL chooses an algorithm and a protocol for every size of message from what it finds of the machine. Two
starts on the same machines mostly agree, but nothing promises it, and a ring and a tree give other last bits.
"""

from __future__ import annotations

import logging
import os

from esl_dist.distributed import listening

log = logging.getLogger(__name__)

FIXED = {"NCCL_ALGO": "Ring", "NCCL_PROTO": "Simple"}
"""The algorithm that every collective has, and the protocol that every connection has."""


def fix_order() -> None:
    """Name algorithm and protocol in the environment; what is set there already stays, and rank 0 says so."""
    given = [f"{name}={os.environ[name]}" for name, value in FIXED.items() if os.environ.get(name, value) != value]
    for name, value in FIXED.items():
        os.environ.setdefault(name, value)
    if given and listening.told("RANK", 0) == 0:
        log.info(
            "%s as the environment has it: sums over more than two ranks repeat their bits only where NCCL chooses"
            " alike again",
            ", ".join(given),
        )
