"""How a run ends before its end, beside ``ValueError`` for what a user can mend in a command, a file or an option."""

from __future__ import annotations


class RunFailure(RuntimeError):
    """A run that cannot go on although nobody asked for anything wrong; all ranks raise it together. One line, exit
    code 1.
    """

    every_rank = True


class StoppedBySignal(Exception):
    """A signal asked for the end: what can be kept is kept, every rank leaves at the same place. Exit code 0 of a
    training, whose state is saved, 130 of a command that has no result yet.
    """
