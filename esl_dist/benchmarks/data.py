"""Training samples per second from PNG files of GTA5's size and from the same images prepared, by the loader that
training uses.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from esl_dist.benchmarks import feeding
from esl_dist.config.schema import DataConfig, DomainConfig
from esl_dist.data import open_at_size, open_dataset, to_prepare
from esl_dist.data.dataset import Dataset
from esl_dist.data.loader import Order, TrainStream, View
from esl_dist.data.prepared import FileMaker, PreparedDataset, publish
from esl_dist.synthetic.streets.classes import palette
from esl_dist.synthetic.streets.domains import SOURCE
from esl_dist.synthetic.streets.scene import render

NATIVE = (1914, 1052)  # width, height of GTA5
SIZE = (1280, 720)  # at which ADVENT and ESL train on it
TARGET_SIZE = (1024, 512)
ROUNDS = 5


def run(
    images: int = 32,
    rounds: int = ROUNDS,
    native: tuple[int, int] = NATIVE,
    size: tuple[int, int] = SIZE,
    target_size: tuple[int, int] = TARGET_SIZE,
) -> dict[str, Any]:
    """Both ways in turn, ``rounds`` times, one sample a batch, read ahead by the loader's own thread: one process, one
    core.

    Each is measured with the files in the page cache and with the cache dropped. The pictures are street scenes drawn
    at full size.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw(root / "gta5", images, native)
        domain = DomainConfig(dataset="gta5", root="gta5", size=size)
        data = DataConfig(root=folder, source=domain, target=domain)
        began = time.perf_counter()
        wanted = to_prepare(domain, data)
        entry = FileMaker(wanted, images, {})(0).entry
        publish(wanted, images, [entry])
        seconds = time.perf_counter() - began
        os.sync()  # what is not on the disk yet cannot leave the page cache
        ways = {"png": open_dataset(domain, folder, data.classes), "prepared": open_at_size(domain, data)}
        assert isinstance(ways["prepared"], PreparedDataset)
        assert_same(ways["png"], ways["prepared"], size)
        other = dataclasses.replace(domain, size=target_size)
        target = to_prepare(other, data)
        publish(target, images, [FileMaker(target, images, {})(0).entry])
        sides = (
            feeding.Side(ways["prepared"], size, True),
            feeding.Side(open_at_size(other, data), target_size, False),
        )
        fed = feeding.run(sides, 4 * images, rounds)
        rates: dict[str, list[tuple[float, float]]] = {
            f"{way}{cache}": [] for cache in ("", " from disk") for way in ways
        }
        for _ in range(rounds):
            for name, measured in rates.items():
                if name.endswith("from disk"):
                    forget(root)
                measured.append(measure(ways[name.partition(" ")[0]], size, images))
        png_bytes = sum(path.stat().st_size for path in (root / "gta5").rglob("*.png"))
    results: dict[str, Any] = {
        "images": images,
        "native": list(native),
        "size": list(size),
        "rounds": rounds,
        "torch": torch.__version__,
        "cpus": os.cpu_count(),
    }
    results |= {
        "feeding": fed,
        "prepare_seconds": seconds,
        "prepare_ms_per_image": 1e3 * seconds / images,
        "png_bytes_per_image": png_bytes / images,
        "prepared_bytes_per_image": entry["bytes"] / images,
    }
    for name, measured in rates.items():
        results[name] = {
            "images_per_second": statistics.median(rate for rate, _ in measured),
            "cpu_ms": statistics.median(cpu for _, cpu in measured),
        }
    for cache in ("", " from disk"):
        pairs = zip(rates[f"png{cache}"], rates[f"prepared{cache}"], strict=True)
        results[f"ratio{cache}"] = statistics.median(after / before for (before, _), (after, _) in pairs)
    return results


def draw(root: Path, images: int, native: tuple[int, int]) -> None:
    """``images`` street scenes in GTA5's layout: RGB PNG, and palette PNG of label ids."""
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    for index in range(images):
        scene = render(SOURCE, 0, 0, index, native)
        label = Image.fromarray(scene.label)
        label.putpalette(palette().tobytes())
        Image.fromarray(scene.image).save(root / f"images/{index:05d}.png")
        label.save(root / f"labels/{index:05d}.png")


def stream(dataset: Dataset, size: tuple[int, int]) -> TrainStream:
    return TrainStream(dataset, View(size), Order(seed=0, batch=1))


def measure(dataset: Dataset, size: tuple[int, int], images: int) -> tuple[float, float]:
    """Images per second and milliseconds of CPU per image, over every image once, from the opening of the stream on."""
    began, cpu = time.perf_counter(), time.process_time()
    opened = stream(dataset, size)
    try:
        for _ in range(images):
            next(opened)
        return images / (time.perf_counter() - began), 1e3 * (time.process_time() - cpu) / images
    finally:
        opened.close()


def assert_same(one: Dataset, other: Dataset, size: tuple[int, int]) -> None:
    """What is compared gives the same bytes."""
    first, second = stream(one, size), stream(other, size)
    for a, b in zip(_some(first), _some(second), strict=True):
        assert (
            a.labels is not None
            and b.labels is not None
            and torch.equal(a.images, b.images)
            and torch.equal(a.labels, b.labels)
        )


def _some(opened: TrainStream) -> Iterator[Any]:
    try:
        yield from (next(opened) for _ in range(3))
    finally:
        opened.close()


def forget(root: Path) -> None:
    """Take the files out of the page cache."""
    for path in root.rglob("*.*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def table(results: dict[str, Any]) -> str:
    def row(title: str, name: str, ratio: float | None = None) -> str:
        return f"{title:<34}{results[name]['images_per_second']:>12.1f}{results[name]['cpu_ms']:>16.2f}" + (
            "" if ratio is None else f"{ratio:>9.1f}x"
        )

    width, height = results["native"]
    return "\n".join(
        [
            (
                f"one process, {results['images']} images {width}x{height} with labels, read at"
                f" {results['size'][0]}x{results['size'][1]}; median of {results['rounds']} rounds"
            ),
            f"{'':<34}{'images/s':>12}{'CPU ms/image':>16}{'faster':>10}",
            row("PNG, in the page cache", "png"),
            row("prepared, in the page cache", "prepared", results["ratio"]),
            row("PNG, from disk", "png from disk"),
            row("prepared, from disk", "prepared from disk", results["ratio from disk"]),
            (
                f"made in {results['prepare_seconds']:.1f} s ({results['prepare_ms_per_image']:.0f} ms an image) by one"
                f" process; {results['prepared_bytes_per_image'] / 1e6:.2f} MB an image, the PNGs have"
                f" {results['png_bytes_per_image'] / 1e6:.2f} MB"
            ),
            *feeding.lines(results["feeding"]),
        ]
    )
