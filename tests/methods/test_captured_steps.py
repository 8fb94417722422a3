"""Every method's step under a graph that replays what it was captured with: nothing of the host's may be left in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from esl_dist import kernels
from esl_dist.config.schema import GuardConfig, OptimConfig
from esl_dist.config.teacher import MaskConfig, SelectConfig, TeacherConfig, TeacherLabelsConfig, published
from esl_dist.distributed import capture, collectives
from esl_dist.distributed.lanes import Lanes
from esl_dist.engine.device_step import FLAGS
from esl_dist.engine.optim import Adam, Poly, Recipe
from esl_dist.engine.step import Pair, Prepares
from esl_dist.engine.update import Updater
from esl_dist.methods.passes import Passes
from esl_dist.methods.supervised import Supervised
from esl_dist.methods.teacher.build import source_step
from esl_dist.models.adapter import deformable
from esl_dist.models.daformer import DaFormer
from esl_dist.models.mit import TINY
from tests.engine.graphs import Capturable, Replayed
from tests.methods import test_modes
from tests.methods.teacher import made, test_foundation
from tests.methods.test_overlap import Recorded, aligned
from tests.ranks import run_ranks

STEPS = 6
LABELS = TeacherLabelsConfig(tau=0.4)
TEACHERS = {
    "mix and mask": ("mic", TeacherConfig(labels=LABELS, mask=MaskConfig(images="both", block=16))),
    "selection": ("mic", TeacherConfig(labels=LABELS, select=SelectConfig("replace", window=6))),
    "student judges": ("mic", TeacherConfig(labels=LABELS, select=SelectConfig("with", window=6, of="student"))),
    "averaged buffers": ("vfm_uda", TeacherConfig(labels=LABELS)),
}


FOUNDATIONS = ("vfm_uda", "vfm_uda_plus")


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it must be deterministic, deformable attention reads by index there."""
    monkeypatch.setattr(
        deformable, "sample", lambda maps, where: deformable.gathered(deformable._wide(maps), deformable._wide(where))
    )


def drawing() -> DaFormer:
    """A network that drops paths and channels."""
    with torch.device("meta"):
        network = DaFormer(made.CLASSES, TINY, drop_path=0.3, channels=8)
    network.to_empty(device="cpu").initialise(5, "random")
    return network.freeze_statistics().train()


def step_of(name: str) -> Any:
    ranks = collectives.world()
    if name == "supervised, drawing":
        return Supervised(drawing(), Passes(made.runtime()), made.CLASSES)
    if name == "two resolutions":
        return made.build("mic", TeacherConfig(labels=LABELS), 2 * ranks, network=made.two_resolutions())
    if name == "supervised, two resolutions":
        return Supervised(made.two_resolutions(), Passes(made.runtime()), made.CLASSES)
    if name == "teacher, drawing":
        return made.build("mic", TeacherConfig(labels=LABELS), 2 * ranks, network=drawing())
    if name == "second head":
        return test_modes.build("everything", test_modes.runtime_of_this_process())
    if name == "two lanes":
        return aligned(Lanes(Recorded()))
    if name in FOUNDATIONS:
        return test_foundation.built(name, total=2 * ranks)
    if name == "source only":
        options = published("daformer", TeacherConfig(looks="vfm"))
        return source_step(options, made.segmenter(), Passes(made.runtime()), made.PROTOCOL, 3, 2 * ranks)
    return made.build(*TEACHERS[name], 2 * ranks)


def micro(name: str, step: int, number: int) -> list[Pair]:
    """Batches of a step, other images and positions in each."""
    ranks, rank = collectives.world(), collectives.rank()
    own = [2 * rank, 2 * rank + 1]
    if name == "second head":
        first = 2 * step * ranks * number
        return [test_modes.pair("everything", [first + 2 * ranks * i + j for j in own]) for i in range(number)]
    found = []
    for i in range(number):
        pair = made.pair([7 * step + j + i for j in own], 0, 0)
        positions = tuple(step * 2 * ranks * number + i * 2 * ranks + j for j in own)
        found.append(Pair(pair.source._replace(positions=positions), pair.target._replace(positions=positions)))
    return found


def updater(name: str, graphs: Replayed | None) -> Updater:
    step = step_of(name)
    beside = [network for network in step.networks if network != "segmenter"]
    adam = Adam.of(OptimConfig())
    recipe = Recipe({"segmenter": Adam(1e-4), **dict.fromkeys(beside, adam)}, Poly(100))
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    updating = Updater(step, recipe, GuardConfig(), scaler, capture_as="it" if graphs else "")
    updating.deferred = True
    if updating.device_step.captured and graphs:
        updating.device_step.captured._graphs = graphs
        updating.device_step.captured._warm = 2
    return updating


def trained(name: str, captured: bool, number: int) -> tuple[list[dict[str, str]], dict[str, Tensor], int, str]:
    graphs = Replayed({}) if captured else None
    training = updater(name, graphs)
    losses = []
    for index in range(STEPS):
        found, _ = training.step(index, micro(name, index, number))
        losses.append({key: repr(float(value)) for key, value in found.items()})  # NaN is NaN
        if graphs is not None:
            graphs.shape = {**found, FLAGS: torch.zeros(3, dtype=torch.int64)}
    training.settle()
    state = dict(training.networks().state_dict())
    if hasattr(training.train_step, "memory"):
        state |= training.train_step.memory()
    refused = training.device_step.captured.refused if training.device_step.captured else ""
    return losses, state, graphs.replays if graphs else 0, refused


@pytest.mark.parametrize(
    "name", ["mix and mask", "selection", "two resolutions", "vfm_uda_plus", "second head", "source only"]
)
def test_nothing_that_is_drawn_before_a_step_waits_either(name: str) -> None:
    """It runs eagerly, so what a graph cannot hold would work: and the host would wait in every step."""
    step = step_of(name)
    made_of = micro(name, 1, 2)
    with Capturable():
        step.prepare(made_of)


CLOSE = ("two resolutions", "supervised, two resolutions")
NAMES = (
    *TEACHERS,
    *CLOSE,
    "vfm_uda",
    pytest.param("vfm_uda_plus", marks=pytest.mark.slow),
    "source only",
    "two lanes",
    "teacher, drawing",
    "supervised, drawing",
    "second head",
)


@pytest.mark.parametrize("name", NAMES)
def test_replayed_it_has_the_bits_of_the_eager_step(name: str) -> None:
    number = 2 if name in ("selection", "second head", "two lanes", "two resolutions") else 1
    losses, state, replays, refused = trained(name, True, number)
    expected, wanted, _, _ = trained(name, False, number)
    assert not refused and replays == STEPS - 3, "two warm steps, after one that makes the optimisers' state"
    assert losses == expected and state.keys() == wanted.keys()
    differing = [key for key, value in state.items() if not torch.equal(value, wanted[key])]
    assert not differing


RANKED = ("mix and mask", "second head", "two resolutions", "two lanes")


def figures() -> list[Any]:
    """Of a rank, by case, captured and eager: losses, a sum of the weights, replays, why not."""
    found = []
    for name in RANKED:
        for captured in (True, False):
            losses, state, replays, refused = trained(name, captured, 1)
            found.append([losses, sum(float(value.double().sum()) for value in state.values()), replays, refused])
    return found


def test_two_ranks_replay_their_collectives() -> None:
    for rank in run_ranks(2, f"{__name__}:figures"):
        assert len(rank) == 2 * len(RANKED)
        for captured, eager in zip(rank[::2], rank[1::2], strict=True):
            assert captured[3] == "" and captured[2] == STEPS - 3
            assert captured[:2] == eager[:2]


def test_kernels_are_used_in_steps_that_the_device_takes_alone_and_nowhere_else() -> None:
    step = step_of("supervised, drawing")
    seen: list[frozenset[str]] = []
    take = step.take

    def watched(micro: Sequence[Pair], prepared: Any) -> Any:
        seen.append(kernels.chosen())
        return take(micro, prepared)

    step.take = watched
    graphs = Replayed({})
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    recipe = Recipe({"segmenter": Adam(1e-4)}, Poly(100))
    training = Updater(step, recipe, GuardConfig(), scaler, capture_as="it", kernels=frozenset({"norm"}))
    training.deferred = True
    captured = training.device_step.captured
    assert captured is not None
    captured._graphs, captured._warm = graphs, 1
    with kernels.using(()):
        for index in range(4):
            found, _ = training.step(index, micro("supervised, drawing", index, 1))
            graphs.shape = {**found, FLAGS: torch.zeros(3, dtype=torch.int64)}
    # The first makes the optimiser's state; one warms; one is captured, and compared with its eager twin.
    assert seen == [frozenset(), *[frozenset({"norm"})] * 4] and graphs.replays == 2 and not captured.refused


def test_what_a_graph_cannot_hold_is_noticed() -> None:
    x = torch.arange(4.0)
    for work in (lambda: x.sum().item(), lambda: x[x > 1], lambda: torch.bincount(x.long()), lambda: x.nonzero()):
        with pytest.raises(RuntimeError, match="makes the host wait"), Capturable():
            work()  # type: ignore[no-untyped-call]
    with Capturable():
        x[x.long()]
        torch.zeros(4).scatter_add_(0, x.long(), x)


def test_what_waits_for_strides_or_has_no_order_on_cuda_is_noticed() -> None:
    """The gradient of a gather scatters; of a gather of indices nothing flows."""
    x = torch.randn(2, 3, requires_grad=True)
    index = torch.tensor([[0], [2]])
    with pytest.raises(RuntimeError, match="scatter_add in 2 dimensions makes the host wait"), Capturable():
        x.gather(1, index).sum().backward()
    with pytest.raises(RuntimeError, match="cumsum has no deterministic form"), Capturable():
        x.detach().cumsum(1)
    with Capturable():
        x[torch.arange(2), index[:, 0]].sum().backward()
        index.cumsum(0)


def test_why_a_teachers_step_is_not_captured_is_said() -> None:
    runtime = made.runtime().__class__(0, 1, 0, 1, torch.device("cuda", 0), "bf16", 1, 1, True, 100)
    plain = step_of("mix and mask")
    assert isinstance(plain, Prepares)
    assert "a teacher's step (run.capture=on tries it)" in capture.obstacle("auto", runtime, plain)
    assert capture.obstacle("on", runtime, plain) == ""
    own = TeacherConfig(labels=LABELS, ingredients=("tests.methods.teacher.test_parity_ddp:flat", "mask"))
    assert "flat may decide on the host" in capture.obstacle("on", runtime, made.build("teacher", own, 2))
    close = made.build("mic", TeacherConfig(labels=LABELS), 2, network=made.two_resolutions())
    assert capture.obstacle("on", runtime, close) == ""
    close.student.segmenter.host_work = "it asks a server"  # type: ignore[assignment]
    assert capture.obstacle("on", runtime, close) == "it asks a server"
