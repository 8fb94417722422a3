"""A finished run's records and checkpoints with flipped, cut and foreign content, read by what uses them."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from esl_dist.models.weights.reading import read
from esl_dist.prediction.checkpoints import find_checkpoint
from esl_dist.runs.content import Ending
from esl_dist.runs.folders import RunFolder
from tests.hostile.pictures import damaged
from tests.hostile.trial import LINES, Case, call, complaint

JSON = [
    "{}",
    "[]",
    "null",
    "3",
    '"x"',
    "{",
    '{"a": NaN}',
    '{"step": 1e999}',
    "[" * 3000,
    '{"stage": {}}',
    '{"step": "6"}',
    '{"step": -1}',
    "\x00",
    "",
]


def run_folder(folder: Path) -> RunFolder:
    """A run of one stage that has ended, small enough to be damaged a thousand times."""
    run = RunFolder(folder)
    run.path.mkdir(parents=True)
    run.config.write_text(call(["train", "--config", "smoke.yaml", "--print-config", "run.stages=[source]"]).out)
    stage = run.stage("source")
    final = stage.checkpoints / "step_00000006"
    final.mkdir(parents=True)
    torch.save({"layer1.weight": torch.arange(12.0), "bn.running_mean": torch.zeros(3)}, final / "segmenter.pt")
    stage.identity.write({"optim.lr": 0.1})
    stage.done.write(Ending(stage="source", checkpoint=final.name, step=6, weights_sha256="0" * 64))
    run.metrics.write_text(
        "".join(
            json.dumps({"event": "train", "stage": "source", "step": step, "time": 1.0}) + "\n" for step in range(9)
        )
    )
    return run


def record_cases(seed: int, count: int, folder: Path) -> Iterator[Case]:
    """``done.json`` decides which checkpoint a stage's name means."""
    draw = random.Random(seed)
    run = run_folder(folder / "recorded")
    record = run.stage("source").done
    good, final = record.path.read_bytes(), run.stage("source").final
    for _ in range(count):
        content = draw.choice(JSON).encode() if draw.random() < 0.2 else damaged(good, draw)
        yield Case("records", repr(content[:150]), lambda content=content: _named(record.path, content, final))


def _named(path: Path, content: bytes, final: Path | None) -> tuple[bool, str]:
    path.write_bytes(content)
    try:
        found = find_checkpoint(path.parent)
    except ValueError as error:
        return True, "" if path.name in str(error) and len(
            str(error).splitlines()
        ) <= LINES else f"names no record: {error}"
    return False, "" if found == final else f"another checkpoint: {found}"


def report_cases(seed: int, count: int, folder: Path) -> Iterator[Case]:
    """A run's page from a folder in which one file is broken."""
    draw = random.Random(seed)
    whole = run_folder(folder / "reported")
    files = [path.relative_to(whole.path) for path in whole.path.rglob("*") if path.is_file() and path.suffix != ".pt"]
    for number in range(count):
        copy = folder / f"report{number}"
        shutil.copytree(whole.path, copy)
        file = copy / draw.choice(files)
        file.write_bytes(draw.choice(JSON).encode() if draw.random() < 0.2 else damaged(file.read_bytes(), draw))
        yield Case("reports", f"{file.name}: {file.read_bytes()[:100]!r}", lambda copy=copy: _reported(copy))


def _reported(run: Path) -> tuple[bool, str]:
    ended = call(["report", str(run)])
    shutil.rmtree(run)
    return bool(ended.code), complaint(ended)


def weight_cases(seed: int, count: int, folder: Path) -> Iterator[Case]:
    """Weights files: damaged, or something else under their name."""
    draw = random.Random(seed)
    path = folder / "weights.pt"
    torch.save({"layer1.weight": torch.arange(12.0), "bn.running_mean": torch.zeros(3)}, path)
    good = path.read_bytes()
    others = [
        b"",
        b"PK\x03\x04",
        b"\x80\x02.",
        b"cos\nsystem\n(S'true'\ntR.",
        json.dumps({"a": 1}).encode(),
        b"x" * 1000,
        good[:100],
    ]
    for _ in range(count):
        content = draw.choice(others) if draw.random() < 0.3 else damaged(good, draw)
        yield Case("weights", repr(content[:60]), lambda content=content: _weights(path, content))


def _weights(path: Path, content: bytes) -> tuple[bool, str]:
    path.write_bytes(content)
    try:
        read(path)
    except ValueError as error:
        return True, "" if path.name in str(error) and len(
            str(error).splitlines()
        ) <= LINES else f"names no file: {error}"
    return False, ""
