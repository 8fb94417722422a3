"""Checkpoints in each lineage's exact layout: the network they give computes what their own code computed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from esl_dist.losses import upsample
from esl_dist.models import DeepLabV2, Discriminator, Outputs, weights
from esl_dist.models.weights.lineages import CAFFE
from tests import deterministic as det
from tests.models.test_golden import GOLDEN, NETWORKS, SMALL, TOLERANCE, as_single_main, check, check_outputs, image

State = dict[str, Tensor]


def published(multi_level: bool, rename: Callable[[str], str] = str, num_classes: int = 19) -> State:
    """A file's flat content: the reference's keys, four branches each, deterministic values."""
    with torch.device("meta"):
        keys = DeepLabV2(num_classes, SMALL, multi_level).state_dict()
    return {
        rename(key): torch.from_numpy(det.det_tensor(rename(key), tuple(value.shape))).to(value.dtype)
        for key, value in keys.items()
    }


def empty(branches: int, multi_level: bool = True, num_classes: int = 19) -> DeepLabV2:
    return DeepLabV2(num_classes, SMALL, multi_level, branches)


def save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@torch.no_grad()
def outputs(model: DeepLabV2) -> Outputs:
    result: Outputs = model.double().eval()(image())
    return result


@pytest.mark.parametrize("layout", ["auto", "advent"])
def test_advent_two_heads(tmp_path: Path, layout: str) -> None:
    model = empty(4)
    file = save(tmp_path / "advent.pth", published(True))
    report = weights.load(file, model, layout)
    assert (report.layout, report.loaded, report.dropped, report.missing, dict(report.renamed)) == (
        "advent",
        136,
        (),
        (),
        {},
    )
    assert (report.branches, report.num_classes, report.input_normalisation, report.output_order) == (
        4,
        19,
        CAFFE,
        ("aux", "main"),
    )
    assert report.sha256 == det.hashlib.sha256(file.read_bytes()).hexdigest()
    check_outputs(outputs(model), NETWORKS["ESL_multi_r1121"]["eval/float64"], TOLERANCE["float64"])


def test_advent_one_head(tmp_path: Path) -> None:
    model = empty(4, multi_level=False)
    report = weights.load(save(tmp_path / "advent.pth", published(False)), model)
    assert report.layout == "advent" and report.loaded == 128
    check_outputs(outputs(model), NETWORKS["ESL_single_r1121"]["eval/float64"], TOLERANCE["float64"])


def test_adaptsegnet_two_heads_sums_two_branches(tmp_path: Path) -> None:
    model = empty(2)
    report = weights.load(save(tmp_path / "ada.pth", published(True)), model, "adaptsegnet")
    assert report.branches == 2
    assert set(report.dropped) == {
        f"layer{n}.conv2d_list.{i}.{kind}" for n in (5, 6) for i in (2, 3) for kind in ("weight", "bias")
    }
    check_outputs(outputs(model), NETWORKS["AdaptSegNet_multi_r1121"]["eval/float64"], TOLERANCE["float64"])


def test_adaptsegnet_one_head_is_called_layer5(tmp_path: Path) -> None:
    model = empty(2, multi_level=False)
    report = weights.load(save(tmp_path / "ada.pth", published(False, as_single_main)), model, "adaptsegnet")
    assert dict(report.renamed) == {"layer5.": "layer6."}
    check_outputs(outputs(model), NETWORKS["AdaptSegNet_single_r1121"]["eval/float64"], TOLERANCE["float64"])


@pytest.mark.parametrize("layout", ["auto", "bdl", "crst"])
def test_bdl_and_crst_call_the_main_head_layer5(tmp_path: Path, layout: str, caplog: pytest.LogCaptureFixture) -> None:
    model = empty(4, multi_level=False)
    report = weights.load(save(tmp_path / "bdl.pth", published(False, as_single_main)), model, layout)
    assert report.layout == ("bdl" if layout == "auto" else layout) and dict(report.renamed) == {"layer5.": "layer6."}
    assert (report.input_normalisation == CAFFE) == (layout != "crst")
    if layout != "bdl":
        assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1, "what was assumed is said once"
    main = upsample(outputs(model).main, (129, 257))
    check_outputs(Outputs(main, None), NETWORKS["BDL_single_r1121"]["eval/float64"], TOLERANCE["float64"])


@pytest.mark.parametrize("layout", ["auto", "maxsquare"])
def test_maxsquare_is_wrapped_and_prefixed(tmp_path: Path, layout: str) -> None:
    model = empty(2)
    content = {
        "iteration": 29750,
        "state_dict": {f"module.{key}": value for key, value in published(True).items()},
        "best_MIou": np.float64(0.464),
    }
    report = weights.load(save(tmp_path / "ms.pth", content), model, layout)
    assert (
        report.layout == "maxsquare"
        and report.output_order == ("main", "aux")
        and dict(report.renamed) == {"module.": ""}
    )
    golden = NETWORKS["MaxSquareLoss_multi_r1121"]["eval/float64"]
    result = outputs(model)
    check(upsample(result.main, (129, 257)), golden["out0"], TOLERANCE["float64"])
    check(upsample(result.aux, (129, 257)), golden["out1"], TOLERANCE["float64"])
    assert not any(norm.weight.requires_grad for norm in model.norms()), (
        "its batch-norm gain was trained; here it is frozen"
    )


def test_resnet101_init_gives_the_backbone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = {
        f"Scale.{key}": value
        for key, value in published(False, as_single_main, num_classes=21).items()
        if "num_batches_tracked" not in key
    }
    model = det.fill(empty(4))
    kept = model.layer6.conv2d_list[0].weight.clone()
    with torch.no_grad():
        model.conv1.weight.zero_()
    report = weights.load(save(tmp_path / "init.pth", content), model)
    assert report.layout == "resnet101" and dict(report.renamed) == {"Scale.": ""} and report.branches is None
    assert report.dropped and all(key.startswith("layer5.") for key in report.dropped)
    assert all("num_batches_tracked" in key or key.startswith(("layer5.", "layer6.")) for key in report.missing)
    assert torch.equal(model.layer6.conv2d_list[0].weight, kept)
    assert "layer5 and layer6" in caplog.text
    check_outputs(
        outputs(model), NETWORKS["ESL_multi_r1121"]["eval/float64"], TOLERANCE["float64"]
    )  # the heads that it had, on the backbone that it got


def test_one_head_of_a_file_with_two(tmp_path: Path) -> None:
    model = empty(4, multi_level=False)
    report = weights.load(save(tmp_path / "advent.pth", published(True)), model)
    assert report.dropped and all(key.startswith("layer5.") for key in report.dropped)
    check_outputs(outputs(model), NETWORKS["ESL_single_r1121"]["eval/float64"], TOLERANCE["float64"])


@pytest.mark.parametrize("names", [["0", "2", "4", "6", "8"], ["conv1", "conv2", "conv3", "conv4", "classifier"]])
def test_discriminators_of_both_layouts(tmp_path: Path, names: list[str]) -> None:
    reference = det.fill(Discriminator(19), "d_main.").state_dict()
    positions = dict(zip(["0", "2", "4", "6", "8"], names, strict=True))
    content = {f"{positions[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in reference.items()}
    model = Discriminator(19)
    report = weights.load(save(tmp_path / "d.pth", content), model)
    assert report.loaded == 10 and report.source_domain == 0
    assert report.layout == ("advent" if names[0] == "0" else "adaptsegnet")
    prob = torch.from_numpy(det.logits(7, 1, 19, 97, 193, 3)).softmax(1)
    with torch.no_grad():
        check(model(prob), GOLDEN["discriminator"]["d_main/97x193/softmax_in"], TOLERANCE["float32"])
