"""Around Ray: what is said where it is missing, what it is told, who decides that a trial stops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from esl_dist.config.load import ConfigError
from esl_dist.config.study import StudyConfig
from esl_dist.entries import tune
from esl_dist.studies import cluster
from esl_dist.studies.curve import Point
from esl_dist.studies.suggest import Suggestions
from tests.ranks import ROOT

SPACE = {
    "align.weight": {"loguniform": [1e-3, 1]},
    "selftrain.weight": {"uniform": [0, 2]},
    "optim.updates": {"choice": ["once", "published"]},
}


@pytest.mark.parametrize("missing", ["ray", "optuna"])
def test_without_the_extra_one_line_says_how_to_install_it(missing: str, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None; from esl_dist import tune; from esl_dist.entries import cli;"
        " cli.run(tune.main)"
    )
    command = [sys.executable, "-c", code, "--config", "configs/sweeps/smoke.yaml", f"study.dir={tmp_path / 'study'}"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == f"esl_dist: error: a study needs {missing}: pip install 'esl_dist[tune]'\n"
    assert not (tmp_path / "study/trials").exists()


def test_a_typo_ends_the_entry_with_one_line() -> None:
    with pytest.raises(ConfigError, match=r"did you mean configs/sweeps/nu_lambda\.yaml"):
        tune.main(["--config", "nu_lamda.yaml"])


def test_a_home_that_cannot_be_written_gets_a_token_of_the_study_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that what is set below is taken away again
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    cluster._token()
    assert "RAY_AUTH_TOKEN" not in os.environ
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))  # nobody makes a folder in there, not even root
    cluster._token()
    assert os.environ["RAY_AUTH_MODE"] == "token" and len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_a_trial_that_fits_on_no_node_is_refused() -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    cluster._check_room(StudyConfig(space=SPACE, search="random", trials=1, gpus=1), nodes)
    with pytest.raises(ConfigError, match="a trial needs 2 CPU, 2 GPU on one node, but nodes have 8 CPU, 1 GPU"):
        cluster._check_room(StudyConfig(space=SPACE, search="random", trials=1, gpus=2), nodes)


def test_optuna_is_told_and_finds_better_points() -> None:
    study = StudyConfig(space=SPACE, search="optuna", trials=40)
    suggestions = Suggestions(study, seed=1)
    scores = []
    for number in range(40):
        point = suggestions.ask(str(number))
        assert (
            1e-3 <= point["align.weight"] <= 1
            and 0 <= point["selftrain.weight"] <= 2
            and point["optim.updates"] in ("once", "published")
        )
        scores.append(-abs(point["selftrain.weight"] - 1.5) + (point["optim.updates"] == "published"))
        suggestions.tell(str(number), scores[-1] if number != 3 else None)
    assert sum(scores[-10:]) / 10 > sum(scores[:10]) / 10 + 0.2


def test_optuna_goes_on_with_points_of_an_earlier_start() -> None:
    study = StudyConfig(space=SPACE, search="optuna", trials=40)
    point = {"align.weight": 0.5, "selftrain.weight": 0.25, "optim.updates": "published"}
    suggestions = Suggestions(study, seed=1)
    suggestions.resume("000", point)
    suggestions.tell("000", 0.7)
    (told,) = suggestions._study.trials
    assert told.value == 0.7 and told.params == {"align.weight": 0.5, "selftrain.weight": 0.25, "optim.updates": 1}


class Trial:
    """As much of Tune's as a scheduler looks at."""

    def __init__(self, name: str) -> None:
        self.trial_id, self.config = name, {"trial": name}


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_a_scheduler_knows_earlier_trials_and_leaves_word_of_its_stop(kind: Any, tmp_path: Path) -> None:
    from esl_dist.studies import trainable

    study = StudyConfig(space=SPACE, search="random", trials=9, scheduler=kind, grace=10, reduction=2)
    past = [(f"{number:03d}", [Point(10, 0.5), Point(20, 0.6)]) for number in range(4)]

    def told(step: int, score: float, name: str) -> str:
        (tmp_path / "trials" / name).mkdir(parents=True, exist_ok=True)
        scheduler.on_trial_add(None, new := Trial(name))
        return str(
            scheduler.on_trial_result(SimpleNamespace(get_live_trials=list), new, {"step": step, "score": score})
        )

    scheduler = trainable.scheduler(study, tmp_path, past)
    assert told(10, 0.9, "good") == "CONTINUE" and not (tmp_path / "trials/good/decision.json").exists()
    assert told(5, 0.1, "young") == "CONTINUE"
    assert told(10, 0.1, "bad") == "STOP"
    assert json.loads((tmp_path / "trials/bad/decision.json").read_text())["by"] == kind
    alone = trainable.scheduler(study, tmp_path, [])
    alone.on_trial_add(None, first := Trial("first"))
    assert (
        alone.on_trial_result(
            SimpleNamespace(get_live_trials=lambda: [SimpleNamespace(status="PENDING")]),
            first,
            {"step": 10, "score": 0.1},
        )
        == "CONTINUE"
    ), "nobody is paused"
