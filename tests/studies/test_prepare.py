"""A study's folder before its first trial: trials, their configurations, what they share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esl_dist.config.load import ConfigError, load_config
from esl_dist.config.study import StudyConfig
from esl_dist.runs import StudyFolder
from esl_dist.studies import shared
from esl_dist.studies.prepare import Prepared, parts, prepare

STAGES = "run.stages=[initial,source,align,selftrain]"


def study(folder: Path, **fields: Any) -> StudyConfig:
    options = (STAGES, *fields.pop("options", ()))
    fields.setdefault("space", {"pseudo_labels.nu": {"grid": [0, 0.1]}})
    return StudyConfig(dir=str(folder / "study"), base="smoke.yaml", options=options, **fields)


def test_each_seed_sees_every_point(tmp_path: Path) -> None:
    prepared = prepare(study(tmp_path, seeds=(3, 4)))
    assert [(r.id, r.params["pseudo_labels.nu"], r.seed) for r in prepared.records()] == [
        ("000", 0, 3),
        ("001", 0.1, 3),
        ("002", 0, 4),
        ("003", 0.1, 4),
    ]
    config = load_config(str(tmp_path / "study/trials/003/config.yaml"))
    assert (config.run.seed, config.pseudo_labels.nu, config.run.dir) == (
        4,
        0.1,
        str(tmp_path / "study/trials/003/run"),
    )


def test_an_impossible_point_fails_by_itself(tmp_path: Path) -> None:
    prepared = prepare(study(tmp_path, space={"pseudo_labels.nu": {"grid": [0, 2]}}))
    good, bad = prepared.records()
    assert (good.status, bad.status) == ("queued", "failed")
    assert bad.reason == "pseudo_labels.nu: must be between 0 and 1, not 2"


def keys(prepared: Prepared) -> list[str]:
    return [prepared.chains[record.id].part for record in prepared.records()]


def test_trials_share_what_the_swept_option_leaves_alone(tmp_path: Path) -> None:
    prepared = prepare(study(tmp_path, shared=("initial", "source", "align"), seeds=(1, 2)))
    assert len(set(keys(prepared))) == 1, "the seed of the shared stages is the configuration's own"
    (part,) = parts(prepared)
    assert part.entries == ("initial", "source", "align") and len(part.spools) == 1
    config = load_config(str(tmp_path / "study/trials/002/config.yaml"))
    assert config.run.adopted == part.entries
    assert config.extract.from_spool == str(shared.spool_of(tmp_path / "study", prepared.chains["002"]))


def test_each_seed_has_its_own_shared_stages_if_asked(tmp_path: Path) -> None:
    prepared = prepare(study(tmp_path, shared=("initial", "source", "align"), seeds=(1, 2), shared_seed="each"))
    first, second = keys(prepared)[0], keys(prepared)[2]
    assert keys(prepared) == [first, first, second, second] and first != second
    assert sorted(part.config.run.seed for part in parts(prepared)) == [1, 2]


def test_a_stage_that_depends_on_the_swept_option_is_made_for_each_value_on_top_of_the_rest(tmp_path: Path) -> None:
    space = {"align.weight": {"grid": [0.1, 0.2]}, "selftrain.weight": {"grid": [0.5, 1]}}
    prepared = prepare(study(tmp_path, shared=("initial", "source", "align"), space=space))
    found = parts(prepared)
    assert [part.entries for part in found] == [
        ("initial", "source"),
        ("initial", "source", "align"),
        ("initial", "source", "align"),
    ]
    root, *others = found
    assert not root.spools and all(
        part.parent == root.key and part.adopted == root.entries and len(part.spools) == 1 for part in others
    )
    assert [part.config.align.weight for part in others] == [0.1, 0.2]
    assert len(set(keys(prepared))) == 2


@pytest.mark.parametrize(
    ("option", "values", "spools"),
    [
        ("pseudo_labels.nu", [0.5, 0.9], 1),
        ("pseudo_labels.rule", ["esl", "ssl", "cbst"], 1),
        ("pseudo_labels.temperature", [1, 2], 2),
        ("extract.size", [[128, 64], [64, 32]], 2),
    ],
)
def test_one_spool_serves_all_rules_and_thresholds(tmp_path: Path, option: str, values: list[Any], spools: int) -> None:
    prepared = prepare(study(tmp_path, shared=("initial", "source", "align"), space={option: {"grid": values}}))
    (part,) = parts(prepared)
    assert len(part.spools) == spools


def test_the_same_command_takes_the_folder_up(tmp_path: Path) -> None:
    asked = study(tmp_path)
    first = prepare(asked)
    folder = StudyFolder(tmp_path / "study").trial("000")
    record = first.records()[0]
    record.begin()
    record.save(folder)  # and the driver is killed
    again = prepare(asked).records()
    assert [(r.id, r.status) for r in again] == [("000", "queued"), ("001", "queued")] and again[
        0
    ].started == record.started


def test_a_trial_that_was_killed_on_its_way_out_stays_stopped(tmp_path: Path) -> None:
    asked = study(tmp_path)
    record = prepare(asked).records()[0]
    record.begin()
    record.save(StudyFolder(tmp_path / "study").trial("000"))
    (tmp_path / "study/trials/000/decision.json").write_text('{"by": "asha"}')
    again = prepare(asked).records()[0]
    assert (again.status, again.stopped_by) == ("stopped", "asha")


def test_another_study_does_not_take_the_folder(tmp_path: Path) -> None:
    prepare(study(tmp_path))
    prepare(study(tmp_path, concurrent=3))
    with pytest.raises(ConfigError, match="was made with seeds="):
        prepare(study(tmp_path, seeds=(2,)))


def test_random_points_are_those_of_the_seed(tmp_path: Path) -> None:
    space = {
        "pseudo_labels.nu": {"uniform": [0.2, 0.4]},
        "align.weight": {"loguniform": [1e-4, 1e-2]},
        "optim.batch": {"choice": [1, 2]},
    }
    one, other = (prepare(study(tmp_path / name, space=space, search="random", trials=20)) for name in "ab")
    points = [record.params for record in one.records()]
    assert points == [record.params for record in other.records()]
    assert all(0.2 <= p["pseudo_labels.nu"] <= 0.4 and 1e-4 <= p["align.weight"] <= 1e-2 for p in points)
    assert sum(p["align.weight"] < 1e-3 for p in points) >= 5 and {p["optim.batch"] for p in points} == {1, 2}
