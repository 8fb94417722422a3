"""What decides the bits of a forward, in one dictionary: two runs may share a spool only where it is equal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch

from esl_dist.distributed import collectives

Fingerprint = dict[str, Any]

CANARY, ALONE = FOUND = ("canary", "images a forward")
"""What a forward alone tells: the hash of a fixed image's logits, and 1 where a batch is taken apart."""


def stack(device: torch.device | str) -> Fingerprint:
    """Libraries, device and flags that the bits of a convolution depend on."""
    device = torch.device(device)
    found: Fingerprint = {
        "torch": torch.__version__,
        "device type": device.type,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
        found["CUDA"] = torch.version.cuda
        found["cuDNN"] = torch.backends.cudnn.version()
        found["TF32 convolutions"] = torch.backends.cudnn.allow_tf32
        found["TF32 products"] = torch.backends.cuda.matmul.allow_tf32
        found["cuDNN benchmark"] = torch.backends.cudnn.benchmark
    else:
        found["threads"] = torch.get_num_threads()
        found["CPU capability"] = torch.backends.cpu.get_cpu_capability()
        found["oneDNN"] = torch.backends.mkldnn.enabled
    return found


def digest(value: Any) -> str:
    """SHA-256 of a JSON-serialisable value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def names_digest(names: Sequence[str]) -> str:
    return digest(list(names))


def difference(mine: Fingerprint, other: Fingerprint) -> str | None:
    """The first key that differs, in words; None where none does."""
    for key in sorted({*mine, *other}):
        a, b = mine.get(key), other.get(key)
        if a != b:
            return f"{key}: {b!r} there, {a!r} here"
    return None


def as_known(fingerprint: Fingerprint, known: bool) -> Fingerprint:
    """The fingerprint with what a forward alone tells, or (where the network has not run) without."""
    return fingerprint if known else {key: value for key, value in fingerprint.items() if key not in FOUND}


def same_on_all_ranks(fingerprint: Fingerprint) -> None:
    """``ValueError`` in one sentence where a rank's forward would not have the bits of rank 0's."""
    everyone = collectives.gather_json(fingerprint)
    for rank, other in enumerate(everyone):
        reason = difference(everyone[0], other)
        if reason:
            raise ValueError(
                f"rank {rank} runs another stack than rank 0 ({reason}), so labels would depend on the split; "
                "make the ranks alike"
            )
