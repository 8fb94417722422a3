"""Commands in README, docs and headers of configurations: each is one that its entry takes, with options that exist."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from esl_dist.config.load import load_config
from esl_dist.methods import plan

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
# What a reader puts in place of a capitalised word.
PLACES = {
    "yard.yaml": "tests/docs/yard.yaml",
    "FILE.yaml": "configs/smoke.yaml",
    "FILE": "configs/smoke.yaml",
    "CONFIG": "configs/smoke.yaml",
}


class Parsed(Exception):
    """An entry's arguments were taken."""


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """(entry, its words) of every command line in a text, continued lines joined."""
    joined = text.replace("\\\n", " ")
    for line in joined.splitlines():
        found = re.search(r"(?:-m esl_dist\.|-m esl_dist |(?<![\w./-])esl_dist )([a-z]+)\b(.*)", line.strip("`# "))
        if found is None or not line.strip("`# ").startswith(("torchrun", "python", "esl_dist", "srun", "OMP_NUM")):
            continue
        if not (ROOT / "esl_dist" / "entries" / f"{found[1]}.py").is_file():
            continue
        words = shlex.split(re.split(r"`| {2,}\(", found[2])[0], comments=True)
        words = [word for word in words if word not in ("…", "...") and not word.startswith(("[", "("))]
        if "--nproc" in words:  # the command line's own, taken before the entry sees its words
            del words[words.index("--nproc") : words.index("--nproc") + 2]
        yield found[1], [PLACES.get(word, word) for word in words]


def found_in(paths: list[Path]) -> list[Any]:
    return [
        pytest.param(entry, words, id=f"{path.relative_to(ROOT)}:{number}")
        for path in paths
        for number, (entry, words) in enumerate(commands(path.read_text(encoding="utf-8")))
    ]


def take(entry: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """The arguments, as the entry's own parser reads them; nothing is started."""
    for name in ("parse_args", "parse_intermixed_args"):
        parse = getattr(argparse.ArgumentParser, name)

        def stop(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None, parse: Any = parse) -> Any:
            raise Parsed(parse(self, args, namespace))

        monkeypatch.setattr(argparse.ArgumentParser, name, stop)
    with pytest.raises(Parsed) as taken:
        importlib.import_module(f"esl_dist.entries.{entry}").main(words)
    monkeypatch.undo()
    namespace: argparse.Namespace = taken.value.args[0]
    return namespace


@pytest.mark.parametrize(("entry", "words"), found_in([*PAGES, *CONFIGS]))
def test_a_documented_command_is_one(entry: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    arguments = take(entry, words, monkeypatch)
    if entry in ("train", "extract", "evaluate"):
        options = [word for word in arguments.options if not re.search(r"=[A-Z]{3,}", word)]
        plan(load_config(arguments.config, options))


def test_pages_have_commands() -> None:
    assert len(found_in(PAGES)) >= 10 and len(found_in(CONFIGS)) >= 10


def test_a_wrong_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    (wrong,) = commands("torchrun --nproc_per_node=4 -m esl_dist.train --confg x.yaml   # a typo")
    with pytest.raises((SystemExit, ValueError)):
        take(*wrong, monkeypatch)
