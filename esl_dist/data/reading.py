"""Every file of a set read once: which samples cannot be, kept with the files' sizes and dates."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from esl_dist import processes
from esl_dist.config.schema import DataConfig
from esl_dist.data.bad_samples import Bad, BadSamples
from esl_dist.data.dataset import DataError, Dataset, FolderDataset
from esl_dist.data.prepared import PreparedDataset
from esl_dist.runs import Record

AT_ONCE = 64
"""Samples between two looks at the clock of whoever waits."""

Known = Mapping[str, tuple[list[int], str]]
"""Name of a sample -> sizes and dates of its files when it was read, and what was wrong (empty: nothing)."""


def read_all(dataset: FolderDataset, data: DataConfig, said: Callable[[int, int], None], threads: int = 0) -> list[Bad]:
    """Decode every image and label that has not been read as it is now; the samples that cannot be, in order.

    Args:
        said: told now and then how many samples are done, and of how many.
        threads: 0 takes one per core; decoders let go of the interpreter.

    A label of another encoding is one of them here, though a run stops at the first.
    """
    place, before = _place(dataset, data), _kept(dataset, data)
    found: dict[str, tuple[list[int], str]] = {}
    left = []
    for index, name in enumerate(dataset.names):
        stamp = _stamp(dataset, index)
        if name in before and before[name][0] == stamp:
            found[name] = (stamp, before[name][1])
        else:
            left.append((index, stamp))
    said(len(found), len(dataset))
    with ThreadPoolExecutor(threads or processes.cores()) as pool:
        for first in range(0, len(left), AT_ONCE):
            some = left[first : first + AT_ONCE]
            reasons = pool.map(lambda pair: _wrong(dataset, pair[0]), some)
            found |= {dataset.names[i]: (stamp, why) for (i, stamp), why in zip(some, reasons, strict=True)}
            said(len(found), len(dataset))
    if place is not None and left:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            _record(place).write(found)
        except OSError:
            pass  # a data folder that cannot be written to: it is read again next time
    return list(_bad(dataset, found))


def known_bad(dataset: Dataset, data: DataConfig) -> list[Bad]:
    """What an earlier ``read_all`` found, of files that are still as they were then; nothing is read."""
    files = dataset.originals if isinstance(dataset, PreparedDataset) else dataset
    if not isinstance(files, FolderDataset):
        return []
    kept = _kept(files, data)
    wrong = {name for name, (_, why) in kept.items() if why}
    now = {
        name: kept[name] for i, name in enumerate(files.names) if name in wrong and kept[name][0] == _stamp(files, i)
    }
    return list(_bad(files, now))


def refuse_known(dataset: Dataset, data: DataConfig, what: str) -> list[Bad]:
    """``known_bad``, if it is within ``data.bad_samples``.

    Raises:
        ValueError: a run would stop at these samples, sooner or later.
    """
    found = known_bad(dataset, data)
    counted = BadSamples(what, data.bad_samples)
    counted.add(found)
    counted.check()
    return found


def _wrong(dataset: FolderDataset, index: int) -> str:
    try:
        dataset.image(index)
        if dataset.labelled:
            dataset.label(index)
    except DataError as error:
        return str(error)
    return ""


def _bad(dataset: FolderDataset, found: Known) -> Iterator[Bad]:
    for index, name in enumerate(dataset.names):
        if name in found and found[name][1]:
            yield Bad(index, name, found[name][1])


def _stamp(dataset: FolderDataset, index: int) -> list[int]:
    """Size and date of a sample's files; empty where one is missing, which never counts as known."""
    stamp: list[int] = []
    for files in (dataset.image_files, dataset.label_files or ()):
        if files:
            try:
                status = os.stat(files[index])
            except OSError:
                return []
            stamp += [status.st_size, status.st_mtime_ns]
    return stamp


def _place(dataset: FolderDataset, data: DataConfig) -> Path | None:
    """Where it is kept: named after the set's files and what its ids mean."""
    if not data.prepared:
        return None
    digest = hashlib.sha256(dataset.lookup.tobytes())
    for files in (dataset.image_files, dataset.label_files or ()):
        digest.update("\n".join(map(str, files)).encode())
    return Path(data.root, data.prepared, "read", f"{digest.hexdigest()[:32]}.json")


def _kept(dataset: FolderDataset, data: DataConfig) -> Known:
    """What an earlier reading found; nothing where there is none, or (with a warning) where its record is damaged."""
    place = _place(dataset, data)
    content = None if place is None else _record(place).recall()
    return {name: (list(stamp), why) for name, (stamp, why) in (content or {}).items()}


def _record(place: Path) -> Record[Mapping[str, tuple[list[int], str]]]:
    return Record(place, dict[str, tuple[list[int], str]], "every file is read again")
