"""DRSL's second head in a step: ranks against one process, what is drawn, what is learnt, what is logged."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from esl_dist.config.load import load_config
from esl_dist.config.modes import MmdlConfig
from esl_dist.config.schema import AlignConfig
from esl_dist.data.loader import Batch
from esl_dist.data.pixels import on_grid
from esl_dist.distributed import collectives, ddp
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.step import Pair
from esl_dist.methods import stages
from esl_dist.methods.adaptation.modes import Modes
from esl_dist.methods.adaptation.objectives import build_objective
from esl_dist.methods.adaptation.step import Adaptation, SelfTraining
from esl_dist.methods.kit import Kit
from esl_dist.methods.passes import Passes, Prediction
from esl_dist.models import DeepLabV2, Discriminator
from esl_dist.models.mmdl import ModeHead, initialise
from esl_dist.models.normalisation import Normalisation
from esl_dist.models.segmenter import Outputs
from tests.methods.test_methods import events, train
from tests.methods.test_parity_ddp import CLASSES, batch, same
from tests.ranks import run_ranks

NAMES = tuple(f"class {c}" for c in range(CLASSES))
METRIC = MmdlConfig(weight=1.0, samples=24, pool=16, dim=8)
ALIGNED = MmdlConfig(weight=1.0, align_weight=0.7, samples=24, pool=16, dim=8)
EVERYTHING = MmdlConfig(weight=1.0, weight_target=0.5, align_weight=0.7, samples=80, pool=80, dim=8, modes=2)
# Name: the head's options, whether pseudo-labels are there, whether a discriminator learns beside it.
STAGES = {
    "source only": (METRIC, False, False),
    "aligned": (ALIGNED, False, True),
    "pseudo-labels": (MmdlConfig(weight=1.0, weight_target=0.5, samples=24, pool=16, dim=8), True, False),
    "everything": (EVERYTHING, True, True),
}


def runtime_of_this_process() -> Runtime:
    return Runtime(collectives.rank(), collectives.world(), 0, 1, torch.device("cpu"), "fp32", 1, 1, True, 100)


def build(name: str, runtime: Runtime) -> Adaptation:
    """The stage with small networks, batch norm frozen, drawn from one seed."""
    torch.manual_seed(0)
    config, labelled, adversarial = STAGES[name]
    network = DeepLabV2(CLASSES, layers=(1, 1, 1, 1), width=8).eval()
    network.normalisation = Normalisation("bgr", (104.0, 108.0, 112.0), (64.0, 64.0, 64.0))
    segmenter = ddp.wrap(network, runtime)
    passes = Passes(runtime)
    discriminators: dict[str, nn.Module] = (
        {"main": ddp.wrap(Discriminator(CLASSES, ndf=8), runtime)} if adversarial else {}
    )
    align = AlignConfig("advent" if adversarial else "none", weight=0.5, weight_aux=0.0)
    head = initialise(ModeHead(256, CLASSES, config.modes, config.dim), 3)
    modes = Modes(ddp.wrap(head, runtime), config, passes, NAMES, 1, network.output_size, learns_target=labelled)
    objective = build_objective(align.objective, align, True, discriminators)
    return Adaptation(segmenter, passes, CLASSES, objective, 0.1, SelfTraining(1.0, 0.1) if labelled else None, modes)


def placed(indices: Sequence[int], labelled: bool) -> Batch:
    return batch(list(indices), labelled)._replace(positions=tuple(indices))


def pair(name: str, own: Sequence[int]) -> Pair:
    return Pair(placed(own, True), placed([100 + i for i in own], STAGES[name][1]))


def results(cases: list[list[int]], out: str) -> bool:
    """Gradients, usage and figures of every stage for each case (images per rank and micro-batch, global batch), split
    over the ranks that there are.
    """
    runtime = runtime_of_this_process()
    found = []
    for per_rank, total in cases:
        share = runtime.world * per_rank
        starts = [a * share + runtime.rank * per_rank for a in range(total // share)]
        found.append(
            {
                name: after_two_steps(build(name, runtime), [pair(name, range(s, s + per_rank)) for s in starts])
                for name in STAGES
            }
        )
    if runtime.rank == 0:
        torch.save(found, out)
    return True


def after_two_steps(stage: Adaptation, micro: Sequence[Pair]) -> dict[str, torch.Tensor]:
    for _ in range(
        2
    ):  # the second step shows a reducer that the first left in a bad state, and sees the first one's usage
        for network in stage.networks.values():
            network.zero_grad(set_to_none=True)
        losses = stage.step(micro)
    grads = {
        f"{n}.{k}": p.grad
        for n, m in stage.networks.items()
        for k, p in ddp.inner(m).named_parameters()
        if p.grad is not None
    }
    assert {k for k in grads if k.startswith("mmdl.")} == {
        "mmdl.embedding.weight",
        "mmdl.embedding.bias",
        "mmdl.representatives",
    }
    used = {name: value for name, value in losses.items() if name.startswith("modes/entropy")}
    return {**grads, "usage": ddp.inner(stage.networks["mmdl"]).usage, **used}


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_equal_one_process(world: int, tmp_path: Path) -> None:
    """One and two images per rank, and two micro-batches of one image, against all images at once."""
    cases = [(1, world), (2, 2 * world), (1, 2 * world)]
    run_ranks(world, f"{__name__}:results", cases, str(tmp_path / "ranks.pt"))
    results([[total, total] for _, total in cases], str(tmp_path / "one.pt"))
    loaded = (torch.load(tmp_path / name, weights_only=True) for name in ("ranks.pt", "one.pt"))
    for (per_rank, total), ranks, one in zip(cases, *loaded, strict=True):
        for name, (config, _, _) in STAGES.items():
            if total == world * per_rank or not config.align_weight:  # the pool is a micro-batch's
                same(ranks[name], one[name], f"{name}, {per_rank} per rank of {total}")


class Street:
    """Two domains of feature maps, seen through one linear base: each of three classes is two blobs, the target's are
    turned and moved.
    """

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.centres = 2 * torch.randn(3, 2, 16, generator=generator)
        self.shift = 1.5 * torch.randn(16, generator=generator)
        self.base = nn.Linear(16, 16)
        nn.init.eye_(self.base.weight)
        nn.init.zeros_(self.base.bias)

    def pair(self, step: int) -> tuple[Pair, dict[str, torch.Tensor]]:
        """One image of each domain with labels, and the points behind its output grid."""
        generator = torch.Generator().manual_seed(100 + step)
        labels, points = [], {}
        for domain in ("source", "target"):
            label = torch.randint(0, 3, (1, 32, 64), generator=generator, dtype=torch.uint8)
            small = on_grid(label, (5, 9)).long()
            blob = torch.randint(0, 2, small.shape, generator=generator)
            noise = 0.5 * torch.randn(*small.shape, 16, generator=generator)
            points[domain] = self.centres[small, blob] + noise + (self.shift if domain == "target" else 0)
            labels.append(label)
        images = torch.zeros((1, 3, 32, 64), dtype=torch.uint8)
        source, target = (Batch(images, label, torch.tensor([step]), (), (step,)) for label in labels)
        return Pair(source, target), points

    def prediction(self, points: torch.Tensor) -> Prediction:
        features = self.base(points).permute(0, 3, 1, 2)
        return Prediction(Outputs(features, None), (32, 64), features)


def trained(config: MmdlConfig, steps: int = 150) -> list[dict[str, float]]:
    """Figures of every step."""
    street = Street()
    head = initialise(ModeHead(16, 3, config.modes, config.dim), 3)
    passes = Passes(runtime_of_this_process())
    grid = DeepLabV2(2, layers=(1, 1, 1, 1), width=4).output_size
    modes = Modes(head, config, passes, NAMES[:3], 1, grid, learns_target=True)
    optimizer = torch.optim.Adam([*head.parameters(), *street.base.parameters()], lr=0.01)
    found = []
    for step in range(steps):
        pair, points = street.pair(step)
        (drawn,) = modes.sample([pair], [modes.keys(pair)])
        loss, losses = modes.source_loss(street.prediction(points["source"]), drawn)
        more, parts = modes.target_loss(street.prediction(points["target"]), drawn)
        optimizer.zero_grad()
        (loss + more).backward()
        optimizer.step()
        found.append({name: float(value) for name, value in {**losses, **parts, **modes.finish([drawn])}.items()})
    return found


def last(figures: list[dict[str, float]], name: str) -> float:
    return sum(step[name] for step in figures[-20:]) / 20


def test_alignment_brings_the_domains_of_a_mode_together_and_leaves_the_modes_apart() -> None:
    small = MmdlConfig(weight=1.0, weight_target=1.0, modes=2, dim=8, samples=45, pool=45)
    plain, aligned = trained(small), trained(dataclasses.replace(small, align_weight=2.0))
    first = aligned[0]
    assert last(aligned, "modes/within") < 0.5 * last(plain, "modes/within") < first["modes/within"]
    assert last(aligned, "modes/between") > 0.9 * max(first["modes/between"], last(plain, "modes/between"))
    assert last(aligned, "mmdl_source") < 0.5 * first["mmdl_source"]


def test_every_mode_is_used_and_without_balance_some_class_keeps_one() -> None:
    small = MmdlConfig(weight=1.0, weight_target=1.0, modes=3, dim=8, samples=45, pool=45)
    names = [f"modes/entropy/{name}" for name in NAMES[:3]]
    balanced, free = trained(small)[-1], trained(dataclasses.replace(small, balance=0.0))[-1]
    assert min(balanced[name] for name in names) > 0.6
    assert min(free[name] for name in names) < 0.6


WORDS = [
    "run.stages=[initial,align,selftrain]",
    "align.steps=4",
    "mmdl.weight=0.1",
    "mmdl.weight_target=0.1",
    "mmdl.align_weight=0.1",
    "mmdl.samples=32",
    "mmdl.pool=32",
]


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_a_killed_stage_ends_with_the_same_bits(ranks: int, tmp_path: Path) -> None:
    """Killed after its second step: network, head, usage of modes and optimisers, in alignment and in self-training."""
    run = train(tmp_path, *WORDS, ranks=ranks)
    kept = {stage: run / stage / "checkpoints" / "step_00000004" for stage in ("align", "selftrain")}
    names = ("segmenter", "mmdl", "optim", "d_main")
    finished = {
        stage: {name: torch.load(path / f"{name}.pt", weights_only=True) for name in names}
        for stage, path in kept.items()
    }
    assert float(finished["selftrain"]["mmdl"]["usage"].sum()) > 0
    (run / "align" / "done.json").unlink()
    (run / "selftrain" / "done.json").unlink()
    for path in kept.values():
        shutil.rmtree(path)
    train(tmp_path, *WORDS, ranks=ranks)
    for stage, path in kept.items():
        for name in names:
            assert identical(torch.load(path / f"{name}.pt", weights_only=True), finished[stage][name]), (
                f"{stage} {name}"
            )
    logged = [event for event in events(run, "train") if event["stage"] == "selftrain"]
    assert {
        "loss/mmdl_source",
        "loss/mmdl_target_hinge",
        "loss/mode_alignment",
        "modes/within",
        "modes/between",
        "modes/entropy/road",
    } <= logged[-1].keys()


def identical(one: object, two: object) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and torch.equal(one, two)
    if isinstance(one, dict):
        return isinstance(two, dict) and one.keys() == two.keys() and all(identical(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return isinstance(two, list) and len(one) == len(two) and all(map(identical, one, two))
    return one == two


def test_the_control_has_no_head_and_a_stage_remembers_its_options_only_with_one() -> None:
    config = load_config("smoke.yaml", ["run.stages=[initial,align:bn,align,selftrain]", "mmdl.weight=0.1"])
    runtime = runtime_of_this_process()
    planned = {stage.name: stage for stage in stages(config)}
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    kit = Kit(config, runtime, scaler)
    networks = {name: list(stage.method.build(stage, kit).step.networks) for name, stage in planned.items()}
    assert networks["align"] == ["segmenter", "mmdl", "d_main", "d_aux"] and "mmdl" in networks["selftrain"]
    assert networks["align-bn"] == networks["initial"] == ["segmenter"]
    for words, present in (([], False), (["mmdl.weight=0.1"], True)):
        options = planned["align"].identity(load_config("smoke.yaml", words), "fp32", 1, {})
        assert ("mmdl.modes" in options) == present
    assert not any("mmdl.modes" in planned[name].identity(config, "fp32", 1, {}) for name in ("initial", "align-bn"))


@pytest.mark.slow
def test_modes_on_streets(tmp_path: Path) -> None:
    """A short self-training on the embedded pair: classes do not end with one mode each, and alignment does to the
    distances what it is for.

    Sixty steps are few for the head: its use of modes is on its way from one for all (0) to all alike (1).
    """
    figures = {}
    for weight in (0.0, 3.0):
        words = [
            "run.stages=[initial,selftrain]",
            "data.streets.size=[128,64]",
            "data.streets.source_train=60",
            "data.streets.target_train=60",
            "initial.steps=60",
        ]
        words += [
            "selftrain.steps=60",
            "optim.batch=2",
            "model.width=16",
            "run.log_every=10",
            "mmdl.samples=128",
            "mmdl.pool=128",
            f"mmdl.align_weight={weight}",
        ]
        words += [
            f"{key}=[128,64]" for key in ("data.source.size", "data.target.size", "extract.size", "eval.input_size")
        ]
        words += ["mmdl.weight=0.1", "mmdl.weight_target=0.1", "eval.split=''"]
        run = train(tmp_path / f"{weight}", *words)
        figures[weight] = [event for event in events(run, "train") if event["stage"] == "selftrain"]
    used = [value for name, value in figures[3.0][-1].items() if name.startswith("modes/entropy") and value is not None]
    assert len(used) >= 10 and sum(used) / len(used) > 0.3
    within, between = (
        {weight: sum(event[f"modes/{name}"] for event in logged[-3:]) / 3 for weight, logged in figures.items()}
        for name in ("within", "between")
    )
    assert within[3.0] < 0.93 * within[0.0] and between[3.0] > 0.93 * between[0.0]
