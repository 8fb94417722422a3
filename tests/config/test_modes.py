"""Options of DRSL's second head: what is taken, what is refused and how."""

from __future__ import annotations

import re

import pytest

from esl_dist.config.load import ConfigError, load_config


def test_off_by_default_and_on_by_one_option() -> None:
    assert load_config("streets.yaml").mmdl.weight == 0
    assert load_config("streets.yaml", ["mmdl.weight=0.1", "mmdl.align_weight=0.2"]).mmdl.align_weight == 0.2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mmdl.weight=-1"], "mmdl.weight: must be 0 or more"),
        (["mmdl.align_weight=0.1"], "mmdl.align_weight: needs modes learnt on the source: set mmdl.weight above 0"),
        (["mmdl.weight_target=0.1"], "mmdl.weight_target: needs modes learnt on the source"),
        (["mmdl.modes=0"], "mmdl.modes: must be 1 or more, not 0"),
        (["mmdl.dim=1"], "mmdl.dim: must be 2 or more"),
        (["mmdl.sigma=0"], "mmdl.sigma: must be positive"),
        (["mmdl.pool=600"], "mmdl.pool: must be at most mmdl.samples (512)"),
        (["mmdl.pool=0"], "mmdl.pool: must be 1 or more"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        load_config("streets.yaml", words)
    assert "\n" not in str(error.value)
