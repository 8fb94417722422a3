"""Every method's step on a device whose numbers the host cannot read: torch's ``meta`` stands for a GPU.

Sizes and types are computed there, numbers are not. So an operation between a tensor of the host and one of the device
is an error, as on CUDA, and so is whatever asks the device for a number.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from esl_dist.data.loader import Batch
from esl_dist.data.prefetch import sent
from esl_dist.engine.step import Pair
from esl_dist.models.adapter import deformable
from tests.methods.test_captured_steps import CLOSE, TEACHERS, micro, step_of

DEVICE = torch.device("meta")


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is sent arrives; what has no meaning there is left out."""
    for module in [module for name, module in sys.modules.items() if name.startswith("esl_dist.")]:
        if getattr(module, "sent", None) is sent:
            monkeypatch.setattr(module, "sent", lambda tensor, device: tensor.to(device))
    autocast = torch.autocast
    no_such_place = lambda kind, **how: contextlib.nullcontext() if kind == "meta" else autocast(kind, **how)  # noqa: E731
    monkeypatch.setattr(torch, "autocast", no_such_place)
    monkeypatch.setattr(deformable, "sample", as_on_cuda)
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    yield
    torch.__future__.set_overwrite_module_params_on_conversion(before)


def as_on_cuda(maps: Tensor, where: Tensor) -> Tensor:
    """Where it must be deterministic."""
    return deformable.gathered(deformable._wide(maps), deformable._wide(where))


def moved(batch: Batch | None) -> Batch | None:
    """As ``data.prefetch.prefetched`` hands it over."""
    if batch is None:
        return None
    there = {name: getattr(batch, name) for name in ("images", "labels", "weights")}
    return batch._replace(**{name: value.to(DEVICE) for name, value in there.items() if value is not None})


def place(step: Any) -> None:
    """Every network and what else a step holds on the device, and its passes told so."""
    holders = [step, getattr(step, "student", None), getattr(step, "modes", None)]
    for passes in {id(h.passes): h.passes for h in holders if hasattr(h, "passes")}.values():
        passes.runtime = replace(passes.runtime, device=DEVICE)
    asked = [part for ingredient in getattr(step, "ingredients", ()) for part in (ingredient, distance(ingredient))]
    references = [part.reference for part in asked if hasattr(part, "reference")]
    for network in [*step.networks.values(), *getattr(step, "carried", {}).values(), *references]:
        network.to(DEVICE)
    running = getattr(getattr(step, "weights", None), "running", None)
    if running is not None:
        running.ring, running.total = running.ring.to(DEVICE), running.total.to(DEVICE)


def distance(ingredient: Any) -> Any:
    return getattr(ingredient, "distance", None)


@pytest.mark.parametrize(
    "name",
    [
        *TEACHERS,
        *CLOSE,
        "source only",
        "teacher, drawing",
        "two lanes",
        "second head",
        "vfm_uda",
        pytest.param("vfm_uda_plus", marks=pytest.mark.slow),
    ],
)
def test_nothing_of_the_host_meets_the_device_and_no_number_is_asked_for(name: str) -> None:
    step = step_of(name)
    place(step)
    batches = [Pair(moved(pair.source), moved(pair.target)) for pair in micro(name, 1, 1)]  # type: ignore[arg-type]
    losses = step.take(batches, step.prepare(batches))
    assert losses and {value.device for value in losses.values()} == {DEVICE}
    grads = [p.grad for network in step.networks.values() for p in network.parameters() if p.requires_grad]
    assert all(grad is not None and grad.device == DEVICE for grad in grads)


def test_that_test_can_fail() -> None:
    there: Tensor = torch.ones(3, device=DEVICE)
    for work in (lambda: there + torch.ones(3), lambda: there.sum().item(), lambda: there.nonzero(), there.tolist):
        with pytest.raises((RuntimeError, NotImplementedError)):
            work()
