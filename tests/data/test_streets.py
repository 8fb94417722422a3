"""The embedded pair: the same pixels everywhere, every class in every split, and folders that survive interruption and
damage.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esl_dist.config.schema import StreetsConfig
from esl_dist.entries.streets import main
from esl_dist.synthetic.streets import ensure_pair, write
from esl_dist.synthetic.streets.classes import CLASSES, SKY, palette
from esl_dist.synthetic.streets.domains import SOURCE, TARGET
from esl_dist.synthetic.streets.scene import render
from esl_dist.synthetic.streets.write import JOURNAL, MANIFEST, pixel_hash

SMALL = StreetsConfig(seed=3, size=(64, 32), source_train=3, target_train=2, target_val=1, target_test=2)
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "streets.json").read_text())


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def quiet(_: str) -> None:
    pass


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    ensure_pair(tmp_path / "pair", SMALL, quiet)
    return tmp_path / "pair"


@pytest.mark.parametrize("key", sorted(GOLDEN))
def test_pixels_are_the_committed_ones(key: str) -> None:
    domain, seed, split, index, width, height = key.split("-")
    scene = render(
        {"source": SOURCE, "target": TARGET}[domain], int(seed), int(split), int(index), (int(width), int(height))
    )
    assert pixel_hash(scene) == GOLDEN[key]


def test_scene_depends_on_every_argument() -> None:
    variants = [
        render(domain, seed, split, index, (64, 32))
        for domain in (SOURCE, TARGET)
        for seed in (0, 1)
        for split in (0, 1)
        for index in (0, 1)
    ]
    assert len({pixel_hash(scene) for scene in variants}) == 16


def test_layout_does_not_depend_on_the_size() -> None:
    small, large = render(SOURCE, 0, 0, 1, (128, 64)).label, render(SOURCE, 0, 0, 1, (512, 256)).label
    assert (small == large[1::4, 1::4]).mean() > 0.9


@pytest.mark.parametrize(
    ("domain", "split", "count"), [(SOURCE, 0, 60), (TARGET, 0, 60), (TARGET, 1, 60), (TARGET, 2, 60)]
)
def test_every_class_in_every_split(domain: write.Domain, split: int, count: int) -> None:
    labels = np.stack([render(domain, 0, split, index, (128, 64)).label for index in range(count)])
    frequency = np.bincount(labels.ravel(), minlength=256) / labels.size
    assert set(np.flatnonzero(frequency)) == set(CLASSES)
    rare = {CLASSES[i][0]: float(frequency[i]) for i in CLASSES if frequency[i] < 0.004}
    assert not rare, "too few pixels to learn from"


@pytest.mark.parametrize("size", [(16, 16), (33, 17), (100, 200), (320, 96)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    scene = render(TARGET, 5, 0, 0, size)
    assert scene.image.shape == (size[1], size[0], 3) and scene.label.shape == (size[1], size[0])
    assert set(np.unique(scene.label)) <= set(CLASSES)


def test_domains_differ_in_look_and_in_statistics() -> None:
    source, target = ([render(domain, 0, 0, index, (128, 64)) for index in range(30)] for domain in (SOURCE, TARGET))

    def colourfulness(scenes: list[write.Scene]) -> float:
        return float(np.mean([np.ptp(scene.image.astype(int), axis=2).mean() for scene in scenes]))

    def share(scenes: list[write.Scene], label: int) -> float:
        return float(np.mean([(scene.label == label).mean() for scene in scenes]))

    assert colourfulness(source) > 1.5 * colourfulness(target)
    assert share(source, SKY) > 1.5 * share(target, SKY)


def test_layouts_are_those_of_the_data_sets(pair: Path) -> None:
    assert sorted(p.name for p in (pair / "gta5" / "images").iterdir()) == ["00001.png", "00002.png", "00003.png"]
    for split, count in (("train", 2), ("val", 1), ("test", 2)):
        images = sorted((pair / "cityscapes" / "leftImg8bit" / split / "streets").iterdir())
        assert len(images) == count
        for path in images:
            city, sequence, frame, kind = path.name.split("_")
            assert (city, len(sequence), len(frame), kind) == ("streets", 6, 6, "leftImg8bit.png")
            mask = Image.open(
                pair / "cityscapes" / "gtFine" / split / "streets" / path.name.replace("leftImg8bit", "gtFine_labelIds")
            )
            assert mask.mode == "L" and mask.size == Image.open(path).size == SMALL.size


def test_source_labels_carry_the_palette_and_the_ids(pair: Path) -> None:
    mask = Image.open(pair / "gta5" / "labels" / "00002.png")
    scene = render(SOURCE, SMALL.seed, 0, 1, SMALL.size)
    assert mask.mode == "P"
    assert np.array_equal(np.asarray(mask), scene.label)
    assert np.array_equal(np.asarray(mask.convert("RGB")), palette()[scene.label])
    assert np.array_equal(np.asarray(Image.open(pair / "gta5" / "images" / "00002.png")), scene.image)


def test_twice_gives_the_same_files(pair: Path, tmp_path: Path) -> None:
    ensure_pair(tmp_path / "again", SMALL, quiet)
    assert files(tmp_path / "again") == files(pair)


def test_complete_pair_is_left_alone(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "render", lambda *_: pytest.fail("drew again"))
    ensure_pair(pair, SMALL, pytest.fail)


@pytest.mark.parametrize("damage", ["delete image", "delete label", "truncate", "empty"])
def test_damaged_file_is_drawn_again_alone(pair: Path, damage: str) -> None:
    before, said = files(pair), []
    victim = pair / (
        "gta5/labels/00002.png"
        if damage == "delete label"
        else "cityscapes/leftImg8bit/test/streets/streets_000001_000019_leftImg8bit.png"
    )
    if damage.startswith("delete"):
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:100] if damage == "truncate" else b"")
    ensure_pair(pair, SMALL, said.append)
    assert files(pair) == before
    assert "drawing 1 of 8" in said[0]


@pytest.mark.parametrize("after", [0, 1, 5])
def test_interrupted_generation_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    ensure_pair(tmp_path / "whole", SMALL, quiet)
    done = iter(range(after))

    def failing(*args: object) -> write.Scene:
        if next(done, None) is None:
            raise KeyboardInterrupt
        return render(*args)  # type: ignore[arg-type]

    cut, said = tmp_path / "cut", []
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(write, "render", failing)
        ensure_pair(cut, SMALL, quiet)
    assert not (cut / MANIFEST).exists()
    with (cut / JOURNAL).open("a") as journal:
        journal.write('["gta5/ima')  # the line that was being written
    (cut / "gta5" / "images").mkdir(parents=True, exist_ok=True)
    (cut / "gta5" / "images" / "00003.png").write_bytes(b"half a file")
    ensure_pair(cut, SMALL, said.append)
    assert files(cut) == files(tmp_path / "whole")
    assert f"drawing {8 - min(after, 2) - max(after - 3, 0)} of 8" in said[0]


@pytest.mark.parametrize("complete", [True, False])
def test_other_settings_in_the_same_folder(pair: Path, complete: bool) -> None:
    if not complete:
        settings = json.loads((pair / MANIFEST).read_text())["settings"]
        (pair / MANIFEST).unlink()
        (pair / JOURNAL).write_text(json.dumps({"settings": settings}) + "\n")
    before = files(pair)
    with pytest.raises(ValueError, match=r"other settings \(seed, size\); choose another data.root"):
        ensure_pair(
            pair,
            StreetsConfig(seed=4, size=(128, 64), source_train=3, target_train=2, target_val=1, target_test=2),
            quiet,
        )
    assert files(pair) == before


def test_command_line(tmp_path: Path) -> None:
    small = ["--size", "64x32", "--source-train", "1", "--target-train", "1", "--target-val", "1", "--target-test", "1"]
    assert main(["--out", str(tmp_path / "pair"), *small]) == 0
    assert (tmp_path / "pair" / MANIFEST).exists()
    with pytest.raises(ValueError, match=r"other settings \(seed\)"):
        main(["--out", str(tmp_path / "pair"), "--seed", "9", *small])
    assert main(["--sheet", str(tmp_path / "sheet.png"), "--size", "64x32"]) == 0
    assert Image.open(tmp_path / "sheet.png").size == (512, 512)
    with pytest.raises(ValueError, match="say where to"):
        main([])
    with pytest.raises(ValueError, match="'64' is not WIDTHxHEIGHT"):
        main(["--out", "x", "--size", "64"])
