"""Earlier translations for a discriminator to look at (Shrivastava et al., CVPR 2017, as in CycleGAN), the same for any
number of ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from esl_dist.data.sampler import uniform
from esl_dist.distributed import collectives

_SWAP, _SLOT = 8, 9
"""Draws of a position; those below belong to its augmentation."""


class History:
    """Swaps a new image for an older one with probability one half.

    Every place in the global batch has a lane of its own, ``size / global batch`` images long (one at least), so that
    no rank needs another's images. An image's lane, its turn there and its two draws follow from its global position; N
    ranks keep what one process would, and so does another number of ranks with the same global batch.

    Args:
        lanes: places in the global batch that this rank trains on, of ``total``.
        size: images over all lanes; 0 keeps none.
        shape: channels, height, width of an image.
    """

    def __init__(
        self, lanes: Sequence[int], total: int, size: int, shape: tuple[int, int, int], seed: int, device: torch.device
    ) -> None:
        self.lanes, self.total, self.seed = tuple(lanes), total, seed
        length = max(size // total, 1) if size else 0
        self.images = torch.zeros((len(self.lanes), length, *shape), device=device)

    def exchange(self, made: Tensor, positions: Sequence[int]) -> Tensor:
        """What to show in place of ``made`` (float32 ``[n, 3, H, W]``), whose images belong to these global
        positions.
        """
        return torch.stack([self._exchange(image, position) for image, position in zip(made, positions, strict=True)])

    def _exchange(self, image: Tensor, position: int) -> Tensor:
        turn, lane = divmod(position, self.total)
        kept = self.images[self.lanes.index(lane)]
        if turn < len(kept):
            kept[turn] = image
        elif len(kept) and uniform(self.seed, position, _SWAP) < 0.5:
            slot = int(uniform(self.seed, position, _SLOT) * len(kept))
            older = kept[slot].to(image.dtype, copy=True)
            kept[slot] = image
            return older
        return image

    def gather(self) -> Tensor:
        """All lanes of all ranks, ``[total, length, 3, H, W]``, on every rank. Collective."""
        whole = self.images.new_zeros((self.total, *self.images.shape[1:]))
        whole[list(self.lanes)] = self.images
        return collectives.all_reduce_(whole)

    def restore(self, whole: Tensor) -> None:
        """Take this rank's lanes from what ``gather`` gave."""
        self.images.copy_(whole[list(self.lanes)])
