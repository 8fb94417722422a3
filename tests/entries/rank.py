"""A rank for the tests of the launcher: meets its peers, says who listens where, and then does as it is told."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from esl_dist.config.schema import RunConfig
from esl_dist.distributed import collectives
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.guards import StopFlag, die_with_parent
from esl_dist.entries import cli
from esl_dist.errors import StoppedBySignal
from tests.entries.sockets import listening


def main() -> int:
    mode, folder, rank = sys.argv[1], Path(sys.argv[2]), int(os.environ["RANK"])
    if mode == "before" and rank == 1:
        raise ValueError("rank 1 alone cannot begin")
    if mode == "all":
        raise ValueError("nobody can begin")
    die_with_parent()
    with Runtime.start(RunConfig(device="cpu"), folder) as runtime, StopFlag() as stop:
        collectives.barrier()
        (folder / f"listening-{rank}").write_text("\n".join(listening(os.getpid())))
        collectives.barrier()
        if mode == "kill" and rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "one" and rank == 1:
            raise ValueError("rank 1 alone has a fault")
        while mode in ("wait", "kill"):
            if collectives.all_max(int(stop.local)):
                (folder / f"saved-{rank}").touch()
                raise StoppedBySignal
            time.sleep(0.02)
        if mode == "one":
            collectives.barrier()
        assert runtime.world == int(os.environ["WORLD_SIZE"])
    return 0


if __name__ == "__main__":
    cli.run(main)
