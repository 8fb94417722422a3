"""Several runs as one table: grouping, spreads, paired differences, three formats."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from esl_dist.entries.report import main
from esl_dist.methods import Role
from esl_dist.reporting.record import StageRecord
from esl_dist.reporting.spread import paired, spread, t_quantile
from esl_dist.reporting.study_page import markdown, to_csv
from esl_dist.reporting.study_table import Row, _comparisons, collect
from esl_dist.runs import manifest


@pytest.mark.parametrize(
    ("freedom", "value"),
    [(1, 12.706205), (2, 4.302653), (3, 3.182446), (4, 2.776445), (9, 2.262157), (19, 2.093024), (100, 1.983972)],
)
def test_quantiles_of_student(freedom: int, value: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(value, abs=2e-6)


def test_paired_difference_by_hand() -> None:
    found = paired([45.0, 46.0, 47.0], [44.0, 46.0, 45.0])  # differences 1, 0, 2
    assert found.mean == 1 and found.n == 3
    assert found.low is not None and found.high is not None
    assert (found.low, found.high) == pytest.approx(
        (1 - 4.302653 / math.sqrt(3), 1 + 4.302653 / math.sqrt(3)), abs=1e-5
    )
    assert not found.decided and paired([2.0, 2.1], [1.0, 1.1]).decided


def test_one_seed_has_no_spread_and_no_interval() -> None:
    one = spread([45.0])
    assert one is not None and one.deviation is None
    alone = paired([2.0], [1.0])
    assert (alone.mean, alone.low, alone.decided) == (1.0, None, False)
    assert spread([]) is None


@pytest.fixture(scope="module")
def runs(run_maker: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    folder = tmp_path_factory.mktemp("study")
    plain = [run_maker(folder / f"a{seed}", seed=seed, name=f"advent-seed{seed}") for seed in (1, 2, 3)]
    other = [
        run_maker(
            folder / f"b{seed}", seed=seed, name=f"advent-nu02-seed{seed}", shift=1.5, options=("pseudo_labels.nu=0.2",)
        )
        for seed in (2, 3)
    ]
    return {"plain": plain, "other": other}


def _miou(run: Path, stage: str, kind: str = "running") -> float:
    return 100 * float(json.loads((run / stage / f"metrics-{kind}.json").read_text())["miou"])


def test_rows_are_means_over_seeds(runs: dict[str, list[Path]]) -> None:
    study = collect(runs["plain"])
    assert [group.name for group in study.groups] == ["advent"] and study.differences == ()
    row = next(r for r in study.tables[0].rows if r.method == "ESL")
    values = [_miou(run, "selftrain-esl") for run in runs["plain"]]
    assert row.last.mean == pytest.approx(statistics.fmean(values)) and row.last.deviation == pytest.approx(
        statistics.stdev(values)
    )
    assert row.last.n == 3 and row.best is None and row.star is None and row.group == ""
    assert row.iou[study.tables[0].classes.index("train")] is None


def test_differences_pair_equal_seeds(runs: dict[str, list[Path]]) -> None:
    study = collect(runs["plain"] + runs["other"])
    assert [group.name for group in study.groups] == ["advent", "advent-nu02"]
    assert study.differences == ("advent-nu02 against advent: pseudo_labels.nu: 0.1 → 0.2",)
    table = study.tables[1]
    found = {c.text: c.difference for c in table.comparisons}
    across = found["advent-nu02: ESL − advent: ESL"]
    by_hand = [
        _miou(b, "selftrain-esl", "target") - _miou(a, "selftrain-esl", "target")
        for a, b in zip(runs["plain"][1:], runs["other"], strict=True)
    ]
    assert across.n == 2 and across.mean == pytest.approx(statistics.fmean(by_hand))
    within = found["advent: ESL − SSL"]
    assert within.n == 3 and within.mean == pytest.approx(
        statistics.fmean(
            [_miou(r, "selftrain-esl", "target") - _miou(r, "selftrain-ssl", "target") for r in runs["plain"]]
        )
    )
    aligned = found["advent: ESL − ADVENT"]
    assert aligned.n == 3 and aligned.mean == pytest.approx(
        statistics.fmean([_miou(r, "selftrain-esl", "target") - _miou(r, "align", "target") for r in runs["plain"]])
    )
    assert not any("BN control" in text and "ESL" in text for text in found)
    assert "advent-nu02: source-only − advent: source-only" not in found  # identical, so no comparison


def _row(group: str, method: str, kind: str, *scores: float) -> Row:
    role: Role = "baseline" if kind == "source" else "method"
    learned = "esl" if kind == "selftrain" else ""
    by_seed = {
        seed: StageRecord("f", method, role, None, learned, {"target": {"miou": score / 100}}, {}, {}, 8, 1.0, 1)
        for seed, score in enumerate(scores)
    }
    last = spread(list(scores))
    assert last is not None
    return Row(group, method, role, bool(learned), by_seed, (), last, None, None, None)


def test_translated_images_are_compared_with_the_original_ones() -> None:
    plain = [
        ("source-only", "source", 20, 21),
        ("ADVENT", "align", 25, 26),
        ("SSL", "selftrain", 27, 27),
        ("ESL", "selftrain", 28, 28),
    ]
    there = [
        ("source-only + IT", "source", 22, 24),
        ("ADVENT + IT", "align", 27, 29),
        ("SSL + IT", "selftrain", 29, 31),
        ("ESL + IT", "selftrain", 30, 31),
        ("ESL + IT 2", "selftrain", 31, 31),
    ]
    one = {c.text: c.difference.mean for c in _comparisons([_row("", *row) for row in (*plain, *there)], "target")}
    wanted = {
        "source-only + IT − source-only": 2.5,
        "ADVENT + IT − ADVENT": 2.5,
        "ESL + IT − ESL": 2.5,
        "ESL + IT 2 − ESL": 3.0,
        "ESL + IT − ADVENT + IT": 2.5,
        "ESL + IT − SSL + IT": 0.5,
    }
    assert {text: one[text] for text in wanted} == pytest.approx(wanted)
    assert one.keys() >= {"ESL + IT − source-only", "ESL + IT − source-only + IT", "ESL − ADVENT"}
    assert not one.keys() & {
        "ESL + IT − ADVENT",
        "ESL − ADVENT + IT",
        "ESL − source-only + IT",
        "ESL + IT 2 − SSL + IT",
        "ESL − ESL + IT",
    }
    two = {
        c.text: c.difference.mean
        for c in _comparisons([*(_row("a", *row) for row in plain), *(_row("b", *row) for row in there)], "target")
    }
    assert two["b: ESL + IT − a: ESL"] == pytest.approx(2.5) and two[
        "b: source-only + IT − a: source-only"
    ] == pytest.approx(2.5)


def test_best_checkpoints_stand_apart_from_last_ones(
    runs: dict[str, list[Path]], run_maker: Callable[..., Path], tmp_path: Path
) -> None:
    evaluated = []
    for seed in (1, 2):
        run = run_maker(tmp_path / f"e{seed}", seed=seed)
        with open(run / "metrics.jsonl", "a") as log:
            log.write("\n")
            for step, miou in ((120, 0.5 + seed / 100), (240, 0.4)):
                log.write(
                    json.dumps(
                        {
                            "event": "eval",
                            "stage": "align",
                            "step": step,
                            "bn_statistics": "running",
                            "miou": miou,
                            "time": 1.0,
                        }
                    )
                    + "\n"
                )
        evaluated.append(run)
    study = collect(evaluated)
    rows = {row.method: row for row in study.tables[0].rows}
    assert rows["ADVENT"].best is not None and rows["ADVENT"].best.mean == pytest.approx(51.5)
    assert rows["ESL"].best is None
    text = markdown(study)
    assert "| mIoU, last | mIoU, best |" in text and "51.5 ± 0.7" in text


def test_star_of_sixteen_class_networks(run_maker: Callable[..., Path], tmp_path: Path) -> None:
    run = run_maker(tmp_path / "sixteen")
    for file in run.glob("*/metrics-running.json"):
        content = json.loads(file.read_text())
        file.write_text(json.dumps({**content, "miou_star": 0.507}))
    assert (
        "mIoU*, last" in markdown(collect([run]))
        and "50.7" in markdown(collect([run]))
        and "mIoU*, best" not in markdown(collect([run]))
    )
    with open(run / "metrics.jsonl", "a") as log:
        log.write("\n")
        for step, miou, star in ((120, 0.5, 0.61), (240, 0.4, 0.66)):
            log.write(
                json.dumps(
                    {
                        "event": "eval",
                        "stage": "align",
                        "step": step,
                        "bn_statistics": "running",
                        "miou": miou,
                        "miou_star": star,
                        "time": 1.0,
                    }
                )
                + "\n"
            )
    study = collect([run])
    assert "| mIoU*, last | mIoU*, best |" in markdown(study)
    line = next(
        x
        for x in csv.DictReader(io.StringIO(to_csv(study)))
        if x["method"] == "ADVENT" and x["bn_statistics"] == "running"
    )
    assert (line["miou_best"], line["miou_star_last"], line["miou_star_best"]) == (
        "50.0000",
        "50.7000",
        "61.0000",
    ), "of the checkpoint that is best by mIoU"


def test_csv_has_a_line_per_seed(runs: dict[str, list[Path]]) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(collect(runs["plain"] + runs["other"])))))
    assert len(lines) == 5 * 7 * 2
    line = next(
        x
        for x in lines
        if x["group"] == "advent" and x["method"] == "SSL" and x["seed"] == "2" and x["bn_statistics"] == "target"
    )
    assert float(line["miou_last"]) == pytest.approx(_miou(runs["plain"][1], "selftrain-ssl", "target"), abs=1e-4)
    assert line["train"] == "" and line["miou_best"] == "" and line["miou_star_last"] == ""


def test_entry_writes_three_files(
    runs: dict[str, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--table1", *map(str, runs["plain"]), "--out", str(tmp_path / "out" / "table")]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["table.csv", "table.html", "table.md"]
    assert "ESL − SSL" in capsys.readouterr().out
    html = (tmp_path / "out" / "table.html").read_text()
    assert html.count("<h2>") == 3 and "confidence interval" in html


def test_several_runs_are_reported_and_compared(
    runs: dict[str, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*map(str, runs["plain"]), "--out", str(tmp_path / "pages" / "both.html")]) == 0
    assert "ESL − SSL" in capsys.readouterr().out
    html = (tmp_path / "pages" / "both.html").read_text()
    links = re.findall(r'href="([^"]*report\.html)"', html)
    assert [(tmp_path / "pages" / link).resolve() for link in links] == [run / "report.html" for run in runs["plain"]]
    assert all((run / "report.html").is_file() for run in runs["plain"]) and 'download="both.csv"' in html


def test_the_same_run_twice_is_refused(
    runs: dict[str, list[Path]], run_maker: Callable[..., Path], tmp_path: Path
) -> None:
    copy = run_maker(tmp_path / "copy", seed=2, name="advent-again")
    with pytest.raises(ValueError, match="the same experiment with the same seed 2"):
        collect([*runs["plain"], copy])


def test_out_belongs_to_a_study(runs: dict[str, list[Path]], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--out"):
        main([str(runs["plain"][0]), "--out", str(tmp_path / "x.html")])


def test_runs_without_scores_make_no_table(run_maker: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of these runs was scored"):
        collect([run_maker(tmp_path / "run", labelled=False)])


def test_another_number_of_ranks_is_another_experiment(run_maker: Callable[..., Path], tmp_path: Path) -> None:
    one, two = (
        run_maker(tmp_path / name, seed=1, name=f"{name}-seed1", options=("profile.steps=2",) if name == "two" else ())
        for name in ("one", "two")
    )
    for path in two.glob("*/checkpoints/*/manifest.json"):
        path.write_bytes(manifest.encode(240, {}, {"world": 4}))
    study = collect([one, two])
    assert [group.name for group in study.groups] == ["one", "two"]
    assert study.differences == ("two against one: ranks: [2] → [4]",)
