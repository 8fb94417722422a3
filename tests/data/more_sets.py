"""Writers of the smaller target sets' trees, with the files beside them that must be left aside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.data import disk

LABEL_IDS, TRAIN_IDS = [*range(34), 255], [*range(19), 255]
SIZE = (16, 8)


def _adverse(root: Path, where: str, frame: str, labelled: bool, size: tuple[int, int]) -> None:
    """A frame of ACDC or Dark Zurich and everything that is shipped beside its label."""
    disk.image(root / f"rgb_anon/{where}/{frame}_rgb_anon.png", size)
    if labelled:
        for kind, ids in (("labelIds", LABEL_IDS), ("labelTrainIds", TRAIN_IDS), ("invIds", LABEL_IDS)):
            disk.grey(root / f"gt/{where}/{frame}_gt_{kind}.png", disk.ids(ids, size))
        disk.image(root / f"gt/{where}/{frame}_gt_labelColor.png", size)


def acdc(root: Path, size: tuple[int, int] = SIZE) -> None:
    """``rgb_anon_trainvaltest.zip`` and ``gt_trainval.zip``."""
    for condition, split, drive in (("fog", "train", "GP1"), ("night", "train", "GP2"), ("rain", "val", "GP3")):
        _adverse(root, f"{condition}/{split}/{drive}", f"{drive}_frame_000001", True, size)
        disk.image(root / f"rgb_anon/{condition}/{split}_ref/{drive}/{drive}_frame_000001_rgb_ref_anon.png", size)
    _adverse(root, "snow/test/GP4", "GP4_frame_000001", False, size)


def darkzurich(root: Path, size: tuple[int, int] = SIZE) -> None:
    """``Dark_Zurich_train_anon.zip`` and ``Dark_Zurich_val_anon.zip``."""
    for time, number in (("day", 1), ("night", 2), ("twilight", 3)):
        _adverse(root, f"train/{time}/GP1", f"GP1_frame_{number:06d}", False, size)
    _adverse(root, "val/night/GP3", "GP3_frame_000003", True, size)
    disk.image(root / "rgb_anon/val_ref/day/GP3/GP3_frame_000003_ref_rgb_anon.png", size)


def foggy_cityscapes(root: Path, size: tuple[int, int] = SIZE) -> None:
    """``leftImg8bit_trainvaltest_foggy.zip`` beside ``gtFine_trainvaltest.zip``."""
    for split, city in (("train", "ulm"), ("val", "jena")):
        stem = f"{city}_000000_000019"
        for density in ("0.02", "0.01", "0.005"):
            disk.image(root / f"leftImg8bit_foggy/{split}/{city}/{stem}_leftImg8bit_foggy_beta_{density}.png", size)
        disk.grey(root / f"gtFine/{split}/{city}/{stem}_gtFine_labelIds.png", disk.ids(LABEL_IDS, size))
        disk.image(root / f"gtFine/{split}/{city}/{stem}_gtFine_color.png", size)


def bdd100k(root: Path, size: tuple[int, int] = SIZE) -> None:
    """``bdd100k_images_10k.zip`` and ``bdd100k_sem_seg_labels_trainval.zip``."""
    for number, split in enumerate(("train", "val", "test")):
        name = f"0a0a0b1a-7c39d84{number + 1}"
        disk.image(root / f"images/10k/{split}/{name}.jpg", size)
        if split != "test":
            disk.grey(root / f"labels/sem_seg/masks/{split}/{name}.png", disk.ids(TRAIN_IDS, size))
            disk.image(root / f"labels/sem_seg/colormaps/{split}/{name}.png", size)


def urbansyn(root: Path, size: tuple[int, int] = SIZE) -> None:
    """The owner's folders, and a list of the user's."""
    for number in ("0001", "0002"):
        disk.image(root / f"rgb/rgb_{number}.png", size)
        disk.grey(root / f"ss/ss_{number}.png", disk.ids([*range(20), 255], size))
        disk.image(root / f"ss_color/ss_color_{number}.png", size)
    (root / "train.txt").write_text("rgb_0002.png\n")


SETS: dict[str, Callable[[Path], None]] = {
    "acdc": acdc,
    "darkzurich": darkzurich,
    "foggy_cityscapes": foggy_cityscapes,
    "bdd100k": bdd100k,
    "urbansyn": urbansyn,
}
