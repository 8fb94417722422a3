"""Class files: which classes a network tells apart, as YAML, the shipped ones (``labels/classes``) and a user's own
alike.

::

    name: yard                  # optional, else the file's stem
    ignore: [0, 255]            # ids (or colours) of label files that nothing is learned from; "rest": every id that
    no class lists
    classes:
      - name: road
        colour: [128, 64, 128]  # of the palette; optional
        kind: stuff             # or thing; optional
        ids: [7, 9]             # what label files of "dataset: folder" hold for it; optional, else its position
        colours: [[128, 64, 128]]  # what they hold where they are RGB; optional, else its colour
        members: [road]         # which of Cityscapes' 19 classes it is, for sets that are labelled with those;
            optional, else its name
    groups:                     # optional: a reduced score over merged classes
      ground: [road, sidewalk]
"""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MAX_CLASSES = 254
"""254 and 255 mark what is illegal and what is ignored."""

Colour = tuple[int, int, int]

_TOP = ("name", "ignore", "categories", "classes", "groups")
_CLASS = ("name", "colour", "kind", "ids", "colours", "members")


@dataclass(frozen=True)
class Protocol:
    """The classes of a network, in the order of its output channels."""

    name: str
    """A shipped file's name, or what the user's file calls itself."""
    classes: tuple[str, ...]
    """Class names; a class's position is its train id."""
    palette: tuple[Colour, ...]
    """One RGB colour per class, 0-255."""
    members: tuple[tuple[str, ...], ...]
    """Per class, which of Cityscapes' 19 evaluated classes it holds."""
    kinds: tuple[str, ...] = ()
    """``thing`` or ``stuff`` per class; empty text where the file does not say."""
    ids: tuple[tuple[int, ...], ...] = ()
    """Per class, the ids that its pixels have in label files of the user's own."""
    colours: tuple[tuple[Colour, ...], ...] = ()
    """Per class, the colours that its pixels have in RGB label files."""
    ignored: tuple[int | Colour, ...] = ()
    """Ids and colours that nothing is learned from, 255 always among them."""
    rest_ignored: bool = False
    """Whether ids that no class lists are ignored; else they say that a label file is of another kind."""
    groups: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Merged classes of the reduced score: name and the classes' positions."""
    merges: bool = False
    """True where the classes hold whole categories and not single classes (``categories``)."""
    sha256: str = ""
    """Of the file's content."""

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def things(self) -> tuple[int, ...]:
        """Positions of the classes whose objects can be counted."""
        return tuple(i for i, kind in enumerate(self.kinds) if kind == "thing")

    def index_of(self, train_class: str) -> int:
        """Train id of one of Cityscapes' 19 class names under these classes; 255 where it is left out."""
        return next((i for i, held in enumerate(self.members) if train_class in held), 255)


def read(path: Path) -> Protocol:
    """The classes that a file describes.

    Raises:
        ValueError: one line naming the file, the key and what is wrong.
    """
    try:
        text = path.read_bytes()
        content = yaml.safe_load(text)
    except OSError as error:
        raise ValueError(f"data.classes: {path} cannot be read: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(
            f"data.classes: {path} is not readable as YAML: {' '.join(str(error).split())[:200]}"
        ) from None
    try:
        return _protocol(content, path.stem, hashlib.sha256(text).hexdigest())
    except _Fault as fault:
        raise ValueError(f"data.classes: {path}: {fault}") from None


class _Fault(Exception):
    """What is wrong, beginning with the key."""


def _protocol(content: Any, stem: str, digest: str) -> Protocol:
    top = _mapping(content, "the file", _TOP)
    entries = _list(top.get("classes"), "classes")
    if not 1 <= len(entries) <= MAX_CLASSES:
        raise _Fault(f"classes: names {len(entries)} classes; 1 to {MAX_CLASSES} can be told apart")
    entries = [_mapping(entry, f"classes[{number}]", _CLASS) for number, entry in enumerate(entries)]
    names = tuple(_text(entry.get("name"), f"classes[{number}].name") for number, entry in enumerate(entries))
    _unique(names, "classes: the name")
    palette = tuple(
        _colour(entry["colour"], f"{name}.colour") if "colour" in entry else _spare(i)
        for i, (name, entry) in enumerate(zip(names, entries, strict=True))
    )
    ids = tuple(
        _ids(entry.get("ids", [i]), f"{name}.ids") for i, (name, entry) in enumerate(zip(names, entries, strict=True))
    )
    colours = tuple(
        _colours(entry.get("colours", [list(own)]), f"{name}.colours")
        for name, entry, own in zip(names, entries, palette, strict=True)
    )
    ignored, rest = _ignored(top.get("ignore", []))
    _unique([i for own in ids for i in own], "classes: the id")
    # Colours of labels are compared by their own reader, so that a palette that repeats a colour is no fault of a file
    # of ids.
    for own, name in zip(ids, names, strict=True):
        if set(own) & set(ignored):
            raise _Fault(f"ignore: id {min(set(own) & {i for i in ignored if isinstance(i, int)})} is {name}'s")
    return Protocol(
        name=_text(top.get("name", stem), "name"),
        classes=names,
        palette=palette,
        members=tuple(
            tuple(_text(m, f"{name}.members") for m in _list(entry.get("members", [name]), f"{name}.members"))
            for name, entry in zip(names, entries, strict=True)
        ),
        kinds=tuple(_kind(entry.get("kind", ""), name) for name, entry in zip(names, entries, strict=True)),
        ids=ids,
        colours=colours,
        ignored=ignored,
        rest_ignored=rest,
        groups=_groups(top.get("groups", {}), names),
        merges=top.get("categories") is True,
        sha256=digest,
    )


def _mapping(value: Any, what: str, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _Fault(f"{what}: must hold 'key: value' lines ({', '.join(known)})")
    unknown = [str(key) for key in value if key not in known]
    if unknown:
        raise _Fault(f"{what}: unknown key {unknown[0]!r}; known: {', '.join(known)}")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise _Fault(f"{what}: must be a list")
    return value


def _text(value: Any, what: str) -> str:
    # ``name: 19`` means the text, whatever YAML makes of it.
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise _Fault(
            f"{what}: must be a name" + (f"; put {str(value).lower()!r} in quotes" if isinstance(value, bool) else "")
        )
    return str(value).strip()


def _ids(value: Any, what: str) -> tuple[int, ...]:
    found = [value] if isinstance(value, int) else _list(value, what)
    if not all(isinstance(i, int) and not isinstance(i, bool) and 0 <= i <= 255 for i in found):
        raise _Fault(f"{what}: must be ids between 0 and 255")
    return tuple(found)


def _colour(value: Any, what: str) -> Colour:
    found = _list(value, what)
    if len(found) != 3 or not all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v <= 255 for v in found):
        raise _Fault(f"{what}: must be red, green and blue between 0 and 255, as in [128, 64, 128]")
    return (found[0], found[1], found[2])


def _colours(value: Any, what: str) -> tuple[Colour, ...]:
    return tuple(_colour(colour, what) for colour in _list(value, what))


def _kind(value: Any, name: str) -> str:
    if value not in ("", "thing", "stuff"):
        raise _Fault(f"{name}.kind: is thing or stuff, not {value!r}")
    return str(value)


def _ignored(value: Any) -> tuple[tuple[int | Colour, ...], bool]:
    if value == "rest":
        return (255,), True
    found: list[int | Colour] = [255]
    for entry in _list(value, "ignore"):
        found.append(_colour(entry, "ignore") if isinstance(entry, list) else _ids(entry, "ignore")[0])
    return tuple(dict.fromkeys(found)), False


def _groups(value: Any, names: Sequence[str]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    if not isinstance(value, dict):
        raise _Fault("groups: must hold 'group: [class, class]' lines")
    groups = []
    for group, held in value.items():
        members = [_text(name, f"groups.{group}") for name in _list(held, f"groups.{group}")]
        unknown = [name for name in members if name not in names]
        if unknown or not members:
            raise _Fault(f"groups.{group}: {f'no class {unknown[0]!r}' if unknown else 'is empty'}")
        groups.append((_text(group, "groups"), tuple(names.index(name) for name in members)))
    _unique([i for _, held in groups for i in held], "groups: the class number")
    return tuple(groups)


def _unique(values: Sequence[Any], what: str) -> None:
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            raise _Fault(f"{what} {value} comes twice")
        seen.add(value)


def _spare(position: int) -> Colour:
    """A colour for a class that names none: hues by the golden angle, so that neighbours differ."""
    red, green, blue = colorsys.hsv_to_rgb(position * 0.618033988749895 % 1, 0.65, 0.9 - 0.25 * (position % 2))
    return (round(255 * red), round(255 * green), round(255 * blue))
