"""What a trial of a study costs beyond its training: trials one after another under Ray Tune, then each one's training
by a bare ``torchrun``.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from esl_dist.runs import RunFolder, StudyFolder

SHARED = ("initial", "source", "align")
STUDY = """
name: overhead
base: smoke.yaml
options: ["run.stages=[initial,source,align,selftrain]", "eval.bn_statistics=[target]"]
space: {{selftrain.weight: {{grid: {weights}}}}}
shared: [{shared}]
ranks: {ranks}
concurrent: 1
"""


def run(trials: int = 5, ranks: int = 2) -> dict[str, Any]:
    """Wall seconds of trials of the smoke pair (a few steps each, on ``ranks`` CPU ranks, tracked in MLflow) in a study
    and bare.

    In a study a trial costs what lies between its predecessor's end and its own, so all but the first are counted.

    Raises:
        RuntimeError: a command failed; with its last lines.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        study, asked = StudyFolder(folder / "study"), StudyFolder(folder).config
        asked.write_text(
            STUDY.format(weights=[1 + i / 8 for i in range(trials)], shared=", ".join(SHARED), ranks=ranks)
        )
        options = [
            f"study.dir={study.path}",
            f"data.root={folder / 'data'}",
            f"tracking.uri=sqlite:///{RunFolder(study.path).mirror_database}",
        ]
        whole = _seconds([sys.executable, "-m", "esl_dist.tune", "--config", str(asked), *options])
        records = sorted(
            (json.loads(trial.record.read_text()) for trial in study.trials()),
            key=lambda record: record["started"],
        )
        unfinished = [record for record in records if record["status"] != "finished"]
        if unfinished:
            raise RuntimeError(
                f"trial {unfinished[0]['id']} ended as {unfinished[0]['status']}: {unfinished[0]['reason']}"
            )
        bare = [_seconds(_bare(study, record["id"], folder / f"bare-{record['id']}", ranks)) for record in records]
    ended = [record["ended"] for record in records]
    inside = [later - earlier for earlier, later in itertools.pairwise(ended)]
    return {
        "trials": trials,
        "ranks": ranks,
        "study_s": whole,
        "bare_s": bare,
        "inside_s": inside,
        "between_s": [later["started"] - earlier["ended"] for earlier, later in itertools.pairwise(records)],
        "overhead_s": [a - b for a, b in zip(inside, bare[1:], strict=True)],
    }


def table(results: dict[str, Any]) -> str:
    """The figures of :func:`run` as text."""
    told = {
        name: f"{statistics.median(results[name]):.2f} s ({min(results[name]):.2f} to {max(results[name]):.2f})"
        for name in ("bare_s", "inside_s", "between_s", "overhead_s")
    }
    return (
        f"a trial of a few steps on {results['ranks']} CPU ranks, median of {len(results['inside_s'])} (least to most):"
        f" bare training {told['bare_s']}, in a study {told['inside_s']}, overhead {told['overhead_s']}; from a trial's"
        f" end to the next one's start {told['between_s']}; the whole study of {results['trials']} with its shared"
        f" stages {results['study_s']:.0f} s"
    )


def _bare(study: StudyFolder, trial: str, run_dir: Path, ranks: int) -> list[str]:
    """The trial's own training again, into ``run_dir``, on the shared stages that the trial stood on."""
    for stage in SHARED:
        shutil.copytree(study.trial(trial).run.stage(stage).path, run_dir / stage)
    config = str(study.trial(trial).config)
    return [
        sys.executable,
        "-m",
        "esl_dist",
        "train",
        f"--nproc={ranks}",
        "--config",
        config,
        f"run.dir={run_dir}",
    ]


def _seconds(command: list[str]) -> float:
    began = time.monotonic()
    done = subprocess.run(
        command, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return time.monotonic() - began
