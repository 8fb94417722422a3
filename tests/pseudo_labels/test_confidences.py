"""Rules by other confidences: exact thresholds per class and over all, margins, means over views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.pseudo_labels.scores import spec
from esl_dist.pseudo_labels.selection import class_quantiles
from esl_dist.pseudo_labels.sets.label_weights import confidence_weights
from esl_dist.pseudo_labels.sets.views import Views, resized
from tests.pseudo_labels.common import SIZE, hashes, numbers, run, small_logits

LOGITS = [small_logits(i) for i in range(10)]
HEIGHT_WIDTH = (SIZE[1], SIZE[0])


def scored(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores of all images, ``[N, H, W]``."""
    label = np.stack([spec.score(z, HEIGHT_WIDTH)[0] for z in LOGITS])
    place = {"entropy": 1, "probability": 2}
    if kind in place:
        return label, np.stack([spec.score(z, HEIGHT_WIDTH)[place[kind]] for z in LOGITS])
    return label, np.stack([spec.margins(z, HEIGHT_WIDTH)[kind == "logit_margin"] for z in LOGITS])


def labels(out: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted((out / "labels").rglob("*.png"))])


@pytest.mark.parametrize("scope", ["class", "global"])
@pytest.mark.parametrize("kind", ["entropy", "probability", "margin", "logit_margin"])
@pytest.mark.parametrize("share", [0.5, 0.3])
def test_every_confidence_keeps_the_share_that_a_plain_sort_says(
    kind: str, scope: str, share: float, tmp_path: Path
) -> None:
    setting = PseudoLabelConfig(rule="median", confidence=kind, scope=scope, share=share, margin=1)  # type: ignore[arg-type]
    (made,) = run(LOGITS, tmp_path, setting)
    label, score = scored(kind)
    keep = np.zeros(label.shape, bool)
    for c in range(5):
        of_class = label == c
        values = np.sort(score[of_class] if scope == "class" else score, axis=None)
        if not of_class.any():
            assert made.thresholds["classes"][c]["median"] is None
            continue
        kept = int(np.ceil(np.float64(len(values)) * share - 1e-9))
        threshold = values[kept - 1] if kind == "entropy" else values[len(values) - kept]
        assert made.thresholds["classes"][c]["median"] == threshold == made.thresholds["classes"][c]["threshold"]
        keep |= of_class & (score <= threshold if kind == "entropy" else score >= threshold)
    assert (labels(made.out) == np.where(keep, label, 255)).all()
    assert made.thresholds["confidence"] == kind and made.thresholds["kept"] == keep.sum() >= share * keep.size


def test_a_margin_is_held_against_its_bound(tmp_path: Path) -> None:
    (made,) = run(LOGITS, tmp_path, PseudoLabelConfig(rule="margin", margin=0.5))
    label, score = scored("logit_margin")
    for c in range(4):
        values = np.sort(score[label == c])
        median = values[len(values) - -(-len(values) // 2)]
        assert made.thresholds["classes"][c]["threshold"] == min(median, np.float32(0.5))
    assert made.thresholds["margin"] == 0.5
    shards = list(zip(label, score, strict=True))
    found = class_quantiles(shards, 5, kind="logit_margin")
    assert found[:4].tolist() == [entry["median"] for entry in made.thresholds["classes"][:4]] and np.isnan(found[4])


def test_margins_are_the_same_from_every_spool(tmp_path: Path) -> None:
    settings = [PseudoLabelConfig(rule="margin"), PseudoLabelConfig(rule="median", confidence="margin", margin=1)]
    found = []
    for content in ("scores", "logits", "memory", "none"):
        made = run(LOGITS, tmp_path / content, *settings, spool=content, weights=True)
        found.append(([numbers(a) for a in made], [hashes(a.out) for a in made]))
    assert all(one == found[0] for one in found)


def test_what_no_rule_can_select_by_is_refused() -> None:
    for options, key in (
        ({"rule": "esl", "confidence": "margin", "margin": 0.5}, "confidence"),
        ({"rule": "margin", "confidence": "margin"}, r"margin: must be at most 1"),
        ({"rule": "cbst", "scope": "global"}, "scope"),
        ({"rank": "upper", "share": 0.3}, "share"),
        ({"views_scales": ()}, "views_scales"),
    ):
        with pytest.raises(ValueError, match=rf"pseudo_labels\.{key}"):
            PseudoLabelConfig(**options)  # type: ignore[arg-type]


def test_weights_of_a_margin_of_logits_are_the_odds() -> None:
    score = np.array([[0.0, np.log(2), np.log(4), 50]], np.float32)
    found = confidence_weights(np.zeros((1, 4), np.uint8), score, "logit_margin")
    assert found.tolist() == [[1, 128, 191, 255]]


def network(images: torch.Tensor) -> torch.Tensor:
    """Logits at a quarter of the size that know left from right and big from small."""
    small = torch.nn.functional.avg_pool2d(images.float() / 64, 4)
    ramp = torch.linspace(-1, 1, small.shape[-1])
    return torch.stack([small[:, 0] + ramp, small[:, 1] - ramp, small[:, 2] * small.shape[-1] / 10], 1)


def test_the_mean_over_views_is_that_of_their_probabilities() -> None:
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = torch.softmax(Views(mirror=True, scales=(1.0, 0.5)).through(network)(images), 1)
    expected = torch.zeros_like(found)
    for scale in (1.0, 0.5):
        for flip in (False, True):
            view = resized(images, scale)
            prob = torch.softmax(network(view.flip(-1) if flip else view), 1)
            prob = prob.flip(-1) if flip else prob
            expected += torch.nn.functional.interpolate(prob, found.shape[-2:], mode="bilinear", align_corners=True) / 4
    assert torch.allclose(found, expected, atol=1e-6)
    # a mirrored image has the mirrored mean, whatever the network thinks of left and right
    both = Views(mirror=True).through(network)
    assert torch.allclose(both(images.flip(-1)).flip(-1), both(images), atol=1e-5)
    assert Views().through(network) is network and Views().plain


class TwoHeaded:
    """The network above, and an aux head that is half as sure."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return network(images)

    def heads(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [network(images), network(images) / 2]


def test_heads_are_averaged_where_there_are_two() -> None:
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = torch.softmax(Views(heads=True).through(TwoHeaded(), 2.0)(images), 1)
    expected = (torch.softmax(network(images) / 2, 1) + torch.softmax(network(images) / 4, 1)) / 2
    assert torch.allclose(found, expected, atol=1e-6) and str(Views(heads=True)) == "heads x1"
    with pytest.raises(ValueError, match=r"views_heads: the network has one head"):
        Views(heads=True).through(network)
    hot = Views().through(network, 4.0)(images)
    assert torch.equal(hot, network(images) / 4)


class Taught(TwoHeaded):
    """A student, and a teacher that sees the image upside down."""

    def other(self, images: torch.Tensor) -> torch.Tensor:
        return network(images.flip(-2))


def test_teacher_and_student_are_averaged_in_every_view() -> None:
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    views = Views(mirror=True, teacher=True)
    found = torch.softmax(views.through(Taught())(images), 1)
    both = [Views(mirror=True).through(forward)(images) for forward in (network, Taught().other)]
    expected = (torch.softmax(both[0], 1) + torch.softmax(both[1], 1)) / 2
    assert torch.allclose(found, expected, atol=1e-6)
    assert str(views) == "mirror teacher x1" and views.forwards == 4
    with pytest.raises(ValueError, match=r"views_teacher: there is one network"):
        views.through(network)


def test_rule_views_has_a_spool_of_its_own_beside_the_others(tmp_path: Path) -> None:
    lines: list[str] = []
    plain, views = run(
        LOGITS, tmp_path, PseudoLabelConfig(rule="ssl"), PseudoLabelConfig(rule="views", views_mirror=True), lines=lines
    )
    assert lines.count("network loaded") == 2
    # a mirrored picture has number 0 where the table looks for its number
    mirrored = spec.softmax(LOGITS[0])[:, :, ::-1]
    mean = [np.log((spec.softmax(z) + mirrored) / 2) for z in LOGITS]
    (alone,) = run(
        [np.maximum(z, -87).astype(np.float32) for z in mean], tmp_path / "mean", PseudoLabelConfig(rule="ssl")
    )
    ours, theirs = labels(views.out), labels(alone.out)
    assert (ours == theirs).mean() > 0.999 and (ours != labels(plain.out)).any()
    assert views.thresholds["fingerprint"]["views"] == "mirror x1" and "views" not in plain.thresholds["fingerprint"]
    assert (
        len(list((tmp_path / "spool").glob("rank*.h5")))
        == len(list((tmp_path / "spool").glob("views-*/rank*.h5")))
        == 4
    )
