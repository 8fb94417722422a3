"""The features alone are those that the whole forward gives."""

from __future__ import annotations

import pytest
import torch

from esl_dist.models import DeepLabV2
from esl_dist.models.segmenter import Featured, Segmenter
from tests.models.transformers.common import built, images


@pytest.mark.parametrize("name", ["deeplabv2", "daformer", "vfm_uda", "hrda-daformer"])
def test_features_alone(name: str) -> None:
    torch.manual_seed(0)
    network: Segmenter = DeepLabV2(5, layers=(1, 1, 1, 1), width=8).eval() if name == "deeplabv2" else built(name)
    x = images(1)
    with torch.no_grad():
        whole, alone = network(x, features=True), network.features_of(x)
    assert isinstance(whole, Featured) and torch.equal(whole.features, alone)
    assert alone.shape[2:] == network.feature_size((x.shape[2], x.shape[3]))
    assert alone.shape[1] == network.feature_channels
