"""A spool in its folder: what is there is used, what is missing is made, nothing else is touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from esl_dist.distributed import collectives
from esl_dist.distributed.in_step import Stop, in_step
from esl_dist.pseudo_labels.scores.kinds import Kind
from esl_dist.pseudo_labels.sets import fingerprint as prints
from esl_dist.pseudo_labels.sets import ownership, spool
from esl_dist.pseudo_labels.sets.forward import TargetImages
from esl_dist.pseudo_labels.sets.images import Readout, Spooled
from esl_dist.pseudo_labels.sets.spool import Layout, ShardInfo
from esl_dist.pseudo_labels.sets.spooling import Progress, Spooling, bytes_per_image, require_space
from esl_dist.pseudo_labels.sets.teacher import Gaze
from esl_dist.runs import Record

Lack = tuple[Kind, ...] | Literal["logits"]


@dataclass(frozen=True)
class SpoolFolder:
    """One target set's spool for one network."""

    folder: Path
    images: TargetImages
    readout: Readout
    logits: bool
    """Whether a rule needs the logits themselves."""
    device: torch.device

    def complete(self) -> Spooled:
        """This rank's share of a spool that has all. Collective.

        Raises:
            ValueError: an image or a confidence is missing, or a file is damaged.
        """
        found, _ = collectives.agree(lambda: spool.listing(self.folder, None))
        owned = ownership.share_out(found, self.names)
        known = collectives.broadcast_json(self._unreadable.find() if collectives.is_main() else None) or {}
        self.images.unreadable.update(known)
        ownership.require_all(owned.have, self.names, self.images.left_out())
        collectives.agree(lambda: self._require(found))
        return self._images(owned.mine)

    def _require(self, found: Sequence[ShardInfo]) -> None:
        for shard in found:
            lack = shard.lacks(self.readout.kinds, self.logits)
            if lack == "logits":
                raise ValueError(
                    f"{self.folder} holds one class per pixel, but pseudo_labels.rule=cbst compares all; "
                    "extract with extract.spool=logits"
                )
            if lack:
                raise ValueError(
                    f"{self.folder} holds {', '.join(sorted(shard.kinds))} only, but a rule needs "
                    f"{', '.join(self.readout.kinds)}; "
                    ""
                    "extract both rules together, or use extract.spool=logits"
                )
            _, layout = spool.inspect(shard.path, None)
            if layout.content == "scores" and layout.scores != self.readout.how:
                raise ValueError(
                    f"{shard.path} was written by another run (scores: {layout.scores!r} there, "
                    f"{self.readout.how!r} here); delete the spool or choose another folder"
                )

    def filled(self, gaze: Gaze, layout: Layout, shard: int, report: Callable[[str], None], stop: Stop) -> Spooled:
        """This rank's share of the spool, after what it lacks was made; the network is loaded for that alone.
        Collective.

        Args:
            layout: of new files, its fingerprint without the canary.
            shard: images per new file.

        Raises:
            ValueError: the folder holds another network's spool, the disk is full, logits are not finite.
        """
        found, _ = collectives.agree(lambda: spool.listing(self.folder, layout))
        owned = ownership.share_out(found, self.names)
        left = [index for index in range(len(self.names)) if index not in owned.have]
        lacking = [(info, lack) for info in owned.mine if (lack := info.lacks(self.readout.kinds, self.logits))]
        if owned.have and left:
            report(f"spool: {len(owned.have)} of {len(self.names)} images are there already")
        poorer = collectives.all_sum(sum(len(info.ids) for info, _ in lacking))
        if not left and not poorer:
            return self._images(owned.mine)
        if poorer:
            report(f"spool: {poorer} images there have not all that the rules read; it is added")
        told, shape = gaze.canary()
        layout = replace(layout, fingerprint={**layout.fingerprint, **told})
        prints.same_on_all_ranks(layout.fingerprint)
        collectives.agree(lambda: spool.listing(self.folder, layout))  # now with the canary
        if left:
            size = bytes_per_image(layout.content, self.readout.size(left[0]), shape, len(self.readout.kinds))
            collectives.agree(lambda: require_space(self.folder, len(left) * size))
        rank, world = collectives.rank(), collectives.world()
        mine = left[rank::world]
        progress = Progress(len(mine) + sum(len(info.ids) for info, _ in lacking), report)
        in_step(self._extend(gaze, layout, lacking, progress), stop)
        in_step(
            Spooling(self.folder, layout, self.readout, self.names, shard, progress).images(gaze.logits(mine)), stop
        )
        gaze.check_canary()
        left_out = self.images.left_out()
        if left_out and collectives.is_main():
            self._unreadable.write(left_out)
        found, _ = collectives.agree(lambda: spool.listing(self.folder, layout))
        owned = ownership.share_out(found, self.names)
        ownership.require_all(owned.have, self.names, left_out)
        return self._images(owned.mine)

    @property
    def names(self) -> Sequence[str]:
        return self.images.names

    @property
    def _unreadable(self) -> Record[dict[str, str]]:
        """Names of images that could not be read when the spool was made, with why."""
        return Record(self.folder / "unreadable.json", dict[str, str], "delete it and extract again")

    def _extend(self, gaze: Gaze, layout: Layout, lacking: Sequence[tuple[ShardInfo, Lack]], progress: Progress) -> Any:
        for info, lack in lacking:
            content: spool.Content = "logits" if lack == "logits" else "scores"
            kinds = self.readout.kinds if lack == "logits" else lack
            spooling = Spooling(
                self.folder,
                replace(layout, content=content),
                replace(self.readout, kinds=kinds),
                self.names,
                len(info.ids),
                progress,
            )
            yield from spooling.missing([info], gaze.logits)

    def _images(self, mine: Sequence[ShardInfo]) -> Spooled:
        return Spooled(mine, self.readout, self.device, range(len(self.names)))


def stored_layout(folder: Path, given: prints.Fingerprint) -> Layout:
    """The layout of a spool that must be there and, as far as the caller names it, of his network. Collective.

    Raises:
        ValueError: there is none, or it is another network's.
    """

    def look() -> Layout | None:
        _, layout = spool.listing(folder, None)
        reason = layout and prints.difference(given, {key: layout.given.get(key) for key in given})
        if reason:
            raise ValueError(f"{folder} was written by another run ({reason}); extract again without --from-spool")
        return layout

    layout = collectives.agree(look)
    gathered = collectives.gather_json(
        None if layout is None else [layout.content, layout.fingerprint, layout.given, layout.scores]
    )
    found = [Layout(*entry) for entry in gathered if entry is not None]
    if not found:
        raise ValueError(f"{folder}: no spool there; extract without --from-spool first")
    return found[0]
