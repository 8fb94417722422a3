"""Without a GPU: every launch of a kernel of ours compiles for an H100, to machine code, and its grid is one that CUDA
takes, at the sizes of a large step. The host's side runs on tensors without storage.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

triton = pytest.importorskip("triton", reason="triton is not installed")

MOST = (2**31 - 1, 65_535, 65_535)
"""Programs along the axes of a grid."""
TYPES = {
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.uint8: "u8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
}
HOPPER = 90
SHARED = 227 << 10
"""Bytes of shared memory that a program can have there."""


class Launches:
    """What a launch would compile and on what grid it would run."""

    def __init__(self) -> None:
        self.grids: list[tuple[str, tuple[int, ...]]] = []
        self._seen: set[str] = set()

    def run(self, kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        assert not warmup
        names = [parameter.name for parameter in kernel.params]
        given = dict(zip(names, args, strict=False)) | {name: kwargs[name] for name in kwargs if name in names}
        options = {name: value for name, value in kwargs.items() if name not in names}
        self.grids.append((kernel.__name__, tuple(grid)))
        self._compile(kernel, given, options)

    def _compile(self, kernel: Any, given: dict[str, Any], options: dict[str, Any]) -> None:
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        constant = {p.name: given[p.name] for p in kernel.params if p.is_constexpr}
        signature = {p.name: "constexpr" if p.name in constant else kind(given[p.name]) for p in kernel.params}
        key = repr((kernel.__name__, sorted(constant.items()), signature, options))
        if key in self._seen:
            return
        self._seen.add(key)
        aligned = {
            (i,): [["tt.divisibility", 16]] for i, p in enumerate(kernel.params) if signature[p.name].startswith("*")
        }
        source = ASTSource(kernel, signature, constant, aligned)
        made = triton.compile(source, target=GPUTarget("cuda", HOPPER, 32), options=options)
        assert made.asm["cubin"] and made.metadata.shared <= SHARED, (kernel.__name__, made.metadata.shared)


def kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return "*" + TYPES[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Launches]:
    seen = Launches()
    runner = lambda kernel, *args, **kwargs: seen.run(kernel, *args, **kwargs)  # noqa: E731
    monkeypatch.setattr(triton.runtime.jit.JITFunction, "run", runner)
    yield seen
    assert seen.grids
    for name, grid in seen.grids:
        assert all(0 < programs <= most for programs, most in zip(grid, MOST, strict=False)), (name, grid)


def meta(*shape: int, dtype: torch.dtype = torch.float32, last: bool = False) -> Tensor:
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device="meta", memory_format=layout)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_batch_norm_of_a_large_batch(dtype: torch.dtype, launches: Launches) -> None:
    """Sixteen images of 2048x1024 after a stem of stride 2: more tiles of rows than a grid's second axis takes."""
    from esl_dist.kernels import norm

    x = meta(16, 64, 512, 1024, dtype=dtype, last=True)
    channels = [meta(64) for _ in range(4)]
    running = norm.Running(channels[0], channels[1], meta(dtype=torch.int64), 0.1)
    found = norm.statistics(x, 1e-5, running)
    gathered = norm.statistics_of_all(x, 1e-5, running, lambda own: meta(8, *own.shape))
    assert gathered.rows.shape == (1,)
    for shortcut in (None, x):
        y = norm.normalise(x, found, channels[2], channels[3], shortcut, True)
        for other in (None, x):
            norm.gradients(
                (x, other), x, None if shortcut is None else y, found, (channels[2], channels[3]), True, True
            )
    norm.gradients((x, None), x, None, found, (channels[2], channels[3]), True, False)
    norm.gradients((x, None), x, None, found, (channels[2], channels[3]), False, True, lambda sums: sums)
    assert max(math.prod(grid) for _, grid in launches.grids) > MOST[1]


def test_heads(launches: Launches) -> None:
    from esl_dist.kernels import taps

    made = taps.shifted_sum(meta(4, 4 * 19 * 9, 129 * 257, dtype=torch.bfloat16), meta(4, 19), (129, 257), 6)
    assert taps.taps_gradient(made, 4, 6, torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("classes", [19, 64])
def test_losses(classes: int, launches: Launches) -> None:
    from esl_dist.kernels import losses

    logits, size = meta(4, classes, 129, 257), (1024, 2048)
    labels, weights = meta(4, *size, dtype=torch.uint8), meta(4, *size)
    losses.cross_entropy(logits, labels, weights, True)
    losses.cross_entropy(logits, labels, None, False)
    for information in (True, False):
        view = losses.view(logits, size, information, torch.bfloat16)
        assert losses.view_gradient(logits, view, information).shape == logits.shape


def test_scores_and_confusion(launches: Launches) -> None:
    from esl_dist.kernels import confusion
    from esl_dist.pseudo_labels.scores import kernel
    from esl_dist.pseudo_labels.scores.keys import high_bins
    from esl_dist.pseudo_labels.scores.kinds import KINDS

    high = {kind: meta(19, high_bins(kind), dtype=torch.int64) for kind in KINDS}
    label, maps = kernel.score(meta(19, 65, 129), (1024, 2048), KINDS, high)
    assert label.shape == (1024, 2048) and set(maps) == set(KINDS)
    kernel.score(meta(19, 65, 129), (1024, 2048), KINDS[:1])
    rows, columns = ((meta(n, dtype=torch.int64), meta(n)) for n in (1024, 2048))
    assert confusion.confusion(meta(19, 65, 129), rows, columns, meta(1024, 2048, dtype=torch.uint8)).shape == (19, 19)


def test_lower_digits(launches: Launches) -> None:
    """Of an image of 16384x16384 pixels."""
    from esl_dist.pseudo_labels.scores.keys import LOW_BINS, high_bins
    from esl_dist.pseudo_labels.thresholds import kernel

    image = meta(1 << 14, 1 << 14, dtype=torch.uint8), meta(1 << 14, 1 << 14, dtype=torch.int32)
    slot = meta(19, high_bins("entropy"), dtype=torch.int16)
    kernel.count_low(meta(40, LOW_BINS, dtype=torch.int64), slot, *image)
