"""SYNTHIA-RAND-CITYSCAPES (Ros et al., 2016): ``RGB/0000000.png`` and labels in the original or one of three converted
folders.

Taken from how public loaders read them, not checked on genuine files, so everything is checked on reading:
``GT/LABELS`` is the original
(16-bit colour PNG, class in the first channel); ``GT/CLASSES``, ``parsed_LABELS`` and ``synthia_mapped_to_cityscapes``
are conversions to 8-bit ids. Conversions of the same folder name exist with SYNTHIA's ids (the default here),
Cityscapes' label ids or its train ids: the latter two hold ids that SYNTHIA lacks, reading stops at the first of them,
and ``labels=FOLDER:label_ids`` or ``FOLDER:train_ids`` names what they are.
"""

from __future__ import annotations

from pathlib import Path

from esl_dist.config.schema import DomainConfig
from esl_dist.data import decode
from esl_dist.data.layout import Layout

LABEL_FOLDERS = ("GT/LABELS", "GT/CLASSES", "parsed_LABELS", "synthia_mapped_to_cityscapes")

_ENCODINGS = {"": "synthia", "label_ids": "cityscapes", "train_ids": "cityscapes_train_ids"}


ORIGIN = "SYNTHIA_RAND_CITYSCAPES.rar of synthia-dataset.net"


def layout(root: Path, split: str, domain: DomainConfig) -> Layout:
    """``domain.labels``: one of ``LABEL_FOLDERS``, optionally with its encoding; empty takes the only one that is
    there.

    Raises:
        ValueError: several label folders and none chosen, or an unknown one.
    """
    chosen, _, encoding = domain.labels.partition(":")
    if encoding not in _ENCODINGS:
        raise ValueError(
            f"synthia: labels={domain.labels} has an unknown encoding; after the colon goes label_ids or train_ids"
        )
    if not chosen:
        present = [folder for folder in LABEL_FOLDERS if (root / folder).is_dir()]
        if domain.labelled and len(present) > 1:
            raise ValueError(
                f"synthia: {root} has several label folders ({', '.join(present)}); choose one with labels={present[0]}"
            )
        chosen = present[0] if present else LABEL_FOLDERS[0]
    if chosen not in LABEL_FOLDERS:
        raise ValueError(f"synthia: labels={domain.labels} is unknown; one of {', '.join(LABEL_FOLDERS)}")
    return Layout(
        "synthia",
        "RGB",
        chosen,
        encoding=_ENCODINGS[encoding],
        read_ids=decode.read_ids16,
        split_list=split,
        origin=ORIGIN,
    )
