"""Scaled dot-product attention whose gradient has a fixed order in a deterministic run.

Torch's fused kernels on CUDA add their gradients in whatever order comes, unless torch's deterministic mode is strict.
A run's is not (``distributed.arithmetic``), because it would refuse other operations that repeat their bits in fact; so
it is made strict around the attention alone, forward, where a kernel is chosen, and backward. In a compiled network it
cannot be.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_BEHIND = 3
"""Operations that torch may put behind its kernel, such as cutting off channels that it has filled up."""


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``softmax(q k^T / sqrt(d)) v`` of ``[N, heads, tokens, d]``."""
    if not _is_to_repeat(q):
        return F.scaled_dot_product_attention(q, k, v)
    with _strictly():
        out = F.scaled_dot_product_attention(q, k, v)
    node = _fused(out.grad_fn)
    if node is not None:
        around = contextlib.ExitStack()
        node.register_prehook(lambda grads: around.enter_context(_strictly()))
        node.register_hook(lambda found, grads: around.close())
    return out


def _is_to_repeat(q: Tensor) -> bool:
    return q.is_cuda and torch.are_deterministic_algorithms_enabled() and not torch.compiler.is_compiling()


@contextlib.contextmanager
def _strictly() -> Iterator[None]:
    """Inside, torch's deterministic mode is strict."""
    before = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=before)


def _fused(node: Any) -> Any:
    """The backward of a fused kernel, at ``node`` or behind it; None where attention was made of other operations."""
    for _ in range(1 + _BEHIND):
        if node is None or "ScaledDotProduct" in node.name():
            return node
        before = [found for found, _ in node.next_functions if found is not None]
        node = before[0] if len(before) == 1 else None
    return None
