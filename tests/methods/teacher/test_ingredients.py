"""Every ingredient of the step against its definition, by hand or against an independent way to the same number."""

from __future__ import annotations

import colorsys
import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from esl_dist.methods.teacher import classmix, labels, masks, photometric, quantiles
from esl_dist.methods.teacher.draws import between, stream

# -- labels and their weight -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_q_counts_pixels_at_or_above_tau_over_the_batch(dtype: torch.dtype) -> None:
    confidence = torch.tensor([[[0.97, 0.5], [0.99, 0.968]], [[0.9, 0.968], [0.1, 0.2]]], dtype=dtype)
    counts = labels.confident(confidence, 0.968)
    assert counts.tolist() == [[3, 4], [1, 4]] and counts.sum(0).tolist() == [4, 8]


def test_labels_and_doubts_by_hand() -> None:
    prob = torch.tensor([[0.5, 0.2], [0.25, 0.2], [0.25, 0.6]]).view(1, 3, 1, 2)
    made = labels.guess(prob, "entropy")
    assert made.labels.tolist() == [[[0, 2]]] and made.labels.dtype == torch.uint8
    torch.testing.assert_close(made.confidence, torch.tensor([[[0.5, 0.6]]]))
    entropy = [-sum(p * np.log(p) for p in column) / np.log(3) for column in ([0.5, 0.25, 0.25], [0.2, 0.2, 0.6])]
    assert made.doubt is not None
    torch.testing.assert_close(made.doubt, torch.tensor([[entropy]], dtype=torch.float32))
    torch.testing.assert_close(labels.guess(prob, "probability").doubt, torch.tensor([[[0.5, 0.4]]]))
    torch.testing.assert_close(labels.guess(prob, "margin").doubt, torch.tensor([[[0.75, 0.6]]]))
    assert labels.guess(prob).doubt is None
    with pytest.raises(ValueError, match=r"teacher\.select\.by.*mood"):
        labels.guess(prob, "mood")


# -- ClassMix ----------------------------------------------------------------------------------------------------------

LABELS = torch.tensor([[[0, 0, 1], [2, 255, 1]], [[3, 3, 3], [3, 0, 255]]], dtype=torch.uint8)


def test_whoever_judges_must_agree_on_the_class() -> None:
    """The teacher's labels stay; where the mean is for another class there is nothing but doubt."""
    prob = torch.tensor([[0.9, 0.6], [0.1, 0.4]]).view(1, 2, 1, 2)
    mean = torch.tensor([[0.7, 0.3], [0.3, 0.7]]).view(1, 2, 1, 2)
    for kind, doubt in (("probability", 0.3), ("margin", 0.6), ("entropy", 0.8813)):
        found = labels.guess(prob, kind, mean)
        assert found.labels.tolist() == [[[0, 0]]] and found.confidence.flatten().tolist() == pytest.approx([0.9, 0.6])
        assert found.doubt is not None and found.doubt.flatten().tolist() == pytest.approx([doubt, 1.0], abs=1e-4)


def test_the_class_list_of_the_batch_and_of_the_image() -> None:
    counts = classmix.class_counts(LABELS, 5)
    assert counts.tolist() == [[2, 2, 1, 0, 0, 1], [1, 0, 0, 4, 0, 1]]
    batch = classmix.listed(counts, counts.sum(0), "batch")
    assert batch.tolist() == [[True, True, True, True, False, True]] * 2  # what is ignored is one more class
    assert classmix.listed(counts, counts.sum(0), "image").tolist() == [
        [True, True, True, False, False, False],
        [True, False, False, True, False, False],
    ]


def test_half_of_the_classes_rounded_up_every_one_alike() -> None:
    present = torch.tensor([True, False, True, True, True, True]).expand(4000, 6)
    chosen = classmix.draw_classes(present, stream(3, "mix"), range(4000))
    assert bool((chosen.sum(1) == 3).all()) and not bool(chosen[:, 1].any())
    share = chosen[:, [0, 2, 3, 4, 5]].double().mean(0)
    assert float((share - 0.6).abs().max()) < 0.03
    again = classmix.draw_classes(present[:2], stream(3, "mix"), [17, 5])
    assert torch.equal(again, chosen[[17, 5]])  # whatever else is in the batch


def test_the_mask_takes_the_drawn_classes() -> None:
    chosen = torch.tensor([[True, False, False, False, False, True], [False, False, False, True, False, False]])
    mask = classmix.paste_mask(LABELS, chosen)
    expected = [[[True, True, False], [False, True, False]], [[True, True, True], [True, False, False]]]
    assert mask.tolist() == expected


# -- colours -----------------------------------------------------------------------------------------------------------


def picture(height: int = 12, width: int = 17) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))


def test_hue_saturation_and_value_are_the_standard_librarys() -> None:
    image = picture()
    image[:, 0, 0], image[:, 0, 1] = 0.0, 0.5
    expected = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in image.flatten(1).T.tolist()])
    found = torch.stack(photometric.hsv(image)).flatten(1).T.numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)
    torch.testing.assert_close(photometric.rgb(*photometric.hsv(image)), image, atol=2e-6, rtol=0)
    torch.testing.assert_close(photometric.turn_hue(photometric.turn_hue(image, 0.3), -0.3), image, atol=4e-6, rtol=0)


def test_a_blur_is_a_normalised_gaussian_with_mirrored_borders() -> None:
    impulse = torch.zeros(3, 41, 41)
    impulse[:, 20, 20] = 1
    blurred = photometric.blur(impulse, 0.6)  # 41 pixels: a kernel of 5
    line = np.exp(-0.5 * (np.arange(-2, 3) / 0.6) ** 2)
    line /= line.sum()
    np.testing.assert_allclose(blurred[0, 18:23, 18:23].numpy(), np.outer(line, line), atol=1e-7)
    assert float(blurred.sum()) == pytest.approx(3, abs=1e-5)
    flat = torch.full((3, 30, 50), 0.25)
    torch.testing.assert_close(photometric.blur(flat, 1.1), flat)
    assert [photometric.kernel_side(side) for side in (1024, 512, 8)] == [103, 51, 1]


def test_decisions_are_the_steps_and_factors_the_images() -> None:
    setting = photometric.DACS
    looks = [[photometric.look(setting, stream(5, "mix"), step, 2 * step + i) for i in range(2)] for step in range(400)]
    assert all(bool(a.jitter) == bool(b.jitter) and bool(a.sigma) == bool(b.sigma) for a, b in looks)
    assert all(dict(a.jitter) != dict(b.jitter) for a, b in looks if a.jitter)
    drawn = [own for pair in looks for own in pair]
    assert np.mean([bool(own.jitter) for own in drawn]) == pytest.approx(0.8, abs=0.06)
    assert np.mean([own.sigma > 0 for own in drawn]) == pytest.approx(0.5, abs=0.08)
    factors = np.array(
        [
            [dict(own.jitter)[name] for name in ("brightness", "contrast", "saturation", "hue")]
            for own in drawn
            if own.jitter
        ]
    )
    assert (np.abs(factors - [1, 1, 1, 0]) < 0.2).all() and (np.abs(factors - [1, 1, 1, 0]).max(0) > 0.19).all()
    sigmas = [own.sigma for own in drawn if own.sigma]
    assert 0.15 <= min(sigmas) < 0.2 and 1.1 < max(sigmas) < 1.15
    assert len({tuple(name for name, _ in own.jitter) for own in drawn}) == 25  # every order, and none
    own_decisions = dataclasses.replace(setting, together=False)
    split = [photometric.look(own_decisions, stream(5, "mix"), 0, position) for position in range(400)]
    assert 0.7 < np.mean([bool(own.jitter) for own in split]) < 0.9


@pytest.mark.parametrize("colours", ["shift", "blend"])
def test_an_image_looks_the_same_whatever_is_beside_it(colours: str) -> None:
    images = torch.stack([picture(), picture().flip(-1)])
    looks = [photometric.look(photometric.DACS, 11, 7, position) for position in (14, 15)]
    both = photometric.augmented(images, looks, colours)
    assert torch.equal(both[1:], photometric.augmented(images[1:], looks[1:], colours))
    assert both.shape == images.shape and float(both.min()) >= 0 and float(both.max()) <= 1
    assert torch.equal(photometric.augmented(images, [photometric.Look((), False, 0.0)] * 2, colours), images)


def test_two_libraries_meanings_of_brightness_contrast_and_saturation() -> None:
    image = picture()
    torch.testing.assert_close(photometric.SHIFT["brightness"](image, 1.1), image + 0.1)
    torch.testing.assert_close(photometric.BLEND["brightness"](image, 1.1), image * 1.1)
    torch.testing.assert_close(photometric.SHIFT["contrast"](image, 0.9), image * 0.9)
    mean = (image * torch.tensor(photometric.GREY).view(3, 1, 1)).sum(0).mean()
    torch.testing.assert_close(photometric.BLEND["contrast"](image, 0.9), 0.9 * image + 0.1 * mean)
    grey = photometric.BLEND["saturation"](image, 0.0)
    torch.testing.assert_close(grey[0], grey[2])
    torch.testing.assert_close(
        photometric.hsv(photometric.SHIFT["saturation"](image, 0.5))[1], photometric.hsv(image)[1] / 2
    )


# -- masks -------------------------------------------------------------------------------------------------------------


def test_mask_grids_and_the_share_that_is_kept() -> None:
    assert [masks.grid_size((side, side), block) for side, block in ((1024, 64), (1120, 64), (512, 32))] == [
        (16, 16),
        (18, 18),
        (16, 16),
    ]
    keep = masks.block_mask((64, 96), 32, 0.7, stream(0, "mask"), range(3000))
    assert keep.shape == (3000, 1, 64, 96) and float(keep.double().mean()) == pytest.approx(0.3, abs=0.01)
    blocks = keep.view(3000, 2, 32, 3, 32)
    assert bool((blocks == blocks[:, :, :1, :, :1]).all())
    assert torch.equal(masks.block_mask((64, 96), 32, 0.7, stream(0, "mask"), [41]), keep[41:42])


def test_a_masked_pixel_has_the_mean_colour() -> None:
    images, mean = torch.full((1, 3, 2, 2), 9, dtype=torch.float32), torch.tensor([1.0, 2.0, 3.0])
    keep = torch.tensor([[[[True, False], [True, True]]]])
    out = masks.masked(images, keep, mean)
    assert out[0, :, 0, 1].tolist() == [1, 2, 3] and int((out == 9).sum()) == 9


# -- ESL's thresholds within the stream --------------------------------------------------------------------------------


def test_the_threshold_is_the_bin_of_the_sorted_order_statistic() -> None:
    generator = torch.Generator().manual_seed(2)
    label = torch.randint(0, 4, (3, 40, 50), generator=generator, dtype=torch.uint8)
    label[label == 2] = 255  # class 2 is absent
    doubt = torch.rand(3, 40, 50, generator=generator) ** 3
    doubt[0, 0, :3] = torch.tensor([0.0, 1.0, 1e-9])
    counts = quantiles.histogram(label, doubt, 4)
    assert counts.sum(1).tolist() == [int((label == c).sum()) for c in range(4)]
    for share in (Fraction(1, 2), Fraction(1, 5), Fraction(1)):
        found = quantiles.quantile_edges(counts, share)
        for c in (0, 1, 3):
            own = doubt[label == c].sort().values
            exact = own[-(-len(own) * share.numerator // share.denominator) - 1]
            assert quantiles.bins_of(exact) == quantiles.bins_of(found[c]) and exact <= found[c]
            keeps = int(quantiles.kept(label, doubt, found)[label == c].sum())
            assert keeps >= share * len(own) and keeps == int(
                (quantiles.bins_of(own) <= quantiles.bins_of(exact)).sum()
            )
        assert found[2] == -1 and not bool(quantiles.kept(label, doubt, found)[label == 255].any())
    assert float(quantiles.bins_of(torch.tensor([float("nan")]))) == quantiles.BINS - 1


def test_the_window_forgets_and_a_resume_goes_on_the_same() -> None:
    steps = [torch.randint(0, 50, (3, quantiles.BINS), generator=torch.Generator().manual_seed(i)) for i in range(9)]
    running = quantiles.RunningQuantiles(3, 4, Fraction(1, 2))
    for step, counts in enumerate(steps):
        running.add(running.slot(step), counts)
        assert torch.equal(running.total, torch.stack(steps[max(0, step - 3) : step + 1]).sum(0))
        resumed = quantiles.RunningQuantiles(3, 4, Fraction(1, 2))
        resumed.recall(running.memory())
        assert torch.equal(resumed.total, running.total)
        running = resumed
    assert float(running.thresholds(0.9).min()) == pytest.approx(0.9)
    with pytest.raises(ValueError, match="window"):
        quantiles.RunningQuantiles(3, 5, Fraction(1, 2)).recall(running.memory())


# -- draws -------------------------------------------------------------------------------------------------------------


def test_purposes_share_no_draw() -> None:
    assert stream(1, "mix") != stream(1, "mask") != stream(2, "mask")
    values = [between(-2, 3, stream(1, "mix"), number, 0) for number in range(2000)]
    assert -2 <= min(values) < -1.9 and 2.9 < max(values) < 3
