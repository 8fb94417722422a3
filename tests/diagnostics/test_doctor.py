"""The doctor's entry, alone and under torchrun."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from esl_dist.config.load import ConfigError
from esl_dist.entries import doctor
from tests.ranks import ROOT, free_port

ENV = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "esl_dist.doctor", f"run.dir={tmp_path / 'run'}", "run.device=cpu"],
        env=ENV,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    names = [line[9:26].strip() for line in lines if line.startswith(("ok", "warning"))]
    assert names == [
        "versions",
        "extras",
        "device",
        "gpu health",
        "shared memory",
        "process group",
        "all-reduce",
        "determinism",
        "disk",
        "spool",
        "tracking",
    ]
    assert lines[-1].startswith("11 checks in ") and list(tmp_path.iterdir()) == []


def test_under_torchrun_one_line_per_check(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    command = [*torchrun, "-m", "esl_dist.doctor", f"run.dir={tmp_path / 'run'}", "run.device=cpu"]
    done = subprocess.run(command, env=ENV, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        done.stdout.count("gradient parity") == done.stdout.count("bandwidth  ") == done.stdout.count("checks in") == 1
    )
    assert "2 ranks, gloo" in done.stdout


def test_something_broken_is_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "PROBES", (lambda config, runtime: 1 / 0,))
    monkeypatch.setattr(doctor, "die_with_parent", lambda: None)
    monkeypatch.setattr(doctor, "setup_logging", lambda *_: None)
    assert doctor.main(["run.device=cpu"]) == 1
    assert "broken" in capsys.readouterr().out


def test_wrong_use_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file"):
        doctor.main(["--data", str(tmp_path / "none.yaml")])
    with pytest.raises(ValueError, match=r"leave --config out"):
        doctor.main(["--data", "streets.yaml", "--config", "streets.yaml"])
