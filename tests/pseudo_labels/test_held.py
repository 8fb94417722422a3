"""Logits of the whole set in the device's memory, and forwards of one image where a batch would decide their bits."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

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
from esl_dist.pseudo_labels.thresholds.counting import Cells, count_low
from esl_dist.pseudo_labels.thresholds.on_device import LowDigits
from tests.pseudo_labels.common import hashes, numbers, small_logits, table

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


def test_low_digits_are_counted_on_the_device_as_on_the_host() -> None:
    draw = np.random.RandomState(0)
    label = draw.randint(0, 5, (40, 50)).astype(np.uint8)
    score = (draw.random_sample((40, 50)) ** 3).astype(np.float32)
    high = np.zeros((5, high_bins("entropy")), np.int64)
    count_high(high, label.reshape(-1), score.view(np.uint32).reshape(-1))
    bins = high.argmax(1)
    bins[3] = -1
    cells = Cells.of(np.stack([bins, np.roll(bins, 1)]), high_bins("entropy"))
    expected, found = cells.empty(), LowDigits(cells, torch.device("cpu"))
    for _ in range(2):
        count_low(expected, cells, label, score.view(np.uint32))
        found.add(torch.from_numpy(label), torch.from_numpy(score))
    assert expected.any() and (found.histogram() == expected).all()


def test_room_is_what_is_asked_for_or_half_of_what_is_free() -> None:
    assert held.room(0.5, torch.device("cpu")) == 2**29 and held.room(0, torch.device("cpu")) > 2**20
    assert held.bytes_of((19, 65, 129)) == 4 * 19 * 65 * 129


def test_where_logits_are_held_is_no_difference_between_two_results() -> None:
    here = Config(extract=ExtractConfig(spool="memory", memory=2.0))
    assert identity.difference(identity.options(Config(), ("extract",)), identity.options(here, ("extract",))) == ""


def test_the_fastest_precision_of_a_cpu_is_exact() -> None:
    assert resolve("fastest", torch.device("cpu"), "extract.precision", auto="bf16") == "fp32"
