"""The kept sample checkpoint, as a function: ``python -m tests.engine.sample`` writes it anew (only for a new schema
version).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from esl_dist.engine import checkpoint

FOLDER = Path(__file__).parent / "sample_checkpoint"
STEP = 3
META = {"stage": "align", "seed": 1, "global_batch": 2, "world": 2, "elapsed": 12.5}


def state() -> dict[str, Any]:
    """Every kind of value that a checkpoint of this program holds, drawn from nothing but arithmetic."""
    weight = torch.arange(24, dtype=torch.float32).reshape(2, 3, 2, 2) / 7
    moments = {"step": torch.tensor(3.0), "exp_avg": weight * 0.1, "exp_avg_sq": weight * weight}
    groups = [{"lr": 2.5e-4, "betas": (0.9, 0.99), "fused": True, "foreach": None, "params": [0]}]
    return {
        "segmenter": {
            "layer.weight": weight,
            "bn.running_var": torch.linspace(0.5, 2, 3),
            "bn.num_batches_tracked": torch.tensor(3),
        },
        "d_main": {"0.weight": (weight * 0.01).to(torch.bfloat16)},
        "optim": {
            "optimizers": {"segmenter": {"state": {0: moments}, "param_groups": groups}},
            "scaler": {},
            "skipped_in_a_row": 0,
        },
        "bn_ranks": {"bn.running_var": torch.linspace(0, 1, 6).reshape(2, 3)},
    }


def equal(a: Any, b: Any) -> bool:
    """Bit equality of nested states."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


if __name__ == "__main__":
    print(checkpoint.save(FOLDER, STEP, state(), META, keep=1))
