"""A study's file: what is refused, in which words, and what it means."""

from __future__ import annotations

from pathlib import Path

import pytest

from esl_dist.config.load import ConfigError, configs_dir
from esl_dist.config.study import discrete, dump_study, load_study, options_of
from esl_dist.studies.prepare import prepare

NU = "{pseudo_labels.nu: {grid: [0, 0.1]}}"
SHIPPED = sorted(path.name for path in (configs_dir() / "sweeps").glob("*.yaml"))


def write(folder: Path, text: str) -> str:
    path = folder / "study.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: x", "is not a study: it has no 'space:'"),
        ("space: {}", "space: is empty"),
        (f"space: {NU}\nsearches: grid", "searches: unknown option; did you mean search?"),
        ("space: {align.weight: {gird: [1]}}", "space.align.weight: write align.weight: {KIND: values}"),
        ("space: {align.weight: {grid: 1}}", "grid takes a list"),
        ("space: {align.weight: {uniform: [0, 1]}}", "a grid cannot try every value of uniform"),
        (
            "space: {align.weight: {loguniform: [0, 1]}}\nsearch: random\ntrials: 2",
            "loguniform needs a low end above 0",
        ),
        ("space: {align.weight: {uniform: [1, 0]}}\nsearch: random\ntrials: 2", "uniform takes [low, high]"),
        ("space: {a: {cases: {one: {align.weight: 1}}}, align.weight: {grid: [1]}}", "sets align.weight twice"),
        ("space: {run.seed: {grid: [1, 2]}}", "run.seed is swept by seeds"),
        (f"space: {NU}\ntrials: 3", "trials: a grid tries every combination"),
        (f"space: {NU}\nsearch: optuna", "trials: search=optuna needs the number of points"),
        (f"space: {NU}\nsearch: optuna\ntrials: 3\nseeds: [1, 2]", "seeds: optuna takes one seed"),
        (f"space: {NU}\nseeds: [1, 1]", "seeds: needs one seed or more, each once"),
        ("space: {pseudo_labels.nu: {grid: [0, 0.1, 0]}}", "space.pseudo_labels.nu: names 0 twice; every value once"),
        (f"space: {NU}\nmetric: accuracy", "metric: unknown 'accuracy'"),
        (f"space: {NU}\nmetric: iou/pole\nscheduler: asha", "metric: scheduler=asha sees miou alone"),
        (f"space: {NU}\ngrace: 0", "grace: must be 1 or more"),
        (f"space: {NU}\nreduction: 1", "reduction: must be 2 or more"),
        (f"space: {NU}\nranks: 0", "ranks: must be 1 or more"),
    ],
)
def test_refused_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_study(write(tmp_path, text))
    assert expected in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"space: {NU}\noptions: [align.wieght=1]", "align.wieght: unknown option; did you mean align.weight?"),
        (
            "space: {pseudo_labels.nu: {grid: [2, 3]}}",
            "no trial of this study can run: pseudo_labels.nu: must be between 0 and 1",
        ),
        (f"space: {NU}\nshared: [source]", "source start from stages that are not shared"),
        (f"space: {NU}\nshared: [aling]", "shared: no trial has the stage aling"),
        (f'space: {NU}\nshared: [initial, "align:minent"]', "no trial has the stage align:minent"),
        (f"space: {NU}\nscheduler: asha", "asha needs scores while a trial trains; set eval.every=STEPS"),
        (f"space: {NU}\nmetric: iou/raod", "study.metric: 'raod' is no class of data.classes=19: road, sidewalk"),
        (
            "space: {teacher.select.keep: {grid: [0.3, 0.5]}}\noptions: ['run.stages=[mic]']",
            "space.teacher.select.keep: does nothing in any trial (teacher.select.use=none)",
        ),
        (f"space: {NU}\nstage: selftrain-cbst", "no stage 'selftrain-cbst' in this trial"),
        (
            "space: {align.weight: {uniform: [0, 1]}}\nsearch: optuna\ntrials: 3\nshared: [initial, align]",
            "depend on an option that is drawn from a range",
        ),
        (
            "space: {pseudo_labels.nu: {uniform: [0, 3]}}\nsearch: optuna\ntrials: 3",
            "pseudo_labels.nu: must be between 0 and 1",
        ),
    ],
)
def test_a_study_that_cannot_run_is_refused_before_its_first_trial(tmp_path: Path, text: str, expected: str) -> None:
    study = load_study(write(tmp_path, f"dir: {tmp_path / 'study'}\nbase: smoke.yaml\n{text}"))
    with pytest.raises(ConfigError) as error:
        prepare(study)
    assert expected in str(error.value) and "\n" not in str(error.value)


def test_words_change_the_study_or_every_trial(tmp_path: Path) -> None:
    study = load_study(
        write(tmp_path, f"space: {NU}\noptions: [align.steps=3]"), ["study.seeds=[3,4]", "selftrain.steps=5"]
    )
    assert study.seeds == (3, 4) and study.options == ("align.steps=3", "selftrain.steps=5")
    assert load_study(write(tmp_path, dump_study(study))) == study


def test_cases_set_several_options(tmp_path: Path) -> None:
    study = load_study(
        write(
            tmp_path,
            "space: {method: {cases: {a: {align.weight: 1, run.stages: [source]}, b: {}}}, optim.lr: {grid: [0.1,"
            " 0.2]}}",
        )
    )
    points = list(discrete(study.space))
    assert points == [{"method": name, "optim.lr": rate} for name in "ab" for rate in (0.1, 0.2)]
    assert options_of(study.space, points[0]) == {"align.weight": 1, "run.stages": ["source"], "optim.lr": 0.1}
    assert options_of(study.space, points[3]) == {"optim.lr": 0.2}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_study_can_be_prepared(name: str, tmp_path: Path) -> None:
    study = load_study(f"sweeps/{name}", [f"study.dir={tmp_path / 'study'}", "study.seeds=[1]"])
    assert study.name == name.removesuffix(".yaml")
    prepared = prepare(study)
    assert [record.reason for record in prepared.records() if record.status == "failed"] == []
    header = (configs_dir() / "sweeps" / name).read_text().splitlines()
    assert f"#   python -m esl_dist.tune --config configs/sweeps/{name}" in header
