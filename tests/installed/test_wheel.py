"""The wheel in an environment of its own, outside the checkout, as a new user has it: every command, from a folder of
images to a network in another program.

``ESL_WHEEL_VENV=DIR`` uses an environment that is there (its dependencies; the wheel is always the one built here).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esl_dist.entries import COMMANDS
from tests.diagnostics.test_starting import somebodys

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ROOT = Path(__file__).resolve().parents[2]
EXTRAS = "export,opencv,report"
SMALL = [
    "model.deeplabv2.layers=[1,1,1,1]",
    "model.deeplabv2.width=16",
    "model.deeplabv2.init=kaiming",
    "model.discriminator_width=16",
    "source.steps=6",
    "align.steps=3",
    "selftrain.steps=3",
]
SCORED = [
    "data.target.images=photos/*/*.jpg",
    "data.target.labels=masks/*/*_mask.png",
    "data.target.shares=train:0.8,val:0.2",
    "data.target.labelled=true",
    "eval.split=val",
]


class User:
    """A shell in an empty folder, with the environment's commands and nothing of the checkout."""

    def __init__(self, home: Path, bin_folder: Path) -> None:
        self.home, self.bin = home, bin_folder
        self.seconds: dict[str, float] = {}
        kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        self.environment = {**kept, "PATH": f"{bin_folder}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def run(self, *words: str, code: int = 0) -> str:
        """Standard output of a command; its error must be no traceback."""
        began = time.monotonic()
        done = subprocess.run(words, cwd=self.home, env=self.environment, capture_output=True, text=True, timeout=900)
        self.seconds[" ".join(words[:3])] = time.monotonic() - began
        assert done.returncode == code and "Traceback" not in done.stderr, f"{words}: {done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    made = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip"]
    wheel = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(made), str(ROOT)]
    subprocess.run(wheel, check=True, capture_output=True)
    (file,) = made.glob("*.whl")
    venv = Path(os.environ.get("ESL_WHEEL_VENV") or made / "venv")
    own = [str(venv / "bin/python"), "-m", "pip", "install", "-q"]
    if not (venv / "bin/python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([*own, "-c", str(ROOT / "constraints.txt"), f"{file}[{EXTRAS}]"], check=True, timeout=1200)
    else:
        subprocess.run([*own, "--no-deps", "--force-reinstall", str(file)], check=True, timeout=300)
    home = made / "home"
    home.mkdir()
    return User(home, venv / "bin")


def test_from_a_folder_of_images_to_other_programs(user: User) -> None:
    somebodys(user.home / "yard")
    user.run("esl_dist", "data", "yard")
    user.run("esl_dist", "doctor", "--data", "yard.yaml")
    shares = ["data.source.shares=train:0.8,val:0.2", "data.source.split=train"]
    user.run("esl_dist", "train", "--nproc", "2", "--config", "yard.yaml", *shares, *SMALL)
    user.run("esl_dist", "report", "runs/yard")
    user.run("esl_dist", "evaluate", "--checkpoint", "runs/yard", *SCORED)
    user.run("esl_dist", "predict", "--checkpoint", "runs/yard", "--images", "yard/night", "--out", "predictions")
    user.run("esl_dist", "export", "--checkpoint", "runs/yard", "--out", "net.onnx")
    print({name: round(seconds, 1) for name, seconds in user.seconds.items()}, sum(user.seconds.values()))
    assert len(user.seconds) == 7
    assert (user.home / "runs/yard/report.html").is_file() and (user.home / "net.onnx").is_file()
    assert len(list((user.home / "predictions/labels").glob("*.png"))) == 60
    assert len(json.loads((user.home / "metrics.json").read_text())["iou"]) == 12
    # The same command again skips what is done; the checkpoint may be copied away; and from Python.
    user.run("esl_dist", "train", "--nproc", "2", "--config", "yard.yaml", *shares, *SMALL)
    shutil.copytree(next((user.home / "runs/yard/selftrain/checkpoints").glob("step_*")), user.home / "copied")
    user.run("esl_dist", "predict", "--checkpoint", "copied", "--images", "yard/night/00000.png", "--out", "one")
    code = "import esl_dist; m = esl_dist.load('copied'); print(len(m.classes), m('yard/night/00000.png').labels.shape)"
    assert user.run("python", "-c", code) == "12 (72, 128)\n"


def test_every_command_is_there_by_both_names(user: User) -> None:
    assert user.run("esl_dist", "--version").startswith("esl_dist ")
    for name in COMMANDS:
        assert user.run("esl_dist", name, "--help") == user.run("python", "-m", f"esl_dist.{name}", "--help")
    user.run("esl_dist", "train", "--config", "nothing.yaml", code=2)


def test_shipped_configurations_and_their_bases(user: User) -> None:
    (user.home / "mine.yaml").write_text("base: gta5_cityscapes/advent.yaml\nrun: {name: mine}\n")
    assert "name: mine" in user.run("esl_dist", "train", "--config", "mine.yaml", "--print-config")
    code = """
from esl_dist.config.load import configs_dir, load_config
from esl_dist.methods import plan
found = [path for path in sorted(configs_dir().rglob("*.yaml")) if "sweeps" not in path.parts and path.name[0] != "_"]
for path in found:
    plan(load_config(path.relative_to(configs_dir()).as_posix()))
print(len(found), configs_dir())
"""
    count, place = user.run("python", "-c", code).split()
    shipped = [path for path in (ROOT / "configs").rglob("*.yaml") if path.name[0] != "_"]
    assert int(count) == len([path for path in shipped if "sweeps" not in path.parts])
    assert str(ROOT) not in place


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(user: User, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    start = "autoload -U compinit && compinit -u -D; " if shell == "zsh" else ""
    typed = 'COMP_WORDS=(esl_dist tra); COMP_CWORD=1; _esl_dist; echo "${COMPREPLY[@]}"'
    body = f"{start}source <(esl_dist --completion {shell}); {typed}"
    if shell == "zsh":  # bash's arrays, as bashcompinit calls a function
        body = body.replace("COMP_WORDS", "setopt ksharrays; COMP_WORDS", 1)
    found = user.run(shell, "-c", body).split()
    # zsh's compgen gives all words; those that begin as typed are chosen by the editor.
    assert [word for word in found if shell == "bash" or word.startswith("tra")] == ["train", "translate"]
