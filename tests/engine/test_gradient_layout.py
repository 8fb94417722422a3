"""The bits of a step on three ranks do not depend on how many steps the wrapper has seen, or on which order gradients
come in.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

from esl_dist.models.deeplabv2 import DeepLabV2
from tests.ranks import run_ranks

WIDTH, LAYERS, STEPS = 256, 9, 4  # 2.3 MB: more than DDP's first bucket holds


def steps(wrapped_at: list[int], start: int = 0) -> list[str]:
    """SHA-256 of the weights after each of ``STEPS`` steps, with a new wrapper before the steps of ``wrapped_at`` (as
    after a resume).
    """
    from esl_dist.distributed import collectives, ddp
    from esl_dist.distributed.runtime import Runtime
    from esl_dist.engine import checkpoint

    runtime = Runtime(
        collectives.rank(), collectives.world(), 0, collectives.world(), torch.device("cpu"), "fp32", 1, 1, True, 60
    )
    torch.manual_seed(3)
    network: nn.Module = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))
    found = []
    for step in range(STEPS):
        if step in wrapped_at:
            wrapped = ddp.wrap(copy.deepcopy(network), runtime)
            network = ddp.inner(wrapped)
            assert all(parameter.grad is None for parameter in network.parameters())
        images = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(10 * step + runtime.rank))
        wrapped(images).square().mean().backward()
        with torch.no_grad():
            for parameter in network.parameters():
                assert parameter.grad is not None
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
        found.append(checkpoint.weights_sha256(network.state_dict()))
    return found


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_new_wrapper_takes_the_same_steps(ranks: int) -> None:
    straight, resumed = (run_ranks(ranks, "tests.engine.test_gradient_layout:steps", at) for at in ([0], [0, 1, 3]))
    assert straight == resumed
    assert all(rank == straight[0] for rank in straight) and len(set(straight[0])) == STEPS


def layers_in_backward(network: DeepLabV2) -> list[str]:
    """Top-level modules in the order in which their first gradients come."""
    came: list[str] = []

    def note(layer: str) -> Callable[[torch.Tensor], None]:
        return lambda grad: came.append(layer)

    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            parameter.register_hook(note(name.partition(".")[0]))
    outputs = network(torch.randn(1, 3, 33, 33))
    (outputs.main.sum() + (0 if outputs.aux is None else outputs.aux.sum())).backward()
    return list(dict.fromkeys(came))


@pytest.mark.parametrize("multi_level", [True, False])
def test_the_order_of_the_forward_is_that_of_the_backward_reversed(multi_level: bool) -> None:
    network = DeepLabV2(3, (1, 1, 1, 1), width=4, multi_level=multi_level)
    names = {id(parameter): name.partition(".")[0] for name, parameter in network.named_parameters()}
    order = list(network.forward_order())
    assert sorted(map(id, order)) == sorted(names)
    trained = dict.fromkeys(names[id(parameter)] for parameter in order if parameter.requires_grad)
    assert layers_in_backward(network) == list(reversed(trained))


def complaints() -> list[str]:
    """What torch warns of in wrapping a channels-last network with 1x1 kernels and in two steps of it."""
    from esl_dist.distributed import collectives, ddp
    from esl_dist.distributed.runtime import Runtime

    world, device = collectives.world(), torch.device("cpu")
    runtime = Runtime(collectives.rank(), world, 0, world, device, "fp32", 1, 1, True, 60)
    torch.set_warn_always(True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network = ddp.wrap(runtime.place(DeepLabV2(3, (1, 1, 1, 1), width=4)), runtime)
        for _ in range(2):
            outputs = network(torch.randn(1, 3, 33, 33).contiguous(memory_format=torch.channels_last))
            (outputs.main.sum() + outputs.aux.sum()).backward()
            network.zero_grad(set_to_none=True)
    return [str(warning.message) for warning in caught]


def test_no_gradient_lies_otherwise_than_its_bucket() -> None:
    assert [text for rank in run_ranks(2, "tests.engine.test_gradient_layout:complaints") for text in rank] == []
