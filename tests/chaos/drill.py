"""A run that is started, hurt and started again, and what must be equal in the end."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from esl_dist.engine import checkpoint
from tests import marked
from tests.ranks import ROOT, free_port

CONFIG = "tests/chaos/chaos.yaml"
# A start that has not ended after this long hangs.
LIMIT_S = 240
# After a kill nothing may be left after this long: torchrun waits 30 s for a rank that does not follow its SIGTERM.
ORPHAN_LIMIT_S = 45


@dataclass
class Start:
    """One start of the command: its launcher, its ranks, and every process that carries its mark."""

    launcher: subprocess.Popen[bytes]
    mark: dict[str, str]
    log: Path

    def ranks(self) -> dict[int, int]:
        """Rank → pid of the launcher's children."""
        found = {}
        for pid in marked.processes(self.mark):
            try:
                parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                variables = dict(
                    entry.split(b"=", 1)
                    for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                    if b"=" in entry
                )
            except OSError:
                continue
            if parent == self.launcher.pid and b"RANK" in variables:
                found[int(variables[b"RANK"])] = pid
        return found

    def send(self, number: int, victims: str) -> bool:
        """Signal ``launcher``, ``all`` ranks or rank ``"0"``, ``"1"``, …; False if they were not there."""
        pids = (
            [self.launcher.pid]
            if victims == "launcher"
            else [pid for rank, pid in self.ranks().items() if victims in ("all", str(rank))]
        )
        if self.launcher.poll() is not None or not pids:
            return False
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return False
        return True

    def wait(self, limit: float = LIMIT_S) -> int:
        try:
            return self.launcher.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {limit:.0f} s:\n{self.tail()}") from None

    def orphans(self, limit: float = ORPHAN_LIMIT_S) -> dict[int, str]:
        """Processes that are left ``limit`` seconds from now; returns as soon as there is none."""
        return marked.left(self.mark, limit)

    def end(self) -> None:
        marked.kill(self.mark)
        self.launcher.wait()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


@dataclass
class Drill:
    """A run folder with its options."""

    folder: Path
    data: Path
    options: Sequence[str] = ()
    starts: int = field(default=0, init=False)

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    def start(self, ranks: int = 2, *options: str, launcher: Sequence[str] = (), **environment: str) -> Start:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.starts += 1
        mark = marked.new_mark()
        log = self.folder / f"start{self.starts}.log"
        variables = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "ESL_CHAOS_OUT": str(self.folder),
            **mark,
            **environment,
        }
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            f"--nproc_per_node={ranks}",
            "--master_addr=127.0.0.1",
            f"--master_port={free_port()}",
            *launcher,
        ]
        command += [
            "-m",
            "tests.chaos.worker",
            "--config",
            CONFIG,
            f"run.dir={self.run_dir}",
            f"data.root={self.data}",
            *self.options,
            *options,
        ]
        with open(log, "wb") as out:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=variables,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return Start(process, mark, log)

    def finish(self, ranks: int = 2, *options: str) -> None:
        """Start the command and let it end well."""
        start = self.start(ranks, *options)
        try:
            assert start.wait() == 0, start.tail()
            assert not start.orphans(10)
        finally:
            start.end()

    def kill(self, victims: str, moment: Callable[[], Any], ranks: int = 2) -> int:
        """Start, ``kill -9`` at the moment, wait for the end of every process; the launcher's exit code."""
        start = self.start(ranks)
        try:
            assert wait_until(moment, start) and start.send(signal.SIGKILL, victims), start.tail()
            code = start.wait()
            assert not start.orphans() and not self.invalid_checkpoints()
            return code
        finally:
            start.end()

    def ended(self, rank: int) -> dict[str, Any]:
        """How a rank of the last start ended: its exit code and last step."""
        content: dict[str, Any] = json.loads((self.folder / f"rank{rank}.json").read_text())
        return content

    # -- what is there ---------------------------------------------------------------------------------------------

    def reached(self, step: int, stage: str = "") -> bool:
        """Whether a stage (any, where none is named) has logged that step or a later one."""
        return any(e["step"] >= step and stage in ("", e["stage"]) for e in self.events("train"))

    def events(self, kind: str) -> list[dict[str, Any]]:
        path = self.run_dir / "metrics.jsonl"
        found = []
        for line in path.read_text(errors="replace").splitlines() if path.is_file() else []:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # being written at this moment
            if event.get("event") == kind:
                found.append(event)
        return found

    def invalid_checkpoints(self) -> list[str]:
        """Visible checkpoint folders that do not verify."""
        return [problem for path in self.run_dir.glob("*/checkpoints/step_*") for problem in checkpoint.verify(path)]

    def outcome(self) -> dict[str, Any]:
        """All that must be equal to an uninterrupted run's: weights, labels, thresholds, scores, and every step's
        losses once.
        """
        read: Callable[[Path], Any] = lambda path: json.loads(path.read_text())  # noqa: E731
        steps = [
            (e["stage"], e["step"], {k: v for k, v in e.items() if k.startswith("loss/")}) for e in self.events("train")
        ]
        return {
            "weights": {
                path.parent.name: read(path)["weights_sha256"] for path in sorted(self.run_dir.glob("*/done.json"))
            },
            "labels": {
                path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted(self.run_dir.glob("pseudo_labels/*/labels/**/*.png"))
            },
            "thresholds": {
                path.parent.name: read(path)["classes"]
                for path in sorted(self.run_dir.glob("pseudo_labels/*/thresholds.json"))
            },
            "confusion": {
                path.parent.name: read(path)["confusion"]
                for path in sorted(self.run_dir.glob("*/metrics-running.json"))
            },
            "steps": steps,
        }


def fault(kind: str, rank: int, step: int) -> dict[str, str]:
    """The environment of a start whose rank fails in its so many-th step; see ``worker``."""
    return {"ESL_CHAOS_FAULT": json.dumps({"fault": kind, "rank": rank, "step": step})}


def signal_during(work: str, rank: int, call: int) -> dict[str, str]:
    """The same for a SIGTERM outside training: ``extract``, ``write`` or ``evaluate``."""
    return {"ESL_CHAOS_FAULT": json.dumps({"fault": "term", "rank": rank, "during": work, "call": call})}


def wait_until(condition: Callable[[], Any], start: Start, limit: float = LIMIT_S, pause: float = 0.003) -> bool:
    """True when the condition holds, False when the start ended before."""
    end = time.monotonic() + limit
    while not condition():
        if start.launcher.poll() is not None:
            return False
        assert time.monotonic() < end, f"nothing to interrupt after {limit:.0f} s:\n{start.tail()}"
        time.sleep(pause)
    return True
