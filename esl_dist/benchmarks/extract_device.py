"""Extraction and evaluation on this device: the forward alone by precision and batch, then the whole command,
reading and PNGs included.
"""

from __future__ import annotations

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

from esl_dist.benchmarks import ceilings
from esl_dist.benchmarks.common import RECORDS
from esl_dist.benchmarks.step import default_config
from esl_dist.config.schema import Config
from esl_dist.distributed.arithmetic import set_arithmetic
from esl_dist.distributed.runtime import Runtime
from esl_dist.labels import protocol
from esl_dist.metrics.inference import Predictor
from esl_dist.models import build_segmenter

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


def _command(module: str, folder: Path, words: Sequence[str]) -> tuple[float, str]:
    command = [sys.executable, "-m", f"esl_dist.{module}", "--config", "configs/gta5_cityscapes/advent.yaml"]
    own = ["protocol=ours", "model.checkpoint=''", f"data.root={folder}", "data.target.root=cityscapes"]
    began = time.monotonic()
    done = subprocess.run(
        [*command, "--checkpoint", str(folder / "weights.pt"), *own, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.monotonic() - began
    if done.returncode:
        raise RuntimeError(f"{module} failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}")
    return took, done.stdout + done.stderr


def run(images: int, report: Report, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Forward alone, then whole extractions in the device's own choice and in fp32 (a quarter of the images)."""
    cuda = torch.cuda.is_available()
    figures: dict[str, Any] = {"forward": forwards(report), "whole": []}
    keep(figures)
    config = default_config(_words(cuda))
    size = (1024, 512) if cuda else (256, 128)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_images(folder, images, size)
        _checkpoint(config, folder / "weights.pt")
        choices = (("bf16", ("extract.precision=bf16", "extract.batch=1")), ("fp32", ("extract.precision=fp32",)))
        for name, words in choices:
            out = folder / f"labels-{name}"
            try:
                took, said = _command("extract", folder, ["--out", str(out), *_words(cuda), *words, "data.workers=8"])
            except RuntimeError as error:
                report(str(error))
                figures["whole"].append({"name": name, "error": str(error)})
                continue
            entry = {"name": name, "images": images, "seconds": took, "ms": 1e3 * took / images, **_spoken(said)}
            figures["whole"].append(entry)
            report(f"extract.precision={name}: {images} images in {took:.1f} s with start and end; {_spoken(said)}")
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


def evaluation(images: int, report: Report) -> dict[str, Any]:
    """The command ``evaluate`` on images of 2048x1024 that it reads from PNGs, scored at their own size."""
    cuda = torch.cuda.is_available()
    config = default_config(_words(cuda))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_images(folder, images, (2048, 1024) if cuda else (256, 128))
        _checkpoint(config, folder / "weights.pt")
        words = ["--out", str(folder / "metrics.json"), *_words(cuda), "eval.split=train", "data.workers=8"]
        took, _ = _command("evaluate", folder, words)
    headline = f"evaluate: {images} images in {took:.1f} s with start and end, {1e3 * took / images:.1f} ms an image"
    report(headline)
    return {"images": images, "seconds": took, "headline": headline}
