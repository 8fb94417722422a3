"""Names in a stage's ``checkpoints/``; ``engine.checkpoint`` writes, verifies and reads what they stand for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from esl_dist.runs.content import Best
from esl_dist.runs.records import Record

_STEP = re.compile(r"step_(\d{8,})")


@dataclass(frozen=True)
class CheckpointFolder:
    """``step_<number>``: one file per network, and a manifest that is written last."""

    path: Path

    @property
    def step(self) -> int | None:
        """The step in its name, None where the name is no checkpoint's."""
        found = _STEP.fullmatch(self.path.name)
        return int(found[1]) if found else None

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def segmenter(self) -> Path:
        """The network that labels are made and scores are given with."""
        return self.tensors("segmenter")

    @property
    def partner(self) -> Path | None:
        """The other segmenter of a stage that trains with two: the averaged teacher of the student that is its result,
        or the student of the teacher that is; None where there is one.
        """
        return next((path for path in map(self.tensors, ("teacher", "student")) if path.is_file()), None)

    @property
    def is_own(self) -> bool:
        """Whether a manifest says that this program wrote the folder."""
        return self.manifest.is_file()

    def tensors(self, name: str) -> Path:
        """The state dict of a network, or of whatever else is kept under a name."""
        return self.path / f"{name}.pt"


@dataclass(frozen=True)
class CheckpointsFolder:
    """``<stage>/checkpoints``."""

    path: Path

    @property
    def best(self) -> Record[Best]:
        return Record(self.path / "best.json", Best, "the best checkpoint is marked again at the next score")

    def at(self, step: int) -> CheckpointFolder:
        return CheckpointFolder(self.path / f"step_{step:08d}")

    def all(self) -> list[CheckpointFolder]:
        """Checkpoint folders by rising step."""
        found = [CheckpointFolder(path) for path in (self.path.iterdir() if self.path.is_dir() else ())]
        return sorted((folder for folder in found if folder.step is not None and folder.path.is_dir()), key=_by_step)


def _by_step(folder: CheckpointFolder) -> int:
    return folder.step or 0
