"""A password in a tracking server's address is written and shown nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from esl_dist.config import load
from esl_dist.config.secrets import public_words, without_password
from esl_dist.config.study import StudyConfig, dump_study, load_study
from esl_dist.tracking import Tracker
from esl_dist.tracking.mlflow import tracking_uri

SECRET = "https://anna:s3cret@host:5000/path"
SHOWN = "https://host:5000/path"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        (SECRET, SHOWN),
        ("postgresql://u:p@w@host/db", "postgresql://host/db"),
        ("sqlite:///a@b.db", "sqlite:///a@b.db"),
        ("", ""),
    ],
)
def test_without_password(uri: str, shown: str) -> None:
    assert without_password(uri) == shown


def test_a_recorded_configuration_has_none() -> None:
    config = load.load_config(None, [f"tracking.uri={SECRET}"])
    assert config.tracking.uri == SECRET  # the program itself knows it
    assert "s3cret" not in load.dump(config) and load.flat(config)["tracking.uri"] == SHOWN


def test_a_recorded_study_has_none(tmp_path: Path) -> None:
    study = StudyConfig(options=("optim.batch=2", f"tracking.uri={SECRET}"), space={"pseudo_labels.nu": {"grid": [0]}})
    assert public_words(study.options) == ("optim.batch=2", f"tracking.uri={SHOWN}")
    (tmp_path / "study.yaml").write_text(dump_study(study))
    assert "s3cret" not in (tmp_path / "study.yaml").read_text()
    assert load_study(str(tmp_path / "study.yaml")).options[1] == f"tracking.uri={SHOWN}"


def test_the_environment_may_name_the_same_server_with_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = load.load_config(None, [f"tracking.uri={SHOWN}"]).tracking
    assert tracking_uri(recorded, tmp_path) == SHOWN
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SECRET)
    assert tracking_uri(recorded, tmp_path) == SECRET
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://anna:s3cret@other")
    assert tracking_uri(recorded, tmp_path) == SHOWN


def test_no_file_of_a_run_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load.load_config(None, ["tracking.uri=http://anna:s3cret@127.0.0.1:9/"])
    monkeypatch.setattr("esl_dist.tracking.mlflow.CLOSE_KILLED_S", 0.1)
    params = {key: str(value) for key, value in load.flat(config).items()}
    tracker = Tracker(tmp_path, config.tracking, "run", params, is_main=True)
    tracker.close("KILLED")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not [path for path in files if b"s3cret" in path.read_bytes()]
