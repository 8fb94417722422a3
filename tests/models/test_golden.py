"""The networks against figures of the published implementations: keys, counts, outputs, batch-norm statistics."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from esl_dist.losses import self_information, upsample
from esl_dist.models import DeepLabV2, Discriminator, Outputs
from esl_dist.models.deeplabv2 import published_multiplicity
from tests import deterministic as det

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "model.json").read_text())
NETWORKS = GOLDEN["networks"]
SMALL = (1, 1, 2, 1)
DTYPES = {"float64": torch.float64, "float32": torch.float32}
TOLERANCE = {"float64": 1e-11, "float32": 2e-5}  # of an array's largest magnitude


def as_single_main(key: str) -> str:
    """AdaptSegNet's and BDL's single-level networks call the main head layer5."""
    return key.replace("layer6.", "layer5.")


def network(
    layers: tuple[int, int, int, int] = SMALL, dtype: torch.dtype = torch.float64, single: str = "", branches: int = 4
) -> DeepLabV2:
    with torch.device("meta"):
        model = DeepLabV2(19, layers, multi_level=not single, aspp_branches=branches)
    det.fill(model.to_empty(device="cpu"), rename=as_single_main if single == "layer5" else None)
    return model.to(dtype)


def image(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(det.image_chw(0, 129, 257))[None].to(dtype)


def check(array: Tensor, golden: dict, tolerance: float) -> None:
    figures = det.stats(array)
    largest = max(abs(golden["min"]), abs(golden["max"]))
    assert figures["n"] == golden["n"]
    for name in ("abs", "l2", "min", "max"):
        assert figures[name] == pytest.approx(golden[name], rel=tolerance, abs=tolerance * largest), name
    for name in ("sum", "dot"):
        assert figures[name] == pytest.approx(golden[name], abs=tolerance * golden["abs"]), name
    samples = golden.get("samples", golden.get("values"))
    if samples:
        indices = det.sample_indices(array.numel(), len(samples)) if "samples" in golden else np.arange(len(samples))
        picked = array.detach().reshape(-1)[torch.from_numpy(indices)].double().numpy()
        assert picked == pytest.approx(np.array(samples), abs=tolerance * largest)


def check_outputs(outputs: Outputs, golden: dict, tolerance: float) -> None:
    if "out0" in golden and outputs.aux is not None:
        check(outputs.aux, golden["out0"], tolerance)
    check(outputs.main, golden.get("out1", golden.get("out0")), tolerance)


def test_weights_are_the_ones_the_figures_were_made_with() -> None:
    state = network(dtype=torch.float32).state_dict()
    assert {key: det.sha256(state[key].numpy()) for key in GOLDEN["weights_sha256"]} == GOLDEN["weights_sha256"]


@pytest.mark.parametrize(
    ("name", "layers", "single"),
    [
        ("ESL_multi_r101", (3, 4, 23, 3), ""),
        ("ESL_single_r101", (3, 4, 23, 3), "layer6"),
        ("ESL_multi_r1121", SMALL, ""),
        ("ESL_single_r1121", SMALL, "layer6"),
        ("BDL_single_r1121", SMALL, "layer5"),
    ],
)
def test_keys_shapes_and_counts(name: str, layers: tuple[int, int, int, int], single: str) -> None:
    with torch.device("meta"):
        model = DeepLabV2(19, layers, multi_level=not single)
    golden = NETWORKS[name]
    rename = as_single_main if single == "layer5" else str
    keys = "\n".join(f"{rename(key)} {tuple(value.shape)}" for key, value in model.state_dict().items())
    assert hashlib.sha256(keys.encode()).hexdigest() == golden["keys_sha256"]
    assert len(model.state_dict()) == golden["n_keys"]
    assert sum(p.numel() for p in model.parameters()) == golden["params_all"]
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == golden["params_trainable"]
    trainable = [pair for group in model.parameter_groups() for pair in group.parameters]
    assert sum(p.numel() for _, p in trainable) == golden["params_trainable"]
    listed = Counter(published_multiplicity(key) for key, _ in trainable)
    assert {str(times): count for times, count in listed.items()} == golden["optimizer_multiplicity_hist"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_outputs_of_both_heads(mode: str, dtype: str) -> None:
    model = network(dtype=DTYPES[dtype]).train(mode == "train")
    golden = NETWORKS["ESL_multi_r1121"][f"{mode}/{dtype}"]
    with torch.no_grad():
        check_outputs(model(image(DTYPES[dtype])), golden, TOLERANCE[dtype])
    buffers = dict(model.named_buffers())
    for key, figures in golden.get("bn_after", {}).items():
        check(buffers[key], figures, TOLERANCE[dtype])
    assert int(buffers["bn1.num_batches_tracked"]) == (mode == "train")


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_outputs_of_two_branches(mode: str) -> None:
    model = network(branches=2).train(mode == "train")
    assert not any("conv2d_list.2" in key for key in model.state_dict())
    with torch.no_grad():
        check_outputs(model(image()), NETWORKS["AdaptSegNet_multi_r1121"][f"{mode}/float64"], TOLERANCE["float64"])


@pytest.mark.parametrize(
    ("name", "single", "branches"),
    [("ESL_single_r1121", "layer6", 4), ("AdaptSegNet_single_r1121", "layer5", 2), ("BDL_single_r1121", "layer5", 4)],
)
def test_outputs_of_one_head(name: str, single: str, branches: int) -> None:
    with torch.no_grad():
        outputs = network(single=single, branches=branches).eval()(image())
    assert outputs.aux is None
    main = upsample(outputs.main, (129, 257)) if name.startswith("BDL") else outputs.main
    check_outputs(Outputs(main, None), NETWORKS[name]["eval/float64"], TOLERANCE["float64"])


def test_outputs_of_maxsquare_are_upsampled_and_main_first() -> None:
    with torch.no_grad():
        outputs = network(branches=2).eval()(image())
    golden = NETWORKS["MaxSquareLoss_multi_r1121"]["eval/float64"]
    check(upsample(outputs.main, (129, 257)), golden["out0"], TOLERANCE["float64"])
    check(upsample(outputs.aux, (129, 257)), golden["out1"], TOLERANCE["float64"])


def test_outputs_of_resnet101() -> None:
    with torch.no_grad():
        outputs = network((3, 4, 23, 3), torch.float32).eval()(image(torch.float32))
    check_outputs(outputs, NETWORKS["ESL_multi_r101"]["eval/float32"], 5e-5)


def test_discriminator() -> None:
    golden = GOLDEN["discriminator"]
    model = Discriminator(19)
    assert list(model.state_dict()) == [f"{i}.{kind}" for i in (0, 2, 4, 6, 8) for kind in ("weight", "bias")]
    assert sum(p.numel() for p in model.parameters()) == golden["params"]
    for name, figures in golden.items():
        if not isinstance(figures, dict):
            continue
        head, size, kind = name.split("/")
        height, width = map(int, size.split("x"))
        prob = torch.from_numpy(det.logits(7, 1, 19, height, width, 3)).softmax(1)
        det.fill(model, f"{head}.")
        with torch.no_grad():
            check(model(prob if kind == "softmax_in" else self_information(prob)), figures, TOLERANCE["float32"])


@pytest.mark.parametrize("size", GOLDEN["shapes"])
def test_shapes(size: str) -> None:
    height, width = map(int, size.split("x"))
    with torch.device("meta"):
        model, discriminator = DeepLabV2(19, SMALL), Discriminator(19)
        outputs = model(torch.empty(1, 3, height, width))
        judged = discriminator(torch.empty(1, 19, height, width))
    assert {"aux": list(outputs.aux.shape), "main": list(outputs.main.shape), "D": list(judged.shape)} == GOLDEN[
        "shapes"
    ][size]
