"""BDD100K's semantic segmentation (Yu et al., 2020): ``images/10k/<split>/<id>.jpg`` and
``labels/sem_seg/masks/<split>/<id>.png``, train ids.

The older release is read too: ``seg/images/<split>/<id>.jpg`` and ``seg/labels/<split>/<id>_train_id.png``. Roots may
lie one folder above, as
the zips unpack (``bdd100k/``). Test has no labels. Taken from how public loaders read it: ids that are no train ids
stop the reading.
"""

from __future__ import annotations

from pathlib import Path

from esl_dist.config.schema import DomainConfig
from esl_dist.data.layout import Layout

SPLITS = ("train", "val", "test")

# Images, labels, and what a label is called.
_TREES = (("images/10k", "labels/sem_seg/masks", "*"), ("seg/images", "seg/labels", "*_train_id"))


ORIGIN = "bdd100k_images_10k.zip and bdd100k_sem_seg_labels_trainval.zip of bdd-data.berkeley.edu"


def layout(root: Path, split: str, domain: DomainConfig) -> Layout:
    """Names are the stems.

    Raises:
        ValueError: another split.
    """
    if split not in SPLITS:
        raise ValueError(f"bdd100k: split {split!r} is unknown; set it to train, val or test")
    above = "bdd100k/" if (root / "bdd100k").is_dir() else ""
    images, labels, name = next((tree for tree in _TREES if (root / above / tree[0]).is_dir()), _TREES[0])
    where = f"{above}{labels}/{split}" if split != "test" else ""
    return Layout(
        "bdd100k", f"{above}{images}/{split}", where, "*", name, encoding="cityscapes_train_ids", origin=ORIGIN
    )
