"""Dropout and stochastic depth: functions of an image's key, whoever else is in its batch."""

from __future__ import annotations

import pytest
import torch

from esl_dist.models import stochastic
from esl_dist.models.stochastic import ChannelDropout, DropPath
from tests.models.transformers.common import built, images

KEYS = torch.tensor([3, -7, 1 << 60, 12])


def test_an_images_draws_are_its_own() -> None:
    """One rank with four images, or four with one each."""
    layer = ChannelDropout(0.4).train()
    x = torch.ones(4, 50, 2, 3)
    with stochastic.drawing(KEYS):
        together = layer(x)
    for i in range(4):
        with stochastic.drawing(KEYS[i : i + 1]):
            torch.testing.assert_close(layer(x[i : i + 1]), together[i : i + 1], rtol=0, atol=0)
    assert sorted(together.unique().tolist()) == [0.0, pytest.approx(1 / 0.6)]
    assert not torch.equal(together[0], together[1])


def test_rates_are_met() -> None:
    numbers = stochastic.uniform(torch.arange(500), 4, 200)
    assert numbers.dtype == torch.float64 and numbers.min() >= 0 and numbers.max() < 1
    assert numbers.mean().item() == pytest.approx(0.5, abs=0.005) and (
        numbers < 0.1
    ).double().mean().item() == pytest.approx(0.1, abs=0.004)
    others = stochastic.uniform(torch.arange(500), 5, 200)
    both = torch.corrcoef(torch.stack([numbers.flatten(), others.flatten()]))
    assert abs(both[0, 1].item()) < 0.01, "two modules draw apart"


def test_places_differ_in_a_network() -> None:
    network = built("daformer", drop_path=0.5)
    places = [m.place for m in network.modules() if isinstance(m, DropPath | ChannelDropout)]
    assert len(set(places)) == len(places) == 2 * 5 + 1


def test_nothing_is_drawn_where_nothing_must_be() -> None:
    layer, x = ChannelDropout(0.5), torch.ones(2, 40, 1, 1)
    with stochastic.still():
        assert torch.equal(layer.train()(x), x) and DropPath(0.5).train().factor(x) is None
    assert torch.equal(layer.eval()(x), x)
    assert not torch.equal(layer.train()(x), x), "torch's generator, where nobody said what to draw from"
    with stochastic.drawing(KEYS[:2]), stochastic.another_pass(1):
        again = layer(x)
    with stochastic.drawing(KEYS[:2]):
        assert not torch.equal(layer(x), again)


def test_keys_must_fit_the_batch() -> None:
    with pytest.raises(AssertionError, match="4 keys for 2 images"), stochastic.drawing(KEYS):
        ChannelDropout(0.5).train()(torch.ones(2, 4, 1, 1))
    with pytest.raises(ValueError, match="drop rate"):
        DropPath(1.0)


@pytest.mark.parametrize("name", ["daformer", "vfm_uda", "vfm_uda_plus", "hrda-daformer"])
def test_a_network_repeats_itself(name: str) -> None:
    """The same keys and common number, the same logits; another key, others. Torch's generator is not read."""
    network = built(name, drop_path=0.4).train()
    x, state = images(), torch.random.get_rng_state()
    with stochastic.drawing(KEYS[:2], torch.tensor([9])), torch.no_grad():
        first, again = network(x).main, network(x).main
    with stochastic.drawing(KEYS[1:3], torch.tensor([9])), torch.no_grad():
        other = network(x).main
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)
