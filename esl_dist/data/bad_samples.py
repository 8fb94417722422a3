"""One rule for samples that cannot be read, wherever they are met: distinct ones are counted, named, bounded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Bad(NamedTuple):
    """A sample (an image with its label) that cannot be read."""

    number: int
    """Its index in the data set."""
    name: str
    reason: str
    """One line that begins with the file."""


class BadSamples:
    """The distinct samples of one set that could not be read so far, in training, labels, scoring or preparation.

    A sample that is read again and again counts once. Every rank that holds one must be given the same samples.
    """

    def __init__(self, what: str, allowed: int) -> None:
        """
        Args:
            what: the set, for the message (``source``, ``target``, a folder).
            allowed: ``data.bad_samples``.
        """
        self.what, self.allowed = what, allowed
        self.found: dict[str, str] = {}
        """Name to reason, in the order in which they were met."""

    def add(self, samples: Iterable[Bad]) -> list[Bad]:
        """Take them in; returns those that were not known, each once."""
        new = []
        for sample in samples:
            if sample.name not in self.found:
                self.found[sample.name] = sample.reason
                new.append(sample)
        return new

    def check(self) -> None:
        """
        Raises:
            ValueError: more than are allowed; names the last.
        """
        if len(self.found) > self.allowed:
            raise ValueError(
                f"{self.what}: {len(self.found)} unreadable samples, data.bad_samples allows {self.allowed}; the last: "
                f"{next(reversed(self.found.values()))}; mend them, leave them out with a list, or raise the bound"
            )
