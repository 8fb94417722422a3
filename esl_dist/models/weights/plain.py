"""A segmenter's checkpoint into a network that no lineage publishes: this package's own file, or what the network
adopts.
"""

from __future__ import annotations

import torch

from esl_dist.models.segmenter import Segmenter
from esl_dist.models.weights.lineages import LoadReport
from esl_dist.models.weights.reading import Stored, refuse_not_finite


def load_plain(stored: Stored, model: Segmenter) -> LoadReport:
    """See ``weights.load``. Heads may be missing from somebody else's file; whatever else differs is refused."""
    taken = {key: value for key, value in model.adopt(stored.tensors).items() if isinstance(key, str)}
    state = model.state_dict()
    what = model.describe()
    unknown = [key for key in taken if key not in state]
    if unknown or not taken:
        first = unknown[0] if unknown else next(iter(stored.tensors))
        raise ValueError(
            f"{stored.path}: {len(unknown) or 'all'} entries have no place in the network ({what}), first {first}; set"
            " model.name and the options below it to the network that the file holds"
        )
    for key, value in taken.items():
        if value.shape != state[key].shape:
            raise ValueError(
                f"{stored.path}: {key} has shape {tuple(value.shape)}, the network ({what}) {tuple(state[key].shape)};"
                " set the options of model.name, or data.classes, to what the file holds"
            )
    heads = {name for group in model.parameter_groups() if group.head for name, _ in group.parameters}
    optional = tuple({f"{name.partition('.')[0]}." for name in heads}) if not stored.own else ()
    missing = tuple(key for key in state if key not in taken)
    needed = [
        key for key in missing if not key.endswith("num_batches_tracked") and not key.startswith(optional or "\0")
    ]
    if needed:
        raise ValueError(
            f"{stored.path}: {len(needed)} entries of the network ({what}) are missing, first {needed[0]}; another"
            " architecture, or an incomplete file"
        )
    refuse_not_finite(stored.path, taken)
    with torch.no_grad():
        for key, value in taken.items():
            state[key].copy_(value)
    places = sorted({key.partition(".")[0] for key in missing if not key.endswith("num_batches_tracked")})
    note = (f"the file gives {', '.join(places)} no weights: left at the initial ones",) if places else ()
    return LoadReport(
        file=str(stored.path),
        sha256=stored.sha256,
        layout="esl_dist" if stored.own else "auto",
        loaded=len(taken),
        dropped=tuple(key for key in stored.tensors if key not in taken and len(taken) < len(stored.tensors)),
        renamed={prefix: "" for prefix in stored.prefixes},
        missing=missing,
        num_classes=None if places else model.num_classes,
        input_normalisation=model.normalisation,
        output_order=("main", "aux") if model.multi_level else ("main",),
        notes=note,
    )
