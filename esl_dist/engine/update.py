"""One optimiser step around a method's gradients: rate, zero, finite check, clip, update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from esl_dist.config.schema import GuardConfig
from esl_dist.distributed import collectives, ddp
from esl_dist.engine.device_step import DeviceStep, Parts
from esl_dist.engine.ema import Ema
from esl_dist.engine.optim import Optimizers, Recipe, set_rate
from esl_dist.engine.step import Carries, Losses, Pair, TrainStep
from esl_dist.errors import RunFailure
from esl_dist.monitor.profile import phase


class Status(NamedTuple):
    """What the ranks agree on about a step, from one all-reduce of three integers."""

    taken: bool
    """Every gradient on every rank is finite, so the step was taken."""
    stop: bool
    """A signal reached some rank."""
    bad_samples: int
    """Unreadable samples that all ranks together replaced in this step."""

    def also(self, other: Status) -> Status:
        """Of both steps."""
        return Status(self.taken and other.taken, self.stop or other.stop, self.bad_samples + other.bad_samples)


NOTHING = Status(True, False, 0)
FUSED = torch.optim.SGD | torch.optim.Adam | torch.optim.AdamW
"""Optimisers whose fused kernels can be told on the device to change nothing."""


@dataclass
class PendingResult:
    """What the ranks agreed on in step ``index``, on its way to the host."""

    index: int
    losses: Losses
    flags: Tensor
    """int64 ``[3]``, reduced over the ranks: ranks whose gradients are not finite, ranks that wish to stop, bad
    samples.
    """

    def __post_init__(self) -> None:
        self._ready: torch.cuda.Event | None = None
        if self.flags.is_cuda:
            self.flags = torch.empty(3, dtype=torch.int64, pin_memory=True).copy_(self.flags, non_blocking=True)
            self._ready = torch.cuda.Event()
            self._ready.record()

    def read(self) -> Status:
        """Waits for the device to have come so far, not for what it was given since."""
        if self._ready is not None:
            self._ready.synchronize()
        not_finite, stops, bad = self.flags.tolist()
        return Status(not_finite == 0, stops > 0, bad)


@dataclass
class Updater:
    """Applies a stage's gradients. State: the optimisers, the fp16 scaler, the count of refused steps and the networks
    with their average.

    On a GPU the host does not wait for the result of a step: the device takes the whole step by itself
    (``engine.device_step``), and leaves weights and state as they were if any rank's gradients are not finite. The host
    reads the result in the step after; where it ends the training, no step after it is taken either, so an error comes
    up to one step late and finds the state of its step. Optimisers that are not torch's fused ones, and fp16, wait.
    """

    train_step: TrainStep
    recipe: Recipe
    guard: GuardConfig
    scaler: torch.amp.GradScaler
    capture_as: str = ""
    """Title of the stage, if its steps are to be captured where they can be."""
    kernels: frozenset[str] = frozenset()
    """Of our own, that steps use which the device takes by itself."""
    optimizers: Optimizers = field(init=False)
    ema: Ema | None = field(init=False)
    skipped_in_a_row: int = 0
    deferred: bool = field(init=False)
    """Whether results are read in the step after."""

    def __post_init__(self) -> None:
        trained = {name: ddp.inner(network) for name, network in self.train_step.networks.items()}
        self.optimizers = self.recipe.build(trained)
        average = self.recipe.average
        self.ema = Ema(trained[average.of], average.decay) if average else None
        self._pending: PendingResult | None = None
        self._device = next(parameter.device for network in trained.values() for parameter in network.parameters())
        fused = all(isinstance(o, FUSED) and o.defaults["fused"] for o in self.optimizers.values())
        self.parts = Parts(self.train_step, self.optimizers, self.recipe.clip, self.ema)
        self.device_step = DeviceStep(
            self.parts, self._device, self.guard.non_finite == "stop", self.capture_as, self.kernels
        )
        self.deferred = self._device.type == "cuda" and fused and not self.scaler.is_enabled()

    def networks(self) -> nn.ModuleDict:
        """Every network by its name in a checkpoint, unwrapped: those that train and those that are carried.

        Where weights are averaged the average stands under the network's own name, and the one that trains beside it.
        """
        networks = {name: ddp.inner(network) for name, network in self.train_step.networks.items()}
        if isinstance(self.train_step, Carries):
            networks |= self.train_step.carried
        if self.ema and self.recipe.average:
            networks |= {self.recipe.average.of: self.ema.network, self.recipe.average.student: self.ema.student}
        return nn.ModuleDict(networks)

    def step(self, index: int, micro: Sequence[Pair], stop: bool = False) -> tuple[Losses, Status]:
        """Optimiser step ``index`` (0-based). Returns this rank's losses and what all ranks agreed on, of the step
        before where deferred.

        ``stop`` is this rank's own wish to stop after the step.

        Raises:
            RunFailure: gradients are not finite and ``guard.non_finite`` says stop, or too many steps in a row were
                refused.
        """
        set_rate(self.optimizers, self.recipe.schedule(index))
        bad = sum(len(batch.bad) for pair in micro for batch in pair if batch is not None)
        # A fused SGD makes its first momentum without looking at the result, so there has to be one already.
        if self.deferred and all(optimizer.state for optimizer in self.optimizers.values()):
            flags, losses = self.device_step(micro, stop, bad, self.ema.share(index) if self.ema else 0.0)
            before = self.settle()
            self._pending = PendingResult(index, losses, flags)
            return losses, before
        self.parts.zero()
        losses = self.train_step.step(micro)
        for optimizer in self.optimizers.values():
            self.scaler.unscale_(optimizer)
        before = self.settle()
        self._pending = PendingResult(index, losses, self._agree(stop, bad))
        status = self.settle()
        if status.taken:
            self._update(index)
        return losses, before.also(status)

    def settle(self) -> Status:
        """Reads the result that is pending, if there is one; all ranks must ask. Raises as ``step`` does."""
        pending, self._pending = self._pending, None
        if pending is None:
            return NOTHING
        status = pending.read()
        if status.taken:
            self.skipped_in_a_row = 0
        else:
            self._refuse(pending.index, pending.losses)
        return status

    def _update(self, index: int) -> None:
        self.parts.clip_gradients()
        with phase("optimiser"):
            for optimizer in self.optimizers.values():
                self.scaler.step(optimizer)
        self.scaler.update()
        if self.ema:
            self.ema.update(index)

    @phase("all-reduce")
    def _agree(self, stop: bool, bad: int) -> Tensor:
        """One small all-reduce, so that no rank steps, stops or gives up alone; a ``PendingResult``'s flags, on
        the device.
        """
        own = torch.tensor([0, stop, bad], dtype=torch.int64)
        flags = own.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else own
        flags[0] = self.parts.not_finite()
        return collectives.all_reduce_(flags)

    def _refuse(self, index: int, losses: Losses) -> None:
        if self.scaler.is_enabled():
            # fp16 finds its loss scale by overflowing now and then: that is its normal working, bounded all the same.
            for optimizer in self.optimizers.values():
                self.scaler.step(optimizer)
            self.scaler.update()
        self.skipped_in_a_row += 1
        values = ", ".join(f"{name}={float(value):.4g}" for name, value in losses.items() if "/" not in name)
        if self.guard.non_finite == "stop" and not self.scaler.is_enabled():
            raise RunFailure(
                f"step {index}: a gradient is not finite ({values}); weights are as before the step. Lower optim.lr, or"
                " set guard.non_finite=skip"
            )
        if self.skipped_in_a_row > self.guard.max_skips:
            raise RunFailure(
                f"step {index}: {self.skipped_in_a_row} steps in a row without a finite gradient ({values}); lower"
                " optim.lr or run.precision=fp32"
            )

    def state(self) -> dict[str, Any]:
        return {
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "scaler": self.scaler.state_dict(),
            "skipped_in_a_row": self.skipped_in_a_row,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.skipped_in_a_row = int(state["skipped_in_a_row"])


def mean_losses(losses: Losses) -> dict[str, float]:
    """The losses averaged over ranks, as numbers, in one all-reduce (read at log time only)."""
    if not losses:
        return {}
    names = sorted(losses)
    stacked = torch.stack([losses[name].double() for name in names]).cpu()
    collectives.all_reduce_(stacked).div_(collectives.world())
    return dict(zip(names, stacked.tolist(), strict=True))
