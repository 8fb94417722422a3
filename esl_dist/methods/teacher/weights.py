"""What a teacher's label weighs: the published q, ESL's selection within the stream, or both; nothing in margins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from esl_dist.distributed import collectives
from esl_dist.methods.teacher.labels import Guess, confident
from esl_dist.methods.teacher.quantiles import BINS, RunningQuantiles, histogram, kept


@dataclass
class LabelWeights:
    """Weights of all micro-batches of a step at once, since both q and thresholds are of the global batch."""

    tau: float
    of_image: bool = False
    """q of each image, in place of the global batch's."""
    use: str = "none"
    """Of the selection: none, replace, with."""
    by: str = ""
    """What pixels are judged by; empty without a selection."""
    nu: float = 0.0
    soft: bool = False
    running: RunningQuantiles | None = None

    def of_step(
        self,
        slot: Tensor | None,
        guesses: Sequence[Guess],
        trusted: Sequence[Tensor | None],
        figures: dict[str, Tensor],
    ) -> list[Tensor]:
        """float32 ``[n, H, W]`` of each micro-batch. All ranks call it together: one all-reduce of integers.

        Args:
            slot: of ``slot``.
            trusted: float ``[n, H, W]``, 0 in margins; None for no margins.
            figures: gets ``label/share`` (q) and, with a selection, ``label/kept``.
        """
        own = [confident(guess.confidence, self.tau) for guess in guesses]
        counts = torch.stack([count.sum(0) for count in own]).sum(0)
        if self.running:
            counts = torch.cat([counts, self._histograms(guesses, trusted)])
        counts = collectives.all_reduce_(counts)
        share = counts[0].double() / counts[1]
        figures["label/share"] = share
        if self.of_image:
            shares = [(count[:, 0].double() / count[:, 1]).float()[:, None, None] for count in own]
        else:
            shares = [share.float().view(1, 1, 1)] * len(own)
        if self.running and slot is not None:
            self.running.add(slot, counts[2:].view(-1, BINS))
        selected = self._selected(guesses, figures)
        weights = []
        for guess, q, chosen, inside in zip(guesses, shares, selected, trusted, strict=True):
            weight = torch.ones_like(guess.confidence) if chosen is None else chosen
            weight = weight if self.use == "replace" else weight * q
            weights.append(weight if inside is None else weight * inside)
        return weights

    def _histograms(self, guesses: Sequence[Guess], trusted: Sequence[Tensor | None]) -> Tensor:
        """Of the pixels that can weigh anything: a margin or a padded edge has no say in what is sure."""
        assert self.running is not None
        classes = len(self.running.total)
        made = []
        for guess, inside in zip(guesses, trusted, strict=True):
            labels = guess.labels if inside is None else torch.where(inside > 0, guess.labels, classes)
            made.append(histogram(labels, _doubt(guess), classes))
        return torch.stack(made).sum(0).flatten()

    def _selected(self, guesses: Sequence[Guess], figures: dict[str, Tensor]) -> list[Tensor | None]:
        """1 (or 1 - doubt) where a pixel is kept and 0 elsewhere."""
        if self.running is None:
            return [None] * len(guesses)
        thresholds = self.running.thresholds(self.nu)
        chosen = [kept(guess.labels, _doubt(guess), thresholds).float() for guess in guesses]
        figures["label/kept"] = torch.stack([mask.mean() for mask in chosen]).mean()
        if self.soft:
            chosen = [mask * (1 - _doubt(guess)) for mask, guess in zip(chosen, guesses, strict=True)]
        return list(chosen)

    def slot(self, step: int) -> Tensor | None:
        """Where the selection keeps what it sees in a step; None without one."""
        return self.running.slot(step) if self.running else None

    def changed(self) -> list[Tensor]:
        """Tensors that a step changes in place."""
        return [self.running.ring, self.running.total] if self.running else []

    def memory(self) -> dict[str, Tensor]:
        return self.running.memory() if self.running else {}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        if self.running:
            self.running.recall(memory)


def _doubt(guess: Guess) -> Tensor:
    assert guess.doubt is not None
    return guess.doubt
