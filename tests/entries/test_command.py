"""``esl_dist``: one list of commands, their help, completion, and what a checkpoint may be named by."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import esl_dist
from esl_dist import __main__ as command
from esl_dist.config.describe import sections
from esl_dist.config.load import dump, load_config
from esl_dist.config.schema import Config
from esl_dist.entries import COMMANDS, cli, completion, launching
from esl_dist.prediction.checkpoints import find_checkpoint, own_config

ROOT = Path(__file__).resolve().parents[2]


def ended(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[Any, str, str]:
    """Exit code, standard output and error of ``esl_dist words`` run in this process."""
    with pytest.raises(SystemExit) as end:
        command.main(words)
    said = capsys.readouterr()
    return end.value.code, said.out, said.err


def test_every_entry_is_a_command_and_every_command_an_entry() -> None:
    files = {path.stem for path in (ROOT / "esl_dist/entries").glob("*.py")}
    shared = {
        "__init__",
        "arguments",
        "checkpoints",
        "cli",
        "completion",
        "ending",
        "failures",
        "launching",
        "lenient",
        "streams",
    }
    assert files - shared == set(COMMANDS)
    for name in COMMANDS:
        package = ROOT / "esl_dist" / name
        assert package.with_suffix(".py").is_file() or (package / "__main__.py").is_file(), f"python -m esl_dist.{name}"


def test_help_version_and_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ended([], capsys)
    assert code == 0 and all(f"\n  {name} " in out for name in COMMANDS)
    assert ended(["--version"], capsys)[:2] == (0, f"esl_dist {esl_dist.__version__}\n")
    assert ended(["trian"], capsys) == (2, "", "esl_dist: error: 'trian' is no command; did you mean train?\n")
    code, out, err = ended(["train", "--no-such"], capsys)
    assert code == 2 and len(err.splitlines()) == 1 and "esl_dist train --help" in err
    assert ended(["report", "--nproc", "2", "x"], capsys)[0] == 2
    assert ended(["train", "--nproc", "x"], capsys)[2].startswith("esl_dist: error: --nproc: 'x' is neither")


def test_the_help_of_a_command_lists_every_option_with_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ended(["train", "--help"], capsys)
    assert code == 0 and "--nproc N" in out and "--print-config" in out
    for section in sections(Config):
        for option in section.options:
            assert f"  {option.key}={option.shown_default}" in out
            assert option.text, f"{option.key} has no text"
    assert "1e-3" not in re.findall(r"optim\.lr=(\S+)", out)


def test_the_printed_configuration_loads_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = ended(["train", "--config", "smoke.yaml", "--print-config", "optim.lr=0.5", "run.name=0042"], capsys)
    path = tmp_path / "printed.yaml"
    path.write_text(out)
    assert code == 0 and load_config(str(path)) == load_config("smoke.yaml", ["optim.lr=0.5", "run.name=0042"])


def test_the_words_of_the_launcher_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr("esl_dist.launcher.launch", lambda words, ranks: started.append((words[1:], ranks)) or 0)
    assert launching.launch("train", ["--config", "x", "--nproc", "3", "a.b=1"]) == 0
    assert launching.launch("evaluate", ["--nproc=2"]) == 0
    assert started == [(["-m", "esl_dist", "train", "--config", "x", "a.b=1"], 3), (["-m", "esl_dist", "evaluate"], 2)]
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ValueError, match="is a rank already"):
        launching.launch("train", ["--nproc", "3"])


@pytest.mark.skipif(shutil.which("bash") is None, reason="completion is bash's")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["esl_dist", "tra"], {"train", "translate"}),
        (["esl_dist", "train", "optim.b"], {"optim.batch=", "optim.base_batch=", "optim.backend="}),
        (["esl_dist", "train", "run.device", "=", "c"], {"cpu", "cuda"}),
        (["esl_dist", "train", "run.deterministic", "="], {"true", "false"}),
        (["esl_dist", "train", "--npr"], {"--nproc"}),
    ],
)
def test_completion(words: list[str], expected: set[str], tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(completion.script("bash"))
    typed = " ".join(f"'{word}'" for word in words)
    body = (
        f'. {script}; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _esl_dist; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", body], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == "" and set(done.stdout.split()) == expected


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run of two stages that have ended, with empty networks."""
    from esl_dist.runs.content import Ending
    from esl_dist.runs.folders import RunFolder

    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.config.write_text(dump(load_config("smoke.yaml", ["run.name=own"])))
    for number, name in enumerate(("source", "align", "translate", "oracle")):
        stage = run.stage(name)
        folder = stage.checkpoints / "step_00000006"
        folder.mkdir(parents=True)
        (folder / ("to_target.pt" if name == "translate" else "segmenter.pt")).touch()
        stage.done.write(Ending(stage=name, checkpoint=folder.name, step=6, weights_sha256="0" * 64))
        os.utime(stage.done.path, (number, number))
    return run.path


def test_a_checkpoint_is_named_by_its_stage_or_run_too(run_folder: Path) -> None:
    wanted = run_folder / "align/checkpoints/step_00000006"
    for path in (run_folder, run_folder / "align", wanted):
        assert find_checkpoint(path) == wanted
    assert find_checkpoint(wanted / "segmenter.pt") == wanted / "segmenter.pt"
    assert find_checkpoint(run_folder, "to_target").parts[-3] == "translate"
    assert own_config(wanted) == str(run_folder / "config.yaml")
    with pytest.raises(ValueError, match="no such file or folder"):
        find_checkpoint(run_folder / "nothing")
    (run_folder / "empty").mkdir()
    with pytest.raises(ValueError, match="is neither a weights file nor the folder"):
        find_checkpoint(run_folder / "empty")


def test_without_a_configuration_the_checkpoints_own_is_used(run_folder: Path) -> None:
    made = cli.parser("evaluate", "")
    made.add_argument("--checkpoint", type=Path)
    arguments, config = cli.parse(made, ["--checkpoint", str(run_folder), "optim.lr=0.5"])
    assert (config.run.name, config.optim.lr) == ("own", 0.5)
    assert arguments.checkpoint == run_folder / "align/checkpoints/step_00000006"
    assert cli.parse(made, ["--checkpoint", str(run_folder), "--config", "streets.yaml"])[1].run.name == "streets"


def test_an_old_name_is_told_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(__import__("esl_dist.config.renamed").config.renamed.RENAMED, "optim.rate", "optim.lr")
    assert cli.parse(cli.parser("train", ""), ["optim.rate=0.5"])[1].optim.lr == 0.5
    assert capsys.readouterr().err == "esl_dist: note: optim.rate is now optim.lr: the old spelling still works\n"
    monkeypatch.setenv("RANK", "1")
    cli.parse(cli.parser("train", ""), ["optim.rate=0.5"])
    assert capsys.readouterr().err == ""


def test_the_module_runs_without_loading_what_it_does_not_need() -> None:
    code = "import sys, esl_dist.__main__ as m\ntry: m.main(['--help'])\n"
    code += "except SystemExit: sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
