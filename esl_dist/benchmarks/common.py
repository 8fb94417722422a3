"""What the benchmarks share: the field's usual sizes, the package's own extraction, a process of its own for every
measurement.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from esl_dist.config.schema import ExtractConfig, PseudoLabelConfig
from esl_dist.pseudo_labels.extraction import Extraction
from esl_dist.pseudo_labels.sets.forward import Forward, TargetImages
from esl_dist.pseudo_labels.sets.label_sets import LabelSet
from esl_dist.pseudo_labels.sets.teacher import Teacher
from esl_dist.runs import RunFolder

NUM_CLASSES = 19
BATCH = 4
RECORDS = RunFolder(Path()).flight_recorder
"""Where a stall of a benchmark's ranks leaves its records."""


def make_labels(
    forward: Forward,
    images: TargetImages,
    out: Path,
    settings: Mapping[str, PseudoLabelConfig],
    size: tuple[int, int],
    *,
    from_spool: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> list[LabelSet]:
    """The whole of this package's extraction, one label set per entry of ``settings``: scores, spool, both passes,
    PNGs.
    """
    classes = [f"class {c}" for c in range(NUM_CLASSES)]
    teacher = Teacher(lambda: contextlib.nullcontext(forward), {"checkpoint": "generated"}, classes)
    config = ExtractConfig(size=size, batch=BATCH, spool="scores")
    extraction = Extraction(teacher, images, config, out / "spool", from_spool=from_spool, report=report)
    return extraction.make(settings, out, out)


class Peak:
    """The largest memory of this process from here on, above what it holds now."""

    def __init__(self) -> None:
        with contextlib.suppress(OSError):  # the figure then includes the start, too high rather than too low
            Path("/proc/self/clear_refs").write_text("5")  # the kernel forgets the peak so far
        self._before = _status("VmRSS")

    def mib(self) -> float:
        return (_status("VmHWM") - self._before) / 1024


def _status(field: str) -> int:
    """A figure of /proc/self/status in KiB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field + ":"))


def without_numba() -> None:
    """From here on an import of it fails in this process, as where it is not installed."""
    sys.modules["numba"] = None  # type: ignore[assignment]


def apart(function: Callable[..., Any], *arguments: object) -> dict[str, Any]:
    """What ``function`` (of a module, its result JSON) returns in a process of its own, so that none warms or fills
    another's memory.
    """
    command = (
        f"import json; from {function.__module__} import {function.__name__} as measure;"
        f" print(json.dumps(measure(*{arguments!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"benchmark {function.__name__}{arguments} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
