"""A whole extraction on ranks of this machine, images and a tiny network included; and what it would be on a node,
computed.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from esl_dist.benchmarks.common import BATCH, NUM_CLASSES, make_labels
from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.distributed import collectives
from esl_dist.pseudo_labels.scores.keys import HIGH_BINS, LOW_BINS
from esl_dist.pseudo_labels.sets.forward import TargetImages, canary_image

SIZE = (1024, 512)  # width, height


def tiny_network() -> nn.Module:
    """Two convolutions to logits at output stride 8, confident enough to be selected by."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 7, 4, 3), nn.ReLU(), nn.Conv2d(16, NUM_CLASSES, 3, 2, 1))
    for parameter in network.parameters():
        parameter.requires_grad_(False).mul_(2)
    return network


def generated_images(number: int) -> TargetImages:
    """Images that differ by where a block pattern starts."""
    pattern = canary_image(SIZE)

    def batches(indices: Sequence[int]) -> Iterator[tuple[Sequence[int], torch.Tensor]]:
        for start in range(0, len(indices), BATCH):
            part = list(indices[start : start + BATCH])
            images = torch.zeros(BATCH, *pattern.shape, dtype=torch.uint8)
            for slot, index in enumerate(part):
                images[slot] = pattern.roll((37 * index, 101 * index), (1, 2))
            yield part, images

    return TargetImages([f"{i:06d}" for i in range(number)], batches, SIZE)


def on_a_rank(images: int, out: str) -> dict[str, Any]:
    """Extract ESL and SSL labels; seconds per phase, and the bytes that are on disk."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    network = tiny_network()

    def forward(batch: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = network(batch.float() / 64 - 2) * 4
        return logits

    lines: list[str] = []
    started = time.monotonic()
    folder = Path(out)
    rules = {"esl": PseudoLabelConfig(rule="esl"), "ssl": PseudoLabelConfig(rule="ssl")}
    made = make_labels(forward, generated_images(images), folder, rules, SIZE, report=lines.append)
    total = time.monotonic() - started
    thresholds = next(float(line.split()[1]) for line in lines if line.startswith("thresholds:"))
    files = next(float(line.split()[-2]) for line in lines if line.startswith("label files:"))
    result = {
        "inference_s": total - thresholds - files,
        "thresholds_s": thresholds,
        "label_files_s": files,
        "total_s": total,
        "coverage": {entry.rule: entry.thresholds["coverage"] for entry in made},
        "spool_bytes": sum(path.stat().st_size for path in (folder / "spool").rglob("*.h5")),
        "label_bytes": sum(path.stat().st_size for path in folder.rglob("*.png")),
    }
    collectives.barrier()
    torch.distributed.destroy_process_group()
    return result


def whole(images: int = 3000, ranks: int = 2) -> dict[str, Any]:
    """Run it on ``ranks`` processes (3,000 images take some minutes on 2 cores); rank 0's figures."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = (
            "import json; from esl_dist.benchmarks.extract_whole import on_a_rank;"
            f" print(json.dumps(on_a_rank({images}, {folder!r})))"
        )
        running = []
        for rank in range(ranks):
            place = {
                "RANK": rank,
                "LOCAL_RANK": rank,
                "WORLD_SIZE": ranks,
                "LOCAL_WORLD_SIZE": ranks,
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
                "OMP_NUM_THREADS": 1,
            }
            environment = {**os.environ, **{key: str(value) for key, value in place.items()}}
            running.append(
                subprocess.Popen(
                    [sys.executable, "-c", command],
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        done = [process.communicate() for process in running]
        failed = [error for process, (_, error) in zip(running, done, strict=True) if process.returncode]
        if failed:
            raise RuntimeError(f"extraction of {images} images on {ranks} ranks failed:\n{failed[0][-2000:]}")
        figures: dict[str, Any] = json.loads(done[0][0].splitlines()[-1])
    return {"images": images, "ranks": ranks, "size": list(SIZE), **figures}


def computed(images: int = 18_000, gpus: int = 8, forward_ms: float = 100.0, label_kb: float = 14.0) -> dict[str, Any]:
    """The arithmetic for a node, not a measurement: ``forward_ms`` per image and GPU and ``label_kb`` per PNG are
    assumptions.
    """
    logits = NUM_CLASSES * 65 * 129 * 4
    high, low = NUM_CLASSES * HIGH_BINS * 8, NUM_CLASSES * LOW_BINS * 8
    return {
        "images": images,
        "gpus": gpus,
        "spooled_gb_logits": images * logits / 1e9,
        "spooled_gb_scores": images * (SIZE[0] * SIZE[1] * 4 + 60_000) / 1e9,
        "all_reduced_mb_per_confidence": (high + low) / 1e6,
        "written_gb_per_label_set": images * label_kb / 1e6,
        "hours_of_forward": images * forward_ms / 1000 / gpus / 3600,
        "assumed": {"forward_ms": forward_ms, "label_kb": label_kb},
    }


def table(results: dict[str, Any], arithmetic: dict[str, Any]) -> str:
    """Both as text."""
    per = 1000 / results["images"]
    phases = "\n".join(
        f"  {name:<12}{results[key]:>9.1f} s{per * results[key]:>10.1f} ms/image"
        for name, key in (
            ("inference", "inference_s"),
            ("thresholds", "thresholds_s"),
            ("label files", "label_files_s"),
            ("total", "total_s"),
        )
    )
    return (
        f"{results['images']} generated images {SIZE[0]}x{SIZE[1]}, tiny network, {results['ranks']} ranks, ESL and SSL"
        f" labels:\n{phases}\n  spool {results['spool_bytes'] / 1e9:.2f} GB, PNGs {results['label_bytes'] / 1e6:.1f}"
        f" MB\ncomputed for {arithmetic['images']} images on {arithmetic['gpus']} GPUs:"
        f" {arithmetic['spooled_gb_logits']:.1f} GB of logits or {arithmetic['spooled_gb_scores']:.0f} GB of scores"
        f" spooled, {arithmetic['all_reduced_mb_per_confidence']:.1f} MB all-reduced per confidence,"
        f" {arithmetic['written_gb_per_label_set']:.2f} GB of PNGs per set, {arithmetic['hours_of_forward']:.2f} h at"
        f" {arithmetic['assumed']['forward_ms']:.0f} ms a forward"
    )
