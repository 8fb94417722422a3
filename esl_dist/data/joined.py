"""Several sets as one: their images one set after the other, drawn in proportion to the sets' sizes."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from esl_dist.data.dataset import Dataset, Image


@dataclass(frozen=True)
class Joined:
    """Sets that share classes, one after the other."""

    parts: tuple[Dataset, ...]
    titles: tuple[str, ...]
    """Of each part, unique: begins its images' names, so that two sets' ``00001`` are two."""

    @cached_property
    def names(self) -> Sequence[str]:
        return [f"{title}/{name}" for title, part in zip(self.titles, self.parts, strict=True) for name in part.names]

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(len(part) for part in self.parts))

    @property
    def labelled(self) -> bool:
        return all(part.labelled for part in self.parts)

    @cached_property
    def image_files(self) -> list[Path]:
        return [file for part in self.parts for file in _files(part).image_files]

    @cached_property
    def label_files(self) -> list[Path] | None:
        return [file for part in self.parts for file in _files(part).label_files] if self.labelled else None

    def __len__(self) -> int:
        return self._ends[-1]

    def origin(self, index: int) -> tuple[Dataset, int]:
        """The set that holds a sample, and its index there."""
        number = bisect.bisect_right(self._ends, index)
        return self.parts[number], index - (self._ends[number - 1] if number else 0)

    def image(self, index: int) -> Image:
        part, place = self.origin(index)
        return part.image(place)

    def label(self, index: int) -> Image:
        part, place = self.origin(index)
        return part.label(place)

    def size(self, index: int) -> tuple[int, int]:
        part, place = self.origin(index)
        return part.size(place)


def join(parts: Sequence[Dataset], titles: Sequence[str]) -> Dataset:
    """One set of several; the one itself where there is one. A title that comes twice is numbered."""
    if len(parts) == 1:
        return parts[0]
    unique = [title if titles.count(title) == 1 else f"{title}-{i + 1}" for i, title in enumerate(titles)]
    return Joined(tuple(parts), tuple(unique))


def parts_of(dataset: Dataset) -> Sequence[Dataset]:
    """The sets that a set was joined from; itself where it was not."""
    return dataset.parts if isinstance(dataset, Joined) else [dataset]


def _files(part: Dataset) -> Any:
    return getattr(part, "originals", part)
