"""A discriminator's checkpoint into a network: ADVENT's and ESL's keys, or AdaptSegNet's and BDL's."""

from __future__ import annotations

import torch

from esl_dist.models.discriminator import Discriminator
from esl_dist.models.weights.lineages import LoadReport
from esl_dist.models.weights.reading import Stored, refuse_not_finite

NAMES = {"conv1": "0", "conv2": "2", "conv3": "4", "conv4": "6", "classifier": "8"}
"""AdaptSegNet's and BDL's names of the five convolutions, to positions in ADVENT's sequence."""


def load_discriminator(stored: Stored, model: Discriminator) -> LoadReport:
    """See ``weights.load``. Every published code labels the source 0 and the target 1, as this package does."""
    path = stored.path
    named = "classifier.weight" in stored.tensors
    renames = {f"{old}.": f"{new}." for old, new in NAMES.items()} if named else {}
    taken = {}
    for key, value in stored.tensors.items():
        part, _, rest = key.partition(".")
        taken[f"{NAMES.get(part, part)}.{rest}" if named else key] = value
    state = model.state_dict()
    if taken.keys() != state.keys():
        raise ValueError(
            f"{path}: is no discriminator of five convolutions (keys 0, 2, 4, 6, 8 or conv1 to conv4, classifier); it"
            f" has {', '.join(list(stored.tensors)[:3])}"
        )
    classes, ndf = taken["0.weight"].shape[1], taken["0.weight"].shape[0]
    if classes != model.in_channels:
        raise ValueError(
            f"{path}: judges maps of {classes} classes, the network {model.in_channels}; choose data.classes to match"
        )
    if ndf != model.ndf:
        raise ValueError(
            f"{path}: begins with {ndf} channels, the network with {model.ndf}; set model.discriminator_width={ndf}"
        )
    for key, value in taken.items():
        if value.shape != state[key].shape:
            raise ValueError(
                f"{path}: {key} has shape {tuple(value.shape)}, the network {tuple(state[key].shape)}; another"
                " architecture"
            )
    refuse_not_finite(path, taken)
    with torch.no_grad():
        for key, value in taken.items():
            state[key].copy_(value)
    return LoadReport(
        file=str(path),
        sha256=stored.sha256,
        layout="adaptsegnet" if named else "advent",
        loaded=len(taken),
        renamed={prefix: "" for prefix in stored.prefixes} | renames,
        num_classes=classes,
        source_domain=0,
    )
