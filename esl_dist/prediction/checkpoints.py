"""What ``--checkpoint`` may name: a weights file, a checkpoint's folder, a stage's or a run's."""

from __future__ import annotations

import os
from pathlib import Path

from esl_dist.config.schema import Config
from esl_dist.engine import checkpoint
from esl_dist.labels import protocol
from esl_dist.models.card import KEY, Card
from esl_dist.runs import CheckpointFolder, manifest
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


def own_card(path: Path) -> Card | None:
    """What a checkpoint's folder, or the segmenter's file in one, says of its network; None where it says nothing.

    Raises:
        ValueError: its manifest or what it says is damaged.
    """
    folder = CheckpointFolder(path if path.is_dir() else path.parent)
    if not folder.is_own or path not in (folder.path, folder.segmenter):
        return None
    content = manifest.read(folder.path)["meta"].get(KEY)
    return Card.of_json(content) if content else None


def own_configuration(path: Path) -> tuple[str | None, list[str]]:
    """The file that configures a checkpoint's run; or none, and the options that its card stands for."""
    file = own_config(path)
    card = own_card(path) if file is None else None
    return file, card.words() if card is not None else []


def same_classes(path: Path, config: Config) -> str:
    """A line where a checkpoint's classes are called otherwise than the configuration's; empty where they are not.

    Raises:
        ValueError: they are not as many.
    """
    card, asked = own_card(path), protocol(config.data.classes)
    if card is None or card.classes == asked.classes:
        return ""
    if len(card.classes) != asked.num_classes:
        raise ValueError(
            f"data.classes: {config.data.classes} has {asked.num_classes} classes, {path} holds a network of"
            f" {len(card.classes)} ({', '.join(card.classes[:3])} …): name its class file with data.classes=FILE.yaml"
        )
    first = next((was, now) for was, now in zip(card.classes, asked.classes, strict=True) if was != now)
    return f"{path} was trained with other names of its classes: {first[0]} is {first[1]} now"


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
