"""The published schedule, what is averaged, and how the teacher is run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from esl_dist.methods.teacher.average import Teacher, decay_at


def student() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout2d(0.5)).double().train()


def test_the_published_schedule() -> None:
    assert [decay_at(step, 0.999) for step in (0, 1, 2, 999, 1500)] == [0, 1 / 2, 1 - 1 / 3, 0.999, 0.999]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("averaged", ["parameters", "buffers"])
def test_the_average_by_hand(when: str, averaged: str) -> None:
    network = student()
    teacher = Teacher(network, 0.9, averaged, "batch", when)  # type: ignore[arg-type]
    weight, mean = network[0].weight, network[1].running_mean
    expected = expected_mean = torch.zeros(())
    for step in range(12):
        decay = 0.0 if step == 0 else decay_at(step if when == "before" else step - 1, 0.9)
        expected = decay * expected + (1 - decay) * weight.detach()
        expected_mean = decay * expected_mean + (1 - decay) * mean
        before = teacher.network[1].running_mean.clone()
        teacher.start() if step == 0 else teacher.update(torch.tensor(teacher.share(step), dtype=torch.float64))
        torch.testing.assert_close(teacher.network[0].weight, expected, rtol=1e-12, atol=1e-14)
        if averaged == "buffers":
            torch.testing.assert_close(teacher.network[1].running_mean, expected_mean, rtol=1e-12, atol=1e-14)
        elif step:
            assert torch.equal(teacher.network[1].running_mean, before)
        with torch.no_grad():
            weight.add_(torch.randn_like(weight))
            mean.add_(torch.randn_like(mean))
    assert not any(p.requires_grad for p in teacher.network.parameters())


def test_the_first_step_copies_buffers_whatever_is_averaged() -> None:
    network = student()
    teacher = Teacher(network, 0.999, "parameters", "running", "before")
    network[1].running_mean.fill_(3)
    teacher.start()
    assert torch.equal(teacher.network[1].running_mean, network[1].running_mean)


def test_statistics_of_the_batch_move_the_teachers_own_averages_and_nothing_is_dropped() -> None:
    network, x = student(), torch.randn(2, 3, 5, 5, dtype=torch.float64)
    teacher = Teacher(network, 0.999, "parameters", "batch", "before")
    with teacher.labelling() as run:
        y = run(x)
    assert not y.requires_grad and not bool((y == 0).flatten(2).all(-1).any())  # Dropout2d would empty channels
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(4, dtype=torch.float64), atol=1e-6, rtol=0)
    assert int(teacher.network[1].num_batches_tracked) == 1 and int(network[1].num_batches_tracked) == 0
    still = Teacher(network, 0.999, "parameters", "running", "before")
    with still.labelling() as run:
        run(x)
    assert int(still.network[1].num_batches_tracked) == 0
