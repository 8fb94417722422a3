"""What a user gets wrong: each mistake ends in one line that names the file or key, and nothing
half-written is left.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from esl_dist.config.schema import StreetsConfig
from esl_dist.entries import extract, train
from esl_dist.models import DeepLabV2
from esl_dist.synthetic.streets import ensure_pair

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pair")
    ensure_pair(
        root,
        StreetsConfig(size=(128, 64), source_train=6, target_train=4, target_val=1, target_test=2),
        lambda line: None,
    )
    return root


@pytest.fixture
def data(pair: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(pair, tmp_path / "data"))


def message(data: Path, *words: str) -> str:
    """The line that the trainer ends with."""
    options = [
        "run.stages=[source]",
        "source.steps=6",
        "data.streets.make=false",
        "tracking.mlflow=false",
        f"data.root={data}",
        f"run.dir={data}/run",
    ]
    with pytest.raises(ValueError) as caught:
        train.main(["--config", str(ROOT / "configs/smoke.yaml"), *options, *words])
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_missing_folder(data: Path) -> None:
    text = message(data, "data.source.root=gta6")
    assert f"{data}/gta6" in text
    assert not list((data / "run").glob("*/checkpoints"))


def test_a_list_that_names_a_missing_file(data: Path) -> None:
    (data / "gta5" / "mine.txt").write_text("00001\n00099\n")
    text = message(data, "data.source.list=mine.txt")
    assert "00099" in text and "mine.txt" in text


def test_a_list_that_leaves_its_folder(data: Path) -> None:
    (data / "gta5" / "mine.txt").write_text("../../secret\n")
    assert "mine.txt" in message(data, "data.source.list=mine.txt")


def test_label_ids_outside_the_encoding_stop_the_run(data: Path) -> None:
    for file in sorted((data / "gta5/labels").glob("*.png"))[2:3]:
        Image.fromarray(np.full((64, 128), 77, np.uint8)).save(file)
        spoilt = file.name
    text = message(data)
    assert spoilt in text and "77" in text


@pytest.mark.parametrize("fault", ["size", "truncated"])
def test_a_broken_sample_is_replaced_named_and_counted_up_to_the_bound(
    data: Path, fault: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file = data / "gta5/labels/00002.png" if fault == "size" else data / "gta5/images/00002.png"
    if fault == "size":
        Image.fromarray(np.zeros((32, 128), np.uint8)).save(file)
    else:
        file.write_bytes(file.read_bytes()[:-500])
    words = [
        "--config",
        str(ROOT / "configs/smoke.yaml"),
        "run.stages=[source]",
        "data.streets.make=false",
        "tracking.mlflow=false",
        f"data.root={data}",
    ]
    assert train.main([*words, f"run.dir={data}/good", "source.steps=7", "eval.split=''"]) == 0
    assert "00002.png" in capfd.readouterr().err
    assert '"event": "warning"' in (data / "good/metrics.jsonl").read_text().replace('"event":"', '"event": "')
    with pytest.raises(ValueError, match=r"data\.bad_samples allows 0"):
        train.main([*words, f"run.dir={data}/strict", "source.steps=7", "eval.split=''", "data.bad_samples=0"])


def test_a_first_try_without_a_step_does_not_bind_the_next(data: Path) -> None:
    assert "absent.pth" in message(data, f"model.checkpoint={data}/absent.pth")
    words = ["run.stages=[source]", "source.steps=1", "data.streets.make=false", "tracking.mlflow=false"]
    mended = ["eval.split=''", f"data.root={data}", f"run.dir={data}/run"]
    assert train.main(["--config", str(ROOT / "configs/smoke.yaml"), *words, *mended]) == 0
    assert (data / "run/source/done.json").is_file()


def test_a_checkpoint_of_another_architecture(data: Path) -> None:
    other = data / "other.pt"
    torch.save(DeepLabV2(7, layers=(1, 1, 1, 1), width=8).state_dict(), other)
    with pytest.raises(ValueError, match=r"other\.pt"):
        words = [
            "--config",
            str(ROOT / "configs/smoke.yaml"),
            "data.streets.make=false",
            f"data.root={data}",
            "--checkpoint",
            str(other),
            "--out",
            str(data / "out"),
        ]
        extract.main(words)
    assert not (data / "out").exists()


def test_on_two_ranks_the_line_is_printed_once(data: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "-m",
        "esl_dist.train",
        "--config",
        "configs/smoke.yaml",
    ]
    words = [
        "data.streets.make=false",
        f"data.root={data}",
        "data.source.root=gta6",
        f"run.dir={data}/run",
        "tracking.mlflow=false",
    ]
    ended = subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode != 0
    assert ended.stderr.count("esl_dist: error") == 1
    assert "Traceback" not in ended.stderr.split("esl_dist: error")[0]
