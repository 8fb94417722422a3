"""Pseudo-labels from anyone's network: an iterable of names and logits in, thresholds and label files out (public)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.distributed import collectives
from esl_dist.distributed.in_step import in_step
from esl_dist.pseudo_labels.scores.scorer import scoring
from esl_dist.pseudo_labels.sets import files, spool
from esl_dist.pseudo_labels.sets.images import Readout, Spooled
from esl_dist.pseudo_labels.sets.label_sets import Job, LabelSet, Task, Writing, identity
from esl_dist.pseudo_labels.sets.spooling import Progress, Spooling
from esl_dist.pseudo_labels.thresholds.rules import kind_of, relabels
from esl_dist.pseudo_labels.thresholds.two_passes import Selection, choose
from esl_dist.runs import LabelSetFolder


def from_logits(
    items: Iterable[tuple[str, Any]],
    out: Path | str,
    *,
    size: tuple[int, int],
    class_names: Sequence[str],
    setting: PseudoLabelConfig | None = None,
    shard: int = 32,
    report: Callable[[str], None] = lambda line: None,
) -> LabelSet:
    """Write ``out/labels/<name>.png`` and ``out/thresholds.json`` for every ``(name, logits [C, h, w])`` of ``items``.

    Works alone or on every rank of a process group, each with its own share of the images (none is fine, twice is an
    error); the thresholds are over all of them. ``size`` is the labels' (height, width); ``setting`` the rule, ESL with
    nu = 0.1 by default. ``items`` is gone through once: scores wait in ``out/.spool`` (2 to 5 MB an image at 1024x512,
    removed at the end). Rule ``views`` takes logits that its views were averaged into already.

    Raises ``ValueError`` on all ranks for logits that are NaN, infinite or of another number of classes, for a name
    that comes twice or would leave ``out``, for no image at all, and for PNGs in ``out/labels`` that are of other
    images.
    """
    setting = setting or PseudoLabelConfig()
    files.check_classes(len(class_names))
    out = Path(out)
    rank, world = collectives.rank(), collectives.world()
    folder = out / ".spool" / f"{rank:04d}"
    shutil.rmtree(folder, ignore_errors=True)
    scorer = scoring(setting.scores)
    report(f"scores: {scorer.name}")
    how = f"{setting.scores} {size[1]}x{size[0]}"
    names: list[str] = []

    def logits() -> Iterator[tuple[int, Tensor]]:
        for name, image in items:
            LabelSetFolder(out).label(name)  # before anything is computed for a name that cannot be written
            tensor = torch.as_tensor(image).detach().float().cpu()
            if tensor.dim() != 3 or len(tensor) != len(class_names):
                raise ValueError(
                    f"{name}: expected logits [{len(class_names)}, h, w], one plane per class name, not "
                    f"{list(tensor.shape)}"
                )
            names.append(name)
            yield len(names) * world - world + rank, tensor / setting.temperature

    readout = Readout(scorer, lambda index: size, (kind_of(setting),), how, len(class_names))
    layout = spool.Layout("logits" if relabels(setting) else "scores", {}, {}, how)
    spooling = Spooling(folder, layout, readout, _Names(names, rank, world), shard, Progress(None, report))
    try:
        in_step(spooling.images(logits()))
        shares: list[list[str]] = collectives.gather_json(names)
        everyone = [name for share in shares for name in share]
        if not everyone:
            raise ValueError("no image came, so there is nothing to label")
        files.check_names(everyone)
        found, _ = spool.listing(folder, layout)
        images = Spooled(found, readout, torch.device("cpu"), range(max(len(share) for share in shares) * world))
        task = Task(sorted(everyone), class_names, 0, {"size": f"{size[1]}x{size[0]}", "checkpoint": None})
        chosen = choose(images, Selection([setting], len(class_names)), len(everyone))
        (made,), _ = Writing([Job(setting.rule, setting, out, identity(setting, task))], task, report=report)(chosen)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return made


class _Names(Sequence[str]):
    """The name of image ``id`` while the number of images is not known: rank r's n-th image is ``n * world + r``."""

    def __init__(self, mine: list[str], rank: int, world: int) -> None:
        self.mine, self.rank, self.world = mine, rank, world

    def __getitem__(self, index: Any) -> Any:
        return self.mine[index // self.world]

    def __len__(self) -> int:
        return len(self.mine)
