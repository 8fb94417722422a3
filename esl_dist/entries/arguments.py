"""Arguments whose mistakes are one line, and a help that lists the options of the schema too."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from esl_dist.config.describe import sections
from esl_dist.entries.failures import one_line

PAIR, OWN = "the embedded pair, configs/streets.yaml", "what the checkpoint says of itself, or its run's"
"""The configuration of a command where none is named: OWN where it takes a checkpoint."""


class Parser(argparse.ArgumentParser):
    """Arguments whose mistakes are one line, and a help that lists the options of the schema too."""

    schema: type | None = None

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; {self.prog} --help lists the arguments")

    def format_help(self) -> str:
        return super().format_help() + ("" if self.schema is None else f"\n{_options_help(self.schema)}")


def _options_help(schema: type) -> str:
    lines = ["options, as section.option=value (or in a file, see --config):"]
    for section in sections(schema):
        lines += ["", f"{section.name}: {one_line(section.text)}"] if section.text else [""]
        for option in section.options:
            lines.append(f"  {option.key}={option.shown_default}    {option.kind}")
            lines += [f"      {line}" for line in option.text.splitlines()]
    return "\n".join(lines) + "\n"


def at_least(low: float, name: str, value: Any) -> None:
    """An entry's own number: ``ValueError`` with one line that names it where it is smaller, NaN or infinite."""
    if value is not None and not low <= value < float("inf"):
        raise ValueError(f"{name}: must be {low:g} or more, not {value}")


def file_to_write(name: str, path: Path) -> None:
    """Make the folder of a file that is written after minutes of work; ``ValueError`` where it could not be then."""
    if path.is_dir():
        raise ValueError(f"{name}: {path} is a folder; name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise ValueError(f"{name}: {path} cannot be written ({error.strerror or error})") from None
