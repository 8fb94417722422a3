"""The page of one run: what is in it, what it does without, and what it refuses."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esl_dist.entries.report import main
from esl_dist.reporting.record import read_run
from esl_dist.reporting.reliability import Interval, intervals, reliabilities
from esl_dist.reporting.report import write_report
from esl_dist.reporting.terminal import terminal_table
from esl_dist.runs import RunFolder
from esl_dist.runs.content import LabelsMade
from esl_dist.runs.folders import spool_folder
from tests.reporting.made_run import CHECKPOINT, STAGES

TITLES = ["initial weights", "source-only", "BN control", "ADVENT", "SSL", "ESL", "oracle"]
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Text, tables and pictures of a page; fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.images: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag == "img":
            found = dict(attrs)
            self.images.append((str(found["alt"]), str(found["src"])))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.words.append(data)
        if any(tag in self.open for tag in ("td", "th")):
            self.tables[-1][-1][-1] += data.strip()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def _read(path: Path) -> Page:
    return Page(path.read_text())


def _metrics(run: Path, stage: str, kind: str) -> dict:  # type: ignore[type-arg]
    found: dict = json.loads((run / stage / f"metrics-{kind}.json").read_text())  # type: ignore[type-arg]
    return found


def test_page_stands_alone(run: Path) -> None:
    html = write_report(run).read_text()
    assert not re.search(r"""(src|href)=["'](?!data:|#)|https?://|@import|<script""", html)
    assert len(html) < 3_000_000


def test_summary_holds_every_stage_and_its_gain(run: Path) -> None:
    page = _read(write_report(run))
    table = page.tables[0]
    assert [row[0] for row in table[1:]] == TITLES
    for row, stage in zip(table[1:], STAGES, strict=True):
        for column, kind in ((1, "running"), (3, "target")):
            miou, base = 100 * _metrics(run, stage, kind)["miou"], 100 * _metrics(run, "source", kind)["miou"]
            gain = "" if stage in ("initial", "source") else f"{miou - base:+.1f}".replace("-", "−")
            assert row[column] == f"{miou:.1f}{gain}"


def test_best_mark_goes_to_neither_oracle_nor_initial_weights(run: Path) -> None:
    html = write_report(run).read_text()
    first = html[html.index("<tbody>") : html.index("</tbody>")]
    marked = [re.sub("<[^>]*>", "", row) for row in first.split("<tr")[1:] if 'class="best"' in row]
    scores = {stage: _metrics(run, stage, "running")["miou"] for stage in STAGES if stage not in ("oracle", "initial")}
    best = f"{100 * max(scores.values()):.1f}"
    assert any(best in text for text in marked) and len(marked) <= 2
    assert not any("oracle" in text or "initial" in text for text in marked)


def test_per_class_tables_and_absent_classes(run: Path) -> None:
    page = _read(write_report(run))
    tables = [t for t in page.tables if t[0][0] == "class" and t[0][1:] == TITLES]
    assert len(tables) == 2
    for table, kind in zip(tables, ("running", "target"), strict=True):
        road = next(row for row in table if row[0] == "road")
        assert road[2] == f"{100 * _metrics(run, 'source', kind)['iou']['road']:.1f}"
        assert next(row for row in table if row[0] == "train")[1:] == ["–"] * 7
        assert table[-1][0] == "mean"


def test_label_quality_is_counted_against_the_ground_truth(run: Path, run_maker: Callable[..., Path]) -> None:
    from esl_dist.config.load import load_config
    from esl_dist.data import open_dataset

    page = _read(write_report(run))
    table = next(t for t in page.tables if len(t) > 2 and t[1] and t[1][0] == "class" and "threshold" in t[1][1])
    config = load_config(str(run / "config.yaml"), [])
    target = open_dataset(config.data.target, config.data.root, "19")
    for column, rule in ((3, "ssl"), (6, "esl")):
        wrong = total = 0
        for i, name in enumerate(target.names):
            label = np.asarray(Image.open(run / "pseudo_labels" / rule / "labels" / f"{name}.png"))
            truth = target.label(i)
            judged = (label == 0) & (truth != 255)
            wrong, total = wrong + int((truth[judged] != 0).sum()), total + int(judged.sum())
        assert next(row for row in table if row[0] == "road")[column] == f"{100 * wrong / total:.1f}"
    entry = json.loads((run / "pseudo_labels" / "esl" / "thresholds.json").read_text())["classes"][0]
    road = next(row for row in table if row[0] == "road")
    assert road[4] == f"{entry['threshold']:.4f}" and road[5] == f"{100 * entry['kept'] / entry['count']:.1f}"


def test_pictures_show_what_they_say(run: Path) -> None:
    page = _read(write_report(run))
    by_title: dict[str, list[Image.Image]] = {}
    for alt, uri in page.images:
        kind, _, data = uri.partition(";base64,")
        assert kind in ("data:image/png", "data:image/jpeg")
        by_title.setdefault(alt.partition(", streets")[0], []).append(Image.open(io.BytesIO(base64.b64decode(data))))
    expected = [
        "Target image",
        "Ground truth",
        "Prediction",
        "SSL labels",
        "ESL labels",
        "SSL keeps, ESL drops",
        "ESL keeps, SSL drops",
    ]
    assert list(by_title) == expected and all(len(found) == 4 for found in by_title.values())
    ssl, esl = (np.asarray(by_title[f"{rule} labels"][0]) for rule in ("SSL", "ESL"))
    only = np.asarray(by_title["SSL keeps, ESL drops"][0])
    mask = (ssl != 255) & (esl == 255)
    assert np.array_equal(only[mask], ssl[mask]) and (only[~mask] > 200).all()
    prediction = np.asarray(by_title["Prediction"][0])
    assert np.array_equal(prediction[ssl != 255], ssl[ssl != 255])


def test_curves_of_every_loss(run: Path) -> None:
    html = write_report(run).read_text()
    page = Page(html)
    assert "Cross-entropy on pseudo-labels" in page.text and "Adversarial loss of the segmenter, aux head" in page.text
    assert html.count('<svg class="chart named"') == 10
    start = html.index('<svg class="chart named"')
    first = html[start : html.index("</svg>", start)]
    assert first.count("<polyline") == 14 and first.count('class="faint"') == 7  # a line per stage, and its points
    assert re.findall(r'class="end"[^>]*>([^<]*)', first) and set(
        re.findall(r'class="end"[^>]*>([^<]*)', first)
    ) == set(TITLES)


def test_every_table_can_be_saved(run: Path) -> None:
    html = write_report(run).read_text()
    saved = set(re.findall(r'download="([^"]*)\.csv"', html))
    assert saved == {"summary", "iou-running", "iou-target", "pseudo-labels", "overlap", "time", "reliability-advent"}
    assert saved == set(re.findall(r'download="([^"]*)\.tex"', html))
    assert len(saved) == html.count("<table") + html.count('<svg class="reliability"')


def test_how_far_probabilities_are_off(run: Path) -> None:
    page = _read(write_report(run))
    assert "ECE 10.0 %: 10.0 points too sure on the whole" in page.text
    (found,) = reliabilities(read_run(run))
    assert found.title == "ADVENT" and [round(i.share, 3) for i in found.intervals] == [0.75, 0.25]
    older = intervals({"edges": [0, 0.5, 1], "pixels": [0, 2], "right": [None, 0.5]})
    assert older == (Interval(0.5, 1, 1.0, 0.75, 0.5),)


def test_text_from_files_is_escaped(run: Path) -> None:
    html = write_report(run).read_text()
    assert "&lt;img src=x&gt;" in html and "<img src=x>" not in html


def test_without_target_labels_pictures_coverage_and_agreement_remain(
    run_maker: Callable[..., Path], tmp_path: Path
) -> None:
    run = run_maker(tmp_path / "run", labelled=False)
    page = _read(write_report(run))
    assert "IoU per class" not in page.text and "wrong" not in page.text and "Ground truth" not in page.text
    assert "kept by both" in page.text and "SSL keeps, ESL drops" in page.text
    assert "nothing was scored" in terminal_table(run)


def test_missing_stages_and_images_are_simply_absent(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "part"
    shutil.copytree(run, copy)
    for name in ("pseudo_labels", "selftrain-ssl", "selftrain-esl", "oracle", "align", "align-bn"):
        shutil.rmtree(copy / name)
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(re.sub(r"(?m)^  root: .*$", "  root: nowhere", config, count=1))
    page = _read(write_report(copy))
    assert [row[0] for row in page.tables[0][1:]] == ["initial weights", "source-only"]
    assert "Pseudo-labels" not in page.text and not page.images
    assert terminal_table(copy).count("\n") == 3


def test_label_sets_without_their_images_keep_their_tables(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "moved"
    shutil.copytree(run, copy)
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(re.sub(r"(?m)^  root: .*$", "  root: nowhere", config, count=1))
    page = _read(write_report(copy))
    assert "The photographs are missing" in page.text and "kept by both" in page.text
    assert "ESL labels" in [alt.partition(", streets")[0] for alt, _ in page.images]


def test_a_damaged_label_costs_its_section_only(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy = tmp_path / "damaged"
    shutil.copytree(run, copy)
    for file in (copy / "pseudo_labels" / "esl" / "labels").rglob("*.png"):
        file.write_bytes(file.read_bytes()[:40])
    page = _read(write_report(copy))
    assert "What each stage gained" in page.text and "entropy threshold" in page.text
    assert "the report has no label quality" in caplog.text


def test_terminal_table(run: Path) -> None:
    lines = terminal_table(run).splitlines()
    assert "200 images of test" in lines[0]
    assert [line[:15].strip() for line in lines[2:9]] == TITLES
    source, esl = (100 * _metrics(run, stage, "running")["miou"] for stage in ("source", "selftrain-esl"))
    row = next(line for line in lines if line.startswith("ESL"))
    assert f"{esl:.1f}" in row and f"({esl - source:+.1f})".replace("-", "−") in row


def test_a_narrow_terminal_has_the_kinds_below_one_another_and_colours(run: Path) -> None:
    wide, narrow = terminal_table(run, 120), terminal_table(run, 60)
    assert wide == terminal_table(run) and max(map(len, narrow.splitlines()[1:])) <= 60
    assert narrow.count("ESL") == 2 and narrow.count("running BN statistics") == 1
    assert sorted(re.findall(r"\d+\.\d", wide)) == sorted(re.findall(r"\d+\.\d", narrow))
    painted = terminal_table(run, 120, lambda text, style: f"<{style}>{text}</>")
    assert "<green>" in painted and re.sub("<[a-z/]*>", "", painted) == wide


def test_one_line_for_what_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not a run folder: it has no config\.yaml"):
        main([str(tmp_path)])


def test_one_line_for_a_damaged_metrics_file(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "source" / "metrics-running.json").write_text('{"miou": 0.')
    with pytest.raises(ValueError, match=r"metrics-running\.json: is not readable as JSON"):
        main([str(copy)])


def test_entry_prints_the_table_and_the_page(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run)]) == 0
    printed = capsys.readouterr().out
    assert "BN control" in printed and printed.rstrip().endswith("report.html")


def test_rounds_are_compared_and_extra_terms_named(run_maker: Callable[..., Path], tmp_path: Path) -> None:
    options = ("selftrain.rounds=2", "align.also=[{objective: maxsquare, weight: 0.1}]")
    run = run_maker(tmp_path / "run", options=options)
    for rule in ("ssl", "esl"):
        shutil.copytree(run / "pseudo_labels" / rule, run / "pseudo_labels" / f"{rule}-r2")
    with open(run / "metrics.jsonl", "a") as log:
        log.write("\n")
        for name, number, more in (("esl", 1, {}), ("esl-r2", 2, {"both_kept": 0.5, "agreed": 0.45})):
            log.write(
                json.dumps(
                    {"event": "labels", "time": 1.0, "set": name, "rule": "esl", "stage": "s", "round": number, **more}
                )
                + "\n"
            )
    page = _read(write_report(run))
    table = next(rows for rows in page.tables if rows[0][-1] == "the same class, %")
    found = {row[0]: row for row in table[1:]}
    assert (
        found["ESL, round 2"][-2:] == ["50.0", "90.0"]
        and found["ESL"][-2:] == ["–", "–"]
        and found["SSL, round 2"][-1] == "–"
    )
    assert found["ESL, round 2"][1] == found["ESL"][1] != "–" and len(found["ESL"]) == 5
    thresholds = next(rows for rows in page.tables if any("threshold" in cell for cell in rows[1]))
    assert thresholds[0][1:] == ["SSL", "ESL", "SSL, round 2", "ESL, round 2"]
    assert "ADVENT + MaxSquare" in page.text


def test_a_damaged_line_in_the_middle_of_the_log_is_named(run_maker: Callable[..., Path], tmp_path: Path) -> None:
    run = run_maker(tmp_path / "run")
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run / "metrics.jsonl").write_bytes(b"".join([*lines[:4], lines[4][:20] + b"\n", *lines[5:]]))
    assert "line 5 is cut short or damaged" in _read(write_report(run)).text


@pytest.mark.parametrize("where", ["spool_dir", "from_spool", "labels.json"])
def test_predictions_are_shown_wherever_the_spool_lies(
    run_maker: Callable[..., Path], tmp_path: Path, where: str
) -> None:
    run = run_maker(
        tmp_path / "run", options=(f"extract.spool_dir={tmp_path / 'fast'}",) if where == "spool_dir" else ()
    )
    labels = RunFolder(run).labels
    own, elsewhere = labels.spool(CHECKPOINT), tmp_path / "shared" / "spool"
    assert "Prediction" in _read(write_report(run)).text
    if where == "spool_dir":
        elsewhere = spool_folder(own, str(tmp_path / "fast"))
    elsewhere.parent.mkdir(parents=True)
    shutil.move(own, elsewhere)
    if where == "from_spool":
        config = RunFolder(run).config
        config.write_text(config.read_text().replace("from_spool: ''", f"from_spool: {elsewhere}"))
    if where == "labels.json":
        assert "Prediction" not in _read(write_report(run)).text
        labels.of("align").made.write(LabelsMade("align", 1, CHECKPOINT, {}, str(elsewhere)))
    assert "Prediction" in _read(write_report(run)).text
