"""``<stage>/done.json``: a stage has ended, with which checkpoint and which weights. It is the last thing that a stage
writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from esl_dist.atomic import write_json

FILE = "done.json"


def write_ending(folder: Path, step: int, checkpoint: Path, weights_sha256: str, seconds: float) -> None:
    """Record the end of the stage in ``folder``: its last ``step``, what it saved there, and the training's
    ``seconds``.
    """
    write_json(
        folder / FILE,
        {
            "stage": folder.name,
            "step": step,
            "checkpoint": checkpoint.name,
            "weights_sha256": weights_sha256,
            "seconds": seconds,
        },
    )


def read_ending(folder: Path) -> dict[str, Any] | None:
    """What ``write_ending`` recorded of the stage in ``folder``, None while it has not ended.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {**content, "checkpoint": str(content["checkpoint"]), "weights_sha256": str(content["weights_sha256"])}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error!r}); delete it, and the stage ends again from its newest checkpoint"
        ) from None


def final_checkpoint(folder: Path) -> Path | None:
    """The checkpoint that the stage in ``folder`` ended with, None while it has not ended. ``ValueError`` as
    ``read_ending``.
    """
    ending = read_ending(folder)
    return folder / "checkpoints" / ending["checkpoint"] if ending else None
