"""Reading prepared data in place of the originals."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from esl_dist.data.dataset import Dataset, FolderDataset, Image
from esl_dist.data.joined import Joined
from esl_dist.data.prepared import shard
from esl_dist.data.prepared.make import other_settings, read_manifest
from esl_dist.data.prepared.shard import DamagedError, What
from esl_dist.data.prepared.wanted import MANIFEST, Entry, Wanted
from esl_dist.data.subset import Subset
from esl_dist.data.transforms import Fit, fit_image, fit_label

log = logging.getLogger(__name__)

AGAIN = "python -m esl_dist.prepare makes it again"


@dataclass(frozen=True)
class PreparedDataset:
    """A data set whose images and labels are also there at one size. Everything at another size comes from the
    originals.
    """

    wanted: Wanted
    per_file: int
    usable: frozenset[int]
    """Numbers of the files that are as the manifest says."""
    damaged: set[int] = field(default_factory=set, compare=False)
    """Files that turned out damaged while reading: noted per process."""

    @property
    def originals(self) -> FolderDataset:
        return self.wanted.originals

    @property
    def names(self) -> Sequence[str]:
        return self.originals.names

    @property
    def labelled(self) -> bool:
        return self.originals.labelled

    def __len__(self) -> int:
        return len(self.originals)

    def image(self, index: int) -> Image:
        return self.originals.image(index)

    def label(self, index: int) -> Image:
        return self.originals.label(index)

    def size(self, index: int) -> tuple[int, int]:
        return self.originals.size(index)

    def is_at(self, size: tuple[int, int], fit: Fit) -> bool:
        """Whether it is prepared at this (width, height)."""
        return (self.wanted.size, self.wanted.fit) == (tuple(size), fit)

    def prepared(self, index: int, what: What) -> Tensor | None:
        """uint8 image ``[3, H, W]`` or train ids ``[H, W]`` at the prepared size, None where its file cannot be used.

        Raises:
            DataError: the original could not be read when it was prepared.
        """
        number, row = divmod(index, self.per_file)
        if number not in self.usable or number in self.damaged:
            return None
        path = self.wanted.path(number)
        try:
            return torch.from_numpy(shard.read(path, row, what))
        except DamagedError as error:
            self.damaged.add(number)
            log.warning("%s: %s: the images in it are read from the originals; %s", path.parent, error, AGAIN)
            return None


def fitted_image(dataset: Dataset, index: int, size: tuple[int, int], fit: Fit) -> Tensor:
    """A sample's image on a canvas of ``size`` (width, height), uint8 ``[3, H, W]``: prepared, or the original fitted
    to it. The same bytes.
    """
    if isinstance(dataset, Subset | Joined):
        return fitted_image(*dataset.origin(index), size, fit)
    if isinstance(dataset, PreparedDataset) and dataset.is_at(size, fit):
        found = dataset.prepared(index, "image")
        if found is not None:
            return found
    return fit_image(dataset.image(index), size, fit)


def fitted_label(dataset: Dataset, index: int, size: tuple[int, int], fit: Fit) -> Tensor:
    """A sample's train ids on a canvas of ``size`` (width, height), uint8 ``[H, W]``; likewise."""
    if isinstance(dataset, Subset | Joined):
        return fitted_label(*dataset.origin(index), size, fit)
    if isinstance(dataset, PreparedDataset) and dataset.is_at(size, fit):
        found = dataset.prepared(index, "label")
        if found is not None:
            return found
    return fit_label(dataset.label(index), size, fit)


def use(wanted: Wanted) -> tuple[Dataset, str]:
    """What to read a data set from, and a sentence about it (empty where nothing is prepared).

    Files that are missing, of another size than recorded or made of other originals are not used: their images come
    from the originals. Only names and sizes are looked at here; checksums are compared as images are read.
    """
    manifest, folder = read_manifest(wanted.folder), wanted.folder
    if manifest is None:
        if folder.is_dir():
            return wanted.originals, f"the prepared data in {folder} is not complete: reading the originals ({AGAIN})"
        others = sorted(path.parent.name for path in folder.parent.glob(f"{wanted.stem}-*/{MANIFEST}"))
        return (
            wanted.originals,
            (
                f"prepared data is there as {', '.join(others)}, not as {folder.name}: reading the originals"
                if others
                else ""
            ),
        )
    differing = other_settings(manifest, wanted)
    if differing:
        return (
            wanted.originals,
            f"the prepared data in {folder} was made with other settings ({differing}): reading the originals",
        )
    per_file: int = manifest["images_per_file"]
    problems = {
        number: _problem(wanted, number, per_file, manifest["files"]) for number in range(wanted.files(per_file))
    }
    usable = frozenset(number for number, problem in problems.items() if not problem)
    first = next((problem for problem in problems.values() if problem), "")
    if not usable:
        return (
            wanted.originals,
            f"the prepared data in {folder} cannot be used ({first}): reading the originals ({AGAIN})",
        )
    if first:
        some = (
            f"{len(problems) - len(usable)} of {len(problems)} files of the prepared data in {folder} cannot be used"
            f" ({first} first)"
        )
        return PreparedDataset(wanted, per_file, usable), f"{some}: their images are read from the originals ({AGAIN})"
    return PreparedDataset(wanted, per_file, usable), f"reading prepared data: {folder}"


def _problem(wanted: Wanted, number: int, per_file: int, files: Sequence[Entry]) -> str:
    """Why a file of prepared data cannot be used; empty where it can."""
    path = wanted.path(number)
    try:
        entry = files[number]
        if entry["file"] != path.name or entry["originals"] != wanted.originals_sha256(wanted.rows(number, per_file)):
            return f"{path.name} was made of other images or labels"
        found, recorded = path.stat().st_size, entry["bytes"]
    except FileNotFoundError:
        return f"{path.name} is missing"
    except (OSError, LookupError, TypeError):
        return f"{path.name} is not in the manifest or cannot be opened"
    return "" if found == recorded else f"{path.name} has {found} bytes instead of {recorded}"
