"""Each check of the doctor finds what it looks for: every one is made to fail here."""

import dataclasses
import errno
import socket
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from esl_dist.config.schema import CheckpointConfig, Config, DataConfig, OptimConfig, RunConfig, TrackingConfig
from esl_dist.diagnostics import check, group, machine, numerics, storage, tracker
from esl_dist.diagnostics.check import Check, guarded, merged
from esl_dist.distributed import collectives, ddp
from esl_dist.distributed.runtime import Runtime
from tests.monitor.test_monitor import Driver
from tests.ranks import run_ranks
from tests.tracking.mlflow_server import MlflowServer

Usage = namedtuple("Usage", "total used free")
RUNTIME = Runtime(0, 1, 0, 1, torch.device("cpu"), "fp32", 1, 1, True, 30)


def config(run_dir: Path | str = "", **sections: Any) -> Config:
    return Config(run=RunConfig(dir=str(run_dir), device="cpu"), **sections)


def one(checks: list[Check], name: str) -> Check:
    return next(c for c in checks if c.name == name)


def test_ranks_become_one_line() -> None:
    ok, bad = Check("disk", "ok", "fast"), Check("disk", "broken", "full", "free space")
    assert merged([[ok], [dataclasses.replace(ok, text="slower")]]) == [ok]
    assert merged([[ok], [bad], [bad], []]) == [Check("disk", "broken", "full (rank 1, 2)", "free space")]
    assert str(bad).splitlines() == ["broken   disk             full", " " * 26 + "-> free space"]


def test_a_check_that_fails_is_a_finding() -> None:
    def some_probe(config: Config, runtime: Runtime) -> list[Check]:
        raise RuntimeError("no such luck\nsecond line")

    assert guarded(some_probe, config(), RUNTIME)[0].text == "RuntimeError: no such luck"
    lines: list[str] = []
    assert not check.run([some_probe], config(), RUNTIME, lines.append)
    assert "1 broken" in lines[-1]
    assert check.run([lambda c, r: [Check("x", "warning", "meh")]], config(), RUNTIME, lines.append)


def test_apex_is_spoken_of_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = config(optim=OptimConfig(backend="apex"))
    assert machine.optimiser(config(), RUNTIME) == []
    assert machine.optimiser(asked, RUNTIME)[0].status == "broken"  # on the CPU, wherever this runs
    monkeypatch.setattr(machine.apex, "unusable", lambda device: "")
    assert machine.optimiser(asked, RUNTIME)[0].status == "ok"


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(machine.versions(config(), RUNTIME), "versions").status == "ok"
    have = {"torch": "2.9.1+cu128", "numpy": "2.10.0", "h5py": "3.12.0", "pillow": "11.3", "pyyaml": "6.0.4.dev1"}
    monkeypatch.setattr(machine, "_version", lambda name: have.get(name, ""))
    versions, extras = machine.versions(config(), RUNTIME)
    assert versions.status == "warning" and versions.text == "older than tested: torch 2.9.1+cu128 (needs 2.11)"
    assert "ray (tune)" in extras.text and extras.status == "ok"
    other = {
        "python": "3.13.0",
        "torch": "2.11.0",
        "numpy": "2.10.0",
        "h5py": "3.12.0",
        "pillow": "11.3",
        "pyyaml": "6.0.4.dev1",
    }
    monkeypatch.setattr(collectives, "gather_json", lambda mine: [mine, other])
    assert "differ in python, torch" in machine.versions(config(), RUNTIME)[0].text


def test_too_many_threads() -> None:
    busy = dataclasses.replace(RUNTIME, threads=10_000)
    assert machine.device(config(), busy)[0].status == "warning" and machine.device(config(), RUNTIME)[0].status == "ok"


def test_gpu_health(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    monkeypatch.setattr("esl_dist.monitor.gpu.importlib.import_module", lambda name: driver)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [c.status for c in machine.gpu_health(config(), RUNTIME)] == ["ok", "ok"]
    driver.reasons = 0x40
    assert [c.status for c in machine.gpu_health(config(), RUNTIME)] == ["warning", "warning"]
    driver.ecc = 1
    assert [c.status for c in machine.gpu_health(config(), RUNTIME)] == ["broken", "broken"]
    assert machine.gpu_health(config(), dataclasses.replace(RUNTIME, local_rank=1)) == []


def test_docker_default_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Usage(64 * 2**20, 0, 64 * 2**20))
    assert machine.shared_memory(config(), RUNTIME)[0].status == "warning"
    assert machine.shared_memory(config(data=DataConfig(workers=0)), RUNTIME)[0].status == "ok"


def test_a_sum_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    assert group.all_reduce_sum(config(), RUNTIME)[0].status == "ok"

    def flips_a_bit(tensor: torch.Tensor, op: str = "sum") -> torch.Tensor:
        if op == "sum":
            tensor[-1] ^= 1
        return tensor

    monkeypatch.setattr(collectives, "all_reduce_", flips_a_bit)
    found = group.all_reduce_sum(config(), RUNTIME)[0]
    assert found.status == "broken" and found.text == "wrong result: sum"


def test_a_forward_that_varies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert numerics.determinism(config(), RUNTIME)[0].status == "ok"
    real = numerics.confidence_map

    def noisy(logits: torch.Tensor, size: tuple[int, int]) -> Any:
        return real(logits + 1e-4 * torch.randn_like(logits), size)

    monkeypatch.setattr(numerics, "confidence_map", noisy)
    assert "3 results in 3 forwards" in numerics.determinism(config(), RUNTIME)[0].text


def on_ranks() -> dict[str, Any]:
    """On every rank: the checks of the group, well and with one fault after another; fault → (well, lines)."""
    rank, world = collectives.rank(), collectives.world()
    runtime = dataclasses.replace(RUNTIME, rank=rank, world=world, local_rank=rank, local_world=world)
    probes = (
        group.process_group,
        group.all_reduce_sum,
        group.bandwidth,
        numerics.determinism,
        numerics.gradient_parity,
    )
    network, wrap = numerics._network, ddp.wrap
    found: dict[str, Any] = {}

    def examine(fault: str) -> None:
        lines: list[str] = []
        found[fault] = [check.run(probes, config(), runtime, lines.append), lines]

    examine("none")
    ddp.wrap = lambda network, runtime: network  # type: ignore[assignment]
    examine("no reduction")
    ddp.wrap = wrap

    def other(runtime: Runtime) -> Any:
        made = network(runtime)
        torch.nn.init.normal_(next(made.parameters()))
        return made

    numerics._network = other if rank == 1 else network
    examine("other weights")
    numerics._network = network
    if rank == 1:  # gone, but for a group of its own that the harness takes down
        torch.distributed.destroy_process_group()
        torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
        return found
    examine("gone")
    return found


def test_ranks_together() -> None:
    found, on_the_other = run_ranks(2, "tests.diagnostics.test_checks:on_ranks")
    well, lines = found["none"]
    assert well and on_the_other["none"][0] and len(lines) == 6
    assert all(line.startswith(("ok", "warning  bandwidth", " ", "5 checks")) for line in lines), lines
    for fault, said in (
        ("no reduction", "broken   gradient parity"),
        ("other weights", "rank 1 computes other bits than rank 0"),
        ("gone", "the ranks lost each other"),
    ):
        well, lines = found[fault]
        assert not well and any(said in line for line in lines), (fault, lines)


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "runs" / "new"
    found = storage.disk(config(run), RUNTIME)[0]
    assert found.status in ("ok", "warning") and str(tmp_path) in found.text and list(tmp_path.iterdir()) == []
    assert storage.disk(config(run), dataclasses.replace(RUNTIME, local_rank=1)) == []

    monkeypatch.setattr(storage, "_write_rate", lambda folder: (folder / "written").touch() or 500.0)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: Usage(0, 0, 2**20))
    assert storage.disk(config(run, checkpoint=CheckpointConfig(keep=3)), RUNTIME)[0].status == "broken"
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: Usage(0, 0, 2**50))
    assert storage.disk(config(run), RUNTIME)[0].status == "ok"
    monkeypatch.setattr(storage, "_locks", lambda folder: False)
    assert "cannot be locked" in storage.disk(config(run), RUNTIME)[0].text

    def full(folder: Path) -> float:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "_write_rate", full)
    found = storage.disk(config(run), RUNTIME)[0]
    assert found.status == "broken" and "No space left" in found.text


def test_the_published_network_needs_room(tmp_path: Path) -> None:
    assert 40_000_000 < storage.network_bytes(config(tmp_path)) / 4 < 48_000_000  # ResNet-101 with two heads


def test_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert storage.spool(config(tmp_path), RUNTIME)[0].status == "ok" and list(tmp_path.iterdir()) == []
    monkeypatch.setattr(storage.np, "array_equal", lambda a, b: False)
    assert "other values" in storage.spool(config(tmp_path), RUNTIME)[0].text

    def refused(*arguments: Any, **named: Any) -> None:
        raise BlockingIOError(errno.EAGAIN, "unable to lock file")

    monkeypatch.setattr(storage.h5py, "File", refused)
    assert "HDF5_USE_FILE_LOCKING" in storage.spool(config(tmp_path), RUNTIME)[0].advice


@pytest.mark.parametrize(
    ("mode", "status"), [("ok", "ok"), ("500", "warning"), ("hang", "warning"), ("refused", "warning")]
)
def test_tracking_server(mode: str, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="the extra 'track' is not installed")
    if mode == "hang":
        monkeypatch.setattr(tracker, "TIMEOUT_S", 0.5)
    server = MlflowServer().start()
    try:
        server.mode = mode
        uri = server.uri
        if mode == "refused":
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                uri = f"http://127.0.0.1:{s.getsockname()[1]}"
        began = time.monotonic()
        found = tracker.tracking(config(tracking=TrackingConfig(uri=uri)), RUNTIME)[0]
        assert found.status == status and time.monotonic() - began < 10
    finally:
        server.stop()


def test_tracking_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracker.tracking(config(tracking=TrackingConfig(mlflow=False)), RUNTIME)[0].text.startswith(
        "metrics.jsonl only"
    )
    pytest.importorskip("mlflow", reason="the extra 'track' is not installed")
    assert tracker.tracking(config(tmp_path / "a" / "b"), RUNTIME)[0].status == "ok" and list(tmp_path.iterdir()) == []
    assert tracker.tracking(config(tracking=TrackingConfig(uri="mlruns")), RUNTIME)[0].status == "warning"
    monkeypatch.setattr(tracker.os, "access", lambda path, mode: False)
    assert tracker.tracking(config(tmp_path / "a"), RUNTIME)[0].status == "warning"


def test_parity_would_notice_an_unfrozen_norm() -> None:
    """The tiny network is in training mode but for its statistics, else the check would compare other functions."""
    network = numerics._network(RUNTIME)
    assert network.training and not any(m.training for m in network.modules() if isinstance(m, nn.BatchNorm2d))
