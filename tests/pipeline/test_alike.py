"""Ranks that would not train the same: who differs from rank 0, and in what, is one line on every rank."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from esl_dist import alike
from esl_dist.config.load import load_config
from esl_dist.data.dataset import FolderDataset
from esl_dist.distributed import collectives
from tests.ranks import run_ranks


def folder(root: str, count: int, missing: int = -1, longer: int = -1) -> FolderDataset:
    Path(root).mkdir(parents=True, exist_ok=True)
    names = tuple(f"{i:05d}" for i in range(count) if i != missing)
    files = tuple(Path(root, f"{name}.png") for name in names)
    for file in files:
        file.write_bytes(b"x" * (2 if file.stem == f"{longer:05d}" else 1))
    return FolderDataset(names, files, None, np.zeros(256, np.uint8))


def compare(root: str) -> list[str]:
    """What a rank hears, rank 1 being different in one thing after the other."""
    return [_compare(f"{root}/{differs}", differs) for differs in SAID]


def _compare(root: str, differs: str) -> str:
    mine = collectives.rank() == 1
    words = ["optim.lr=0.5"] if mine and differs == "option" else []
    words += [f"data.root={root}{collectives.rank()}", f"data.workers={collectives.rank()}"]
    config = load_config("smoke.yaml", words)
    different = {"missing": {"missing": 3}, "longer": {"longer": 3}}.get(differs, {}) if mine else {}
    source = folder(f"{root}{collectives.rank()}", 5, **different)
    if mine and differs == "code":
        alike.code = lambda: {"engine/loop.py": "other"}
    try:
        alike.require_alike(config, source, source, None)
    except ValueError as error:
        assert error.every_rank  # type: ignore[attr-defined]
        return str(error)
    return ""


SAID = {
    "nothing": "",
    "option": "rank 1 differs from rank 0 in its configuration: optim.lr is 0.5 (rank 0: 0.01); start every rank",
    "missing": "rank 1 differs from rank 0 in its source data: 00003 is missing, 00004 is number 3, 1 bytes",
    "longer": "source data: 00003 is number 3, 2 bytes (rank 0: number 3, 1 bytes); give every machine",
    "code": "rank 1 differs from rank 0 in its code: ",
}


def test_who_differs_and_in_what(tmp_path: Path) -> None:
    first, second = run_ranks(2, "tests.pipeline.test_alike:compare", str(tmp_path))
    assert first == second and first[0] == ""
    for heard, said in zip(first, SAID.values(), strict=True):
        assert said in heard and "\n" not in heard


def test_alone_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "files", lambda dataset: pytest.fail("read"))
    alike.require_alike(load_config("smoke.yaml"), None, None, None)  # type: ignore[arg-type]


def test_six_thousand_files_take_less_than_a_second(tmp_path: Path) -> None:
    dataset = folder(str(tmp_path), 3000)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        alike.files(dataset), alike.files(dataset), alike.code()
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 1
