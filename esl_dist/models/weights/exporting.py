"""A network's weights as a file that the lineage's own code loads, strictly."""

from __future__ import annotations

from pathlib import Path
from typing import IO, cast

import torch
from torch import Tensor

from esl_dist.atomic import replacing
from esl_dist.models.deeplabv2 import DILATIONS, DeepLabV2
from esl_dist.models.discriminator import Discriminator
from esl_dist.models.weights.discriminator import NAMES
from esl_dist.models.weights.lineages import LINEAGES

EXPORTS = ("advent", "adaptsegnet", "bdl", "maxsquare")


def export(model: DeepLabV2 | Discriminator, path: str | Path, layout: str = "advent") -> None:
    """Write the weights of ``model`` to ``path`` under the keys of ``layout``: advent (and ESL), adaptsegnet, bdl or
    maxsquare.

    A head of two branches is written with four, the last two zero: the code that sums two and the code that sums four
    then compute the same function. The file appears complete or not at all.

    Raises:
        ValueError: unknown layout, or one whose code would compute another function or cannot hold the network.
    """
    if layout not in EXPORTS:
        raise ValueError(f"layout: cannot export to {layout!r}; one of {', '.join(EXPORTS)}")
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    if isinstance(model, Discriminator):
        content: dict[str, object] = dict(_discriminator(state, layout))
    else:
        content = dict(_segmenter(state, model, layout))
        if layout == "maxsquare":
            content = {"state_dict": {f"module.{key}": value for key, value in content.items()}}
    with replacing(Path(path)) as file:
        torch.save(content, cast(IO[bytes], file))


def _segmenter(state: dict[str, Tensor], model: DeepLabV2, layout: str) -> dict[str, Tensor]:
    lineage = LINEAGES[layout]
    if model.aspp_branches > lineage.branches:
        raise ValueError(
            f"layout: {layout}'s code sums {lineage.branches} ASPP branches and would compute another function than"
            f" this network of {model.aspp_branches}; export to advent"
        )
    if model.multi_level and not lineage.multi_level:
        raise ValueError(f"layout: {layout}'s network has one head, this one two; export to advent")
    for name in [head for head in ("layer5", "layer6") if f"{head}.conv2d_list.0.weight" in state]:
        for index in range(model.aspp_branches, len(DILATIONS)):
            for kind in ("weight", "bias"):
                state[f"{name}.conv2d_list.{index}.{kind}"] = torch.zeros_like(state[f"{name}.conv2d_list.0.{kind}"])
    if not model.multi_level:
        state = {
            key.replace("layer6.", f"{lineage.single_head}.", 1) if key.startswith("layer6.") else key: value
            for key, value in state.items()
        }
    order = {"layer5": 1, "layer6": 2}
    return dict(
        sorted(state.items(), key=lambda item: order.get(item[0].partition(".")[0], 0))
    )  # stable: layer5 before layer6, branches in turn


def _discriminator(state: dict[str, Tensor], layout: str) -> dict[str, Tensor]:
    if layout in ("advent", "maxsquare"):
        return state
    names = {position: name for name, position in NAMES.items()}
    return {f"{names[key.partition('.')[0]]}.{key.partition('.')[2]}": value for key, value in state.items()}
