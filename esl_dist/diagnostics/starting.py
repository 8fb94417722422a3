"""A configuration to start from, for a folder that somebody has: the published set that it is, or images and labels by
pattern.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from esl_dist.atomic import write_text
from esl_dist.config.schema import DataConfig, DomainConfig
from esl_dist.data import open_dataset
from esl_dist.data.dataset import DataError, FolderDataset
from esl_dist.data.files import LABEL_SUFFIXES
from esl_dist.data.look import look, sample
from esl_dist.data.patterns import matching
from esl_dist.data.sampler import spread
from esl_dist.data.sets import DATASETS
from esl_dist.diagnostics.guess import Pairs, colours_of, common_size, groups, pairs
from esl_dist.diagnostics.sheet import contact_sheet
from esl_dist.labels import ENCODINGS, IGNORE, PROTOCOLS, TRAIN_CLASSES, protocol

SAMPLED, SHEET_ROWS = 40, 6
"""Label files that say which ids there are; rows of the contact sheet."""

_SPLITS = ("train", "", "val", "test", "training")


@dataclass(frozen=True)
class Start:
    """What was written, and what was found."""

    config: Path
    classes: str
    """A shipped set's name, or the class file."""
    sheet: Path
    lines: tuple[str, ...]
    """What was found, a line each."""


def start(root: Path, config: Path) -> Start:
    """Look at a folder and write ``config``, a class file and a contact sheet beside it.

    Raises:
        ValueError: nothing to be read there, or files that would be overwritten.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    class_file, sheet = config.with_name(f"{config.stem}_classes.yaml"), config.with_suffix(".png")
    there = [path for path in (config, class_file, sheet) if path.exists()]
    if there:
        raise ValueError(f"{there[0]} is there already; name another file with --out")
    published = _published(root)
    if published is not None:
        domain, opened = published
        lines = [f"{domain.dataset}'s layout, split {domain.split!r}: {len(opened)} images"]
        alone = replace(domain, labelled=opened.labelled)
        write_text(config, _text(root, "19", alone if opened.labelled else None, None if opened.labelled else alone))
        contact_sheet(opened, spread(len(opened), SHEET_ROWS), protocol("19"), sheet)
        return Start(config, "19", sheet, tuple(lines))
    found = pairs(groups(root))
    lines = [
        *([f"labelled: {found.labelled}, labels: {found.labels} ({found.encoding})"] if found.labelled else []),
        *([f"unlabelled: {found.unlabelled}"] if found.unlabelled else []),
        *(
            [f"{found.mixed} images beside labelled ones have no label: they are left out by a list"]
            if found.mixed
            else []
        ),
    ]
    classes, encoding = "19", ""
    if found.labelled:
        classes, encoding, said = _classes(root, found, class_file)
        lines += said
    labelled, unlabelled = _domains(root, found, encoding, config)
    write_text(config, _text(root, classes, labelled, unlabelled))
    shown = [domain for domain in (labelled, unlabelled) if domain is not None]
    opened = open_dataset(replace(shown[0], root="."), str(root), classes)
    contact_sheet(opened, spread(len(opened), SHEET_ROWS), protocol(classes), sheet)
    return Start(config, classes, sheet, tuple(lines))


def _published(root: Path) -> tuple[DomainConfig, FolderDataset] | None:
    """The published set whose tree and ids these are, if any."""
    for name in DATASETS:
        for split in _SPLITS:
            try:
                domain = DomainConfig(dataset=name, root=str(root.absolute()), split=split)
                data = DataConfig(root="", source=domain, classes="10" if name == "camvid" else "19")
                opened = open_dataset(domain, "", data.classes)
                look(opened, data, "source")
                for index in spread(len(opened), 2):
                    opened.label(index) if opened.labelled else opened.size(index)
                return domain, opened
            except ValueError:
                continue
    return None


def _classes(root: Path, found: Pairs, class_file: Path) -> tuple[str, str, list[str]]:
    """Name or file of the classes, what the labels hold, and what to say of it."""
    files = list(matching(root, found.labels, LABEL_SUFFIXES, "labels").values())
    chosen = [files[i] for i in spread(len(files), SAMPLED)]
    if found.encoding == "colours":
        colours = [colour for colour, _ in sorted(colours_of(chosen).items(), key=lambda pair: -pair[1])]
        if set(colours) <= {*TRAIN_CLASSES.values(), (0, 0, 0)} and len(colours) > 3:
            return "19", "colours", ["labels are in Cityscapes' colours"]
        rows = [f"  - {{name: class {i}, colour: [{r}, {g}, {b}]}}" for i, (r, g, b) in enumerate(colours)]
        write_text(class_file, _HEAD + "classes:\n" + "\n".join(rows) + "\n")
        return (
            str(class_file),
            "colours",
            [f"{len(colours)} colours in {len(chosen)} labels: name them in {class_file}"],
        )
    ids = _ids(chosen)
    listed = ", ".join(map(str, ids))
    if {7, 11, 21, 23, 26} <= set(ids) <= {*ENCODINGS["cityscapes"].legal}:
        return "19", "cityscapes", [f"ids {listed}: Cityscapes' label ids"]
    rows = [f"  - {{name: class {i}, ids: [{i}]}}" for i in ids if i != IGNORE]
    write_text(class_file, _HEAD + "ignore: [255]\nclasses:\n" + "\n".join(rows) + "\n")
    return str(class_file), "ids", [f"ids {listed} in {len(chosen)} labels: name them in {class_file}"]


def _ids(files: Sequence[Path]) -> list[int]:
    names = tuple(file.stem for file in files)
    everything = FolderDataset(names, tuple(files), tuple(files), np.zeros(256, np.uint8))
    try:
        return np.flatnonzero(sample(everything, len(files), math.inf).pixels).tolist()
    except DataError as error:
        raise ValueError(str(error)) from None


def _domains(root: Path, found: Pairs, encoding: str, config: Path) -> tuple[DomainConfig | None, DomainConfig | None]:
    """The labelled and the unlabelled set, at a size of most of their images."""

    def domain(images: str, labels: str, listed: Path | None) -> DomainConfig:
        where = str(root.absolute())
        names = "" if listed is None else str(listed.absolute())
        made = DomainConfig(
            dataset="folder", root=where, images=images, labels=labels, encoding=encoding if labels else "", list=names
        )
        opened = open_dataset(replace(made, labels="", encoding=""), "", "19")
        size, shapes = common_size(opened.size(i) for i in spread(len(opened), SAMPLED))
        return replace(made, size=size, fit="pad" if shapes else "stretch", labelled=bool(labels))

    labelled = unlabelled = None
    if found.labelled:
        listed = _list(root, found, config) if found.mixed else None
        labelled = domain(found.labelled, found.labels, listed)
    if found.unlabelled:
        unlabelled = domain(found.unlabelled, "", None)
    return labelled, unlabelled


def _list(root: Path, found: Pairs, config: Path) -> Path:
    """A list of the images that have a label."""
    images = matching(root, found.labelled, (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"), "images")
    labels = matching(root, found.labels, LABEL_SUFFIXES, "labels")
    stems = {name.rpartition("/")[2] for name in labels}
    path = config.with_name(f"{config.stem}_labelled.txt")
    write_text(path, "".join(f"{name}\n" for name in images if name in labels or name.rpartition("/")[2] in stems))
    return path


_HEAD = "# Written from what the labels hold. Name the classes (docs/how-to/own-data.md).\n"


def _text(root: Path, classes: str, source: DomainConfig | None, target: DomainConfig | None) -> str:
    """The configuration, with what it leaves to the user as comments."""
    alone = source is not None and target is None
    if source is not None and target is None:
        # One labelled set: it is learned from and, another part of it, scored on.
        if source.dataset == "folder":
            source = replace(source, shares="train:0.8,val:0.2", split="train")
        target = source
    assert target is not None
    lines = [
        f"# Written from what lies in {root}. Every option: python -m esl_dist.train --help. To see the whole way on "
        f"a CPU",
        "# first: docs/tutorials/own-data.md. model.checkpoint names initial weights: docs/how-to/weights-and-data.md",
        "run:",
        f"  name: {_quoted(root.absolute().name)}",
        f"  stages: [{'source' if alone else 'source, align, selftrain'}]",
        "data:",
        f"  classes: {_quoted(classes if classes in PROTOCOLS else str(Path(classes).absolute()))}",
    ]
    if source is None:
        lines.append("  # source: no labels were found; name a labelled set here, such as dataset: gta5 and its root")
    else:
        lines += ["  source:", *_section(source)]
    lines += ["  target:", *_section(target), "eval:"]
    lines.append("  split: val" if alone else "  split: ''  # the target has no labels")
    size = f"[{target.size[0]}, {target.size[1]}]"
    return "\n".join([*lines, f"  input_size: {size}", "extract:", f"  size: {size}", ""])


def _section(domain: DomainConfig) -> list[str]:
    found = [f"    dataset: {domain.dataset}", f"    root: {_quoted(domain.root)}"]
    for name in ("images", "labels", "encoding", "list", "shares"):
        if value := getattr(domain, name):
            found.append(f"    {name}: {_quoted(value)}")
    found.append(f"    split: {_quoted(domain.split)}")
    if not domain.labelled:
        found.append("    labelled: false")
    found.append(f"    size: [{domain.size[0]}, {domain.size[1]}]")
    return [*found, *(["    fit: pad"] if domain.fit == "pad" else [])]


def _quoted(text: str) -> str:
    """As YAML, whatever characters a pattern or path has."""
    return "'" + text.replace("'", "''") + "'"
