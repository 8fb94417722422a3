"""Training on labels: source-only, the oracle on target labels, and the initial weights of the embedded pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from esl_dist.distributed import ddp
from esl_dist.stages.passes import Losses, Pair, Passes, add_losses, cross_entropy


@dataclass
class Supervised:
    """``CE(main) + aux_weight * CE(aux)``, a mean over the valid pixels of the global batch."""

    segmenter: nn.Module
    passes: Passes
    num_classes: int
    aux_weight: float = 0.1
    needs_target: bool = False

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"segmenter": self.segmenter}

    def step(self, micro: Sequence[Pair]) -> Losses:
        """Gradients of one optimiser step, summed over its micro-batches."""
        valid = self.passes.globally_valid(
            (pair.source.labels for pair in micro if pair.source.labels is not None), self.num_classes
        )
        losses: Losses = {}
        for pair in micro:
            assert pair.source.labels is not None
            with ddp.sync_if(self.segmenter, pair is micro[-1]):
                prediction = self.passes.forward(self.segmenter, pair.source.images)
                loss, parts = cross_entropy(
                    prediction, self.passes.labels(pair.source.labels), valid, (1.0, self.aux_weight), "source"
                )
                self.passes.backward(loss)
            add_losses(losses, parts)
        return losses
