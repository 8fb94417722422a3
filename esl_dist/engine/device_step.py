"""A whole optimiser step that the device can take by itself: gradients, agreement, clipping, update, average.

The host sends a few numbers and waits for nothing. Whether the step is taken, the device decides from the ranks'
agreement: fused optimisers leave weights and state as they were if it says no, and so does the average. That is what
can be captured in a graph (``distributed.capture``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from esl_dist import kernels
from esl_dist.distributed import collectives, ddp
from esl_dist.distributed.capture import WARM, WARM_OF_RANKS, Captured, Outcome
from esl_dist.engine.ema import Ema
from esl_dist.engine.optim import Optimizers
from esl_dist.engine.step import Carries, Changes, Losses, Pair, Prepares, TrainStep
from esl_dist.engine.values import HostValues
from esl_dist.monitor.profile import phase

FLAGS = "agreement/flags"
"""Among a step's figures, what the ranks agreed on."""
STOP, BAD, SHARE = 0, 1, 2
"""Places of the numbers that are sent, before the rates: wish to stop, bad samples, the average's share."""


@dataclass
class Parts:
    """What a step is made of; ``clip`` is the maximum gradient norm by the network's name."""

    train_step: TrainStep
    optimizers: Optimizers
    clip: Mapping[str, float]
    ema: Ema | None

    @property
    def trained(self) -> dict[str, nn.Module]:
        return {name: ddp.inner(network) for name, network in self.train_step.networks.items()}

    def prepared(self, micro: Sequence[Pair]) -> Any:
        """What the host makes for a step before the device takes it; None of a step without such."""
        step = self.train_step
        return step.prepare(micro) if isinstance(step, Prepares) else None

    def gradients(self, micro: Sequence[Pair], prepared: Any) -> Losses:
        step = self.train_step
        return step.take(micro, prepared) if isinstance(step, Prepares) else step.step(micro)

    def zero(self) -> None:
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()  # to None, which is what torch's does without an argument and apex's takes none

    def not_finite(self) -> Tensor:
        """Boolean, 0-dim: some gradient of this rank is NaN or infinite."""
        grads = [p.grad for network in self.trained.values() for p in network.parameters() if p.grad is not None]
        norms = torch._foreach_norm(grads, ord=float("inf"))
        return ~torch.isfinite(torch.stack([n.float() for n in norms]).sum())

    def clip_gradients(self) -> None:
        for name, norm in self.clip.items():
            network = ddp.inner(self.train_step.networks[name])
            nn.utils.clip_grad_norm_([p for p in network.parameters() if p.grad is not None], norm)

    def state(self) -> list[Tensor]:
        """Every tensor that a step changes in place."""
        networks = [*self.trained.values(), *([self.ema.network] if self.ema else [])]
        if isinstance(self.train_step, Carries):
            networks += self.train_step.carried.values()
        found = [tensor.detach() for network in networks for tensor in (*network.parameters(), *network.buffers())]
        if isinstance(self.train_step, Changes):
            found += self.train_step.changed()
        for optimizer in self.optimizers.values():
            for state in optimizer.state.values():
                found += [value for value in state.values() if isinstance(value, Tensor)]
        return found


class DeviceStep:
    """Takes a step; captured, where ``capture_as`` (the stage's title) is given.

    Args:
        halts: a step that is not finite ends the training, so none after it is taken either, whenever the host looks.
        chosen: kernels of our own that it uses (see ``esl_dist.kernels``).
    """

    def __init__(
        self, parts: Parts, device: torch.device, halts: bool, capture_as: str = "", chosen: Iterable[str] = ()
    ) -> None:
        self._kernels = frozenset(chosen)
        self._parts, self._halts = parts, halts
        self._groups = [group for optimizer in parts.optimizers.values() for group in optimizer.param_groups]
        self._values = HostValues(SHARE + 1 + len(self._groups), device)
        self._halted = torch.zeros((), dtype=torch.bool, device=device)
        self.captured: Captured | None = None
        if capture_as:
            warm = WARM if collectives.world() == 1 else WARM_OF_RANKS
            self.captured = Captured(self._work, self._state, f"{capture_as}: the step", warm=warm, agree=_all)

    def __call__(self, micro: Sequence[Pair], stop: bool, bad: int, share: float) -> tuple[Tensor, Losses]:
        """What all ranks agreed on, int64 ``[3]`` (not finite, stops, bad samples), and this rank's losses, on the
        device.

        Args:
            share: of the new weights in the average, where there is one.
        """
        self._values.send([float(stop), float(bad), share, *(float(group["lr"]) for group in self._groups)])
        batches = (list(micro), self._parts.prepared(micro))
        outcome = self.captured(batches) if self.captured else self._work(batches)
        return outcome.pop(FLAGS), outcome

    def _state(self) -> list[Tensor]:
        return [*self._parts.state(), self._halted]

    def _work(self, batches: tuple[Sequence[Pair], Any]) -> Outcome:
        with kernels.using(self._kernels):
            self._parts.zero()
            losses = self._parts.gradients(*batches)
            flags = self._agree()
            self._update(flags)
        return {**losses, FLAGS: flags}

    @phase("all-reduce")
    def _agree(self) -> Tensor:
        """One small all-reduce, so that no rank steps, stops or gives up alone."""
        values = self._values.values
        own = (self._parts.not_finite(), values[STOP], values[BAD])
        return collectives.all_reduce_(torch.stack([value.to(torch.int64) for value in own]))

    def _update(self, flags: Tensor) -> None:
        refused = flags[0] > 0
        if self._halts:
            refused = self._halted.logical_or_(refused)
        self._parts.clip_gradients()
        with phase("optimiser"), self._rates_on_the_device():
            for optimizer in self._parts.optimizers.values():
                optimizer.found_inf = refused.float()  # type: ignore[attr-defined]
                optimizer.step()
                del optimizer.found_inf  # type: ignore[attr-defined]
        if self._parts.ema:
            self._parts.ema.update_by(self._values.values[SHARE] * ~refused, refused)

    @contextlib.contextmanager
    def _rates_on_the_device(self) -> Iterator[None]:
        """Inside, every group's rate is the number that was sent; a checkpoint and the log see the host's."""
        before: list[dict[str, Any]] = []
        capturing = self._values.all.is_cuda and torch.cuda.is_current_stream_capturing()
        for group, rate in zip(self._groups, self._values.values[SHARE + 1 :], strict=True):
            before.append({key: group[key] for key in ("lr", "capturable") if key in group})
            group["lr"] = rate
            if "capturable" in group:  # the fused Adam always is; torch asks for the word
                group["capturable"] = capturing
        try:
            yield
        finally:
            for group, old in zip(self._groups, before, strict=True):
                group.update(old)


def _all(well: bool) -> bool:
    """Whether all ranks are well."""
    return collectives.all_max(int(not well)) == 0
