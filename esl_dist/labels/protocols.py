"""The shipped classes by name, and anyone's by the path of a class file (see ``classfile``)."""

from __future__ import annotations

import functools
from pathlib import Path

from esl_dist.labels.classfile import Protocol, read

IGNORE = 255
"""The train id of a pixel that nothing is learned from or scored on."""

FOLDER = Path(__file__).parent / "classes"

PROTOCOLS: dict[str, Protocol] = {
    name: read(FOLDER / f"{name}.yaml") for name in ("19", "16", "13", "crosscity13", "7", "7-nature", "10")
}
"""Every shipped set of classes by name. ``13`` (SYNTHIA's thirteen) and ``crosscity13`` hold the same classes; they
differ in what they are compared with."""

TRAIN_CLASSES: dict[str, tuple[int, int, int]] = dict(
    zip(PROTOCOLS["19"].classes, PROTOCOLS["19"].palette, strict=True)
)
"""Cityscapes' 19 evaluated classes in the order of their train ids, with their colours."""


def protocol(name: str) -> Protocol:
    """The classes that ``data.classes`` means: a shipped name, or the path of a class file.

    Raises:
        ValueError: no such name or file, or a file that is none.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    path = Path(name).expanduser()
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise ValueError(
            f"data.classes: unknown classes {name!r}; one of {', '.join(PROTOCOLS)}, or the path of a class file "
            f"(.yaml)"
        )
    try:
        status = path.stat()
    except OSError:
        raise ValueError(
            f"data.classes: there is no file {path.absolute()}; python -m esl_dist.data FOLDER writes one to start from"
        ) from None
    return _kept(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=32)
def _kept(path: Path, changed_ns: int, size: int) -> Protocol:
    """The file as it was read when it had this time and size: every part of a run asks for its classes."""
    return read(path)
