"""UrbanSyn (Gomez et al., 2023), a source: ``rgb/rgb_0001.png`` and ``ss/ss_0001.png``, train ids and 19 for
unlabelled, 7,539 of 2048x1024.

Tree and ids are those of the owner's page and of public loaders, not checked on genuine files: other ids stop the
reading. ``ss_color`` is the same in colours and left aside.
"""

from __future__ import annotations

from pathlib import Path

from esl_dist.config.schema import DomainConfig
from esl_dist.data.layout import Layout
from esl_dist.labels import TRAIN_CLASSES, Encoding

ENCODING = Encoding(dict(enumerate(TRAIN_CLASSES)), frozenset((*range(20), 255)))
"""Train ids, and 19 for what is not labelled."""


ORIGIN = "rgb/ and ss/ of huggingface.co/datasets/UrbanSyn/UrbanSyn"


def layout(root: Path, split: str, domain: DomainConfig) -> Layout:
    """Names are the numbers. A split other than the whole set is a list ``<root>/<split>.txt``."""
    return Layout("urbansyn", "rgb", "ss", "rgb_*", "ss_*", ENCODING, split_list=split, origin=ORIGIN)
