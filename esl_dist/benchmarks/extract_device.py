"""Extraction and evaluation on this device: the forward alone by precision and batch, then the whole command,
reading and PNGs included.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from esl_dist.benchmarks import ceilings, extract
from esl_dist.benchmarks.common import BATCH, NUM_CLASSES, RECORDS
from esl_dist.benchmarks.step import default_config
from esl_dist.config.schema import Config, ExtractConfig, PseudoLabelConfig
from esl_dist.distributed.arithmetic import set_arithmetic
from esl_dist.distributed.runtime import Runtime
from esl_dist.labels import protocol
from esl_dist.metrics import counting
from esl_dist.metrics.inference import Predictor
from esl_dist.models import build_segmenter
from esl_dist.pseudo_labels.extraction import Extraction
from esl_dist.pseudo_labels.sets.teacher import Teacher

DIFFERENT = 24
"""Images that are written; the others are links to them."""
Report = Callable[[str], None]


def _words(cuda: bool) -> list[str]:
    small = ["model.deeplabv2.layers=[1,1,1,1]", "model.deeplabv2.width=8", "extract.size=[256,128]"]
    small += ["data.target.size=[256,128]", "eval.input_size=[256,128]"]
    return ["model.deeplabv2.init=kaiming", *([] if cuda else small)]


def forwards(report: Report, native: tuple[int, int] = (1024, 512)) -> list[dict[str, Any]]:
    """Milliseconds an image of the forward alone, by precision and images a forward, uint8 on the device to logits
    there.
    """
    cuda = torch.cuda.is_available()
    config = default_config(_words(cuda))
    size = native if cuda else (256, 128)
    found = []
    with Runtime.start(config.run, RECORDS) as runtime, torch.inference_mode():
        network = build_segmenter(config.model, protocol(config.data.classes).num_classes, config.run.seed, config.data)
        for precision in ("fp32", "tf32", "bf16") if cuda else ("fp32",):
            set_arithmetic(True, precision)
            predictor = Predictor(runtime.place(network), runtime, precision)
            for batch in (1, 4):
                images = torch.randint(0, 256, (batch, 3, size[1], size[0]), dtype=torch.uint8, device=runtime.device)
                took = ceilings.seconds(lambda: predictor(images), runtime.device, 15 if cuda else 2)  # noqa: B023
                found.append({"precision": precision, "batch": batch, "ms": 1e3 * took / batch})
                report(f"forward {size[0]}x{size[1]} {precision}, {batch} a forward: {found[-1]['ms']:.2f} ms an image")
    return found


def write_images(folder: Path, number: int, size: tuple[int, int]) -> None:
    """Blocks and noise in Cityscapes' layout, a few different ones."""
    width, height = size
    images, annotations = folder / "cityscapes/leftImg8bit/train/c", folder / "cityscapes/gtFine/train/c"
    for made in (images, annotations):
        made.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        name = f"c_{i:06d}_000019"
        image, label = images / f"{name}_leftImg8bit.png", annotations / f"{name}_gtFine_labelIds.png"
        if i >= DIFFERENT:
            first = f"c_{i % DIFFERENT:06d}_000019"
            os.link(images / f"{first}_leftImg8bit.png", image)
            os.link(annotations / f"{first}_gtFine_labelIds.png", label)
            continue
        stream = np.random.RandomState(i)
        blocks = stream.randint(0, 256, (-(-height // 32), -(-width // 32), 3)).repeat(32, 0).repeat(32, 1)
        pixels = np.clip(blocks[:height, :width] + stream.randint(-6, 7, (height, width, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(image, compress_level=1)
        Image.fromarray((blocks[:height, :width, 0] % 34).astype(np.uint8)).save(label, compress_level=1)


def _checkpoint(config: Config, path: Path) -> None:
    network = build_segmenter(config.model, protocol(config.data.classes).num_classes, config.run.seed, config.data)
    torch.save(network.state_dict(), path)


EXPERIMENT = "configs/gta5_cityscapes/advent.yaml"


def _own(folder: Path) -> list[str]:
    """Options on top of the experiment's: what was made in ``folder``, in place of published weights and data."""
    data = [f"data.root={folder}", "data.target.root=cityscapes"]
    return ["protocol=ours", "model.checkpoint=''", "model.layout=advent", *data]


def _command(module: str, folder: Path, words: Sequence[str]) -> tuple[float, str]:
    command = [sys.executable, "-m", f"esl_dist.{module}", "--config", EXPERIMENT]
    began = time.monotonic()
    done = subprocess.run(
        [*command, "--checkpoint", str(folder / "weights.pt"), *_own(folder), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.monotonic() - began
    if done.returncode:
        raise RuntimeError(f"{module} failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}")
    return took, done.stdout + done.stderr


CHOICES = {
    "fastest, in memory": ("extract.spool=memory",),
    "fastest, in files": (),
    "fp32, in files": ("extract.precision=fp32",),
}
"""Whole extractions: a name and its options."""


def after_forward(images: int, report: Report) -> dict[str, Any]:
    """What follows the forward, milliseconds an image: logits held, both passes, the PNGs of two rules; then six values
    of nu at once from the same memory. The logits lie on the device beforehand and are used in turn.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    logits = torch.stack([extract.street_like_logits(seed) for seed in range(extract.DIFFERENT)]).to(device)

    def forward(seen: Tensor) -> Tensor:
        return logits[[number % extract.DIFFERENT for number in seen[:, 0, 0, 0].tolist()]]

    classes = [f"class {c}" for c in range(NUM_CLASSES)]
    teacher = Teacher(lambda: contextlib.nullcontext(forward), {"checkpoint": "generated"}, classes, device=device)
    config = ExtractConfig(size=extract.SIZE, batch=BATCH, spool="memory")
    studies = {
        "two rules": {rule: PseudoLabelConfig(rule=rule) for rule in ("esl", "ssl")},
        "six values of nu": {f"nu {nu}": PseudoLabelConfig(nu=nu) for nu in extract.SWEEP},
    }
    found: dict[str, Any] = {"images": images}
    for name, rules in studies.items():
        for number in (BATCH, images):  # the first compiles and tunes
            with tempfile.TemporaryDirectory() as out:
                lines: list[str] = []
                extraction = Extraction(
                    teacher, extract.generated_images(number), config, Path(out), report=lines.append
                )
                began = time.perf_counter()
                extraction.make(rules, Path(out), Path(out))
                took = time.perf_counter() - began
        said = [line for line in lines if re.match("thresholds|label f", line)]
        found[name] = {"ms": 1e3 * took / images, "said": said}
        report(f"after the forward, {name}, {images} images: {found[name]['ms']:.2f} ms an image; {'; '.join(said)}")
    return found


def run(
    images: int, report: Report, keep: Callable[[dict[str, Any]], None], left: Callable[[], float]
) -> dict[str, Any]:
    """What follows the forward, the forward alone, then whole extractions, of fewer images where time is short.

    Args:
        left: seconds that remain for all of it.
    """
    cuda = torch.cuda.is_available()
    figures: dict[str, Any] = {"after": after_forward(images, report), "whole": []}
    keep(figures)
    figures["forward"] = forwards(report)
    keep(figures)
    config = default_config(_words(cuda))
    size = (1024, 512) if cuda else (256, 128)
    fastest = min(f["ms"] for f in figures["forward"])
    for number, (name, words) in enumerate(CHOICES.items()):
        # a start takes some ten seconds, an image about twice its forward
        fits = int((left() / (len(CHOICES) - number) - 10) / (2e-3 * fastest)) if cuda else images
        if fits < min(images, DIFFERENT):
            report(f"whole extraction, {name}: skipped, no time is left")
            continue
        some = min(images, fits)
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            write_images(folder, some, size)
            _checkpoint(config, folder / "weights.pt")
            asked = [
                "--out",
                str(folder / "labels"),
                *_words(cuda),
                *words,
                "data.workers=8" if cuda else "data.workers=0",
            ]
            try:
                took, said = _command("extract", folder, asked)
            except RuntimeError as error:
                report(str(error))
                figures["whole"].append({"name": name, "error": str(error)})
                continue
        entry = {"name": name, "images": some, "seconds": took, "ms": 1e3 * took / some, **_spoken(said)}
        figures["whole"].append(entry)
        report(f"whole extraction, {name}: {some} images in {took:.1f} s with start and end; {_spoken(said)}")
        keep(figures)
    best = min((f["ms"] for f in figures["forward"]), default=0.0)
    done = [f"{e['name']} {e['ms']:.1f}" for e in figures["whole"] if "ms" in e]
    figures["headline"] = f"forward from {best:.2f} ms; whole command, ms an image: {', '.join(done)}"
    figures["wrong"] = [e["name"] for e in figures["whole"] if "error" in e]
    return figures


def _spoken(said: str) -> dict[str, Any]:
    """The rate that the command itself reports for its forward."""
    rates = re.findall(r"([\d.]+) images/s", said)
    return {"images_per_s": float(rates[-1])} if rates else {}


def evaluation(images: int, report: Report, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Scoring 2048x1024 without the forward, as a map and by the kernel; then the command ``evaluate`` on images that
    it reads from PNGs, scored at their own size.
    """
    cuda = torch.cuda.is_available()
    native = (2048, 1024) if cuda else (256, 128)
    device = torch.device("cuda" if cuda else "cpu")
    logits = extract.street_like_logits(0).to(device)
    label = torch.randint(0, NUM_CLASSES, native[::-1], dtype=torch.uint8).to(device)
    figures: dict[str, Any] = {"images": images}
    for name, count in {"as a map": counting.plain, **({"kernel": counting.fused} if cuda else {})}.items():
        took = ceilings.seconds(lambda: count(logits, label, NUM_CLASSES), device, 20 if cuda else 2)  # noqa: B023
        figures[name] = 1e3 * took
        report(f"scoring {native[0]}x{native[1]} without the forward, {name}: {figures[name]:.2f} ms an image")
    keep(figures)
    config = default_config(_words(cuda))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_images(folder, images, native)
        _checkpoint(config, folder / "weights.pt")
        words = ["--out", str(folder / "metrics.json"), *_words(cuda), "eval.split=train"]
        took, _ = _command("evaluate", folder, [*words, "data.workers=8" if cuda else "data.workers=0"])
    headline = f"evaluate: {images} images in {took:.1f} s with start and end, {1e3 * took / images:.1f} ms an image"
    report(headline)
    return {**figures, "seconds": took, "headline": headline}
