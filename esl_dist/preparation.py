"""Preparing the data sets of a configuration on all ranks: who makes which file, how long it takes, when to stop."""

from __future__ import annotations

import functools
import itertools
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from esl_dist.config.schema import Config
from esl_dist.data import domains, to_prepare
from esl_dist.data.prepared import Entry, FileMaker, Prepared, Wanted, other_settings, publish, read_manifest
from esl_dist.data.workers import Produced
from esl_dist.distributed import collectives
from esl_dist.distributed.collectives import agree
from esl_dist.synthetic.streets import ensure_pair
from esl_dist.tracking.console import duration

log = logging.getLogger(__name__)

IMAGES_PER_FILE = 256


def prepare(config: Config, workers: int, per_file: int = IMAGES_PER_FILE) -> list[dict[str, Any]]:
    """Make what is missing of source, target and scored images, each at the size that the configuration reads it at.
    All ranks call it.

    A file that is there is kept if every checksum agrees. The result does not depend on ranks and workers.

    Args:
        workers: processes per rank; 0 works in this one.
        per_file: images per HDF5 file, which is what a kill loses at most of each worker's work.

    Returns:
        For each set: ``folder``, ``images``, ``bytes``, ``seconds``, ``made`` (files made now) and ``unreadable``.

    Raises:
        ValueError: one line: a wrong option, data that are not there, labels of another encoding, too many unreadable
            images, no room.
    """
    data = config.data
    if not data.prepared:
        raise ValueError("data.prepared: is empty, so prepared data would never be read; name a folder")
    if data.streets.make and collectives.is_main():
        ensure_pair(Path(data.root), data.streets, log.info)
    collectives.barrier()
    return [_prepare(wanted, workers, per_file, data.bad_samples) for wanted in agree(lambda: _sets(config))]


def _sets(config: Config) -> list[Wanted]:
    data = config.data
    sets = [to_prepare(domain, data) for which in ("source", "target") for domain in domains(data, which)]
    if config.eval.split and data.target.labelled:
        sets.append(to_prepare(data.target, data, config.eval.input_size, config.eval.split))
    return list({wanted.folder: wanted for wanted in sets}.values())


def _prepare(wanted: Wanted, workers: int, per_file: int, allowed: int) -> dict[str, Any]:
    began, rank, world = time.monotonic(), collectives.rank(), collectives.world()
    recorded = agree(lambda: _recorded(wanted))
    agree(lambda: _check_room(wanted, per_file))
    total, files = len(wanted.originals), wanted.files(per_file)
    share, at_once = len(range(rank, files, world)), max(workers, 1)
    log.info("%s: %d images of %dx%d in %d files", wanted.folder, total, *wanted.size, files)
    making = Produced(
        FileMaker(wanted, per_file, recorded, rank, world), start=0, stop=share, workers=min(workers, share), prefetch=1
    )
    entries: list[Entry] = []
    made = images_made = 0
    bad: list[str] = []
    try:
        # In rounds that all ranks go through together: an error on one is known to all, and none waits long for
        # another.
        for _ in range(-(-files // (world * at_once))):
            mine = agree(functools.partial(_take, making, at_once))
            for prepared in itertools.chain.from_iterable(map(_from_json, collectives.gather_json(mine))):
                entries.append(prepared.entry)
                made += prepared.made
                images_made += prepared.entry["images"] * prepared.made
                bad += prepared.entry["unreadable"]
                if prepared.rejected:
                    log.warning("%s: %s; made again", wanted.folder, prepared.rejected)
                for text in prepared.entry["unreadable"]:
                    log.warning("%s: cannot be used: %s", wanted.folder, text)
            agree(functools.partial(_check_bad, wanted, len(bad), allowed))
            done, seconds = sum(entry["images"] for entry in entries), time.monotonic() - began
            left = (
                f"{images_made / seconds:.1f} images/s, {duration(seconds / images_made * (total - done))} left"
                if images_made
                else "there already"
            )
            log.info("%s: %d of %d images, %s", wanted.folder.name, done, total, left)
    finally:
        making.close()
    entries.sort(key=lambda entry: entry["first"])
    if collectives.is_main():
        publish(wanted, per_file, entries)
    collectives.barrier()
    return {
        "folder": str(wanted.folder),
        "images": total,
        "bytes": sum(entry["bytes"] for entry in entries),
        "seconds": round(time.monotonic() - began, 3),
        "made": made,
        "unreadable": len(bad),
    }


def _take(making: Iterator[Prepared], count: int) -> list[Prepared]:
    return list(itertools.islice(making, count))


def _from_json(rank_share: list[Any]) -> Iterator[Prepared]:
    return itertools.starmap(Prepared, rank_share)


def _check_bad(wanted: Wanted, bad: int, allowed: int) -> None:
    if bad > allowed:
        raise ValueError(
            f"{wanted.folder}: {bad} unreadable samples, data.bad_samples allows {allowed}; mend the files named above,"
            " or raise the bound"
        )


def _recorded(wanted: Wanted) -> dict[str, str]:
    """SHA-256 of the files by an earlier manifest."""
    manifest = read_manifest(wanted.folder)
    if manifest is None:
        return {}
    differing = other_settings(manifest, wanted)
    if differing:
        raise ValueError(
            f"data.prepared: {wanted.folder} was made with other settings ({differing}); delete that folder, or choose"
            " another data.prepared"
        )
    return {entry["file"]: entry["sha256"] for entry in manifest["files"]}


def _check_room(wanted: Wanted, per_file: int) -> None:
    """Refuse before the first file what will not fit: images are stored as they are, labels at a tenth or less."""
    there = [number for number in range(wanted.files(per_file)) if not wanted.path(number).exists()]
    needed = sum(len(wanted.rows(number, per_file)) for number in there) * 3 * wanted.size[0] * wanted.size[1]
    wanted.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(wanted.folder).free
    if needed > free:
        raise ValueError(
            f"data.prepared: {wanted.folder} needs {needed / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free; set it to"
            " a folder on a larger disk"
        )
