"""From what a person typed to a value of the option's type.

The type decides, never the look of the characters: an option declared as text keeps ``0042``, ``12:30`` and ``on`` as
they are, and a number is a number however YAML would have read it.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Literal, get_args, get_origin

import yaml

from esl_dist.config.bounds import is_optional, item_types, plain

_WHOLE = re.compile(r"[+-]?\d{1,3}(_?\d{1,3}){0,9}")
_FLOAT = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|\.(inf|Inf|INF))|\.(nan|NaN|NAN)")
_WORDS = {
    "true": True,
    "yes": True,
    "on": True,
    "y": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "n": False,
    "0": False,
}
UNSET = ("", "~", "null")
"""How an option that may be left unset is unset."""
_YAML_FLOATS = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}


class WrongValueError(ValueError):
    """A value that is not of the option's type; the message lacks the option's name."""

    def __init__(self, message: str, node: yaml.Node, key: str = "") -> None:
        super().__init__(message)
        self.node = node
        self.key = key


def value_of(node: yaml.Node, hint: Any) -> Any:
    """A YAML node as a value of a type (not of a section).

    Raises:
        WrongValueError: another kind of value; the message lacks the option's name.
    """
    if is_optional(hint) and isinstance(node, yaml.ScalarNode) and node.value in UNSET:
        return None
    hint = plain(hint)
    if hint is Any:
        return _untyped(node)
    if get_origin(hint) is dict:
        _expect(node, yaml.MappingNode, "a mapping")
        return {text(key): value_of(inner, get_args(hint)[1]) for key, inner in node.value}
    if get_origin(hint) in (tuple, list):
        return _items(node, hint)
    _expect(node, yaml.ScalarNode, _kind(hint))
    return scalar(node, hint)


def scalar(node: yaml.ScalarNode, hint: Any) -> Any:
    """A single value: text as it stands, a number, a switch, or one of a few words."""
    typed = text(node)
    if hint is str:
        return typed
    if get_origin(hint) is Literal:
        known = {str(word): word for word in get_args(hint)}
        if typed not in known:
            raise WrongValueError(f"unknown {typed!r}; one of {', '.join(word or repr(word) for word in known)}", node)
        return known[typed]
    if hint is bool:
        if typed.lower() not in _WORDS:
            raise WrongValueError(f"{typed!r} is neither true nor false", node)
        return _WORDS[typed.lower()]
    if hint is int:
        if not _WHOLE.fullmatch(typed):
            raise WrongValueError(f"{typed[:40]!r} is not a whole number", node)
        return int(typed)
    assert hint is float, hint
    try:
        return float(_YAML_FLOATS.get(typed.lower(), typed))
    except ValueError:
        raise WrongValueError(f"{typed[:40]!r} is not a number", node) from None


def text(node: yaml.Node) -> str:
    """The characters of a scalar.

    Raises:
        WrongValueError: not a scalar, or characters that no name of a file or of an experiment can have.
    """
    _expect(node, yaml.ScalarNode, "text")
    typed = str(node.value)
    if any((ord(c) < 32 and c not in "\t\n") or ord(c) == 127 for c in typed):
        raise WrongValueError("holds a control character", node)
    try:
        typed.encode()
    except UnicodeEncodeError:
        raise WrongValueError("is not UTF-8", node) from None
    return typed


def _items(node: yaml.Node, hint: Any) -> Any:
    _expect(node, yaml.SequenceNode, "a list, written [one, two]")
    inner = item_types(hint, len(node.value))
    if len(inner) != len(node.value):
        raise WrongValueError(
            f"takes {len(inner)} values, written [{', '.join('…' for _ in inner)}], not {len(node.value)}", node
        )
    made = [value_of(item, kind) for item, kind in zip(node.value, inner, strict=True)]
    return made if get_origin(plain(hint)) is list else tuple(made)


def _untyped(node: yaml.Node) -> Any:
    """A value whose type is not declared: a number that is written as one, true, false, null, or text."""
    if isinstance(node, yaml.MappingNode):
        return {text(key): _untyped(inner) for key, inner in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_untyped(inner) for inner in node.value]
    typed = text(node)
    if node.style is not None:
        return typed
    if typed in ("", "~", "null"):
        return None
    if typed in ("true", "false", "True", "False"):
        return typed.lower() == "true"
    if re.fullmatch(r"[+-]?0\d+", typed):
        return typed  # 0042 is a name; nobody writes a number so
    if _WHOLE.fullmatch(typed):
        return int(typed)
    return float(_YAML_FLOATS.get(typed.lower(), typed)) if _FLOAT.fullmatch(typed) else typed


def _kind(hint: Any) -> str:
    """What an option of that type takes, in words."""
    if get_origin(hint) is Literal:
        return f"one of {', '.join(str(word) or repr(word) for word in get_args(hint))}"
    return {str: "text", int: "a whole number", float: "a number", bool: "true or false"}[hint]


def _expect(node: yaml.Node, kind: type[yaml.Node], wanted: str) -> None:
    if not isinstance(node, kind):
        given = (
            "a list"
            if isinstance(node, yaml.SequenceNode)
            else "a mapping"
            if isinstance(node, yaml.MappingNode)
            else _quoted(node)
        )
        raise WrongValueError(f"takes {wanted}, not {given}", node)


def _quoted(node: yaml.Node) -> str:
    return repr(str(node.value)[:40]) if node.value else "nothing"


def is_section(hint: Any) -> bool:
    """Whether an option is a section of further ones."""
    return dataclasses.is_dataclass(plain(hint))
