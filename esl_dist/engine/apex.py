"""NVIDIA apex's fused optimisers: whether they can be used here, and as what torch calls SGD and Adam.

Asked for and not usable is an error with the way out, never torch's optimiser in silence. What differs from torch's,
and is met here or in ``update.py``: ``FusedAdam`` is AdamW unless told otherwise, ``zero_grad`` takes no argument, the
scratch buffer lies on the current device. Its state is its own too: a stage begun with one back-end is refused with the
other (``provenance.py``).
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

BUILD = "docker build --build-arg WITH_APEX=1 builds it, as the Dockerfile's apex stage shows"


def require(device: str) -> None:
    """Refuse ``optim.backend=apex`` where it would not run; ``device`` is ``run.device``.

    Raises:
        ValueError: one line that says why not, and what to do.
    """
    problem = unusable(device)
    if problem:
        raise ValueError(f"optim.backend: {problem}, or set optim.backend=auto for torch's fused optimisers")


def unusable(device: str) -> str:
    """Why apex's optimisers cannot be used here, with the way out; empty where one took a step on this rank's GPU."""
    package = importlib.util.find_spec("apex")
    if package is None:
        return f"apex is not installed; it is no pip package, {BUILD}"
    # Looked for, not imported: the namesake would run, and fail for reasons of its own.
    if importlib.machinery.PathFinder.find_spec("apex.optimizers", package.submodule_search_locations or []) is None:
        return (
            "the apex that is installed is PyPI's package of that name (for Pyramid), not NVIDIA's; pip uninstall"
            f" apex, then {BUILD}"
        )
    if importlib.util.find_spec("amp_C") is None:
        return (
            "apex was built without its CUDA extension (no module amp_C); build it again with APEX_CPP_EXT=1"
            f" APEX_CUDA_EXT=1: {BUILD}"
        )
    if device == "cpu" or not torch.cuda.is_available():
        return (
            f"apex needs CUDA, and {'run.device is cpu' if device == 'cpu' else 'torch sees no GPU here'}; run on a GPU"
        )
    try:
        importlib.import_module("amp_C")
        importlib.import_module("apex.optimizers")
    except Exception as error:
        return (
            f"apex does not fit this torch {torch.__version__} ({_first_line(error)}); build it again with this torch:"
            f" {BUILD}"
        )
    try:
        _step_on_the_gpu()
    except Exception as error:
        return (
            f"apex's kernels do not run on this GPU ({_first_line(error)}); build it again with"
            f" TORCH_CUDA_ARCH_LIST={_architecture()}: {BUILD}"
        )
    return ""


def sgd(groups: list[dict[str, Any]], lr: float, momentum: float, weight_decay: float) -> torch.optim.Optimizer:
    """``torch.optim.SGD`` as apex computes it."""
    made: torch.optim.Optimizer = importlib.import_module("apex.optimizers").FusedSGD(
        groups, lr=lr, momentum=momentum, weight_decay=weight_decay
    )
    return made


def adam(params: Iterable[Tensor], lr: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    """``torch.optim.Adam`` as apex computes it."""
    made: torch.optim.Optimizer = importlib.import_module("apex.optimizers").FusedAdam(
        params, lr=lr, betas=betas, adam_w_mode=False
    )
    return made


def _step_on_the_gpu() -> None:
    """Kernels that were not built for this GPU fail at the first launch."""
    with torch.cuda.device(_gpu()):
        parameter = torch.zeros(1, device="cuda", requires_grad=True)
        parameter.grad = torch.ones_like(parameter)
        sgd([{"params": [parameter]}], 0.1, 0.0, 0.0).step()
        torch.cuda.synchronize()


def _gpu() -> int:
    # More ranks than GPUs are refused by the runtime, in its own words.
    return min(int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count() - 1)


def _architecture() -> str:
    return ".".join(map(str, torch.cuda.get_device_capability(_gpu())))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
