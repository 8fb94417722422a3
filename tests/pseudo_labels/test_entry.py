"""``python -m esl_dist.extract``: what it asks for, and whom it lets in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from esl_dist.config.load import load_config
from esl_dist.entries import extract
from tests.ranks import ROOT

HOLD = """
import sys, time
from pathlib import Path
from esl_dist.engine.guards import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_extractions_do_not_share_a_folder(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"")
    out = tmp_path / "out"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=rf"is in use by pid {holder.pid}"):
            extract.main(["--config", "smoke.yaml", "--checkpoint", str(weights), "--out", str(out), "run.device=cpu"])
    finally:
        holder.kill()
        holder.wait()
    assert not list(out.rglob("*.png"))


def test_frames_without_labels_are_no_obstacle_to_an_extraction() -> None:
    """A stage that learns target labels is of no concern to who only labels."""
    config = load_config("smoke.yaml", ["run.stages=[initial,oracle]", "data.target.labelled=false"])
    assert not config.data.target.labelled
