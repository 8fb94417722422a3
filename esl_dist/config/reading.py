"""YAML text and ``key=value`` words as layers: the options that they set, by the schema, and where each was written."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin

import yaml

from esl_dist.config.bounds import check_value, plain, types
from esl_dist.config.renamed import has_moved_options, renamed
from esl_dist.config.values import WrongValueError, is_section, text, value_of

LARGEST_FILE, MOST_NODES, DEEPEST = 1 << 20, 100_000, 50
"""Of a configuration: bytes, values with every alias followed, nesting. What is larger is no configuration, or is
meant to exhaust memory.
"""


class ConfigError(ValueError):
    """A configuration that cannot be run; the message is one line that names the key and the way out."""


@dataclass
class Layer:
    """Options from one file or from the command line: ``section.option`` -> value."""

    values: dict[str, Any] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    """Key -> ``file:line``; nothing for the command line, which the user has before them."""
    old: list[str] = field(default_factory=list)
    """Keys that were given under an old name."""
    bases: list[str] = field(default_factory=list)
    """Files that the file's ``base`` names."""

    def put(self, key: str, value: Any, where: str) -> None:
        """Set an option that has not been set yet.

        Raises:
            ConfigError: it has.
        """
        if key in self.values:
            earlier = self.where.get(key)
            raise ConfigError(f"{_at(where)}{key}: is given twice" + (f" (also in {earlier})" if earlier else ""))
        self.values[key] = value
        if where:
            self.where[key] = where


def read_file(path: Path, schema: type) -> Layer:
    """The options that a file sets.

    Raises:
        ConfigError: unreadable, not YAML, an unknown option, a value of another type: file, line and key.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    if len(content) > LARGEST_FILE:
        raise ConfigError(f"{path}: is larger than a configuration can be ({LARGEST_FILE} bytes)")
    try:
        root = compose(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not readable as YAML: byte {error.start} is not UTF-8") from None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}: must hold 'section:' mappings")
    layer = Layer()
    reader = _Reader(schema, layer, str(path))
    kept = []
    for key, value in root.value:
        if isinstance(key, yaml.ScalarNode) and key.value == "base" and "base" not in types(schema):
            one = (
                [value]
                if isinstance(value, yaml.ScalarNode)
                else value.value
                if isinstance(value, yaml.SequenceNode)
                else []
            )
            if not one or not all(isinstance(item, yaml.ScalarNode) and item.value for item in one):
                raise ConfigError(f"{path}:{value.start_mark.line + 1}: base: takes a file, or a list of files")
            layer.bases += [str(item.value) for item in one]
        else:
            kept.append((key, value))
    reader.section(yaml.MappingNode(root.tag, kept, root.start_mark), schema, "")
    return layer


def read_words(words: Sequence[str], schema: type) -> Layer:
    """The options that ``section.option=value`` words set; of a word that comes twice, the last.

    Raises:
        ConfigError: another form, an unknown option, a value of another type.
    """
    given: dict[str, str] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key or word.startswith("-"):
            raise ConfigError(f"{word!r}: options are written section.option=value (and the file as --config FILE)")
        given[key] = value
    layer = Layer()
    reader = _Reader(schema, layer, "")
    for key, value in given.items():
        reader.word(key, value)
    return layer


def compose(content: str, origin: str) -> yaml.Node:
    """YAML as nodes, which know their lines.

    Raises:
        ConfigError: not YAML, or more of it than a configuration can be.
    """
    try:
        root = yaml.compose(content, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        raise ConfigError(f"{origin}{line}: not readable as YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{origin}: not readable as YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise ConfigError(f"{origin}: not readable as YAML: nested too deeply") from None
    if root is None:
        return yaml.MappingNode("tag:yaml.org,2002:map", [], yaml.Mark(origin, 0, 0, 0, None, None))
    nodes, waiting = 0, [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        nodes += 1
        if nodes > MOST_NODES or depth > DEEPEST:
            raise ConfigError(f"{origin}: not readable as YAML: larger or deeper than a configuration can be")
        if isinstance(node, yaml.MappingNode):
            waiting += [(inner, depth + 1) for pair in node.value for inner in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(inner, depth + 1) for inner in node.value]
    return root


class _Reader:
    """Puts nodes into a layer, by the schema."""

    def __init__(self, schema: type, layer: Layer, origin: str, inside: str = "") -> None:
        self._schema, self._layer, self._origin, self._inside = schema, layer, origin, inside

    def section(self, node: yaml.Node, schema: type, prefix: str) -> None:
        """A mapping of a section's options."""
        if isinstance(node, yaml.ScalarNode) and not node.value and self._origin:
            return  # its options are all commented out
        if not isinstance(node, yaml.MappingNode):
            name = prefix.rstrip(".")
            self._refuse(
                node,
                name,
                f"is a section; set {prefix}option=value"
                if not self._origin
                else "is a section: indent its options below it",
            )
        for key, value in self._merged(node, prefix):
            try:
                self._option(prefix + text(key), value, key)
            except WrongValueError as error:
                self._refuse(key, prefix.rstrip(".") or "an option's name", str(error))

    def _merged(self, node: yaml.MappingNode, prefix: str) -> list[tuple[yaml.Node, yaml.Node]]:
        """A mapping's own pairs, and before them those of YAML's merge keys (``<<: *defaults``) that it does not set
        itself.
        """
        own = [(key, value) for key, value in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if len(own) == len(node.value):
            return own
        try:
            yaml.SafeLoader("").flatten_mapping(node)
        except yaml.MarkedYAMLError as error:
            self._refuse(node, f"{prefix}<<", str(error.problem))
        names = {key.value for key, _ in own}
        given = {
            key.value: (key, value)
            for key, value in node.value
            if isinstance(key, yaml.ScalarNode) and key.value not in names
        }
        return [*given.values(), *own]

    def word(self, key: str, value: str) -> None:
        """``key=value`` of a command line; of text, value is what was typed, without the quotes that a shell has left
        around it.
        """
        hint = self._hint(key) or self._hint(renamed(key))
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        bracketed = value[:1] in ("[", "{")
        if value and (quoted or (bracketed and not _is_text(hint))):
            node = compose(value, key)
        else:
            node = yaml.ScalarNode("tag:yaml.org,2002:str", value, style='"')
        self._option(key, node, node)

    def _option(self, key: str, node: yaml.Node, at: yaml.Node) -> None:
        hint, place = self._hint(key), key
        if hint is None and isinstance(node, yaml.MappingNode) and has_moved_options(key):
            for name, value in self._merged(node, f"{key}."):
                self._option(f"{key}.{text(name)}", value, name)
            return
        if hint is None and (place := renamed(key)):
            hint = self._hint(place)
            self._layer.old.append(key)
        if hint is None:
            self._refuse(at, key, f"unknown option; {_advice(key, self._schema)}")
        if is_section(hint):
            self.section(node, plain(hint), f"{place}.")
            return
        try:
            value = self._sections(node, hint, place) if get_origin(plain(hint)) is list else value_of(node, hint)
        except WrongValueError as error:
            self._refuse(error.node if error.node.start_mark else at, key, str(error))
        try:
            check_value(hint, value, place)
        except ValueError as error:
            raise ConfigError(f"{_at(self._mark(at))}{self._inside}{error}") from None
        self._layer.put(place, value, self._mark(at))

    def _sections(self, node: yaml.Node, hint: Any, key: str) -> Any:
        """A list of sections, each an instance by itself (``align.also``); another list as any value."""
        inner = plain(hint).__args__[0]
        if not is_section(inner):
            return value_of(node, hint)
        if not isinstance(node, yaml.SequenceNode):
            raise WrongValueError("takes a list of sections, written [{option: value}, …]", node)
        made = []
        for place, item in enumerate(node.value):
            if not isinstance(item, yaml.MappingNode):
                raise WrongValueError(
                    f"takes a list of sections, written [{{option: value}}, …]; number {place + 1} is none", item
                )
            layer = Layer()
            _Reader(inner, layer, self._origin, f"{key}[{place}].").section(item, inner, "")
            made.append(inner(**layer.values))
        return made

    def _hint(self, key: str) -> Any:
        """The type of an option or section; None where the schema has none of that name."""
        hint: Any = self._schema
        for name in key.split("."):
            hint = types(plain(hint)).get(name) if is_section(hint) else None
        return hint

    def _mark(self, node: yaml.Node) -> str:
        return f"{self._origin}:{node.start_mark.line + 1}" if self._origin and node.start_mark else self._origin

    def _refuse(self, node: yaml.Node, key: str, message: str) -> Any:
        raise ConfigError(f"{_at(self._mark(node))}{self._inside}{key}: {message}")


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def _is_text(hint: Any) -> bool:
    return hint is not None and plain(hint) is str


def _advice(key: str, schema: type) -> str:
    """The option that was meant: of the same section, of another that was misspelt, or of the same name elsewhere."""
    prefix, _, name = key.rpartition(".")
    section: Any = schema
    for part in prefix.split(".") if prefix else ():
        section = (
            plain(types(section).get(part)) if dataclasses.is_dataclass(section) and part in types(section) else None
        )
    known = list(types(section)) if dataclasses.is_dataclass(section) else []
    dot = f"{prefix}." if prefix else ""
    if close := difflib.get_close_matches(name, known, n=1):
        return f"did you mean {dot}{close[0]}?"
    every = list(_every(schema))
    homes = [option for option in every if option.rpartition(".")[2] == name]
    if close := difflib.get_close_matches(key, every, 1, 0.8) or difflib.get_close_matches(key, homes, 1, 0):
        return f"did you mean {close[0]}?"
    return f"known: {', '.join(known)}" if known else f"{prefix} is no section"


def _every(schema: Any, prefix: str = "") -> Iterator[str]:
    """All options by their whole names."""
    for name, hint in types(schema).items():
        yield f"{prefix}{name}"
        if is_section(hint):
            yield from _every(plain(hint), f"{prefix}{name}.")
