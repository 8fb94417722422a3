"""One optimiser step around a stage's gradients: rate, zero, finite check, clip, update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from esl_dist.config.cli import RunFailure
from esl_dist.config.schema import GuardConfig, OptimConfig
from esl_dist.distributed import collectives, ddp
from esl_dist.engine.ema import Ema
from esl_dist.engine.optim import Optimizers, build_optimizers, poly, set_rate, warm
from esl_dist.monitor.profile import phase
from esl_dist.stages.passes import Losses, Pair


class Stage(Protocol):
    """A training step: its networks (as wrapped, by checkpoint name) and the gradients of one optimiser step."""

    @property
    def networks(self) -> Mapping[str, nn.Module]: ...

    @property
    def needs_target(self) -> bool: ...

    def step(self, micro: Sequence[Pair]) -> Losses: ...


class Status(NamedTuple):
    """What the ranks agree on before the optimisers step, from one all-reduce of three integers."""

    taken: bool
    """Every gradient on every rank is finite, so the step was taken."""
    stop: bool
    """A signal reached some rank."""
    bad_samples: int
    """Unreadable samples that all ranks together replaced in this step."""


@runtime_checkable
class Remembers(Protocol):
    """A stage whose next step depends on more than its networks and its batches; both methods are called by all ranks."""

    def memory(self) -> dict[str, Tensor]: ...

    def recall(self, memory: Mapping[str, Tensor]) -> None: ...


@dataclass
class Updater:
    """Applies a stage's gradients. State: the optimisers, the fp16 scaler, the count of refused steps and the networks with their average."""

    stage: Stage
    config: OptimConfig
    guard: GuardConfig
    decay_steps: int
    scaler: torch.amp.GradScaler
    ema_decay: float = 0.0
    """Above 0, an average of the segmenter's weights is the stage's result."""
    hold: int = 0
    """Steps at the full rate before it decays."""
    optimizers: Optimizers = field(init=False)
    ema: Ema | None = field(init=False)
    skipped_in_a_row: int = 0

    def __post_init__(self) -> None:
        self.optimizers = build_optimizers(self.config, self.stage.networks)
        self.ema = Ema(self.stage.networks["segmenter"], self.ema_decay) if self.ema_decay else None

    def networks(self) -> nn.ModuleDict:
        """Every network by its name in a checkpoint, unwrapped.

        ``segmenter`` is the one to use; where weights are averaged that is the average, and ``student`` the one that trains.
        """
        networks = {name: ddp.inner(network) for name, network in self.stage.networks.items()}
        if self.ema:
            networks |= {"segmenter": self.ema.network, "student": self.ema.student}
        return nn.ModuleDict(networks)

    def step(self, index: int, micro: Sequence[Pair], stop: bool = False) -> tuple[Losses, Status]:
        """Optimiser step ``index`` (0-based). Returns this rank's losses and what all ranks agreed on.

        ``stop`` is this rank's own wish to stop after the step.

        Raises:
            RunFailure: gradients are not finite and ``guard.non_finite`` says stop, or too many steps in a row were refused.
        """
        set_rate(self.optimizers, poly(max(index - self.hold, 0), self.decay_steps - self.hold, self.config.power) * warm(index, self.config.warmup))
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()  # to None, which is what torch's does without an argument and apex's takes none
        losses = self.stage.step(micro)
        for optimizer in self.optimizers.values():
            self.scaler.unscale_(optimizer)
        status = self._agree(stop, sum(len(batch.bad) for pair in micro for batch in pair if batch is not None))
        if not status.taken:
            self._refuse(index, losses)
            return losses, status
        self.skipped_in_a_row = 0
        if self.config.clip:
            segmenter = ddp.inner(self.stage.networks["segmenter"])
            nn.utils.clip_grad_norm_([p for p in segmenter.parameters() if p.grad is not None], self.config.clip)
        with phase("optimiser"):
            for optimizer in self.optimizers.values():
                self.scaler.step(optimizer)
        self.scaler.update()
        if self.ema:
            self.ema.update(index)
        return losses, status

    @phase("all-reduce")
    def _agree(self, stop: bool, bad: int) -> Status:
        """One small all-reduce, so that no rank steps, stops or gives up alone."""
        grads = [p.grad for network in self.stage.networks.values() for p in ddp.inner(network).parameters() if p.grad is not None]
        norms = torch._foreach_norm(grads, ord=float("inf"))
        finite = bool(torch.isfinite(torch.stack([n.float() for n in norms]).sum()))
        not_finite, stops, bad = collectives.all_reduce_(torch.tensor([not finite, stop, bad], dtype=torch.int64)).tolist()
        return Status(not_finite == 0, stops > 0, bad)

    def _refuse(self, index: int, losses: Losses) -> None:
        if self.scaler.is_enabled():
            # fp16 finds its loss scale by overflowing now and then: that is its normal working, bounded all the same.
            for optimizer in self.optimizers.values():
                self.scaler.step(optimizer)
            self.scaler.update()
        self.skipped_in_a_row += 1
        values = ", ".join(f"{name}={float(value):.4g}" for name, value in losses.items() if "/" not in name)
        if self.guard.non_finite == "stop" and not self.scaler.is_enabled():
            raise RunFailure(f"step {index}: a gradient is not finite ({values}); weights are as before the step. Lower optim.lr, or set guard.non_finite=skip")
        if self.skipped_in_a_row > self.guard.max_skips:
            raise RunFailure(f"step {index}: {self.skipped_in_a_row} steps in a row without a finite gradient ({values}); lower optim.lr or run.precision=fp32")

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
