"""Optimiser recipes: which optimiser moves a network, in which groups, at which rates. A method names one per network.

A recipe is a frozen description; ``build`` makes torch's optimiser of it. Every group keeps its undecayed rate as
``base_lr``, and a schedule multiplies it step by step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from esl_dist.config.schema import OptimConfig
from esl_dist.engine import apex
from esl_dist.engine.published_sgd import PublishedSGD
from esl_dist.models.segmenter import ParameterGroup, Segmenter

Optimizers = dict[str, torch.optim.Optimizer]


class OptimiserRecipe(Protocol):
    """One network's."""

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of the (unwrapped) network's trainable parameters."""


@dataclass(frozen=True)
class Sgd:
    """SGD for a segmenter: its backbone at ``lr``, its heads at ``head_lr`` times that (AdaptSegNet, ADVENT, ESL)."""

    lr: float
    head_lr: float = 10.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    updates: str = "once"
    """``published`` repeats each parameter's update as often as the published code lists it."""
    backend: str = "auto"

    @classmethod
    def of(cls, optim: OptimConfig) -> Sgd:
        return cls(optim.lr, optim.head_lr, optim.momentum, optim.weight_decay, optim.updates, optim.backend)

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        assert isinstance(network, Segmenter)
        found = network.parameter_groups()
        if self.updates == "published":
            return PublishedSGD(self._published(found), self.lr, self.momentum, self.weight_decay)
        groups = [{"params": [p for _, p in group.parameters], **self._rate(group)} for group in found]
        if self.backend == "apex":
            return apex.sgd(groups, self.lr, self.momentum, self.weight_decay)
        options = _implementation(self.backend, (p for group in found for _, p in group.parameters))
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, **options)

    def _rate(self, group: ParameterGroup) -> dict[str, Any]:
        return {"lr": self.lr * self.head_lr} if group.head else {}

    def _published(self, found: Iterable[ParameterGroup]) -> list[dict[str, Any]]:
        """Groups of parameters that the public code lists equally often.

        Raises:
            ValueError: the network follows no public code.
        """
        groups: list[dict[str, Any]] = []
        for group in found:
            if not group.multiplicity:
                raise ValueError("optim.updates: no public code of this network is known to follow; set it to once")
            times: dict[int, list[Tensor]] = {}
            for (_, parameter), multiplicity in zip(group.parameters, group.multiplicity, strict=True):
                times.setdefault(multiplicity, []).append(parameter)
            groups += [{"params": p, "multiplicity": m, **self._rate(group)} for m, p in sorted(times.items())]
        return groups


@dataclass(frozen=True)
class Adam:
    """Adam for the networks beside a segmenter: discriminators (published betas 0.9, 0.99), generators (0.5, 0.999)."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.99)
    backend: str = "auto"

    @classmethod
    def of(cls, optim: OptimConfig) -> Adam:
        """Of discriminators and of DRSL's second head."""
        return cls(optim.discriminator_lr, backend=optim.backend)

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        if self.backend == "apex":
            return apex.adam(network.parameters(), self.lr, self.betas)
        options = _implementation(self.backend, network.parameters())
        return torch.optim.Adam(network.parameters(), lr=self.lr, betas=self.betas, **options)


class Schedule(Protocol):
    """The factor of every learning rate by step."""

    def __call__(self, step: int) -> float:
        """At optimiser step ``step``, 0-based."""

    def over(self, steps: int) -> Schedule:
        """The same for a stage of so many steps; itself where it does not follow a stage's length."""


@dataclass(frozen=True)
class Poly:
    """``(1 - (step - held)/(total - held))^power`` after ``held`` steps at the full rate, times a linear warm-up."""

    total: int
    """Steps over which the rate decays to zero; a stage may stop earlier."""
    power: float = 0.9
    warmup: int = 0
    """Steps over which the rate rises: 1/warmup, 2/warmup, … 1."""
    hold: float = 0.0
    """Share of ``total`` at the full rate, 0 to below 1."""
    of_stage: bool = True
    """Whether ``total`` is the stage's own number of steps."""

    @classmethod
    def of(cls, optim: OptimConfig, steps: int) -> Poly:
        """For a stage of so many steps."""
        return cls(optim.decay_steps or steps, optim.power, optim.warmup, of_stage=not optim.decay_steps)

    def __call__(self, step: int) -> float:
        rise = min(step + 1, self.warmup) / self.warmup if self.warmup else 1.0
        held = int(self.hold * self.total)
        total, step = self.total - held, max(step - held, 0)
        return float((1 - min(step, total) / total) ** self.power) * rise

    def over(self, steps: int) -> Poly:
        return replace(self, total=steps) if self.of_stage else self


@dataclass(frozen=True)
class Pieces:
    """Schedules one after the other, of a stage that was trained longer than it was first asked to."""

    before: tuple[tuple[int, Schedule], ...]
    """Each with the first step that is no longer its own."""
    last: Schedule

    def __call__(self, step: int) -> float:
        return next((found for until, found in self.before if step < until), self.last)(step)

    def over(self, steps: int) -> Pieces:
        return replace(self, last=self.last.over(steps))


_LOOKS = 1000
"""Steps of a stage at which a schedule is looked at."""


def odd_rates(schedule: Schedule, steps: int) -> str:
    """What nobody wants of a stage's rates: that they never come near their height, or are 0 for a part of it; in one
    line, empty where neither is so.
    """
    looks = sorted({step * (steps - 1) // _LOOKS for step in range(_LOOKS + 1)})
    factors = {step: schedule(step) for step in looks}
    highest = max(factors.values())
    if highest < 0.5:
        return (
            f"its {steps} steps end within the warm-up: learning rates come to {highest:.2g} of their height; lower"
            " optim.warmup (of teacher methods teacher.optim.warmup), or train longer"
        )
    if factors[steps - 1] == 0:
        first = next(step for step in looks if not any(factors[later] for later in looks if later >= step))
        return (
            f"learning rates are 0 from about step {first} of {steps} on, where their decay ends: nothing is learned"
            " after it; raise optim.decay_steps (0: the stage's own steps), or train shorter"
        )
    return ""


@dataclass(frozen=True)
class Average:
    """An exponential moving average of a network's weights that takes the network's place as the result."""

    decay: float
    of: str = "segmenter"
    student: str = "student"
    """Name in a checkpoint of the network that trains."""


@dataclass(frozen=True)
class Recipe:
    """How a method's networks are updated."""

    optimisers: Mapping[str, OptimiserRecipe]
    """By the network's name; every network of the step has one."""
    schedule: Schedule
    clip: Mapping[str, float] = field(default_factory=dict)
    """Maximum gradient norm, by the network's name; none elsewhere."""
    average: Average | None = None

    def build(self, networks: Mapping[str, nn.Module]) -> Optimizers:
        """Args:
            networks: unwrapped, by name.

        Raises:
            ValueError: a network has no recipe, or a recipe no network.
        """
        if self.optimisers.keys() != networks.keys():
            raise ValueError(
                f"networks {', '.join(sorted(networks))} are trained, but there are optimisers for"
                f" {', '.join(sorted(self.optimisers)) or 'none'}: a method names one for each of its networks"
            )
        made = {name: self.optimisers[name].build(network) for name, network in networks.items()}
        for optimizer in made.values():
            for group in optimizer.param_groups:
                group["base_lr"] = group["lr"]
        return made


def set_rate(optimizers: Optimizers, factor: float) -> None:
    """Every group's rate to ``factor`` times its base rate."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor


def _implementation(backend: str, params: Iterable[Tensor]) -> dict[str, bool]:
    """Torch's fused kernel where it exists (float32 on CPU and CUDA); bit-equal to the loop on CPU."""
    if backend == "foreach":
        return {"foreach": True}
    return {"fused": True} if all(p.is_floating_point() for p in params) else {}
