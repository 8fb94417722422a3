"""Optuna's TPE sampler over a study's space."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from esl_dist.config.study import CONTINUOUS, StudyConfig


class Suggestions:
    """Asks for points and tells their scores. A value of a finite axis is known to Optuna by its position."""

    def __init__(self, study: StudyConfig, seed: int) -> None:
        self._optuna = importlib.import_module("optuna")
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        self._axes: dict[str, tuple[str, list[Any]]] = {
            key: (kind, list(values)) for key, axis in study.space.items() for kind, values in axis.items()
        }
        # A quarter of the points are drawn before the sampler trusts what it has seen.
        sampler = self._optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(3, study.trials // 4))
        self._study = self._optuna.create_study(
            sampler=sampler, direction="maximize" if study.mode == "max" else "minimize"
        )
        self._open: dict[str, Any] = {}

    def ask(self, trial: str) -> dict[str, Any]:
        """A new point, under the name that ``tell`` will be called with."""
        self._open[trial] = self._study.ask(self._distributions())
        found = self._open[trial].params
        return {
            key: found[key] if kind in CONTINUOUS else values[found[key]] for key, (kind, values) in self._axes.items()
        }

    def resume(self, trial: str, point: Mapping[str, Any]) -> None:
        """A point of an earlier start, whose score is told now or later."""
        self._study.enqueue_trial(
            {
                key: point[key] if kind in CONTINUOUS else values.index(point[key])
                for key, (kind, values) in self._axes.items()
            }
        )
        self._open[trial] = self._study.ask(self._distributions())

    def tell(self, trial: str, score: float | None) -> None:
        """The score of a point; None where it has none."""
        state = self._optuna.trial.TrialState
        self._study.tell(self._open.pop(trial), score, state=state.FAIL if score is None else state.COMPLETE)

    def _distributions(self) -> dict[str, Any]:
        made = self._optuna.distributions
        return {
            key: (
                made.FloatDistribution(*values, log=kind == "loguniform")
                if kind in CONTINUOUS
                else made.CategoricalDistribution(range(len(values)))
            )
            for key, (kind, values) in self._axes.items()
        }
