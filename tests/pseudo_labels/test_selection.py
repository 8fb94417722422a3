"""Order statistics against a full sort: thousands of small cases for every rule, and the published thresholds'
arithmetic.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.pseudo_labels.scores.keys import HIGH_BINS, KEY_LIMIT, at_least, at_most, keys, scores
from esl_dist.pseudo_labels.selection import class_quantiles
from esl_dist.pseudo_labels.sets import files as write
from esl_dist.pseudo_labels.thresholds import counting
from esl_dist.pseudo_labels.thresholds import order as ranks
from esl_dist.pseudo_labels.thresholds.rules import portion_of, thresholds, wanted_ranks

RULES = ("keep", "lower", "upper", "reference")
SHARES = (Fraction(1, 2), Fraction(1, 3), Fraction(1, 10), Fraction(9, 10), Fraction(1))


def draw_scores(draw: np.random.RandomState, n: int) -> np.ndarray:
    """Scores as they may come: spread, tied, all equal, denormal, signed zeros, at the edges of the bins."""
    kind = draw.randint(7)
    if kind == 0:
        values = draw.random_sample(n)
    elif kind == 1:
        values = draw.randint(0, 3, n) / 2
    elif kind == 2:
        values = np.full(n, draw.random_sample())
    elif kind == 3:
        return draw.randint(0, 50, n).astype(np.uint32).view(np.float32)
    elif kind == 4:
        values = draw.choice([0.0, -0.0, -1e-9, 1e-30], n)
    elif kind == 5:
        edge = np.uint32(draw.randint(1, 0x3F80)) << np.uint32(16)
        return (edge + draw.randint(-2, 3, n).astype(np.int64)).astype(np.uint32).view(np.float32)
    else:
        values = 10.0 ** draw.uniform(-12, 0, n)
    return values.astype(np.float32)


def expected_rank(rule: str, n: int, kind: str, share: Fraction) -> int:
    """The rules as they are stated, by other means than the code: float where float is exact, counting
    where it is not.
    """
    if rule == "lower":
        return math.floor((n - 1) / 2)
    if rule == "upper":
        return math.floor(n / 2)
    if rule == "reference":
        return min(int(np.round(n * 0.5)), n - 1)
    wanted = math.ceil(share * n)
    smallest = next(k for k in range(n) if k + 1 >= wanted)
    return smallest if kind == "entropy" else n - 1 - smallest


@pytest.mark.parametrize("kind", ["entropy", "probability"])
def test_quantiles_equal_a_full_sort_in_thousands_of_cases(kind: str) -> None:
    draw = np.random.RandomState(5)
    checked = 0
    for case in range(250):
        num_classes = int(draw.randint(2, 8))
        shards = []
        for _ in range(draw.randint(0, 4)):
            n = int(draw.choice([0, 1, 2, 3, 7, 40]))
            label = draw.randint(0, num_classes, n).astype(np.uint8)
            label[draw.random_sample(n) < 0.1] = 255
            shards.append((label, draw_scores(draw, n)))
        everything = [
            np.concatenate(parts) if parts else np.zeros(0, t)
            for parts, t in zip(zip(*shards, strict=True) if shards else ((), ()), (np.uint8, np.float32), strict=True)
        ]
        rule = RULES[case % 4]
        share = SHARES[case % 5]
        found = class_quantiles(shards, num_classes, rule, share=share, kind=kind)  # type: ignore[arg-type]
        assert found.dtype == np.float32 and found.shape == (num_classes,)
        for c in range(num_classes):
            values = np.sort(np.maximum(everything[1][everything[0] == c], 0))
            if len(values) == 0:
                assert np.isnan(found[c])
            else:
                assert found[c] == values[expected_rank(rule, len(values), kind, share)]
            checked += 1
    assert checked > 1000


def test_ranks_of_every_rule_for_every_small_class() -> None:
    """2,000 class sizes by 5 shares, 2 confidences and 4 rules, in integers alone."""
    for n in range(1, 500):
        for kind in ("entropy", "probability"):
            for share in SHARES:
                for rule in RULES:
                    assert ranks.rank_of(rule, n, kind, share) == expected_rank(rule, n, kind, share)  # type: ignore[arg-type]
    assert [ranks.reference(n) for n in (1, 2, 3, 5, 7)] == [0, 1, 2, 2, 4]
    assert ranks.keep(10**18 + 1, "entropy") == 5 * 10**17  # a float64 could not tell this from one less
    assert [ranks.portion(n, "probability", Fraction(1, 5)) for n in (1, 4, 5, 10)] == [0, 3, 4, 8]


def test_keep_keeps_at_least_half_and_no_tighter_threshold_does() -> None:
    draw = np.random.RandomState(3)
    for n in [*range(1, 40), 997]:
        values = draw.randint(0, max(2, n // 2), n).astype(np.float32) / 1000
        label = np.zeros(n, np.uint8)
        nu = class_quantiles([(label, values)], 1)[0]
        assert 2 * (values <= nu).sum() >= n and 2 * (values < nu).sum() < n
        mu = class_quantiles([(label, values)], 1, kind="probability")[0]
        assert 2 * (values >= mu).sum() >= n and 2 * (values > mu).sum() < n


def test_a_generator_and_torch_tensors_are_read_as_well() -> None:
    label, score = torch.randint(0, 3, (4, 8, 9), dtype=torch.uint8), torch.rand(4, 8, 9)
    from_list = class_quantiles(list(zip(label, score, strict=True)), 3)
    assert (class_quantiles(zip(label, score, strict=True), 3) == from_list).all()
    assert (class_quantiles([(label, score)], 3) == from_list).all()


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf, 1.01, 17.0])
def test_scores_that_no_network_gives_are_refused_and_counted(bad: float) -> None:
    score = np.full((2, 3), 0.5, np.float32)
    score[1, 1] = bad
    with pytest.raises(ValueError, match="1 of 6 scores are NaN, infinite or above 1"):
        class_quantiles([(np.zeros((2, 3), np.uint8), score)], 1)


def test_labels_outside_the_classes_and_unequal_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="label 7 where the classes are 0 to 6"):
        class_quantiles([(np.array([0, 7], np.uint8), np.zeros(2, np.float32))], 7)
    with pytest.raises(ValueError, match="2 labels for 3 scores"):
        class_quantiles([(np.zeros(2, np.uint8), np.zeros(3, np.float32))], 7)


def test_bounds_are_rounded_to_the_side_that_changes_no_comparison() -> None:
    draw = np.random.RandomState(0)
    for value in [0.0, 0.1, 0.5, 0.9, 1.0, *draw.random_sample(200)]:
        low, high = (scores(np.array([f(value)]))[0] for f in (at_most, at_least))
        assert float(low) <= value <= float(high)
        assert float(np.nextafter(low, np.float32(2))) > value
        assert value == 0 or float(np.nextafter(high, np.float32(-1))) < value


def brute_force(
    setting: PseudoLabelConfig, label: np.ndarray, score: np.ndarray, num_classes: int, share: Fraction
) -> np.ndarray:
    """The rule in float64 over all pixels at once."""
    keep = np.zeros(label.shape, bool)
    for c in range(num_classes):
        mine = label == c
        values = np.sort(score[mine].astype(np.float64))
        if not len(values):
            continue
        if setting.rule in ("esl", "median"):
            t = max(
                setting.nu if setting.rule == "esl" else 0.0,
                values[expected_rank(setting.rank, len(values), "entropy", Fraction(1, 2))],
            )
            keep |= mine & ((score <= t) if setting.ties == "keep" else (score < t))
        elif setting.rule == "ssl":
            t = min(setting.mu, values[expected_rank(setting.rank, len(values), "probability", Fraction(1, 2))])
            keep |= mine & ((score >= t) if setting.ties == "keep" else (score > t))
        else:
            keep |= mine & (score >= values[len(values) - max(int(share * len(values)), 1)])
    return np.where(keep, label, 255)


def test_thresholds_and_masks_of_every_rule_equal_brute_force_in_float64() -> None:
    draw = np.random.RandomState(11)
    for case in range(1500):
        num_classes, n = int(draw.randint(1, 5)), int(draw.choice([1, 2, 3, 5, 30]))
        label = draw.randint(0, num_classes, n).astype(np.uint8)
        score = np.maximum(draw_scores(draw, n), np.float32(0)) + np.float32(0)
        rule = ("esl", "ssl", "median", "cbst")[case % 4]
        fixed = float(draw.choice([0.0, 0.1, 0.5, 1.0, float(score[0]) if score[0] <= 1 else 0.3]))
        setting = PseudoLabelConfig(
            rule=rule,
            nu=fixed,
            mu=fixed,
            rank=RULES[draw.randint(4)],
            ties=("keep", "drop")[draw.randint(2)],
            portion=float(draw.choice([0.2, 0.35, 0.5])),
        )  # type: ignore[arg-type]
        if rule == "cbst":
            setting = PseudoLabelConfig(rule="cbst", portion=setting.portion)
        count = np.bincount(label, minlength=num_classes)
        wanted = wanted_ranks(setting, count)
        key = keys(score)
        found = np.array(
            [int(np.sort(key[label == c])[wanted[c]]) if count[c] else -1 for c in range(num_classes)], np.int64
        )
        limits = thresholds(setting, count, found)
        expected = brute_force(setting, label, score, num_classes, portion_of(setting, 0))
        masked, kept = counting.mask(label, key, limits.first, limits.last)
        assert (masked == expected).all() and (kept == np.bincount(expected, minlength=256)).all(), (case, setting)


def test_masks_and_second_pass_counts_without_numba_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.RandomState(2)
    label = draw.randint(0, 5, 4000).astype(np.uint8)
    key = keys(draw.random_sample(4000).astype(np.float32))
    first, last = draw.randint(0, KEY_LIMIT, (2, 5)).astype(np.int64)
    cells = counting.Cells.of(np.stack([key[:5] >> 16, key[5:10] >> 16]).astype(np.int64), HIGH_BINS)
    found = []
    for available in (True, False):
        if not available:
            monkeypatch.setattr(counting, "compiled", lambda: None)
        low = cells.empty()
        counting.count_low(low, cells, label, key)
        found.append((low, *counting.mask(label, key, first, last)))
    assert found[0][0].sum() > 0 and all((a == b).all() for a, b in zip(*found, strict=True))


def test_an_absent_class_has_the_fixed_bound_and_no_median() -> None:
    count, found = np.array([3, 0]), np.array([at_most(0.75), -1])
    for rule, bound in (("esl", 0.1), ("ssl", 0.9)):
        limits = thresholds(PseudoLabelConfig(rule=rule), count, found)  # type: ignore[arg-type]
        assert limits.statistic[0] == 0.75 and np.isnan(limits.statistic[1])
        assert limits.threshold[0] == 0.75 and abs(float(limits.threshold[1]) - bound) < 1e-7


def test_cbst_portions_grow_by_rounds_up_to_a_half() -> None:
    setting = PseudoLabelConfig(rule="cbst")
    assert [portion_of(setting, r) for r in (0, 1, 5, 6, 9)] == [
        Fraction(1, 5),
        Fraction(1, 4),
        Fraction(9, 20),
        Fraction(1, 2),
        Fraction(1, 2),
    ]


def test_a_png_is_read_back_as_it_was_written() -> None:
    import io

    from PIL import Image

    draw = np.random.RandomState(4)
    for shape in ((1, 1), (1, 9), (7, 1), (33, 65)):
        label = draw.choice([0, 3, 18, 255], shape).astype(np.uint8)
        image = Image.open(io.BytesIO(write.png(label)))
        assert image.mode == "L" and (np.asarray(image) == label).all()
