"""How a stage is written in ``run.stages``: ``name``, ``name:variant``, and ``+it`` for source images in the target's
look.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from esl_dist.config.check import require

_ENTRY = re.compile(r"(?P<name>[^:+]+)(:(?P<variant>[^+]+))?(?P<it>\+it(?P<number>[2-9]|[1-9]\d+)?)?")


@dataclass(frozen=True)
class Entry:
    """One word of ``run.stages``, taken apart."""

    name: str
    variant: str = ""
    images: int = 0
    """Number of the translation whose images it takes for the source's: ``+it`` 1, ``+it2`` 2; 0 takes the
    originals.
    """

    @property
    def word(self) -> str:
        """As written."""
        return self.name + (f":{self.variant}" if self.variant else "") + (f"+{self.mark}" if self.images else "")

    @property
    def folder(self) -> str:
        """Its name in a run folder."""
        return self.word.replace(":", "-").replace("+", "-")

    @property
    def mark(self) -> str:
        """The images in short, for names: ``it``, ``it2``; empty for the originals."""
        return f"it{self.images if self.images > 1 else ''}" if self.images else ""


def parse(word: str) -> Entry:
    """``align:minent+it2`` -> ``Entry("align", "minent", 2)``.

    Raises:
        ValueError: a word of another form.
    """
    found = _ENTRY.fullmatch(word)
    require(found is not None, "run.stages", f"{word!r} is not written name, name:variant, name+it or name:variant+it2")
    assert found is not None
    return Entry(found["name"], found["variant"] or "", int(found["number"] or 1) if found["it"] else 0)
