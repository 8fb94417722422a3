"""From JSON to typed values: every field is there and of its type, or one sentence says which is not."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, NotRequired, TypeVar, Union, get_args, get_origin, is_typeddict

Shape = TypeVar("Shape")

_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    dict: "an object",
    list: "a list",
}


class Misshapen(ValueError):
    """A value that is not what was declared; the message begins with the field: ``classes[3].kept: …``."""


def shaped(content: Any, shape: Any, field: str = "") -> Any:
    """``content`` (what ``json.loads`` gives) as ``shape``.

    Args:
        shape: ``str``, ``int``, ``float`` (whole numbers too), ``bool``, ``None``, ``Any``, ``X | Y``,
            ``Literal[...]``, ``list[X]``, ``tuple[X, ...]``, ``tuple[X, Y]``,
            ``dict[str, X]``, a TypedDict (more keys than it lists are let through), or a dataclass (they are left out;
            fields with a default may be missing).
        field: where ``content`` stands, for the message.

    Returns:
        Lists and dictionaries as they are, tuples and dataclasses made of them.

    Raises:
        Misshapen: names the field, what was expected and what is there. Also for what a dataclass's ``__post_init__``
            refuses.
    """
    if shape is Any:
        return content
    origin = get_origin(shape)
    if origin in (Union, types.UnionType):
        return _one_of(content, get_args(shape), field)
    if origin is Literal:
        return (
            content
            if any(content == choice and type(content) is type(choice) for choice in get_args(shape))
            else _refuse(content, " or ".join(map(repr, get_args(shape))), field)
        )
    if origin in (list, tuple):
        if not isinstance(content, list):
            _refuse(content, "a list", field)
        inside = get_args(shape)
        if origin is tuple and inside[-1] is not ...:
            if len(content) != len(inside):
                _refuse(content, f"{len(inside)} values", field)
        else:
            inside = (inside[0],) * len(content)
        items = [
            shaped(item, kind, f"{field}[{i}]") for i, (item, kind) in enumerate(zip(content, inside, strict=True))
        ]
        return items if origin is list else tuple(items)
    if origin is dict or shape is dict:
        if not isinstance(content, dict):
            _refuse(content, "an object", field)
        return (
            {key: shaped(value, get_args(shape)[1], _below(field, key)) for key, value in content.items()}
            if origin is dict
            else content
        )
    if is_typeddict(shape):
        return _typed_dict(content, shape, field)
    if dataclasses.is_dataclass(shape):
        return _dataclass(content, shape, field)
    return _plain(content, type(None) if shape is None else shape, field)


def _plain(content: Any, shape: type, field: str) -> Any:
    good = isinstance(content, shape) and (shape is bool or not isinstance(content, bool))
    if shape is float and isinstance(content, int) and not isinstance(content, bool):
        good = True
    if good and isinstance(content, float) and not math.isfinite(content):
        good = False
    return content if good else _refuse(content, _WORDS[shape], field)


def _one_of(content: Any, shapes: tuple[Any, ...], field: str) -> Any:
    if content is None and type(None) in shapes:
        return None
    left = [shape for shape in shapes if shape is not type(None)]
    for shape in left[:-1]:
        try:
            return shaped(content, shape, field)
        except Misshapen:
            continue
    return shaped(content, left[-1], field)


def _typed_dict(content: Any, shape: Any, field: str) -> Any:
    if not isinstance(content, dict):
        _refuse(content, "an object", field)
    hints = _hints(shape)
    for key in hints:
        if key not in content and key not in _optional(shape):
            raise Misshapen(f"{_below(field, key)}: is missing")
    return {
        key: shaped(value, hints[key], _below(field, key)) if key in hints else value for key, value in content.items()
    }


def _dataclass(content: Any, shape: Any, field: str) -> Any:
    if not isinstance(content, dict):
        _refuse(content, "an object", field)
    hints, values = _hints(shape), {}
    for entry in dataclasses.fields(shape):
        if entry.name in content:
            values[entry.name] = shaped(content[entry.name], hints[entry.name], _below(field, entry.name))
        elif entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING:
            raise Misshapen(f"{_below(field, entry.name)}: is missing")
    try:
        return shape(**values)
    except Misshapen:
        raise
    except ValueError as error:
        raise Misshapen(f"{field}: {error}" if field else str(error)) from None


@lru_cache(maxsize=256)
def _hints(shape: Any) -> Mapping[str, Any]:
    """Types of the fields, ``NotRequired`` taken off."""
    return typing.get_type_hints(shape)


@lru_cache(maxsize=256)
def _optional(shape: Any) -> frozenset[str]:
    # ``__optional_keys__`` does not see NotRequired in annotations that are text.
    hints = typing.get_type_hints(shape, include_extras=True)
    return frozenset(name for name, hint in hints.items() if get_origin(hint) is NotRequired)


def _below(field: str, key: str) -> str:
    return f"{field}.{key}" if field else str(key)


def _refuse(content: Any, expected: str, field: str) -> typing.NoReturn:
    shown = repr(content)
    raise Misshapen(
        f"{field or 'the file'}: must be {expected}, not {shown if len(shown) <= 60 else shown[:57] + '...'}"
    )
