"""Scratch is used again, by one thread at a time, also after a scorer that raised."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from esl_dist.pseudo_labels.scores import banded, scorer
from esl_dist.pseudo_labels.scores.idle import Idle, Line
from esl_dist.pseudo_labels.scores.scorer import Wanted

WANTED = Wanted((8, 16), ("entropy",))
LOGITS = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))


def test_a_piece_is_given_back_whatever_becomes_of_the_work() -> None:
    idle = Idle(Line)
    with pytest.raises(ValueError, match="broken"), idle.lent() as first:
        raise ValueError("broken")
    with idle.lent() as again, idle.lent() as other:
        assert again is first and other is not first
    assert len(idle.pieces) == 2


def test_two_threads_never_have_the_same_piece() -> None:
    idle, inside, both = Idle(Line), [], threading.Barrier(2)

    def work() -> None:
        for _ in range(50):
            with idle.lent() as line:
                inside.append(line)
                both.wait(10)
                assert inside[-1] is not inside[-2]
                both.wait(10)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inside) == 100 and len({id(line) for line in inside}) == len(idle.pieces) == 2


def test_a_line_grows_and_stays() -> None:
    line = Line()
    first = line.of(8)
    assert len(first) == 8 and line.of(4) is first and len(line.of(9)) == 9


@pytest.mark.parametrize("kind", ["banded", "compiled"])
def test_a_scorer_that_raised_keeps_its_scratch(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def fails_at_first(*arguments: object) -> None:
        seen.append(arguments[-1])
        if len(seen) == 1:
            raise ValueError("broken")

    if kind == "banded":
        monkeypatch.setattr(banded, "score", fails_at_first)
        score = scorer._banded()
    else:
        score = scorer._compiled(SimpleNamespace(score=fails_at_first, scratch_length=lambda *_: 32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="broken"):
        score(LOGITS, WANTED)
    score(LOGITS, WANTED)
    assert seen[0] is seen[1] and (kind == "banded" or isinstance(seen[0], np.ndarray))
