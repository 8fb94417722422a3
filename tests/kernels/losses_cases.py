"""The fused losses beside the banded ones in float64, on whatever device and however this process runs Triton."""

from __future__ import annotations

import torch
from torch import Tensor

from esl_dist import kernels
from esl_dist.losses import upsampled_information, upsampled_probabilities, upsampled_segmentation_loss

SHAPES = ((2, 5, 4, 11, 25, 81), (1, 19, 5, 13, 33, 97), (1, 3, 3, 20, 17, 150))
"""Images, classes, rows and columns of logits, rows and columns of the crop: whole and broken blocks of columns."""


def apart(a: Tensor | None, b: Tensor | None) -> float:
    assert a is not None and b is not None
    return float((a.detach().double() - b.detach()).abs().max() / b.detach().abs().max().clamp_min(1))


def cases(device: str = "cpu") -> dict[str, dict[str, float]]:
    found = {}
    for shape in SHAPES:
        n, classes, h, w, height, width = shape
        torch.manual_seed(width)
        logits = (torch.randn(n, classes, h, w) * 3).to(device)
        labels = torch.randint(0, classes + 1, (n, height, width)).to(torch.uint8).to(device)
        labels[labels == classes] = 255
        weights = torch.rand(n, height, width).to(device)
        grad = torch.randn(n, classes, height, width).to(device).contiguous(memory_format=torch.channels_last)
        for name in ("plain", "weighted", "probabilities", "information"):
            one, two, exactly = (
                logits.clone().requires_grad_(),
                logits.clone().requires_grad_(),
                logits.double().requires_grad_(),
            )
            values = []
            for z in (one, two, exactly):
                with kernels.using({"losses"} if z is not exactly else set(), interpreted=device == "cpu"):
                    if name in ("plain", "weighted"):
                        weight = weights.to(z.dtype) if name == "weighted" else None
                        value = upsampled_segmentation_loss(z, labels, None, weight)
                        value.backward()
                    else:
                        view = upsampled_probabilities if name == "probabilities" else upsampled_information
                        value = view(z, (height, width))
                        value.backward(grad.to(z.dtype))
                values.append(value)
            again = max(apart(values[0], values[1].double()), apart(one.grad, two.grad))
            found[f"{name} {shape}"] = {
                "value": apart(values[0], values[2]),
                "gradient": apart(one.grad, exactly.grad),
                "again": again,
            }
    return found
