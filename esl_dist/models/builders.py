"""From ``model.*`` to a network: a dictionary of builders by ``model.name``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from esl_dist.config.schema import DataConfig, DeepLabV2Config, ModelConfig
from esl_dist.models import adapter, daformer, deeplabv2, efficientnet
from esl_dist.models.hrda import Hrda
from esl_dist.models.normalisation import Normalisation
from esl_dist.models.segmenter import Segmenter
from esl_dist.models.weights.lineages import LINEAGES

Builder = Callable[[Any, int], Segmenter]
"""From the options ``model.<name>`` and the number of classes to a network whose weights are not set."""

SEGMENTERS: Mapping[str, Builder] = {
    "deeplabv2": deeplabv2.build,
    "efficientnet": efficientnet.build,
    "daformer": daformer.build,
    "dinov2": adapter.build,
}


def sketch_segmenter(config: ModelConfig, num_classes: int, data: DataConfig | None = None) -> Segmenter:
    """The network of ``config`` on the meta device: sizes, groups and ``describe``, no storage.

    Args:
        data: its ``mean``, ``scale`` and ``deviation``, where set, take the place of the network's own.
    """
    with torch.device("meta"):
        network = SEGMENTERS[config.name](config.options, num_classes)
        if config.hrda:
            network = Hrda(network)
    # A lineage is one of DeepLab-v2; a configuration may name one and then choose another network.
    lineage = LINEAGES.get(config.layout) if isinstance(network, deeplabv2.DeepLabV2) else None
    network.normalisation = _normalisation(lineage.normalisation if lineage else network.normalisation, data)
    return network.freeze_statistics() if config.bn == "frozen" else network


def empty_segmenter(config: ModelConfig, num_classes: int, data: DataConfig | None = None) -> Segmenter:
    """The network of ``config`` on the CPU with every entry zero, for weights that are loaded next."""
    network = sketch_segmenter(config, num_classes, data).to_empty(device="cpu")
    with torch.no_grad():
        for entry in network.state_dict().values():
            entry.zero_()
    return network


def build_segmenter(config: ModelConfig, num_classes: int, seed: int, data: DataConfig | None = None) -> Segmenter:
    """The network of ``config`` on the CPU, float32, every weight a function of ``seed`` and of ``model.<name>.init``.

    ``config.checkpoint`` is not read. ``bn=frozen`` freezes the statistics here; ``bn=sync`` is a conversion that needs
    the process group and is made by the caller.

    Raises:
        ValueError: published weights that ``init`` names are not installed.
    """
    network = sketch_segmenter(config, num_classes, data).to_empty(device="cpu")
    network.initialise(seed, config.options.init)
    return network


def tiny_segmenter(num_classes: int, seed: int) -> Segmenter:
    """A small network of two heads with frozen statistics, for checks of a machine."""
    options = DeepLabV2Config(layers=(1, 1, 1, 1), width=8, init="kaiming")
    return build_segmenter(ModelConfig(deeplabv2=options, bn="frozen"), num_classes, seed)


def normalisation_options(model: ModelConfig, data: DataConfig) -> dict[str, Any]:
    """What normalises the images, under the names of its options and JSON-ready: the same for a default that is spelled
    out.
    """
    bgr = sketch_segmenter(model, 2, data).normalisation.in_bgr()
    options: dict[str, Any] = {"data.mean": list(bgr.mean), "data.scale": bgr.deviation[0]}
    if len(set(bgr.deviation)) > 1:
        options |= {"data.scale": None, "data.deviation": list(bgr.deviation)}
    return options


def _normalisation(own: Normalisation, data: DataConfig | None) -> Normalisation:
    """A network's own, with what ``data.mean``, ``data.scale`` and ``data.deviation`` say in its place."""
    if data is None:
        return own
    bgr = own.in_bgr()
    deviation = data.deviation or (bgr.deviation if data.scale is None else (data.scale,) * 3)
    return Normalisation.of_bgr(own.order, data.mean or bgr.mean, deviation)
