"""Optimisers as the lineage publishes them: SGD for the segmenter, Adam for each discriminator, polynomial decay for
all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from esl_dist.config.schema import OptimConfig
from esl_dist.distributed import ddp
from esl_dist.engine import apex
from esl_dist.models.deeplabv2 import DeepLabV2, published_multiplicity
from esl_dist.models.translation import Generator, PatchDiscriminator

Optimizers = dict[str, torch.optim.Optimizer]
BETAS = (0.9, 0.99)
CYCLEGAN_BETAS = (0.5, 0.999)


def poly(step: int, total: int, power: float) -> float:
    """Factor of every learning rate at ``step`` (0-based): ``(1 - step/total)^power``."""
    return float((1 - min(step, total) / total) ** power)


def warm(step: int, steps: int) -> float:
    """Factor of every learning rate at ``step`` (0-based) of a warm-up over ``steps``: 1/steps, 2/steps, … 1."""
    return min(step + 1, steps) / steps if steps else 1.0


class PublishedSGD(torch.optim.Optimizer):
    """SGD as the public code ran it: a parameter listed m times in a group is updated m times per step, one after the
    other.

    Torch 0.4.1 applied momentum, update and an in-place weight decay once per entry, so the backbone (listed three or
    four times) moves about three times as fast as its nominal rate says, and the gradient itself grows by the decay
    each time:

        g <- g + wd * p;   v <- momentum * v + g;   p <- p - lr * v        repeated m times

    Groups carry ``multiplicity``: an int for all of their parameters.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "multiplicity": 1})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            momenta = [self.state[p].setdefault("momentum_buffer", torch.zeros_like(p)) for p in params]
            for _ in range(group["multiplicity"]):
                torch._foreach_add_(grads, params, alpha=group["weight_decay"])
                torch._foreach_mul_(momenta, group["momentum"])
                torch._foreach_add_(momenta, grads)
                torch._foreach_add_(params, momenta, alpha=-group["lr"])


def build_optimizers(config: OptimConfig, networks: Mapping[str, nn.Module]) -> Optimizers:
    """One optimiser per network, by the network's name; every group keeps its undecayed rate as ``base_lr``."""
    made: Optimizers = {}
    for name, network in networks.items():
        module = ddp.inner(network)
        betas = CYCLEGAN_BETAS if isinstance(module, Generator | PatchDiscriminator) else BETAS
        if isinstance(module, DeepLabV2):
            made[name] = _segmenter_optimizer(config, module)
        elif config.backend == "apex":
            made[name] = apex.adam(module.parameters(), config.discriminator_lr, betas)
        else:
            made[name] = torch.optim.Adam(
                module.parameters(),
                lr=config.discriminator_lr,
                betas=betas,
                **_implementation(config, module.parameters()),
            )
        for group in made[name].param_groups:
            group["base_lr"] = group["lr"]
    return made


def _segmenter_optimizer(config: OptimConfig, module: DeepLabV2) -> torch.optim.Optimizer:
    backbone, heads = module.backbone_parameters(), module.head_parameters()
    head_lr = config.lr * config.head_lr
    if config.updates == "published":
        by_multiplicity: dict[int, list[Tensor]] = {}
        for name, parameter in backbone:
            by_multiplicity.setdefault(published_multiplicity(name), []).append(parameter)
        groups: list[dict[str, Any]] = [
            {"params": params, "multiplicity": m} for m, params in sorted(by_multiplicity.items())
        ]
        groups.append({"params": [p for _, p in heads], "lr": head_lr})
        return PublishedSGD(groups, config.lr, config.momentum, config.weight_decay)
    groups = [{"params": [p for _, p in backbone]}, {"params": [p for _, p in heads], "lr": head_lr}]
    if config.backend == "apex":
        return apex.sgd(groups, config.lr, config.momentum, config.weight_decay)
    options = _implementation(config, (p for _, p in backbone))
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, **options)


def _implementation(config: OptimConfig, params: Iterable[Tensor]) -> dict[str, bool]:
    """Torch's fused kernel where it exists (float32 on CPU and CUDA); bit-equal to the loop on CPU."""
    if config.backend == "foreach":
        return {"foreach": True}
    return {"fused": True} if all(p.is_floating_point() for p in params) else {}


def set_rate(optimizers: Optimizers, factor: float) -> None:
    """Every group's rate to ``factor`` times its base rate."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
