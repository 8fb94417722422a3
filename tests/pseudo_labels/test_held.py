"""Logits of the whole set in the device's memory, and forwards of one image where a batch would decide their bits."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from esl_dist.config.schema import Config, ExtractConfig, PseudoLabelConfig
from esl_dist.distributed.arithmetic import resolve
from esl_dist.methods import identity
from esl_dist.pseudo_labels.extraction import Extraction
from esl_dist.pseudo_labels.scores.keys import count_high, high_bins
from esl_dist.pseudo_labels.sets import held
from esl_dist.pseudo_labels.sets.label_sets import LabelSet
from esl_dist.pseudo_labels.sets.teacher import Teacher
from esl_dist.pseudo_labels.thresholds import on_device
from esl_dist.pseudo_labels.thresholds.counting import Cells, count_low
from esl_dist.pseudo_labels.thresholds.on_device import Count, LowDigits
from tests.pseudo_labels.common import hashes, numbers, small_logits, table
from tests.ranks import ROOT

LOGITS = [small_logits(i) for i in range(10)]
RULES = {f"nu {nu}": PseudoLabelConfig(nu=nu) for nu in (0.02, 0.1, 0.3)} | {"ssl": PseudoLabelConfig(rule="ssl")}


def extract(
    out: Path, config: ExtractConfig, lines: list[str], shift: float = 0.0, loads: list[int] | None = None
) -> list[LabelSet]:
    """All rules from a device whose logits move by ``shift`` from slot to slot of a batch."""
    look_up, images = table(LOGITS, 4)

    def forward(seen: torch.Tensor) -> torch.Tensor:
        if loads is not None:
            loads.append(len(seen))
        whole = look_up(torch.cat([seen, seen.new_zeros(4 - len(seen), *seen.shape[1:])]))[: len(seen)]
        return whole + shift * torch.arange(len(seen))[:, None, None, None]

    @contextlib.contextmanager
    def opened() -> Iterator[object]:
        yield forward

    teacher = Teacher(opened, {"checkpoint": "c0ffee", "precision": "fp32"}, [f"class {c}" for c in range(5)])  # type: ignore[arg-type]
    config = dataclasses.replace(config, size=(20, 12), batch=4, shard=3)
    return Extraction(teacher, images, config, out / "spool", report=lines.append).make(RULES, out, out)


@pytest.mark.parametrize(("memory", "files"), [(0.0, False), (1.0, False), (1e-6, True)])
def test_memory_within_its_budget_gives_the_files_of_the_spool(memory: float, files: bool, tmp_path: Path) -> None:
    lines: list[str] = []
    made = extract(tmp_path / "held", ExtractConfig(spool="memory", memory=memory), lines)
    spooled = extract(tmp_path / "spooled", ExtractConfig(spool="scores"), [])
    assert [numbers(a) for a in made] == [numbers(b) for b in spooled]
    assert [hashes(a.out) for a in made] == [hashes(b.out) for b in spooled] and made[0].thresholds[
        "precision"
    ] == "fp32"
    assert (tmp_path / "held" / "spool").is_dir() is files
    assert sum("they are spooled on disk" in line for line in lines) == int(files)


@pytest.mark.parametrize("spool", ["scores", "logits", "memory", "none"])
def test_where_the_slot_counts_images_go_through_one_by_one(spool: str, tmp_path: Path) -> None:
    lines: list[str] = []
    loads: list[int] = []
    made = extract(tmp_path / "shifted", ExtractConfig(spool=spool), lines, 0.5, loads)  # type: ignore[arg-type]
    straight = extract(tmp_path / "straight", ExtractConfig(), [])
    assert [hashes(a.out) for a in made] == [hashes(b.out) for b in straight]
    assert sum("one image a forward" in line for line in lines) == 1 and loads[0] == 4 and set(loads[1:]) == {1}
    if spool in ("scores", "logits"):  # what is there needs no forward, and says no more than it knows
        again: list[int] = []
        extract(tmp_path / "shifted", ExtractConfig(spool=spool), [], 0.5, again)  # type: ignore[arg-type]
        assert not again


def test_logits_that_are_not_finite_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = [z.copy() for z in LOGITS]
    broken[7][2, 1, 1] = np.inf
    monkeypatch.setattr("tests.pseudo_labels.test_held.LOGITS", broken)
    with pytest.raises(ValueError, match=r"town/007: 1 of \d+ logits are NaN or infinite"):
        extract(tmp_path, ExtractConfig(spool="memory"), [])


def low_cases() -> list[tuple[Cells, torch.Tensor, torch.Tensor]]:
    """Cells of an entropy's most frequent digits, one class without any; an image, its columns, and cells of none."""
    draw = np.random.RandomState(0)
    label = draw.randint(0, 5, (40, 50)).astype(np.uint8)
    score = (draw.random_sample((40, 50)) ** 3).astype(np.float32)
    high = np.zeros((5, high_bins("entropy")), np.int64)
    count_high(high, label.reshape(-1), score.view(np.uint32).reshape(-1))
    bins = high.argmax(1)
    bins[3] = -1
    cells = Cells.of(np.stack([bins, np.roll(bins, 1)]), high_bins("entropy"))
    none = Cells.of(np.full((1, 5), -1), high_bins("entropy"))
    image = torch.from_numpy(label), torch.from_numpy(score)
    return [(cells, *image), (cells, image[0].t(), image[1].t()), (none, *image)]


def wrongly_counted(device: str, count: Count | None = None) -> list[int]:
    """Of every case the cells that differ from the host's counts after two images."""
    found = []
    for cells, label, score in low_cases():
        expected, counting = cells.empty(), LowDigits(cells, torch.device(device), count)
        for _ in range(2):
            count_low(expected, cells, label.numpy(), score.numpy().view(np.uint32))
            counting.add(label.to(device), score.to(device))
        assert expected.any() == (cells.count > 0)
        found.append(int((counting.histogram() != expected).sum()))
    return found


def test_low_digits_are_counted_on_the_device_as_on_the_host() -> None:
    assert wrongly_counted("cpu") == [0, 0, 0]


def test_the_kernel_counts_low_digits_as_the_host_in_tritons_interpreter() -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    code = """
from esl_dist.pseudo_labels.thresholds.kernel import count_low
from tests.pseudo_labels.test_held import wrongly_counted
print(wrongly_counted("cpu", count_low))
"""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[0, 0, 0]"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_kernel_counts_low_digits_as_the_host() -> None:
    assert wrongly_counted("cuda", thresholds_kernel().count_low) == wrongly_counted("cuda") == [0, 0, 0]


def thresholds_kernel() -> ModuleType:
    return importlib.import_module("esl_dist.pseudo_labels.thresholds.kernel")


def test_a_kernel_that_counts_otherwise_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is compared with torch at its first image, wherever there is one to compare."""
    cells, label, score = low_cases()[0]
    monkeypatch.setattr(on_device.kernels, "available", lambda: True)
    for off_by in (0, 1):

        def counting(histogram: torch.Tensor, *rest: torch.Tensor, off_by: int = off_by) -> None:
            on_device.plain(histogram, *rest)
            histogram[0, 0] += off_by

        there = SimpleNamespace(count_low=counting)
        monkeypatch.setitem(sys.modules, "esl_dist.pseudo_labels.thresholds.kernel", there)
        with caplog.at_level(logging.WARNING, "esl_dist"):
            digits = LowDigits(cells, torch.device("cpu"))
            chosen = digits._chosen(OnCuda(label), score.view(torch.int32))
        assert chosen is (on_device.plain if off_by else counting) and len(caplog.messages) == off_by


class OnCuda(torch.Tensor):
    """Says that it lies there."""

    @staticmethod
    def __new__(cls, tensor: torch.Tensor) -> OnCuda:
        return torch.Tensor._make_subclass(cls, tensor)

    is_cuda = True


def test_room_is_what_is_asked_for_or_half_of_what_is_free() -> None:
    assert held.room(0.5, torch.device("cpu")) == 2**29 and held.room(0, torch.device("cpu")) > 2**20
    assert held.bytes_of((19, 65, 129)) == 4 * 19 * 65 * 129


def test_where_logits_are_held_is_no_difference_between_two_results() -> None:
    here = Config(extract=ExtractConfig(spool="memory", memory=2.0))
    assert identity.difference(identity.options(Config(), ("extract",)), identity.options(here, ("extract",))) == ""


def test_the_fastest_precision_of_a_cpu_is_exact() -> None:
    assert resolve("fastest", torch.device("cpu"), "extract.precision", auto="bf16") == "fp32"
