"""The shifted sum of taps beside a sum of ``fold``s, on whatever device and in whatever mode this process runs
Triton.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from esl_dist.models.taps import shifted_sum

SHAPES = ((2, 5, 27, 31, 4), (1, 3, 13, 40, 2), (1, 2, 25, 9, 4))
"""Images, classes, rows, columns, branches; the last is narrower than its taps reach."""


def cases(device: str = "cpu") -> dict[str, dict[str, float]]:
    found = {}
    for n, classes, h, w, branches in SHAPES:
        torch.manual_seed(n)
        taps, bias, grad = (
            t.to(device)
            for t in (
                torch.randn(n, branches * classes * 9, h * w),
                torch.randn(branches, classes),
                torch.randn(n, classes, h, w),
            )
        )
        mine, theirs = ([t.clone().requires_grad_() for t in (taps, bias)] for _ in range(2))
        out = shifted_sum(mine[0], mine[1], (h, w), 6)
        expected = torch.zeros((), device=device)
        for b, part in enumerate(theirs[0].chunk(branches, 1)):
            reach = 6 * (b + 1)
            expected = (
                expected + F.fold(part, (h, w), 3, dilation=reach, padding=reach) + theirs[1][b].view(1, -1, 1, 1)
            )
        out.backward(grad)
        expected.backward(grad)
        pairs = [(out, expected), *((a.grad, b.grad) for a, b in zip(mine, theirs, strict=True))]
        output, taps_grad, bias_grad = (
            float((a.detach() - b.detach()).abs().max()) for a, b in pairs if a is not None and b is not None
        )
        found[f"{(n, classes, h, w, branches)}"] = {"output": output, "taps": taps_grad, "bias": bias_grad}
    return found
