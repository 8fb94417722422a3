"""Part of a data set, in its order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from esl_dist.data.dataset import Dataset, Image


@dataclass(frozen=True)
class Subset:
    """Some samples of a set, renumbered from 0."""

    base: Dataset
    indices: tuple[int, ...]

    @property
    def names(self) -> Sequence[str]:
        return [self.base.names[index] for index in self.indices]

    @property
    def labelled(self) -> bool:
        return self.base.labelled

    def __len__(self) -> int:
        return len(self.indices)

    def origin(self, index: int) -> tuple[Dataset, int]:
        """The set that it is part of, and a sample's index there."""
        return self.base, self.indices[index]

    def image(self, index: int) -> Image:
        return self.base.image(self.indices[index])

    def label(self, index: int) -> Image:
        return self.base.label(self.indices[index])

    def size(self, index: int) -> tuple[int, int]:
        return self.base.size(self.indices[index])


def without(dataset: Dataset, names: Collection[str]) -> Dataset:
    """A set without some of its samples (those that could not be read); the set itself where it has none of them.

    Raises:
        ValueError: nothing is left.
    """
    left = tuple(index for index, name in enumerate(dataset.names) if name not in names)
    if not left:
        raise ValueError(f"none of these {len(dataset)} images can be read")
    return dataset if len(left) == len(dataset) else Subset(dataset, left)
