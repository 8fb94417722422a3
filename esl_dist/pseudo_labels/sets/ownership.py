"""Which rank reads which spool file: every image exactly once, on shared and on node-local folders alike."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from esl_dist.distributed import collectives
from esl_dist.pseudo_labels.sets.spool import ShardInfo


@dataclass(frozen=True)
class Ownership:
    """This rank's files, and the ids that some rank's file holds."""

    mine: list[ShardInfo]
    have: frozenset[int]


def share_out(found: Sequence[ShardInfo], names: Sequence[str]) -> Ownership:
    """Deal the files out among the ranks that can see them (a file is known by the key inside it, not by its path).

    Raises ``ValueError`` on all ranks where two files hold the same image, or a file holds an image that is not in
    ``names``.
    """
    everyone = collectives.gather_json([[info.key, list(info.ids)] for info in found])
    ids: dict[str, list[int]] = {}
    seers: dict[str, list[int]] = {}
    for rank, entries in enumerate(everyone):
        for key, held in entries:
            ids[key] = held
            seers.setdefault(key, []).append(rank)
    ordered = sorted(ids, key=lambda key: ids[key])
    have: set[int] = set()
    for key in ordered:
        for index in ids[key]:
            if index >= len(names):
                raise ValueError(
                    f"the spool holds image {index}, but the target set has only {len(names)}; delete the spool"
                )
            if index in have:
                raise ValueError(
                    f"image {names[index]} is in two spool files, so it would count twice; delete the spool "
                    "and run again"
                )
            have.add(index)
    owner = {key: seers[key][position % len(seers[key])] for position, key in enumerate(ordered)}
    return Ownership([info for info in found if owner[info.key] == collectives.rank()], frozenset(have))


def require_all(have: frozenset[int], names: Sequence[str], left_out: Collection[str] = ()) -> None:
    """``ValueError`` naming an image that no file holds."""
    missing = [index for index, name in enumerate(names) if index not in have and name not in left_out]
    if missing:
        raise ValueError(
            f"the spool lacks {len(missing)} of {len(names)} images (the first: {names[missing[0]]}); extract "
            "again without --from-spool"
        )
