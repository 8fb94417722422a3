"""Resizing like Pillow, augmentation that depends on (seed, position) only, normalisation as published."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from esl_dist.data.sampler import uniform
from esl_dist.data.transforms import augment, gaussian_blur, resize_image, resize_label


def photo(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Smooth shapes with edges and some noise, as a photograph has."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    smooth = np.array(Image.fromarray(small).resize(size, Image.Resampling.BILINEAR), np.int16)
    smooth[:, size[0] // 2 :] //= 2
    return np.clip(smooth + generator.integers(-8, 9, smooth.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("native", "wanted"),
    [
        ((191, 105), (128, 72)),
        ((128, 76), (64, 38)),
        ((100, 50), (150, 90)),
        ((204, 102), (102, 51)),
        ((64, 48), (100, 30)),
    ],
)
def test_images_are_resized_as_pillow_does(native: tuple[int, int], wanted: tuple[int, int]) -> None:
    image = photo(native)
    found = resize_image(image, wanted)
    expected = np.array(Image.fromarray(image).resize(wanted, Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert found.dtype == torch.uint8 and found.shape == (3, wanted[1], wanted[0]) and found.is_contiguous()
    assert np.abs(found.numpy().astype(int) - expected).max() <= 2
    assert np.abs(found.numpy().astype(int) - expected).mean() < 0.3


def test_an_image_of_the_right_size_is_only_laid_out_anew() -> None:
    image = photo((20, 10))
    found = resize_image(image, (20, 10))
    assert np.array_equal(found.numpy(), image.transpose(2, 0, 1))
    found.zero_()
    assert image.any()


@pytest.mark.parametrize(
    ("native", "wanted"),
    [
        ((1914, 1052), (1280, 720)),
        ((2048, 1024), (1024, 512)),
        ((1280, 760), (97, 53)),
        ((7, 5), (13, 11)),
        ((480, 360), (320, 240)),
    ],
)
def test_labels_take_the_nearest_pixel(native: tuple[int, int], wanted: tuple[int, int]) -> None:
    """Output pixel x shows input pixel floor((x + 1/2) * in/out); a tie falls to either side of the edge it lies on."""
    rows, columns = np.arange(native[1]), np.arange(native[0])
    for axis, (before, after) in enumerate(((native[1], wanted[1]), (native[0], wanted[0]))):
        index = (rows[:, None] + 0 * columns) if axis == 0 else (0 * rows[:, None] + columns)
        found = sum(
            resize_label((index >> shift & 255).astype(np.uint8), wanted).numpy().astype(int) << shift
            for shift in (0, 8)
        )
        exact = (2 * np.arange(after) + 1) * before
        low, tie = exact // (2 * after), exact % (2 * after) == 0
        shown = found[:, 0] if axis == 0 else found[0]
        assert ((shown == low) | (tie & (shown == low - 1))).all()
        assert (found == (shown[:, None] if axis == 0 else shown[None])).all()


def test_a_label_keeps_its_ids() -> None:
    label = np.random.default_rng(0).choice(np.array([0, 3, 18, 255], np.uint8), (33, 41))
    assert set(resize_label(label, (16, 9)).flatten().tolist()) <= {0, 3, 18, 255}
    assert np.array_equal(resize_label(label, (41, 33)).numpy(), label)


def sample() -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.from_numpy(photo((40, 24)).transpose(2, 0, 1).copy())
    return image, torch.arange(24 * 40).view(24, 40).to(torch.uint8)


def test_augmentation_is_a_function_of_seed_and_position() -> None:
    image, label = sample()
    seen = set()
    for position in range(200):
        first, again = (augment(image, label, seed=3, position=position, mirror=0.5, blur=0.5) for _ in range(2))
        assert (
            torch.equal(first[0], again[0])
            and first[1] is not None
            and again[1] is not None
            and torch.equal(first[1], again[1])
        )
        mirrored = not torch.equal(first[1], label)
        assert torch.equal(first[1], label.flip(-1)) or not mirrored
        blurred = not torch.equal(first[0], image.flip(-1) if mirrored else image)
        seen.add((mirrored, blurred))
    assert len(seen) == 4
    assert torch.equal(image, sample()[0])


def test_mirroring_does_not_depend_on_blurring() -> None:
    image, label = sample()
    for position in range(50):
        without = augment(image, label, seed=1, position=position, mirror=0.5, blur=0)[1]
        with_blur = augment(image, label, seed=1, position=position, mirror=0.5, blur=1)[1]
        assert without is not None and with_blur is not None and torch.equal(without, with_blur)


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 1.0])
def test_probabilities(probability: float) -> None:
    image = torch.arange(8, dtype=torch.uint8).view(1, 1, 8).expand(3, 1, 8)
    count = sum(
        not torch.equal(augment(image, None, seed=7, position=p, mirror=probability, blur=0)[0], image)
        for p in range(2000)
    )
    assert abs(count / 2000 - probability) <= 0.035  # three standard deviations
    assert (count == 0) == (probability == 0) and (count == 2000) == (probability == 1)


@pytest.mark.parametrize("sigma", [0.3, 0.5, 0.7, 0.95, 2.0])
def test_blur_is_gaussian(sigma: float) -> None:
    """Against the float64 convolution, and of Pillow's approximate kind."""
    image, _ = sample()
    found = gaussian_blur(image, sigma).numpy().astype(float)
    radius = int(np.ceil(3 * sigma))
    bell = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    bell /= bell.sum()
    padded = np.pad(image.numpy().astype(float), ((0, 0), (radius, radius), (radius, radius)), mode="edge")
    across = sum(w * padded[..., k : k + 40] for k, w in enumerate(bell))
    exact = sum(w * across[:, k : k + 24] for k, w in enumerate(bell))
    assert np.abs(found - exact).max() <= 0.75  # half a level of rounding, and the kernel's eleven bits
    pillow = np.array(
        Image.fromarray(image.permute(1, 2, 0).numpy()).filter(ImageFilter.GaussianBlur(sigma)), float
    ).transpose(2, 0, 1)
    assert np.abs(found - pillow).mean() < 1.5


def test_blur_leaves_the_even_alone() -> None:
    for value in (0, 1, 128, 254, 255):
        flat = torch.full((3, 9, 9), value, dtype=torch.uint8)
        assert torch.equal(gaussian_blur(flat, 0.9), flat)
    image, _ = sample()
    assert torch.equal(gaussian_blur(image, 0.0), image)


def test_blur_is_the_same_bytes_for_any_number_of_threads() -> None:
    image = torch.from_numpy(photo((300, 200)).transpose(2, 0, 1).copy())
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = gaussian_blur(image, 0.8)
        torch.set_num_threads(4)
        assert torch.equal(gaussian_blur(image, 0.8), one)
    finally:
        torch.set_num_threads(threads)


def test_draws_are_uniform_and_independent() -> None:
    draws = np.array(
        [[uniform(seed, position, draw) for draw in range(3)] for seed in (0, 1) for position in range(3000)]
    )
    assert (draws >= 0).all() and (draws < 1).all()
    assert np.abs(draws.mean(0) - 0.5).max() < 0.02 and np.abs(draws.var(0) - 1 / 12).max() < 0.005
    assert np.abs(np.corrcoef(draws.T) - np.eye(3)).max() < 0.05
    assert np.abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.05
