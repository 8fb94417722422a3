"""Every file of every set of a configuration, read once: what a run would meet hours later is named now."""

from __future__ import annotations

import time
from collections.abc import Callable

from esl_dist.config.schema import Config
from esl_dist.data import open_dataset
from esl_dist.data.reading import read_all
from esl_dist.diagnostics.check import Check, Status
from esl_dist.diagnostics.datacheck import SHOWN, sets_of

EVERY_S = 5.0
"""Seconds between two lines of progress."""


def read_everything(config: Config, report: Callable[[str], None]) -> list[Check]:
    """A finding per set. What was read before and has not changed is not read again.

    Raises:
        ValueError: a set cannot be opened.
    """
    data, found = config.data, []
    for name, domain, split in sets_of(config):
        opened = open_dataset(domain, data.root, data.classes, split=split)
        told = began = time.monotonic()

        def said(done: int, total: int, name: str = name, began: float = began) -> None:
            nonlocal told
            if time.monotonic() - told > EVERY_S:
                told = time.monotonic()
                report(f"{name}: {done} of {total} read, {done / (told - began):.0f} a second")

        bad = read_all(opened, data, said)
        for sample in bad:
            report(f"{name}: {sample.reason}")
        text = f"{len(opened)} images" + (" with their labels" if opened.labelled else "")
        if not bad:
            found.append(Check(f"{name} full read", "ok", f"{text}: all can be read"))
            continue
        named = ", ".join(sample.name for sample in bad[:SHOWN]) + (" …" if len(bad) > SHOWN else "")
        status: Status = "broken" if len(bad) > data.bad_samples else "warning"
        advice = f"mend them, leave them out with a list, or raise data.bad_samples={data.bad_samples}"
        found.append(Check(f"{name} full read", status, f"{text}: {len(bad)} cannot be read: {named}", advice))
    return found
