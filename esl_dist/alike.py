"""Ranks that would train different things: options, data and code are compared before the first stage."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

import esl_dist
from esl_dist.config import load
from esl_dist.config.schema import Config
from esl_dist.data import Dataset
from esl_dist.distributed import collectives
from esl_dist.distributed.same import require_same

PER_MACHINE = (
    "data.root",
    "data.source.root",
    "data.target.root",
    "data.prepared",
    "data.workers",
    "extract.spool_dir",
    "run.dir",
    "run.threads",
    "tracking.uri",
)
"""Where a machine keeps things, and how hard it works: may differ; what lies in these folders may not."""
ADVICE = {
    "configuration": "start every rank with the same options",
    "source data": "give every machine the same files",
    "target data": "give every machine the same files",
    "scored data": "give every machine the same files",
    "code": "install the same version of esl_dist on every machine",
    "libraries": "install the same versions on every machine",
}
THREADS, PER_TASK = 16, 256
"""A file's size is a round trip on a network file system."""


def require_alike(config: Config, source: Dataset, target: Dataset, scored: Dataset | None) -> None:
    """Compare over the ranks; alone, nothing is read.

    Raises:
        ValueError: on every rank, naming the first that differs from rank 0 and in what.
    """
    if collectives.world() == 1:
        return
    data = {"source data": source, "target data": target, "scored data": scored}
    facts: dict[str, Mapping[str, str]] = {"configuration": options(config), "code": code(), "libraries": libraries()}
    require_same({**facts, **{kind: files(dataset) for kind, dataset in data.items()}}, ADVICE)


def options(config: Config) -> dict[str, str]:
    """Option -> value, without what each machine may have its own way."""
    return {key: repr(value) for key, value in load.flat(config).items() if key not in PER_MACHINE}


def code() -> dict[str, str]:
    """File of the package -> digest."""
    root = Path(esl_dist.__file__).parent
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for path in root.rglob("*.py")
    }


def libraries() -> dict[str, str]:
    """What arithmetic runs on."""
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}


def files(dataset: Dataset | None) -> dict[str, str]:
    """Name of an image -> its place in the set and the sizes in bytes of its files."""
    if dataset is None:
        return {}
    dataset = getattr(dataset, "originals", dataset)  # whether a machine has them prepared is its own affair
    images: Iterable[Path] = getattr(dataset, "image_files", None) or ()
    labels: Iterable[Path] = getattr(dataset, "label_files", None) or ()
    sizes = [_sizes(list(paths)) for paths in (images, labels)]
    columns = [column or [""] * len(dataset) for column in sizes]
    return {
        name: f"number {place}, {', '.join(filter(None, parts))}"
        for place, (name, *parts) in enumerate(zip(dataset.names, *columns, strict=True))
    }


def _sizes(paths: Sequence[Path]) -> list[str]:
    """In order; a few hundred to a task, because a size takes less time than handing out a task."""
    parts = [paths[start : start + PER_TASK] for start in range(0, len(paths), PER_TASK)]
    with ThreadPoolExecutor(THREADS) as pool:
        return [size for part in pool.map(lambda part: [_size(path) for path in part], parts) for size in part]


def _size(path: Path) -> str:
    try:
        return f"{os.stat(path).st_size} bytes"
    except OSError as error:
        return f"{error.strerror}"
