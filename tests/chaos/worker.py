"""A rank of ``esl_dist.train`` that can be made to fail: ``torchrun … -m tests.chaos.worker [arguments of
esl_dist.train]``.

``ESL_CHAOS_FAULT`` is JSON: ``{"fault": "stall" | "nan" | "perturb" | "disk", "rank": 1, "step": 5}``; steps are
counted over all stages from the start of the process; the disk is full for four steps. ``{"fault": "term", "rank": 1,
"during": "extract", "call": 5}`` sends the rank a SIGTERM with the fifth image that it extracts (``write``: that it
writes a label of, ``evaluate``: that it scores). How the rank ended is written to ``$ESL_CHAOS_OUT/rank<r>.json``.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from esl_dist import atomic
from esl_dist.distributed import ddp
from esl_dist.engine.update import Updater
from esl_dist.entries import cli, ending
from esl_dist.entries.train import main
from esl_dist.metrics.counting import Counter as ConfusionCounter
from esl_dist.pseudo_labels.scores.scorer import Scoring
from esl_dist.pseudo_labels.sets import files

RANK = int(os.environ.get("RANK", "0"))
taken = 0
last: dict[str, Any] = {}
calls: Counter[str] = Counter()


def faulty_step(step: Any) -> Any:
    fault = json.loads(os.environ.get("ESL_CHAOS_FAULT", "{}"))

    def wrapped(self: Updater, index: int, micro: Sequence[Any], stop: bool = False) -> Any:
        global taken
        taken += 1
        last["step"] = index + 1
        hit = fault and fault["rank"] == RANK and fault.get("step") == taken
        if hit and fault["fault"] == "stall":
            time.sleep(3600)
        if hit and fault["fault"] == "nan":
            spoil_gradient(self)
        result = step(self, index, micro, stop)
        if hit and fault["fault"] == "perturb":
            weight = next(ddp.inner(self.train_step.networks["segmenter"]).parameters()).data
            weight[(0,) * weight.dim()] += 1e-3
        return result

    return wrapped


def full_disk(write: Any) -> Any:
    """The checkpoints' and small files' disk, full while steps ``step`` to ``step + 3`` of the fault run."""
    fault = json.loads(os.environ.get("ESL_CHAOS_FAULT", "{}"))

    def wrapped(fd: int, data: memoryview) -> int:
        if fault and fault["fault"] == "disk" and fault["rank"] == RANK and fault["step"] <= taken < fault["step"] + 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(write(fd, data))

    return wrapped


def signalled(function: Any, during: str) -> Any:
    """One of the calls sends this rank a SIGTERM."""
    fault = json.loads(os.environ.get("ESL_CHAOS_FAULT", "{}"))

    def wrapped(*arguments: Any, **named: Any) -> Any:
        calls[during] += 1
        if fault.get("during") == during and fault["rank"] == RANK and fault["call"] == calls[during]:
            os.kill(os.getpid(), signal.SIGTERM)
        return function(*arguments, **named)

    return wrapped


def spoil_gradient(updater: Updater) -> None:
    """The next gradient of this rank holds one NaN, after the ranks have averaged theirs."""
    trained = updater.train_step
    plain = trained.step

    def spoiled(micro: Sequence[Any]) -> Any:
        losses = plain(micro)
        gradients = [p.grad for p in ddp.inner(trained.networks["segmenter"]).parameters() if p.grad is not None]
        gradients[-1][(0,) * gradients[-1].dim()] = torch.nan
        trained.step = plain  # type: ignore[method-assign]
        return losses

    trained.step = spoiled  # type: ignore[method-assign]


def recorded(leave: Any) -> Any:
    """How the rank ends, before it does."""

    def wrapped(code: Any) -> Any:
        out = os.environ.get("ESL_CHAOS_OUT")
        if out:
            Path(out, f"rank{RANK}.json").write_text(json.dumps({"code": code, **last}))
        return leave(code)

    return wrapped


if __name__ == "__main__":
    Updater.step = faulty_step(Updater.step)  # type: ignore[method-assign]
    atomic.write_some = full_disk(atomic.write_some)
    Scoring.checked = signalled(Scoring.checked, "extract")  # type: ignore[method-assign]
    files.png = signalled(files.png, "write")
    ConfusionCounter.add = signalled(ConfusionCounter.add, "evaluate")  # type: ignore[method-assign]
    ending._leave = recorded(ending._leave)
    cli.run(main)
