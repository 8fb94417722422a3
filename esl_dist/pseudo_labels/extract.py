"""Pseudo-labels of a whole target set: one inference pass, any number of rules, the same labels for every number of
ranks.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from esl_dist.atomic import write_json
from esl_dist.config.schema import ExtractConfig, PseudoLabelConfig
from esl_dist.distributed import collectives
from esl_dist.distributed.in_step import Stop, in_step, never
from esl_dist.pseudo_labels import fingerprint as prints
from esl_dist.pseudo_labels import inference, ownership, scores
from esl_dist.pseudo_labels import spool as storage
from esl_dist.pseudo_labels.images import Inferred, OutputSize, ScoredImages, SpooledLogits, SpooledScores
from esl_dist.pseudo_labels.inference import Forward, TargetImages
from esl_dist.pseudo_labels.insight import Truth, table
from esl_dist.pseudo_labels.keys import Kind
from esl_dist.pseudo_labels.label_sets import Job, LabelSet, Task, finished, identity, make
from esl_dist.pseudo_labels.thresholds import kind_of

__all__ = ["LabelSet", "TargetImages", "extract"]

Setting = tuple[str, PseudoLabelConfig, Path]


def spool_folder(spool: Path, config: ExtractConfig) -> Path:
    """``spool``, or a folder of its own under ``extract.spool_dir`` (``$VARIABLES`` are expanded)."""
    if not config.spool_dir:
        return spool
    name = hashlib.sha256(str(spool.absolute()).encode()).hexdigest()[:12]
    return Path(os.path.expandvars(config.spool_dir)).expanduser() / f"esl_dist-spool-{name}"


def content_of(
    config: ExtractConfig, settings: Sequence[PseudoLabelConfig], device: torch.device
) -> storage.Content | None:
    """What the spool holds, None for no spool; ``ValueError`` where a rule needs what it would not hold."""
    relabels = any(setting.rule == "cbst" for setting in settings)
    if config.spool == "auto":
        return "logits" if relabels or device.type == "cuda" else "scores"
    if config.spool == "none":
        return None
    if config.spool == "scores" and relabels:
        raise ValueError(
            "extract.spool: scores hold one class per pixel, but pseudo_labels.rule=cbst compares all; set"
            " extract.spool=logits"
        )
    return config.spool


def extract(
    forward: Forward,
    source: TargetImages,
    out: Path,
    spool: Path,
    *,
    num_classes: int,
    class_names: Sequence[str],
    settings: Sequence[Setting],
    config: ExtractConfig,
    fingerprint: dict[str, Any],
    portion_round: int = 0,
    from_spool: bool = False,
    report: Callable[[str], None] = lambda line: None,
    device: torch.device | str = "cpu",
    truth: Truth | None = None,
    stop: Stop = never,
    weights: bool = False,
) -> list[LabelSet]:
    """Make every label set of ``settings`` (name, rule, its own folder) from one inference pass. Collective.

    ``forward`` takes uint8 images ``[B, 3, H, W]`` and returns float32 logits ``[B, C, h, w]``. ``fingerprint`` holds
    what decides the logits (checkpoint SHA-256, model, sizes); this function adds libraries, device and a canary. A
    finished, identical label set is recognised and left alone; a spool of a killed run is continued at any number of
    ranks. ``from_spool`` needs no forward. ``out/selection.json`` says what there is to learn from the sets that were
    made (see ``insight``), judged by ``truth`` where it is given. ``weights`` writes a PNG of confidences beside every
    label. ``stop`` is asked every few images: what is spooled by then stays (``StoppedBySignal``). Raises
    ``ValueError``, the same on all ranks, for anything the user can mend.
    """
    assert len(class_names) == num_classes and len({folder for _, _, folder in settings}) == len(settings)
    if len(set(source.names)) != len(source.names):
        raise ValueError("the target set names an image twice, so it would count twice; check its list")
    modes = {setting.scores for _, setting, _ in settings}
    if len(modes) != 1:
        raise ValueError("pseudo_labels.scores: rules that share one extraction need the same mode, exact or library")
    mode = modes.pop()
    temperatures = {setting.temperature for _, setting, _ in settings}
    if len(temperatures) != 1:
        raise ValueError("pseudo_labels.temperature: rules that share one extraction need the same temperature")
    temperature = temperatures.pop()
    hot, fingerprint = forward, {**fingerprint, "temperature": temperature}
    forward = hot if temperature == 1 else lambda images: hot(images) / temperature
    place = torch.device(device)
    folder = spool_folder(spool, config)
    rules = [setting for _, setting, _ in settings]
    width, height = config.size
    size: OutputSize = source.output_size or (lambda index: (height, width))
    how = f"{mode} {'own sizes' if source.output_size else f'{width}x{height}'}"
    layout: storage.Layout | None = None
    if from_spool:
        layout = _stored_layout(folder, fingerprint)
        if layout.content == "scores" and any(setting.rule == "cbst" for setting in rules):
            raise ValueError(
                f"{folder} holds one class per pixel, but pseudo_labels.rule=cbst compares all; extract with"
                " extract.spool=logits"
            )
        fingerprint = {**layout.given, **fingerprint}
    task = Task(
        source.names,
        class_names,
        portion_round,
        {"size": how.partition(" ")[2], "checkpoint": fingerprint.get("checkpoint"), "fingerprint": fingerprint},
        weights,
    )
    jobs = [Job(name, setting, path, identity(setting, task)) for name, setting, path in settings]
    done = {job.name: finished(job, task) for job in jobs}
    todo = [job for job in jobs if done[job.name] is None]
    for job in jobs:
        if done[job.name] is not None:
            report(f"labels {job.name}: already there")
    if todo:
        implementation, score = scores.scorer(mode, place)
        report(f"scores: {implementation}")
        kinds: tuple[Kind, ...] = tuple(sorted({kind_of(setting) for setting in rules}))
        if layout is None:
            content = content_of(config, rules, place)
            images = _inferred(
                forward,
                source,
                folder,
                content,
                how,
                score,
                size,
                kinds,
                num_classes,
                config,
                fingerprint,
                place,
                report,
                stop,
            )
        else:
            images = _spooled(folder, layout, how, score, size, kinds, source.names, place)
        sets, found = make(images, todo, task, report, truth, stop)
        if collectives.is_main():
            write_json(out / "selection.json", found)
        report(table(found))
        if isinstance(images, Inferred):
            _same_canary(forward, source, config, images.canary)
        for made, job in zip(sets, todo, strict=True):
            done[job.name] = made
    return [label_set for job in jobs if (label_set := done[job.name]) is not None]


def _stored_layout(folder: Path, given: dict[str, Any]) -> storage.Layout:
    """The layout of a spool that must be there and of the network that the caller names, if he names one."""

    def look() -> storage.Layout | None:
        _, layout = storage.listing(folder, None)
        reason = layout and prints.difference(given, {key: layout.given.get(key) for key in given})
        if reason:
            raise ValueError(f"{folder} was written by another run ({reason}); extract again without --from-spool")
        return layout

    layout = collectives.agree(look)
    found = [entry for entry in _gather_layouts(layout) if entry is not None]
    if not found:
        raise ValueError(f"{folder}: no spool there; extract without --from-spool first")
    return found[0]


def _gather_layouts(layout: storage.Layout | None) -> list[storage.Layout | None]:
    gathered = collectives.gather_json(
        None if layout is None else [layout.content, layout.fingerprint, layout.given, layout.scores]
    )
    return [None if entry is None else storage.Layout(*entry) for entry in gathered]


def _spooled(
    folder: Path,
    layout: storage.Layout,
    how: str,
    score: scores.Scorer,
    size: OutputSize,
    kinds: tuple[Kind, ...],
    names: Sequence[str],
    device: torch.device,
) -> ScoredImages:
    """This rank's share of a complete spool."""
    expected = layout if layout.content == "logits" else replace(layout, scores=how)
    found, _ = collectives.agree(lambda: storage.listing(folder, expected))
    owned = ownership.share_out(found, names)
    ownership.require_all(owned.have, names)
    if layout.content == "scores" and not set(kinds) <= set(layout.fingerprint["kinds"]):
        raise ValueError(
            f"{folder} holds {', '.join(layout.fingerprint['kinds'])} only, but a rule needs {', '.join(kinds)};"
            " extract both rules together, or use extract.spool=logits"
        )
    if layout.content == "logits":
        return SpooledLogits(owned.mine, how, score, size, device, range(len(names)))
    return SpooledScores(owned.mine, how, kinds, range(len(names)))


def _inferred(
    forward: Forward,
    source: TargetImages,
    folder: Path,
    content: storage.Content | None,
    how: str,
    score: scores.Scorer,
    size: OutputSize,
    kinds: tuple[Kind, ...],
    num_classes: int,
    config: ExtractConfig,
    given: dict[str, Any],
    device: torch.device,
    report: Callable[[str], None],
    stop: Stop,
) -> ScoredImages:
    """Run what is left of the forward into the spool (or, without one, every time) and give back the images."""
    hashed, shape = collectives.agree(lambda: inference.canary(forward, config.batch, source.input_size))
    full = {
        **given,
        **prints.stack(device),
        "names": prints.names_digest(source.names),
        "batch": config.batch,
        "input size": list(source.input_size),
        "kinds": list(kinds) if content == "scores" else [],
        "canary": hashed,
    }
    prints.same_on_all_ranks(full)
    rank, world = collectives.rank(), collectives.world()
    if content is None:
        mine = list(range(len(source.names)))[rank::world]
        return Inferred(lambda ids: inference.logits_of(forward, source, ids), mine, source.names, score, size, hashed)
    layout = storage.Layout(content, full, given, how)
    found, _ = collectives.agree(lambda: storage.listing(folder, layout))
    have = ownership.share_out(found, source.names).have
    left = [index for index in range(len(source.names)) if index not in have]
    if have and left:
        report(f"spool: {len(have)} of {len(source.names)} images are there already")
    if left:
        collectives.agree(
            lambda: inference.require_space(
                folder, len(left) * inference.bytes_per_image(content, size(left[0]), shape, len(kinds))
            )
        )
        mine = left[rank::world]
        progress = inference.Progress(len(mine), report)
        memory = inference.Memory(num_classes, kinds)
        logits = inference.logits_of(forward, source, mine)
        in_step(
            inference.infer(
                logits,
                source.names,
                folder,
                layout,
                score=score,
                size=size,
                kinds=kinds,
                shard=config.shard,
                progress=progress,
                memory=memory,
            ),
            stop,
        )
        _same_canary(forward, source, config, hashed)
    return _spooled(folder, layout, how, score, size, kinds, source.names, device)


def _same_canary(forward: Forward, source: TargetImages, config: ExtractConfig, hashed: str) -> None:
    def check() -> None:
        if inference.canary(forward, config.batch, source.input_size)[0] != hashed:
            raise ValueError(
                "the canary's logits changed during the run, so this device does not compute the same twice; delete"
                " spool and labels and check the machine"
            )

    collectives.agree(check)
