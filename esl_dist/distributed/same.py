"""What every rank must have alike, compared before anything is trained on it; who differs is named, and in what."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from esl_dist.distributed import collectives

Facts = Mapping[str, Mapping[str, str]]
"""Kind (``configuration``) -> what it consists of (``optim.lr``) -> its value."""

SHOWN = 3
"""Differences of a rank that are named; the rest is counted."""


def require_same(facts: Facts, advice: Mapping[str, str]) -> None:
    """Compare facts over the ranks: a digest of each kind, and only where these differ the facts themselves with rank
    0's.

    Args:
        facts: the same kinds on every rank.
        advice: kind -> what to do about a difference.

    Raises:
        ValueError: on every rank, with the first rank that differs and in what; one line.
    """
    digests = collectives.gather_json({kind: _digest(content) for kind, content in facts.items()})
    differing = [kind for kind in facts if any(other[kind] != digests[0][kind] for other in digests)]
    for kind in differing:
        first = collectives.broadcast_json(dict(facts[kind]))
        told = collectives.gather_json(_difference(first, facts[kind]))
        rank, text = next((rank, text) for rank, text in enumerate(told) if text)
        others = sum(map(bool, told)) - 1
        also = f" ({others} more rank(s) differ)" if others else ""
        error = ValueError(f"rank {rank} differs from rank 0 in its {kind}: {text}{also}; {advice[kind]}")
        error.every_rank = True  # type: ignore[attr-defined]
        raise error


def _digest(content: Mapping[str, str]) -> str:
    hashed = hashlib.sha256()
    for key in sorted(content):
        hashed.update(f"{key}\0{content[key]}\n".encode("utf-8", "surrogateescape"))
    return hashed.hexdigest()


def _difference(first: Mapping[str, str], own: Mapping[str, str]) -> str:
    """What rank 0 has otherwise, in words; empty where nothing is."""
    found = [
        _words(key, first.get(key), own.get(key))
        for key in sorted(first.keys() | own.keys())
        if first.get(key) != own.get(key)
    ]
    return ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")


def _words(key: str, first: str | None, own: str | None) -> str:
    if own is None:
        return f"{key} is missing"
    return f"{key} is not on rank 0" if first is None else f"{key} is {own} (rank 0: {first})"
