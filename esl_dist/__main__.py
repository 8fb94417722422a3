"""``esl_dist COMMAND …`` and ``python -m esl_dist COMMAND …``: every command by one name; see ``esl_dist --help``."""

from __future__ import annotations

import difflib
import importlib
import signal
import sys
from collections.abc import Sequence

import esl_dist
from esl_dist.entries import COMMANDS

USAGE = "esl_dist COMMAND [--config FILE] [--nproc N] [section.option=value ...]"


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    # Until the command is loaded there is nothing to save: Ctrl-C then ends without a traceback of imports.
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    words = list(sys.argv[1:] if argv is None else argv)
    first = words[0] if words else "--help"
    if first in ("-h", "--help", "help"):
        print(_help())
        sys.exit(0)
    if first == "--version":
        print(f"esl_dist {esl_dist.__version__}")
        sys.exit(0)
    from esl_dist.entries import cli  # after the words that need nothing of it

    if first == "--completion":
        from esl_dist.entries import completion

        cli.run(completion.main, words[1:])
    if first not in COMMANDS:
        cli.run(_unknown, words)
    entry = importlib.import_module(f"esl_dist.entries.{first}").main
    signal.signal(signal.SIGINT, interrupted)
    cli.run(entry, words[1:])


def _help() -> str:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {command.name:{width}}  {command.text}" for command in COMMANDS.values())
    return (
        f"usage: {USAGE}\n\n{esl_dist.__doc__}\n\ncommands:\n{listed}\n\n"
        "esl_dist COMMAND --help lists a command's arguments and every option. --nproc N (or gpu) starts N ranks\n"
        "of this machine; torchrun -m esl_dist.COMMAND works too. esl_dist --version; esl_dist --completion bash|zsh\n"
        "prints a script to source."
    )


def _unknown(words: Sequence[str]) -> int:
    close = difflib.get_close_matches(words[0], COMMANDS, n=1)
    raise ValueError(f"{words[0]!r} is no command; " + (f"did you mean {close[0]}?" if close else ", ".join(COMMANDS)))


if __name__ == "__main__":
    main()
