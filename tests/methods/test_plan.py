"""Which stages a configuration means."""

from __future__ import annotations

import pytest

from esl_dist.config.load import load_config
from esl_dist.methods import plan, stages
from esl_dist.methods.labels import Labels


def planned(*words: str) -> dict[str, tuple[str, str, str]]:
    return {
        s.name: (s.settings.get("objective", "none"), s.needs.get("init", ""), s.needs.get("teacher", ""))
        for s in stages(load_config("streets.yaml", list(words)))
    }


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
    planned = stages(load_config("streets.yaml", ["run.stages=[source,align,selftrain]", "selftrain.rounds=3"]))
    assert [(s.name, s.needs["teacher"], s.labels, s.needs.get("init", "")) for s in planned[2:]] == [
        ("selftrain", "align", "esl", ""),
        ("selftrain-r2", "selftrain", "esl-r2", ""),
        ("selftrain-r3", "selftrain-r2", "esl-r3", ""),
    ]


def test_starting_points() -> None:
    words = ["run.stages=[initial,source,align,selftrain]"]
    assert planned(*words, "selftrain.init=source")["selftrain"][1] == "source"
    assert planned(*words, "selftrain.init=align")["selftrain"][1] == "align"
    assert planned(*words, "align.init=source")["align"][1] == "source"
    continued = stages(load_config("streets.yaml", [*words, "selftrain.init=teacher", "selftrain.rounds=2"]))[-2:]
    assert [(s.needs["init"], s.needs["teacher"]) for s in continued] == [
        ("align", "align"),
        ("selftrain", "selftrain"),
    ]


def test_a_teacher_looks_at_the_target_once_for_all_who_learn_from_it() -> None:
    words = ['run.stages=[source,align,"selftrain:ssl",oracle,"selftrain:esl"]', "selftrain.rounds=2"]
    nodes = plan(load_config("streets.yaml", words))
    assert [n.name for n in nodes if isinstance(n, Labels)] == [
        "labels of align",
        "labels of selftrain-ssl",
        "labels of selftrain-esl",
    ]
    first, second, _ = (n for n in nodes if isinstance(n, Labels))
    assert first.rules == {"ssl": "ssl", "esl": "esl"} and first.entries == ("selftrain:ssl", "selftrain:esl")
    assert nodes.index(first) == 2, "before the first who learns"
    assert second.rules == {"ssl-r2": "ssl"} and second.before == {"ssl-r2": "ssl"} and second.round == 2


BDL = 'run.stages=[initial,source,translate,align,"selftrain:ssl","align+it","selftrain:ssl+it"]'


def test_translated_images_are_those_that_the_stage_names() -> None:
    found = {
        s.name: (s.needs.get("images", ""), s.needs.get("teacher", ""), s.labels)
        for s in stages(load_config("streets.yaml", [BDL]))
    }
    assert found == {
        "initial": ("", "", ""),
        "source": ("", "", ""),
        "translate": ("", "source", ""),
        "align": ("", "", ""),
        "selftrain-ssl": ("", "align", "ssl"),
        "align-it": ("translate", "", ""),
        "selftrain-ssl-it": ("translate", "align-it", "ssl-it"),
    }


def test_rounds_of_translation_are_judged_by_the_segmenter_before() -> None:
    planned = stages(load_config("streets.yaml", [BDL, "translate.rounds=3", "selftrain.rounds=2"]))[-8:]
    assert [(s.name, s.needs.get("images", ""), s.needs.get("teacher", "")) for s in planned] == [
        (name.format(k=k), images.format(k=k), teacher.format(k=k, before="-it" if k == 2 else "-it2"))
        for k in (2, 3)
        for name, images, teacher in (
            ("translate-{k}", "", "selftrain-ssl{before}-r2"),
            ("align-it{k}", "translate-{k}", ""),
            ("selftrain-ssl-it{k}", "translate-{k}", "align-it{k}"),
            ("selftrain-ssl-it{k}-r2", "translate-{k}", "selftrain-ssl-it{k}"),
        )
    ]
    assert len({s.name for s in planned}) == 8 and planned[-1].labels == "ssl-it3-r2"


def test_a_translation_may_have_no_judge() -> None:
    for words in (
        ["run.stages=[initial,translate,align+it]"],
        ["run.stages=[source,translate,align+it]", "translate.perceptual=0"],
        ["run.stages=[align:bn,translate]"],
    ):
        (tool,) = (s for s in stages(load_config("streets.yaml", words)) if s.role == "tool")
        assert "teacher" not in tool.needs


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["run.stages=[source,align+it]"], "run.stages: align+it needs translate before it"),
        (["run.stages=[translate,align+it2]"], "run.stages: align+it2 needs translate:2 before it"),
        (["run.stages=[align+it,translate]"], "run.stages: align+it needs translate before it"),
        (["run.stages=[translate,oracle+it]"], "run.stages: 'oracle+it': +it is for source, align and selftrain"),
        (["run.stages=[translate,align+mt]"], "run.stages: 'align+mt' is not written"),
        (["run.stages=['translate:1']"], "run.stages: 'translate:1'"),
        (["run.stages=[source,align]", "translate.rounds=2"], "translate.rounds: repeats the first translation"),
        (["run.stages=[translate,'translate:2']", "translate.rounds=2"], "translate.rounds"),
        (["translate.crop=130"], "translate.crop: must be a multiple of 4"),
        (["translate.load=256"], "translate.load: 256 is narrower than translate.crop=452"),
        (["translate.hold=1"], "translate.hold"),
        (["translate.mirror=2"], "translate.mirror: must be between 0 and 1"),
        (["translate.blocks=0"], "translate.blocks: must be 1 or more"),
        (["translate.cycle=-1"], "translate.cycle: must be 0 or more"),
        (["translate.lr=0"], "translate.lr: must be positive"),
    ],
)
def test_what_cannot_be_planned_is_one_line(words: list[str], problem: str) -> None:
    with pytest.raises(ValueError) as error:
        plan(load_config("streets.yaml", words))
    assert str(error.value).startswith(problem)


def test_a_control_is_no_teacher_and_self_training_may_drop_alignment() -> None:
    found = planned("run.stages=[source,align:minent,align:bn,selftrain]")
    assert found["selftrain"] == ("minent", "", "align-minent")
    assert planned("run.stages=[source,align,selftrain]", "selftrain.objective=none")["selftrain"][0] == "none"
    assert planned("run.stages=[source,align:bn,selftrain]")["selftrain"] == ("none", "", "source")
