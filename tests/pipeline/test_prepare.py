"""``python -m esl_dist.prepare`` as a user meets it: killed and started again, wrong options, and a training that reads
what it made.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esl_dist.data.prepared.shard import check
from esl_dist.entries import cli, prepare
from tests.data import disk

ROOT = Path(__file__).resolve().parent.parent.parent
IMAGES, PER_FILE = 80, 4


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for i in range(IMAGES):
        disk.image(tmp_path / f"gta5/images/{i:05d}.png", (480, 360), i)
        disk.palette(tmp_path / f"gta5/labels/{i:05d}.png", disk.ids(range(7, 34), (480, 360)))
    disk.image(tmp_path / "cityscapes/leftImg8bit/train/ulm/ulm_1_leftImg8bit.png", (64, 32))
    return tmp_path


def words(data: Path) -> list[str]:
    return [
        f"data.root={data}",
        "data.streets.make=false",
        "data.target.labelled=false",
        "data.source.size=[320,240]",
        "run.stages=[source]",
        "--per-file",
        str(PER_FILE),
    ]


def files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.h5")}


def test_a_killed_preparation_goes_on_and_ends_as_if_nothing_had_happened(data: Path) -> None:
    folder = data / "prepared/gta5-320x240-19"
    command = [sys.executable, "-m", "esl_dist.prepare", "--workers", "1", *words(data)]
    running = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while len(files(folder)) < 2 and time.monotonic() < deadline:
        time.sleep(0.002)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    kept = files(folder)
    assert 2 <= len(kept) < IMAGES // PER_FILE and not (folder / "manifest.json").exists()
    (folder / ".00019.h5.1.part").write_bytes(
        b"half of a file"
    )  # what a kill leaves behind, if it hits a file in the making
    half = folder / f"{len(kept):05d}.h5"
    half.write_bytes((folder / "00000.h5").read_bytes()[:100_000])  # and what a bad copy would leave under a good name
    assert prepare.main(["--workers", "0", *words(data)]) == 0
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {name: time for name, time in files(folder).items() if name in kept} == kept
    assert [entry["file"] for entry in manifest["files"]] == sorted(files(folder)) and len(
        manifest["files"]
    ) == IMAGES // PER_FILE
    assert not list(folder.glob(".*"))
    for entry in manifest["files"]:
        found = check(
            folder / entry["file"],
            {
                "settings": manifest["settings"],
                "first": entry["first"],
                "images": entry["images"],
                "originals": entry["originals"],
            },
        )
        assert found.sha256 == entry["sha256"]
    resumed = [entry["sha256"] for entry in manifest["files"]]
    for path in folder.iterdir():
        path.unlink()
    assert prepare.main(["--workers", "0", *words(data)]) == 0
    assert [entry["sha256"] for entry in json.loads((folder / "manifest.json").read_text())["files"]] == resumed


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("data.prepared=", "data.prepared: is empty"),
        ("data.root=nowhere", "gta5: no folder nowhere/gta5/images"),
        ("data.preparedd=x", "data.preparedd: unknown option; did you mean data.prepared?"),
        ("--workers=-1", "--workers: must be 0 or more"),
        ("--per-file=0", "--per-file: must be 1 or more"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(option: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda: prepare.main(["data.streets.make=false", option]))
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and len(lines) == 1 and said in lines[0]
