"""What the schema says of itself: every option with its type, bounds, default and text, read from its source."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from esl_dist.config.bounds import bound_of, plain, types
from esl_dist.config.values import is_section


@dataclass(frozen=True)
class Option:
    """One option of the schema."""

    key: str
    """``section.option``, as it is typed."""
    hint: Any
    default: Any
    text: str
    """What it is for, as its schema says beside it; several lines where it says more."""

    @property
    def kind(self) -> str:
        """What it takes, in a few words: ``whole number, 1 or more``, ``esl | ssl``, ``[number, number]``."""
        return kind(self.hint)

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that it takes, where these are few and known."""
        if plain(self.hint) is bool:
            return ("true", "false")
        return tuple(str(word) for word in get_args(self.hint)) if get_origin(self.hint) is Literal else ()

    @property
    def shown_default(self) -> str:
        """The default as it would be typed."""
        return _typed(self.default)


@dataclass(frozen=True)
class Section:
    """The options that share a first word, and what the section is."""

    name: str
    text: str
    options: tuple[Option, ...]


def sections(schema: type, example: Any = None) -> list[Section]:
    """The whole schema in its own order; the options outside any section come first, under an empty name.

    ``example`` has the defaults, where the schema has no instance without any argument.
    """
    example = schema() if example is None else example
    top = [
        Option(name, types(schema)[name], getattr(example, name), texts(schema).get(name, ""))
        for name in _names(schema)
        if not is_section(types(schema)[name])
    ]
    found = [Section("", "", tuple(top))] if top else []
    for name in _names(schema):
        hint = types(schema)[name]
        if is_section(hint):
            found.append(
                Section(name, inspect.getdoc(plain(hint)) or "", tuple(_options(getattr(example, name), f"{name}.")))
            )
    return found


def _options(example: Any, prefix: str) -> Iterator[Option]:
    schema = type(example)
    for name in _names(schema):
        hint, value = types(schema)[name], getattr(example, name)
        if dataclasses.is_dataclass(value):
            yield from _options(value, f"{prefix}{name}.")
        else:
            yield Option(prefix + name, hint, value, texts(schema).get(name, ""))


def _names(schema: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(schema)]


def texts(schema: Any) -> dict[str, str]:
    """Field -> the string that stands below it in the source (Python keeps none of them)."""
    return _texts(schema)


@functools.cache
def _texts(schema: Any) -> dict[str, str]:
    tree = ast.parse(inspect.getsource(sys.modules[schema.__module__]))
    body = next(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == schema.__name__)
    found = {}
    for node, after in itertools.pairwise(body):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            found[node.target.id] = inspect.cleandoc(str(after.value.value))
    return found


def kind(hint: Any) -> str:
    """A type in words, its bounds included."""
    bound = bound_of(hint)
    hint = plain(hint)
    if get_origin(hint) is Literal:
        return " | ".join(str(word) or '""' for word in get_args(hint))
    if get_origin(hint) is tuple and get_args(hint)[-1] is not Ellipsis:
        inner = [kind(item) for item in get_args(hint)]
        return f"[{inner[0]}] x {len(inner)}" if len(set(inner)) == 1 else f"[{', '.join(inner)}]"
    if get_origin(hint) in (tuple, list):
        return f"list of {kind(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return "mapping"
    if is_section(hint):
        return "{" + ", ".join(_names(hint)) + "}"
    name = {str: "text", int: "whole number", float: "number", bool: "true | false"}.get(hint, "anything")
    return f"{name}, {bound}" if bound is not None else name


def _typed(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(_typed(item) for item in value)}]"
    return "null" if value is None else '""' if value == "" else str(value)
