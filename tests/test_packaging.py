"""What a user installs: the wheel's content, the bounds against the tested versions, imports on a machine with the core
only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Extras and their likes: a GPU machine may have none of them.
OPTIONAL = (
    "ray",
    "optuna",
    "mlflow",
    "psutil",
    "pynvml",
    "matplotlib",
    "numba",
    "triton",
    "cv2",
    "torchmetrics",
    "pytest",
    "jsonschema",
    "apex",
    "rich",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        str(ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_holds_every_module_configuration_and_template(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    ours = [p for p in (ROOT / "esl_dist").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    wanted = {p.relative_to(ROOT).as_posix() for p in ours} | {
        f"esl_dist/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "configs").rglob("*.yaml")
    }
    assert wanted <= held, sorted(wanted - held)
    assert any(name.endswith("licenses/LICENSE") for name in held)
    assert {name.partition("/")[0] for name in held} == {"esl_dist", f"esl_dist-{PROJECT['version']}.dist-info"}


def test_an_installed_wheel_finds_its_configurations(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import esl_dist; from esl_dist.config.load import load_config; print(esl_dist.__file__,"
        " load_config('smoke.yaml').run.name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout


def test_every_module_imports_with_the_core_alone() -> None:
    """Optional libraries are imported where they are used; a module that is nothing but one library's code is imported
    there too.
    """
    written_for = {
        "esl_dist.metrics.compiled": "numba",
        **{
            f"esl_dist.kernels.{name}": "triton"
            for name in ("confusion", "losses", "moments", "norm", "norm_backward", "norm_ranks", "taps", "tile")
        },
        "esl_dist.pseudo_labels.scores.compiled": "numba",
        "esl_dist.pseudo_labels.scores.kernel": "triton",
        "esl_dist.pseudo_labels.thresholds.compiled": "numba",
        "esl_dist.pseudo_labels.thresholds.kernel": "triton",
        "esl_dist.studies.trainable": "ray",
    }
    code = f"""
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys({OPTIONAL!r}))
import esl_dist
failed = []
written_for = {written_for!r}
for module in pkgutil.walk_packages(esl_dist.__path__, "esl_dist."):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        if written_for.get(module.name) != error.name:
            failed.append(f"{{module.name}}: {{error}}")
sys.exit("\\n".join(failed) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def pins() -> dict[str, Version]:
    lines = [re.split(r"\s*[#;]", line)[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    pairs = [line.split("==") for line in lines if line]
    assert all(len(pair) == 2 for pair in pairs), "constraints.txt pins exact versions"
    return {name.lower(): Version(version) for name, version in pairs}


def test_what_was_tested_lies_within_the_bounds() -> None:
    pinned = pins()
    requirements = [
        Requirement(line)
        for line in [
            *PROJECT["dependencies"],
            *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
        ]
    ]
    direct = [
        r for r in requirements if r.name.lower() not in {PROJECT["name"], "triton"}
    ]  # triton: a CUDA build of torch pins its own
    assert {r.name.lower() for r in direct} <= pinned.keys(), "a direct dependency is not pinned in constraints.txt"
    outside = [str(r) for r in direct if not r.specifier.contains(pinned[r.name.lower()])]
    assert not outside


def test_the_version_is_told_once_everywhere() -> None:
    import esl_dist

    citation = (ROOT / "CITATION.cff").read_text()
    assert esl_dist.__version__ == PROJECT["version"]
    assert f"\nversion: {PROJECT['version']}\n" in citation
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text().replace("[", "").replace("]", "")


@pytest.mark.parametrize("script", ["quickstart.sh", "test.sh"])
def test_without_python_the_commands_say_what_to_install(script: str, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "cat", "cksum", "cut", "dirname"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    (tools / "python3").write_text("#!/bin/bash\nexit 1\n")  # a python that is older than 3.11
    (tools / "python3").chmod(0o755)
    environment = {"PATH": str(tools), "HOME": str(tmp_path), "ESL_VENV": str(tmp_path / "venv")}
    done = subprocess.run(
        ["bash", str(ROOT / "launch" / script)], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "Python 3.11" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(
    "script",
    sorted(
        p.relative_to(ROOT).as_posix() for p in [*ROOT.glob("launch/*.s*"), *ROOT.glob("docker/*.sh"), ROOT / ".ci/run"]
    ),
)
def test_scripts_are_valid_bash(script: str) -> None:
    done = subprocess.run(["bash", "-n", str(ROOT / script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if not script.endswith(("venv.sh", "training.sh", "pip_settings.sh")):  # sourced by the others
        header = (ROOT / script).read_text().splitlines()[:8]
        assert any(re.match(r"#\s+(bash|sbatch|kubectl|docker) ", line) for line in header), (
            "starts with the exact command that uses it"
        )
        assert script.endswith(".sbatch") or os.access(ROOT / script, os.X_OK)
