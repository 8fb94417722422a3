"""The mirror sends every point once and in order, whatever the server does in between (an injected one, without
processes).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from esl_dist.config.secrets import without_password
from esl_dist.runs import RunFolder
from esl_dist.runs.events import Eval, Labels, Point, Stage, Train
from esl_dist.tracking.follow import BATCH, Follower
from esl_dist.tracking.jsonl import MetricsLog
from esl_dist.tracking.state import MirrorState, only_sender


class Server:
    """Stores a point once, as MLflow's database does. ``fail`` holds what the next calls do: "refuse", or "lose" the
    answer only.
    """

    def __init__(self) -> None:
        self.points: list[tuple[str, Point]] = []
        self.nests: list[tuple[str, int]] = []
        self.standing: dict[str, str] = {}
        self.calls = 0
        self.fail: list[str] = []
        self.status = ""
        self.files: list[str] = []
        self.pictures: list[tuple[str, str, str, int]] = []

    def _maybe(self, kind: str) -> None:
        if self.fail and self.fail[0] == kind:
            self.fail.pop(0)
            raise ConnectionError(kind)

    def open(self, run_id: str) -> str:
        self._maybe("refuse")
        return run_id or "run"

    def page(self, run_id: str) -> str:
        return "#/page"

    def nested(self, parent: str, name: str, number: int, time_ms: int) -> str:
        self._maybe("refuse")
        self.nests.append((name, number))
        return f"{parent}/{name}"

    def stands(self, run_id: str, status: str, time_ms: int | None) -> None:
        self._maybe("refuse")
        self.standing[run_id] = status

    def params(self, run_id: str, params: Mapping[str, str]) -> None: ...

    def send(self, run_id: str, points: Sequence[Point]) -> None:
        self.calls += 1
        self._maybe("refuse")
        self.points += [(run_id, p) for p in points if (run_id, p) not in self.points]
        self._maybe("lose")

    def picture(self, run_id: str, path: Path, name: str, step: int) -> None:
        self._maybe("no files")
        self.pictures.append((run_id, path.name, name, step))

    def finish(self, run_id: str, status: str, artifacts: Sequence[tuple[Path, str]]) -> None:
        self._maybe("refuse")
        self.status, self.files = status, [p.name for p, _ in artifacts]


class Bench:
    """A run folder, its log, a server and a clock that the test moves."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir, self.server, self.now = run_dir, Server(), 0.0
        self.log = MetricsLog(run_dir / "metrics.jsonl")
        MirrorState("http://server", "e", "n").save(run_dir)
        self.follower = self.restart()

    def restart(self) -> Follower:
        """A new process: only the files are left."""
        state = MirrorState.load(self.run_dir)
        assert state is not None
        self.follower = Follower(self.run_dir, state, self.server, clock=lambda: self.now)
        return self.follower

    def train(self, *steps: int, stage: str = "source") -> None:
        for step in steps:
            self.log.append(Train(stage, step, 99, 0.1, 0, {"loss/seg": step / 2}))

    def steps(self, name: str = "loss/seg", run: str = "run/source") -> list[int]:
        return [p.step for run_id, p in self.server.points if (run_id, p.name) == (run, name)]


def test_points_arrive_as_they_are_written(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.follower.poll() and bench.steps() == []
    bench.train(1, 2)
    assert bench.follower.poll() and bench.steps() == [1, 2]
    with open(bench.log.path, "ab") as file:
        file.write(b'{"event": "train", "stage": "source", "st')  # half a line: not yet
        file.flush()
        assert bench.follower.poll() and bench.steps() == [1, 2]
        file.write(b'ep": 3, "time": 1, "loss/seg": 1}\n')
    assert bench.follower.poll() and bench.steps() == [1, 2, 3]


def test_down_at_the_start_then_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.server.fail = ["refuse"] * 3
    pauses = []
    for step in range(1, 40):
        bench.train(step)
        before = len(bench.server.fail)
        bench.follower.poll()
        if len(bench.server.fail) < before:
            pauses.append(bench.now)
        bench.now += 1
    assert pauses == [0, 2, 6]  # growing pauses between attempts
    assert bench.steps() == list(range(1, 40)) == bench.steps("lr")


def test_down_in_the_middle_and_lost_answers(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for step in range(1, 60):
        bench.train(step)
        if step in (5, 20, 33):
            bench.server.fail += ["lose", "refuse"]
        bench.follower.poll()
        bench.now += 3
    assert bench.follower.finish("FINISHED")
    assert bench.steps() == list(range(1, 60)) and bench.server.status == "FINISHED"


def test_killed_at_any_moment_and_started_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for step in range(1, 30):
        bench.train(step)
        if step % 4 == 0:
            bench.server.fail = ["lose"]  # killed after the server stored, before the mark was written
        bench.follower.poll()
        if step % 4 == 0:
            bench.restart()
    assert bench.follower.finish("KILLED")
    assert bench.steps() == list(range(1, 30))


def test_a_resume_that_repeats_steps_sends_them_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.train(10, 20, 30, 40)
    bench.follower.poll()
    bench.train(50)  # written, not sent
    bench.log.truncate_after("source", 20)
    bench.train(30, 40, 50, 60)
    bench.restart().poll()
    bench.log.truncate_after("source", 30)  # under a living follower
    bench.train(40, 50, 60, 70)
    bench.follower.poll()
    assert bench.steps() == [10, 20, 30, 40, 50, 60, 70]


def test_stages_do_not_hide_each_other(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.train(10, 20)
    bench.train(10, stage="align")
    for kind in ("running", "target"):
        bench.log.append(Eval("source", 20, "test", kind, 0.5))
    bench.follower.poll()
    assert bench.steps() == [10, 20] and bench.steps(run="run/align") == [10]
    assert bench.steps("miou/running") == bench.steps("miou/target") == [20]
    assert bench.steps("miou running/source", "run") == bench.steps("miou target/source", "run") == [20]


def test_every_stage_has_a_run_that_ends_with_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.log.append(Stage("source", "start", 99))
    bench.train(1, 2)
    bench.server.fail = ["lose"]  # its run was begun, and its points were stored
    bench.follower.poll()
    bench.log.append(Stage("source", "done", seconds=1.0))
    bench.restart().poll()
    bench.log.append(Stage("align", "start", 99))
    bench.train(1, stage="align")
    bench.log.append(Labels("esl", "esl", "align", coverage=0.5))
    assert bench.restart().finish("KILLED")
    assert bench.server.nests == [("source", 0), ("align", 1)] and bench.steps() == [1, 2]
    assert bench.server.standing == {"run/source": "FINISHED", "run/align": "KILLED"}
    assert bench.steps("pseudo_labels/esl/coverage", "run") == [0]
    # Gone on with, and then trained longer.
    bench.train(2, stage="align")
    bench.log.append(Stage("align", "done", seconds=1.0))
    bench.log.append(Stage("source", "start", 199))
    bench.train(3)
    bench.follower.poll()
    assert bench.server.standing == {"run/source": "RUNNING", "run/align": "FINISHED"} and len(bench.server.nests) == 2


def test_large_backlogs_go_in_batches(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.train(*range(1, 1201))
    assert bench.follower.left() == 1200
    assert bench.follower.poll()
    assert bench.steps() == list(range(1, 1201)) and bench.follower.left() == 0
    assert bench.server.calls >= 2400 // BATCH


def test_the_end_says_what_is_left(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (tmp_path / "report.html").write_text("r")
    bench.train(1, 2, 3)
    bench.server.fail = ["refuse"]
    assert not bench.follower.finish("FINISHED")
    assert bench.follower.left() == 3 and bench.server.status == ""
    assert bench.restart().finish("FINISHED") and bench.server.files == ["report.html"] and bench.follower.left() == 0


def test_a_run_that_a_study_opened_is_not_ended_here(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    MirrorState("http://server", "e", "n", run_id="trial", owned=False).save(tmp_path)
    bench.restart()
    bench.train(1)
    assert bench.follower.finish("FINISHED") and bench.steps(run="trial/source") == [1] and bench.server.status == ""


def test_one_sender_at_a_time(tmp_path: Path) -> None:
    with only_sender(tmp_path) as first, only_sender(tmp_path) as second:
        assert first and not second
    with only_sender(tmp_path) as again:
        assert again


def test_a_damaged_state_begins_anew(tmp_path: Path) -> None:
    for text in ("", "[]", "{", '{"uri": "x"}'):
        (tmp_path / "mlflow.json").write_text(text)
        assert MirrorState.load(tmp_path) is None


def test_passwords_stay_out_of_the_run_folder() -> None:
    assert without_password("https://me:secret@host:5000/x") == "https://host:5000/x"
    assert without_password("sqlite:////a/b@c.db") == "sqlite:////a/b@c.db"


def scored(bench: Bench, *steps: int) -> None:
    """Scores with their strips, under two statistics each."""
    for step in steps:
        strip = RunFolder(bench.run_dir).stage("source").strip(step, "city/a.b")
        strip.parent.mkdir(parents=True)
        strip.write_bytes(b"a picture")
        for statistics in ("running", "target"):
            bench.log.append(Eval("source", step, "val", statistics, 0.5))


def test_strips_come_with_their_scores_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    scored(bench, 10)
    assert bench.follower.poll()
    scored(bench, 20)
    assert bench.restart().poll() and bench.restart().poll()
    assert bench.server.pictures == [("run/source", "a.b.jpg", "predictions/city/a.b", step) for step in (10, 20)]


def test_a_server_without_files_takes_the_points(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path)
    scored(bench, 10, 20)
    bench.server.fail = ["no files"]
    assert bench.follower.poll() and bench.steps("miou/running") == [10, 20]
    scored(bench, 30)
    assert bench.follower.poll() and bench.server.pictures == []
