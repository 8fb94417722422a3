"""The nodes of a run in order: skip what is done, make the rest."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import cast

from esl_dist.alike import require_alike
from esl_dist.atomic import write_text
from esl_dist.config import load
from esl_dist.config.ranks import on_ranks
from esl_dist.config.schema import Config
from esl_dist.config.scoring import ForwardPrecision
from esl_dist.data import open_at_size, open_domain
from esl_dist.data.dataset import Dataset
from esl_dist.data.look import look_first
from esl_dist.distributed import collectives
from esl_dist.distributed.collectives import agree
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.guards import StopFlag
from esl_dist.errors import RunFailure
from esl_dist.methods import plan, stages
from esl_dist.methods.node import Node, Work
from esl_dist.runs import RunFolder
from esl_dist.synthetic.streets import ensure_pair
from esl_dist.tracking import Tracker

log = logging.getLogger(__name__)


def run(work: Work) -> None:
    """Every node of ``run.stages``; a second call with the same options does nothing but say so."""
    nodes = plan(work.config)
    work.tracker.expects({stage.name: stage.steps for stage in stages(work.config)})
    for node in nodes:
        if not _is_adopted(node, work):
            node.check_others(nodes, work)
    for node in nodes:
        _bring_about(node, work)


def _bring_about(node: Node, work: Work) -> None:
    adopted = _is_adopted(node, work)
    if not adopted:
        agree(lambda: node.check(work))
    if node.is_done(work):
        log.info("%s: already done, skipped", node.name)
        node.found(work)
    elif adopted:
        raise RunFailure(
            f"{work.run.path}: run.adopted says that {node.name} is finished, but it is missing or damaged; delete it"
            " where it came from and make it there again"
        )
    else:
        node.make(work)
    node.finish(work)


def _is_adopted(node: Node, work: Work) -> bool:
    """Whether it comes from another run, which answers for it."""
    return set(node.entries) <= set(work.config.run.adopted)


def start(config: Config, runtime: Runtime, run_dir: Path, stop: StopFlag, make_tracker: Callable[[], Tracker]) -> Work:
    """Open the data (making the embedded pair if asked), check it, record the configuration."""
    data = config.data
    here = _on_this_device(config, runtime)  # refused before anything is made
    if data.streets.make and runtime.is_main:
        ensure_pair(Path(data.root), data.streets, log.info)
    collectives.barrier()

    def datasets() -> tuple[Dataset, Dataset, Dataset | None]:
        source = open_domain(data, "source")
        target = open_domain(data, "target")
        scored = (
            open_at_size(data.target, data, config.eval.input_size, config.eval.split)
            if config.eval.split and data.target.labelled
            else None
        )
        return source, target, scored

    source, target, scored = agree(datasets)
    require_alike(config, source, target, scored)
    agree(lambda: look_first(config, source, target, scored) if runtime.is_main else None)
    folder = RunFolder(run_dir)
    if runtime.is_main:
        write_text(folder.config, load.dump(config))
    config, scaled = on_ranks(here, runtime.world)
    if scaled:
        log.info("%s", scaled)
    log.info(
        "source: %d images, target: %d images, scored on: %s",
        len(source),
        len(target),
        f"{len(scored)} images of {config.eval.split}" if scored else "nothing (labels withheld)",
    )
    return Work(config, folder, runtime, make_tracker(), stop, source, target, scored)


def _on_this_device(config: Config, runtime: Runtime) -> Config:
    """With the precision of inference that ``fastest`` is here: naming it is no other recipe, on another device it is.

    Raises:
        ValueError: this device has no such arithmetic.
    """

    def named(asked: ForwardPrecision, key: str) -> ForwardPrecision:
        found = runtime.inference(asked, key).precision
        return cast(ForwardPrecision, found) if asked == "fastest" else asked

    extract = dataclasses.replace(config.extract, precision=named(config.extract.precision, "extract.precision"))
    scoring = dataclasses.replace(config.eval, precision=named(config.eval.precision, "eval.precision"))
    return dataclasses.replace(config, extract=extract, eval=scoring)
