"""What the methods' plans share: who came before, whose images are seen, how that is called."""

from __future__ import annotations

from collections.abc import Sequence

from esl_dist.config.check import require
from esl_dist.config.entries import Entry
from esl_dist.methods.node import Node
from esl_dist.methods.stage import Role, Stage


def last(before: Sequence[Node], *roles: Role) -> str:
    """The newest stage in one of these roles; empty where there is none."""
    return next((node.name for node in reversed(before) if isinstance(node, Stage) and node.role in roles), "")


def start_of(before: Sequence[Node], init: str, key: str) -> str:
    """The stage whose weights a stage starts from: ``init`` is ``initial`` (none: ``model.checkpoint``, or drawn ones)
    or ``source``.

    Raises:
        ValueError: ``source`` without a stage that trains on the source before it.
    """
    found = last(before, "baseline" if init == "source" else "start")
    require(init != "source" or bool(found), key, "source needs a stage source before it in run.stages")
    return found


def needs(**roles: str) -> dict[str, str]:
    """Role -> node, without the roles that nobody plays."""
    return {role: name for role, name in roles.items() if name}


def images(entry: Entry, before: Sequence[Node]) -> str:
    """The translation whose images an entry takes for the source's; empty for the originals.

    Raises:
        ValueError: it is not planned before.
    """
    if not entry.images:
        return ""
    name = translation_name(entry.images)
    planned = {node.name for node in before}
    wanted = "translate" if entry.images == 1 else f"translate:{entry.images}"
    require(name in planned, "run.stages", f"{entry.word} needs {wanted} before it")
    return name


def translation_name(number: int) -> str:
    """Folder of a translation, counted from 1."""
    return "translate" if number == 1 else f"translate-{number}"


def translated_mark(entry: Entry) -> str:
    """The paper's name for source images in the target's look: `` + IT``, of a second translation `` + IT 2``."""
    return {0: "", 1: " + IT"}.get(entry.images, f" + IT {entry.images}")
