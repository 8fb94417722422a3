"""A trained segmenter as a function from uint8 images to logits, for extraction and evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from esl_dist.config.schema import Config
from esl_dist.distributed import collectives, ddp
from esl_dist.distributed.capture import Captured
from esl_dist.distributed.runtime import Runtime
from esl_dist.labels import protocol
from esl_dist.models import Segmenter, empty_segmenter
from esl_dist.models.weights import load_trained
from esl_dist.runs import CheckpointFolder


class Predictor:
    """Main-head logits of a network in eval mode.

    The bits of a forward depend on the batch shape, so callers keep it fixed and pad (see ``data/loader.py``).
    """

    def __init__(self, network: Segmenter, runtime: Runtime, precision: str = "fp32") -> None:
        self.network = network
        self.runtime = runtime
        self.arithmetic = runtime.inference(precision)
        captured = Captured(lambda images: {"logits": self._forward(images)}, list, "the forward", warm=1)
        self._captured = captured if runtime.captures else None

    @classmethod
    def from_checkpoint(cls, config: Config, checkpoint: Path, runtime: Runtime, precision: str = "fp32") -> Predictor:
        """The network of ``config.model`` with the weights of a checkpoint folder, ``segmenter.pt`` or any lineage's
        file.

        Raises:
            ValueError: the file holds another architecture, is not readable, or gives the main head no weights.
        """
        network = empty_segmenter(config.model, protocol(config.data.classes).num_classes, config.data)
        file = CheckpointFolder(checkpoint).segmenter if checkpoint.is_dir() else checkpoint
        load_trained(file, network, config.model.layout)
        return cls(runtime.place(network), runtime, precision)

    @torch.inference_mode()
    def __call__(self, images_u8: Tensor) -> Tensor:
        """uint8 RGB ``[B, 3, H, W]`` to float32 logits ``[B, C, h, w]`` at the network's output stride."""
        self.network.eval()
        images = images_u8.to(self.runtime.device, non_blocking=True)
        return self._captured(images)["logits"] if self._captured else self._forward(images)

    @torch.inference_mode()
    def heads(self, images_u8: Tensor) -> list[Tensor]:
        """As ``__call__``, of the main head and the aux head.

        Raises:
            ValueError: the network has no aux head.
        """
        if not self.network.multi_level:
            raise ValueError(
                "pseudo_labels.views_heads: the network has one head; leave it off, or train with multi_level=true"
            )
        self.network.eval()
        with self.arithmetic.applied(), self.arithmetic.autocast():
            outputs = self.network(self._normalised(images_u8))
        return [logits.float().contiguous() for logits in (outputs.main, outputs.aux) if logits is not None]

    def _normalised(self, images_u8: Tensor) -> Tensor:
        images: Tensor = self.network.normalisation(images_u8.to(self.runtime.device))
        return images.contiguous(memory_format=torch.channels_last)

    def _forward(self, images_u8: Tensor) -> Tensor:
        images = self._normalised(images_u8)
        with self.arithmetic.applied(), self.arithmetic.autocast():
            logits: Tensor = self.network(images).main
        return logits.float().contiguous()

    @contextlib.contextmanager
    def statistics(self, kind: str, batches: Iterable[Tensor]) -> Iterator[None]:
        """Inside: batch norm uses ``running`` statistics as trained, or ``target`` ones re-estimated on unlabelled
        ``batches``.

        The re-estimate is the plain average over the batches, made by rank 0 and sent to all, so that every rank infers
        with the same bits. ``batches`` (uint8 ``[B, 3, H, W]``) is read on rank 0 only. The trained statistics come
        back afterwards.
        """
        if kind == "running":
            yield
            return
        norms = [m for m in self.network.modules() if isinstance(m, _BatchNorm)]
        buffers = dict(ddp.float_buffers(self.network))
        saved = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        momenta = [norm.momentum for norm in norms]
        if collectives.is_main():
            self._reestimate(norms, batches)
        for buffer in buffers.values():
            collectives.broadcast_(buffer)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        try:
            yield
        finally:
            for name, buffer in self.network.named_buffers():
                buffer.copy_(saved[name])

    @torch.no_grad()
    def _reestimate(self, norms: list[_BatchNorm], batches: Iterable[Tensor]) -> None:
        self.network.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative average
            nn.Module.train(norm, True)
        for images in batches:
            self._forward(images)
        self.network.eval()
