"""Images and labels as their owners ship them, in an order and with changes that depend on (seed, position) only."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from esl_dist.config.schema import DataConfig, DomainConfig
from esl_dist.data.dataset import DataError, Dataset, FolderDataset
from esl_dist.data.folder import FOLDER, open_folder
from esl_dist.data.joined import join
from esl_dist.data.layout import open_layout
from esl_dist.data.meaning import meaning_of
from esl_dist.data.prepared import Wanted, describe, use
from esl_dist.data.sets import DATASETS
from esl_dist.labels import protocol

__all__ = ["DataError", "Dataset", "domains", "open_at_size", "open_dataset", "open_domain", "to_prepare"]

log = logging.getLogger(__name__)


def open_dataset(domain: DomainConfig, root: str, classes: str, split: str | None = None) -> FolderDataset:
    """The images (and labels, unless withheld) of one domain; files are listed and paired, not read.

    Args:
        domain: data set, folder, split, list.
        root: what a relative ``domain.root`` starts from.
        classes: that labels are mapped to: a shipped name or the path of a class file.
        split: another split than ``domain.split``; ``domain.list``, which belongs to that one, is then not used.

    Raises:
        ValueError: one line naming the folder, list or file that is wrong, and the way out.
    """
    folder, table = Path(root, domain.root), protocol(classes)
    chosen = domain.split if split is None else split
    listed = domain.list and (chosen == domain.split or domain.shares)  # shares are of what is listed
    list_file = _list_file(domain.list, folder) if listed else None
    if domain.dataset == FOLDER:
        return open_folder(folder, chosen, domain, table, list_file)
    if domain.dataset not in DATASETS:
        raise ValueError(f"dataset: unknown {domain.dataset!r}; one of {', '.join((*DATASETS, FOLDER))}")
    layout = DATASETS[domain.dataset](folder, chosen, domain)
    meaning = meaning_of(domain.encoding, table) if domain.encoding else None
    return open_layout(folder, layout, table, labelled=domain.labelled, list_file=list_file, meaning=meaning)


def to_prepare(
    domain: DomainConfig, data: DataConfig, size: tuple[int, int] | None = None, split: str | None = None
) -> Wanted:
    """What ``python -m esl_dist.prepare`` makes of a domain: its images and labels at ``size`` (width, height; None:
    the domain's).
    """
    originals = open_dataset(domain, data.root, data.classes, split)
    return describe(
        originals,
        domain,
        domain.split if split is None else split,
        size or domain.size,
        data.classes,
        Path(data.root, data.prepared),
    )


def open_at_size(
    domain: DomainConfig, data: DataConfig, size: tuple[int, int] | None = None, split: str | None = None
) -> Dataset:
    """As ``open_dataset``, for images that will be wanted at ``size``: from prepared data where it gives the same, and
    one log line about it.
    """
    if not data.prepared:
        return open_dataset(domain, data.root, data.classes, split)
    dataset, sentence = use(to_prepare(domain, data, size, split))
    if sentence:
        log.info("%s", sentence)
    return dataset


def domains(data: DataConfig, which: str) -> list[DomainConfig]:
    """The sets that make up ``source`` or ``target``, all at the first's size."""
    first: DomainConfig = getattr(data, which)
    return [first, *(replace(more, size=first.size, fit=first.fit) for more in getattr(data, f"also_{which}"))]


def open_domain(data: DataConfig, which: str) -> Dataset:
    """``source`` or ``target`` as ``open_at_size`` opens it, several sets as one."""
    several = domains(data, which)
    return join([open_at_size(domain, data) for domain in several], [domain.dataset for domain in several])


def _list_file(name: str, folder: Path) -> Path:
    """A list beside the data, or a path of the user's."""
    beside = folder / name
    return beside if beside.is_file() else Path(name)
