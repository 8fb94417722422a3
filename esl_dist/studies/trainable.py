"""What Ray Tune holds of a trial and how it is told about one: imported only where Ray is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search import Searcher

from esl_dist.config.study import StudyConfig
from esl_dist.runs import StudyFolder
from esl_dist.runs.content import Decision
from esl_dist.studies.curve import Point
from esl_dist.studies.trial import Work


class TrialRunner(tune.Trainable):
    """An actor that has one trial after another in hand; the training itself is a child process."""

    def setup(self, config: dict[str, Any]) -> None:
        self._work = Work(Path(config["study"]), config["trial"], config["cwd"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial: Ray keeps this process, so that only the first trial waits for its imports."""
        self._work.leave()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        return self._work.advance()

    def cleanup(self) -> None:
        self._work.leave()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a trial's state is in its run folder."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing, likewise."""


class Search(Searcher):
    """Gives Tune the trials that are left, then those that ``ask`` makes, and tells ``told`` how each ended."""

    def __init__(self, left: Sequence[str], ask: Callable[[], str], told: Callable[[str, float | None], None]) -> None:
        super().__init__()
        self._left, self._ask, self._told = list(left), ask, told
        self._names: dict[str, str] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any]:
        self._names[trial_id] = self._left.pop(0) if self._left else self._ask()
        return {"trial": self._names[trial_id]}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._told(self._names[trial_id], None if error or not result else result.get("score"))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the trials' records are what a study is restored from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, likewise."""


@dataclass(frozen=True)
class Past:
    """A trial of an earlier start, as far as a scheduler looks at one."""

    trial_id: str


def scheduler(study: StudyConfig, study_dir: Path, past: Iterable[tuple[str, Sequence[Point]]]) -> Any:
    """Stops trials as the study says, and knows the scores of ``past`` ones as if it had seen them."""
    if study.scheduler == "none":
        return FIFOScheduler()
    made: Any = _asha(study, study_dir) if study.scheduler == "asha" else _median(study, study_dir)
    for name, points in past:
        trial, result = Past(name), {}
        made.on_trial_add(None, trial)
        for step, score in points:
            result = {"step": step, "score": score}
            made.on_trial_result(None, trial, result)
        if result:
            made.on_trial_complete(None, trial, result)
    return made


def _asha(study: StudyConfig, study_dir: Path) -> AsyncHyperBandScheduler:
    class Asha(AsyncHyperBandScheduler):
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            return _note(study_dir, "asha", trial, super().on_trial_result(tune_controller, trial, result))

    # No trial is stopped for its length: it ends by itself.
    return Asha(
        time_attr="step",
        metric="score",
        mode=study.mode,
        grace_period=study.grace,
        reduction_factor=study.reduction,
        max_t=10**9,
    )


def _median(study: StudyConfig, study_dir: Path) -> MedianStoppingRule:
    class Median(MedianStoppingRule):
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            return _note(study_dir, "median", trial, super().on_trial_result(tune_controller, trial, result))

    endless: Any = float("inf")  # a slice of it: trials are never paused for one another
    return Median(time_attr="step", metric="score", mode=study.mode, grace_period=study.grace, min_time_slice=endless)


def _note(study_dir: Path, name: str, trial: Any, decision: str) -> str:
    """Leave word of a stop for whoever has the trial in hand: a worker that is merely told to leave cannot know why."""
    if decision == TrialScheduler.STOP and not isinstance(trial, Past):
        StudyFolder(study_dir).trial(trial.config["trial"]).decision.write(Decision(name))
    return decision
