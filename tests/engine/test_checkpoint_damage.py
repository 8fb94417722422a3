"""Every kind of damage: never loaded, named with its reason, the newest valid checkpoint used instead."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from esl_dist.engine import checkpoint
from esl_dist.runs import manifest
from tests.engine import sample

OLD, NEW = "step_00000010", "step_00000020"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints; the newer has a tensor file of more than 4 KiB."""
    folder = tmp_path_factory.mktemp("pristine")
    for step in (10, 20):
        checkpoint.save(
            folder, step, {**sample.state(), "large": {"w": torch.arange(5000.0) + step}}, sample.META, keep=2
        )
    return folder


def damaged(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "checkpoints"))


def assert_refused(folder: Path, *mentions: str) -> None:
    """The newer one is refused by name and reason, cannot be loaded, and the older one is taken, whole."""
    found, rejected = checkpoint.newest_valid(folder)
    assert found == folder / OLD
    assert len(rejected) == 1 and str(folder / NEW) in rejected[0]
    for mention in mentions:
        assert mention in rejected[0], rejected[0]
    with pytest.raises(ValueError, match=NEW):
        checkpoint.load(folder / NEW)
    state, meta = checkpoint.load(found)
    assert meta["step"] == 10 and sample.equal(state["segmenter"], sample.state()["segmenter"])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("name", ["large.pt", "manifest.json"])
def test_truncated(pristine: Path, tmp_path: Path, name: str, share: float) -> None:
    """At five points: nothing left, a tenth, half, nine tenths, all but the last byte."""
    folder = damaged(pristine, tmp_path)
    path = folder / NEW / name
    data = path.read_bytes()
    path.write_bytes(data[: min(int(share * len(data)), len(data) - 1)])
    assert_refused(folder, name)


@pytest.mark.parametrize("seed", range(20))
def test_one_bit_flipped(pristine: Path, tmp_path: Path, seed: int) -> None:
    """In twenty seeded places over all files, the manifest among them."""
    folder = damaged(pristine, tmp_path)
    draw = random.Random(seed)
    path = draw.choice(sorted((folder / NEW).iterdir()))
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    assert_refused(folder, path.name)


def test_every_single_bit_of_the_manifest_counts(pristine: Path, tmp_path: Path) -> None:
    folder = damaged(pristine, tmp_path)
    path = folder / NEW / "manifest.json"
    data = path.read_bytes()
    draw = random.Random(0)
    for position in draw.sample(range(8 * len(data)), 400):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        assert checkpoint.verify(folder / NEW), f"bit {position} went unnoticed"


def test_four_kilobytes_zeroed(pristine: Path, tmp_path: Path) -> None:
    folder = damaged(pristine, tmp_path)
    path = folder / NEW / "large.pt"
    data = bytearray(path.read_bytes())
    data[8192:12288] = bytes(4096)
    path.write_bytes(data)
    assert_refused(folder, "large.pt", "SHA-256")


@pytest.mark.parametrize("name", ["segmenter.pt", "optim.pt", "manifest.json"])
def test_a_file_is_missing(pristine: Path, tmp_path: Path, name: str) -> None:
    folder = damaged(pristine, tmp_path)
    (folder / NEW / name).unlink()
    assert_refused(folder, name, "No such file")


def edit_step(content: dict) -> None:
    content["step"] = 21


def edit_meta(content: dict) -> None:
    content["meta"]["elapsed"] = 0


def edit_file_away(content: dict) -> None:
    del content["files"]["optim.pt"]


def edit_schema(content: dict) -> None:
    content["schema_version"] = "1"


def edit_to_outside(content: dict) -> None:
    content["files"]["../../secret.pt"] = content["files"]["optim.pt"]


@pytest.mark.parametrize("edit", [edit_step, edit_meta, edit_file_away, edit_schema, edit_to_outside])
def test_the_manifest_was_edited(pristine: Path, tmp_path: Path, edit: Callable[[dict], None]) -> None:
    folder = damaged(pristine, tmp_path)
    path = folder / NEW / "manifest.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_bytes(manifest._bytes(content))
    assert_refused(folder, "manifest.json")


def test_a_manifest_whose_digest_was_edited_too_still_cannot_name_a_file_outside(
    pristine: Path, tmp_path: Path
) -> None:
    folder = damaged(pristine, tmp_path)
    files = json.loads((folder / NEW / "manifest.json").read_text())["files"]
    files["../step_00000010/optim.pt"] = files["optim.pt"]
    (folder / NEW / "manifest.json").write_bytes(manifest.encode(20, files, {}))
    assert_refused(folder, "outside")


@pytest.mark.parametrize(
    "content", [b"[]", b"null", b"7", b'{"schema_version": 1}', b'{"schema_version": 1, "sha256": null, "files": 3}']
)
def test_a_manifest_that_is_other_json(pristine: Path, tmp_path: Path, content: bytes) -> None:
    folder = damaged(pristine, tmp_path)
    (folder / NEW / "manifest.json").write_bytes(content)
    assert_refused(folder, "manifest.json")


def test_a_folder_renamed_to_another_step(pristine: Path, tmp_path: Path) -> None:
    """An old state under a new name would be trained as if it were the new one."""
    folder = damaged(pristine, tmp_path)
    shutil.rmtree(folder / NEW)
    shutil.copytree(folder / OLD, folder / NEW)
    assert_refused(folder, "holds step 10")


def test_folders_left_aside_are_no_checkpoints_and_are_swept(pristine: Path, tmp_path: Path) -> None:
    folder = damaged(pristine, tmp_path)
    shutil.copytree(folder / NEW, folder / ".step_00000030.tmp-1234")
    shutil.copytree(folder / NEW, folder / ".step_00000005.old-1234")
    assert checkpoint.newest_valid(folder) == (folder / NEW, [])
    assert checkpoint.resume(folder) == (folder / NEW, [])
    assert sorted(path.name for path in folder.iterdir()) == [OLD, NEW]


def test_all_are_damaged(pristine: Path, tmp_path: Path) -> None:
    folder = damaged(pristine, tmp_path)
    for name in (OLD, NEW):
        (folder / name / "optim.pt").unlink()
    found, rejected = checkpoint.newest_valid(folder)
    assert found is None
    assert [name in reason for name, reason in zip((NEW, OLD), rejected, strict=True)] == [True, True]


def test_no_folder_at_all(tmp_path: Path) -> None:
    assert checkpoint.newest_valid(tmp_path / "never") == (None, [])
    assert checkpoint.resume(tmp_path / "never") == (None, [])
