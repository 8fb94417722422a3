"""A checkpoint's network as extraction looks at it, and the other one that it may hold."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from esl_dist.config.scoring import BnStatistics
from esl_dist.metrics.inference import Predictor
from esl_dist.runs import CheckpointFolder


@dataclass
class Opened:
    """``checkpoint``'s segmenter, and on demand its partner (``CheckpointFolder.partner``)."""

    network: Predictor
    checkpoint: Path
    """Folder, or a weights file, which has no partner."""
    open: Callable[[Path], Predictor]
    """Loads a file as ``network`` was. Collective."""
    _other: Predictor | None = None

    @property
    def partner(self) -> Path | None:
        """File of the other network."""
        return CheckpointFolder(self.checkpoint).partner

    def __call__(self, images_u8: Tensor) -> Tensor:
        """uint8 RGB ``[B, 3, H, W]`` to float32 logits ``[B, C, h, w]``."""
        return self.network(images_u8)

    def heads(self, images_u8: Tensor) -> Sequence[Tensor]:
        """As ``__call__``, of the main head and the aux head."""
        return self.network.heads(images_u8)

    def other(self, images_u8: Tensor) -> Tensor:
        """As ``__call__``, of the partner, which the first call loads.

        Raises:
            ValueError: there is none.
        """
        if self._other is None:
            partner = self.partner
            if partner is None:
                raise ValueError(
                    f"pseudo_labels.views_teacher: {self.checkpoint} holds one network; leave it off, or take labels of"
                    " a stage with a teacher (daformer, mic, vfm_uda, or self-training with selftrain.ema)"
                )
            self._other = self.open(partner)
        return self._other(images_u8)


@contextlib.contextmanager
def opened(
    checkpoint: Path,
    load: Callable[[Path], Predictor],
    statistics: BnStatistics,
    batches: Callable[[], Iterable[Tensor]],
) -> Iterator[Opened]:
    """``checkpoint`` as extraction looks at it, each of its networks with ``statistics``, re-estimated on ``batches``
    where they are not the trained ones. Collective.
    """
    with contextlib.ExitStack() as stack:

        def ready(file: Path) -> Predictor:
            predictor = load(file)
            stack.enter_context(predictor.statistics(statistics, batches()))
            return predictor

        yield Opened(ready(checkpoint), checkpoint, ready)
