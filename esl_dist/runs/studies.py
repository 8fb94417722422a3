"""A study's folder and what lies below it: its trials, the runs that trials share, its pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from esl_dist.runs.content import Decision, MadeOfPart, ServerRun, TakenFrom
from esl_dist.runs.folders import RunFolder
from esl_dist.runs.records import Record

_AGAIN = "start the study again"
_BEFORE = "shared.json"
"""What both records of shared work were called in releases before 0.2."""


@dataclass(frozen=True)
class StudyFolder:
    """``runs/studies/<name>``: ``study.yaml``, ``study.csv``, ``study.html``, ``trials/``, ``shared/``."""

    path: Path

    @property
    def config(self) -> Path:
        """The study. A folder that has none is no study's."""
        return self.path / "study.yaml"

    @property
    def table(self) -> Path:
        return self.path / "study.csv"

    @property
    def page(self) -> Path:
        return self.path / "study.html"

    @property
    def stop(self) -> Path:
        """While it is there, trials save and leave."""
        return self.path / "stop"

    @property
    def server_run(self) -> Record[ServerRun]:
        """Which MLflow run stands for the study."""
        return Record(self.path / "mlflow.json", ServerRun, "another run of the server is begun for it")

    @property
    def scratch(self) -> Path:
        """Ray's own files."""
        return self.path / ".ray"

    def trial(self, name: str) -> TrialFolder:
        return TrialFolder(self.path / "trials" / name)

    def trials(self) -> Iterator[TrialFolder]:
        """Those that have a record, in no order."""
        return (folder for path in (self.path / "trials").glob("*") if (folder := TrialFolder(path)).record.is_file())

    def part(self, key: str) -> PartFolder:
        return PartFolder(self.path / "shared" / key)

    def twin(self, digest: str) -> Path:
        """Holds the id of the trial that came first to a label set."""
        return self.path / "twins" / digest


@dataclass(frozen=True)
class TrialFolder:
    """``<study>/trials/<id>``."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def study(self) -> StudyFolder:
        return StudyFolder(self.path.parent.parent)

    @property
    def record(self) -> Path:
        """What became of the trial: see ``studies.record``."""
        return self.path / "trial.json"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        """Everything that its training said."""
        return self.path / "log.txt"

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.path / "run")

    @property
    def part(self) -> Record[TakenFrom]:
        """Which part of ``shared/`` it takes its first stages from."""
        return Record(_either(self.path / "part.json", self.path / _BEFORE), TakenFrom, _AGAIN)

    @property
    def decision(self) -> Record[Decision]:
        """A scheduler's word to stop."""
        return Record(self.path / "decision.json", Decision, "the trial goes on")

    @property
    def server_run(self) -> Record[ServerRun]:
        """Which MLflow run stands for the trial."""
        return Record(self.path / "mlflow.json", ServerRun, "another run of the server is begun for it")


@dataclass(frozen=True)
class PartFolder:
    """``<study>/shared/<key>``: a run that makes stages and spools for several trials."""

    path: Path

    @property
    def made(self) -> Record[MadeOfPart]:
        """Which of its stages and spools are finished."""
        return Record(
            _either(self.path / "made.json", self.path / _BEFORE), MadeOfPart, "what it says is made sure of again"
        )

    @property
    def log(self) -> Path:
        """Everything that its training and extractions said."""
        return self.path / "child.txt"

    @property
    def given(self) -> Path:
        """The configuration that its stages are trained with."""
        return self.path / "given.yaml"

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.path)

    def extraction(self, key: str) -> ExtractionFolder:
        return ExtractionFolder(self.path / f"labels-{key}")


@dataclass(frozen=True)
class ExtractionFolder:
    """``<part>/labels-<key>``: the outputs of a shared network."""

    path: Path

    @property
    def given(self) -> Path:
        return self.path / "given.yaml"

    @property
    def spool(self) -> Path:
        return self.path / "spool"


def _either(path: Path, before: Path) -> Path:
    """``path``, or where an earlier release wrote the same."""
    return before if before.is_file() and not path.is_file() else path
