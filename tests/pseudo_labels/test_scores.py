"""Every implementation of the exact scores gives the specification's bits, and the specification gives the right
numbers.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from esl_dist.pseudo_labels import confidence, scores
from esl_dist.pseudo_labels.scores import eager, library, spec
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


def test_torch_eager_has_the_bits_of_the_specification() -> None:
    for z, size in each_case():
        assert [
            differing(a, b) for a, b in zip(spec.score(z, size), eager.score(torch.from_numpy(z), size), strict=True)
        ] == [0, 0, 0]


def test_numba_has_the_bits_of_the_specification_and_its_histograms_count_every_pixel() -> None:
    compiled = pytest.importorskip("esl_dist.pseudo_labels.scores.compiled", reason="numba is not installed")
    from esl_dist.pseudo_labels.keys import HIGH_BINS

    for z, size in each_case():
        out = np.empty(size, np.uint8), np.empty(size, np.float32), np.empty(size, np.float32)
        high = [np.zeros((len(z), HIGH_BINS), np.int64) for _ in range(2)]
        compiled.score(z, *out, *high)
        expected = spec.score(z, size)
        assert [differing(a, b) for a, b in zip(expected, out, strict=True)] == [0, 0, 0]
        for histogram, score in zip(high, expected[1:], strict=True):
            cell = expected[0].astype(np.int64) * HIGH_BINS + (score.view(np.uint32) >> 16)
            assert (histogram.reshape(-1) == np.bincount(cell.reshape(-1), minlength=histogram.size)).all()


TRITON = """
import json, sys, numpy as np, torch
from esl_dist.pseudo_labels.keys import HIGH_BINS
from esl_dist.pseudo_labels.scores import kernel, spec
from tests.pseudo_labels.test_scores import CASES, FAMILIES, differing, logits
result = []
whole = sys.argv[1] == "all"
few = [(7, 5, 6, 17, 20), (16, 2, 3, 9, 140), (19, 3, 2, 2, 3)]
for seed, (c, h, w, height, width) in enumerate(CASES if whole else few):
    for family in FAMILIES:
        z = logits(family, c, h, w, seed)
        high = [torch.zeros(c, HIGH_BINS, dtype=torch.int64) for _ in range(2)]
        expected, found = spec.score(z, (height, width)), kernel.score(torch.from_numpy(z), (height, width), *high)
        wrong = sum(differing(a, b.numpy()) for a, b in zip(expected, found))
        for histogram, score in zip(high, expected[1:]):
            cell = expected[0].astype(np.int64) * HIGH_BINS + (score.view(np.uint32) >> 16)
            counts = np.bincount(cell.reshape(-1), minlength=histogram.numel())
            wrong += int((histogram.numpy().reshape(-1) != counts).sum())
        result.append(wrong)
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

    types = {
        "wide": "*fp32",
        "first_row": "*i32",
        "row_count": "*i32",
        "top": "*i32",
        "bottom": "*i32",
        "weight": "*fp32",
        "label_out": "*u8",
        "entropy_out": "*fp32",
    }
    types |= {
        "best_out": "*fp32",
        "high_entropy": "*i64",
        "high_probability": "*i64",
        "width": "i32",
        "plane": "i32",
        "scale": "fp32",
    }
    constants = {
        "NUM_CLASSES": 19,
        "BINS": 16257,
        "COUNT_ENTROPY": True,
        "COUNT_PROBABILITY": True,
        "ROWS": kernel.ROWS,
        "COLUMNS": kernel.COLUMNS,
    }
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
        found = kernel.score(torch.from_numpy(z).cuda(), size)
        assert [differing(a, b.cpu().numpy()) for a, b in zip(spec.score(z, size), found, strict=True)] == [0, 0, 0]


def test_threads_do_not_change_a_bit_of_torch_eager() -> None:
    z = torch.from_numpy(logits("random", 19, 33, 65, 1))
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(eager.score(z, (130, 257)))
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
    label, entropy, probability = library.score(z, (65, 129))
    assert torch.equal(label.long(), p.argmax(0)) and torch.equal(probability, p.amax(0))
    assert torch.allclose(entropy, torch.special.entr(p).sum(0) / np.log(19), atol=1e-6)
    with pytest.raises(ValueError, match="NaN"):
        scores.scorer("library")[1](torch.from_numpy(logits("one-hot", 19, 5, 5, 0)), (9, 9), None, None)


def test_cbst_labels_have_the_same_bits_in_torch_and_in_the_specification() -> None:
    thresholds = np.random.RandomState(0).uniform(0.2, 1, 19).astype(np.float32)
    for family in FAMILIES:
        z = logits(family, 19, 17, 33, 3)
        expected = spec.relabel(z, (65, 129), thresholds)
        assert (scores.relabel("exact", torch.from_numpy(z), (65, 129), thresholds) == expected).all()
        q = spec.probabilities(z, (65, 129)) / thresholds[:, None, None]
        assert (expected == np.where(q.max(0) >= 1, q.argmax(0), 255)).all()


def test_a_machine_that_computes_other_bits_is_refused() -> None:
    def wrong(z: torch.Tensor, size: tuple[int, int], high: object = None, out: object = None) -> scores.Scores:
        found = scores.Scores(*eager.score(z, size))
        found.entropy[0, 0] += 1e-7
        return found

    name, _ = scores.scorer("exact")
    assert name.startswith("exact")
    with pytest.raises(ValueError, match="some kernel does not give the specified bits"):
        scores.check_golden_tile("some kernel", wrong, torch.device("cpu"))


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
    with pytest.raises(ValueError, match="kind: unknown 'margin'"):
        confidence.confidence_map(z, (17, 20), "margin")
    with pytest.raises(ValueError, match=r"expected \[C, h, w\]"):
        confidence.confidence_map(z[0], (17, 20), "entropy")
