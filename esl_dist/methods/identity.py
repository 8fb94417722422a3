"""What a result depends on: if any of it changes, the result on disk is another one's and is not gone on with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from esl_dist.config import load
from esl_dist.config.renamed import renamed
from esl_dist.config.schema import Config
from esl_dist.labels import PROTOCOLS, protocol
from esl_dist.models.builders import normalisation_options

# These change how a result is made, not what it is; and batch and accumulation matter by their product with the ranks
# alone.
WITHOUT_EFFECT = (
    "data.workers",
    "data.prepared",
    "data.bad_samples",
    "data.insist",
    "extract.spool",
    "extract.spool_dir",
    "extract.memory",
    "extract.from_spool",
    "extract.shard",
    "extract.check_statistics",
    "extract.compare",
    "extract.held_out",
    "optim.batch",
    "optim.accumulate",
)


def options(config: Config, sections: Iterable[str], planned: Iterable[str] = ()) -> dict[str, Any]:
    """The options of whole sections, JSON-ready, less those without effect on a result.

    Args:
        planned: options that the plan says for itself (``steps``, the objective, the rule).
    """
    found = load.flat(config, *sections)
    for key in (*WITHOUT_EFFECT, *planned):
        found.pop(key, None)
    if "data.mean" in found:  # as it is, not as it is written: a network's own or given
        found.pop("data.deviation")
        found |= normalisation_options(config.model, config.data)
    others = tuple(f"model.{name}." for name in config.model.networks() if name != config.model.name)
    return {key: value for key, value in found.items() if not key.startswith(others)}


def of_training(config: Config, precision: str, world: int) -> dict[str, Any]:
    """What every training depends on, whatever its method.

    Args:
        precision: resolved arithmetic.
    """
    own = {} if config.data.classes in PROTOCOLS else {"SHA-256 of data.classes": protocol(config.data.classes).sha256}
    return {
        **own,
        "run.seed": config.run.seed,
        "run.precision": precision,
        "align.source_aux": config.align.source_aux,  # the source loss of every stage
        "global batch (ranks x optim.batch x optim.accumulate)": world * config.optim.batch * config.optim.accumulate,
    }


def json_ready(identity: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from a file."""
    found: dict[str, Any] = json.loads(json.dumps(identity))
    return found


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first option in which two identities differ, as ``key=old, now it is new``; empty where they agree.

    An option that a release before did not have, and that is at its default now, is no difference: what was made
    without it was made as that default makes it.
    """
    defaults = json_ready(load.flat(Config()))
    before = {renamed(key) or key: value for key, value in before.items()}
    for key in sorted(before.keys() | now.keys()):
        old = before[key] if key in before else defaults.get(key)
        new = now[key] if key in now else defaults.get(key)
        if old != new:
            return f"{key}={old}, now it is {new}"
    return ""


def refuse(folder: Path, differing: str) -> None:
    """``ValueError`` where there is a difference."""
    if differing:
        raise ValueError(
            f"{folder}: was made with {differing}; choose another run.name, or delete that folder to make it again"
        )
