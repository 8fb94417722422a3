"""Names in a run folder and a study's."""

from __future__ import annotations

from pathlib import Path

import pytest

from esl_dist.runs import RunFolder, StudyFolder
from esl_dist.runs.folders import spool_folder


def test_label_sets_are_those_that_are_finished(tmp_path: Path) -> None:
    labels = RunFolder(tmp_path).labels
    assert labels.sets() == [] and labels.teachers() == []
    for name in ("ssl", "esl-r2", "esl"):
        labels.set(name).thresholds.write({"classes": []})
    labels.set("half").labels.mkdir(parents=True)
    labels.of("advent").selection.path.parent.mkdir()
    assert [folder.name for folder in labels.sets()] == ["esl", "esl-r2", "ssl"]
    assert [folder.path.name for folder in labels.teachers()] == ["of-advent"]


def test_the_selection_of_earlier_releases_is_found(tmp_path: Path) -> None:
    labels = RunFolder(tmp_path).labels
    labels.path.mkdir()
    (labels.path / "selection.json").write_text("{}")
    assert [folder.selection.path for folder in labels.teachers()] == [labels.path / "selection.json"]


def test_a_spool_has_a_folder_of_its_own_where_spools_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = RunFolder(tmp_path / "run").labels
    own = labels.spool("0123456789abcdef")
    assert own == tmp_path / "run" / "pseudo_labels" / "spool" / "0123456789ab"
    monkeypatch.setenv("FAST", str(tmp_path / "fast"))
    moved = labels.spool("0123456789abcdef", "$FAST/spools")
    assert (
        moved.parent == tmp_path / "fast" / "spools"
        and moved == spool_folder(own, "$FAST/spools")
        and moved != labels.spool("fedcba9876543210", "$FAST/spools")
    )


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../x"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="outside the label folder"):
        RunFolder(tmp_path).labels.set("esl").label(name)


def test_a_study_and_its_trials(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path)
    trial = study.trial("003")
    assert trial.study == study and trial.run.config == tmp_path / "trials" / "003" / "run" / "config.yaml"
    assert list(study.trials()) == []
    trial.path.mkdir(parents=True)
    trial.record.touch()
    (tmp_path / "trials" / "check").mkdir()
    assert list(study.trials()) == [trial]
    assert trial.part.path.name != study.part("a").made.path.name
