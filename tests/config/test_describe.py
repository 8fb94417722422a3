"""What the schema says of itself: every option has a text, and the page of all of them is not stale."""

from __future__ import annotations

from pathlib import Path

from esl_dist.config.describe import sections, texts
from esl_dist.config.reference import options_of_a_study, page
from esl_dist.config.schema import Config, OptimConfig

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/options.md"


def test_every_option_says_what_it_is_for() -> None:
    options = [option for section in sections(Config) for option in section.options] + options_of_a_study()
    assert len(options) > 150
    assert [option.key for option in options if not option.text] == []
    assert [section.name for section in sections(Config) if section.name and not section.text] == []


def test_types_and_defaults_in_words() -> None:
    options = {option.key: option for section in sections(Config) for option in section.options}
    assert (options["optim.lr"].kind, options["optim.lr"].shown_default) == ("number, positive", "0.00025")
    assert options["eval.at"].kind == "native | crop" and options["eval.at"].choices == ("native", "crop")
    assert options["run.deterministic"].choices == ("true", "false")
    assert options["extract.size"].kind == "[whole number, 16 or more] x 2"
    assert options["align.also"].kind == "list of {objective, weight, weight_aux}"
    assert texts(OptimConfig)["lr"] == "Learning rate of the backbone."


def test_the_page_of_options_is_what_the_schema_says() -> None:
    stale = "stale: python -m esl_dist.config.reference > docs/reference/options.md"
    assert PAGE.read_text() == page(), stale
