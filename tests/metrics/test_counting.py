"""Counting where the logits are gives the integers of the plain way, by whatever means."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from esl_dist.metrics import counting
from tests.ranks import ROOT

KERNEL = """
import json, torch
from esl_dist.metrics import counting
from tests.metrics.test_counting import cases
wrong = [int((counting.fused(*case) != counting.plain(*case)).sum()) for case in cases()]
print(json.dumps(wrong))
"""


def cases() -> list[tuple[torch.Tensor, torch.Tensor, int]]:
    """Noise, regions, ties and one map of a pixel's height; labels with 255, with ids beyond the classes, and none."""
    draw = torch.Generator().manual_seed(0)
    found = []
    for classes, (h, w), (height, width) in (
        (19, (9, 17), (33, 130)),
        (2, (1, 5), (7, 19)),
        (5, (6, 4), (6, 4)),
        (19, (5, 5), (17, 9)),
    ):
        for family in range(3):
            logits = torch.randn(classes, h, w, generator=draw)
            if family == 1:
                logits = logits.round()
            if family == 2:
                logits = 3 * logits[:, :1, :1] + 0.3 * logits
            label = torch.randint(0, classes + 2, (height, width), generator=draw).to(torch.uint8)
            label[: height // 3] = 255
            found.append((logits, label, classes))
    return [*found, (logits, torch.full_like(label, 255), classes)]


def test_the_kernel_counts_as_the_plain_way_in_tritons_interpreter() -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", KERNEL], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    wrong = json.loads(done.stdout)
    assert len(wrong) == len(cases()) and not any(wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_compiled_kernel_counts_as_the_plain_way_on_a_gpu() -> None:
    for logits, label, classes in cases():
        there = logits.cuda(), label.cuda()
        assert torch.equal(counting.fused(*there, classes).cpu(), counting.plain(logits, label, classes))
        assert counting.chosen(*there, classes) is counting.fused


def test_a_counter_keeps_each_images_table() -> None:
    counter = counting.Counter(19)
    assert counter.found() == []
    taken = [case for case in cases() if case[2] == 19]
    for number, (logits, label, _) in enumerate(taken):
        counter.add(str(number), logits, label.numpy())
    assert counter.count is counting.plain
    for number, (name, table) in enumerate(counter.found()):
        assert name == str(number) and np.array_equal(table, counting.plain(*taken[number]).numpy())
