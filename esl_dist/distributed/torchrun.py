"""``python -m esl_dist.distributed.torchrun …``: torchrun, its stores listening on the named address only
(``--standalone``: the loopback).
"""

from __future__ import annotations

import os
import sys

import torch.distributed as dist
from torch.distributed.elastic.rendezvous import c10d_rendezvous_backend, static_tcp_rendezvous
from torch.distributed.run import main

from esl_dist.distributed.listening import LOOPBACK, bound_store


def restrain() -> None:
    """Put the bound store where torchrun makes its own: for the rendezvous, and for the ranks."""
    for module in (c10d_rendezvous_backend, static_tcp_rendezvous, dist):
        setattr(module, "TCPStore", bound_store)  # noqa: B010  (its own type is not this function's)


def options(given: list[str]) -> list[str]:
    """``--standalone`` names no address for the ranks, and torchrun takes the host's: it is the loopback."""
    names = {
        word.partition("=")[0].replace("_", "-") for word in given[: given.index("-m") if "-m" in given else len(given)]
    }
    return [f"--local-addr={LOOPBACK}", *given] if "--standalone" in names and "--local-addr" not in names else given


def set_threads() -> None:
    """What torchrun sets itself under a banner; a rank then gives torch its share of the cores (``run.threads``)."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


if __name__ == "__main__":
    restrain()
    set_threads()
    sys.exit(main(options(sys.argv[1:])))
