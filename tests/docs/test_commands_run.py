"""Every documented command is run, page by page and in the page's order, on small data; or it stands below with what it
would need and who tests it instead.
"""

from __future__ import annotations

import importlib
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.diagnostics.test_starting import somebodys
from tests.docs.test_commands import PAGES, ROOT, commands
from tests.docs.test_how_to import first_code

NOT_HERE = {
    r"configs/gta5_cityscapes/": "GTA5 and Cityscapes are downloads; tests/configs builds every experiment",
    r"configs/camvid": "CamVid is a download; tests/configs",
    r"^bench ": "minutes; every --what is run small by tests/benchmarks, tests/data, tests/pseudo_labels",
    r"^tune ": "minutes of Ray; tests/studies runs small studies to their ends",
    r"^doctor $": "tests/diagnostics/test_doctor.py runs it on one rank and on two",
}
"""A pattern of ``entry words`` to why a command is only parsed (tests/docs/test_commands.py)."""

TINY = ("run.device=cpu", "tracking.mlflow=false", "data.workers=0")
YARD = (
    *("model.deeplabv2.layers=[1,1,1,1]", "model.deeplabv2.width=8", "model.discriminator_width=8"),
    *("model.deeplabv2.init=kaiming", "source.steps=3", "align.steps=2", "selftrain.steps=2"),
    *("extract.batch=1", "extract.bn_images=2"),
)
"""What makes a documented run short."""


def reason(entry: str, words: list[str]) -> str:
    """Why a command is not run here; empty for one that is."""
    line = f"{entry} {' '.join(words)}"
    return next((why for pattern, why in NOT_HERE.items() if re.search(pattern, line)), "")


def small(entry: str, words: list[str]) -> list[str]:
    """The command's words with the reader's own names filled in and options that make it short."""
    own = {"CKPT": "runs/mine/align", "DIR": "labels", "tests/docs/yard.yaml": "yard.yaml", "FOLDER": "yard"}
    own["runs/streets"] = "runs/mine"  # the first run, in a few steps
    found = [own.get(word, word) for word in words if word != "model.checkpoint=FILE"]
    yard = any("yard" in word for word in found)
    if entry in ("train", "extract", "evaluate", "prepare"):
        found += [*TINY, *(YARD if yard else ())]
    return [*found, "run.device=cpu"] if entry in ("doctor", "predict") else found


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the pages suppose it: photographs and masks of one's own, frames of a camera, a trained run."""
    folder = tmp_path_factory.mktemp("reader")
    somebodys(folder / "yard", 10, 4)
    (folder / "mine.py").write_text(first_code("add-a-loss.md"))
    shutil.copytree(folder / "yard" / "night", folder / "frames")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("train", ["--config", "configs/smoke.yaml", "run.name=mine", *TINY])
    return folder


def run(entry: str, words: list[str]) -> None:
    assert importlib.import_module(f"esl_dist.entries.{entry}").main(words) == 0, f"{entry} {words}"


def pages() -> list[Any]:
    found = [(path, list(commands(path.read_text(encoding="utf-8")))) for path in PAGES]
    short = [(path, [(entry, words) for entry, words in lines if not reason(entry, words)]) for path, lines in found]
    return [pytest.param(lines, id=str(path.relative_to(ROOT))) for path, lines in short if lines]


@pytest.mark.slow
@pytest.mark.parametrize("lines", pages())
def test_the_commands_of_a_page_run(
    lines: list[tuple[str, list[str]]], reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(reader, tmp_path / "work", symlinks=True)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.syspath_prepend(str(tmp_path / "work"))
    if any(entry == "train" and "run.name=mine" in words for entry, words in lines):
        shutil.rmtree("runs/mine")  # the page trains it itself
    for entry, words in lines:
        run(entry, small(entry, words))


def test_whatever_is_not_run_has_a_reason_that_is_needed() -> None:
    lines = [f"{entry} {' '.join(words)}" for path in PAGES for entry, words in commands(path.read_text("utf-8"))]
    for pattern in NOT_HERE:
        assert any(re.search(pattern, line) for line in lines), f"no command is kept from running by {pattern}"
    assert sum(not any(re.search(pattern, line) for pattern in NOT_HERE) for line in lines) >= 15


def test_scripts_that_pages_name_are_there() -> None:
    for path in PAGES:
        for script in re.findall(r"bash ((?:launch|docker|\.ci)/\S+?)[\s`,;.]*(?=\s|`|$)", path.read_text("utf-8")):
            assert (ROOT / script.rstrip("`.,;")).is_file(), f"{path}: {script}"
