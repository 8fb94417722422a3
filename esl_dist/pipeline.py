"""The stages of a run in order: skip what is done, train the rest, make labels between, score after each."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from esl_dist.atomic import write_json, write_text
from esl_dist.config import load
from esl_dist.config.ranks import on_ranks
from esl_dist.config.schema import Config, DomainConfig
from esl_dist.data import open_at_size, open_dataset
from esl_dist.data.dataset import Dataset, FolderDataset
from esl_dist.data.loader import Order, TrainStream, View
from esl_dist.data.upload import uploaded
from esl_dist.distributed import collectives, ddp
from esl_dist.distributed.collectives import agree
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine import checkpoint
from esl_dist.engine.guards import StopFlag
from esl_dist.engine.loop import Loop, Streams, new_scaler
from esl_dist.engine.update import Stage, Updater
from esl_dist.errors import RunFailure
from esl_dist.labelling import file_sha256, make_labels, statistics_batches
from esl_dist.labels import protocol
from esl_dist.metrics.evaluate import EvaluationResult, evaluate, write_metrics
from esl_dist.models import build_segmenter
from esl_dist.monitor import memory
from esl_dist.provenance import check_options, result_options
from esl_dist.pseudo_labels.agreement import agreement
from esl_dist.rewriting import Translator, colour_statistics, picture_rows, rewrite
from esl_dist.stages.build import build_stage
from esl_dist.stages.inference import Predictor
from esl_dist.stages.plan import StagePlan, plan
from esl_dist.synthetic.streets import ensure_pair
from esl_dist.tracking import Tracker

log = logging.getLogger(__name__)


@dataclass
class Pipeline:
    """A run: its configuration, its folder and what its ranks share."""

    config: Config
    """In optimiser steps and final rates (see ``config/ranks.py``); ``config.yaml`` has it as it was asked for."""
    run_dir: Path
    runtime: Runtime
    tracker: Tracker
    stop: StopFlag
    source: Dataset
    target: Dataset
    scored: Dataset | None
    at_end: dict[str, EvaluationResult] = field(default_factory=dict)
    """Stage -> score of its last step while training, with the first of ``eval.bn_statistics``: the network that is
    saved is not scored again.
    """

    def run(self) -> None:
        """Every stage of ``run.stages``; a second call with the same options does nothing but say so."""
        plans = plan(self.config)
        for stage in plans:
            if stage.kind == "selftrain":
                same = [s for s in plans if s.kind == "selftrain" and s.teacher == stage.teacher]
                self._labels(same)
            self._stage(stage)

    # -- one stage -------------------------------------------------------------------------------------------------

    def _stage(self, stage: StagePlan) -> None:
        folder = self.run_dir / stage.folder
        adopted = stage.entry in self.config.run.adopted
        options = self._options(stage)
        if not adopted:
            agree(lambda: check_options(folder / "stage.json", options))
        if self._is_done(folder):
            self.tracker.event("stage", stage=stage.folder, status="skipped")
            log.info("%s: already done, skipped", stage.folder)
        elif adopted:
            raise RunFailure(
                f"{folder}: run.adopted says that this stage is finished, but it is missing or damaged; delete it where"
                " it came from and make it there again"
            )
        else:
            if self.runtime.is_main:
                folder.mkdir(parents=True, exist_ok=True)
                write_json(folder / "stage.json", options)
            self._train(stage, folder)
        if stage.kind == "translate":
            self._rewrite(stage, folder)
        else:
            self._score(stage, folder)

    def _train(self, stage: StagePlan, folder: Path) -> None:
        began = time.monotonic()
        scaler = new_scaler(self.runtime)
        before = stage.teacher if stage.kind == "translate" else stage.init
        step = build_stage(stage, self.config, self.runtime, self._weights(before) if before else None, scaler)
        updater = self._updater(stage, step, scaler)
        loop = Loop(
            name=stage.folder,
            folder=folder,
            steps=stage.steps,
            updater=updater,
            open_streams=lambda start: self._streams(stage, start, step.needs_target),
            config=self.config,
            runtime=self.runtime,
            tracker=self.tracker,
            stop=self.stop,
            meta={"stage": stage.folder, "seed": self.config.run.seed},
            score=self._score_while_training(stage, updater.networks()),
        )
        self.tracker.event("stage", stage=stage.folder, status="start", steps=stage.steps)
        snapshot = memory.snapshot_path(self.config, self.runtime.device, self.run_dir, stage.folder, self.runtime.rank)
        with memory.explained(
            f"{stage.folder}: training", memory.training_advice(self.config, self.runtime.precision), snapshot
        ):
            loop.run()
        seconds = time.monotonic() - began

        def record() -> None:
            if not self.runtime.is_main:
                return  # rank 0 wrote the final checkpoint; the others may be here before it is there
            final = self._final(folder)
            state, meta = checkpoint.load(final)
            checkpoint.write_ending(
                folder, stage.steps, final, checkpoint.weights_sha256(state[stage.network]), meta["elapsed"]
            )

        agree(record)
        self.tracker.event("stage", stage=stage.folder, status="done", seconds=seconds)

    def _updater(self, stage: StagePlan, step: Stage, scaler: torch.amp.GradScaler) -> Updater:
        optim, guard = self.config.optim, self.config.guard
        if stage.kind == "translate":
            options = self.config.translate
            if options.perceptual and not stage.teacher:
                log.info(
                    "%s: no segmenter was trained before it, so the perceptual term (translate.perceptual) is left out",
                    stage.folder,
                )
            optim = dataclasses.replace(optim, discriminator_lr=options.lr, power=1.0, clip=0.0)
            return Updater(step, optim, guard, stage.steps, scaler, hold=int(options.hold * stage.steps))
        ema = self.config.selftrain.ema if stage.kind == "selftrain" else 0.0
        return Updater(step, optim, guard, optim.decay_steps or stage.steps, scaler, ema)

    def _streams(self, stage: StagePlan, start: int, needs_target: bool) -> Streams:
        data = self.config.data
        if stage.kind == "translate":
            return self._unlabelled_crops(start)
        labelled, domain = (
            (self.target, data.target) if stage.kind == "oracle" else (self._source_of(stage), data.source)
        )
        # Initial weights see another order, so that no stage repeats it; the stages that are compared share theirs.
        seed = 2 * self.config.run.seed + (1 << 20 if stage.kind == "initial" else 0)
        source = self._stream(labelled, domain, seed, start)
        if not needs_target:
            return Streams(uploaded(source, self.runtime.device), None, source.close)
        return self._pairs(source, self._stream(self.target, data.target, seed + 1, start, **self._label_files(stage)))

    def _label_files(self, stage: StagePlan) -> dict[str, Any]:
        """What the target stream reads beside images: in self-training the pseudo-labels, and their weights where
        pixels are weighted.
        """
        if stage.kind != "selftrain":
            return {"labels": False}
        made = self.run_dir / "pseudo_labels" / stage.labels
        weights = {"weight_dir": made / "weights"} if self.config.selftrain.label_weight == "confidence" else {}
        return {"label_dir": made / "labels", **weights}

    def _pairs(self, source: TrainStream, target: TrainStream) -> Streams:
        def close() -> None:
            source.close()
            target.close()

        return Streams(uploaded(source, self.runtime.device), uploaded(target, self.runtime.device), close)

    def _unlabelled_crops(self, start: int) -> Streams:
        options, seed = self.config.translate, 2 * self.config.run.seed
        view: dict[str, Any] = {
            "labels": False,
            "fit": "width",
            "size": (options.load, 0),
            "crop": options.crop,
            "mirror": options.mirror,
            "blur": 0.0,
        }
        data = self.config.data
        return self._pairs(
            self._stream(self.source, data.source, seed, start, **view),
            self._stream(self.target, data.target, seed + 1, start, **view),
        )

    def _source_of(self, stage: StagePlan) -> Dataset:
        """The labelled images that a stage learns from: the originals, or as a translation rewrote them."""
        if not stage.images:
            return self.source
        return agree(lambda: self._translated(self.run_dir / stage.images))

    def _translated(self, folder: Path) -> FolderDataset:
        data = self.config.data
        return open_dataset(
            dataclasses.replace(data.source, root=str((folder / "source").absolute())), data.root, data.protocol
        )

    def _stream(self, dataset: Dataset, domain: DomainConfig, seed: int, start: int, **more: Any) -> TrainStream:
        """``more``: of the view, over the data's own."""
        optim, data = self.config.optim, self.config.data
        view: dict[str, Any] = {"size": domain.size, "fit": domain.fit, "mirror": data.mirror, "blur": data.blur}
        order = Order(seed, optim.batch, self.runtime.rank, self.runtime.world, optim.accumulate)
        return TrainStream(dataset, View(**(view | more)), order, start_step=start, workers=data.workers)

    def _rewrite(self, stage: StagePlan, folder: Path) -> None:
        """The source set in the target's look below ``<folder>/source``, and what the report shows of it."""
        data = self.config.data
        translators = agree(
            lambda: {
                look: Translator(self._final(folder), look, self.config.translate, self.runtime)
                for look in ("source", "target")
            }
        )
        source = agree(lambda: open_dataset(data.source, data.root, data.protocol))
        rewrite(
            source,
            Path(data.root, data.source.root),
            folder / "source",
            translators["target"],
            log.info,
            stop=lambda: self.stop.local,
        )
        if self.runtime.is_main and not (folder / "look.json").is_file():
            picture_rows({"source": source, "target": self.target}, translators, folder / "pictures")
            sets = {"source": source, "translated": self._translated(folder), "target": self.target}
            write_json(folder / "look.json", {name: colour_statistics(dataset) for name, dataset in sets.items()})
        collectives.barrier()

    # -- labels and scores -----------------------------------------------------------------------------------------

    def _labels(self, stages: list[StagePlan]) -> None:
        """Label sets of all self-training stages that share a teacher, from one inference pass."""
        teacher = self._final(self.run_dir / stages[0].teacher)
        out = self.run_dir / "pseudo_labels"
        given = self.config.extract.from_spool if stages[0].round == 1 else ""
        with memory.explained("labels", "lower extract.batch, or extract.size"):
            sets = make_labels(
                self.config,
                teacher,
                self.target,
                out,
                self.runtime,
                rules={s.labels: s.rule for s in stages},
                spool=Path(given) if given else out / "spool" / file_sha256(teacher)[:12],
                portion_round=stages[0].round - 1,
                from_spool=bool(given),
                stop=lambda: self.stop.local,
            )
        for stage, made in zip(stages, sets, strict=True):
            kept = sum(entry["kept"] for entry in made.thresholds["classes"])
            total = sum(entry["count"] for entry in made.thresholds["classes"])
            before = (
                agreement(made.out.with_name(stage.labels_before), made.out, self.target.names)
                if stage.labels_before
                else {}
            )
            made_from = {
                "labels": made.thresholds["labels"] + made.thresholds.get("weights", ""),
                "network": "not run" if given else "run",
            }
            self.tracker.event(
                "labels",
                set=stage.labels,
                rule=made.rule,
                stage=stage.teacher,
                round=stage.round,
                coverage=kept / max(total, 1),
                pixels=total,
                **made_from,
                **before,
            )

    def _score(self, stage: StagePlan, folder: Path) -> None:
        if self.scored is None:
            return
        done = agree(lambda: checkpoint.read_ending(folder))
        assert done is not None  # it was trained before
        missing = [
            kind
            for kind in self.config.eval.bn_statistics
            if not self._is_scored(folder / f"metrics-{kind}.json", done)
        ]
        if not agree(lambda: missing):
            return
        first, known = self.config.eval.bn_statistics[0], self.at_end.pop(stage.folder, None)
        predictor = Predictor.from_checkpoint(self.config, folder / "checkpoints" / done["checkpoint"], self.runtime)
        for kind in missing:
            result = (
                known if known is not None and kind == first else self._evaluate(predictor, kind, stage, done["step"])
            )
            if self.runtime.is_main:
                extra = {
                    "bn_statistics": kind,
                    "split": self.config.eval.split,
                    "stage": stage.folder,
                    "step": done["step"],
                    "weights_sha256": done["weights_sha256"],
                }
                write_metrics(result, folder / f"metrics-{kind}.json", extra)
        collectives.barrier()

    def _score_while_training(self, stage: StagePlan, networks: nn.ModuleDict) -> Callable[[int], float | None]:
        """mIoU every ``eval.every`` steps and at the end, with the first of ``eval.bn_statistics``.

        A copy of the network is scored, so that the one that trains cannot tell how often.
        """
        every, kind = self.config.eval.every, self.config.eval.bn_statistics[0]
        if not every or self.scored is None or stage.kind == "translate":
            return lambda step: None
        segmenter = networks[stage.network]
        copy = self.runtime.place(
            build_segmenter(self.config.model, protocol(self.config.data.protocol).num_classes, self.config.run.seed)
        )

        def score(step: int) -> float | None:
            if step % every and step != stage.steps:
                return None
            with ddp.averaged_buffers(segmenter):
                copy.load_state_dict(ddp.inner(segmenter).state_dict())
            result = self._evaluate(Predictor(copy, self.config, self.runtime), kind, stage, step)
            if step == stage.steps:
                self.at_end[stage.folder] = result
            return None if math.isnan(result.miou) else result.miou

        return score

    def _evaluate(self, predictor: Predictor, kind: str, stage: StagePlan, step: int) -> EvaluationResult:
        """Score a network on all ranks and log it."""
        assert self.scored is not None
        options, table = self.config.eval, protocol(self.config.data.protocol)
        careful = memory.explained(f"{stage.folder}: evaluation", "lower eval.batch, or eval.input_size")
        with (
            careful,
            self.runtime.fixed_forward(),
            predictor.statistics(kind, statistics_batches(self.config, self.target)),
        ):
            result = evaluate(
                predictor,
                self.scored,
                num_classes=table.num_classes,
                input_size=options.input_size,
                batch=options.batch,
                at=options.at,
                images=options.images,
                class_names=table.classes,
                workers=self.config.data.workers,
                fit=self.config.data.target.fit,
                stop=lambda: self.stop.local,
            )
        content = result.to_json()
        scores = {key: content[key] for key in ("miou", "miou_star", "iou") if key in content}
        self.tracker.event("eval", stage=stage.folder, step=step, split=options.split, bn_statistics=kind, **scores)
        return result

    # -- what is there ---------------------------------------------------------------------------------------------

    def _is_done(self, folder: Path) -> bool:
        """Whether the stage ended and its final checkpoint still verifies (decided by rank 0 for all)."""
        verdict = False
        final = agree(lambda: checkpoint.final_checkpoint(folder))
        if self.runtime.is_main and final is not None:
            problems = checkpoint.verify(final)
            for problem in problems:
                log.warning("%s: %s; the stage is trained again from its newest valid checkpoint", folder.name, problem)
            verdict = not problems
        return bool(collectives.broadcast_json(verdict))

    def _final(self, folder: Path) -> Path:
        final = checkpoint.final_checkpoint(folder)
        if final is not None:
            return final
        found, rejected = checkpoint.newest_valid(folder / "checkpoints")
        if found is None:
            raise ValueError(f"{folder}: no valid checkpoint: {'; '.join(rejected) or 'none was saved'}")
        return found

    def _weights(self, stage_folder: str) -> dict[str, Any]:
        state, _ = checkpoint.load(self._final(self.run_dir / stage_folder))
        weights: dict[str, Any] = state["segmenter"]
        return weights

    @staticmethod
    def _is_scored(path: Path, done: dict[str, Any]) -> bool:
        return path.is_file() and json.loads(path.read_text()).get("weights_sha256") == done["weights_sha256"]

    def _options(self, stage: StagePlan) -> dict[str, Any]:
        endings = {
            folder: checkpoint.read_ending(self.run_dir / folder)
            for folder in (stage.init, stage.teacher, stage.images)
            if folder
        }
        weights = {folder: ending["weights_sha256"] for folder, ending in endings.items() if ending is not None}
        return result_options(self.config, stage, self.runtime.precision, self.runtime.world, weights)


def start(
    config: Config, runtime: Runtime, run_dir: Path, stop: StopFlag, make_tracker: Callable[[], Tracker]
) -> Pipeline:
    """Open the data (making the embedded pair if asked), check it, record the configuration."""
    data = config.data
    if data.streets.make and runtime.is_main:
        ensure_pair(Path(data.root), data.streets, log.info)
    collectives.barrier()

    def datasets() -> tuple[Dataset, Dataset, Dataset | None]:
        source = open_at_size(data.source, data)
        target = open_at_size(data.target, data)
        scored = (
            open_at_size(data.target, data, config.eval.input_size, config.eval.split)
            if config.eval.split and data.target.labelled
            else None
        )
        return source, target, scored

    source, target, scored = agree(datasets)
    if runtime.is_main:
        write_text(run_dir / "config.yaml", load.dump(config))
    config, scaled = on_ranks(config, runtime.world)
    if scaled:
        log.info("%s", scaled)
    log.info(
        "source: %d images, target: %d images, scored on: %s",
        len(source),
        len(target),
        f"{len(scored)} images of {config.eval.split}" if scored else "nothing (labels withheld)",
    )
    return Pipeline(config, run_dir, runtime, make_tracker(), stop, source, target, scored)
