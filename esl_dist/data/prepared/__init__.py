"""Prepared data: images and labels at the size that the network sees, so that nothing is decoded or resized while
training.

``wanted`` says what it must be made of to be the same as reading the originals, ``shard`` is one file of it, ``make``
writes and ``dataset`` reads it. What is read is bit for bit what the originals would give, or it is not read.
"""

from esl_dist.data.prepared.dataset import PreparedDataset, fitted_image, fitted_label, use
from esl_dist.data.prepared.make import FileMaker, Prepared, other_settings, publish, read_manifest
from esl_dist.data.prepared.wanted import Entry, Wanted, describe

__all__ = [
    "Entry",
    "FileMaker",
    "Prepared",
    "PreparedDataset",
    "Wanted",
    "describe",
    "fitted_image",
    "fitted_label",
    "other_settings",
    "publish",
    "read_manifest",
    "use",
]
