"""Options that have moved: their old spelling keeps working, with one line of notice."""

from __future__ import annotations

RENAMED: dict[str, str] = {
    "data.protocol": "data.classes",
    **{
        f"model.{option}": f"model.deeplabv2.{option}"
        for option in ("layers", "width", "multi_level", "aspp_branches", "init")
    },
}
"""Old ``section.option`` (or whole section) -> the new one, as they are written. A value means the same under both
names.
"""


def renamed(key: str) -> str:
    """Where an option lives now; empty if it never had that name."""
    head, rest = key, ""
    while head:
        if head in RENAMED:
            return RENAMED[head] + rest
        head, _, last = head.rpartition(".")
        rest = f".{last}{rest}"
    return ""


def has_moved_options(section: str) -> bool:
    """Whether options of a section live elsewhere now, though the section as a whole does not."""
    return section not in RENAMED and any(key.startswith(f"{section}.") for key in RENAMED)


def notice(keys: list[str]) -> str:
    """What to say, once, of the old names that were used."""
    pairs = dict.fromkeys(f"{key} is now {renamed(key)}" for key in keys)
    return f"{', '.join(pairs)}: the old spelling still works"
