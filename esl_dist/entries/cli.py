"""What every entry shares: its arguments and the way it ends."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from esl_dist.config.load import load_config
from esl_dist.config.schema import Config
from esl_dist.errors import RunFailure, StoppedBySignal

USAGE_ERROR, RUN_ERROR = 2, 1


def parser(module: str, description: str) -> argparse.ArgumentParser:
    """Arguments of ``python -m esl_dist.<module>``: ``--config FILE`` and any number of ``section.option=value``."""
    made = argparse.ArgumentParser(prog=f"esl_dist.{module}", description=description)
    made.add_argument("--config", metavar="FILE", help="YAML file (default: the embedded pair, configs/streets.yaml)")
    made.add_argument(
        "options",
        nargs="*",
        metavar="section.option=value",
        help="options on top of the file; see esl_dist/config/schema.py",
    )
    return made


def parse(made: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, Config]:
    """Arguments and the configuration that they name."""
    arguments = made.parse_intermixed_args(argv)
    return arguments, load_config(arguments.config, arguments.options)


def run(main: Callable[[], int]) -> None:
    """Run an entry: a user's mistake becomes one line and exit code 2, on rank 0 alone where all ranks make the same
    one.
    """
    try:
        code = main()
    except (ValueError, RunFailure) as error:
        rank = os.environ.get("RANK", "0")
        alone = not getattr(error, "every_rank", True)
        if rank == "0" or alone:
            where = f" (rank {rank})" if alone else ""
            print(f"esl_dist: error{where}: {error}", file=sys.stderr, flush=True)
        code = RUN_ERROR if isinstance(error, RunFailure) else USAGE_ERROR
    except StoppedBySignal:
        code = 0
    except KeyboardInterrupt:
        code = 130
    sys.stdout.flush()
    sys.exit(code)
