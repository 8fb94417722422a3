"""Lengths in samples and rates by the global batch: what is converted, what is not, and that the ranks matter by their
product only.
"""

from __future__ import annotations

import dataclasses
import re

import pytest

from esl_dist.config.load import ConfigError, load_config
from esl_dist.config.ranks import on_ranks
from esl_dist.config.schema import Config
from esl_dist.engine.optim import Poly
from esl_dist.methods import stages

SAMPLES = [
    "optim.count=samples",
    "optim.decay_steps=1000",
    "optim.warmup=10",
    "source.steps=100",
    "align.steps=101",
    "selftrain.steps=3",
    "checkpoint.every=50",
    "eval.every=20",
]


def config(*words: str) -> Config:
    return load_config("smoke.yaml", list(words))


def test_defaults_change_nothing_on_any_number_of_ranks() -> None:
    for world in (1, 4, 7):
        assert on_ranks(config(), world) == (config(), "")


def test_samples_become_steps_rounded_up_where_they_count_and_nowhere_else() -> None:
    asked = config(*SAMPLES, "optim.batch=2")
    found, sentence = on_ranks(asked, 2)
    assert [found.source.steps, found.align.steps, found.selftrain.steps] == [25, 26, 1]
    assert (found.optim.decay_steps, found.optim.warmup, found.optim.count) == (250, 3, "steps")
    assert (found.checkpoint.every, found.eval.every, found.optim.lr) == (50, 20, asked.optim.lr)
    assert [stage.steps for stage in stages(found)][:4] == [2, 25, 26, 26]
    assert sentence.startswith(
        "one step is 4 source image(s), 2 rank(s) x 2 x 1: counted in samples that is initial 2, source 25, align 26,"
        " selftrain 1, oracle 1 steps, decay 250, warm-up 3"
    )


def test_decay_over_the_stage_stays_so() -> None:
    found, sentence = on_ranks(config(*SAMPLES, "optim.decay_steps=0"), 4)
    assert found.optim.decay_steps == 0 and "decay over the stage" in sentence


@pytest.mark.parametrize(("rule", "factor"), [("none", 1.0), ("linear", 3.0), ("sqrt", 3.0**0.5)])
def test_rates_follow_the_global_batch(rule: str, factor: float) -> None:
    asked = config(f"optim.scale_lr={rule}", "optim.base_batch=4", "optim.accumulate=3")
    found, sentence = on_ranks(asked, 4)
    assert found.optim.lr == pytest.approx(asked.optim.lr * factor) and found.optim.discriminator_lr == pytest.approx(
        asked.optim.discriminator_lr * factor
    )
    assert (f"times {factor:.4g} ({rule} from a batch of 4)" in sentence) is (rule != "none")


def test_smaller_than_the_base_batch_lowers_the_rates() -> None:
    assert on_ranks(config("optim.scale_lr=linear", "optim.base_batch=8"), 2)[0].optim.lr == pytest.approx(
        config().optim.lr / 4
    )


def test_another_number_of_ranks_with_the_same_global_batch_goes_on_with_the_same_stage() -> None:
    """What a stage's result depends on (``provenance.py``) is the same, so that its checkpoints are gone on with."""
    common = [*SAMPLES, "optim.scale_lr=linear"]
    options = []
    for world, batch, accumulate in ((4, 1, 1), (1, 1, 4), (2, 2, 1)):
        found, _ = on_ranks(config(*common, f"optim.batch={batch}", f"optim.accumulate={accumulate}"), world)
        options.append([stage.identity(found, "fp32", world, {}) for stage in stages(found)])
    assert options[0] == options[1] == options[2]
    other, _ = on_ranks(config(*common), 3)
    assert options[0][0] != stages(other)[0].identity(other, "fp32", 3, {})


def test_the_number_of_samples_is_the_same_for_every_world() -> None:
    for world in (1, 2, 3, 4, 8):
        found, _ = on_ranks(config("optim.count=samples", "source.steps=240"), world)
        assert found.source.steps * world == 240


def test_what_was_asked_is_not_overwritten() -> None:
    asked = config(*SAMPLES)
    before = dataclasses.asdict(asked)
    on_ranks(asked, 4)
    assert dataclasses.asdict(asked) == before


def test_warm_up_rises_in_equal_steps_to_the_full_rate() -> None:
    flat = Poly(10, power=0.0, warmup=4)
    assert [flat(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert [Poly(10, 0.9)(step) for step in range(3)] == [(1 - step / 10) ** 0.9 for step in range(3)]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("optim.scale_lr=square", "optim.scale_lr: unknown 'square'"),
        ("optim.count=epochs", "optim.count: unknown 'epochs'"),
        ("optim.base_batch=0", "optim.base_batch: must be 1 or more"),
        ("optim.warmup=-1", "optim.warmup: must be 0"),
        ("profile.steps=-1", "profile.steps: must be 0"),
        ("profile.start=-1", "profile.start: must be 0"),
    ],
)
def test_refused_in_one_line(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        config(word)


def test_the_teachers_own_warm_up_is_counted_in_samples_too() -> None:
    config = load_config(None, ["optim.count=samples", "optim.batch=2", "teacher.steps=100", "teacher.optim.warmup=9"])
    found, _ = on_ranks(config, 2)
    assert found.teacher.steps == 25 and found.teacher.optim.warmup == 3
