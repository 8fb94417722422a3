"""mIoU over steps across runs: which lines there are, what they are the mean of, and how they are told apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from esl_dist.colours import COLOURS
from esl_dist.reporting.compared import compared, shortened
from esl_dist.reporting.record import RunRecord
from esl_dist.reporting.study_page import write_study
from esl_dist.reporting.study_table import Group, Study, collect
from esl_dist.runs.events import Eval
from esl_dist.runs.lines import Line


@pytest.fixture(scope="module")
def study(run_maker: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two groups, of two seeds and of one."""
    folder = tmp_path_factory.mktemp("compared")
    runs = [run_maker(folder / f"a{seed}", seed=seed, name=f"plain-seed{seed}") for seed in (1, 2)]
    runs.append(run_maker(folder / "b1", seed=1, name="other", options=("pseudo_labels.nu=0.2",)))
    return collect(runs)


def scored(study: Study, scores: list[dict[int, float]]) -> Study:
    """The same runs with alignment's scores of every run, step -> mIoU."""
    left = iter(scores)

    def having(run: RunRecord) -> RunRecord:
        made = [Eval("align", step, "val", "running", miou) for step, miou in next(left).items()]
        return replace(run, lines=tuple(Line(i, b"", float(i), event) for i, event in enumerate(made)))

    return replace(study, groups=tuple(Group(g.name, tuple(having(run) for run in g.runs)) for g in study.groups))


def test_groups_are_means_over_their_seeds(study: Study) -> None:
    made = compared(scored(study, [{2: 0.2, 4: 0.4, 6: 0.5}, {2: 0.4, 4: 0.6}, {2: 0.1, 4: 0.3}]))
    assert made.means and [line.name for line in made.lines] == ["plain", "other"]
    assert [line.colour for line in made.lines] == list(COLOURS[:2]) and made.lines[0].dash != made.lines[1].dash
    ((title, drawing),) = made.charts
    assert title == "ADVENT, running BN statistics"
    assert drawing.count('class="faint"') == 2 and drawing.count("<polyline points") == 2  # two seeds; two groups
    assert ">plain<" in drawing and ">other<" in drawing
    # The mean is over the steps that both seeds were scored at: it ends where the shorter one does.
    (faint,) = [part for part in drawing.split("<polyline") if 'class="faint"' in part and part.count(",") == 3]
    mean = next(part for part in drawing.split("<polyline") if part.startswith(" points") and COLOURS[0] in part)
    assert mean.count(",") == 2 and mean.split('"')[1].split()[0].split(",")[0] == faint.split('"')[3].split(",")[0]


def test_one_group_has_a_line_a_seed(study: Study) -> None:
    alone = replace(study, groups=study.groups[:1])
    made = compared(scored(alone, [{2: 0.2, 4: 0.4}, {2: 0.4, 4: 0.6}]))
    assert [line.name for line in made.lines] == ["seed 1", "seed 2"] and not made.means
    assert "faint" not in made.charts[0][1]


def test_runs_that_were_scored_once_have_no_curve(study: Study, tmp_path: Path) -> None:
    once = scored(study, [{4: 0.4}, {4: 0.6}, {4: 0.3}])
    assert compared(once).charts == ()
    page = write_study(once, tmp_path / "page.md")[-1].read_text()
    assert "eval.every=N" in page and "<script" not in page
    page = write_study(scored(study, [{2: 0.2, 4: 0.4}] * 3), tmp_path / "page.md")[-1].read_text()
    assert "eval.every=N" not in page and page.count('class="chart named"') == 1 and "<script" not in page


def test_ends_of_lines_keep_what_tells_names_apart() -> None:
    assert shortened(["streets_teacher (imagenet-1)", "streets_teacher (kaiming-1)"]) == ["imagenet", "kaiming"]
    assert shortened(["advent-nu02", "advent-nu03"]) == ["advent-nu02", "advent-nu03"]
    assert shortened(["a_rather_long_name_nu02", "a_rather_long_name_nu03"]) == ["nu02", "nu03"]
    assert shortened(["one_long_name_of_a_run", "another"]) == ["one_long_name_of_a_run", "another"]
    assert shortened(["a_rather_long_name", "a_rather_long_name_b"]) == ["name", "name_b"]
