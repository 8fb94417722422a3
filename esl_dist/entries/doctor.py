"""Is everything well here? ``torchrun --nproc_per_node=N -m esl_dist.doctor [--data CONFIG | --config CONFIG]
[section.option=value ...]``.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence

from esl_dist.config import load
from esl_dist.config.schema import Config
from esl_dist.diagnostics import datacheck, group, machine, numerics, storage, tracker
from esl_dist.diagnostics.check import Check, Probe, run
from esl_dist.diagnostics.fullread import read_everything
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.guards import die_with_parent
from esl_dist.entries import cli
from esl_dist.runs import RunFolder
from esl_dist.tracking.console import setup_logging

# A check that hangs is a finding: nothing here needs longer than this, reading up to three sets of images included.
COLLECTIVE_S, HINT_AFTER_S, READ_SET_S = 60, 15, 8.0
PROBES: tuple[Probe, ...] = (
    machine.versions,
    machine.device,
    machine.gpu_health,
    machine.optimiser,
    machine.shared_memory,
    group.process_group,
    group.all_reduce_sum,
    group.bandwidth,
    numerics.determinism,
    numerics.gradient_parity,
    storage.disk,
    storage.spool,
    tracker.tracking,
)


def datasets(config: Config, runtime: Runtime) -> list[Check]:
    """The folders of both domains, once per machine (they may be local to it)."""
    return datacheck.check(config, READ_SET_S) if runtime.local_rank == 0 else []


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line per check; 1 if something is broken."""
    parser = cli.parser("doctor", "Check this machine, or all machines of a torchrun start, in under a minute.")
    parser.add_argument("--data", metavar="CONFIG", help="as --config, and look into its data set folders too")
    parser.add_argument("--read-all", action="store_true", help="with --data: read every file, however long it takes")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.read_all and not arguments.data:
        raise ValueError("--read-all: needs --data CONFIG, whose files are read")
    if arguments.data and arguments.config:
        raise ValueError("--data: names the configuration too; leave --config out")
    arguments.config = arguments.data or arguments.config
    config = cli.configuration(arguments)
    die_with_parent()
    hint = threading.Timer(HINT_AFTER_S, lambda: print(group.waiting_hint(), flush=True))
    hint.daemon = True
    hint.start()
    with Runtime.start(
        dataclasses.replace(config.run, timeout_s=COLLECTIVE_S), RunFolder(load.run_dir(config)).flight_recorder
    ) as runtime:
        hint.cancel()
        runtime.expect_steps()
        setup_logging(runtime.is_main, None)
        probes = (*PROBES, datasets) if arguments.data else PROBES
        well = run(probes, config, runtime, lambda text: print(text, flush=True) if runtime.is_main else None)
        main_rank = runtime.is_main
    # With no group up: no rank waits for another's reading.
    if arguments.read_all and main_rank:
        for found in read_everything(config, lambda text: print(text, flush=True)):
            print(found, flush=True)
            well = well and found.status != "broken"
    return 0 if well else 1
