"""The first steps of a stage that learns from labels: is there anything to learn?"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from esl_dist.distributed import collectives

STEPS = 10


class FirstSteps:
    """Counts the labelled pixels of a stage's first steps, and stops a run that would learn from none.

    Labels without a labelled pixel give losses of exactly zero to the end, which nothing else would notice.
    """

    def __init__(self, name: str, classes: int, start: int, end: int) -> None:
        """
        Args:
            name: the stage, for the message.
            start, end: its first step now (a resumed run looks again) and its number of steps.
        """
        self.name, self.classes = name, classes
        self.start, self.end = start, min(start + STEPS, end)
        self.count: torch.Tensor | None = None

    def see(self, step: int, labels: Iterable[torch.Tensor | None]) -> None:
        """Take in the labels of step ``step`` (from 0), a tensor per micro-batch; nothing is read from the device
        before the last.

        Raises:
            ValueError: no labelled pixel on any rank since the start; on all ranks.
        """
        if step >= self.end:
            return
        for found in labels:
            if found is None:
                self.end = self.start  # a stage without labels
                return
            count = (found < self.classes).sum()
            self.count = count if self.count is None else self.count + count
        if step + 1 == self.end and collectives.all_sum(0 if self.count is None else int(self.count)) == 0:
            raise ValueError(
                f"{self.name}: not one labelled pixel in its first {self.end - self.start} steps: every pixel is "
                "ignored, so nothing is learned; look at the labels with python -m esl_dist.doctor --data CONFIG"
            )
