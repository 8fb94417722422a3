"""The options of the data: the two domains, the embedded pair, what is done to an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from esl_dist.config.bounds import Bound, NonNegativeInt, Pixels, PositiveFloat, Seed, Share
from esl_dist.config.check import require

Level = Annotated[float, Bound(-1000, 1000)]
"""A channel's mean."""


@dataclass(frozen=True)
class DomainConfig:
    """One set of images, as its owner ships it."""

    dataset: str = "gta5"
    """Whose layout and label encoding the folder has: gta5, synthia, urbansyn, cityscapes, foggy_cityscapes, acdc,
    darkzurich, bdd100k, mapillary, crosscity, camvid; ``folder`` for anyone's (see ``images``).
    """
    root: str = ""
    """The folder, relative to ``data.root``."""
    split: str = ""
    """The owner's name of the split (``train``, ``val``, …); empty for sets without splits. ``folder``: takes the place
    of ``{split}`` in ``images`` and ``labels``, or names one of ``shares``, or a list ``<root>/<split>.txt``.
    """
    list: str = ""
    """Text file with one image per line (as the owner names them) in place of the split's whole content."""
    labels: str = ""
    """Where a data set has several label folders, cities or conditions: which one (SYNTHIA ``GT/LABELS``, CrossCity
    ``Rome``, ACDC ``night``). ``folder``: the pattern of the labels, such as ``labels/**/*_id.png``; empty: there are
    none.
    """
    images: str = ""
    """``folder`` only: the pattern of the images below ``root``, such as ``frames/**/*.jpg`` (empty: all below
    ``images``), or a text file with an image a line and, after a tab, its label.
    """
    encoding: str = ""
    """What label files hold, where it is not what the data set's owner stores: ``ids`` (the class file's),
    ``train_ids`` (positions in the class file), ``colours`` (the class file's), or another data set's ids by name
    (``cityscapes``, ``cityscapes_train_ids``, ``gta5``, …).
    """
    shares: str = ""
    """``folder`` only: splits by share, such as ``train:0.8,val:0.2``; which image falls where is a hash of its
    name.
    """
    labelled: bool = True
    """False where the labels are withheld: nothing then looks for them."""
    size: tuple[Pixels, Pixels] = (1280, 720)
    """Width and height that images are resized to."""
    fit: Literal["stretch", "pad"] = "stretch"
    """stretch: to ``size``, whatever the image's shape; pad: keep its shape, fill up with black at the right or the
    bottom (Mapillary).
    """

    def __post_init__(self) -> None:
        for name in ("images", "shares"):
            require(
                self.dataset == "folder" or not getattr(self, name), name, f"is for dataset=folder, not {self.dataset}"
            )


@dataclass(frozen=True)
class StreetsConfig:
    """The embedded pair, written by ``python -m esl_dist.streets`` before the first stage when it is not there."""

    make: bool = False
    """Generate the pair under ``data.root`` when it is missing."""
    seed: Seed = 0
    """Seed of the scenes."""
    size: tuple[Pixels, Pixels] = (256, 128)
    """Width and height of an image."""
    source_train: NonNegativeInt = 400
    """Labelled source images."""
    target_train: NonNegativeInt = 400
    """Target images to adapt to (labels are written for the oracle and the report only)."""
    target_val: NonNegativeInt = 60
    """Target images to tune on."""
    target_test: NonNegativeInt = 200
    """Target images that results are reported on."""


@dataclass(frozen=True)
class DataConfig:
    """The two domains, the classes and what is done to an image."""

    root: str = "data"
    """Folder that relative domain roots start from."""
    classes: str = "19"
    """Classes of the network: 19, 16, 13, crosscity13, 7, 7-nature or 10 (see ``esl_dist/labels/classes``), or the
    path of a class file of one's own (YAML; ``python -m esl_dist.data FOLDER`` writes one to start from).
    """
    source: DomainConfig = field(default_factory=lambda: DomainConfig(dataset="gta5", root="gta5", size=(1280, 720)))
    """The labelled, synthetic domain."""
    target: DomainConfig = field(
        default_factory=lambda: DomainConfig(dataset="cityscapes", root="cityscapes", split="train", size=(1024, 512))
    )
    """The unlabelled, real domain; its labels are read by the oracle stage only."""
    also_source: list[DomainConfig] = field(default_factory=list)
    """Further labelled sets, in the same classes, at the source's size: all are one source, drawn by their sizes."""
    also_target: list[DomainConfig] = field(default_factory=list)
    """Further sets to adapt to, likewise; ``data.target`` alone is scored."""
    streets: StreetsConfig = field(default_factory=StreetsConfig)
    """The embedded pair of domains."""
    mean: tuple[Level, Level, Level] | None = None
    """Subtracted from the channels, B, G, R, range 0-255; not set: the network's own (DeepLab-v2: 104.00698793,
    116.66876762, 122.67891434).
    """
    scale: PositiveFloat | None = None
    """Divides the channels after the mean is subtracted; not set: the network's own (1 in the published code)."""
    deviation: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    """As ``scale``, one number for each channel, B, G, R (CRST)."""
    mirror: Share = 0.0
    """Probability of a horizontal flip."""
    blur: Share = 0.0
    """Probability of a Gaussian blur (MaxSquare uses 0.5)."""
    workers: Annotated[int, Bound(0, 1024)] = 2
    """Loader processes per rank and domain; 0 reads ahead in a thread of the training process."""
    prepared: str = "prepared"
    """Folder below ``data.root`` of what ``python -m esl_dist.prepare`` made; it is read instead of the originals where
    it gives the same bytes. Empty: never.
    """
    bad_samples: NonNegativeInt = 10
    """Samples of a set (an image with its label) that cannot be read and are left out, named and counted, in training,
    labels, scoring and preparation alike; one more stops the run.
    """
    insist: bool = False
    """Train although a sample of the labels looks like those of another encoding."""

    def __post_init__(self) -> None:
        both = self.scale is not None and self.deviation is not None
        require(
            not both, "data.deviation", "says what data.scale says, channel by channel; unset that with data.scale="
        )
