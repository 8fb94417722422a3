"""A study that is started, hurt and started again, and what must be equal in the end."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import marked
from tests.ranks import ROOT

LIMIT_S = 600
# After a kill of the driver, Ray's agents try for 60 s to tell a server that is gone of their end.
ORPHAN_LIMIT_S = 90


@dataclass
class StudyDrill:
    """A study's folder with its file; trials of a few steps on the smoke pair."""

    folder: Path
    data: Path
    text: str
    options: Sequence[str] = ()
    starts: int = field(default=0, init=False)

    @property
    def dir(self) -> Path:
        return self.folder / "study"

    @property
    def log(self) -> Path:
        return self.folder / f"start{self.starts}.log"

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.starts += 1
        (self.folder / "study.yaml").write_text(self.text)
        self.mark = marked.new_mark()
        variables = {**os.environ, "PYTHONPATH": str(ROOT), **self.mark, **environment}
        command = [
            sys.executable,
            "-m",
            "esl_dist.tune",
            "--config",
            str(self.folder / "study.yaml"),
            f"study.dir={self.dir}",
            f"data.root={self.data}",
            *self.options,
        ]
        with open(self.log, "wb") as out:
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env=variables,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def finish(self, **environment: str) -> int:
        process = self.start(**environment)
        try:
            code = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running:\n{self.output()}") from None
        finally:
            self.end()
        return code

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def left(self, limit: float = ORPHAN_LIMIT_S) -> dict[int, str]:
        """What of the last start (driver, Ray, launchers, ranks) still runs ``limit`` seconds from now; returns as soon
        as nothing does.
        """
        return marked.left(self.mark, limit)

    def end(self) -> None:
        marked.kill(self.mark)

    def wait_until(
        self, condition: Callable[[], Any], process: subprocess.Popen[bytes], limit: float = LIMIT_S
    ) -> None:
        end = time.monotonic() + limit
        while not condition():
            assert process.poll() is None and time.monotonic() < end, self.output()
            time.sleep(0.02)

    # -- what is there ---------------------------------------------------------------------------------------------

    def records(self) -> dict[str, dict[str, Any]]:
        return {path.parent.name: json.loads(path.read_text()) for path in sorted(self.dir.glob("trials/*/trial.json"))}

    def events(self, run: Path, kind: str) -> list[dict[str, Any]]:
        path = run / "metrics.jsonl"
        found = []
        for line in path.read_text().splitlines() if path.is_file() else []:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # being written at this moment
            found += [event] if event["event"] == kind else []
        return found

    def steps(self, trial: str) -> list[tuple[str, int]]:
        return [(e["stage"], e["step"]) for e in self.events(self.dir / "trials" / trial / "run", "train")]

    def outcome(self) -> dict[str, Any]:
        """What must be the same as in a study that nobody has hurt: every record, every step once with its losses,
        every weight.
        """
        kept = ("params", "seed", "status", "same_as", "score")
        records = {name: {key: record[key] for key in kept} for name, record in self.records().items()}
        runs = [*self.dir.glob("trials/*/run"), *self.dir.glob("shared/*")]
        return {
            "records": records,
            "steps": {
                str(run.relative_to(self.dir)): [
                    (e["stage"], e["step"], {k: v for k, v in e.items() if k.startswith("loss/")})
                    for e in self.events(run, "train")
                ]
                for run in runs
                if records.get(run.parent.name, {}).get("status") != "reused"
            },
            "weights": {
                str(p.relative_to(self.dir)): json.loads(p.read_text())["weights_sha256"]
                for p in sorted(self.dir.glob("*/*/**/done.json"))
                if self._counts(p, records)
            },
            "labels": {
                str(p.relative_to(self.dir)): (
                    hashlib.sha256(b"".join(png.read_bytes() for png in sorted(p.glob("labels/**/*.png")))).hexdigest()
                )
                for p in sorted(self.dir.glob("trials/*/run/pseudo_labels/*"))
                if p.is_dir() and p.name != "spool"
            },
        }

    def _counts(self, path: Path, records: dict[str, Any]) -> bool:
        """A trial that turned out to be another's twin may have made a step before it was stopped, or not."""
        trial = path.relative_to(self.dir).parts[1]
        return records.get(trial, {}).get("status") != "reused"
