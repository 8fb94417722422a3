"""Environments: streams closed or full, limits of the system, launchers' variables that lie, folders that are none."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.hostile.trial import Case, Ended, complaint

ROOT = Path(__file__).resolve().parents[2]
STREAMS = ["1>&-", "2>&-", "0<&- 1>&- 2>&-", "1>/dev/full", "2>/dev/full", "1>/dev/full 2>/dev/full"]
VARIABLES: list[dict[str, str]] = [
    {"RANK": "0"},
    {"RANK": "1", "WORLD_SIZE": "2"},
    {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "x"},
    {"RANK": "x", "WORLD_SIZE": "2"},
    {"RANK": "0", "WORLD_SIZE": "two", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
    {"WORLD_SIZE": "0"},
    {"WORLD_SIZE": "-1", "RANK": "0"},
    {"LOCAL_RANK": "x"},
    {"LOCAL_WORLD_SIZE": "0"},
    {"LOCAL_RANK": "-1"},
    {"HOME": "/nonexistent"},
    {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    {"TMPDIR": "/nonexistent"},
    {"OMP_NUM_THREADS": "x"},
    {"OMP_NUM_THREADS": "0"},
    {"CUDA_VISIBLE_DEVICES": "99"},
    {"TERM": "", "COLUMNS": "x"},
    {"MLFLOW_TRACKING_URI": "://"},
]
PLACES = [
    "run.dir=/dev/null/x",
    "run.dir=/proc/x",
    "run.dir={folder}/file/x",
    "run.dir={folder}/file",
    "data.root=/proc",
    "data.root={folder}/file",
]


def limited(kind: int, amount: int) -> Callable[[], None]:
    """In the child: a limit of the system."""
    return lambda: resource.setrlimit(kind, (amount, amount))


LIMITS = {
    "20 open files": limited(resource.RLIMIT_NOFILE, 20),
    "files of 1 kB": limited(resource.RLIMIT_FSIZE, 1000),
    "files of 30 kB": limited(resource.RLIMIT_FSIZE, 30_000),
}


def environment_cases(folder: Path, every: int) -> Iterator[Case]:
    """A training of one step in each of them; of all one in so many."""
    (folder / "file").touch()
    tried: list[tuple[str, Mapping[str, str], str, list[str], Callable[[], None] | None]] = []
    tried += [(streams, {}, streams, [], None) for streams in STREAMS]
    tried += [(str(given), given, "", [], None) for given in VARIABLES]
    tried += [(place, {}, "", [place.format(folder=folder)], None) for place in PLACES]
    tried += [(name, {}, "", [], limit) for name, limit in LIMITS.items()]
    for number, (what, variables, streams, words, limit) in enumerate(tried):
        if number % every == 0:
            place = folder / str(number)
            yield Case(
                "environments", what, lambda p=place, v=variables, s=streams, w=words, m=limit: _trained(p, v, s, w, m)
            )


def _trained(
    folder: Path, variables: Mapping[str, str], streams: str, words: list[str], limit: Callable[[], None] | None
) -> tuple[bool, str]:
    folder.mkdir()
    own = [
        f"run.dir={folder}/run",
        f"data.root={folder.parent}/data",
        "tracking.mlflow=false",
        "run.stages=[source]",
        "source.steps=1",
    ]
    own += [
        "data.streets.source_train=2",
        "data.streets.target_train=2",
        "data.streets.target_val=1",
        "data.streets.target_test=1",
    ]
    command = [sys.executable, "-m", "esl_dist.train", "--config", "smoke.yaml", *own, "data.workers=0", *words]
    body = f'"$@" {streams}; echo $? >{folder}/code'
    clean = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    done = subprocess.run(
        ["bash", "-c", body, "bash", *command],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        preexec_fn=limit,
        timeout=120,
    )
    code = int((folder / "code").read_text() or "1") if (folder / "code").is_file() else 1
    said = done.stderr.decode(errors="replace")
    ours = "\n".join(line for line in said.splitlines() if line.startswith("esl_dist: error") or "Traceback" in line)
    wrong = complaint(Ended(code, "", said if "Traceback" in said else ours)) if code and "2>" not in streams else ""
    new = sorted(path.name for path in folder.iterdir() if path.name not in ("run", "code"))
    finished = (folder / "run/source/done.json").is_file() or bool(words)
    return bool(code), wrong or (f"new on disk: {new}" if new else "") or (
        "" if code or finished else "exit code 0, not trained"
    )
