"""The pair on disk: GTA5 layout for the source, Cityscapes layout for the target, and a manifest that is written last.

What is guaranteed everywhere is the pixels: images and labels are the same bytes for the same settings on every
platform, and the manifest hashes them. The PNG files around those pixels are equal byte for byte wherever Pillow is
linked to the same zlib.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from esl_dist.atomic import write_bytes, write_text
from esl_dist.config.schema import StreetsConfig
from esl_dist.data.encode import png
from esl_dist.synthetic.streets.classes import palette
from esl_dist.synthetic.streets.domains import SOURCE, TARGET, Domain
from esl_dist.synthetic.streets.scene import Scene, render

MANIFEST = "streets.json"
JOURNAL = "streets.partial.jsonl"
GENERATOR = 2
"""Raised with every change that alters a pixel, so that an older pair is not taken for a new one."""


class Sample(NamedTuple):
    image: str
    """Path of the image below the root; the label's is ``label``."""
    label: str
    domain: Domain
    split: int
    number: int
    indexed: bool
    """Whether the label file carries the palette (GTA5) or is plain grey (Cityscapes)."""


def samples(config: StreetsConfig) -> Iterator[Sample]:
    """Every image of the pair in writing order."""
    for index in range(config.source_train):
        name = f"{index + 1:05d}.png"
        yield Sample(f"gta5/images/{name}", f"gta5/labels/{name}", SOURCE, 0, index, True)
    for split, (folder, count) in enumerate(
        (("train", config.target_train), ("val", config.target_val), ("test", config.target_test))
    ):
        for index in range(count):
            name = f"{folder}/streets/streets_{index:06d}_000019"
            yield Sample(
                f"cityscapes/leftImg8bit/{name}_leftImg8bit.png",
                f"cityscapes/gtFine/{name}_gtFine_labelIds.png",
                TARGET,
                split,
                index,
                False,
            )


def pixel_hash(scene: Scene) -> str:
    """SHA-256 of the image's RGB bytes followed by the label's bytes, both row by row."""
    digest = hashlib.sha256(scene.image.tobytes())
    digest.update(scene.label.tobytes())
    return digest.hexdigest()


def _settings(config: StreetsConfig) -> dict[str, Any]:
    return {
        "generator": GENERATOR,
        "seed": config.seed,
        "size": list(config.size),
        "source_train": config.source_train,
        "target_train": config.target_train,
        "target_val": config.target_val,
        "target_test": config.target_test,
    }


def _write(root: Path, sample: Sample, config: StreetsConfig) -> dict[str, Any]:
    scene = render(sample.domain, config.seed, sample.split, sample.number, config.size)
    label = Image.fromarray(scene.label)
    if sample.indexed:
        label.putpalette(palette().tobytes())
    image, mask = png(Image.fromarray(scene.image)), png(label)
    write_bytes(root / sample.image, image, durable=False)
    write_bytes(root / sample.label, mask, durable=False)
    return {"pixels": pixel_hash(scene), "bytes": [len(image), len(mask)]}


def _read_manifest(path: Path) -> dict[str, Any] | None:
    """The content of a manifest, None where there is none or it cannot be read."""
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) and isinstance(content.get("samples"), dict) else None


def _read_journal(path: Path) -> dict[str, Any] | None:
    """The same from the journal of a generation that was cut short: a line of settings, then one line per finished
    sample.
    """
    try:
        lines = path.read_text().splitlines()
        head = json.loads(lines[0])["settings"]
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None
    done = {}
    for line in lines[1:]:
        try:
            name, entry = json.loads(line)
        except (ValueError, TypeError):
            continue  # the line that was being written when the process died
        done[str(name)] = entry
    return {"settings": head, "samples": done}


def _whole(root: Path, sample: Sample, entry: Any) -> bool:
    """Whether both files are there at their recorded sizes; a file is renamed into place whole, so a wrong size means
    later damage.
    """
    try:
        sizes = [(root / sample.image).stat().st_size, (root / sample.label).stat().st_size]
    except OSError:
        return False
    return isinstance(entry, dict) and entry.get("bytes") == sizes


def ensure_pair(root: Path, config: StreetsConfig, report: Callable[[str], None]) -> None:
    """Makes ``root/gta5`` and ``root/cityscapes`` as ``config`` says, or returns at once when they are there.

    A generation that was cut short is taken up where it ended, and a file that is missing or has another size than it
    was written with is drawn again. ``report`` gets a line of progress now and then. Raises ValueError when the folder
    holds a pair with other settings. Call it from one process.
    """
    settings, wanted = _settings(config), list(samples(config))
    known = _read_manifest(root / MANIFEST)
    complete = known is not None
    known = known or _read_journal(root / JOURNAL) or {"settings": settings, "samples": {}}
    if known["settings"] != settings:
        changed = ", ".join(key for key, value in settings.items() if known["settings"].get(key) != value)
        raise ValueError(
            f"data.streets: {root} holds a pair with other settings ({changed}); choose another data.root or delete"
            " that folder"
        )
    entries: dict[str, Any] = known["samples"]
    missing = [s for s in wanted if not _whole(root, s, entries.get(s.image))]
    if complete and not missing:
        return
    report(f"streets: drawing {len(missing)} of {len(wanted)} images of {config.size[0]}x{config.size[1]} into {root}")
    # The settings and what is finished so far are on disk before the first new file is.
    lines = [json.dumps({"settings": settings})] + [
        json.dumps([s.image, entries[s.image]]) for s in wanted if _whole(root, s, entries.get(s.image))
    ]
    write_text(root / JOURNAL, "\n".join(lines) + "\n")
    with (root / JOURNAL).open("a") as journal:
        for number, sample in enumerate(missing, 1):
            entries[sample.image] = _write(root, sample, config)
            journal.write(json.dumps([sample.image, entries[sample.image]]) + "\n")
            journal.flush()
            if number % 250 == 0 or number == len(missing):
                report(f"streets: {number} of {len(missing)} drawn")
    ordered = {s.image: entries[s.image] for s in wanted}
    write_text(root / MANIFEST, json.dumps({"settings": settings, "samples": ordered}, indent=1) + "\n")
    (root / JOURNAL).unlink(missing_ok=True)
