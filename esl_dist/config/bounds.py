"""Bounds of numbers: part of an option's type, declared beside it, enforced by one walk over the whole configuration.

Every number has them: without, a negative clip trains uphill and a NaN compares as neither too small nor too large. A
test walks the schema and fails for a number that has none.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

LARGEST = 10**12
"""No count of steps, samples or seconds is larger; what comes after it overflows somewhere, far from the option."""


@dataclass(frozen=True)
class Bound:
    """The numbers that an option takes: ``low`` to ``high``, both included unless ``above`` or ``below`` is set."""

    low: float
    high: float = LARGEST
    above: bool = False
    below: bool = False

    def refusal(self, value: float) -> str:
        """What is wrong with a value; empty if nothing."""
        if not math.isfinite(value):
            return f"must be a finite number, not {value}"
        large = value >= self.high if self.below else value > self.high
        small = value <= self.low if self.above else value < self.low
        if not (small or large):
            return ""
        wanted = str(self) if small or self._narrow else f"at most {_short(self.high)}"
        return f"must be {wanted}, not {_short(value)}"

    @property
    def _narrow(self) -> bool:
        """Whether the upper end says something of the option, not only of what a machine can do."""
        return self.high < 1000

    def __str__(self) -> str:
        if self.above and not self.low:
            return "positive" + (f" and at most {_short(self.high)}" if self._narrow else "")
        low = f"above {_short(self.low)}" if self.above else f"{_short(self.low)} or more"
        if not self._narrow:
            return low
        if self.above or self.below:
            return f"{low} and {'below' if self.below else 'at most'} {_short(self.high)}"
        return f"between {_short(self.low)} and {_short(self.high)}"


PositiveInt = Annotated[int, Bound(1)]
NonNegativeInt = Annotated[int, Bound(0)]
PositiveFloat = Annotated[float, Bound(0, above=True)]
NonNegativeFloat = Annotated[float, Bound(0)]
Share = Annotated[float, Bound(0, 1)]
"""A probability, or a part of a whole."""
BelowOne = Annotated[float, Bound(0, 1, below=True)]
"""A decay: one would never move."""
Seed = Annotated[int, Bound(0, 2**32 - 1)]
Pixels = Annotated[int, Bound(16, 65_536)]
"""A width or height: below 16 the networks have no map left."""


def types(schema: Any) -> dict[str, Any]:
    """Field -> type of a dataclass, bounds included."""
    return _types(schema)


@functools.cache
def _types(schema: Any) -> dict[str, Any]:
    return get_type_hints(schema, include_extras=True)


def plain(hint: Any) -> Any:
    """A type without its bounds, and without ``| None``."""
    hint = present(hint)
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def present(hint: Any) -> Any:
    """A type without ``| None``."""
    return next(kind for kind in get_args(hint) if kind is not type(None)) if is_optional(hint) else hint


def is_optional(hint: Any) -> bool:
    """Whether an option may be left unset (``| None``)."""
    return type(None) in get_args(hint)


def bound_of(hint: Any) -> Bound | None:
    """The bounds of a type, None where it declares none."""
    hint = present(hint)
    return (
        next((mark for mark in get_args(hint)[1:] if isinstance(mark, Bound)), None)
        if get_origin(hint) is Annotated
        else None
    )


def item_types(hint: Any, count: int) -> list[Any]:
    """The types of a tuple's or list's ``count`` items; a fixed tuple has as many as it has, whatever ``count``."""
    inner = get_args(plain(hint))
    return [inner[0]] * count if get_origin(plain(hint)) is list or inner[-1:] == (Ellipsis,) else list(inner)


def check(config: Any, prefix: str = "") -> None:
    """Hold every number of a configuration, or of one of its sections, against its bounds.

    Raises:
        ValueError: one line that begins with the option's key.
    """
    for field in dataclasses.fields(config):
        check_value(types(type(config))[field.name], getattr(config, field.name), prefix + field.name)


def check_value(hint: Any, value: Any, key: str) -> None:
    """As ``check``, for a value of a type: a number, a tuple, a list or a section.

    Raises:
        ValueError: one line that begins with the option's key.
    """
    for name, kind, number in _numbers(hint, value, key):
        bound = bound_of(kind)
        refusal = bound.refusal(number) if bound is not None else ""
        if refusal:
            raise ValueError(f"{name}: {refusal}")


def _numbers(hint: Any, value: Any, key: str) -> Iterator[tuple[str, Any, float]]:
    """(key, type, value) of every number, those in tuples, lists and sections included."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _numbers(types(type(value))[field.name], getattr(value, field.name), f"{key}.{field.name}")
    elif isinstance(value, tuple | list):
        for place, (inner, item) in enumerate(zip(item_types(hint, len(value)), value, strict=False)):
            # Of "64x32" it is the whole that is wrong; of a list of sections, one of them.
            yield from _numbers(inner, item, f"{key}[{place}]" if dataclasses.is_dataclass(item) else key)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield key, hint, value


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
