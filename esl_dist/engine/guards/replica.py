"""The ranks' weights must be the same bits; here is how a rank that drifts is found."""

from __future__ import annotations

import logging
from collections import Counter

import torch
from torch import Tensor, nn

from esl_dist.distributed import collectives

log = logging.getLogger(__name__)

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def weights_checksum(module: nn.Module) -> Tensor:
    """int64 ``[parameters]``: per parameter the sum of its bits read as integers, modulo 2^64. Exact in any order, and
    no copy is made.

    Buffers are left out: batch-norm statistics are each rank's own while it trains.
    """
    sums = [
        parameter.detach().view(_INTEGERS[parameter.element_size()]).sum(dtype=torch.int64)
        for parameter in module.parameters()
    ]
    return torch.stack(sums) if sums else torch.zeros(0, dtype=torch.int64)


def compare_replicas(module: nn.Module) -> list[int]:
    """Ranks whose weights differ from what most ranks hold (from rank 0's, where no majority exists); the same list on
    every rank.

    Costs one pass over the weights, one small all-reduce and one wait for the device. The first parameter that differs
    is logged.
    """
    own = weights_checksum(module)
    rows = torch.zeros((collectives.world(), len(own)), dtype=torch.int64, device=own.device)
    rows[collectives.rank()] = own
    table = [tuple(row) for row in collectives.all_reduce_(rows).tolist()]
    common, count = Counter(table).most_common(1)[0]
    reference = common if 2 * count > len(table) else table[0]
    drifted = [rank for rank, row in enumerate(table) if row != reference]
    for rank in drifted:
        names = [
            name for (name, _), a, b in zip(module.named_parameters(), table[rank], reference, strict=True) if a != b
        ]
        log.error(
            "rank %d: %d of %d parameters differ from the other ranks, first %s",
            rank,
            len(names),
            len(reference),
            names[0],
        )
    return drifted
