"""The forward over a target set: which images, in which batches, and a canary that tells whether it computes the same
everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from esl_dist.data.bad_samples import Bad, BadSamples
from esl_dist.distributed import collectives

Forward = Callable[[Tensor], Tensor]
"""uint8 images ``[B, 3, H, W]`` to float32 logits ``[B, C, h, w]``."""

OutputSize = Callable[[int], tuple[int, int]]
"""Index of an image to the (height, width) of its pseudo-label."""


@dataclass(frozen=True)
class TargetImages:
    """The images that labels are made for, in an order that all ranks share.

    ``batches(indices)`` yields ``(indices, uint8 [batch, 3, H, W])`` at ``input_size`` (width, height), every batch
    padded with zeros to the same shape. ``output_size`` gives an image its own (height, width); None takes
    ``extract.size`` for all.
    """

    names: Sequence[str]
    batches: Callable[[Sequence[int]], Iterable[tuple[Sequence[int], Tensor]]]
    input_size: tuple[int, int]
    output_size: OutputSize | None = None
    cut: Callable[[int, Tensor], Tensor] = lambda index, logits: logits
    """The part of an image's logits ``[C, h, w]`` that is the image, where its batch holds it padded."""
    allowed: int = 0
    """Images that may be left out because they cannot be read."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Those that ``batches`` left out so far on this rank, with why; filled by it."""

    def left_out(self) -> dict[str, str]:
        """Images that no rank could read, by name, with why. Collective.

        Raises:
            ValueError: on all ranks, where they are more than ``allowed``.
        """
        found = BadSamples("target", self.allowed)
        for share in collectives.gather_json(self.unreadable):
            found.add(Bad(0, name, reason) for name, reason in sorted(share.items()))
        found.check()
        return found.found


def logits_of(
    forward: Forward, source: TargetImages, indices: Sequence[int], at_once: int = 0
) -> Iterator[tuple[int, Tensor]]:
    """``(index, float32 logits [C, h, w])`` of the given images, ``at_once`` of them a forward (0: a whole batch)."""
    if not indices:
        return
    for real, images in source.batches(indices):
        step = at_once or len(images)
        for first in range(0, len(real), step):
            logits = forward(images[first : first + step]).detach().float()
            for slot, index in enumerate(real[first : first + step]):
                yield int(index), source.cut(int(index), logits[slot])


def canary_image(size: tuple[int, int]) -> Tensor:
    """A fixed uint8 image ``[3, H, W]`` of blocks and noise for a (width, height)."""
    width, height = size
    generator = np.random.RandomState(20_211)
    blocks = (
        generator.randint(0, 256, (3, -(-height // 16), -(-width // 16)))
        .repeat(16, 1)
        .repeat(16, 2)[:, :height, :width]
    )
    return torch.from_numpy(np.clip(blocks + generator.randint(-20, 21, blocks.shape), 0, 255).astype(np.uint8))


class DependsOnPlace(ValueError):
    """One image has other logits in another slot of its batch."""


def canary(forward: Forward, batch: int, size: tuple[int, int]) -> tuple[str, tuple[int, int, int]]:
    """Hash and shape ``[C, h, w]`` of the canary's logits; :class:`DependsOnPlace` where they depend on the batch's
    slot.
    """
    logits = forward(canary_image(size).expand(batch, -1, -1, -1).contiguous()).detach().float().cpu()
    hashes = {hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest() for image in logits}
    if len(hashes) > 1:
        raise DependsOnPlace(
            "the logits of one image depend on its place in the batch on this device, so labels would depend "
            "on the split; set extract.batch=1"
        )
    _, channels, height, width = logits.shape
    return hashes.pop()[:16], (channels, height, width)
