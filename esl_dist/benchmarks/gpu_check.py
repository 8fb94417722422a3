"""Everything that there is to know about this package on one GPU, in one run of a few minutes: ``launch/check_gpu.sh``.

Parts run one after the other, each a process of its own with a limit of its own, and print as they go, so that a run
that is cut short still tells. After each the figures so far are written to ``gpu_check.json`` in the output folder.
Without a GPU every part that means something runs on tiny sizes, and the others say that they are skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Part(NamedTuple):
    """Something to find out."""

    name: str
    limit_s: int
    """Seconds after which it is stopped, where there is time for all; else its share of what is left."""
    module: str
    arguments: tuple[str, ...] = ()
    """Of ``python -m module``; ``{out}`` is the output folder."""
    tiny: tuple[str, ...] | None = None
    """Arguments without a GPU; None skips the part there."""
    whole: bool = False
    """Whether it tells nothing when it is cut: then it may take its limit, whatever follows."""


OWN = "esl_dist.benchmarks.gpu_parts"
SMALL = (
    *("data.source.size=[128,64]", "data.target.size=[128,64]", "model.deeplabv2.layers=[1,1,1,1]"),
    *("model.deeplabv2.width=8", "model.discriminator_width=8", "run.threads=1"),
)
SHORT = ("run.stages=[initial,align]", "initial.steps=2", "align.steps=2", "checkpoint.every=1", "run.threads=1")
"""A run that can still be killed between two checkpoints of its alignment."""


def _step(name: str, limit_s: int, stage: str, *words: str, variants: str = "", seconds: float = 3.0) -> Part:
    own = ("step", "--stage", stage, "--seconds", str(seconds), "--variants", variants)
    alone = ("--variants", "eager") if variants and "plain" not in variants else ()
    tiny = ("step", "--stage", stage, "--seconds", "1", *alone, *words, *SMALL)
    return Part(name, limit_s, OWN, (*own, *words), tiny)


PARTS = (
    Part("machine", 30, OWN, ("machine",), ("machine",)),
    Part("doctor", 60, "esl_dist.doctor", (), ()),
    Part("kernels", 60, OWN, ("kernels",), ("kernels",)),
    Part("tests", 100, OWN, ("tests",), ("tests",), whole=True),
    Part("smoke", 90, OWN, ("smoke",), ("smoke", *SHORT), whole=True),
    _step("step 1+1", 110, "align"),
    _step("step 4+4", 110, "align", "optim.batch=4", variants="plain tf32,eager,captured,captured all kernels"),
    Part("extract", 100, OWN, ("extract", "--images", "1000"), ("extract", "--images", "6")),
    Part("evaluate", 45, OWN, ("evaluate", "--images", "100"), ("evaluate", "--images", "4")),
    _step("step selftrain", 40, "selftrain", variants="eager,captured,captured all kernels"),
    _step("step source", 40, "source", variants="eager,captured,captured all kernels"),
    _step(
        *("step teacher", 60, "mic", "run.capture=on", "teacher.optim.name=sgd", "teacher.labels.margins=none"),
        *("data.source.size=[512,512]", "data.target.size=[512,512]", "optim.batch=2"),
        variants="eager,captured,captured all kernels",
    ),
    _step("step blocks", 100, "align", variants="captured + compiled blocks"),  # compiles for long
    Part("networks", 120, OWN, ("networks",), ("networks",)),
    Part("streets", 60, OWN, ("streets",)),
)
DEADLINE_S = 480
"""Of the whole run; a part gets what is left of it, and none starts with less than 10 s."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts (those named, or all); 0 if all that ran were well."""
    parser = argparse.ArgumentParser(prog="launch/check_gpu.sh", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(part.name for part in PARTS)}; default: all"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("gpu_check"), help="folder of the figures (default: gpu_check)"
    )
    parser.add_argument(
        "--deadline", type=int, default=DEADLINE_S, help="seconds for everything (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    unknown = sorted(set(arguments.parts) - {part.name for part in PARTS})
    if unknown:
        parser.error(f"no part is called {unknown[0]!r}; there are {', '.join(part.name for part in PARTS)}")
    missing = missing_modules()
    if missing:
        print(f"check_gpu: cannot import {', '.join(missing)}; put their wheels on PYTHONPATH", file=sys.stderr)
        return 2
    import torch

    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    until, found = time.monotonic() + arguments.deadline, {}
    cuda = torch.cuda.is_available()
    todo = [part for part in PARTS if not arguments.parts or part.name in arguments.parts]
    if not cuda:
        print("check_gpu: no GPU here: tiny sizes, for the script's own sake; no figure below means anything")
    while todo:
        part, *todo = todo
        later = sum(after.limit_s for after in todo if cuda or after.tiny is not None)
        found[part.name] = run_part(part, out, until, cuda, later)
        (out / "gpu_check.json").write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(["", "== all parts", *(summary(name, entry) for name, entry in found.items())]), flush=True)
    return 0 if all(entry["outcome"] in ("well", "skipped") for entry in found.values()) else 1


def missing_modules() -> list[str]:
    """Of those that the package cannot do without, in the order in which to get them."""
    missing = []
    for name in ("torch", "numpy", "h5py", "PIL", "yaml", "jinja2"):
        try:
            __import__(name)
        except ImportError:
            missing.append(name)
    return missing


def run_part(part: Part, out: Path, until: float, cuda: bool, later: int = 0) -> dict[str, Any]:
    """Its outcome (``well``, ``failed``, ``stopped`` or ``skipped``), seconds, and the figures it wrote.

    Args:
        later: limits of all parts that are still to come, for which time must be left.
    """
    arguments = part.arguments if cuda else part.tiny
    left = until - time.monotonic()
    if arguments is None or left < 10:
        why = "needs a GPU" if arguments is None else "no time is left"
        print(f"\n== {part.name}: skipped, {why}", flush=True)
        return {"outcome": "skipped", "why": why, "seconds": 0.0}
    share = left if part.whole else left * part.limit_s / (part.limit_s + later)
    limit = min(float(part.limit_s), share) if cuda or part.whole else share
    print(f"\n== {part.name} (at most {limit:.0f} s)", flush=True)
    figures = out / f"{part.name.replace(' ', '-').replace('+', '-')}.json"
    figures.unlink(missing_ok=True)
    environment = {**os.environ, "ESL_GPU_CHECK": str(figures), "PYTHONUNBUFFERED": "1"}
    environment["ESL_GPU_CHECK_SECONDS"] = f"{limit:.0f}"
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", part.module, *arguments], env=environment, start_new_session=True)
    try:
        code: int | None = process.wait(limit)
    except subprocess.TimeoutExpired:
        code = None
        _end(process)
    outcome = "well" if code == 0 else "stopped" if code is None else "failed"
    seconds = time.monotonic() - began
    print(f"-- {part.name}: {outcome} after {seconds:.1f} s", flush=True)
    entry: dict[str, Any] = {"outcome": outcome, "seconds": seconds}
    if figures.is_file():
        entry["figures"] = json.loads(figures.read_text())
    return entry


def _end(process: subprocess.Popen[bytes]) -> None:
    """The part and what it started: its whole session."""
    os.killpg(process.pid, 9)
    process.wait()


def summary(name: str, entry: dict[str, Any]) -> str:
    """A line of the last table: what a reader looks for first."""
    line = f"{name:<16}{entry['outcome']:<9}{entry['seconds']:>7.1f} s"
    if "why" in entry:
        line += f"  {entry['why']}"
    figures = entry.get("figures", {})
    if "variants" in figures:
        timed = [f"{v['name']} {v['ms']:.1f}" for v in figures["variants"] if "ms" in v]
        line += "  ms: " + ", ".join(timed)
    if "headline" in figures:
        line += f"  {figures['headline']}"
    return line


if __name__ == "__main__":
    sys.exit(main())
