"""``esl_dist.load``: a network as a function of images, from its checkpoint alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import esl_dist
from esl_dist.config.load import dump, load_config
from esl_dist.config.schema import Config
from esl_dist.engine import checkpoint
from esl_dist.labels import protocol
from esl_dist.models import build_segmenter
from esl_dist.models.card import KEY, Card
from esl_dist.pseudo_labels import confidence_map

WORDS = {
    "deeplabv2": ["model.deeplabv2.layers=[1,1,1,1]", "model.deeplabv2.width=8", "model.deeplabv2.init=kaiming"],
    "efficientnet": ["model.name=efficientnet", "model.efficientnet.init=kaiming", "model.efficientnet.decoder=16"],
}
BESIDE = [
    "data.classes=7",
    "eval.input_size=[96,64]",
    "data.mean=[104,108,112]",
    "data.scale=",
    "data.deviation=[60,61,62]",
]


def small(name: str) -> Config:
    return load_config("smoke.yaml", [*WORDS[name], *BESIDE])


def saved(config: Config, folder: Path, with_card: bool = True) -> Path:
    """A checkpoint of a network that drew its weights, with statistics of its own."""
    network = build_segmenter(config.model, protocol(config.data.classes).num_classes, 3, config.data)
    for norm in network.norms():
        norm.running_mean.normal_(0, 0.1, generator=torch.Generator().manual_seed(5))
    meta = {KEY: Card.of(config).to_json()} if with_card else {"stage": "source"}
    return checkpoint.save(folder / "checkpoints", 7, {"segmenter": network.state_dict()}, meta, keep=1)


def picture(seed: int = 0, size: tuple[int, int] = (50, 80)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", WORDS)
def test_a_checkpoint_needs_no_configuration(name: str, tmp_path: Path) -> None:
    config = small(name)
    path = saved(config, tmp_path / "anywhere")
    model = esl_dist.load(path, device="cpu")
    assert model.classes == protocol("7").classes and model.size == (96, 64)
    assert model.network.normalisation.in_bgr().deviation == (60, 61, 62)
    image = picture()
    found = model(image)
    assert found.labels.shape == found.scores.shape == found.entropy.shape == (50, 80)
    assert found.labels.dtype == np.uint8 and found.labels.max() < 7
    assert found.scores.min() >= 1 / 7 and found.scores.max() <= 1 and found.entropy.min() >= 0
    colours = np.asarray(protocol("7").palette, np.uint8)
    assert np.array_equal(np.asarray(found.picture), colours[found.labels])
    assert found.overlay(0.0).tobytes() == image.tobytes()
    assert "7 classes" in repr(model)


def test_it_says_what_extraction_would(tmp_path: Path) -> None:
    model = esl_dist.load(saved(small("deeplabv2"), tmp_path), device="cpu")
    image = picture(1, (64, 96))
    label, score = confidence_map(
        model.predictor(torch.from_numpy(image).permute(2, 0, 1)[None]), (64, 96), "probability"
    )
    found = model(image)
    assert np.array_equal(found.scores, score[0].numpy())
    assert (found.labels == label[0].numpy()).mean() > 0.99  # logits are upsampled there, probabilities here


def test_files_arrays_and_pillows_images_are_one(tmp_path: Path) -> None:
    model = esl_dist.load(saved(small("deeplabv2"), tmp_path), device="cpu")
    image = picture(2)
    file = tmp_path / "a picture.png"
    Image.fromarray(image).save(file)
    many = model([image, file, str(file), Image.fromarray(image)])
    assert isinstance(many, list) and len(many) == 4 and model([]) == []
    assert all(np.array_equal(many[0].labels, other.labels) for other in many[1:])
    (tmp_path / "no.png").write_bytes(b"nothing")
    for wrong, named in ((tmp_path / "no.png", "no.png"), (np.zeros((3, 4), np.uint8), "uint8 RGB")):
        with pytest.raises(ValueError, match=named):
            model(wrong)


def test_a_checkpoint_of_an_earlier_release_takes_its_runs_configuration(tmp_path: Path) -> None:
    config = small("deeplabv2")
    path = saved(config, tmp_path / "run" / "source", with_card=False)
    (tmp_path / "run" / "config.yaml").write_text(dump(config))
    assert esl_dist.load(path, device="cpu").classes == protocol("7").classes
    alone = saved(config, tmp_path / "elsewhere", with_card=False)
    with pytest.raises(ValueError, match=r"name its configuration"):
        esl_dist.load(alone)
    given = esl_dist.load(alone, config="smoke.yaml", options=[*WORDS["deeplabv2"], *BESIDE], device="cpu")
    assert given.size == (96, 64)


def test_a_card_is_json_and_comes_back() -> None:
    for name in WORDS:
        card = Card.of(small(name))
        again = Card.of_json(json.loads(json.dumps(card.to_json())))
        assert again == card and again.network().describe() == card.network().describe()
    with pytest.raises(ValueError, match="damaged"):
        Card.of_json({"name": "deeplabv2"})
    with pytest.raises(ValueError, match="not of this release"):
        Card.of_json({**card.to_json(), "name": "of tomorrow"}).network()


def test_importing_the_package_costs_nothing() -> None:
    code = "import sys, esl_dist; esl_dist.__version__; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert "load" in esl_dist.__all__ and callable(esl_dist.load)
    assert (Path(esl_dist.__file__).parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        esl_dist.lod  # noqa: B018
