"""A trial in somebody's hands: its training is started, followed, stopped, and its record kept. Knows
nothing of Ray.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from esl_dist.config import load
from esl_dist.config.study import StudyConfig, load_study
from esl_dist.methods import stages
from esl_dist.runs import StudyFolder, TrialFolder
from esl_dist.studies import shared
from esl_dist.studies.child import Child
from esl_dist.studies.curve import Curve, final_score, is_of_curve
from esl_dist.studies.record import TrialRecord, log_tail


class TrialFailed(Exception):
    """A trial ended without a score; one line."""


def environment(study: StudyConfig) -> dict[str, str]:
    """What a child's environment must say beside what it inherits: a trial on the CPU sees no GPU. (Ray shows the
    others those that it gave them.)
    """
    return {} if study.gpus else {"CUDA_VISIBLE_DEVICES": ""}


def decided(folder: TrialFolder) -> str | None:
    """The scheduler that has decided to stop a trial, if one has."""
    decision = folder.decision.recall()
    return None if decision is None else decision.by


class Work:
    """One trial from its start, or from where it was left, to its end."""

    def __init__(self, study_dir: Path, trial: str, cwd: str) -> None:
        self._at, self._cwd = StudyFolder(study_dir), cwd
        self._folder = self._at.trial(trial)
        self._study = load_study(str(self._at.config))
        self._config = load.load_config(str(self._folder.config))
        self._record = TrialRecord.load(self._folder)
        self._run_dir = self._folder.run.path
        self._curve = Curve(self._config, self._study.world, self._run_dir)
        self._waiting: list[tuple[int, float]] = []
        self._compared = ""
        self._child: Child | None = None
        self._worked, self._since = self._record.seconds, time.monotonic()
        self._last: dict[str, Any] = {"step": 0}
        self._folder.decision.forget()

    def advance(self) -> dict[str, Any]:
        """Until there is something to tell: ``{"step", "score"}`` while it trains, with ``"done": True`` at the end.

        Raises:
            TrialFailed: the training ended with an error; the record says so.
        """
        if self._child is None:
            self._start()
        while True:
            if self._at.stop.exists():
                self.leave()
                return {**self._last, "done": True}
            code = self._child.code() if self._child else 0
            self._waiting += self._curve.new()
            if self._curve.labels != self._compared and (twin := self._twin()):
                return self._as(twin)
            if self._waiting:
                step, score = self._waiting.pop(0)
                self._last = {"step": step, "score": score}
                self._save(**({"score": score} if is_of_curve(self._study, self._config) else {}))
                return {**self._last, "done": False}
            if code is not None:
                return self._end(code)
            time.sleep(shared.POLL_S)

    def leave(self) -> None:
        """Stop the training where it is; what the record says then is what the scheduler has decided, or that the trial
        is to go on later.
        """
        if self._child is None or self._record.is_final:
            return
        self._child.stop()
        decision = decided(self._folder)
        self._finish("stopped" if decision else "queued", stopped_by=decision)

    # -- start and end ---------------------------------------------------------------------------------------------

    def _start(self) -> None:
        entries = self._config.run.adopted
        if entries:
            source = self._at.part(self._folder.part.read().part).path
            try:
                shared.adopt(source, self._run_dir, self._config, entries)
            except OSError as error:
                self._finish(
                    "failed",
                    reason=(
                        f"the shared stages cannot be taken over ({error}); delete {source} and start the study again"
                    ),
                )
                raise TrialFailed(self._record.reason) from None
        words = ["--config", str(self._folder.config)]
        variables = environment(self._study)
        opened = self._folder.server_run.recall()
        self._record.mlflow_run_id = opened.run_id if opened is not None and opened.run_id else None
        if opened is None or not opened.run_id:
            words.append(
                "tracking.mlflow=false"
            )  # the study did not reach the server: a run of the trial's own would stand beside it
        else:
            variables["MLFLOW_RUN_ID"] = opened.run_id
            if not self._config.tracking.uri and not os.environ.get("MLFLOW_TRACKING_URI"):
                words.append(f"tracking.uri={opened.uri}")
        self._record.begin()
        self._save()
        self._child = Child(self._study.world, "train", words, self._run_dir, self._folder.log, self._cwd, variables)

    def _end(self, code: int) -> dict[str, Any]:
        if code:
            assert self._child is not None
            reason = self._child.reason()
            self._finish("failed", reason=reason)
            raise TrialFailed(reason)
        try:
            score = final_score(self._study, self._config, self._run_dir)
        except (OSError, ValueError, KeyError) as error:
            self._finish("failed", reason=f"trained to its end, but its score cannot be read ({error})")
            raise TrialFailed(self._record.reason) from None
        self._finish("finished", score=score)
        self._last = {"step": self._curve.steps, "score": score}
        return {**self._last, "done": True}

    def _finish(self, status: Any, **fields: Any) -> None:
        self._record.end(status, log_tail=log_tail(self._folder.log) if status == "failed" else [], **fields)
        self._save()

    def _save(self, **fields: Any) -> None:
        self._record.seconds = self._worked + time.monotonic() - self._since
        for name, value in fields.items():
            setattr(self._record, name, value)
        self._record.save(self._folder)

    # -- trials that would train on the very same labels -----------------------------------------------------------

    def _twin(self) -> str:
        """Id of the trial that came first to this label set with everything else the same; empty if it is this one, or
        if there is more to compare.
        """
        self._compared = self._curve.labels
        if len([stage for stage in stages(self._config) if stage.labels]) != 1:
            return ""  # a later round depends on the rule again
        options = {
            key: value
            for key, value in load.flat(self._config).items()
            if not key.startswith(("pseudo_labels.", "extract.", "tracking.", "run.name", "run.dir"))
        }
        part = self._folder.part.read().part
        digest = shared.key_of([options, part, self._compared])
        first = self._at.twin(digest)
        first.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError), open(first, "x") as file:
            file.write(self._record.id)
        owner = first.read_text()
        if owner == self._record.id:
            return ""
        folder = self._at.trial(owner)
        if not owner or not folder.record.is_file() or TrialRecord.load(folder).status in ("queued", "failed"):
            first.write_text(self._record.id)  # nobody has that one in hand, so nobody would wait for it in vain
            return ""
        return owner

    def _as(self, twin: str) -> dict[str, Any]:
        """Stop training and take over what becomes of the twin."""
        assert self._child is not None
        self._child.stop()
        while True:
            other = TrialRecord.load(self._at.trial(twin))
            if other.is_final:
                break
            if self._at.stop.exists():
                self._finish("queued")
                return {**self._last, "done": True}
            time.sleep(shared.POLL_S)
        status = "reused" if other.status in ("finished", "reused") else other.status
        self._finish(status, same_as=twin, score=other.score, stopped_by=other.stopped_by, reason=other.reason)
        if status == "failed":
            raise TrialFailed(f"the same as trial {twin}, which failed: {other.reason}")
        self._last = {**self._last, "score": other.score}
        return {**self._last, "done": True}
