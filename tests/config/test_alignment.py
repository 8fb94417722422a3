"""Weighted terms of the alignment loss: what is taken, what is refused and how."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from esl_dist.config.load import ConfigError, dump, load_config
from esl_dist.config.schema import TermConfig


def also(*terms: str, objective: str = "advent") -> list[str]:
    return [f"align.objective={objective}", f"align.also=[{', '.join('{' + term + '}' for term in terms)}]"]


def test_terms_survive_the_recorded_configuration(tmp_path: Path) -> None:
    config = load_config(
        "streets.yaml", also("objective: maxsquare, weight: 0.1", "objective: 'mine:focal', weight: 1")
    )
    assert config.align.also == [TermConfig("maxsquare", 0.1, 0.0), TermConfig("mine:focal", 1.0, 0.0)]
    (tmp_path / "config.yaml").write_text(dump(config))
    assert load_config(str(tmp_path / "config.yaml")) == config


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (also("objective: maxsqare, weight: 1"), "align.also: unknown objective 'maxsqare'; one of adaptsegnet"),
        (also("objective: none, weight: 1"), "align.also: unknown objective 'none'"),
        (also("objective: maxsquare"), "align.also: maxsquare needs a weight above 0"),
        (also("objective: advent, weight: 1"), "align.also: a term comes twice in advent, advent"),
        (also("objective: adaptsegnet, weight: 1"), "align.also: adaptsegnet and advent differ only"),
        (
            also("objective: minent, weight: 1", objective="bn"),
            "align.also: adds terms to a loss, but align.objective=bn has none",
        ),
        (also("objectve: minent, weight: 1"), "align.also[0].objectve: unknown option; did you mean objective?"),
        (["align.weight=-1"], "align.weight: must be 0 or more"),
        (["selftrain.ema=1"], "selftrain.ema: must be 0"),
        (["pseudo_labels.temperature=0"], "pseudo_labels.temperature: must be positive"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        load_config("streets.yaml", words)
    assert "\n" not in str(error.value)
