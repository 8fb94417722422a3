"""An aux head that no loss reaches stays as it is: no weight decay moves it."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from esl_dist.benchmarks.step import OwnStep, default_config, generated
from esl_dist.distributed.runtime import Runtime
from tests.benchmarks.test_step import TINY

CPU = Runtime(0, 1, 0, 1, torch.device("cpu"), "fp32", 1, 1, True, 100)


def main_only(main: Tensor, aux: Tensor | None) -> Tensor:
    return main.square().mean()


def both(main: Tensor, aux: Tensor | None) -> Tensor:
    assert aux is not None
    return main.square().mean() + aux.square().mean()


def demanding(main: Tensor, aux: Tensor | None) -> Tensor:
    raise RuntimeError("made for crops of 512x1024")


def moved(*words: str, stage: str = "align") -> bool:
    """Whether a step moves the aux head."""
    config = default_config([*TINY, "align.source_aux=0", "align.weight_aux=0", "optim.lr=0.01", *words])
    own = OwnStep(stage, config, CPU, generated(config, 1, stage == "selftrain"))
    head = list(own.stage.networks["segmenter"].aux_parameters())  # type: ignore[operator]
    before = [parameter.detach().clone() for parameter in head]
    own.step(0)
    return any(not torch.equal(parameter, old) for parameter, old in zip(head, before, strict=True))


@pytest.mark.parametrize(
    ("words", "moves"),
    [
        ([f"align.objective={__name__}:main_only"], False),
        ([f"align.objective={__name__}:both"], True),
        (["align.objective=minent"], False),
        (["align.objective=minent", f"align.also=[{{objective: '{__name__}:main_only', weight: 1}}]"], False),
        (["align.objective=minent", f"align.also=[{{objective: '{__name__}:both', weight: 1}}]"], True),
        (["align.objective=minent", "align.self_guidance=true"], True),
    ],
)
def test_the_head_moves_where_a_loss_reaches_it(words: list[str], moves: bool) -> None:
    assert moved(*words) is moves


@pytest.mark.parametrize(("weight", "moves"), [("0", False), ("0.1", True)])
def test_in_self_training_too(weight: str, moves: bool) -> None:
    words = [f"selftrain.weight_aux={weight}", "align.objective=minent"]
    assert moved(*words, stage="selftrain") is moves


def test_a_function_that_cannot_be_tried_is_said(caplog: pytest.LogCaptureFixture) -> None:
    from esl_dist.methods.adaptation.objectives import reads_aux

    with caplog.at_level(logging.WARNING, logger="esl_dist"):
        assert reads_aux(demanding, 19)
    assert "demanding could not be tried on small logits (made for crops of 512x1024)" in caplog.text


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["align.objective=maxsquare", "align.self_guidance=true"], "self-guidance"),
        (["align.objective=minent", "mmdl.weight=0.1", "mmdl.align_weight=1"], "DRSL's alignment of modes"),
        (["align.objective=minent"], ""),
    ],
)
def test_what_looks_at_one_micro_batch_is_said_at_the_start(
    words: list[str], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="esl_dist"):
        config = default_config([*TINY, *words, "optim.accumulate=4"])
        OwnStep("align", config, CPU, generated(config, 1, False))
    said = [record.message for record in caplog.records if "optim.accumulate=4" in record.message]
    assert len(said) == bool(named) and all(f"{named} looks at one micro-batch at a time" in line for line in said)
