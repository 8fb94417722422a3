"""The commands: each a ``main(argv)`` in a file of its own, run by ``esl_dist <name>``.

This is the one list of them: the command line, its help and completion, and the container's entry point read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Command:
    """One command."""

    name: str
    text: str
    """What it does, in half a line."""
    ranks: str = ""
    """``all``: launchers start it on every GPU; ``some``: on as many ranks as asked for; empty: it works alone."""


_KNOWN = (
    Command("train", "train every stage of a configuration, label and score", ranks="all"),
    Command("extract", "make pseudo-labels of a checkpoint", ranks="all"),
    Command("evaluate", "score a checkpoint on labelled images", ranks="all"),
    Command("predict", "segment images, folders and videos with a checkpoint", ranks="all"),
    Command("export", "write a checkpoint's network for other programs"),
    Command("data", "look at a folder of images and write a configuration for it"),
    Command("translate", "rewrite a domain's images in the other's look", ranks="all"),
    Command("tune", "run a study: trials over options"),
    Command("report", "write the pages and tables of runs and studies"),
    Command("prepare", "resize a data set once, check every file", ranks="some"),
    Command("doctor", "check this machine, or all machines of a start", ranks="some"),
    Command("bench", "measure this machine", ranks="some"),
    Command("streets", "write the embedded pair of domains"),
)
COMMANDS = {known.name: known for known in _KNOWN if (Path(__file__).parent / f"{known.name}.py").is_file()}
"""Name -> command, in the order of the help."""
