"""A tile whose exact scores are known: an implementation, or a machine, that gives other bits is found before it labels
anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from esl_dist.pseudo_labels.scores import spec
from esl_dist.pseudo_labels.scores.kinds import KINDS, Kind

SIZE = (23, 31)
SHA256 = "70341fc537f1d9acadf2d1efd2a23e960a6763a9911a2e2511270928eb99d9f6"
"""Of label, entropy and probability of :func:`logits` at ``SIZE``."""
MARGINS_SHA256 = "0a4714d7278c36473e48ed8aba750fc005dfacc5a1c4099431d3e4ad374363e7"
"""Of both margins."""

Score = Callable[[Tensor, tuple[int, int], Sequence[Kind]], tuple[Tensor, dict[Kind, Tensor]]]


def logits() -> np.ndarray:
    """Fixed float32 logits ``[5, 6, 7]`` from integers alone: near-uniform, peaked, tied and far-apart pixels."""
    state = np.arange(5 * 6 * 7, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(1 << 32)
    z = (state >> np.uint64(20)).astype(np.float32) / np.float32(256) - np.float32(8)
    z = z.reshape(5, 6, 7)
    z[:, 0, 0] = 0
    z[:, 1, 1] *= np.float32(16)
    z[:, 2] *= np.float32(1 / 64)
    return z


def tile_hash(*maps: np.ndarray) -> str:
    """SHA-256 of the maps' bytes, one after another."""
    return hashlib.sha256(b"".join(values.tobytes() for values in maps)).hexdigest()


def check(name: str, score: Score, device: torch.device) -> None:
    """Compare the specification with its published hashes and ``score`` with the specification, bit for bit.

    Raises:
        ValueError: this machine gives other bits.
    """
    label, maps = score(torch.from_numpy(logits()).to(device), SIZE, KINDS)
    found = [label.cpu().numpy(), *(maps[kind].cpu().numpy() for kind in KINDS)]
    expected = [*spec.score(logits(), SIZE), *spec.margins(logits(), SIZE)]
    for who, values in (("numpy", expected), (name, found)):
        if (tile_hash(*values[:3]), tile_hash(*values[3:])) != (SHA256, MARGINS_SHA256):
            raise ValueError(
                f"pseudo_labels.scores: {who} does not give the specified bits on this machine, so labels "
                "would differ from other machines'; "
                "set pseudo_labels.scores=library"
            )
