"""The disks that a run writes to: room, speed, and whether they keep what they promise."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from esl_dist.config.load import run_dir
from esl_dist.config.schema import Config
from esl_dist.diagnostics.check import Check
from esl_dist.distributed.runtime import Runtime
from esl_dist.labels import protocol
from esl_dist.models import Segmenter, sketch_segmenter

MIB, GIB = 2**20, 2**30
WRITE_MIB = 64
SLOW_MIBS = 50
SPOOL_HW, SPOOL_IMAGES = (512, 1024), 4


def network_bytes(config: Config) -> int:
    """Bytes of the segmenter's trainable weights in float32: what a step sends."""
    return sum(p.numel() * 4 for p in _meta_network(config).parameters() if p.requires_grad)


def disk(config: Config, runtime: Runtime) -> list[Check]:
    """Write speed (to the disk, not to its cache), locks, renames and free space of the run folder (asked once per
    machine).
    """
    if runtime.local_rank != 0:
        return []
    folder = existing(run_dir(config))
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as aside:
            rate = _write_rate(Path(aside))
            locks = _locks(Path(aside))
            os.replace(Path(aside) / "written", Path(aside) / "renamed")
    except OSError as error:
        return [
            Check(
                "disk",
                "broken",
                f"{folder}: {error.strerror or error}",
                "runs cannot be written here: free space, or set run.dir to a folder that you may write to",
            )
        ]
    free, need = shutil.disk_usage(folder).free, _checkpoint_bytes(config)
    text = (
        f"{folder.resolve()}: {rate:.0f} MiB/s, {free / GIB:.1f} GiB free, checkpoints of this run take about"
        f" {need / GIB:.1f} GiB"
    )
    if free < need:
        return [
            Check(
                "disk",
                "broken" if free < need / 4 else "warning",
                text,
                "free space, set run.dir to a larger disk, or keep fewer with checkpoint.keep",
            )
        ]
    if not locks:
        return [
            Check(
                "disk",
                "warning",
                f"{text}; files cannot be locked",
                "nothing will stop a second start in the same run folder: mount with locks, or take care",
            )
        ]
    if rate < SLOW_MIBS:
        return [
            Check(
                "disk", "warning", text, "slow: put run.dir on a faster disk, or save less often with checkpoint.every"
            )
        ]
    return [Check("disk", "ok", text)]


def spool(config: Config, runtime: Runtime) -> list[Check]:
    """HDF5 files as extraction writes them: written by every rank, closed, opened again, read back."""
    folder = existing(Path(config.extract.spool_dir) if config.extract.spool_dir else run_dir(config))
    scores = np.random.default_rng(runtime.rank).random((SPOOL_IMAGES, *SPOOL_HW), dtype=np.float32)
    began = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(prefix=f".doctor-rank{runtime.rank}-", dir=folder) as aside:
            path = Path(aside) / "rank.h5"
            with h5py.File(path, "w") as file:
                for index, score in enumerate(scores):
                    file.create_dataset(str(index), data=score, chunks=score.shape)
            with open(path, "rb") as written:
                os.fsync(written.fileno())
            seconds = time.perf_counter() - began
            with h5py.File(path, "r") as file:
                same = all(np.array_equal(file[str(index)][()], score) for index, score in enumerate(scores))
    except OSError as error:
        advice = (
            "HDF5 cannot be used on this disk: set extract.spool_dir to a node-local folder, or"
            " HDF5_USE_FILE_LOCKING=FALSE if locks are what fails"
        )
        return [Check("spool", "broken", f"{folder}: {(str(error).splitlines() or [''])[0]}", advice)]
    if not same:
        return [
            Check(
                "spool",
                "broken",
                f"{folder}: HDF5 read back other values than were written",
                "do not use this disk: set extract.spool_dir to another",
            )
        ]
    return [
        Check(
            "spool",
            "ok",
            f"{folder.resolve()}: HDF5 written and read back, {scores.nbytes / MIB / seconds:.0f} MiB/s per rank",
        )
    ]


def existing(folder: Path) -> Path:
    """The folder, or its nearest parent that exists: the doctor makes none."""
    folder = folder.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return folder


def _write_rate(folder: Path) -> float:
    """MiB per second of one large file, forced to the disk."""
    block = os.urandom(MIB)
    began = time.perf_counter()
    with open(folder / "written", "wb") as file:
        for _ in range(WRITE_MIB):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return WRITE_MIB / (time.perf_counter() - began)


def _locks(folder: Path) -> bool:
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def _checkpoint_bytes(config: Config) -> int:
    """Weights and momentum of the segmenter, kept newest ones and one in the making, per stage."""
    weights = 4 * sum(int(t.numel()) for t in _meta_network(config).state_dict().values())
    return (weights + network_bytes(config)) * (config.checkpoint.keep + 1) * len(config.run.stages)


def _meta_network(config: Config) -> Segmenter:
    return sketch_segmenter(config.model, protocol(config.data.classes).num_classes)
