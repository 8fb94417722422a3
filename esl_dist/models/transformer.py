"""What the transformer segmenters have in common: one head, ImageNet's statistics, groups by depth."""

from __future__ import annotations

import abc
from collections.abc import Sequence

from torch import Tensor, nn

from esl_dist.models.initial import initialise
from esl_dist.models.normalisation import Normalisation
from esl_dist.models.segmenter import Featured, Outputs, ParameterGroup, Segmenter

IMAGENET = Normalisation("rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


class Divided(Segmenter):
    """A segmenter of one head whose encoder and decoder can be called apart."""

    multi_level = False

    @abc.abstractmethod
    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised images ``[N, 3, H, W]`` to the maps that the decoder reads; ``features`` is the last."""

    def features_of(self, images: Tensor) -> Tensor:
        """The encoder's last map."""
        return self.encode(images)[-1]

    @abc.abstractmethod
    def decode(self, maps: Sequence[Tensor]) -> Outputs:
        """Those maps to logits."""

    @abc.abstractmethod
    def attention_head(self) -> nn.Module:
        """HRDA's head for scale attention: those maps to logits of the same size."""

    @abc.abstractmethod
    def depth_of(self, name: str) -> int | None:
        """Encoder blocks after the parameter ``name``, all of them and one more for what comes before the first; None:
        it is the decoder's.
        """

    def forward(self, images: Tensor, features: bool = False) -> Outputs | Featured:
        """Normalised images ``[N, 3, H, W]`` to logits; with ``features`` also the last of the encoder's maps."""
        maps = self.encode(images)
        outputs = self.decode(maps)
        return Featured(outputs, maps[-1]) if features else outputs

    def initialise(self, seed: int, how: str) -> None:
        """As published before any weights are loaded; ``how`` is ``random``."""
        initialise(self, seed)

    def parameter_groups(self) -> list[ParameterGroup]:
        """A group for every depth of the encoder, the deepest first, and one for the decoder."""
        found: dict[int, list[tuple[str, nn.Parameter]]] = {}
        heads: list[tuple[str, nn.Parameter]] = []
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                depth = self.depth_of(name)
                (heads if depth is None else found.setdefault(depth, [])).append((name, parameter))
        groups = [ParameterGroup(f"depth {d}", tuple(found[d]), depth=d) for d in sorted(found, reverse=True)]
        return [*groups, ParameterGroup("decoder", tuple(heads), head=True)]

    def aux_parameters(self) -> list[nn.Parameter]:
        return []


def check_classes(network: str, num_classes: int) -> None:
    """ValueError where there is nothing to tell apart."""
    if num_classes < 2:
        raise ValueError(f"{network}: needs 2 or more classes, not {num_classes}")
