"""The seam between the program and its networks: what a segmenter is asked, and nothing that only one of them has."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from esl_dist.models.normalisation import Normalisation


class Outputs(NamedTuple):
    """Logits ``[N, C, h, w]`` of the main head, and of the aux head (None for a network of one head)."""

    main: Tensor
    aux: Tensor | None


class Featured(NamedTuple):
    """Logits, and what further heads read: ``[N, feature_channels, h, w]`` on the grid of ``feature_size``."""

    outputs: Outputs
    features: Tensor


@dataclass(frozen=True)
class ParameterGroup:
    """Trainable parameters that an optimiser treats alike."""

    name: str
    parameters: tuple[tuple[str, nn.Parameter], ...]
    """By their state-dict names, in the network's own order."""
    head: bool = False
    """Whether they learn at the heads' rate (``optim.head_lr``)."""
    decay: bool = True
    """Whether weight decay is meant for them."""
    depth: int = 0
    """Layers between them and the heads: a rate that falls with depth is ``rate * decay ** depth``."""
    multiplicity: tuple[int, ...] = ()
    """How many times the public code lists each parameter in its SGD group (see ``optim.updates``); empty where no
    public code is followed.
    """


class Segmenter(nn.Module, abc.ABC):
    """A network from normalised images to logits per class.

    A subclass sets the attributes below and leaves its weights as torch draws them; ``initialise`` makes them a
    function of a seed. It may be built without storage, so whatever is no parameter and no persistent buffer is made
    in the forward. Everything that trains must be reached by ``forward`` with both heads in use, or DDP waits for
    gradients that never come.
    """

    num_classes: int
    """Channels of the logits."""
    multi_level: bool
    """Whether there is an aux head."""
    output_stride: int
    """Pixels of the input per cell of the main logits."""
    feature_channels: int
    """Channels of what the main head reads, for further heads on it."""
    normalisation: Normalisation
    """How its images are made from uint8."""
    draws: bool = False
    """Whether it draws anything in training: dropout, stochastic depth, where to look (``models/stochastic.py``)."""
    host_work: str = ""
    """What a forward in training decides on the host from draw to draw, in words; empty: nothing."""
    statistics_frozen: bool = False
    """Whether batch norm uses its running statistics in training too (``model.bn=frozen``)."""

    @abc.abstractmethod
    def forward(self, x: Tensor, features: bool = False) -> Outputs | Featured:
        """Normalised images ``[N, 3, H, W]`` to logits, with ``features`` also to what the main head read.

        Further heads must get features from this forward: DDP reduces what its own forward began.
        """

    @abc.abstractmethod
    def initialise(self, seed: int, how: str) -> None:
        """Overwrite every entry by a pure function of ``seed`` and of ``how``, the network's ``init``; torch's global
        generator is neither read nor moved.

        Raises:
            ValueError: published weights that are not installed, or damaged.
        """

    @abc.abstractmethod
    def output_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the main logits of images of ``size_hw``."""

    def features_of(self, images: Tensor) -> Tensor:
        """The features alone, of normalised images: a network that can spares itself the heads."""
        found = self(images, features=True)
        assert isinstance(found, Featured)
        return found.features

    def feature_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the features of images of ``size_hw``: by default the main logits'."""
        return self.output_size(size_hw)

    @abc.abstractmethod
    def parameter_groups(self) -> list[ParameterGroup]:
        """Every trainable parameter in one of a few groups; heads last."""

    @abc.abstractmethod
    def forward_order(self) -> Iterator[nn.Parameter]:
        """Every parameter as the forward comes to them: the order that DDP's buckets follow, backwards."""

    @abc.abstractmethod
    def aux_parameters(self) -> list[nn.Parameter]:
        """Of the aux head: frozen in a stage whose losses do not reach it. Empty for a network of one head."""

    @abc.abstractmethod
    def describe(self) -> str:
        """The network in one line, for people."""

    def plainly(self) -> Self:
        """The network itself, from now on computing the same function as one graph for every size of input: what is
        exported, and what public code runs. It may be slower, and other in its last bits.
        """
        return self

    def adopt(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The entries of somebody else's file of this architecture under this network's keys; heads may be left out."""
        return dict(tensors)

    def train(self, mode: bool = True) -> Self:
        """As ``nn.Module.train``; frozen statistics stay frozen."""
        super().train(mode)
        if self.statistics_frozen:
            for norm in self.norms():
                norm.eval()
        return self

    def freeze_statistics(self, frozen: bool = True) -> Self:
        """Normalise by running statistics, without updating them, also in ``train()``; False undoes it."""
        self.statistics_frozen = frozen
        return self.train(self.training)

    def norms(self) -> list[_BatchNorm]:
        """Every batch-norm layer (also synchronised ones)."""
        return [module for module in self.modules() if isinstance(module, _BatchNorm)]


def grouped(network: Segmenter, *heads: str) -> tuple[list[tuple[str, nn.Parameter]], list[tuple[str, nn.Parameter]]]:
    """Trainable (name, parameter) pairs outside and inside the submodules ``heads``, each in the network's order."""
    below: list[tuple[str, nn.Parameter]] = []
    above: list[tuple[str, nn.Parameter]] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (above if name.partition(".")[0] in heads else below).append((name, parameter))
    return below, above
