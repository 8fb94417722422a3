"""Dockerfile, entry point and compose file, as far as they can be checked without an engine."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.cluster.processes import ROOT, environment

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, rest) of every logical line."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()
    return [(word.upper(), rest.strip()) for word, _, rest in (line.strip().partition(" ") for line in joined)]


def lint(text: str) -> list[str]:
    """What is wrong with a Dockerfile, by the rules of this project."""
    steps = instructions(text)
    found = []
    stages: list[list[tuple[str, str]]] = []
    for step in steps:
        if step[0] == "FROM":
            stages.append([])
        if stages:
            stages[-1].append(step)
    arguments = {
        rest.partition("=")[0]: rest.partition("=")[2]
        for word, rest in steps[: steps.index(next(s for s in steps if s[0] == "FROM"))]
        if word == "ARG"
    }
    names = {rest.split()[-1] for word, rest in steps if word == "FROM" and " AS " in f" {rest} ".upper()}
    for rest in (rest for word, rest in steps if word == "FROM"):
        base = rest.split()[0]
        resolved = re.sub(r"\$\{(\w+)\}", lambda m: arguments.get(m[1], ""), base)
        if resolved not in names and (":" not in resolved.rpartition("/")[2] or resolved.endswith(":latest")):
            found.append(f"base without a version: {base}")
    final = stages[-1]
    users = [rest for word, rest in final if word == "USER"]
    if not users or users[-1].split(":")[0] in {"root", "0"}:
        found.append("the image runs as root")
    for word in ("ENTRYPOINT", "CMD"):
        if not all(rest.startswith("[") for w, rest in final if w == word):
            found.append(f"{word} is not in exec form: a shell would swallow SIGTERM")
    for wanted in ("ENTRYPOINT", "HEALTHCHECK", "LABEL"):
        if wanted not in {word for word, _ in final}:
            found.append(f"no {wanted}")
    found += [f"ADD: {rest}" for word, rest in steps if word == "ADD"]
    for word, rest in steps:
        if word in {"ENV", "ARG"} and re.search(r"(PASSWORD|SECRET|TOKEN|API_?KEY)\w*=", rest, re.I):
            found.append(f"a secret in {word}: {rest}")
        if (
            word == "RUN"
            and "apt-get install" in rest
            and ("--no-install-recommends" not in rest or "rm -rf /var/lib/apt/lists" not in rest)
        ):
            found.append("apt-get leaves its lists or recommendations behind")
        if word == "RUN" and "pip" in rest and " install " in rest and "--no-cache-dir" not in rest:
            found.append("pip leaves its cache behind")
        if word == "COPY" and rest.split()[0] == ".":
            found.append("COPY . takes whatever lies around")
    if any(re.search(r"apt-get|\bgcc\b|g\+\+|pip install", rest) for word, rest in final if word == "RUN"):
        found.append("the final stage installs tools")
    return found


def test_the_dockerfile_keeps_the_rules() -> None:
    assert lint(DOCKERFILE) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("-cuda13.0-cudnn9-runtime", ""),
        ("pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime", "pytorch/pytorch:latest"),
        ("USER esl", "USER root"),
        ('ENTRYPOINT ["/opt/esl_dist/docker/entrypoint.sh"]', "ENTRYPOINT /opt/esl_dist/docker/entrypoint.sh"),
        ("COPY configs configs", "COPY . ."),
        ("COPY configs configs", "ADD https://example.org/x.tar /x"),
        ("ENV PATH", "ENV MLFLOW_TRACKING_PASSWORD=x PATH"),
        ("--no-cache-dir", ""),
        ("HEALTHCHECK", "# HEALTHCHECK"),
        ("RUN useradd", "RUN apt-get install -y g++ && useradd"),
    ],
)
def test_the_lint_can_fail(old: str, new: str) -> None:
    assert old in DOCKERFILE
    # The first rule is about a version, so that the tag as a whole goes.
    broken = (
        DOCKERFILE.replace("pytorch/pytorch:2.13.0" + old, "pytorch/pytorch")
        if old.startswith("-cuda")
        else DOCKERFILE.replace(old, new)
    )
    assert lint(broken)


def test_what_is_copied_exists_and_is_let_through() -> None:
    """COPY sources exist, and .dockerignore (which starts by excluding everything) lets each of them pass and nothing
    else.
    """
    sources = {
        word
        for w, rest in instructions(DOCKERFILE)
        if w == "COPY" and "--from" not in rest
        for word in rest.split()[:-1]
    }
    assert sources and all((ROOT / source).exists() for source in sources)
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {line[1:] for line in rules if line.startswith("!")} == sources


# What compose allows, for the parts that are used (compose-spec): anything else is a typing mistake.
STRING, STRINGS = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
WORDS = {"anyOf": [STRING, STRINGS]}
ENVIRONMENT = {
    "anyOf": [{"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}}, STRINGS]
}


def fields(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


DEVICE = fields(
    driver=STRING, count={"anyOf": [{"const": "all"}, {"type": "integer"}]}, capabilities=STRINGS, device_ids=STRINGS
)
SERVICE = fields(
    image=STRING,
    build=fields(context=STRING, dockerfile=STRING, args=ENVIRONMENT, target=STRING),
    command=WORDS,
    entrypoint=WORDS,
    environment=ENVIRONMENT,
    depends_on={
        "type": "object",
        "additionalProperties": fields(
            condition={"enum": ["service_started", "service_healthy", "service_completed_successfully"]}
        ),
    },
    ports=STRINGS,
    volumes=STRINGS,
    tmpfs=STRINGS,
    read_only={"type": "boolean"},
    cap_drop=STRINGS,
    security_opt=STRINGS,
    shm_size=STRING,
    stop_grace_period={"type": "string", "pattern": r"^\d+[smh]$"},
    restart={"type": "string", "pattern": r"^(no|always|unless-stopped|on-failure(:\d+)?)$"},
    healthcheck=fields(test=WORDS, interval=STRING, timeout=STRING, retries={"type": "integer"}, start_period=STRING),
    deploy=fields(resources=fields(reservations=fields(devices={"type": "array", "items": DEVICE}))),
)
COMPOSE = {
    **fields(
        name=STRING,
        services={"type": "object", "additionalProperties": SERVICE},
        volumes={"type": "object", "additionalProperties": {"type": "null"}},
    ),
    "required": ["services"],
}


def compose() -> Any:
    return yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())


def test_the_compose_file_has_only_fields_that_compose_knows() -> None:
    jsonschema.Draft202012Validator(COMPOSE).validate(compose())


@pytest.mark.parametrize(
    ("where", "old", "new"),
    [("train", "depends_on", "depend_on"), ("mlflow", "healthcheck", "health"), ("train", "shm_size", "shm-size")],
)
def test_a_misspelt_compose_field_fails(where: str, old: str, new: str) -> None:
    document = compose()
    document["services"][where][new] = document["services"][where].pop(old)
    assert not jsonschema.Draft202012Validator(COMPOSE).is_valid(document)


def test_compose_is_safe_and_consistent() -> None:
    document = compose()
    for name, service in document["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), (
            f"{name} is reachable from outside"
        )
        assert {v.partition(":")[0] for v in service["volumes"]} <= set(document["volumes"]), name
        assert set(service.get("depends_on", {})) <= set(document["services"])
    mlflow = document["services"]["mlflow"]
    (hosts,) = [word.partition("=")[2].split(",") for word in mlflow["command"] if word.startswith("--allowed-hosts=")]
    uri = document["services"]["train"]["environment"]["MLFLOW_TRACKING_URI"]
    assert uri.removeprefix("http://") in hosts, "MLflow would answer 403 to the training service"
    assert int(document["services"]["train"]["stop_grace_period"].removesuffix("s")) > 25, (
        "less than the agent gives the ranks"
    )


PYTHON = """#!/bin/sh
echo "home=$HOME tmp=${TMPDIR-}"
for word in "$@"; do echo "<$word>"; done
trap 'echo stopped; exit 0' TERM
if [ -n "${STUB_WAITS-}" ]; then echo "pid=$$"; while :; do sleep 0.05; done; fi
"""


def enter(tmp_path: Path, *words: str, **env: str) -> list[str]:
    """What the entry point would start, with a stand-in for python."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "bin" / "python").write_text(PYTHON)
    (tmp_path / "bin" / "python").chmod(0o755)
    path = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    done = subprocess.run(
        [str(ROOT / "docker" / "entrypoint.sh"), *words],
        env=environment(**path, **env),
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "module", "agent"),
    [
        ([], "esl_dist.train", True),
        (["train"], "esl_dist.train", True),
        (["--config", "a b.yaml", "run.name=x"], "esl_dist.train", True),
        (["run.name=x"], "esl_dist.train", True),
        (["extract", "--checkpoint", "c"], "esl_dist.extract", True),
        (["evaluate"], "esl_dist.evaluate", True),
        (["doctor"], "esl_dist.doctor", False),
        (["tune", "--config", "s.yaml"], "esl_dist.tune", False),
    ],
)
def test_the_entry_point_starts_what_was_asked(tmp_path: Path, words: list[str], module: str, agent: bool) -> None:
    started = enter(tmp_path, *words, HOME=str(tmp_path))[1:]
    handed = words if not words or words[0].startswith("-") or "=" in words[0] else words[1:]
    launcher = started[: started.index("<-m>")]
    assert [bool(launcher), *started[len(launcher) :]] == [
        agent,
        "<-m>",
        f"<{module}>",
        *(f"<{word}>" for word in handed),
    ]
    if agent:
        assert Path(launcher[0].strip("<>")).resolve() == ROOT / "launch" / "agent.py"


def test_another_command_is_run_as_it_is(tmp_path: Path) -> None:
    assert enter(tmp_path, "echo", "a  b", HOME=str(tmp_path)) == ["a  b"]


def test_the_entry_point_leaves_no_shell_in_between(tmp_path: Path) -> None:
    """exec: the process that was started is the one that answers SIGTERM."""
    enter(tmp_path, "doctor", HOME=str(tmp_path))
    env = environment(PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin", HOME=str(tmp_path), STUB_WAITS="1")
    with subprocess.Popen(
        [str(ROOT / "docker" / "entrypoint.sh"), "train"], env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        lines = iter(process.stdout.readline, "")
        assert next(line for line in lines if line.startswith("pid=")) == f"pid={process.pid}\n"
        process.terminate()
        assert process.wait(10) == 0


def test_pip_inside_a_build_sees_the_files_that_its_settings_name(tmp_path: Path) -> None:
    """Folders of packages, and the file of a ``constraint``: without it the build ends at pip's first line."""
    (tmp_path / "wheels").mkdir()
    (tmp_path / "pins.txt").write_text("numpy<99\n")
    settings = f"[global]\nfind-links = {tmp_path}/wheels\nconstraint = {tmp_path}/pins.txt\n"
    (tmp_path / "own.conf").write_text(settings + f"extra-index-url = file://{tmp_path}/wheels/simple\n")
    own = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    done = subprocess.run(
        ["bash", "-c", f". docker/pip_settings.sh; pip_settings {tmp_path}/made.conf"],
        cwd=ROOT,
        env={**own, "PIP_CONFIG_FILE": str(tmp_path / "own.conf")},
        capture_output=True,
        text=True,
        check=True,
    )
    mounts = done.stdout.splitlines()
    assert {f"{tmp_path}/{name}:{tmp_path}/{name}:ro" for name in ("wheels", "pins.txt")} <= set(mounts)
    assert mounts[-1] == f"{tmp_path}/made.conf:/etc/pip.conf:ro"
    made = (tmp_path / "made.conf").read_text()
    assert made.startswith("[global]\n") and f"constraint = {tmp_path}/pins.txt\n" in made
    assert ". docker/pip_settings.sh" in (ROOT / "docker/build_without_docker.sh").read_text()
