"""metrics.jsonl stays complete and readable through kills, full disks and resumes."""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esl_dist.runs import lines
from esl_dist.runs.events import Eval, Gpu, Stage, Train, Warned
from esl_dist.tracking import jsonl
from esl_dist.tracking.jsonl import MetricsLog

ROOT = Path(__file__).resolve().parents[2]


def steps(path: Path) -> list[int]:
    """Of the train lines."""
    return [line.event.step for line in lines.read(path) if isinstance(line.event, Train)]


def test_lines_are_strict_json_with_a_time(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m.jsonl")
    log.append(Train("source", 1, figures={"loss/a": float("nan"), "loss/b": 0.25}))
    log.close()
    text = (tmp_path / "m.jsonl").read_text()
    record = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert text.endswith("\n") and abs(record.pop("time") - time.time()) < 60 and len(record.pop("crc")) == 8
    assert record == {
        "event": "train",
        "stage": "source",
        "step": 1,
        "steps": 0,
        "bad_samples": 0,
        "loss/a": None,
        "loss/b": 0.25,
    }


@pytest.mark.parametrize("keep", [1, 20, -1])
def test_a_torn_last_line_is_repaired(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "m.jsonl"
    whole = b'{"event": "train", "stage": "s", "step": 1}\n'
    last = b'{"event": "train", "stage": "s", "step": 2}\n'
    path.write_bytes(whole + last[:keep])  # -1: only the newline is missing, the line is whole
    log = MetricsLog(path)
    log.append(Train("s", 3))
    log.close()
    assert steps(path) == ([1, 2, 3] if keep == -1 else [1, 3])
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_long_torn_line_is_removed_whole(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"event": "a"}\n{"text": "' + b"x" * 300_000)
    MetricsLog(path).close()
    assert path.read_bytes() == b'{"event": "a"}\n'


def test_kill_while_writing_loses_nothing_that_was_reported(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    program = (
        "import sys; from pathlib import Path; from esl_dist.tracking.jsonl import MetricsLog\n"
        "from esl_dist.runs.events import Train\n"
        "log = MetricsLog(Path(sys.argv[1])); step = 0\n"
        "while True:\n    step += 1; log.append(Train('s' * 2000, step)); print(step, flush=True)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert child.stdout is not None
    for _ in range(200):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    reported = [int(line) for line in child.stdout.read().split(b"\n")[:-1]]
    child.wait()
    MetricsLog(path).close()
    found = steps(path)
    assert found == list(range(1, len(found) + 1)) and len(found) >= max(reported, default=200)


def test_after_a_resume_every_step_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    log = MetricsLog(path)
    for step in (10, 20, 30):
        log.append(Train("source", step))
    log.append(Stage("source", "done"))
    for step in (10, 20, 30, 40):
        log.append(Train("align", step))
        log.append(Gpu("align", step, 0))
    log.append(Eval("align", 40, miou=0.1))
    log.append(Warned("kept: it happened", "align", 40))
    log.close()

    log = MetricsLog(path)
    assert log.truncate_after("align", 20) == 5
    assert log.truncate_after("align", 20) == 0
    for step in (30, 40):
        log.append(Train("align", step))
    log.close()
    events = [line.event for line in lines.read(path)]
    seen = [(event.stage, event.step) for event in events if isinstance(event, Train)]
    assert seen == [("source", s) for s in (10, 20, 30)] + [("align", s) for s in (10, 20, 30, 40)]
    assert sum(isinstance(event, Warned) for event in events) == 1 and not [e for e in events if isinstance(e, Eval)]
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


class FailingDisk:
    """``os.write`` that fails for a while; ``short`` writes a part first, as a disk that fills up does."""

    def __init__(self, short: bool) -> None:
        self.failing, self.short, self.real = False, short, os.write

    def write(self, file: int, data: bytes) -> int:
        if self.failing:
            if self.short:
                return self.real(file, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.real(file, data)


@pytest.mark.parametrize("short", [False, True])
def test_a_full_disk_is_said_once_and_loses_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, short: bool
) -> None:
    disk = FailingDisk(short)
    monkeypatch.setattr(jsonl.os, "write", disk.write)
    monkeypatch.setattr(logging.getLogger("esl_dist"), "propagate", True)
    log = MetricsLog(tmp_path / "m.jsonl")
    log.append(Train("s", 0))
    disk.failing = True
    for step in range(1, 50):
        log.append(Train("s", step))
    assert steps(log.path) == [0]
    disk.failing = False
    log.append(Train("s", 50))
    log.close()
    assert steps(log.path) == list(range(51))
    assert len([r for r in caplog.records if "cannot be written" in r.message]) == 1


def test_a_folder_that_cannot_be_made_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = MetricsLog(tmp_path / "file" / "run" / "m.jsonl")
    log.append(Train("s", 1))
    (tmp_path / "file").unlink()
    log.append(Train("s", 2))
    log.close()
    assert steps(log.path) == [1, 2]


def test_a_damaged_line_in_the_middle_is_named_and_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "m.jsonl"
    log = MetricsLog(path)
    for step in (1, 2, 3):
        log.append(Train("s", step))
    log.close()
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(whole[0] + whole[1].replace(b'"step": 2', b'"step": 7') + whole[2])
    logging.getLogger("esl_dist").propagate = True
    log = MetricsLog(path)
    assert log.truncate_after("s", 2) == 1
    log.close()
    assert f"{path}: line 2 is not as it was written" in caplog.text
    assert steps(path) == [1] and len(path.read_bytes().splitlines()) == 2


def test_a_stage_that_another_run_trained_is_said_once(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m.jsonl")
    log.append(Train("source", 1))
    assert not log.knows("source")
    log.append(Stage("source", "skipped"))
    assert log.knows("source") and not log.knows("align")
    log.close()
