"""Every data set of ``configs/`` as its owner lays it out and encodes it, a few tiny random images each, and the tiny
initial weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from esl_dist.config.schema import DeepLabV2Config, ModelConfig
from esl_dist.labels import vistas
from esl_dist.models import build_segmenter
from tests.data import disk

WIDTH, LAYERS = 8, (1, 1, 1, 1)
"""Of the network that all dry runs use."""

STREET_IDS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33, 0]
"""Cityscapes label ids of the 19 classes and one that is ignored."""


def blocks(values: list[int], size: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """A label of (width, height) in blocks of 8 pixels, so that it survives being resized."""
    chosen = np.random.RandomState(seed).choice(values, (-(-size[1] // 8), -(-size[0] // 8)))
    return chosen.repeat(8, 0).repeat(8, 1)[: size[1], : size[0]].astype(np.uint8)


def gta5(root: Path) -> None:
    for seed, name in enumerate(("00001", "00002", "00003")):
        disk.image(root / f"images/{name}.png", (76, 42), seed)
        disk.palette(root / f"labels/{name}.png", blocks([*STREET_IDS, 34], (76, 42), seed))
    (root / "train.txt").write_text("00001.png\n00003.png\n")


def synthia(root: Path) -> None:
    for seed in range(3):
        disk.image(root / f"RGB/{seed:07d}.png", (64, 38), seed)
        disk.synthia_label(root / f"GT/LABELS/{seed:07d}.png", blocks(list(range(23)), (64, 38), seed))


def cityscapes(root: Path) -> None:
    frames = [
        ("train", "ulm_000000"),
        ("train", "ulm_000001"),
        ("train", "jena_000000"),
        ("val", "lindau_000000"),
        ("val", "lindau_000001"),
    ]
    for seed, (split, frame) in enumerate(frames):
        city, stem = frame.partition("_")[0], f"{frame}_000019"
        disk.image(root / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png", (96, 48), seed)
        disk.grey(
            root / f"gtFine/{split}/{city}/{stem}_gtFine_labelIds.png", blocks([*STREET_IDS, 255], (96, 48), seed)
        )


def mapillary(root: Path) -> None:
    root.mkdir(parents=True)
    entries = [
        {"name": name.lower().replace(" ", "-"), "readable": name, "color": [0, 0, 0], "evaluate": True}
        for name in vistas.NAMES_V1
    ]
    (root / "config.json").write_text(json.dumps({"labels": entries, "version": "1.1", "mapping": "public"}))
    for part, sizes in (("training", [(64, 48), (128, 72), (36, 64)]), ("validation", [(80, 60), (160, 90)])):
        for seed, size in enumerate(sizes):
            disk.image(root / f"{part}/images/pic{seed}.jpg", size, seed)
            disk.palette(root / f"{part}/labels/pic{seed}.png", blocks(list(range(66)), size, seed))


def crosscity(root: Path) -> None:
    for city in ("Rome", "Rio", "Tokyo", "Taipei"):
        for seed in range(2):
            disk.image(root / f"{city}/Images/Train/pano_{seed}.jpg", (96, 48), seed)
            disk.image(root / f"{city}/Images/Test/pano_1{seed}.png", (96, 48), 10 + seed)
            disk.grey(root / f"{city}/Labels/Test/pano_1{seed}_eval.png", blocks(STREET_IDS, (96, 48), seed))


def camvid_day_to_dusk(root: Path) -> None:
    for split in ("source", "target"):
        frames = [f"{split}_{seed:05d}" for seed in range(3)]
        for seed, frame in enumerate(frames):
            disk.image(root / f"{split}/{frame}.png", (48, 36), seed)
            if split == "source":
                disk.grey(root / f"sourceannot/{frame}.png", blocks(list(range(12)), (48, 36), seed))
        (root / f"{split}.txt").write_text("".join(f"{split}/{frame}.png\n" for frame in frames))


SETS: Mapping[str, Callable[[Path], None]] = {
    "gta5": gta5,
    "synthia": synthia,
    "cityscapes": cityscapes,
    "mapillary": mapillary,
    "crosscity": crosscity,
}


def everything(root: Path) -> Path:
    """All sets below ``root``, CamVid's frames beside the others in its own folder; returns ``root``."""
    for name, write in SETS.items():
        write(root / name)
    camvid_day_to_dusk(root)
    return root


def initial_weights(path: Path) -> Path:
    """The published initial ResNet-101's key layout (``Scale.`` before every key, a head of 21 classes), in the dry
    runs' size.
    """
    network = build_segmenter(
        ModelConfig(deeplabv2=DeepLabV2Config(width=WIDTH, layers=LAYERS)), 21, seed=0
    ).state_dict()
    backbone = {f"Scale.{key}": value for key, value in network.items() if not key.startswith(("layer5.", "layer6."))}
    head = {
        key.replace("layer6.", "Scale.layer5."): value for key, value in network.items() if key.startswith("layer6.")
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**backbone, **head}, path)
    return path
