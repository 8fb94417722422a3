"""Checkpoints that cannot be loaded, or not without being told: one line that names the file and the way out, and an
untouched network.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from esl_dist.config.schema import DeepLabV2Config, ModelConfig
from esl_dist.engine import checkpoint
from esl_dist.models import DeepLabV2, Discriminator, build_segmenter, weights
from esl_dist.models.weights.reading import read

State = dict[str, Tensor]
TINY = {"layers": (1, 1, 1, 1), "width": 8}


def tiny(branches: int = 4, multi_level: bool = True, num_classes: int = 5, seed: int = 1) -> DeepLabV2:
    return build_segmenter(
        ModelConfig(deeplabv2=DeepLabV2Config(aspp_branches=branches, multi_level=multi_level, **TINY)),
        num_classes,
        seed,
    )


def state(trained: tuple[int, ...] = (0, 1, 2, 3), multi_level: bool = True) -> State:
    """Four stored branches; those ``trained`` have moved by the same amount at the centre tap, as a sum's
    gradients do.
    """
    made = tiny(multi_level=multi_level, seed=7).state_dict()
    for key, value in made.items():
        if key.endswith("weight") and "conv2d_list" in key and int(key.split(".")[2]) in trained:
            value[:, :, 1, 1] += 0.05 * torch.randn(value.shape[:2], generator=torch.Generator().manual_seed(3))
    return made


def layer5_main(content: State) -> State:
    return {key.replace("layer6.", "layer5."): value for key, value in content.items()}


def save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def refused(file: Path, model: DeepLabV2 | Discriminator, *args: object, match: str) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=match) as error:
        weights.load(file, model, *args)
    assert "\n" not in str(error.value) and file.name in str(error.value)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items()), "the network was touched"


CASES: dict[str, tuple[Callable[[], object], Callable[[], DeepLabV2 | Discriminator], str, str]] = {
    "four branches into two": (state, lambda: tiny(2), "auto", "model.layout"),
    "maxsquare's file into four": (
        lambda: {"state_dict": {f"module.{k}": v for k, v in state().items()}},
        tiny,
        "auto",
        "model.layout",
    ),
    "two of four trained, into four": (
        lambda: state(trained=(0, 1)),
        tiny,
        "auto",
        "never trained.*model.deeplabv2.aspp_branches=2",
    ),
    "adaptsegnet's into four": (state, tiny, "adaptsegnet", "model.deeplabv2.aspp_branches=2"),
    "advent's into two": (state, lambda: tiny(2), "advent", "model.deeplabv2.aspp_branches=4"),
    "two stored into four": (lambda: tiny(2).state_dict(), tiny, "auto", "model.deeplabv2.aspp_branches=2"),
    "other classes": (state, lambda: tiny(num_classes=6), "auto", "5 classes.*6.*data.classes"),
    "one head into two": (lambda: state(multi_level=False), tiny, "auto", "model.deeplabv2.multi_level=false"),
    "bdl with two heads": (state, tiny, "bdl", "layer6"),
    "advent with layer5 as main": (
        lambda: layer5_main(state(multi_level=False)),
        lambda: tiny(multi_level=False),
        "advent",
        "layer5.*bdl",
    ),
    "other depth": (state, lambda: DeepLabV2(5, (1, 2, 1, 1), width=8), "auto", r"model.deeplabv2.layers=\[1,1,1,1\]"),
    "other width": (state, lambda: DeepLabV2(5, (1, 1, 1, 1), width=16), "auto", "model.deeplabv2.width=8"),
    "no head": (
        lambda: {k: v for k, v in state().items() if "conv2d" not in k},
        tiny,
        "auto",
        "model.layout=resnet101",
    ),
    "headless as advent": (
        lambda: {k: v for k, v in state().items() if "conv2d" not in k},
        tiny,
        "advent",
        "model.layout=resnet101",
    ),
    "an entry short": (
        lambda: {k: v for k, v in state().items() if k != "layer2.0.bn3.bias"},
        tiny,
        "auto",
        "layer2.0.bn3.bias",
    ),
    "an entry more": (lambda: state() | {"decoder.weight": torch.zeros(3)}, tiny, "auto", "decoder.weight"),
    "another shape": (
        lambda: state() | {"layer1.0.conv2.weight": torch.zeros(8, 8, 1, 1)},
        tiny,
        "auto",
        "layer1.0.conv2.weight has shape",
    ),
    "not finite": (
        lambda: state() | {"bn1.bias": torch.full((8,), float("nan"))},
        tiny,
        "auto",
        "bn1.bias.*not finite",
    ),
    "a vgg": (
        lambda: {"features.0.weight": torch.zeros(64, 3, 3, 3)},
        tiny,
        "auto",
        "no DeepLab-v2.*features.0.weight",
    ),
    "a basic-block resnet": (
        lambda: {"conv1.weight": torch.zeros(8, 3, 7, 7), "layer1.0.conv1.weight": torch.zeros(8, 8, 3, 3)},
        tiny,
        "auto",
        "no DeepLab-v2",
    ),
    "a discriminator": (lambda: Discriminator(5).state_dict(), tiny, "auto", "discriminator"),
    "a segmenter as discriminator": (state, lambda: Discriminator(5), "auto", "no discriminator"),
    "a discriminator of other classes": (
        lambda: Discriminator(6).state_dict(),
        lambda: Discriminator(5),
        "auto",
        "6 classes",
    ),
    "a discriminator of other width": (
        lambda: Discriminator(5, 32).state_dict(),
        lambda: Discriminator(5),
        "auto",
        "discriminator_width=32",
    ),
    "no weights": (lambda: {"epoch": 3, "state_dict": {}}, tiny, "auto", "state_dict"),
    "a list": (lambda: [1, 2], tiny, "auto", "a list"),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_with_the_way_out(name: str, tmp_path: Path) -> None:
    content, model, layout, match = CASES[name]
    refused(save(tmp_path / "some.pth", content()), model(), layout, match=match)


@pytest.mark.parametrize("layout", ["auto", "resnet101"])
def test_torchvision_is_refused_for_its_strides(tmp_path: Path, layout: str) -> None:
    content = {key: value for key, value in state().items() if "conv2d_list" not in key} | {
        "fc.weight": torch.zeros(1000, 256),
        "fc.bias": torch.zeros(1000),
    }
    refused(save(tmp_path / "resnet101.pth", content), tiny(), layout, match="torchvision.*strides")


def test_damaged_and_absent_files(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.pth", state()).read_bytes()
    for name, content in {
        "half.pth": whole[: len(whole) // 2],
        "empty.pth": b"",
        "text.pth": b"<html>404</html>",
    }.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, tiny(), match="web page" if name == "text.pth" else "truncated")
    torch.save(state(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    old = (tmp_path / "old.pth").read_bytes()
    (tmp_path / "oldhalf.pth").write_bytes(old[: len(old) // 2])
    refused(tmp_path / "oldhalf.pth", tiny(), match="truncated")
    assert weights.load(tmp_path / "old.pth", tiny()).loaded == len(state()), "the format of torch 0.4 loads"
    refused(tmp_path / "absent.pth", tiny(), match="No such file")
    refused(tmp_path, tiny(), match="folder")


def test_nothing_pickled_is_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "executed",)

    refused(save(tmp_path / "trap.pth", state() | {"trap": Trap()}), tiny(), match="not executed")
    assert not (tmp_path / "executed").exists()


def test_unknown_layout_and_branches(tmp_path: Path) -> None:
    file = save(tmp_path / "some.pth", state())
    with pytest.raises(ValueError, match=r"model\.layout: unknown 'deeplab'"):
        weights.load(file, tiny(), "deeplab")
    with pytest.raises(ValueError, match="branches"):
        weights.load(file, tiny(), branches=3)


@pytest.mark.parametrize(
    ("content", "layout", "branches", "lineage"),
    [
        (lambda: state(trained=(0, 1)), "auto", None, "adaptsegnet"),
        (state, "adaptsegnet", None, "adaptsegnet"),
        (state, "maxsquare", None, "maxsquare"),
        (state, "auto", 2, "advent"),
    ],
)
def test_four_stored_branches_into_two_once_that_is_known(
    tmp_path: Path, content: Callable[[], State], layout: str, branches: int | None, lineage: str
) -> None:
    model = tiny(2)
    report = weights.load(save(tmp_path / "some.pth", content()), model, layout, branches)
    assert report.branches == 2 and report.layout == lineage
    assert torch.equal(model.layer6.conv2d_list[1].weight, content()["layer6.conv2d_list.1.weight"])


def test_named_lineage_starts_the_aux_head_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny()
    before = model.layer5.conv2d_list[0].weight.clone()
    report = weights.load(save(tmp_path / "some.pth", layer5_main(state(multi_level=False))), model, "bdl")
    assert all(key.startswith("layer5.") for key in report.missing) and "layer5" in caplog.text
    assert torch.equal(model.layer5.conv2d_list[0].weight, before)


def test_a_backbone_alone_judges_no_image(tmp_path: Path) -> None:
    """Whoever scores or labels is not sent to a layout that leaves the heads at random."""
    backbone = {key: value for key, value in state().items() if not key.startswith(("layer5", "layer6"))}
    file = save(tmp_path / "backbone.pth", backbone)
    assert weights.load(file, tiny(), "resnet101").missing  # to train on
    for layout, words in (
        ("auto", "to train on it"),
        ("resnet101", "gives the head layer6 no weights.*name whose file it is by model.layout"),
    ):
        with pytest.raises(ValueError, match=words):
            weights.load_trained(file, tiny(), layout)
    one_head = save(tmp_path / "one.pth", state(multi_level=False))
    assert weights.load_trained(one_head, tiny(), "advent").missing  # the aux head is nobody's judge


def test_our_own_checkpoints_need_no_layout(tmp_path: Path) -> None:
    """Inside a checkpoint folder the file is known to be ours: ``model.layout`` speaks of ``model.checkpoint`` only."""
    for branches in (2, 4):
        saved = tiny(branches, multi_level=False, seed=5).state_dict()
        folder = checkpoint.save(tmp_path / str(branches), 1, {"segmenter": saved}, {}, keep=1)
        for layout in ("auto", "resnet101", "bdl"):
            model = tiny(branches, multi_level=False, seed=6)
            report = weights.load(folder / "segmenter.pt", model, layout)
            assert (
                report.layout == "esl_dist" and report.branches == branches and not report.missing and not report.notes
            )
            assert all(torch.equal(saved[key], value) for key, value in model.state_dict().items())
    refused(folder / "segmenter.pt", tiny(2, multi_level=False), match="model.deeplabv2.aspp_branches=4")


@pytest.mark.parametrize("what", ["bit of the weights", "manifest", "cut manifest"])
def test_a_damaged_checkpoint_of_our_own_judges_nothing(what: str, tmp_path: Path) -> None:
    """As ``evaluate`` and ``extract`` read it; torch itself reads over a flipped bit."""
    folder = checkpoint.save(tmp_path, 1, {"segmenter": tiny().state_dict()}, {}, keep=1)
    file = folder / ("segmenter.pt" if what == "bit of the weights" else "manifest.json")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content[:40] if what == "cut manifest" else content)
    said = "segmenter.pt: its SHA-256 is not the manifest's" if "bit" in what else "manifest.json: "
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        weights.load(folder / "segmenter.pt", tiny())
    assert "\n" not in str(error.value)


def test_numbers_of_old_and_new_numpy_beside_the_weights(tmp_path: Path) -> None:
    """MaxSquare keeps its best mIoU, a numpy number, in the file; numpy 1 wrote it under another module name."""
    file = tmp_path / "new.pth"
    torch.save({"state_dict": state(), "best_MIou": np.float64(0.46)}, file, _use_new_zipfile_serialization=False)
    content = file.read_bytes()
    assert b"cnumpy._core.multiarray\n" in content
    (tmp_path / "old.pth").write_bytes(content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    for name in ("new.pth", "old.pth"):
        assert weights.load(tmp_path / name, tiny()).loaded == len(state())


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("mic-hrda.pth", "lhoyer"),
        ("vfm_uda_plus_l.ckpt", "tue-mps"),
        ("resnet101_imagenet_coco.pth", "AdaptSegNet's initial ResNet-101"),
        ("dinov2_vitb14_pretrain.pth", "facebookresearch/dinov2"),
        ("mine.pth", "check model.checkpoint$"),
    ],
)
def test_a_missing_file_says_whose_it_is(tmp_path: Path, name: str, whose: str) -> None:
    with pytest.raises(ValueError, match=whose):
        read(tmp_path / name)
