"""esl_dist: distributed training for unsupervised domain adaptation in semantic segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esl_dist.prediction.model import load as load

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``esl_dist.load`` when it is first asked for: importing the package costs nothing."""
    if name == "load":
        from esl_dist.prediction.model import load

        return load
    raise AttributeError(f"module 'esl_dist' has no attribute {name!r}")
