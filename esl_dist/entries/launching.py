"""``--nproc N`` on an entry's command line: this process becomes the launcher of N ranks of the same command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from esl_dist import launcher
from esl_dist.entries import COMMANDS

FLAG = "--nproc"


def asks_for_ranks(words: Sequence[str]) -> bool:
    """Whether the ranks are still to be started."""
    return any(word == FLAG or word.startswith(f"{FLAG}=") for word in words)


def launch(name: str, words: Sequence[str]) -> int:
    """Run ``esl_dist <name>`` on the ranks that the words ask for; their exit code.

    Raises:
        ValueError: a number that is none, a command that works alone, ranks inside of ranks.
    """
    rest: list[str] = []
    asked = ""
    waiting = iter(words)
    for word in waiting:
        if word == FLAG:
            asked = next(waiting, "")
        elif word.startswith(f"{FLAG}="):
            asked = word.partition("=")[2]
        else:
            rest.append(word)
    ranks = launcher.ranks_of(asked)
    if not COMMANDS[name].ranks:
        raise ValueError(f"{FLAG}: {name} works alone; leave it out")
    if "RANK" in os.environ:
        raise ValueError(f"{FLAG}: this process is a rank already (RANK={os.environ['RANK']}); leave it out")
    return launcher.launch([sys.executable, "-m", "esl_dist", name, *rest], ranks)
