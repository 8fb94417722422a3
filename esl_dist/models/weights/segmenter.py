"""A segmenter's checkpoint into a network, whichever of the lineage's codes wrote it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from esl_dist.models.deeplabv2 import DeepLabV2
from esl_dist.models.weights.anatomy import Anatomy, examine
from esl_dist.models.weights.lineages import LINEAGES, Lineage, LoadReport
from esl_dist.models.weights.reading import Stored, refuse_not_finite

PLACES = {"aux": "layer5", "main": "layer6"}


def load_segmenter(stored: Stored, model: DeepLabV2, layout: str, branches: int | None) -> LoadReport:
    """See ``weights.load``."""
    found = examine(stored)
    lineage, explicit = _lineage(stored, found, layout)
    _check_backbone(stored, found, model)
    notes: list[str] = []
    heads: dict[str, str] = {}
    function = None
    if lineage.name != "resnet101":
        heads = _check_heads(stored, found, model, lineage, explicit)
        function, note = _branches(stored, found, model, lineage if explicit else None, branches)
        notes += [note] if note else []
    taken, dropped = _placed(stored.tensors, heads, model.aspp_branches)
    missing = _check_entries(stored, taken, model, heads)
    refuse_not_finite(stored.path, taken)
    _copy(taken, model)
    if lineage.name == "crst" and model.normalisation != lineage.normalisation:
        notes.append(
            "crst expects B G R / 255 with ImageNet's mean and deviation; data.mean and data.deviation must say so"
        )
    if missing_heads := sorted({key.split(".")[0] for key in missing if key.startswith(tuple(PLACES.values()))}):
        notes.append(f"the file gives {' and '.join(missing_heads)} no weights: left at the initial ones")
    renamed = {prefix: "" for prefix in stored.prefixes} | {
        f"{old}.": f"{PLACES[role]}." for role, old in heads.items() if old != PLACES[role]
    }
    return LoadReport(
        file=str(stored.path),
        sha256=stored.sha256,
        layout=lineage.name,
        loaded=len(taken),
        dropped=tuple(dropped),
        renamed=renamed,
        missing=tuple(missing),
        num_classes=found.num_classes if heads else None,
        branches=function,
        input_normalisation=lineage.normalisation,
        output_order=lineage.output_order if found.has_layer6 else ("main",) if heads else (),
        notes=tuple(notes),
    )


def _lineage(stored: Stored, found: Anatomy, layout: str) -> tuple[Lineage, bool]:
    """Whose file it is, and whether that is known (named by the caller, or this package's own) rather than
    recognised.
    """
    if stored.own:
        return LINEAGES["esl_dist"], True
    if layout != "auto":
        lineage = LINEAGES[layout]
        single = found.heads.get("main") if len(found.heads) == 1 else None
        if layout != "resnet101" and not found.heads:
            raise ValueError(
                f"{stored.path}: has no segmentation head, so it is not {layout}'s; to train on its"
                " backbone, set model.layout=resnet101"
            )
        if found.has_layer6 and not lineage.multi_level:
            raise ValueError(
                f"{stored.path}: has a head layer6, which {layout}'s files do not; set model.layout to advent,"
                " adaptsegnet or maxsquare"
            )
        if layout in ("advent", "bdl", "crst") and single not in (None, lineage.single_head):
            raise ValueError(
                f"{stored.path}: calls its main head {single}, {layout} calls it {lineage.single_head}; set"
                " model.layout to bdl, adaptsegnet or crst"
            )
        return lineage, True
    if "Scale." in stored.prefixes:
        return LINEAGES["resnet101"], False
    if not found.heads:
        raise ValueError(
            f"{stored.path}: has no segmentation head and does not show whose ResNet it is; if DeepLab's (not"
            " torchvision's), set model.layout=resnet101 to train on it"
        )
    if _looks_like_maxsquare(stored, found):
        return LINEAGES["maxsquare"], False
    if found.tail_untrained:
        return LINEAGES["adaptsegnet"], False
    return LINEAGES["advent" if found.has_layer6 else "bdl"], False


def _looks_like_maxsquare(stored: Stored, found: Anatomy) -> bool:
    return stored.wrapped and "module." in stored.prefixes and len(found.heads) == 2


def _check_backbone(stored: Stored, found: Anatomy, model: DeepLabV2) -> None:
    if found.layers != model.layers:
        sizes = ",".join(map(str, found.layers))
        raise ValueError(
            f"{stored.path}: has {sizes} bottlenecks per layer, the network {','.join(map(str, model.layers))}; set"
            f" model.deeplabv2.layers=[{sizes}]"
        )
    if found.width != model.width:
        raise ValueError(
            f"{stored.path}: has a stem of {found.width} channels, the network {model.width}; set"
            f" model.deeplabv2.width={found.width}"
        )


def _check_heads(stored: Stored, found: Anatomy, model: DeepLabV2, lineage: Lineage, explicit: bool) -> dict[str, str]:
    """The heads to take: role to the file's prefix."""
    if found.num_classes != model.num_classes:
        raise ValueError(
            f"{stored.path}: has {found.num_classes} classes, the network {model.num_classes}; choose data.classes to"
            " match, or, to train on its backbone alone, set model.layout=resnet101"
        )
    if model.multi_level and "aux" not in found.heads and (not explicit or lineage.name == "esl_dist"):
        raise ValueError(
            f"{stored.path}: has one head, the network two; set model.deeplabv2.multi_level=false, or name its"
            " model.layout to start the aux head anew"
        )
    return {role: name for role, name in found.heads.items() if role == "main" or model.multi_level}


def _branches(
    stored: Stored, found: Anatomy, model: DeepLabV2, known: Lineage | None, stated: int | None
) -> tuple[int, str]:
    """How many stored branches the file's own code sums, and what that had to be taken on trust.

    AdaptSegNet's and ADVENT's files have the same 640 keys and shapes; one sums two branches, the other four.
    """
    path, wanted, ambiguous = (
        stored.path,
        model.aspp_branches,
        "AdaptSegNet and MaxSquare sum two of the four stored ASPP branches, ADVENT, ESL, BDL and CRST all four",
    )
    note = ""
    if stated is not None:
        function = stated
    elif found.branches == 2 or stored.own:
        function = found.branches
    elif found.tail_is_zero:
        function = wanted
    elif known is not None:
        function = known.branches
    elif found.tail_untrained:
        function, note = 2, "its ASPP branches 2 and 3 were never trained, so it is read as a sum of two"
    elif wanted == 4 and not _looks_like_maxsquare(stored, found):
        function, note = 4, f"{ambiguous}: read as four, as model.deeplabv2.aspp_branches says"
    elif wanted == 2 and _looks_like_maxsquare(stored, found):
        function, note = (
            2,
            f"{ambiguous}: read as MaxSquare's (state_dict, module.), as model.deeplabv2.aspp_branches says",
        )
    else:
        raise ValueError(
            f"{path}: {ambiguous}, and the file does not show which; set model.layout to its lineage, with"
            " model.deeplabv2.aspp_branches to match"
        )
    if function > found.branches:
        raise ValueError(
            f"{path}: stores {found.branches} ASPP branches, so it cannot sum {function}; leave out branches"
        )
    if function != wanted:
        raise ValueError(
            f"{path}: its heads sum {function} ASPP branches, the network's {wanted}{f' ({note})' if note else ''}; set"
            f" model.deeplabv2.aspp_branches={function}"
        )
    return function, note


def _placed(
    tensors: Mapping[str, Tensor], heads: Mapping[str, str], branches: int
) -> tuple[dict[str, Tensor], list[str]]:
    """The file's tensors under this package's keys, and the keys that are left out: other heads, unsummed branches."""
    places = {name: PLACES[role] for role, name in heads.items()}
    taken: dict[str, Tensor] = {}
    dropped: list[str] = []
    for key, value in tensors.items():
        part, _, rest = key.partition(".")
        if part in ("layer5", "layer6"):
            place = places.get(part)
            index = rest.split(".")[1] if rest.startswith("conv2d_list.") else "0"
            if place is None or int(index) >= branches:
                dropped.append(key)
            else:
                taken[f"{place}.{rest}"] = value
        else:
            taken[key] = value
    return taken, dropped


def _check_entries(
    stored: Stored, taken: Mapping[str, Tensor], model: DeepLabV2, heads: Mapping[str, str]
) -> list[str]:
    """Keys of the network that the file need not give; ValueError for any other difference."""
    state = model.state_dict()
    unknown = [key for key in taken if key not in state]
    if unknown:
        raise ValueError(
            f"{stored.path}: {len(unknown)} entries have no place in the network, first {unknown[0]}; another"
            " architecture"
        )
    absent = [key for key in state if key not in taken]
    optional = tuple(f"{place}." for role, place in PLACES.items() if role not in heads)
    needed = [
        key for key in absent if not key.endswith("num_batches_tracked") and not (optional and key.startswith(optional))
    ]
    if needed:
        raise ValueError(
            f"{stored.path}: {len(needed)} entries are missing, first {needed[0]}; another architecture, or an"
            " incomplete file"
        )
    for key, value in taken.items():
        if value.shape != state[key].shape:
            raise ValueError(
                f"{stored.path}: {key} has shape {tuple(value.shape)}, the network {tuple(state[key].shape)}; another"
                " architecture"
            )
    return absent


@torch.no_grad()
def _copy(taken: Mapping[str, Tensor], model: DeepLabV2) -> None:
    state = model.state_dict()
    for key, value in taken.items():
        state[key].copy_(value)
