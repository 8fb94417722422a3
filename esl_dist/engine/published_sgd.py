"""SGD with the published code's semantics, under its own name."""

from __future__ import annotations

from typing import Any

import torch


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
