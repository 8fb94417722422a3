"""Which batch-norm statistics look safer: measured on a network whose statistics are right for one domain only."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from esl_dist.config.schema import Config
from esl_dist.labelling import statistics

FOUND: dict[str, Any] = {
    "images": 8,
    "agreement": 0.9,
    "source_miou": {"running": 0.50, "target": 0.30, "source": 0.50},
    "running": {"entropy": 0.30, "distance": 0.20},
    "target": {"entropy": 0.25, "distance": 0.10},
}


def test_what_speaks_for_target_statistics() -> None:
    assert statistics.verdict(FOUND)["safer"] == "target"
    for changes, safer, word in (
        ({("source_miou", "source"): 0.47}, "running", "costs 3.0 points"),
        ({("source_miou", "source"): 0.53}, "target", "gains 3.0 points"),
        ({("target", "distance"): 0.25}, "running", "25.0 % of pixels apart"),
        ({("target", "distance"): 0.195}, "running", "20.0 % with running"),
        ({("target", "entropy"): 0.5}, "target", "10.0 %"),
    ):
        found = copy.deepcopy(FOUND)
        for (group, key), value in changes.items():
            found[group][key] = value
        verdict = statistics.verdict(found)
        assert verdict["safer"] == safer and word in verdict["why"]
        line = statistics.sentence({**found, **verdict}, "target")
        assert ("as the run does" in line) == (safer == "target") and "90.0 %" in line


class Pictures:
    """Left halves dark, right halves bright; the target's are darker by a half throughout."""

    labelled = True

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.names = [f"{i}" for i in range(8)]

    def __len__(self) -> int:
        return 8

    def image(self, index: int) -> np.ndarray:
        draw = np.random.RandomState(index)
        grey = np.where(np.arange(48) < 24, 60, 180)[None, :, None] + draw.randint(-20, 20, (32, 48, 3))
        return (grey * self.factor).clip(0, 255).astype(np.uint8)

    def label(self, index: int) -> np.ndarray:
        return np.repeat((np.arange(48) >= 24).astype(np.uint8)[None], 32, 0)

    def size(self, index: int) -> tuple[int, int]:
        return 48, 32


class Brightness:
    """A "network" with one batch norm before a threshold: what it calls bright is above its mean."""

    network = SimpleNamespace(num_classes=19)

    def __init__(self) -> None:
        self.mean = 120.0

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        grey = torch.nn.functional.avg_pool2d(images.float().mean(1, keepdim=True), 8)
        score = (grey - self.mean) / 20
        rest = torch.full((len(images), 17, *score.shape[2:]), -20.0)
        return torch.cat([-score, score, rest], 1)

    @contextlib.contextmanager
    def statistics(self, kind: str, batches: Iterable[torch.Tensor]) -> Iterator[None]:
        before = self.mean
        if kind == "target":
            self.mean = float(torch.cat([images.float() for images in batches]).mean())
        yield
        self.mean = before


@pytest.mark.parametrize(("factor", "safer"), [(0.5, "target"), (1.0, "running")])
def test_statistics_are_compared_on_both_domains(factor: float, safer: str) -> None:
    config = Config()
    domain = dataclasses.replace(config.data.source, size=(48, 32))
    data = dataclasses.replace(config.data, source=domain, target=dataclasses.replace(domain), workers=0)
    extract = dataclasses.replace(config.extract, bn_images=8, check_statistics=6, batch=2)
    config = dataclasses.replace(config, data=data, extract=extract)
    found = statistics.compare_statistics(Brightness(), config, Pictures(factor), Pictures(1.0), lambda: False)  # type: ignore[arg-type]
    assert found["safer"] == safer, found["why"]
    assert found["source_miou"]["running"] == pytest.approx(found["source_miou"]["source"], abs=0.02)
    if factor == 0.5:
        # everything dark is class 0 to the running statistics; the target's see both halves again
        assert found["running"]["shares"][0] > 0.9 and found["target"]["shares"][0] == pytest.approx(0.5, abs=0.1)
        assert found["agreement"] < 0.7 and found["source_miou"]["target"] < found["source_miou"]["running"]
    assert sum(found["source_shares"]) == pytest.approx(1)


def test_evidence_is_a_record(tmp_path: Path) -> None:
    from esl_dist.runs.folders import TeacherFolder

    folder = TeacherFolder(tmp_path)
    folder.evidence.write({"statistics": FOUND})
    assert folder.evidence.read()["statistics"]["agreement"] == 0.9
    folder.evidence.path.write_text(folder.evidence.path.read_text().replace("0.9", "0.8"))
    with pytest.raises(ValueError, match=r"evidence\.json"):
        folder.evidence.read()
