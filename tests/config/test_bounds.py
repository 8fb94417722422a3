"""Every number of the schema has bounds, and what lies outside them is refused by its name."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args, get_origin

import pytest

from esl_dist.config.bounds import Bound, PositiveInt, Share, bound_of, check, item_types, plain, types
from esl_dist.config.load import ConfigError, load_config
from esl_dist.config.schema import Config
from esl_dist.config.study import StudyConfig


def numbers(hint: Any, key: str) -> list[tuple[str, Any]]:
    """(key, type) of every number that a type holds."""
    bare = plain(hint)
    if is_dataclass(bare):
        inner = types(bare)
        return [pair for field in fields(bare) for pair in numbers(inner[field.name], f"{key}.{field.name}".strip("."))]
    if get_origin(bare) in (tuple, list):
        return [pair for item in item_types(hint, 1) for pair in numbers(item, key)]
    return [(key, hint)] if bare in (int, float) else []


@pytest.mark.parametrize("schema", [Config, StudyConfig])
def test_every_number_has_bounds(schema: type) -> None:
    found = numbers(schema, "")
    assert len(found) > 5
    assert [key for key, hint in found if bound_of(hint) is None] == []


def outside() -> list[tuple[str, str]]:
    """A word below and one above the bounds of every number, and for every float NaN and infinity."""
    words = []
    for key, hint in numbers(Config, ""):
        bound = bound_of(hint)
        if key.startswith(("align.also.", "data.also_source.", "data.also_target.")):
            continue  # items of a list have no key of their own; see the test of a term of a list
        length = len(get_args(plain(_hint(key)))) if get_origin(plain(_hint(key))) is tuple else 0
        low = bound.low if bound.above else bound.low - 1  # type: ignore[union-attr]
        values = [low, bound.high * 2 + 1] + (["nan", "inf", ".inf"] if plain(hint) is float else [])  # type: ignore[union-attr]
        for value in values:
            words.append((key, f"{key}=[{', '.join([str(value)] * length)}]" if length else f"{key}={value}"))
    return list(dict.fromkeys(words))


def _hint(key: str) -> Any:
    hint: Any = Config
    for name in key.split("."):
        hint = types(plain(hint))[name]
    return hint


def test_what_lies_outside_is_refused_by_its_name() -> None:
    words = outside()
    assert len(words) > 250
    for key, word in words:
        with pytest.raises(ConfigError) as caught:
            load_config("smoke.yaml", [word])
        said = str(caught.value)
        assert said.startswith(f"{key}: must be ") and "\n" not in said, (word, said)


def test_a_term_of_a_list_is_named_by_its_place() -> None:
    words = ["align.also=[{objective: minent, weight: 1}, {objective: maxsquare, weight: .nan}]"]
    with pytest.raises(ConfigError, match=r"align\.also\[1\]\.weight: must be a finite number, not nan"):
        load_config("smoke.yaml", words)


@pytest.mark.parametrize(
    ("bound", "value", "said"),
    [
        (Bound(1), 0, "must be 1 or more, not 0"),
        (Bound(0, 1), 1.5, "must be between 0 and 1, not 1.5"),
        (Bound(0, 1, below=True), 1, "must be 0 or more and below 1, not 1"),
        (Bound(0, above=True), 0.0, "must be positive, not 0"),
        (Bound(16, 65_536), 70_000, "must be at most 65536, not 70000"),
        (Bound(0), 0, ""),
        (Bound(0, 1), 1, ""),
    ],
)
def test_a_bound_says_what_it_wants(bound: Bound, value: float, said: str) -> None:
    assert bound.refusal(value) == said


def test_the_walk_reaches_what_is_nested() -> None:
    @dataclass
    class Inner:
        share: float = 2.0

    Inner.__annotations__["share"] = Share

    @dataclass
    class Outer:
        pair: tuple[int, int] = (1, 0)

    Outer.__annotations__ |= {"pair": tuple[PositiveInt, PositiveInt]}
    with pytest.raises(ValueError, match=r"^x\.pair: must be 1 or more, not 0"):
        check(Outer(), "x.")
    with pytest.raises(ValueError, match=r"^x\.share: must be between 0 and 1"):
        check(Inner(), "x.")
