"""A checkpoint that was copied away from its run: predicted, scored and exported with by what it says of itself."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import esl_dist
from esl_dist.config.load import dump, load_config
from esl_dist.data.decode import read_rgb
from esl_dist.data.transforms import fit_image
from esl_dist.entries import evaluate, extract, predict
from esl_dist.entries.export import main as export
from esl_dist.metrics.sliding import sliding
from esl_dist.metrics.upsample import upsampled_argmax
from esl_dist.models.card import Card
from esl_dist.prediction.checkpoints import own_card
from tests.data import disk
from tests.diagnostics.test_starting import IDS
from tests.prediction.test_python import WORDS, picture, saved

CPU = ["run.device=cpu", "run.threads=1", "data.workers=0"]


def own_classes(folder: Path) -> Path:
    """A class file of somebody's twelve."""
    path = folder / "yard_classes.yaml"
    path.write_text("classes:\n" + "".join(f"  - {{name: thing {i}, ids: [{i}]}}\n" for i in IDS))
    return path


@pytest.fixture
def away(tmp_path: Path) -> Path:
    """A checkpoint of twelve classes whose class file is gone."""
    classes = own_classes(tmp_path)
    words = [*WORDS["deeplabv2"], f"data.classes={classes}", "eval.input_size=[96,64]", "data.target.fit=pad"]
    path = saved(load_config("smoke.yaml", words), tmp_path / "away")
    classes.unlink()
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for number in range(2):
        Image.fromarray(picture(number)).save(tmp_path / f"images/{number}.png")
    return tmp_path / "images"


@pytest.mark.parametrize("named", ["folder", "file"])
def test_predict_takes_everything_from_the_card(away: Path, images: Path, tmp_path: Path, named: str) -> None:
    given = away if named == "folder" else away / "segmenter.pt"
    words = ["--checkpoint", str(given), "--images", str(images), "--out", str(tmp_path / "out")]
    assert predict.main([*words, *CPU]) == 0
    settings = json.loads((tmp_path / "out/predictions.json").read_text())["settings"]
    assert settings["classes"].split(", ") == [f"thing {i}" for i in IDS] and settings["seen at"] == "96x64 pad"
    model = esl_dist.load(given, device="cpu")
    with Image.open(tmp_path / "out/labels/0.png") as label:
        assert np.array_equal(np.array(label), model(images / "0.png").labels)
        assert label.getpalette()[:36] == [value for colour in model.card.palette for value in colour]
    # What an option says of the run or of how images are seen is taken; what it says of the network is not.
    assert predict.main([*words[:-1], str(tmp_path / "larger"), *CPU, "eval.input_size=[192,128]"]) == 0
    assert esl_dist.load(given, device="cpu", options=["eval.input_size=[192,128]"]).size == (192, 128)
    with pytest.raises(ValueError, match=r"model\.deeplabv2\.width: the checkpoint says itself what network it holds"):
        predict.main([*words, *CPU, "model.deeplabv2.width=16"])
    with pytest.raises(ValueError, match="--ids: thing 3 is no class of Cityscapes"):
        predict.main([*words, *CPU, "--ids"])


def test_what_was_scored_in_windows_is_predicted_in_windows(images: Path, tmp_path: Path) -> None:
    slide = ["eval.window=[48,32]", "eval.stride=[24,16]", "eval.averaged=probabilities"]
    config = load_config("smoke.yaml", [*WORDS["deeplabv2"], "eval.input_size=[96,64]", *slide])
    given = saved(config, tmp_path / "slid")
    card = own_card(given)
    assert card is not None and (card.window, card.stride, card.averaged) == ((48, 32), (24, 16), "probabilities")
    assert load_config("smoke.yaml", card.words()).eval.window == (48, 32)
    older = {key: value for key, value in card.to_json().items() if key not in ("window", "stride", "averaged")}
    assert Card.of_json(older).window == (0, 0)
    out = tmp_path / "out"
    assert predict.main(["--checkpoint", str(given), "--images", str(images), "--out", str(out), *CPU]) == 0
    said = json.loads((out / "predictions.json").read_text())["settings"]["windows"]
    assert said == "48x32 every 24x16, mean of probabilities"
    model = esl_dist.load(given, device="cpu")
    whole = esl_dist.load(given, device="cpu", options=["eval.window=[0,0]"])
    scored = sliding(model.predictor, (48, 32), (24, 16), "probabilities")
    for name in ("0", "1"):
        found = model(images / f"{name}.png").labels
        with Image.open(out / f"labels/{name}.png") as label:
            assert np.array_equal(np.array(label), found)
        pixels = fit_image(read_rgb(images / f"{name}.png"), (96, 64), "stretch")
        native = (found.shape[1], found.shape[0])
        assert np.array_equal(upsampled_argmax(scored(pixels[None])[0], native).numpy(), found)
        assert not np.array_equal(whole(images / f"{name}.png").labels, found)
    words = ["--checkpoint", str(given), "--images", str(images), "--out", str(tmp_path / "sized"), "--size", "40x24"]
    assert predict.main([*words, *CPU]) == 0
    assert "windows" not in json.loads((tmp_path / "sized/predictions.json").read_text())["settings"]


def test_a_run_whose_class_file_is_gone_still_predicts(away: Path, images: Path, tmp_path: Path) -> None:
    stage = tmp_path / "run/source"
    shutil.move(away.parent, stage / "checkpoints")
    text = dump(load_config("smoke.yaml", [*WORDS["deeplabv2"], "data.classes=gone.yaml"]))
    (tmp_path / "run/config.yaml").write_text(text)
    for given in (stage, tmp_path / "run/source/checkpoints/step_00000007"):
        out = tmp_path / given.name
        assert predict.main(["--checkpoint", str(given), "--images", str(images), "--out", str(out), *CPU]) == 0


def test_scores_want_as_many_classes_and_say_other_names(
    away: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--checkpoint", str(away), *CPU]
    for entry, more in ((evaluate.main, []), (extract.main, ["--out", str(tmp_path / "labels")])):
        with pytest.raises(
            ValueError, match=r"data\.classes: 19 has 19 classes, .* of 12 \(thing 3, thing 7, thing 8 …"
        ):
            entry([*words, *more])
    own = own_classes(tmp_path)
    own.write_text(own.read_text().replace("thing 3,", "sand,"))
    with pytest.raises(ValueError, match="no folder"):
        evaluate.main([*words, f"data.classes={own}", f"data.root={tmp_path}/none", "data.streets.make=false"])
    assert "other names of its classes: thing 3 is sand now" in capsys.readouterr().err


def test_a_shipped_sets_checkpoint_is_scored_without_a_configuration(tmp_path: Path) -> None:
    config = load_config("smoke.yaml", [*WORDS["deeplabv2"], "data.classes=7", "eval.input_size=[64,32]"])
    path = saved(config, tmp_path / "away")
    disk.image(tmp_path / "city/leftImg8bit/val/a/a_0_0_leftImg8bit.png", (64, 32))
    disk.grey(tmp_path / "city/gtFine/val/a/a_0_0_gtFine_labelIds.png", disk.ids([7, 11, 23, 26], (64, 32)))
    data = ["data.target.dataset=cityscapes", "data.target.root=city", f"data.root={tmp_path}", "eval.split=val"]
    out = tmp_path / "metrics.json"
    statistics = "eval.bn_statistics=[running]"
    assert evaluate.main(["--checkpoint", str(path), "--out", str(out), *data, *CPU, statistics]) == 0
    assert len(json.loads(out.read_text())["iou"]) == 7


def test_export_takes_the_card_and_refuses_what_says_otherwise(away: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.classes: the checkpoint says itself"):
        export(["--checkpoint", str(away), "--out", str(tmp_path / "x.pt2"), "data.classes=7"])
    assert not (tmp_path / "x.pt2").exists()


def test_a_card_as_words_is_the_same_card_again(tmp_path: Path) -> None:
    for name in WORDS:
        config = load_config("smoke.yaml", [*WORDS[name], "data.classes=16", "eval.input_size=[96,64]"])
        card = own_card(saved(config, tmp_path / name))
        assert card is not None
        again = load_config(None, card.words())
        assert (again.model.name, again.model.options) == (config.model.name, config.model.options)
        assert (again.eval.input_size, again.data.target.fit) == (config.eval.input_size, config.data.target.fit)
        assert again.data.classes == "16"


def test_nothing_known_is_said_at_once(tmp_path: Path, images: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"?")
    words = ["--checkpoint", str(tmp_path / "weights.pth"), "--images", str(images), "--out", str(tmp_path / "out")]
    with pytest.raises(ValueError, match=re.escape("name its configuration (--config FILE; config=)")):
        predict.main(words)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())
