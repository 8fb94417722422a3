"""A stage that is trained longer than it was first asked to: its ``steps`` raised, it goes on from its last checkpoint.

Every step keeps the rates of the stage that it was a step of: those before the checkpoint decayed over the steps that
were asked for then, those after it decay over all. Where the decay does not follow the stage's length
(``optim.decay_steps``) that is no difference, and the weights are those of the same steps in one go. ``stage.json``
says where each part ended, so that a kill in a later part changes nothing either.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from esl_dist.engine import checkpoint
from esl_dist.engine.optim import Pieces, Schedule
from esl_dist.methods.node import Node, Work
from esl_dist.runs import CheckpointFolder, RunFolder, StageFolder

log = logging.getLogger(__name__)

PARTS = "trained longer: ended at step, of steps"
"""In a stage's identity: pairs of the step that a part ended at and the steps that were asked for then."""

Parts = Sequence[Sequence[int]]


def is_raised(before: Mapping[str, Any] | None, steps: int) -> bool:
    """Whether a stage on disk, by its identity, was asked for fewer steps."""
    return before is not None and isinstance(before.get("steps"), int) and before["steps"] < steps


def comparable(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """``now`` with what a stage on disk may have otherwise: fewer steps, and parts."""
    earlier = {"steps": before["steps"]} if is_raised(before, now["steps"]) else {}
    return {**now, **earlier, **({PARTS: before[PARTS]} if PARTS in before else {})}


def parts_of(folder: StageFolder, steps: int) -> Parts:
    """The parts that a stage of now so many steps consists of before its last; empty for one in one go. For rank 0."""
    before = folder.identity.find()
    if before is None:
        return []
    parts = list(before.get(PARTS, []))
    if is_raised(before, steps):
        newest, _ = checkpoint.newest_valid(folder.checkpoints)
        if newest is None:
            return []  # nothing is left to go on from
        parts.append([CheckpointFolder(newest).step, before["steps"]])
    return parts


def joined(schedule: Schedule, parts: Parts) -> Schedule:
    """The rates of all parts, ``schedule`` being that of the last; itself where they do not follow a stage's length."""
    pieces = tuple((until, schedule.over(steps)) for until, steps in parts)
    return Pieces(pieces, schedule) if any(piece != schedule for _, piece in pieces) else schedule


def tell(name: str, parts: Parts, steps: int, schedule: Schedule) -> None:
    """Say what is gone on with and what that makes of the result; nothing for a stage in one go."""
    if not parts:
        return
    until, asked = parts[-1]
    if isinstance(schedule, Pieces):
        rate = f"from {schedule(until - 1):.3g} to {schedule(until):.3g} of the full rate"
        text = (
            f"rates decayed over {asked} steps until there and decay over {steps} from there ({rate}), so it does not"
            f" end as {steps} steps in one go"
        )
    else:
        text = f"rates do not follow the stage's length, so it ends as {steps} steps in one go"
    log.info("%s: trained longer, from step %d of %d on to %d: %s", name, until, asked, steps, text)


def require_alone(raised: Node, nodes: Iterable[Node], work: Work) -> None:
    """Refuse to train a stage longer while there are results that were made from its shorter self.

    Raises:
        ValueError: names them and their folders.
    """
    names, there = {raised.name}, []
    for node in nodes:
        if names & set(node.needs.values()):
            names.add(node.name)
            there += [(node.name, folder) for folder in node.folders(work.run) if folder.exists()]
    if there:
        made = ", ".join(dict.fromkeys(name for name, _ in there))
        folders = ", ".join(dict.fromkeys(_below(folder, work.run) for _, folder in there))
        raise ValueError(
            f"{raised.name}: trained longer it is another network, and what was made from it no longer is of it:"
            f" {made}. Delete in {work.run.path} {folders}, and they are made again after it; or use another run.name"
        )


def _below(folder: Any, run: RunFolder) -> str:
    return str(folder.relative_to(run.path))
