"""The check of a GPU as a program: parts are limited, told apart and summed up whatever becomes of them."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
import torch

from esl_dist.benchmarks import extract_device, gpu_check, gpu_parts, variants
from esl_dist.config.load import load_config
from esl_dist.distributed.runtime import Runtime
from esl_dist.entries import bench
from esl_dist.metrics.inference import Predictor


def part(code: str, limit_s: int = 60, tiny: bool = True) -> gpu_check.Part:
    """A part that is a line of Python."""
    return gpu_check.Part("a part", limit_s, "timeit", ("-n1", "-r1", code), ("-n1", "-r1", code) if tiny else None)


def run(made: gpu_check.Part, out: Path, seconds: float = 60.0, cuda: bool = True) -> dict[str, object]:
    return gpu_check.run_part(made, out, time.monotonic() + seconds, cuda)


def test_a_part_is_well_or_failed_and_its_figures_are_kept(tmp_path: Path) -> None:
    write = "import os, json; open(os.environ['ESL_GPU_CHECK'], 'w').write(json.dumps({'headline': 'seen'}))"
    found = run(part(write), tmp_path)
    assert found["outcome"] == "well" and found["figures"] == {"headline": "seen"}
    assert "seen" in gpu_check.summary("a part", found)
    assert run(part("raise SystemExit(3)"), tmp_path)["outcome"] == "failed"


def test_a_part_that_takes_too_long_is_stopped_and_one_without_time_is_not_begun(tmp_path: Path) -> None:
    began = time.monotonic()
    assert run(part("import time; time.sleep(60)", limit_s=1), tmp_path)["outcome"] == "stopped"
    assert time.monotonic() - began < 20
    assert run(part("pass"), tmp_path, seconds=5.0) == {"outcome": "skipped", "why": "no time is left", "seconds": 0.0}


def test_a_part_leaves_its_share_of_the_time_to_those_that_follow(tmp_path: Path) -> None:
    told = "import os, json; left = os.environ['ESL_GPU_CHECK_SECONDS']; "
    told += "open(os.environ['ESL_GPU_CHECK'], 'w').write(json.dumps({'headline': left}))"
    for later, seconds, cuda, expected in ((140, 100.0, True, 30), (0, 100.0, True, 60), (20, 800.0, False, 600)):
        found = gpu_check.run_part(part(told), tmp_path, time.monotonic() + seconds, cuda, later)
        assert abs(int(found["figures"]["headline"]) - expected) <= 1
    found = gpu_check.run_part(part(told)._replace(whole=True), tmp_path, time.monotonic() + 100.0, True, 140)
    assert found["figures"]["headline"] == "60"


def test_without_a_gpu_a_part_says_what_it_skips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(part("pass", tiny=False), tmp_path, cuda=False)["why"] == "needs a GPU"
    assert "skipped, needs a GPU" in capsys.readouterr().out


def test_missing_modules_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    assert gpu_check.missing_modules() == ["h5py"] and gpu_check.main(["machine"]) == 2
    assert "cannot import h5py" in capsys.readouterr().err


def test_every_part_fits_the_deadline_and_knows_its_variants(tmp_path: Path) -> None:
    named = {variant.name for variant in variants.VARIANTS}
    for made in gpu_check.PARTS:
        words = list(made.arguments)
        wanted = words[words.index("--variants") + 1].split(",") if "--variants" in words else []
        assert {name for name in wanted if name} <= named
    assert json.dumps([made.name for made in gpu_check.PARTS]).count("step") == 6


def test_kernels_of_two_streams_are_counted_once() -> None:
    assert variants._union([(0.0, 4.0), (2.0, 5.0), (7.0, 8.0), (7.5, 7.6)]) == 6.0


PASSES, FAILS, SKIPS = (
    f"import pytest\n{line}\n"
    for line in (
        "def test_a(): pass",
        "def test_b(): assert False",
        "@pytest.mark.skip(reason='no GPU')\ndef test_c(): pass",
    )
)
LONG = "import time\ndef test_long(): time.sleep(60)\n"


@pytest.mark.parametrize(
    ("files", "seconds", "headline", "wrong"),
    [
        ((PASSES, SKIPS), 60.0, "1 passed, 1 skipped", False),
        ((PASSES, FAILS), 60.0, "1 passed, 1 failed", True),
        ((PASSES, LONG), 4.0, "1 passed; cut after 4 s", False),
        pytest.param((FAILS, LONG), 4.0, "1 failed; cut after 4 s", True, marks=pytest.mark.slow),
        ((), 60.0, "nothing", False),
    ],
)
def test_tests_that_are_cut_tell_of_those_before(
    files: tuple[str, ...], seconds: float, headline: str, wrong: bool, tmp_path: Path
) -> None:
    for number, text in enumerate(files):
        (tmp_path / f"test_{number}.py").write_text(text)
    how = ("-v", "--tb=short", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tmp_path))
    found = gpu_parts.counted_tests([sys.executable, "-m", "pytest", *how, str(tmp_path)], seconds)
    assert (found["headline"], found["wrong"]) == (headline, wrong)


@pytest.mark.parametrize("cuda", [False, True])
def test_the_weights_that_extraction_and_evaluation_make_are_ones_that_they_read(cuda: bool, tmp_path: Path) -> None:
    """With the options of the commands that follow; a network of the size for a GPU too, made small."""
    small = ["model.deeplabv2.layers=[1,1,1,1]", "model.deeplabv2.width=8"] if cuda else []
    words = [*extract_device._own(tmp_path), *extract_device._words(cuda), *small, "run.device=cpu"]
    config = load_config(extract_device.EXPERIMENT, words)
    extract_device._checkpoint(config, tmp_path / "weights.pt")
    with Runtime.start(config.run, tmp_path) as runtime:
        predictor = Predictor.from_checkpoint(config, tmp_path / "weights.pt", runtime)
        assert predictor(torch.zeros(1, 3, 32, 64, dtype=torch.uint8)).shape[:2] == (1, 19)


def test_an_unknown_variant_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(ValueError, match="--variants: no variant is called 'nope'"):
        bench.main(["--what", "step", "--variants", "eager", "nope"])
    with pytest.raises(ValueError, match="--stage mic: there is no plain loop"):
        bench.main(["--what", "step", "--stage", "mic"])
