"""What label files mean where a user says so: ids of the class file, positions, colours, or another data set's ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esl_dist import labels
from esl_dist.data import decode
from esl_dist.data.colours import ColourReader
from esl_dist.data.dataset import lookup_table
from esl_dist.labels import IGNORE, Protocol

COLOURS, IDS, TRAIN_IDS = "colours", "ids", "train_ids"
ENCODINGS = (IDS, TRAIN_IDS, COLOURS)
"""What label files of one's own may hold: the class file's ids (or positions), positions alone, or its colours."""


@dataclass(frozen=True)
class Meaning:
    """How a label file is read and what its ids mean."""

    lookup: NDArray[np.uint8]
    read_ids: Callable[[Path], NDArray[np.uint8]] = decode.read_ids


UNLABELLED = Meaning(np.full(256, IGNORE, np.uint8))
"""Of a set without labels."""


def meaning_of(encoding: str, classes: Protocol) -> Meaning:
    """What label files mean under the network's classes.

    Args:
        encoding: one of ``ENCODINGS`` (empty: ids), or a published data set's (``cityscapes``, ``gta5``, …).

    Raises:
        ValueError: another word.
    """
    identity = np.full(256, IGNORE, np.uint8)
    identity[: classes.num_classes] = np.arange(classes.num_classes)
    own = {i for i in classes.ignored if isinstance(i, int)}
    everything = frozenset(range(256))
    if encoding == COLOURS:
        return Meaning(lookup_table(identity, everything), ColourReader.of(classes))
    if encoding == TRAIN_IDS:
        return Meaning(lookup_table(identity, frozenset(range(classes.num_classes)) | own | {IGNORE}))
    if encoding in ("", IDS):
        table = np.full(256, IGNORE, np.uint8)
        for position, ids in enumerate(classes.ids):
            table[list(ids)] = position
        legal = (
            everything if classes.rest_ignored else frozenset(i for ids in classes.ids for i in ids) | own | {IGNORE}
        )
        return Meaning(lookup_table(table, legal))
    if encoding not in labels.ENCODINGS:
        raise ValueError(f"encoding: {encoding!r} is unknown; one of {', '.join((*ENCODINGS, *labels.ENCODINGS))}")
    reader = decode.read_ids16 if encoding == "synthia" else decode.read_ids
    return Meaning(lookup_table(labels.id_map(encoding, classes), labels.legal_ids(encoding)), reader)
