"""What a stage's result depends on: if any of it changes, the result on disk is another one's and is not
gone on with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from esl_dist.config import load
from esl_dist.config.schema import Config
from esl_dist.stages.plan import StagePlan

SECTIONS = {
    "initial": ("data", "model", "optim"),
    "source": ("data", "model", "optim"),
    "oracle": ("data", "model", "optim"),
    "translate": ("data", "translate"),
    "align": ("data", "model", "optim", "align"),
    "selftrain": ("data", "model", "optim", "align", "selftrain", "pseudo_labels", "extract"),
}
# These change how a result is made, not what it is; and batch and accumulation matter by their product with the ranks
# alone.
WITHOUT_EFFECT = (
    "data.workers",
    "data.prepared",
    "data.bad_samples",
    "extract.spool",
    "extract.spool_dir",
    "extract.from_spool",
    "extract.shard",
    "optim.batch",
    "optim.accumulate",
)
# The plan says these of each stage.
PLANNED = (
    "align.steps",
    "align.objective",
    "selftrain.steps",
    "selftrain.rounds",
    "selftrain.objective",
    "pseudo_labels.rule",
    "translate.steps",
    "translate.rounds",
)


def result_options(
    config: Config, stage: StagePlan, precision: str, world: int, weights: Mapping[str, str]
) -> dict[str, Any]:
    """Options that the stage's final weights are a function of, JSON-ready.

    Args:
        precision: resolved arithmetic.
        weights: SHA-256 of the final weights of the stages that it starts from, by folder.
    """
    options = load.flat(config, *SECTIONS[stage.kind])
    if stage.kind in ("align", "selftrain") and stage.objective != "bn" and config.mmdl.weight > 0:
        options |= load.flat(config, "mmdl")
    for key in (*WITHOUT_EFFECT, *PLANNED):
        options.pop(key, None)
    options |= {
        "run.seed": config.run.seed,
        "run.precision": precision,
        "align.source_aux": config.align.source_aux,
    }  # the loss of every stage
    options["global batch (ranks x optim.batch x optim.accumulate)"] = (
        world * config.optim.batch * config.optim.accumulate
    )
    options |= {"steps": stage.steps, "objective": stage.objective, "rule": stage.rule}
    for role in ("init", "teacher", "images"):
        folder = getattr(stage, role)
        if folder or role != "images":
            options |= {role: folder, f"weights of {role}": weights.get(folder, "")}
    found: dict[str, Any] = json.loads(json.dumps(options))
    return found


def check_options(path: Path, options: Mapping[str, Any]) -> None:
    """Refuse to go on in a folder whose content was made with other options (recorded in ``path``).

    Raises:
        ValueError: names the first option that differs.
    """
    if not path.is_file():
        return
    before = json.loads(path.read_text())
    for key in sorted(before.keys() | options.keys()):
        if before.get(key) != options.get(key):
            raise ValueError(
                f"{path.parent}: was made with {key}={before.get(key)}, now it is {options.get(key)}; choose another"
                " run.name, or delete that folder to make it again"
            )
