"""JSON to typed values: what is let through, and what the refusal says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from esl_dist.runs.shape import Misshapen, shaped


class Row(TypedDict):
    name: str
    kept: int
    wrong: NotRequired[float | None]


@dataclass(frozen=True)
class Made:
    step: int
    rows: tuple[Row, ...] = ()
    share: float | None = None

    def __post_init__(self) -> None:
        if self.step < 0:
            raise ValueError("step: must not be negative")


def test_a_dataclass_is_made_of_an_object_and_leaves_out_what_it_does_not_know() -> None:
    assert shaped({"step": 3, "rows": [{"name": "road", "kept": 1, "more": "x"}], "later": 1}, Made) == Made(
        3, ({"name": "road", "kept": 1, "more": "x"},)
    )
    assert shaped([1, "a"], tuple[int, str]) == (1, "a")
    assert shaped({"step": 3, "share": 1}, Made).share == 1  # a whole number is a number


@pytest.mark.parametrize(
    ("content", "shape", "said"),
    [
        ({}, Made, "step: is missing"),
        ([], Made, "must be an object, not []"),
        ({"step": "3"}, Made, "step: must be a whole number, not '3'"),
        ({"step": True}, Made, "step: must be a whole number, not True"),
        ({"step": 3.0}, Made, "step: must be a whole number"),
        ({"step": -1}, Made, "step: must not be negative"),
        ({"step": 1, "rows": [{"name": "road", "kept": 1}, {"name": "car"}]}, Made, "rows[1].kept: is missing"),
        (
            {"step": 1, "rows": [{"name": "road", "kept": 1, "wrong": "no"}]},
            Made,
            "rows[0].wrong: must be a number, not 'no'",
        ),
        ({"step": 1, "share": float("inf")}, Made, "share: must be a number, not inf"),
        ({"a": [1, None]}, dict[str, list[int]], "a[1]: must be a whole number, not None"),
        ("end", Literal["start", "done"], "must be 'start' or 'done', not 'end'"),
        (1, Literal["1"], "must be '1', not 1"),
        ([1], tuple[int, str], "must be 2 values"),
        ([1, 2], tuple[int, str], "[1]: must be text"),
        ("x" * 200, int, "xxx..."),
    ],
)
def test_what_does_not_fit_is_named(content: Any, shape: Any, said: str) -> None:
    with pytest.raises(Misshapen) as error:
        shaped(content, shape)
    assert said in str(error.value)
