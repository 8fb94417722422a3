"""The parts of ``launch/check_gpu.sh`` that are not commands of the package already: ``python -m
esl_dist.benchmarks.gpu_parts PART``.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from esl_dist.benchmarks import kernel_rates, variants
from esl_dist.runs import RunFolder

ROOT = Path(__file__).resolve().parent.parent.parent
GPU_TESTS = (
    "tests/kernels",
    "tests/engine/test_capture.py",
    "tests/methods/test_overlap.py",
    "tests/methods/test_gpu_steps.py",
    "tests/models/transformers/test_attention.py",
    "tests/pseudo_labels/test_scores.py",
    "tests/pseudo_labels/test_held.py",
    "tests/metrics/test_counting.py",
    "tests/data/test_ahead.py",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one part; its figures go to the file named by ``ESL_GPU_CHECK``."""
    parser = argparse.ArgumentParser(prog="gpu_parts", description=__doc__)
    parser.add_argument("part", choices=sorted(PARTS))
    parser.add_argument("options", nargs="*", help="section.option=value of the configuration")
    parser.add_argument("--stage", default="align")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--variants", default="")
    parser.add_argument("--images", type=int, default=100)
    arguments = parser.parse_intermixed_args(argv)
    figures = PARTS[arguments.part](arguments)
    keep(figures)
    print(figures.get("headline", ""), flush=True)
    return 1 if figures.get("wrong") else 0


def keep(figures: dict[str, Any]) -> None:
    """What is known so far, for whoever started this part."""
    path = os.environ.get("ESL_GPU_CHECK")
    if path:
        Path(path).write_text(json.dumps(figures) + "\n")


def seconds_left(otherwise: float = 600.0) -> float:
    """Of this part, a little less than its limit: counted from the start of the process."""
    limit = float(os.environ.get("ESL_GPU_CHECK_SECONDS", otherwise))
    return 0.9 * limit - (time.monotonic() - _BEGAN)


_BEGAN = time.monotonic()


def say(line: str) -> None:
    print(line, flush=True)


def machine(arguments: argparse.Namespace) -> dict[str, Any]:
    cuda = torch.cuda.is_available()
    found: dict[str, Any] = {"torch": torch.__version__, "python": sys.version.split()[0], "cores": os.cpu_count()}
    found["triton"] = _version("triton")
    found["pytest"] = _version("pytest")
    found["gpu"] = torch.cuda.get_device_name() if cuda else None
    if cuda:
        found["memory_gib"] = torch.cuda.get_device_properties(0).total_memory / (1 << 30)
        found["cudnn"] = torch.backends.cudnn.version()
    return {**found, "headline": ", ".join(f"{name} {value}" for name, value in found.items())}


def _version(name: str) -> str | None:
    if importlib.util.find_spec(name) is None:
        return None
    from importlib.metadata import version

    return version(name)


def kernels(arguments: argparse.Namespace) -> dict[str, Any]:
    """Kernels of our own against float64 and twice for their bits, then their rates at the sizes of a step."""
    if not torch.cuda.is_available():
        return {"headline": "the kernels are interpreted by the tests; nothing to run without a GPU"}
    wrong: list[str] = []
    for check in kernel_rates.CHECKS:
        problem = check()
        say(f"{check.__name__}: {problem or 'ok'}")
        wrong += [f"{check.__name__}: {problem}"] if problem else []
    figures: dict[str, Any] = {"wrong": wrong, "lines": [], "rates": []}
    keep(figures)
    for line in kernel_rates.loss_rates(torch.device("cuda")):
        figures["lines"].append(line)
        say(line)
    for entry in kernel_rates.rates(torch.device("cuda")):
        figures["rates"].append(entry)
        say(kernel_rates.row(entry))
        keep(figures)
    return {**figures, "headline": f"{len(wrong)} of {len(kernel_rates.CHECKS)} checks failed"}


def tests(arguments: argparse.Namespace) -> dict[str, Any]:
    """The tests that need a GPU, where there is pytest; as many as there is time for."""
    if importlib.util.find_spec("pytest") is None:
        return {"headline": "skipped: there is no pytest here"}
    # Warnings come and go with releases of torch and Triton, which are this machine's: they are shown, not counted.
    how = ("-vv", "-rs", "--tb=short", "-W", "default", "-p", "no:cacheprovider", "-k", "gpu or GPU")
    return counted_tests([sys.executable, "-m", "pytest", *how, *GPU_TESTS], seconds_left())


def counted_tests(command: Sequence[str], seconds: float) -> dict[str, Any]:
    """How many passed, failed and were skipped, as pytest says of each; a run that is cut tells of those before."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said)
        try:
            code: int | None = process.wait(max(seconds, 1.0))
        except subprocess.TimeoutExpired:
            code = None
            process.kill()
            process.wait()
        said.seek(0)
        text = said.read()
    say(text[-4000:])
    ends = {word: len(re.findall(rf"::.* {word}\b", text)) for word in ("PASSED", "FAILED", "ERROR", "SKIPPED")}
    headline = ", ".join(f"{number} {word.lower()}" for word, number in ends.items() if number) or "nothing"
    cut = "" if code is not None else f"; cut after {seconds:.0f} s"
    wrong = ends["FAILED"] + ends["ERROR"] > 0 or code not in (None, 0, 5)
    return {"wrong": wrong, "headline": headline + cut, **ends}


def smoke(arguments: argparse.Namespace) -> dict[str, Any]:
    """``configs/smoke.yaml`` twice and once killed in alignment and gone on with, all at a time: the same bits."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        data = f"data.root={folder / 'data'}"
        words = (data, *arguments.options)
        first = _train(folder / "one", *words)  # paints the pair for the others too
        if first.wait():
            return {"wrong": True, "headline": "the first run failed"}
        second, third = _train(folder / "two", *words), _train(folder / "killed", *words)
        killed = _kill_in(third, folder / "killed", "align")
        again = _train(folder / "killed", *words)
        codes = second.wait(), again.wait()
        hashes = [_weights(folder / name) for name in ("one", "two", "killed")]
    files = len(hashes[0])
    same = bool(files) and hashes[0] == hashes[1] == hashes[2]
    verdict = f"{files} checkpoint files, {'the same bits in all three runs' if same else 'DIFFERENT bits'}"
    say(f"{verdict}; killed: {killed}; {time.monotonic() - began:.0f} s")
    return {"wrong": not same or any(codes), "files": files, "killed": killed, "headline": verdict}


def _train(run: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "esl_dist.train", "--config", "configs/smoke.yaml", f"run.dir={run}", *words]
    log = open(f"{run}.log", "ab")  # noqa: SIM115  (the process writes to it as long as it lives)
    return subprocess.Popen([*command, "tracking.mlflow=false"], cwd=ROOT, stdout=log, stderr=log)


def _kill_in(process: subprocess.Popen[bytes], run: Path, stage: str, patience_s: float = 60.0) -> bool:
    """Kill the run when it has written its first checkpoint in a folder called like ``stage``; whether there was
    one to kill.
    """
    until = time.monotonic() + patience_s
    while process.poll() is None and time.monotonic() < until:
        if any(run.glob(f"*{stage}*/checkpoints/step_*")) or any(run.glob("advent/checkpoints/step_*")):
            break
        time.sleep(0.05)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return alive


def _weights(run: Path) -> dict[str, str]:
    """SHA-256 of every tensor file of a run's checkpoints."""
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("checkpoints/step_*/*.pt"))
    }


def step(arguments: argparse.Namespace) -> dict[str, Any]:
    names = [name for name in arguments.variants.split(",") if name]
    figures: dict[str, Any] = variants.run(arguments.stage, arguments.options, names, arguments.seconds, say, keep)
    for entry in figures["variants"]:
        if entry["name"].endswith("all kernels") and "slowest" in entry:
            say(f"kernels of {entry['name']}, ms (calls):")
            for kernel in entry["slowest"][:25]:
                say(f"  {kernel['ms']:7.3f} ({kernel['calls']:4d})  {kernel['name'][:110]}")
    return {**figures, "wrong": [entry["name"] for entry in figures["variants"] if "error" in entry]}


def extract(arguments: argparse.Namespace) -> dict[str, Any]:
    """What follows the forward, the forward alone by precision, then whole extractions by the command."""
    from esl_dist.benchmarks import extract_device

    return extract_device.run(arguments.images, say, keep, seconds_left)


def evaluate(arguments: argparse.Namespace) -> dict[str, Any]:
    from esl_dist.benchmarks import extract_device

    return extract_device.evaluation(arguments.images, say, keep)


def networks(arguments: argparse.Namespace) -> dict[str, Any]:
    """A step of every transformer network with activations kept and computed again; without a GPU of tiny ones."""
    from esl_dist.benchmarks import networks as measured

    cuda = torch.cuda.is_available()
    figures = measured.run(3 if cuda else 1, tiny=not cuda)
    say(measured.table(figures))
    fastest = min(figures["cases"], key=lambda case: float(case["ms"]))
    wrong = [one["network"] for one in figures["repeats"] if not one["repeats"]]
    return {**figures, "wrong": wrong, "headline": f"fastest: {fastest['network']}, {fastest['ms']:.0f} ms"}


def streets(arguments: argparse.Namespace) -> dict[str, Any]:
    """The first stages of the embedded pair, for what they take a step."""
    with tempfile.TemporaryDirectory() as made:
        run = Path(made) / "run"
        command = [sys.executable, "-m", "esl_dist.train", f"run.dir={run}", f"data.root={made}/data"]
        words = ("run.stages=[initial,align]", "tracking.mlflow=false")
        began = time.monotonic()
        done = subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True, check=False)
        took = time.monotonic() - began
        say(done.stdout[-2500:] + done.stderr[-2500:])
        rates = [event["images_per_s"] for event in _events(RunFolder(run).metrics) if "images_per_s" in event]
    fastest = f", fastest {max(rates):.0f} images/s" if rates else ""
    return {"wrong": done.returncode != 0, "seconds": took, "headline": f"initial and align in {took:.0f} s{fastest}"}


def _events(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        for line in path.read_text().splitlines():
            yield json.loads(line)


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "machine": machine,
    "kernels": kernels,
    "tests": tests,
    "smoke": smoke,
    "step": step,
    "extract": extract,
    "evaluate": evaluate,
    "networks": networks,
    "streets": streets,
}


if __name__ == "__main__":
    assert shutil.which(sys.executable)
    sys.exit(main())
