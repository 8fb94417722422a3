"""Ranks of a machine read one copy of a frozen network; what they compute with it does not change."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from esl_dist.distributed import collectives, frozen
from esl_dist.distributed.frozen import once_per_machine
from esl_dist.distributed.runtime import Runtime
from tests.ranks import run_ranks


def network() -> nn.Module:
    """Weights in channels-last order and plain, a scalar, a half, and a NaN."""
    torch.manual_seed(3)
    made = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    made.register_buffer("halved", torch.randn(7).bfloat16())
    made.register_buffer("strange", torch.tensor([1.0, float("nan")]))
    return made.eval().requires_grad_(False)


def runtime(local_world: int = 2) -> Runtime:
    rank, world = collectives.rank(), collectives.world()
    return Runtime(rank, world, rank % local_world, local_world, torch.device("cpu"), "fp32", 1, 1, True, 100)


def homes(module: nn.Module) -> set[tuple[str, str]]:
    """(path, inode) of the mappings that the weights and buffers lie in; empty names: this rank's own memory."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    spans = [([int(end, 16) for end in words[0].split("-")], words[4], " ".join(words[5:])) for words in lines]
    found = set()
    for entry in (*module.parameters(), *module.buffers()):
        name, inode = next((name, inode) for (a, b), inode, name in spans if a <= entry.data_ptr() < b)
        found.add((name if "memfd" in name else "", inode if "memfd" in name else ""))
    return found


def shared(local_world: int = 2) -> dict[str, Any]:
    once_per_machine(made := network(), runtime(local_world))
    own = network()
    images = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    entries = list(zip(made.state_dict().items(), own.state_dict().values(), strict=True))
    return {
        "homes": sorted(homes(made)),
        "alike": all(torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for (_, a), b in entries),
        "strides": all(a.stride() == b.stride() and a.dtype == b.dtype for (_, a), b in entries),
        "output": made(images).flatten().tolist() == own(images).flatten().tolist(),
        "copied": torch.equal(copy.deepcopy(made)[0].weight, own[0].weight),  # type: ignore[index,union-attr,operator]
    }


def test_two_ranks_of_a_machine_read_one_copy() -> None:
    first, second = run_ranks(2, "tests.distributed.test_frozen:shared")
    assert first == second and len(first["homes"]) == 1
    assert re.match(r"/memfd:frozen", first["homes"][0][0])
    assert first["alike"] and first["strides"] and first["output"] and first["copied"]


def each_its_own() -> dict[str, Any]:
    return shared(1)


def test_machines_have_a_copy_each() -> None:
    first, second = run_ranks(2, "tests.distributed.test_frozen:each_its_own")
    assert first["homes"] != second["homes"] and len(first["homes"]) == len(second["homes"]) == 1
    assert first["alike"] and second["alike"]


def other_weights() -> str:
    made = network()
    if collectives.rank() == 1:
        made[0].bias += 1  # type: ignore[index,union-attr,operator]
    with pytest.raises(ValueError) as caught:
        once_per_machine(made, runtime())
    return str(caught.value)


def test_another_network_on_a_rank_is_said_on_all() -> None:
    for said in run_ranks(2, "tests.distributed.test_frozen:other_weights"):
        assert said == "rank 1: 0.bias of the frozen network is another on this rank than on the first of its machine"


def nothing_to_share() -> list[Any]:
    def refuse(name: str) -> int:
        raise OSError(12, "Cannot allocate memory")

    frozen.os.memfd_create = refuse  # type: ignore[assignment,attr-defined]
    said: list[str] = []
    frozen.log.info = lambda text, *values: said.append(text % values)  # type: ignore[method-assign,assignment]
    once_per_machine(made := network(), runtime())
    return [said, sorted(homes(made))]


def test_a_rank_without_memory_for_it_keeps_its_own_and_says_so() -> None:
    for said, where in run_ranks(2, "tests.distributed.test_frozen:nothing_to_share"):
        assert where == [["", ""]]
        assert said == [
            "A frozen network is held by each rank, not once per machine: [Errno 12] Cannot allocate memory"
        ]


def test_alone_nothing_changes() -> None:
    once_per_machine(made := network(), runtime(1))
    assert homes(made) == {("", "")}
