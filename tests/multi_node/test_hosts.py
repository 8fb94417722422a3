"""The pipeline and extraction across two and three hosts, and hosts that fall out in the middle and come back.

Training is compared bit for bit with as many ranks on one host, extraction with a single process.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.processes import environment
from tests.multi_node.hosts import ROOT, Host, hosts, unavailable

REASON = unavailable()
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.skipif(bool(REASON), reason=REASON or "-")]

# A lost peer is noticed after run.timeout_s, once a first step was made.
SMOKE = ["--config", "configs/smoke.yaml", "tracking.mlflow=false", "run.threads=1", "run.timeout_s=6"]


STEPS = 150


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One pair of domains for all runs; the first run makes it."""
    return f"data.root={tmp_path_factory.mktemp('data') / 'pair'}"


def on_one_host(ranks: int, module: str, *words: str) -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={ranks}",
        "-m",
        f"esl_dist.{module}",
        *words,
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


class Job:
    """The same command on every host."""

    def __init__(self, made: list[Host], folder: Path, *words: str) -> None:
        self.hosts, self.folder = made, folder
        self.words = (*words, f"extract.spool_dir={folder / 'local'}")
        self.agents: list[subprocess.Popen[bytes]] = []
        for host in made:
            self.agents.append(self.start(host))

    def start(self, host: Host) -> subprocess.Popen[bytes]:
        return host.launch(len(self.hosts), self.folder / f"host{host.number}.log", self.folder / "local", *self.words)

    def log(self, number: int) -> str:
        return (self.folder / f"host{number}.log").read_text(errors="replace")

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for number, agent in enumerate(self.agents):
            try:
                code = agent.wait(max(1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                pytest.fail(f"host {number} did not end:\n{self.log(number)[-4000:]}")
            assert code == 0, f"host {number}:\n{self.log(number)[-4000:]}"

    def until(self, reached: Callable[[], bool], what: str, seconds: float = 120) -> float:
        """Wait for something; the seconds it took."""
        began = time.monotonic()
        while not reached():
            assert time.monotonic() - began < seconds, f"no {what} after {seconds} s:\n" + "\n".join(
                self.log(host.number)[-2500:] for host in self.hosts
            )
            time.sleep(0.1)
        return time.monotonic() - began


def events(run: Path) -> list[dict[str, object]]:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # the line that is being written
    return found


def steps(run: Path) -> list[int]:
    return [int(str(e["step"])) for e in events(run) if e["event"] == "train"]


def weights(run: Path) -> dict[str, str]:
    return {
        path.parent.name: json.loads(path.read_text())["weights_sha256"] for path in sorted(run.glob("*/done.json"))
    }


def label_set(folder: Path) -> tuple[object, dict[str, str]]:
    """Thresholds per class, and the hash of every PNG."""
    content = json.loads((folder / "thresholds.json").read_text())
    return content["classes"], {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((folder / "labels").rglob("*.png"))
    }


@pytest.mark.parametrize("count", [2, 3])
def test_the_pipeline_across_hosts_is_the_one_of_a_single_host(count: int, tmp_path: Path, data: str) -> None:
    words = [*SMOKE, data, "run.stages=[source,align,selftrain]"]
    with hosts(count) as made:
        Job(made, tmp_path, "train", *words, f"run.dir={tmp_path / 'hosts'}").wait(240)
    on_one_host(count, "train", *words, f"run.dir={tmp_path / 'one'}")
    assert len(weights(tmp_path / "one")) == 3
    assert weights(tmp_path / "hosts") == weights(tmp_path / "one")
    checkpoint = sorted((tmp_path / "one" / "align" / "checkpoints").glob("step_*"))[-1]
    on_one_host(1, "extract", *SMOKE, data, "--checkpoint", str(checkpoint), "--out", str(tmp_path / "alone"))
    thresholds, labels = label_set(tmp_path / "alone")
    assert len(labels) == 12
    assert label_set(tmp_path / "hosts" / "pseudo_labels" / "esl") == (thresholds, labels)


@pytest.mark.parametrize("loses", ["cable", "power"])
def test_a_host_that_returns_loses_nothing(loses: str, tmp_path: Path, data: str) -> None:
    """Cut off in the middle of training: the others wait for it, and the result is the one of an undisturbed run, bit
    for bit.
    """
    words = [
        *SMOKE,
        data,
        "run.stages=[source]",
        f"source.steps={STEPS}",
        "checkpoint.every=10",
        "run.log_every=1",
        "eval.split=''",
    ]
    run = tmp_path / "run"
    with hosts(2) as made:
        job = Job(made, tmp_path, "train", *words, f"run.dir={run}")
        job.until(lambda: bool(steps(run)) and steps(run)[-1] >= 30, "step 30")
        made[1].cut()
        noticed = job.until(lambda: "failed (exitcode:" in job.log(0), "notice of the lost host", 60)
        assert noticed < 40, "run.timeout_s is 6"
        if loses == "power":
            made[1].power_off()
        time.sleep(5)
        if loses == "power":
            made[1].power_on()
            job.agents[1] = job.start(made[1])
        else:
            made[1].mend()
        job.wait(300)
    assert steps(run) == list(range(1, STEPS + 1)), "every step once"
    on_one_host(2, "train", *words, f"run.dir={tmp_path / 'one'}")
    assert weights(run) == weights(tmp_path / "one")


def test_a_host_that_is_lost_for_good_leaves_a_run_that_goes_on_elsewhere(tmp_path: Path, data: str) -> None:
    words = [
        *SMOKE,
        data,
        "run.stages=[source]",
        f"source.steps={STEPS}",
        "checkpoint.every=10",
        "run.log_every=1",
        "eval.split=''",
    ]
    run = tmp_path / "run"
    with hosts(2) as made:
        job = Job(made, tmp_path, "train", *words, f"run.dir={run}")
        job.until(lambda: bool(steps(run)) and steps(run)[-1] >= 30, "step 30")
        made[0].power_off()  # the host of the rendezvous: the other cannot go on without it
        assert job.agents[1].wait(120) == 1
        assert "no answer from the host of the rendezvous, 10.77.0.1:29400, for 20 s" in job.log(1)
    # One rank with two micro-batches is the same global batch.
    on_one_host(1, "train", *words, f"run.dir={run}", "optim.accumulate=2")
    assert steps(run) == list(range(1, STEPS + 1)), "every step once"
    assert (run / "source" / "done.json").is_file()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("noticed", [False, True])
def test_a_host_cut_off_while_labels_are_made(noticed: bool, tmp_path: Path, data: str) -> None:
    """Some seconds without a cable are bridged. A host without power is noticed after the 300 s that ranks may wait
    between stages.
    """
    words = [
        *SMOKE,
        data,
        "run.stages=[source,selftrain]",
        "selftrain.init=source",
        "extract.size=[1024,512]",
        "eval.split=''",
    ]
    run = tmp_path / "run"
    with hosts(2) as made:
        job = Job(made, tmp_path, "train", *words, f"run.dir={run}")
        job.until(
            lambda: any(
                e["event"] == "stage" and e["stage"] == "source" and e["status"] == "done" for e in events(run)
            ),
            "end of the first stage",
        )
        if noticed:
            made[1].power_off()
            job.until(lambda: "failed (exitcode:" in job.log(0), "notice of the lost host", 400)
        else:
            made[1].cut()
            time.sleep(15)
        assert not (run / "pseudo_labels" / "esl" / "thresholds.json").exists(), (
            "cut too late: the labels were already there"
        )
        if noticed:
            made[1].power_on()
            job.agents[1] = job.start(made[1])
        else:
            made[1].mend()
        job.wait(240)
        assert ("failed (exitcode:" in job.log(0)) == noticed
    checkpoint = sorted((run / "source" / "checkpoints").glob("step_*"))[-1]
    on_one_host(
        1,
        "extract",
        *SMOKE,
        data,
        "extract.size=[1024,512]",
        "--checkpoint",
        str(checkpoint),
        "--out",
        str(tmp_path / "alone"),
    )
    assert label_set(run / "pseudo_labels" / "esl") == label_set(tmp_path / "alone")
