"""When a step is captured, what it is replayed on, and what happens where it cannot be; with graphs made of Python and,
on a GPU, with CUDA's.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from esl_dist.distributed import capture, collectives
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine import values
from esl_dist.errors import RunFailure


class Sample(NamedTuple):
    images: Tensor
    labels: Tensor | None
    names: tuple[str, ...] = ()


class Replayed:
    """A graph that calls its work again; like CUDA's it runs nothing when captured and writes its results to the same
    memory every time.
    """

    def __init__(self, wrong: float = 0.0, error: str = "") -> None:
        self.captures, self.replays, self.wrong, self.error = 0, 0, wrong, error

    def capture(self, work: Callable[[], capture.Outcome]) -> tuple[Callable[[], None], capture.Outcome]:
        if self.error:
            raise RuntimeError(self.error + "\nand more lines")
        self.captures += 1
        outcome = {"sum": torch.full((), float("nan")), "weight": torch.full((2,), float("nan"))}

        def replay() -> None:
            self.replays += 1
            for name, value in work().items():
                outcome[name].copy_(value + self.wrong)

        return replay, outcome


class Step:
    """Adds the mean of its images to a weight."""

    def __init__(self) -> None:
        self.weight, self.calls = torch.zeros(2), 0

    def __call__(self, batches: list[Sample]) -> capture.Outcome:
        self.calls += 1
        total = torch.stack([batch.images.mean() for batch in batches]).sum()
        self.weight += total
        return {"sum": total, "weight": self.weight * 2}

    def state(self) -> list[Tensor]:
        return [self.weight]


def batches(step: int, size: int = 4) -> list[Sample]:
    return [Sample(torch.full((size,), float(step)), None, tuple("x" * (step % 3)))]


def run(
    graphs: Replayed, steps: int = 8, sizes: tuple[int, ...] = (4,)
) -> tuple[Step, capture.Captured, list[capture.Outcome]]:
    step = Step()
    captured = capture.Captured(step, step.state, "stage", graphs, warm=2)
    return step, captured, [captured(batches(i, sizes[i % len(sizes)])) for i in range(steps)]


def test_a_captured_step_follows_its_batches_and_its_results_stay() -> None:
    graphs = Replayed()
    step, captured, found = run(graphs)
    assert graphs.captures == 1 and graphs.replays == 6 and not captured.refused
    assert step.calls == 2 + 2 + 5  # two warm, the first captured one beside its eager twin, five replays
    assert [float(outcome["sum"]) for outcome in found] == list(range(8))
    assert torch.equal(step.weight, torch.full((2,), 28.0)) and float(found[3]["weight"][0]) == 12.0


def test_every_shape_has_its_graph_and_its_own_warm_steps() -> None:
    graphs = Replayed()
    step, _, _ = run(graphs, 10, (4, 6))
    assert graphs.captures == 2 and torch.equal(step.weight, torch.full((2,), 45.0))


@pytest.mark.parametrize(
    ("graphs", "why"),
    [
        (Replayed(error="operation not permitted"), "cannot be captured (operation not permitted)"),
        (Replayed(wrong=1.0), "sum, weight"),
    ],
)
def test_what_cannot_be_captured_says_so_once_and_goes_on(
    graphs: Replayed, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "esl_dist"):
        step, captured, found = run(graphs)
    assert [float(outcome["sum"]) for outcome in found] == list(range(8)) and torch.equal(
        step.weight, torch.full((2,), 28.0)
    )
    assert len(caplog.messages) == 1 and why in caplog.messages[0] and captured.refused and graphs.replays <= 1


def test_a_step_that_does_not_survive_a_failed_capture_says_what_to_do() -> None:
    """DDP refuses a forward after half a backward."""

    class Broken(Step):
        def __call__(self, batches: list[Sample]) -> capture.Outcome:
            if self.calls == 2:
                raise RuntimeError("Expected to have finished reduction in the prior iteration\nand more")
            return super().__call__(batches)

    step = Broken()
    captured = capture.Captured(step, step.state, "stage", Replayed(error="operation not permitted"), warm=2)
    for i in range(2):
        captured(batches(i))
    with pytest.raises(
        RunFailure, match=r"stage cannot be captured \(operation not permitted\), and does not go on"
    ) as told:
        captured(batches(2))
    assert "(Expected to have finished reduction in the prior iteration); start again with run.capture=off" in str(
        told.value
    )


def test_a_state_that_differs_by_a_bit_is_noticed() -> None:
    step = Step()
    graphs = Replayed()
    hidden = torch.zeros(1)

    def state() -> list[Tensor]:
        hidden[0] = step.calls % 2  # other after the replay than after the eager step
        return [step.weight, hidden.clone()]

    captured = capture.Captured(step, state, "stage", graphs, warm=1)
    for i in range(3):
        captured(batches(i))
    assert "weights or state" in captured.refused


def test_numbers_from_the_host_stay_at_their_place() -> None:
    sent = values.HostValues(3, torch.device("cpu"))
    places = [value.data_ptr() for value in sent.values]
    for i in range(2 * values.DEPTH):
        sent.send([i, 0.5, -i])
        assert [float(value) for value in sent.values] == [i, 0.5, -i] and [
            value.data_ptr() for value in sent.values
        ] == places


@pytest.mark.parametrize("fails", [False, True])
def test_a_capture_leaves_stream_and_collector_as_they_were(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch does not come back from its own stream if the end of a capture fails: threads that score would then not
    wait for the forward.
    """
    streams, seen = ["default"], []

    class Graph:
        def replay(self) -> None: ...

        def pool(self) -> str:
            return "pool"

    @contextlib.contextmanager
    def capturing(graph: Graph, **how: object) -> Iterator[None]:
        seen.append((how["pool"], how["stream"]))
        streams.append("torch's own")
        yield
        if fails:
            raise RuntimeError("capture was invalidated")
        streams.pop()

    for name, value in {
        "CUDAGraph": Graph,
        "graph": capturing,
        "current_stream": lambda: streams[-1],
        "default_stream": lambda: "default",
        "set_stream": streams.append,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    collects = []
    graphs = capture.CudaGraphs()
    with pytest.raises(RuntimeError) if fails else contextlib.nullcontext():
        replay, _ = graphs.capture(lambda: collects.append(gc.isenabled()) or {})  # type: ignore[func-returns-value]
    assert streams[-1] == "default" and gc.isenabled() and collects == [False]
    if not fails:
        graphs.capture(dict)
        del replay
        graphs.capture(dict)
        assert seen == [(None, None), ("pool", None), (None, None)], "a pool is shared while one of its graphs lives"


def test_a_device_that_failed_does_not_hide_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def failed() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", failed)
    _, captured, _ = run(Replayed())
    monkeypatch.setattr(capture._Graph, "on_device", True)
    captured.release()
    assert not captured._made


def test_graphs_end_before_their_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL waits for every graph that holds a collective when its communicator is to end."""
    graphs = Replayed()
    _, captured, _ = run(graphs)
    held: list[int] = []
    monkeypatch.setattr(collectives, "is_up", lambda: True)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: held.append(len(captured._made)))
    assert len(captured._made) == 1
    Runtime(0, 1, 0, 1, torch.device("cpu"), "fp32", 1, 1, True, 100).close()
    assert held == [0]
    assert float(captured(batches(3))["sum"]) == 3.0 and graphs.captures == 2, "the shape is captured again"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu_a_captured_training_has_the_bits_of_the_eager_one() -> None:
    def train(steps: int, warm: int) -> list[Tensor]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 1, 3)).cuda()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, fused=True)
        rate = values.HostValues(1, torch.device("cuda"))
        for group in optimizer.param_groups:
            group["lr"] = rate.values[0]

        def work(found: list[Sample]) -> capture.Outcome:
            optimizer.zero_grad()
            loss = network(found[0].images).square().mean()
            loss.backward()
            optimizer.step()
            return {"loss": loss.detach()}

        def state() -> list[Tensor]:
            return [
                *network.parameters(),
                *network.buffers(),
                *(v for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor)),
            ]

        captured = capture.Captured(work, lambda: [t.detach() for t in state()], "stage", warm=warm)
        losses = []
        for i in range(steps):
            rate.send([0.1 / (i + 1)])
            losses.append(captured([Sample(torch.full((2, 3, 16, 16), i / 10, device="cuda"), None)])["loss"])
        assert not captured.refused
        return [*losses, *(t.detach() for t in state())]

    with capture.own_stream(torch.device("cuda")):
        eager, graphed = train(20, 20), train(20, 3)
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(eager, graphed, strict=True))
