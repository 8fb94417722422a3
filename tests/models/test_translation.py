"""CycleGAN's networks: the published sizes, what they compute, and that no image sees another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from esl_dist.config.schema import TranslateConfig
from esl_dist.models import Generator, PatchDiscriminator, build_translation
from esl_dist.models.translation import Reflect


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def counted(width: int, blocks: int) -> int:
    """Weights and biases of the generator, from the paper's list of layers."""
    down = (3 * 49 + 1) * width + (9 * width + 1) * 2 * width + (9 * 2 * width + 1) * 4 * width
    up = (9 * 4 * width + 1) * 2 * width + (9 * 2 * width + 1) * width + (49 * width + 1) * 3
    return down + blocks * 2 * (9 * 4 * width + 1) * 4 * width + up


def test_the_published_sizes() -> None:
    assert size(Generator()) == counted(64, 9) == 11_378_179
    assert size(Generator(6, 32)) == counted(32, 6)
    w = 64
    patch = (3 * 16 + 1) * w + (16 * w + 1) * 2 * w + (32 * w + 1) * 4 * w + (64 * w + 1) * 8 * w + 128 * w + 1
    assert size(PatchDiscriminator()) == patch == 2_764_737


def test_shapes() -> None:
    generator, discriminator = build_translation(TranslateConfig(blocks=2, width=4, discriminator_width=4), seed=0)
    images = torch.rand(2, 3, 64, 96) * 2 - 1
    made = generator(images)
    assert made.shape == images.shape and float(made.detach().abs().max()) <= 1
    assert discriminator(images).shape == (2, 1, 6, 10)
    one, _ = build_translation(TranslateConfig(blocks=1, width=4), seed=1)
    assert one(torch.rand(1, 3, 452, 452)).shape == (1, 3, 452, 452)


def test_a_cell_of_the_discriminator_sees_70_pixels() -> None:
    """Without its norms, which look at the whole image."""
    network = nn.Sequential(
        *[
            module
            for module in build_translation(TranslateConfig(discriminator_width=4), seed=3)[1]
            if not isinstance(module, nn.InstanceNorm2d)
        ]
    )
    for module in network:
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 0.01)
    images = torch.rand(1, 3, 256, 256, requires_grad=True)
    network(images)[0, 0, 15, 15].backward()
    assert images.grad is not None
    seen = images.grad[0].abs().sum(0).nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [70, 70]


def test_reflection_is_torchs() -> None:
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    assert torch.equal(Reflect(3)(x), F.pad(x, (3, 3, 3, 3), mode="reflect"))
    assert torch.autograd.gradcheck(Reflect(2), (x,))


def test_weights_follow_from_the_seed_and_images_from_themselves() -> None:
    options = TranslateConfig(blocks=2, width=8)
    generator, discriminator = build_translation(options, 7)
    again, _ = build_translation(options, 7)
    other, _ = build_translation(options, 8)
    same = [torch.equal(a, b) for a, b in zip(generator.parameters(), again.parameters(), strict=True)]
    assert all(same) and not torch.equal(next(generator.parameters()), next(other.parameters()))
    weights = torch.cat([p.detach().flatten() for p in generator.parameters() if p.dim() > 1])
    assert abs(float(weights.std()) - 0.02) < 5e-4 and abs(float(weights.mean())) < 5e-4
    images = torch.rand(3, 3, 32, 32)
    for network in (generator, discriminator):
        torch.testing.assert_close(network(images)[1:2], network(images[1:2]), rtol=1e-5, atol=1e-6)
