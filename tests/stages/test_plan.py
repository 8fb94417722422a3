"""Which stages a configuration means."""

from __future__ import annotations

from esl_dist.config.load import load_config
from esl_dist.stages.plan import plan


def planned(*words: str) -> dict[str, tuple[str, str, str]]:
    return {s.folder: (s.objective, s.init, s.teacher) for s in plan(load_config("streets.yaml", list(words)))}


def test_the_embedded_pair() -> None:
    assert planned() == {
        "initial": ("none", "", ""),
        "source": ("none", "initial", ""),
        "align-bn": ("bn", "initial", ""),
        "align": ("advent", "initial", ""),
        "selftrain-ssl": ("advent", "initial", "align"),
        "selftrain-esl": ("advent", "initial", "align"),
        "oracle": ("none", "initial", ""),
    }


def test_rounds_take_the_last_round_as_teacher() -> None:
    stages = plan(load_config("streets.yaml", ["run.stages=[source,align,selftrain]", "selftrain.rounds=3"]))
    assert [(s.folder, s.teacher, s.labels, s.init) for s in stages[2:]] == [
        ("selftrain", "align", "esl", ""),
        ("selftrain-r2", "selftrain", "esl-r2", ""),
        ("selftrain-r3", "selftrain-r2", "esl-r3", ""),
    ]


def test_starting_points() -> None:
    words = ["run.stages=[initial,source,align,selftrain]"]
    assert planned(*words, "selftrain.init=source")["selftrain"][1] == "source"
    assert planned(*words, "selftrain.init=align")["selftrain"][1] == "align"
    assert planned(*words, "align.init=source")["align"][1] == "source"
    continued = plan(load_config("streets.yaml", [*words, "selftrain.init=teacher", "selftrain.rounds=2"]))[-2:]
    assert [(s.init, s.teacher, s.labels_before) for s in continued] == [("align", "align", ""), ("selftrain", "selftrain", "esl")]


def test_a_control_is_no_teacher_and_self_training_may_drop_alignment() -> None:
    found = planned("run.stages=[source,align:minent,align:bn,selftrain]")
    assert found["selftrain"] == ("minent", "", "align-minent")
    assert planned("run.stages=[source,align,selftrain]", "selftrain.objective=none")["selftrain"][0] == "none"
    assert planned("run.stages=[source,align:bn,selftrain]")["selftrain"] == ("none", "", "source")
