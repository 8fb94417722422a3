"""What network a segmenter checkpoint holds, from its keys, shapes and - for branches that never trained - values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from esl_dist.models.weights.reading import Stored

_BRANCH = re.compile(r"(layer[56])\.conv2d_list\.(\d+)\.weight")
INITIAL_SPREAD = 0.01  # of every lineage's head weights before training


@dataclass(frozen=True)
class Anatomy:
    """A stored DeepLab-v2."""

    width: int
    layers: tuple[int, ...]
    heads: Mapping[str, str]
    """Role (main, aux) to the file's key prefix (layer5, layer6)."""
    num_classes: int | None
    """None without heads."""
    branches: int
    """Convolutions stored per head; 0 without heads."""
    tail_is_zero: bool
    """Four branches stored and the last two all zero: summing two or four is the same function."""
    tail_untrained: bool
    """Four branches stored and the last two never trained, though the first two were: its code sums two."""

    @property
    def has_layer6(self) -> bool:
        return "layer6" in self.heads.values()


def examine(stored: Stored) -> Anatomy:
    """The network in ``stored``.

    Raises:
        ValueError: not a DeepLab-v2 on a bottleneck ResNet; one line that says what it is, where that shows.
    """
    path, tensors = stored.path, stored.tensors
    _refuse_others(path, tensors)
    width = tensors["conv1.weight"].shape[0]
    layers = tuple(_blocks(tensors, f"layer{i}.") for i in range(1, 5))
    heads: dict[str, str] = {}
    for name in sorted({match[1] for key in tensors if (match := _BRANCH.fullmatch(key))}):
        channels = tensors[f"{name}.conv2d_list.0.weight"].shape[1]
        role = {width * 16: "aux", width * 32: "main"}.get(channels)  # layer5 is either, depending on whose file it is
        if role is None or role in heads:
            raise ValueError(
                f"{path}: head {name} has {channels} input channels, where layer3 gives {width * 16} and layer4"
                f" {width * 32}; another architecture"
            )
        heads[role] = name
    if heads and "main" not in heads:
        raise ValueError(f"{path}: has a head on layer3 but none on layer4; another architecture")
    if not heads:
        return Anatomy(width, layers, heads, None, 0, False, False)
    branches = {
        name: [tensors[k] for k in sorted(tensors) if (m := _BRANCH.fullmatch(k)) and m[1] == name]
        for name in heads.values()
    }
    counts, classes = {len(b) for b in branches.values()}, {weight.shape[0] for b in branches.values() for weight in b}
    if len(classes) != 1 or not counts <= {2, 4} or len(counts) != 1:
        raise ValueError(
            f"{path}: heads of {sorted(classes)} classes with {sorted(counts)} branches; this network takes one class"
            " count and 2 or 4 branches"
        )
    tails = [weight for b in branches.values() for weight in b[2:]]
    biases = [
        tensors[f"{name}.conv2d_list.{i}.bias"]
        for name in branches
        for i in (2, 3)
        if f"{name}.conv2d_list.{i}.bias" in tensors
    ]
    zero = bool(tails) and all(not tensor.any() for tensor in [*tails, *biases])
    untrained = bool(tails) and not zero and all(_untrained_tail(b) for b in branches.values())
    return Anatomy(width, layers, heads, classes.pop(), counts.pop(), zero, untrained)


def _refuse_others(path: Path, tensors: Mapping[str, Tensor]) -> None:
    has_head = any(_BRANCH.fullmatch(key) for key in tensors)
    if "fc.weight" in tensors and "layer1.0.conv1.weight" in tensors and not has_head:
        raise ValueError(
            f"{path}: is torchvision's ResNet, whose strides sit in the 3x3 convolutions and whose input is RGB in [0,"
            " 1]: the same keys would compute another function; take the Caffe ResNet-101 of DeepLab (keys"
            " Scale.conv1, ...), or train from model.deeplabv2.init=kaiming"
        )
    if {"0.weight", "8.weight"} <= tensors.keys() or {"conv4.weight", "classifier.weight"} <= tensors.keys():
        raise ValueError(f"{path}: holds a discriminator, not a segmenter; load the segmenter's file")
    needed = ["conv1.weight", *(f"layer{i}.0.conv3.weight" for i in range(1, 5))]
    absent = [key for key in needed if key not in tensors]
    if absent:
        raise ValueError(
            f"{path}: is no DeepLab-v2 on a bottleneck ResNet: {absent[0]} is missing (its keys begin"
            f" {', '.join(list(tensors)[:2])})"
        )


def _blocks(tensors: Mapping[str, Tensor], prefix: str) -> int:
    return len({key.split(".")[1] for key in tensors if key.startswith(prefix)})


def _untrained_tail(weights: list[Tensor]) -> bool:
    """Whether branches 2 and 3 still have their initial spread where branches 0 and 1 have lost it.

    The centre tap of a dilated convolution sees the same pixel whatever the dilation, so in a sum of four the centres
    of all four get the same gradient: trained centres beside untouched ones mean that only two are summed.
    """
    spread = [float(weight[:, :, 1, 1].float().std()) / INITIAL_SPREAD for weight in weights]
    error = max(0.02, 4 * (2 * weights[0][:, :, 1, 1].numel()) ** -0.5)
    untouched = all(abs(s - 1) < error for s in spread[2:])
    return untouched and all(abs(s - 1) > 0.1 + error for s in spread[:2])
