"""Mapillary Vistas (Neuhold et al., 2017), 1.2 and 2.0: palette PNGs whose index is the position of a name in the
set's ``config.json``.

1.2: ``{training,validation}/{images,labels}`` and ``config.json``. 2.0:
``{training,validation}/{images,v1.2/labels,v2.0/labels}`` with ``config_v1.2.json`` and ``config_v2.0.json``. The tree
is taken from public loaders; the names decide what an id is. Image sizes differ.
"""

from __future__ import annotations

import json
from pathlib import Path

from esl_dist.config.schema import DomainConfig
from esl_dist.data.layout import Layout
from esl_dist.labels import vistas

_SPLITS = {"train": "training", "val": "validation", "test": "testing"}

# Version -> where labels and configuration may lie, the first that exists wins.
_TREES = {
    "v1.2": (("labels", "config.json"), ("v1.2/labels", "config_v1.2.json")),
    "v2.0": (("v2.0/labels", "config_v2.0.json"),),
}


ORIGIN = "the archive of www.mapillary.com/dataset/vistas"


def layout(root: Path, split: str, domain: DomainConfig) -> Layout:
    """``domain.labels``: ``v1.2`` or ``v2.0``; empty takes 1.2, whose 66 labels ESL's protocol is defined on, where it
    is there.

    Raises:
        ValueError: an unknown split or version, or a configuration that is missing or broken.
    """
    version, part = domain.labels, _SPLITS.get(split, split)
    if part not in _SPLITS.values():
        raise ValueError(f"mapillary: split {split!r} is unknown; set it to training or validation")
    if version not in ("", *_TREES):
        raise ValueError(f"mapillary: labels={version} is unknown; set it to v1.2 or v2.0, or leave it empty")
    if not domain.labelled or part == "testing" or not (root / part).is_dir():
        return Layout("mapillary", f"{part}/images", encoding="mapillary", origin=ORIGIN)
    trees = [tree for name, some in _TREES.items() if version in ("", name) for tree in some]
    for labels, config in trees:
        if (root / config).is_file():
            return Layout(
                "mapillary",
                f"{part}/images",
                f"{part}/{labels}",
                encoding="mapillary",
                label_names=label_names(root / config),
                origin=ORIGIN,
            )
    raise ValueError(
        f"mapillary: none of {', '.join(config for _, config in trees)} in {root}: the names of the ids are needed "
        f"to map them"
    )


def label_names(config: Path) -> tuple[str, ...]:
    """Readable names of the ids in order, from a ``config.json``.

    Raises:
        ValueError: not such a file, or a name that neither version has.
    """
    try:
        entries = json.loads(config.read_text(encoding="utf-8"))["labels"]
        pairs = [(str(entry.get("readable", "")), str(entry["name"])) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"mapillary: {config} has no readable list of labels ({type(error).__name__}); is it the data set's own "
            f"file?"
        ) from None
    return tuple(vistas.readable(shown if vistas.known(shown) else dotted) for shown, dotted in pairs)
