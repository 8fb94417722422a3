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
from esl_dist.pseudo_labels import inference, scores, spool
from esl_dist.pseudo_labels.images import ScoredImages, SpooledLogits, SpooledScores
from esl_dist.pseudo_labels.label_sets import Job, LabelSet, Task, identity, make
from esl_dist.pseudo_labels.thresholds import kind_of


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
    removed at the end).

    Raises ``ValueError`` on all ranks for logits that are NaN, infinite or of another number of classes, and for a name
    that comes twice.
    """
    setting = setting or PseudoLabelConfig()
    out = Path(out)
    rank, world = collectives.rank(), collectives.world()
    folder = out / ".spool" / f"{rank:04d}"
    shutil.rmtree(folder, ignore_errors=True)
    kinds = (kind_of(setting),)
    implementation, score = scores.scorer(setting.scores)
    report(f"scores: {implementation}")
    how = f"{setting.scores} {size[1]}x{size[0]}"
    names: list[str] = []
    every = _Names(names, rank, world)

    def logits() -> Iterator[tuple[int, Tensor]]:
        for name, image in items:
            tensor = torch.as_tensor(image).detach().float().cpu()
            if tensor.dim() != 3 or len(tensor) != len(class_names):
                raise ValueError(
                    f"{name}: expected logits [{len(class_names)}, h, w], one plane per class name, not"
                    f" {list(tensor.shape)}"
                )
            names.append(name)
            yield len(names) * world - world + rank, tensor / setting.temperature

    content: spool.Content = "logits" if setting.rule == "cbst" else "scores"
    layout = spool.Layout(content, {"kinds": list(kinds)}, {}, how)
    progress = inference.Progress(None, report)
    memory = inference.Memory(len(class_names), kinds)

    in_step(
        inference.infer(
            logits(),
            every,
            folder,
            layout,
            score=score,
            size=lambda index: size,
            kinds=kinds,
            shard=shard,
            progress=progress,
            memory=memory,
        )
    )
    shares: list[list[str]] = collectives.gather_json(names)
    everyone = [name for share in shares for name in share]
    twice = (
        sorted({name for name in everyone if everyone.count(name) > 1}) if len(set(everyone)) != len(everyone) else []
    )
    if twice:
        raise ValueError(f"{twice[0]} comes twice, so it would count twice; give each image to one rank once")
    found, _ = spool.listing(folder, layout)
    ids = range(max((len(share) for share in shares), default=0) * world)
    images: ScoredImages
    if content == "logits":
        images = SpooledLogits(found, how, score, lambda index: size, torch.device("cpu"), ids)
    else:
        images = SpooledScores(found, how, kinds, ids)
    task = Task(sorted(everyone), class_names, 0, {"size": f"{size[1]}x{size[0]}", "checkpoint": None})
    (made,), _ = make(images, [Job(setting.rule, setting, out, identity(setting, task))], task)
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
