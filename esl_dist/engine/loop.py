"""The only training loop: resume, step, log, save, stop together. It knows no method, no file format and no tracker's
name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from esl_dist.config.schema import Config
from esl_dist.data.bad_samples import Bad, BadSamples
from esl_dist.distributed import ddp
from esl_dist.distributed.collectives import agree, gather_json
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine import checkpoint
from esl_dist.engine.first_steps import FirstSteps
from esl_dist.engine.garbage import Garbage
from esl_dist.engine.guards import StopFlag, compare_replicas
from esl_dist.engine.step import Losses, Pair, Remembers, Streams
from esl_dist.engine.update import Updater, mean_losses
from esl_dist.errors import RunFailure, StoppedBySignal
from esl_dist.labels import protocol
from esl_dist.monitor import gpu
from esl_dist.monitor.profile import StepProfiler, phase
from esl_dist.monitor.throughput import Throughput
from esl_dist.runs import RunFolder, StageFolder
from esl_dist.runs.events import Gpu, Train, Warned
from esl_dist.tracking import Tracker

log = logging.getLogger(__name__)


@dataclass
class Loop:
    """Trains one stage from its newest valid checkpoint to ``steps``."""

    name: str
    folder: Path
    steps: int
    updater: Updater
    open_streams: Callable[[int], Streams]
    config: Config
    runtime: Runtime
    tracker: Tracker
    stop: StopFlag
    meta: Mapping[str, Any]
    score: Callable[[int], float | None] = lambda step: None
    """The network's score after a step, the same on all ranks; None where that step is not scored. A scored step is
    saved, the best one is kept.
    """

    def run(self) -> int:
        """Train; returns the number of the step it resumed from (0 for a fresh start).

        Raises:
            StoppedBySignal: after saving, on every rank.
            RunFailure: numbers went bad beyond the bound, or a replica drifted.
        """
        start, elapsed = self._resume()
        writer = checkpoint.Writer(
            StageFolder(self.folder).checkpoints,
            keep=self.config.checkpoint.keep,
            background=self.config.checkpoint.background,
        )
        optim = self.config.optim
        images = 2 if self.updater.train_step.needs_target else 1
        meter = Throughput(images_per_step=images * optim.batch * optim.accumulate * self.runtime.world)
        profiler = StepProfiler(self.config.profile, RunFolder(self.folder.parent).trace(self.name, self.runtime.rank))
        streams = self.open_streams(start)
        bad = {domain: BadSamples(domain, self.config.data.bad_samples) for domain in ("source", "target")}
        first = FirstSteps(self.name, protocol(self.config.data.classes).num_classes, start, self.steps)
        garbage = Garbage()
        try:
            for step in range(start, self.steps):
                with meter.waiting(), phase("data"):
                    micro = [streams.next() for _ in range(optim.accumulate)]
                losses, status = self.updater.step(step, micro, self.stop.local)
                first.see(step, (pair.source.labels for pair in micro))
                if self._is_read(step + 1):
                    status = status.also(self.updater.settle())
                meter.step()
                garbage.step(step + 1)
                profiler.step(step + 1)
                if status.bad_samples:
                    self._count_bad_samples(micro, bad, step + 1)
                if step == start:
                    self.runtime.expect_steps()
                self._after_step(step + 1, losses, meter, sum(len(found.found) for found in bad.values()))
                stopped, score = status.stop and step + 1 < self.steps, None
                try:
                    with meter.paused():
                        score = self.score(step + 1)
                except StoppedBySignal:
                    stopped = True  # without its score; whoever goes on from here makes up for it
                if (
                    score is not None
                    or stopped
                    or (step + 1) % self.config.checkpoint.every == 0
                    or step + 1 == self.steps
                ):
                    self._save(writer, step + 1, elapsed + meter.total_seconds, score)
                if stopped:
                    log.info(
                        "%s: stopping at step %d as asked by a signal; the same command goes on from here",
                        self.name,
                        step + 1,
                    )
                    raise StoppedBySignal
        finally:
            garbage.close()
            profiler.close()
            streams.close()
            writer.wait()
            self.runtime.expect_anything()
        if start < self.steps:
            agree(lambda: writer.require(self.steps) if self.runtime.is_main else None)
        return start

    def _is_read(self, step: int) -> bool:
        """Whether something is written after ``step``, so that the host has to know how it ended."""
        config = self.config
        return step == self.steps or any(
            every and step % every == 0
            for every in (config.run.log_every, config.checkpoint.every, config.eval.every, config.guard.replica_every)
        )

    def _resume(self) -> tuple[int, float]:
        found, rejected = checkpoint.resume(StageFolder(self.folder).checkpoints)
        for reason in rejected:
            self.tracker.record(Warned(reason, self.name))
            log.warning(reason)
        if found is None:
            self.tracker.truncate(self.name, 0)
            return 0, 0.0
        state, meta = checkpoint.load(found, self.runtime.device)
        networks = self.updater.networks()
        for name, network in networks.items():
            network.load_state_dict(state[name])
        ddp.scatter_buffers(networks, state["bn_ranks"])
        self.updater.load_state(state["optim"])
        if isinstance(self.updater.train_step, Remembers):
            self.updater.train_step.recall(state["memory"])
        step = int(meta["step"])
        self.tracker.truncate(self.name, step)
        self._keep_if_best(step, self.score(step) if meta.get("score") is None else meta["score"])
        if step < self.steps:
            log.info("%s: going on from step %d of %d", self.name, step, self.steps)
        return step, float(meta["elapsed"])

    def _save(self, writer: checkpoint.Writer, step: int, elapsed: float, score: float | None) -> None:
        """All ranks take part (their batch-norm statistics are gathered); rank 0 writes."""
        self.updater.settle()
        networks = self.updater.networks()
        bn_ranks = ddp.gather_buffers(networks)
        memory = {"memory": self.updater.train_step.memory()} if isinstance(self.updater.train_step, Remembers) else {}
        with ddp.averaged_buffers(networks):
            if not self.runtime.is_main:
                return
            state: dict[str, Any] = {name: network.state_dict() for name, network in networks.items()}
            state |= {"optim": self.updater.state(), "bn_ranks": bn_ranks, **memory}
            meta = {**self.meta, "step": step, "elapsed": elapsed, "world": self.runtime.world, "score": score}
            writer.submit(step, writer.snapshot(state), meta)
            if score is not None:
                writer.wait()
                self._keep_if_best(step, score)

    def _keep_if_best(self, step: int, score: float | None) -> None:
        """Mark the checkpoint of ``step`` if none before it scored higher; its score lies in it, so a kill in between
        loses no mark.
        """
        folder = StageFolder(self.folder).checkpoints
        if score is None or not self.runtime.is_main or not (folder / f"step_{step:08d}").is_dir():
            return
        known = checkpoint.best(folder)
        if known is None or known[0] > step or known[1] < score or not (folder / f"step_{known[0]:08d}").is_dir():
            try:
                checkpoint.mark_best(folder, step, score)
            except OSError as error:
                log.warning(
                    "%s: step %d is the best so far (%.4f) but cannot be marked (%s): a later checkpoint may"
                    " replace it",
                    self.name,
                    step,
                    score,
                    error,
                )

    def _after_step(self, step: int, losses: Losses, meter: Throughput, bad: int) -> None:
        if step % self.config.run.log_every == 0 or step == self.steps:
            rate = next(iter(self.updater.optimizers.values())).param_groups[0]["lr"]
            # A figure that is no loss has a path of its own (``modes/...``).
            values = {name if "/" in name else f"loss/{name}": value for name, value in mean_losses(losses).items()}
            self.tracker.record(Train(self.name, step, self.steps, rate, bad, {**values, **meter.read()}))
            self._log_gpus(step)
        every = self.config.guard.replica_every
        if every and step % every == 0 and self.runtime.world > 1:
            for name, network in self.updater.networks().items():
                drifted = compare_replicas(network)
                if drifted:
                    raise RunFailure(
                        f"{self.name}: step {step}: the weights of {name} on rank {', '.join(map(str, drifted))} differ"
                        " from the others; check that machine's memory and restart"
                    )

    def _log_gpus(self, step: int) -> None:
        """Figures of every node's GPUs, sampled by its first rank, recorded by rank 0."""
        if self.runtime.device.type != "cuda":
            return
        for rank, figures in enumerate(gather_json(gpu.sample() if self.runtime.local_rank == 0 else None)):
            if figures:
                self.tracker.record(Gpu(self.name, step, rank, figures))

    def _count_bad_samples(self, micro: list[Pair], known: Mapping[str, BadSamples], step: int) -> None:
        """Name the unreadable samples that some rank met for the first time; stop all ranks beyond
        ``data.bad_samples``.
        """
        mine: dict[str, list[Bad]] = {domain: [] for domain in known}
        for pair in micro:
            for domain, batch in (("source", pair.source), ("target", pair.target)):
                mine[domain] += () if batch is None else batch.bad
        everyone = gather_json(mine)
        for domain, samples in known.items():
            new = samples.add(Bad(*bad) for rank in everyone for bad in rank[domain])
            for bad in new if self.runtime.is_main else ():
                log.warning("%s: step %d: replaced %s", self.name, step, bad.reason)
            if new:
                text = f"{len(new)} unreadable {domain} sample(s) replaced"
                named = [bad.reason for bad in new]
                self.tracker.record(Warned(text, self.name, step, tuple(named)))
        for samples in known.values():
            samples.check()


def new_scaler(runtime: Runtime) -> torch.amp.GradScaler:
    """fp16 needs loss scaling; every other precision passes through a disabled scaler."""
    return torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")
