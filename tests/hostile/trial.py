"""One hostile input, and what counts as a good answer to it.

A case runs a command (or a reader) and is good if it was refused in at most three lines of ours, or answered rightly;
never a traceback, never anything new on disk outside the folders that it names.
"""

from __future__ import annotations

import contextlib
import io
import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from esl_dist import __main__ as command

LINES = 3


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
    trace: str = ""


@dataclass(frozen=True)
class Case:
    """A generated input: its kind, its words for a person, and the run that says what was wrong (empty: nothing)."""

    kind: str
    what: str
    run: Callable[[], tuple[bool, str]]
    """Whether it was refused, and what was wrong with the answer."""


@dataclass
class Tally:
    """Counts of cases by kind, and the bad ones."""

    ok: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    def take(self, case: Case) -> None:
        try:
            refused, wrong = case.run()
        except Exception:
            refused, wrong = False, traceback.format_exc()[-1500:]
        (self.refused if refused else self.ok)[case.kind] += 1
        if wrong:
            self.bad.append(f"{case.kind}: {case.what}: {wrong}")

    def __str__(self) -> str:
        kinds = sorted(self.ok.keys() | self.refused.keys())
        each = [
            f"{kind} {self.ok[kind] + self.refused[kind]} (ok {self.ok[kind]}, refused {self.refused[kind]})"
            for kind in kinds
        ]
        return f"{sum(self.ok.values()) + sum(self.refused.values())} tried: {'; '.join(each)}; bad {len(self.bad)}"


def call(words: Sequence[str]) -> Ended:
    """``esl_dist words`` in this process."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    trace = ""
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command.main(words)
        except SystemExit as end:
            code = end.code
        except BaseException:
            code, trace = 1, traceback.format_exc()
    return Ended(code if isinstance(code, int) else 1 if code else 0, out.getvalue(), err.getvalue(), trace)


def complaint(ended: Ended) -> str:
    """What is wrong with the way a command ended, its result aside."""
    if ended.trace or "Traceback" in ended.err:
        return (ended.trace or ended.err)[-1500:]
    lines = [line for line in ended.err.splitlines() if line]
    if ended.code and not lines:
        return f"exit code {ended.code} without a word"
    if ended.code and not any(line.startswith("esl_dist: error") for line in lines):
        return f"exit code {ended.code}, and no line says what: {lines[:3]}"
    if ended.code and len(lines) > LINES:
        return f"{len(lines)} lines: {lines[:5]}"
    return "" if ended.code in (0, 1, 2) else f"exit code {ended.code}"


@contextlib.contextmanager
def untouched(folder: Path, *allowed: str) -> Iterator[list[str]]:
    """The working directory is ``folder``; the list then names what is new in it but not allowed."""
    before, found = _names(folder), list[str]()
    home = Path.cwd()
    os.chdir(folder)
    try:
        yield found
    finally:
        os.chdir(home)
        found += [name for name in sorted(_names(folder) - before) if not name.startswith(allowed or ("/",))]


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
