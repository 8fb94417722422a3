"""The data sets of a configuration, looked at before anything is trained on them: do the files open, fit and mean what
they should?
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esl_dist.config.load import run_dir
from esl_dist.config.schema import Config, DomainConfig
from esl_dist.data import DataError, domains, open_dataset
from esl_dist.data.dataset import FolderDataset
from esl_dist.data.sampler import index_at
from esl_dist.diagnostics.check import Check
from esl_dist.diagnostics.sheet import contact_sheet
from esl_dist.labels import IGNORE, Protocol, protocol
from esl_dist.runs import RunFolder

SHEET_ROWS = 6
SHOWN = 3
"""Files named per kind of fault."""


@dataclass
class Findings:
    """What reading some samples of a set showed."""

    read: int = 0
    """Samples looked at, broken ones included."""
    unreadable: list[str] = field(default_factory=list)
    """Images and labels that cannot be decoded, labels of another size than their image: what is wrong with each."""
    illegal: Counter[int] = field(default_factory=Counter)
    """Stored id that the data set does not have -> label files that hold it."""
    illegal_file: str = ""
    """The first such file."""
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Width and height -> images."""
    ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    """Pixels by stored id."""


def check(config: Config, seconds: float = 12.0) -> list[Check]:
    """Open every set of a configuration and read samples of it; one finding per question, the worst news first in each.

    Args:
        seconds: time for reading each set; sets that take longer are sampled evenly, and the finding says how many were
            read.
            ``math.inf`` reads everything.

    Contact sheets go to ``data_check/<set>.png`` in the run folder.
    """
    data, found = config.data, list[Check]()
    for name, domain, split in sets_of(config):
        try:
            opened = open_dataset(domain, data.root, data.classes, split=split)
        except ValueError as error:
            if data.streets.make:
                found.append(
                    Check(
                        f"{name} files",
                        "warning",
                        str(error),
                        "the embedded pair is made before the first stage, or by python -m esl_dist.streets",
                    )
                )
            else:
                found.append(
                    Check(
                        f"{name} files",
                        "broken",
                        str(error),
                        f"set data.root and data.{name.split()[0] if name != 'scored' else 'target'}.root to your "
                        f"folders",
                    )
                )
            continue
        found += check_set(
            name,
            opened,
            protocol(data.classes),
            data.bad_samples,
            RunFolder(run_dir(config)).data_check(name),
            seconds,
        )
    return found


def sets_of(config: Config) -> list[tuple[str, DomainConfig, str]]:
    """Name, domain and split of every set that a configuration reads."""
    data = config.data
    sets = []
    for which in ("source", "target"):
        for number, domain in enumerate(domains(data, which), start=1):
            sets.append((which if number == 1 else f"{which} {number}", domain, domain.split))
    if config.eval.split and data.target.labelled and config.eval.split != data.target.split:
        sets.append(("scored", data.target, config.eval.split))
    return sets


def check_set(
    name: str, data: FolderDataset, table: Protocol, allowed: int, sheet: Path, seconds: float
) -> list[Check]:
    """The findings of one set.

    Args:
        allowed: unreadable samples that a run survives (``data.bad_samples``).
        sheet: the contact sheet to write.
    """
    # A permutation: the first samples of it are spread over the whole set.
    order = [index_at(0, position, len(data)) for position in range(len(data))]
    findings = read(data, order, seconds)
    part = "all read" if findings.read == len(data) else f"{findings.read} read"
    rows = contact_sheet(data, order[:SHEET_ROWS], table, sheet)
    picture = f"; look at {sheet}" if rows else ""
    labelled = "with a label each" if data.labelled else "without labels"
    checks = [Check(f"{name} files", "ok", f"{len(data)} images {labelled}, {part}, {_sizes(findings.sizes)}{picture}")]
    if findings.unreadable:
        text = f"{len(findings.unreadable)} of {findings.read}: {_some(findings.unreadable)}"
        if len(findings.unreadable) <= allowed:
            checks.append(
                Check(
                    f"{name} unreadable",
                    "warning",
                    text,
                    "mend or delete them; a run replaces them, counts them and stops beyond data.bad_samples",
                )
            )
        else:
            checks.append(
                Check(
                    f"{name} unreadable",
                    "broken",
                    text,
                    f"more than data.bad_samples={allowed}: a run would stop; mend them or leave them out with a list",
                )
            )
    if findings.illegal:
        ids = ", ".join(f"{i} (in {count} files)" for i, count in sorted(findings.illegal.items()))
        checks.append(
            Check(
                f"{name} ids",
                "broken",
                f"ids that this data set does not have: {ids}; first in {findings.illegal_file}",
                "these are labels of another encoding, or damaged",
            )
        )
    if data.labelled and findings.ids.any():
        checks.append(_classes(name, data, table, findings))
    return checks


def read(data: FolderDataset, order: Sequence[int], seconds: float) -> Findings:
    """Decode samples in the given order until the time is over (at least one)."""
    findings, end = Findings(), time.monotonic() + seconds
    for index in order:
        try:
            height, width, _ = data.image(index).shape
            findings.sizes[(width, height)] += 1
            if data.labelled:
                counts = np.bincount(data.raw_label(index).reshape(-1), minlength=256)
                findings.ids += counts
                wrong = np.flatnonzero((counts > 0) & data.illegal).tolist()
                findings.illegal.update(wrong)
                if wrong and not findings.illegal_file and data.label_files:
                    findings.illegal_file = str(data.label_files[index])
        except DataError as error:
            findings.unreadable.append(str(error))
        findings.read += 1
        if time.monotonic() > end:
            break
    return findings


def class_shares(data: FolderDataset, table: Protocol, ids: NDArray[np.int64]) -> tuple[NDArray[np.float64], float]:
    """Share of each class among the labelled pixels, and share of the ignored among all (0-1); ``ids`` counts pixels by
    stored id.
    """
    train_ids = np.where(data.illegal, IGNORE, data.lookup)
    pixels = np.bincount(train_ids, weights=ids, minlength=256)
    kept = pixels[: table.num_classes]
    return kept / max(kept.sum(), 1), 1 - kept.sum() / max(ids.sum(), 1)


def _classes(name: str, data: FolderDataset, table: Protocol, findings: Findings) -> Check:
    shares, ignored = class_shares(data, table, findings.ids)
    listed = ", ".join(
        f"{table.classes[c]} {_percent(shares[c])}" for c in np.argsort(-shares, kind="stable") if shares[c] > 0
    )
    absent = [table.classes[c] for c in np.flatnonzero(shares == 0)]
    if len(absent) == table.num_classes:
        return Check(
            f"{name} classes",
            "broken",
            "every pixel is ignored",
            f"the labels are not of {table.name}'s kind: choose another data.classes or label folder",
        )
    text = f"{listed}; ignored {_percent(ignored)} of the pixels"
    if not absent:
        return Check(f"{name} classes", "ok", text)
    return Check(
        f"{name} classes",
        "warning",
        f"absent: {', '.join(absent)}; {text}",
        "nothing can be learned or scored on an absent class here; fine if the data set is known to lack it",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 5e-4 else "< 0.1 %"


def _sizes(sizes: Counter[tuple[int, int]]) -> str:
    if not sizes:
        return "none readable"
    named = ", ".join(
        f"{w}x{h}" + (f" ({count})" if len(sizes) > 1 else "") for (w, h), count in sizes.most_common(SHOWN)
    )
    return named + (f" and {len(sizes) - SHOWN} other sizes" if len(sizes) > SHOWN else "")


def _some(texts: Sequence[str]) -> str:
    return "; ".join(texts[:SHOWN]) + (f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else "")
