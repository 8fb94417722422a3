"""The way an entry ends: its exit code, and one line where something went wrong."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from esl_dist.entries import COMMANDS, launching, streams
from esl_dist.entries.failures import LOST_PEER, explained, one_line
from esl_dist.errors import StoppedBySignal

STOPPED = 130
"""Exit code where a signal asked for the end and what was asked for is not there."""
WITHOUT_STATE = frozenset(COMMANDS) - {"train"}
"""Commands whose end by a signal is no success: what a script would read next is missing, or of an earlier call."""
FIRST_RANK_S = 3.0
"""A mistake that all ranks make before they have met is rank 0's to tell: the others wait so long for it, and the
launcher ends them meanwhile. Likewise whoever lost a peer: that one's own message comes first.
"""


def run(main: Callable[..., int], argv: Sequence[str] | None = None) -> NoReturn:
    """Run an entry and exit. What a user or the machine does wrong becomes one line and exit code 2 or 1, on rank 0
    alone where all ranks make the same mistake; ``--nproc N`` starts the ranks instead.
    """
    streams.mend()
    code: int | str | None = 1
    name = main.__module__.rpartition(".")[2]
    try:
        words = list(sys.argv[1:] if argv is None else argv)
        if launching.asks_for_ranks(words) and name in COMMANDS:
            code = launching.launch(name, words)
        else:
            code = main() if argv is None else main(argv)
    except StoppedBySignal:
        code = STOPPED if name in WITHOUT_STATE else 0
    except KeyboardInterrupt:
        code = STOPPED
    except SystemExit as end:
        code = end.code
    except Exception as error:
        found = None if os.environ.get("ESL_DIST_DEBUG") else explained(error)
        if found is None:
            raise
        _tell(error, found[0])
        code = found[1]
    finally:
        streams.finish()
    _leave(code)


def _leave(code: int | str | None) -> NoReturn:
    """Exit; a rank without taking its native threads down, which aborts now and then after a peer is gone
    ("terminate called without an active exception") and would put 134 in the place of the exit code.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1" or isinstance(code, str):
        sys.exit(code)
    threading._shutdown()  # type: ignore[attr-defined]  # what the interpreter does first: threads that still work,
    atexit._run_exitfuncs()  # then whoever asked to be called
    streams.finish()
    os._exit(code or 0)


def _tell(error: Exception, text: str) -> None:
    rank = os.environ.get("RANK", "0")
    agreed = getattr(error, "every_rank", None)
    if rank != "0" and agreed:
        return
    if (rank != "0" and agreed is None) or text == LOST_PEER:
        time.sleep(FIRST_RANK_S)
    where = f" (rank {rank})" if rank != "0" or agreed is False else ""
    print(f"esl_dist: error{where}: {one_line(text)}", file=sys.stderr, flush=True)
