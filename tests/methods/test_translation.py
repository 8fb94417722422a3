"""The translation stage, in float64: N ranks equal one process, earlier images included; one all-reduce per network and
step; the loss by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from esl_dist.config.schema import DataConfig, DeepLabV2Config, ModelConfig, TranslateConfig
from esl_dist.data.loader import Batch
from esl_dist.distributed import collectives, ddp
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.step import Pair
from esl_dist.methods.passes import Passes
from esl_dist.methods.translation.history import History
from esl_dist.methods.translation.step import SOURCE, TARGET, Translation
from esl_dist.models import build_segmenter, build_translation
from tests.ranks import run_ranks

SIDE, CLASSES = 32, 5
OPTIONS = TranslateConfig(blocks=1, width=4, discriminator_width=4, crop=SIDE, load=64, history=12)
STEPS = 3


def image(seed: int) -> Tensor:
    coarse = torch.randint(
        0, 256, (3, SIDE // 4, SIDE // 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )
    return coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)


def batch(positions: Sequence[int], first: int) -> Batch:
    return Batch(
        torch.stack([image(first + p) for p in positions]), None, torch.tensor(list(positions)), (), tuple(positions)
    )


def build(runtime: Runtime, lanes: Sequence[int], total: int, judged: bool = True) -> Translation:
    torch.manual_seed(0)
    made = [
        (generator.double(), discriminator.double())
        for generator, discriminator in (build_translation(OPTIONS, number) for number in range(2))
    ]
    generators: dict[str, nn.Module] = {
        domain: ddp.wrap(pair[0], runtime) for domain, pair in zip((TARGET, SOURCE), made, strict=True)
    }
    discriminators: dict[str, nn.Module] = {
        domain: ddp.wrap(pair[1], runtime) for domain, pair in zip((TARGET, SOURCE), made, strict=True)
    }
    history = {
        domain: History(lanes, total, OPTIONS.history, (3, SIDE, SIDE), seed, runtime.device)
        for seed, domain in enumerate((TARGET, SOURCE))
    }
    judge = None
    if judged:
        small = ModelConfig(deeplabv2=DeepLabV2Config(layers=(1, 1, 1, 1), width=8, init="kaiming"))
        data = DataConfig(mean=(104.0, 108.0, 112.0), scale=64.0)
        judge = build_segmenter(small, CLASSES, 0, data).double().eval().requires_grad_(False)
    return Translation(generators, discriminators, history, Passes(runtime), OPTIONS, judge)


def alone() -> Runtime:
    return Runtime(collectives.rank(), collectives.world(), 0, 1, torch.device("cpu"), "fp32", 1, 1, True, 100)


def trained(per_rank: int, total: int, out: str = "") -> tuple[dict[str, Tensor], dict[str, int]]:
    """Gradients after some steps of plain descent and the images remembered; all-reduces of each network."""
    runtime = alone()
    share = runtime.world * per_rank
    places = [[a * share + runtime.rank * per_rank + j for j in range(per_rank)] for a in range(total // share)]
    stage = build(runtime, [lane for lanes in places for lane in lanes], total)
    counts = _count_reductions(stage)
    for step in range(STEPS):
        for network in stage.networks.values():
            network.zero_grad(set_to_none=True)
        micro = [[step * total + lane for lane in lanes] for lanes in places]
        stage.step([Pair(batch(positions, 0), batch(positions, 1000)) for positions in micro])
        with torch.no_grad():
            for network in stage.networks.values():
                for parameter in network.parameters():
                    parameter -= 0.01 * parameter.grad
    found = {
        f"{name}.{key}": p.grad
        for name, network in stage.networks.items()
        for key, p in ddp.inner(network).named_parameters()
    }
    found |= {f"history {domain}": images for domain, images in stage.memory().items()}
    if out and runtime.rank == 0:
        torch.save(found, out)
    return found, counts


def _count_reductions(stage: Translation) -> dict[str, int]:
    counts = dict.fromkeys(stage.networks, 0)
    for name, network in stage.networks.items():
        if isinstance(network, DistributedDataParallel):
            network.register_comm_hook(name, _counting(counts))
    return counts


def _counting(counts: dict[str, int]) -> Callable[[str, Any], Any]:
    def hook(state, bucket):  # type: ignore[no-untyped-def]  # torch reads the annotations and takes its own class alone
        counts[state] += bucket.is_last()
        return allreduce_hook(None, bucket)

    return hook


def in_ranks(cases: list[list[int]], out: str) -> list[dict[str, int]]:
    return [trained(per_rank, total, f"{out}-{number}.pt")[1] for number, (per_rank, total) in enumerate(cases)]


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_equal_one_process(world: int, tmp_path: Path) -> None:
    """One and two images per rank, and two micro-batches of one; some steps, so that older images are shown."""
    cases = [(1, world), (2, 2 * world), (1, 2 * world)]
    counts = run_ranks(world, f"{__name__}:in_ranks", cases, str(tmp_path / "ranks"))
    assert counts == [[dict.fromkeys(("to_target", "to_source", "d_target", "d_source"), STEPS)] * len(cases)] * world
    for number, (per_rank, total) in enumerate(cases):
        expected, _ = trained(total, total)
        found = torch.load(tmp_path / f"ranks-{number}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            difference, scale = float((found[key] - value).abs().max()), max(float(value.abs().max()), 1.0)
            assert difference <= 1e-6 * scale, f"{per_rank} per rank of {total}: {key} differs by {difference:.1e}"
        assert (
            float(expected["to_target.1.weight"].abs().max()) > 1e-3
            and float(expected["history target"].abs().max()) > 0.01
        )


def test_the_loss_is_the_weighted_sum_of_its_parts() -> None:
    """The generators' gradient against one of the parts that the step reports, each from its own formula."""
    stage = build(alone(), [0], 1)
    pair = Pair(batch([0], 0), batch([0], 1000))
    losses = stage.step([pair])
    got = stage.generators[TARGET][1].weight.grad.clone()
    assert set(losses) == {
        f"{part}_{domain}"
        for part in ("adv", "cycle", "identity", "perceptual", "perceptual_cycle", "d")
        for domain in (SOURCE, TARGET)
    }

    again = build(alone(), [0], 1)
    to_t, to_s, d_t, d_s = (
        again.generators[TARGET],
        again.generators[SOURCE],
        again.discriminators[TARGET],
        again.discriminators[SOURCE],
    )
    s, t = (b.images.double() / 127.5 - 1 for b in pair if b is not None)

    def seen(x: Tensor) -> Tensor:
        assert again.judge is not None
        logits = again.judge(((x.flip(1) + 1) * 127.5 - torch.tensor([104.0, 108.0, 112.0]).view(1, 3, 1, 1)) / 64).main
        centred = logits - logits.mean((2, 3), keepdim=True)
        return centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()

    fake_t, fake_s = to_t(s), to_s(t)
    back_s, back_t = to_s(fake_t), to_t(fake_s)
    total = (d_t(fake_t) - 1).square().mean() + (d_s(fake_s) - 1).square().mean()
    total = (
        total
        + 10 * ((back_s - s).abs().mean() + (back_t - t).abs().mean())
        + 5 * ((to_t(t) - t).abs().mean() + (to_s(s) - s).abs().mean())
    )
    total = total + 0.1 * ((seen(fake_t) - seen(s)).square().mean() + (seen(fake_s) - seen(t)).square().mean())
    total = total + 1.0 * ((seen(back_s) - seen(s)).square().mean() + (seen(back_t) - seen(t)).square().mean())
    total.backward()
    torch.testing.assert_close(got, to_t[1].weight.grad, rtol=1e-9, atol=1e-12)
    assert float(losses["d_target"]) == pytest.approx(
        0.5 * float(((d_t(t) - 1).square().mean() + d_t(fake_t).square().mean()).detach()), rel=1e-5
    )


def test_without_a_judge_nothing_is_perceived() -> None:
    assert not [
        name
        for name in build(alone(), [0], 1, judged=False).step([Pair(batch([0], 0), batch([0], 1000))])
        if "perceptual" in name
    ]


def history(lanes: Sequence[int] = (0,), total: int = 1, size: int = 5) -> History:
    return History(lanes, total, size, (1, 1, 1), 3, torch.device("cpu"))


def shown(kept: History, positions: Sequence[int]) -> list[float]:
    return [float(kept.exchange(torch.full((1, 1, 1, 1), float(p)), [p])) for p in positions]


def test_history_shows_half_new_half_older_images() -> None:
    seen = shown(history(), range(4000))
    assert seen[:5] == [0, 1, 2, 3, 4]
    new = sum(value == position for position, value in enumerate(seen[5:], 5))
    assert 0.45 < new / len(seen[5:]) < 0.55 and all(value <= position for position, value in enumerate(seen))
    assert len(set(seen)) > 0.9 * len(seen) - 500  # an older image is shown once: it has left when it is
    assert shown(history(size=0), range(9)) == list(range(9))


def test_history_goes_on_from_what_was_gathered_and_lanes_may_move_between_ranks() -> None:
    whole = shown(history((0, 1), 2), range(40))
    first = history((0, 1), 2)
    shown(first, range(20))
    left, right = history((0,), 2), history((1,), 2)
    for part in (left, right):
        part.restore(first.gather())
    assert shown(left, range(20, 40, 2)) == whole[20::2] and shown(right, range(21, 40, 2)) == whole[21::2]
