"""JSON files that the program reads back: written whole, sealed, and read through one reader that names file and field.

A record is one JSON object whose last entry, ``record_sha256``, is the SHA-256 of all others. A flipped bit, a cut end
and an edited value are refused with what to do about it; files of releases before 0.2, which have no seal, are read by
their shape alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from esl_dist import atomic
from esl_dist.runs.shape import Misshapen, shaped

log = logging.getLogger(__name__)

SEAL = "record_sha256"

_LIKE_SEAL = re.compile("record.{7}|.{6}_sha256", re.DOTALL)

Content = TypeVar("Content")


class Damaged(ValueError):
    """A record that cannot be used: the message names the file, the field and what to do. The user's to mend, so exit
    code 2.
    """


@dataclass(frozen=True)
class Record(Generic[Content]):
    """One JSON file. ``shape`` is what ``shape.shaped`` takes; ``remedy`` ends the message where it is damaged."""

    path: Path
    shape: Any
    remedy: str

    def exists(self) -> bool:
        return self.path.is_file()

    def read(self) -> Content:
        """Its content.

        Raises:
            Damaged: it is missing, cut short, edited, or not of its shape.
        """
        return _shaped(decode(_bytes(self.path, self.remedy), self.path, self.remedy), self)

    def find(self) -> Content | None:
        """Its content, None where there is no such file. ``Damaged`` as ``read``."""
        return self.read() if self.exists() else None

    def recall(self) -> Content | None:
        """Its content; None where there is no such file and, with a warning, where it is damaged. For notes of what was
        done: it is then done again.
        """
        try:
            return self.find()
        except Damaged as error:
            log.warning("%s", error)
            return None

    def write(self, content: Content, *, durable: bool = True) -> None:
        """Replace the file in one step (``durable``: see ``atomic.replacing``).

        Raises:
            OSError: the disk refused.
            ValueError: a number is not finite, which is a programmer's error.
        """
        atomic.write_text(self.path, encode(plain(content)), durable=durable)

    def forget(self) -> None:
        """Remove the file, if it is there: what it says is no longer so."""
        self.path.unlink(missing_ok=True)


def plain(content: Any) -> dict[str, Any]:
    """A dataclass as the dictionary that its record holds."""
    if dataclasses.is_dataclass(content) and not isinstance(content, type):
        return dataclasses.asdict(content)
    return dict(content)


def encode(content: Mapping[str, Any]) -> str:
    """The text of a record. A list of lists of whole numbers (a confusion matrix) is printed a row a line: readable,
    and small in a diff.
    """
    sealed = {**{key: value for key, value in content.items() if key != SEAL}, SEAL: seal(content)}
    return "{\n" + ",\n".join(f"  {json.dumps(key)}: {_value(value)}" for key, value in sealed.items()) + "\n}\n"


def seal(content: Mapping[str, Any]) -> str:
    """SHA-256 of a record's entries but the seal itself, whatever their order and the file's layout."""
    left = {key: value for key, value in content.items() if key != SEAL}
    return hashlib.sha256(json.dumps(left, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def decode(data: bytes, path: Path, remedy: str) -> dict[str, Any]:
    """The entries of a record without its seal.

    Raises:
        Damaged: not a JSON object, or not what was sealed.
    """
    try:
        content = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        _damaged(path, f"is not readable as JSON ({_one_line(error)})", remedy)
    if not isinstance(content, dict):
        _damaged(path, "must hold a JSON object", remedy)
    stored = content.pop(SEAL, None)
    if stored is None:
        # Of an earlier release; unless it is the seal's own name that was damaged.
        if any(_LIKE_SEAL.fullmatch(key) for key in content):
            _damaged(path, "is damaged (its seal cannot be read)", remedy)
        return content
    try:
        whole = stored == seal(content)
    except ValueError:
        whole = False
    if not whole:
        _damaged(path, f"is not as it was written (damaged or edited: its {SEAL} does not match)", remedy)
    return content


def _shaped(content: dict[str, Any], record: Record[Content]) -> Content:
    try:
        found: Content = shaped(content, record.shape)
    except Misshapen as error:
        _damaged(record.path, str(error), record.remedy)
    return found


def _bytes(path: Path, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise Damaged(f"{path}: is not there; {remedy}") from None
    except OSError as error:
        raise Damaged(
            f"{path}: cannot be read ({error.strerror or error}); check that disk and its permissions"
        ) from None


def _damaged(path: Path, what: str, remedy: str) -> NoReturn:
    raise Damaged(f"{path}: {what}; {remedy}") from None


def _value(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(row, list) for row in value):
        return "[\n    " + ",\n    ".join(json.dumps(row, allow_nan=False) for row in value) + "\n  ]"
    return json.dumps(value, indent=2, allow_nan=False).replace("\n", "\n  ")


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
