"""Batches to the device while the device works on the ones before."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from esl_dist.data.loader import Batch


def prefetched(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches, images, labels and weights on ``device``, uint8 as they are: a quarter of the bytes, and they
    are normalised there.

    On CUDA the next batch is copied on a stream of its own (without the host where its memory is page-locked, as the
    loader's is), so one batch more than is used has been read. On the CPU nothing is copied.
    """
    return _Prefetched(batches, device) if device.type == "cuda" else batches


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A small tensor of the host on ``device``, through page-locked memory: the host does not wait for the device."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


class _Prefetched(Iterator[Batch]):
    def __init__(self, batches: Iterator[Batch], device: torch.device) -> None:
        self._batches, self._device = batches, device
        self._stream = torch.cuda.Stream(device)
        self._ready = self._copy()

    def _copy(self) -> Batch:
        batch = next(self._batches)
        with torch.cuda.stream(self._stream):
            labels, weights = (
                None if tensor is None else tensor.to(self._device, non_blocking=True)
                for tensor in (batch.labels, batch.weights)
            )
            return batch._replace(
                images=batch.images.to(self._device, non_blocking=True), labels=labels, weights=weights
            )

    def __next__(self) -> Batch:
        batch, current = self._ready, torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        for tensor in (batch.images, batch.labels, batch.weights):
            if tensor is not None:
                tensor.record_stream(current)  # its memory goes to no other copy while this stream still reads it
        self._ready = self._copy()
        return batch
