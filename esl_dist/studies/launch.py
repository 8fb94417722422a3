"""What a trial's process begins with: ``python -m esl_dist.studies.launch PARENT RUN_DIR RANKS COMMAND …`` is
``esl_dist COMMAND … --nproc RANKS`` that does not outlive its parent.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from esl_dist.engine.guards import RunLock
from esl_dist.launcher import launch
from esl_dist.processes import end_with

WAIT_S = 120.0
"""Ranks whose launcher was killed save before they leave; a new start waits so long for them."""


def main() -> None:
    parent, run_dir, ranks = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    if not end_with(parent, signal.SIGTERM):
        sys.exit("the study ended before this trial began")
    _wait_for(run_dir)
    sys.exit(launch([sys.executable, "-m", "esl_dist", *sys.argv[4:]], ranks))


def _wait_for(run_dir: Path) -> None:
    """Until nobody works in the run folder, or until it is the training's own task to say who does."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        try:
            RunLock(run_dir).acquire().release()
            return
        except ValueError:
            time.sleep(0.2)


if __name__ == "__main__":
    main()
