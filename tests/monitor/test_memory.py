"""Memory that runs out in a step: one line with the options to change, on the rank that it happened to, and the history
on CUDA.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from esl_dist.config.load import load_config
from esl_dist.engine.update import Updater
from esl_dist.entries import train
from esl_dist.errors import RunFailure
from esl_dist.monitor import memory

ROOT = Path(__file__).resolve().parents[2]
CUDA = torch.cuda.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 139.81 GiB of which 3.50 MiB is"
    " free.\nmore"
)


def words(folder: Path, *more: str) -> list[str]:
    options = [
        "run.stages=[source]",
        "source.steps=2",
        "run.threads=1",
        "eval.split=''",
        "tracking.mlflow=false",
        "data.streets.source_train=2",
        "data.streets.target_train=2",
    ]
    return [
        "--config",
        str(ROOT / "configs/smoke.yaml"),
        *options,
        f"data.root={folder}/data",
        f"run.dir={folder}/run",
        *more,
    ]


@pytest.mark.parametrize(
    ("error", "more", "expected"),
    [
        (
            CUDA,
            ["optim.batch=2"],
            (
                "source: training: out of memory at a request for 20.00 MiB; lower optim.batch and raise"
                " optim.accumulate by as much (the global batch stays), or make data.source.size"
            ),
        ),
        (
            CUDA,
            [],
            (
                "source: training: out of memory at a request for 20.00 MiB; make data.source.size and data.target.size"
                " smaller, or set run.precision=bf16; profile.memory=true"
            ),
        ),
        (
            RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            [],
            "source: training: out of memory; make data.source.size",
        ),
        (MemoryError(), [], "source: training: out of memory; make data.source.size"),
    ],
)
def test_a_step_that_does_not_fit_names_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, more: list[str], expected: str
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Updater, "step", fail)
    with pytest.raises(RunFailure) as caught:
        train.main(words(tmp_path, *more))
    assert str(caught.value).startswith(expected) and "\n" not in str(caught.value)
    assert not caught.value.every_rank, "the rank that it happened to prints it, whichever that is"


def test_other_errors_pass_untouched(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), memory.explained("x", "y"):
        torch.ones(2, 3) @ torch.ones(2, 3)
    failure = RunFailure("a step ran out of memory, as somebody said before")
    with pytest.raises(RunFailure) as caught, memory.explained("x", "y"):
        raise failure
    assert caught.value is failure


def test_what_the_cpu_says_is_recognised() -> None:
    with (
        pytest.raises(RunFailure, match=r"^x: out of memory at a request for \d+ bytes; y$"),
        memory.explained("x", "y"),
    ):
        torch.empty(2**55, dtype=torch.uint8)


def test_bf16_is_not_advised_to_who_has_it() -> None:
    assert "bf16" in memory.training_advice(load_config("smoke.yaml"), "tf32")
    assert "bf16" not in memory.training_advice(load_config("smoke.yaml"), "bf16")


def test_the_history_is_kept_written_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", lambda enabled="all", **_: calls.append(enabled))
    monkeypatch.setattr(
        torch.cuda.memory, "_dump_snapshot", lambda path: (calls.append("dump"), Path(path).write_bytes(b"history"))
    )
    config = load_config("smoke.yaml", ["profile.memory=true"])
    path = memory.snapshot_path(config, torch.device("cuda", 1), tmp_path, "align", 3)
    assert path is not None
    with pytest.raises(RunFailure, match=r"align_rank3_memory\.pickle"), memory.explained("align", "less", path):
        raise CUDA
    assert calls == ["all", "dump", None] and path.read_bytes() == b"history"
    with memory.explained("align", "less", path):
        pass
    assert calls[3:] == ["all", None]


def test_no_history_without_cuda_or_unasked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert (
        memory.snapshot_path(load_config("smoke.yaml"), torch.device("cuda"), tmp_path, "align", 0) is None
        and not caplog.messages
    )
    asked = load_config("smoke.yaml", ["profile.memory=true"])
    assert (
        memory.snapshot_path(asked, torch.device("cpu"), tmp_path, "align", 0) is None
        and "there is none on cpu" in caplog.text
    )


def test_a_history_that_cannot_be_written_does_not_hide_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", lambda **_: None)
    (tmp_path / "profile").touch()
    with (
        pytest.raises(RunFailure, match=r"less \(the memory history could not be written: "),
        memory.explained("align", "less", tmp_path / "profile" / "x.pickle"),
    ):
        raise CUDA
