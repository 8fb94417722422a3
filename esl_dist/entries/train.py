"""The pipeline: ``torchrun --nproc_per_node=N -m esl_dist.train [--config FILE] [section.option=value ...]``."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from esl_dist import pipeline
from esl_dist.config import load
from esl_dist.distributed.collectives import agree
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine import apex
from esl_dist.engine.guards import RunLock, StopFlag, die_with_parent
from esl_dist.entries import cli
from esl_dist.errors import StoppedBySignal
from esl_dist.methods import plan
from esl_dist.methods.unread import sentence, unread
from esl_dist.reporting.report import write_report
from esl_dist.reporting.selection_page import write_selection_page
from esl_dist.reporting.terminal import print_table
from esl_dist.runs import RunFolder
from esl_dist.tracking import Tracker
from esl_dist.tracking.console import setup_logging

log = logging.getLogger("esl_dist.train")


def main(argv: Sequence[str] | None = None) -> int:
    """Run every stage that is not done yet; 0 also after a signal, when the state is saved."""
    parser = cli.parser("train", "Train, align, label and self-train as the configuration says.")
    parser.add_argument("--explain", action="store_true", help="say what each loss means where it first appears")
    arguments, config = cli.parse(parser, argv)
    plan(config)  # an impossible one is refused before anything starts
    run_dir = load.run_dir(config)
    if config.optim.backend == "apex":
        apex.require(config.run.device)
    die_with_parent()
    with Runtime.start(config.run, RunFolder(run_dir).flight_recorder) as runtime, StopFlag() as stop:
        lock = agree(lambda: RunLock(run_dir).acquire() if runtime.is_main else None)
        setup_logging(runtime.is_main, run_dir)
        log.info(
            "%d rank(s) on %s, %s, %d thread(s) each; run folder %s",
            runtime.world,
            runtime.device.type,
            runtime.precision,
            runtime.threads,
            run_dir,
        )

        idle = unread(config, [word.partition("=")[0] for word in arguments.options])
        if idle:
            log.warning("%s", sentence(idle))

        def tracker() -> Tracker:
            params = {key: str(value) for key, value in load.flat(config).items()}
            return Tracker(run_dir, config.tracking, config.run.name, params, runtime.is_main, arguments.explain)

        work = pipeline.start(config, runtime, run_dir, stop, tracker)
        status = "FAILED"
        try:
            pipeline.run(work)
            status = "FINISHED"
        except StoppedBySignal:
            status = "KILLED"
        finally:
            if runtime.is_main and status == "FINISHED":
                for teacher in filter(lambda made: made.selection.exists(), work.run.labels.teachers()):
                    write_selection_page(teacher.path)
                print_table(run_dir)
                print(f"report: {write_report(run_dir)}", flush=True)
            work.tracker.close(status)
            if lock is not None:
                lock.release()
    return 0
