"""One line of the doctor, and how the ranks' lines become one."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from esl_dist.config.schema import Config
from esl_dist.distributed import collectives
from esl_dist.distributed.runtime import Runtime

log = logging.getLogger(__name__)

Status = Literal["ok", "warning", "broken"]
_ORDER: dict[str, int] = {"ok": 0, "warning": 1, "broken": 2}


@dataclass(frozen=True)
class Check:
    """A finding: ``text`` says what is, ``advice`` what to do about it (empty where all is well)."""

    name: str
    status: Status
    text: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{self.status:<8} {self.name:<16} {self.text}"
        return f"{line}\n{'':26}-> {self.advice}" if self.advice else line


Probe = Callable[[Config, Runtime], list[Check]]
"""Called on every rank. One that uses collectives must reach them on every rank, whatever it finds."""


def guarded(probe: Probe, config: Config, runtime: Runtime) -> list[Check]:
    """The probe's findings; one that fails is a finding itself."""
    try:
        return probe(config, runtime)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        return [
            Check(
                probe.__name__.replace("_", " "),
                "broken",
                f"{type(error).__name__}: {reason}",
                "this check could not be made; see the message",
            )
        ]


def merged(ranks: Iterable[Iterable[Check]]) -> list[Check]:
    """One finding per name: rank 0's where all is well, else the worst of any rank, with the numbers of the ranks that
    share it.
    """
    found: dict[str, list[tuple[int, Check]]] = {}
    for rank, checks in enumerate(ranks):
        for check in checks:
            found.setdefault(check.name, []).append((rank, check))
    lines = []
    for entries in found.values():
        worst = max((check for _, check in entries), key=lambda check: _ORDER[check.status])
        same = [rank for rank, check in entries if check.status == worst.status]
        where = f" (rank {', '.join(map(str, same))})" if worst.status != "ok" and len(same) < len(entries) else ""
        lines.append(dataclasses.replace(worst, text=worst.text + where))
    return lines


def run(probes: Iterable[Probe], config: Config, runtime: Runtime, show: Callable[[str], None]) -> bool:
    """Make every check on all ranks and show the findings as they come; whether nothing is broken."""
    began = time.monotonic()
    counts = dict.fromkeys(_ORDER, 0)
    left = list(probes)
    while left:
        probe = left.pop(0)
        mine = [dataclasses.asdict(check) for check in guarded(probe, config, runtime)]
        try:
            everyone = collectives.gather_json(mine)
        except RuntimeError as error:  # a rank is gone, or waits somewhere else: nothing can be compared any more
            advice = (
                "look at the output of the other ranks; a machine died, or the network between them drops what they"
                " send"
            )
            everyone = [
                [
                    *mine,
                    dataclasses.asdict(
                        Check(
                            "collectives",
                            "broken",
                            f"the ranks lost each other at this check: {str(error).splitlines()[0]}",
                            advice,
                        )
                    ),
                ]
            ]
            left.clear()
        for check in merged([Check(**c) for c in checks] for checks in everyone):
            counts[check.status] += 1
            show(str(check))
    summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    show(f"{sum(counts.values())} checks in {time.monotonic() - began:.0f} s: {summary}")
    return counts["broken"] == 0
