"""What every entry shares: its arguments, the configuration that they name, and the way it ends."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from esl_dist import __version__
from esl_dist.config.load import dump, load_config
from esl_dist.config.schema import Config
from esl_dist.entries import COMMANDS
from esl_dist.entries.arguments import OWN, PAIR, Parser, at_least, file_to_write
from esl_dist.entries.ending import run
from esl_dist.prediction.checkpoints import NETWORK, find_checkpoint, own_configuration

__all__ = ["OWN", "Parser", "at_least", "configuration", "file_to_write", "note", "parse", "parser", "run"]


def parser(name: str, description: str, schema: type | None = Config, default: str = PAIR) -> Parser:
    """Arguments of ``esl_dist <name>``; with a ``schema``, ``--config FILE`` (``default``: what it is without) and any
    number of ``section.option=value``.
    """
    made = Parser(prog=f"esl_dist {name}", description=description, allow_abbrev=False)
    made.schema = schema
    made.add_argument("--version", action="version", version=f"esl_dist {__version__}")
    if name in COMMANDS and COMMANDS[name].ranks:
        made.add_argument("--nproc", metavar="N", help="start N ranks of this machine (gpu: one per GPU)")
    if schema is not None:
        made.add_argument("--config", metavar="FILE", help=f"YAML file (default: {default})")
        made.add_argument("--print-config", action="store_true", help="print the resolved configuration and end")
        made.add_argument(
            "options",
            nargs="*",
            metavar="section.option=value",
            help="options on top of the file; they are listed below",
        )
    return made


def parse(
    made: argparse.ArgumentParser, argv: Sequence[str] | None = None, network: str = NETWORK
) -> tuple[argparse.Namespace, Config]:
    """Arguments and the configuration that they name; without ``--config`` (``arguments.own``) that of a checkpoint's
    own run, or what it says of itself. ``--checkpoint`` may be a stage's or a run's folder; of a run the last stage
    that trained ``network``.
    """
    arguments = made.parse_intermixed_args(argv)
    arguments.own = arguments.config is None
    words: list[str] = []
    checkpoint = getattr(arguments, "checkpoint", None)
    if checkpoint is not None:
        several = isinstance(checkpoint, list)
        found = [find_checkpoint(path, network) for path in (checkpoint if several else [checkpoint])]
        arguments.checkpoint = found if several else found[0]
        if arguments.own:
            arguments.config, words = own_configuration(found[0])
    return arguments, configuration(arguments, words)


def configuration(arguments: argparse.Namespace, before: Sequence[str] = ()) -> Config:
    """The configuration that parsed arguments name, their options on top of those ``before``; ends here where it was
    only to be printed.
    """
    config = load_config(arguments.config, [*before, *arguments.options], note)
    if getattr(arguments, "print_config", False):
        if os.environ.get("RANK", "0") == "0":
            print(dump(config), end="", flush=True)
        raise SystemExit(0)
    return config


def note(text: str) -> None:
    """A line for the user, once for all ranks."""
    if os.environ.get("RANK", "0") == "0":
        print(f"esl_dist: note: {text}", file=sys.stderr, flush=True)
