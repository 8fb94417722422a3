"""A rank for tests of launchers: writes what it was started with, then obeys its first argument.

``python -m tests.cluster.worker MODE FOLDER``: ``save`` waits for SIGTERM, writes ``saved-<rank>`` and exits 0;
``deaf`` ignores SIGTERM; ``fail`` exits 3; ``done`` exits 0; ``slow-start`` installs its handler only after two
seconds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> int:
    mode, folder = sys.argv[1], Path(sys.argv[2])
    rank = os.environ["RANK"]
    if mode == "slow-start":
        (folder / f"importing-{rank}").touch()
        time.sleep(2)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number) if mode != "deaf" else None)
    seen = {
        name: os.environ.get(name)
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "TORCHELASTIC_RUN_ID")
    }
    (folder / f"started-{rank}").write_text(json.dumps({**seen, "arguments": sys.argv[3:]}))
    if mode == "fail":
        return 3
    if mode == "done":
        return 0
    while not stopped:
        time.sleep(0.05)
    time.sleep(0.3)
    (folder / f"saved-{rank}").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
