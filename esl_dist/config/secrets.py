"""What must not be written down: the password in a tracking server's address. The only place that takes it off."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

_OPTION = "tracking.uri="


def without_password(uri: str) -> str:
    """``https://name:secret@host`` as ``https://host``."""
    scheme, mark, rest = uri.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{mark}{place.rpartition('@')[2]}{slash}{path}" if mark and "@" in place else uri


def public(config: Any) -> Any:
    """A configuration (or study) as it may be recorded, shown and sent."""
    if not hasattr(config, "tracking"):
        return config
    return dataclasses.replace(
        config, tracking=dataclasses.replace(config.tracking, uri=without_password(config.tracking.uri))
    )


def public_words(words: Sequence[str]) -> tuple[str, ...]:
    """``section.option=value`` words, likewise."""
    return tuple(
        _OPTION + without_password(word.removeprefix(_OPTION)) if word.startswith(_OPTION) else word for word in words
    )
