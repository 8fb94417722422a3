"""Patterns of paths, such as ``frames/**/*_rgb.jpg``: which files they mean, and the name that each file has by them.

``*`` is any part of a name, ``**`` any folders, ``?`` one character, ``{jpg,png}`` one of several. A file's name is
what the wildcards stand for, so that ``frames/a/7_rgb.jpg`` and ``labels/a/7_id.png`` are both ``a/7`` by
``frames/**/*_rgb.jpg`` and ``labels/**/*_id.png``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from esl_dist.data import files

_TOKENS = re.compile(r"\*\*/|\*\*|\*|\?|\{[^{}]*,[^{}]*\}|.", re.DOTALL)


def matching(root: Path, pattern: str, extensions: Sequence[str], what: str) -> dict[str, Path]:
    """Files below ``root`` that a pattern means, by name, sorted. A folder means all pictures below it.

    Args:
        extensions: that a pattern which names none may have.
        what: the option that holds the pattern, for messages.

    Raises:
        ValueError: the pattern leaves the root, its folder is not there, nothing matches, or two files get one name.
    """
    path = PurePosixPath(pattern.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(
            f"{what}: {pattern} leaves the root; name what lies inside it, and set root to the folder above both "
            f"images and labels"
        )
    if not any(character in pattern for character in "*?{"):
        path = path / "**" / "*"
    fixed = _before_wildcards(path.parts)
    rest = "/".join(path.parts[len(fixed) :])
    base = files.folder(root, "/".join(fixed) or ".", what)
    expression, endings = _expression(rest, extensions)
    refused = [ending for ending in endings if ending not in extensions]
    if refused:
        raise ValueError(f"{what}: {pattern}: {refused[0]} files are not read here; {', '.join(extensions)} are")

    def name_of(inside: str) -> str | None:
        found = expression.fullmatch(inside)
        return None if found is None else "/".join(part.strip("/") for part in found.groups() if part)

    found = files.named(base, name_of, endings)
    if not found:
        raise ValueError(f"{what}: no file below {root} is called {pattern} ({', '.join(endings)})")
    return found


def _before_wildcards(parts: Sequence[str]) -> list[str]:
    found = []
    for part in parts[:-1]:
        if any(character in part for character in "*?{"):
            break
        found.append(part)
    return found


def _expression(pattern: str, extensions: Sequence[str]) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """The pattern as an expression with a group per wildcard, and the extensions that it can match: its own, or all
    that may be.
    """
    folders, slash, last = pattern.rpartition("/")
    stem, _, ending = last.rpartition(".") if "." in last else (last, "", "*")
    endings = (
        tuple(extensions) if ending == "*" else tuple(f".{word.lower()}" for word in ending.strip("{}").split(","))
    )
    body = "".join(_translated(token) for token in _TOKENS.findall(folders + slash + stem))
    return re.compile(f"{body}(?i:{'|'.join(map(re.escape, endings))})"), endings


def _translated(token: str) -> str:
    if token == "**/":
        return "((?:[^/]+/)*)"
    if token == "**":
        return "(.*)"
    if token == "*":
        return "([^/]*)"
    if token == "?":
        return "([^/])"
    if token.startswith("{") and len(token) > 1:
        return f"(?:{'|'.join(re.escape(word) for word in token[1:-1].split(','))})"
    return re.escape(token)


def pair(images: Mapping[str, Path], labels: Mapping[str, Path], names: Sequence[str], what: str) -> tuple[Path, ...]:
    """The label of every named image: of the same name, or where the two trees differ, of the same stem.

    Raises:
        ValueError: an image without a label, or stems that come twice.
    """
    if all(name in labels for name in names):
        return tuple(labels[name] for name in names)
    by_stem = _stems(labels)
    if by_stem and len(_stems(images)) == len(images) and all(_stem(name) in by_stem for name in names):
        return tuple(by_stem[_stem(name)] for name in names)
    missing = [name for name in names if name not in labels and _stem(name) not in by_stem]
    first = missing[0] if missing else next(name for name in names if name not in labels)
    raise ValueError(
        f"{what}: {max(len(missing), 1)} of {len(names)} images have no label, {first} first ({images[first]}); a "
        f"label's name by its pattern must be its image's: "
        f"labels are called {', '.join(list(labels)[:3])}"
    )


def _stem(name: str) -> str:
    return name.rpartition("/")[2]


def _stems(files_by_name: Mapping[str, Path]) -> dict[str, Path]:
    """By stem; empty where two share one."""
    found = {_stem(name): path for name, path in files_by_name.items()}
    return found if len(found) == len(files_by_name) else {}
