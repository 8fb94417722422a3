"""Every implementation of the exact scores gives the specification's bits, and the specification gives the right
numbers.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from esl_dist.pseudo_labels import confidence
from esl_dist.pseudo_labels.scores import banded, eager, golden, keys, library, scorer, spec
from esl_dist.pseudo_labels.scores.kinds import KINDS, Kind
from tests.ranks import ROOT

FAMILIES = ("random", "near-uniform", "one-hot", "huge gap", "tied", "constant", "peaked")


def logits(family: str, num_classes: int, h: int, w: int, seed: int) -> np.ndarray:
    draw = np.random.RandomState(seed)
    z = draw.standard_normal((num_classes, h, w))
    if family == "random":
        z *= 4
    elif family == "near-uniform":
        z *= 1e-6
    elif family == "one-hot":
        z = np.where(draw.randint(0, num_classes, (h, w)) == np.arange(num_classes)[:, None, None], 100.0, -100.0)
    elif family == "huge gap":
        z *= 400
    elif family == "tied":
        z = draw.randint(-1, 2, z.shape).astype(float)
    elif family == "constant":
        z[:] = 3.25
    elif family == "peaked":
        z[draw.randint(num_classes)] += 12
    return z.astype(np.float32)


CASES = [
    (7, 5, 6, 33, 20),
    (16, 9, 17, 64, 131),
    (19, 9, 17, 71, 128),
    (19, 3, 2, 2, 3),
    (2, 1, 1, 5, 1),
    (19, 65, 33, 65, 33),
    (5, 8, 8, 1, 1),
    (19, 4, 7, 90, 8),
]
"""Classes, input height and width, output height and width."""


def differing(a: object, b: object) -> int:
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype and a.shape == b.shape
    return int((a.view(np.uint8) != b.view(np.uint8)).sum())


def each_case() -> list[tuple[np.ndarray, tuple[int, int]]]:
    return [
        (logits(family, c, h, w, seed), (height, width))
        for seed, (c, h, w, height, width) in enumerate(CASES)
        for family in FAMILIES
    ]


def specified(z: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, dict[Kind, np.ndarray]]:
    """Label and every confidence as the specification has them."""
    label, entropy, probability = spec.score(z, size)
    margin, logit_margin = spec.margins(z, size)
    return label, {"entropy": entropy, "probability": probability, "margin": margin, "logit_margin": logit_margin}


def wrong_bits(expected: tuple[np.ndarray, dict[Kind, np.ndarray]], label: object, maps: Mapping[Kind, object]) -> int:
    """Bytes that differ from the specification, over the label and the given confidences."""
    return differing(expected[0], label) + sum(differing(expected[1][kind], values) for kind, values in maps.items())


def miscounted(expected: tuple[np.ndarray, dict[Kind, np.ndarray]], high: Mapping[Kind, object]) -> int:
    """Cells of the first-pass histograms that are not what the specification's scores give."""
    wrong = 0
    for kind, histogram in high.items():
        counts = np.zeros(np.asarray(histogram).shape, np.int64)
        keys.count_high(counts, expected[0].reshape(-1), expected[1][kind].view(np.uint32).reshape(-1))
        wrong += int((np.asarray(histogram) != counts).sum())
    return wrong


SUBSETS: tuple[tuple[Kind, ...], ...] = (
    KINDS,
    ("probability",),
    ("entropy",),
    ("logit_margin",),
    ("margin", "entropy"),
)


def test_torch_eager_has_the_bits_of_the_specification() -> None:
    for number, (z, size) in enumerate(each_case()):
        expected = specified(z, size)
        for kinds in (KINDS, SUBSETS[number % len(SUBSETS)]):
            label, maps = eager.score(torch.from_numpy(z), size, kinds)
            assert set(maps) == set(kinds) and wrong_bits(expected, label, maps) == 0


def test_numpy_in_blocks_has_the_bits_of_the_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    for block in (banded.BLOCK, 1 << 8):
        monkeypatch.setattr(banded, "BLOCK", block)
        scratch = banded.Scratch()
        for number, (z, size) in enumerate(each_case()):
            expected = specified(z, size)
            for kinds in (KINDS, SUBSETS[number % len(SUBSETS)]):
                label, maps = np.empty(size, np.uint8), {kind: np.empty(size, np.float32) for kind in kinds}
                banded.score(z, label, maps, scratch)
                assert wrong_bits(expected, label, maps) == 0


def test_numba_has_the_bits_of_the_specification_and_its_histograms_count_every_pixel() -> None:
    compiled = pytest.importorskip("esl_dist.pseudo_labels.scores.compiled", reason="numba is not installed")
    for number, (z, size) in enumerate(each_case()):
        expected = specified(z, size)
        for kinds in (KINDS, SUBSETS[number % len(SUBSETS)]):
            label, maps = np.empty(size, np.uint8), {kind: np.empty(size, np.float32) for kind in kinds}
            high = {kind: np.zeros((len(z), keys.high_bins(kind)), np.int64) for kind in kinds}
            compiled.score(z, label, maps, high)
            assert wrong_bits(expected, label, maps) == 0 and miscounted(expected, high) == 0


TRITON = """
import json, sys, numpy as np, torch
from esl_dist.pseudo_labels.scores import kernel, keys
from tests.pseudo_labels.test_scores import CASES, FAMILIES, KINDS, SUBSETS, logits, miscounted, specified, wrong_bits
result = []
whole = sys.argv[1] == "all"
few = [(7, 5, 6, 17, 20), (16, 2, 3, 9, 140), (19, 3, 2, 2, 3)]
for seed, (c, h, w, height, width) in enumerate(CASES if whole else few):
    for number, family in enumerate(FAMILIES):
        z = logits(family, c, h, w, seed)
        kinds = SUBSETS[(seed + number) % len(SUBSETS)]
        high = {kind: torch.zeros(c, keys.high_bins(kind), dtype=torch.int64) for kind in kinds}
        label, maps = kernel.score(torch.from_numpy(z), (height, width), kinds, high)
        expected = specified(z, (height, width))
        assert set(maps) == set(kinds)
        result.append(wrong_bits(expected, label, maps) + miscounted(expected, high))
print(json.dumps(result))
"""


@pytest.mark.parametrize("cases", ["few", pytest.param("all", marks=pytest.mark.slow)])
def test_the_triton_kernel_has_the_bits_of_the_specification_in_its_interpreter(cases: str) -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", TRITON, cases], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    wrong = json.loads(done.stdout)
    assert len(wrong) == len(FAMILIES) * (3 if cases == "few" else len(CASES)) and not any(wrong)


@pytest.mark.parametrize("capability", [80, 90])
def test_the_compiled_triton_kernel_fuses_no_multiply_add(capability: int) -> None:
    triton = pytest.importorskip("triton", reason="triton is not installed")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from esl_dist.pseudo_labels.scores import kernel

    maps = [f"{kind}_out" for kind in ("label", "entropy", "best", "margin", "logit_margin")]
    types = {"wide": "*fp32", **dict.fromkeys(("first_row", "row_count", "top", "bottom"), "*i32"), "weight": "*fp32"}
    types |= {name: "*u8" if name == "label_out" else "*fp32" for name in maps}
    types |= dict.fromkeys(("high_entropy", "high_best", "high_margin", "high_logit_margin"), "*i64")
    types |= {"width": "i32", "plane": "i32", "scale": "fp32"}
    bins = {"BINS": keys.HIGH_BINS, "LOGIT_BINS": keys.high_bins("logit_margin")}
    constants = {"NUM_CLASSES": 19, **bins, "WANTED": 15, "COUNTED": 15, "ROWS": kernel.ROWS, "COLUMNS": kernel.COLUMNS}
    source = ASTSource(
        fn=kernel._scores, signature={**types, **dict.fromkeys(constants, "constexpr")}, constexprs=constants
    )
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"enable_fp_fusion": False})
    # ".rn" forbids the assembler to contract; a fused build of the same kernel has fma.rn and plain mul.f32
    assert set(re.findall(r"\b(?:fma|mul|add|sub)\S*f32", made.asm["ptx"])) <= {
        "mul.rn.f32",
        "add.rn.f32",
        "sub.rn.f32",
    }
    assert "mul.rn.f32" in made.asm["ptx"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: the compiled kernel is not run")
def test_the_compiled_kernel_has_the_bits_of_the_specification_on_the_gpu() -> None:
    from esl_dist.pseudo_labels.scores import kernel

    for z, size in each_case():
        label, maps = kernel.score(torch.from_numpy(z).cuda(), size, KINDS)
        assert wrong_bits(specified(z, size), label.cpu(), {kind: values.cpu() for kind, values in maps.items()}) == 0


def test_threads_do_not_change_a_bit_of_torch_eager() -> None:
    z = torch.from_numpy(logits("random", 19, 33, 65, 1))
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            label, maps = eager.score(z, (130, 257), KINDS)
            found.append((label, *maps.values()))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_the_specification_agrees_with_float64() -> None:
    for family in FAMILIES:
        z = logits(family, 19, 17, 33, 3)
        label, entropy, probability = spec.score(z, (65, 129))
        p = torch.nn.functional.interpolate(
            torch.softmax(torch.from_numpy(z).double(), 0)[None], size=(65, 129), mode="bilinear", align_corners=True
        )[0]
        exact = (torch.special.entr(p).sum(0) / np.log(19)).numpy()
        assert np.abs(entropy - exact).max() < 5e-7
        assert np.abs(probability - p.amax(0).numpy()).max() < 5e-7
        assert (
            np.abs(np.take_along_axis(p.numpy(), label[None].astype(np.int64), 0)[0] - p.amax(0).numpy()).max() < 2e-7
        )


def test_exact_zeros_give_no_nan_and_ties_take_the_first_class() -> None:
    z = np.full((4, 2, 2), -1000, np.float32)
    z[2] = 0
    label, entropy, probability = spec.score(z, (5, 5))
    assert (label == 2).all() and (entropy == 0).all() and (probability == 1).all()
    label, entropy, probability = spec.score(np.zeros((4, 2, 2), np.float32), (5, 5))
    assert (label == 0).all() and (probability == 0.25).all() and np.abs(entropy - 1).max() < 1e-6


def test_library_scores_are_torchs_and_refuse_the_nan_that_the_published_log_gives() -> None:
    z = torch.from_numpy(logits("random", 19, 17, 33, 3))
    p = torch.nn.functional.interpolate(torch.softmax(z, 0)[None], size=(65, 129), mode="bilinear", align_corners=True)[
        0
    ]
    label, maps = library.score(z, (65, 129), KINDS)
    assert torch.equal(label.long(), p.argmax(0)) and torch.equal(maps["probability"], p.amax(0))
    assert torch.allclose(maps["entropy"], torch.special.entr(p).sum(0) / np.log(19), atol=1e-6)
    exact = specified(z.numpy(), (65, 129))[1]
    for kind, error in (("margin", 1e-6), ("logit_margin", 1e-3)):
        assert np.abs(maps[kind].numpy() - exact[kind]).max() < error
    zeros = torch.from_numpy(logits("one-hot", 19, 5, 5, 0))
    score = scorer.scoring("library").score
    for kind in ("entropy", "logit_margin"):
        with pytest.raises(ValueError, match="NaN or infinite"):
            score(zeros, scorer.Wanted((9, 9), (kind,)))
    assert set(score(zeros, scorer.Wanted((9, 9), ("probability", "margin"))).maps) == {"probability", "margin"}, (
        "what is not read"
    )


def test_cbst_labels_have_the_same_bits_in_torch_and_in_the_specification() -> None:
    thresholds = np.random.RandomState(0).uniform(0.2, 1, 19).astype(np.float32)
    for family in FAMILIES:
        z = logits(family, 19, 17, 33, 3)
        expected = spec.relabel(z, (65, 129), thresholds)
        assert (scorer.relabel("exact", torch.from_numpy(z), (65, 129), thresholds) == expected).all()
        q = spec.probabilities(z, (65, 129)) / thresholds[:, None, None]
        assert (expected == np.where(q.max(0) >= 1, q.argmax(0), 255)).all()


def test_a_machine_that_computes_other_bits_is_refused() -> None:
    for spoiled in KINDS:

        def wrong(z: torch.Tensor, size: tuple[int, int], kinds: Sequence[Kind], spoiled: Kind = spoiled) -> Any:
            label, maps = eager.score(z, size, kinds)
            maps[spoiled][0, 0] += 1e-6
            return label, maps

        with pytest.raises(ValueError, match="some kernel does not give the specified bits"):
            golden.check("some kernel", wrong, torch.device("cpu"))
    assert scorer.scoring("exact").name.startswith("exact")


def test_margins_are_those_of_the_two_best_classes() -> None:
    for family in FAMILIES:
        z = logits(family, 19, 17, 33, 3)
        margin, logit_margin = spec.margins(z, (65, 129))
        two = np.sort(spec.probabilities(z, (65, 129)), 0)[-2:]
        assert (margin == two[1] - two[0]).all()
        exact = np.log(np.maximum(two.astype(np.float64), 2.0**-126))
        assert np.abs(logit_margin - (exact[1] - exact[0])).max() < 2e-5
        # where nothing is interpolated it is the distance of the two largest logits, as far as probabilities tell
        _, still = spec.margins(z, (17, 33))
        top = np.sort(z.astype(np.float64), 0)[-2:]
        inside = top[1] - top[0] < 80
        assert np.abs(still - (top[1] - top[0]))[inside].max(initial=0) < 2e-5


def test_confidence_map_takes_batches_and_numpy_and_says_what_is_wrong() -> None:
    z = logits("random", 7, 5, 9, 0)
    expected = spec.score(z, (17, 20))
    label, entropy = confidence.confidence_map(torch.from_numpy(z), (17, 20), "entropy")
    assert label.dtype == torch.uint8 and differing(entropy.numpy(), expected[1]) == 0
    label, probability = confidence.confidence_map(np.stack([z, z]), (17, 20), "probability")
    assert (
        isinstance(probability, np.ndarray)
        and probability.shape == (2, 17, 20)
        and differing(probability[1], expected[2]) == 0
    )
    for bad in (np.nan, np.inf, -np.inf):
        broken = z.copy()
        broken[3, 1, 1] = bad
        with pytest.raises(ValueError, match="NaN or infinite"):
            confidence.confidence_map(broken, (17, 20), "entropy")
    _, margin = confidence.confidence_map(z, (17, 20), "logit_margin")
    assert differing(margin, spec.margins(z, (17, 20))[1]) == 0
    with pytest.raises(ValueError, match="kind: unknown 'energy'"):
        confidence.confidence_map(z, (17, 20), "energy")
    with pytest.raises(ValueError, match=r"expected \[C, h, w\]"):
        confidence.confidence_map(z[0], (17, 20), "entropy")
