"""What ``--checkpoint`` may name: a weights file, a checkpoint's folder, a stage's or a run's."""

from __future__ import annotations

import os
from pathlib import Path

from esl_dist.engine import checkpoint
from esl_dist.runs.folders import RunFolder, StageFolder

NETWORK = "segmenter"


def find_checkpoint(path: Path, network: str = NETWORK) -> Path:
    """The checkpoint or file that a path means: of a stage the one that it ended with, or else its newest that
    verifies; of a run that of the stage that ended last, the bound with target labels left aside.

    Raises:
        ValueError: nothing is there, or nothing in it is a checkpoint.
    """
    if not os.path.exists(path):
        raise ValueError(f"--checkpoint: no such file or folder {path}")
    if path.is_file() or any(path.glob("*.pt")):
        return path
    if StageFolder(path).checkpoints.is_dir():
        return _of_stage(StageFolder(path))
    if RunFolder(path).config.is_file():
        return _of_run(RunFolder(path), network)
    raise ValueError(f"--checkpoint: {path} is neither a weights file nor the folder of a checkpoint, a stage or a run")


def own_config(path: Path) -> str | None:
    """The configuration of the run that a checkpoint lies in; None where it lies in none."""
    inside = path.absolute().parents
    return next((str(RunFolder(folder).config) for folder in inside[:4] if RunFolder(folder).config.is_file()), None)


def _of_stage(stage: StageFolder) -> Path:
    final = stage.final
    if final is not None and final.is_dir():
        return final
    found, rejected = checkpoint.newest_valid(stage.checkpoints)
    if found is None:
        raise ValueError(
            f"--checkpoint: {stage.path} has no valid checkpoint: {'; '.join(rejected) or 'none was saved'}"
        )
    return found


def _of_run(run: RunFolder, network: str) -> Path:
    ended: list[tuple[float, Path]] = []
    for folder in run.path.iterdir():
        stage = RunFolder(run.path).stage(folder.name)
        final = stage.final if stage.checkpoints.is_dir() else None
        if final is not None and (final / f"{network}.pt").is_file() and folder.name != "oracle":
            ended.append((stage.done.path.stat().st_mtime, final))
    if not ended:
        raise ValueError(
            f"--checkpoint: no stage of {run.path} has ended yet; name a stage's folder, or a step_* in it"
        )
    return max(ended)[1]
