"""The training step written out as the lineage's public code runs it: what ``bench --what step`` is measured against.

float32 in contiguous order, heads as sums of dilated convolutions, logits upsampled whole, one backward after each loss
with its own all-reduce, two backwards a discriminator, the optimisers' default loops, every loss read at every step.
Re-created from the method's description; the same numbers as the package's step to float rounding (a test compares
twenty steps).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from esl_dist.config.schema import Config
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.optim import Poly
from esl_dist.engine.step import Pair
from esl_dist.labels import protocol
from esl_dist.methods import Stage
from esl_dist.models import build_discriminator, build_segmenter

HEADS = ("main", "aux")


class PlainStep:
    """Source training, or ADVENT's or AdaptSegNet's step, with pseudo-labels in self-training.

    Raises:
        ValueError: an objective that is not written out here.
    """

    def __init__(self, plan: Stage, config: Config, runtime: Runtime) -> None:
        objective = plan.settings.get("objective", "none")
        if (
            objective not in ("none", "advent", "adaptsegnet")
            or config.align.also
            or config.mmdl.weight
            or not config.model.multi_level
        ):
            raise ValueError(
                "bench: the plain step is written out for none, advent and adaptsegnet with two heads and nothing"
                f" added, not {objective}"
            )
        self.config, self.runtime, self.objective = config, runtime, objective
        self.learns_labels, self.adapts = bool(plan.labels), plan.role != "baseline"
        self.schedule = Poly.of(config.optim, plan.steps)
        self.num_classes = protocol(config.data.classes).num_classes
        segmenter = build_segmenter(config.model, self.num_classes, config.run.seed, config.data).plainly().train()
        self.normalisation = segmenter.normalisation
        self.segmenter = self._place(segmenter)
        optim = config.optim
        groups = [
            {"params": [p for _, p in group.parameters], "lr": optim.lr * (optim.head_lr if group.head else 1)}
            for group in segmenter.parameter_groups()
        ]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay)
        ]
        self.discriminators: dict[str, nn.Module] = {}
        if objective != "none":
            for number, head in enumerate(HEADS, start=1):
                self.discriminators[head] = self._place(
                    build_discriminator(config.model, self.num_classes, config.run.seed + number).train()
                )
                self.optimizers.append(
                    torch.optim.Adam(
                        self.discriminators[head].parameters(), lr=optim.discriminator_lr, betas=(0.9, 0.99)
                    )
                )
        self.base = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]

    def _place(self, network: nn.Module) -> nn.Module:
        network.to(self.runtime.device)
        return DistributedDataParallel(network) if self.runtime.world > 1 else network

    def images(self, pair: Pair) -> tuple[Tensor, Tensor | None]:
        """Normalised float32 images, as the public loaders hand them over."""
        target = None if pair.target is None else self.normalisation(pair.target.images).contiguous()
        return self.normalisation(pair.source.images).contiguous(), target

    def step(self, index: int, pair: Pair, images: tuple[Tensor, Tensor | None]) -> dict[str, float]:
        """Optimiser step ``index``; returns the losses under the package's names."""
        device, align = self.runtime.device, self.config.align
        factor = self.schedule(index)
        for optimizer, rates in zip(self.optimizers, self.base, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.zero_grad()
        losses: dict[str, float] = {}
        for network in self.discriminators.values():
            network.requires_grad_(False)

        assert pair.source.labels is not None
        source = self._upsampled(images[0].to(device))
        loss = self._cross_entropy(source, pair.source.labels.to(device), (1.0, align.source_aux), "source", losses)
        loss.backward()
        if images[1] is None or pair.target is None or not self.adapts:
            return self._update(losses)

        target = self._upsampled(images[1].to(device))
        loss = torch.zeros((), device=device)
        weights = {"main": align.weight, "aux": align.weight_aux}
        for head, network in self.discriminators.items():
            frozen = network.module if isinstance(network, DistributedDataParallel) else network
            adversarial = self._domain(frozen(self._view(target[head])), 0.0)
            losses[f"adv_{head}"] = adversarial.item()
            loss = loss + weights[head] * adversarial
        if self.learns_labels:
            assert pair.target.labels is not None
            own = self.config.selftrain
            loss = loss + self._cross_entropy(
                target, pair.target.labels.to(device), (own.weight, own.weight_aux), "target", losses
            )
        loss.backward()

        for network in self.discriminators.values():
            network.requires_grad_(True)
        for name, maps, domain in (("source", source, 0.0), ("target", target, 1.0)):
            for head, network in self.discriminators.items():
                loss = self._domain(network(self._view(maps[head].detach())), domain)
                (loss / 2).backward()
                losses[f"d_{head}_{name}"] = loss.item()
        return self._update(losses)

    def _update(self, losses: dict[str, float]) -> dict[str, float]:
        for optimizer in self.optimizers:
            optimizer.step()
        return losses

    def _upsampled(self, images: Tensor) -> dict[str, Tensor]:
        size = images.shape[2:]
        return {
            head: F.interpolate(logits, size=size, mode="bilinear", align_corners=True)
            for head, logits in zip(HEADS, self.segmenter(images), strict=True)
        }

    def _cross_entropy(
        self, logits: dict[str, Tensor], labels: Tensor, weights: Sequence[float], name: str, losses: dict[str, float]
    ) -> Tensor:
        total = torch.zeros((), device=labels.device)
        for head, weight in zip(HEADS, weights, strict=True):
            loss = F.cross_entropy(logits[head], labels.long(), ignore_index=255)
            losses[f"{name}_{head}"] = loss.item()
            total = total + weight * loss
        return total

    def _view(self, logits: Tensor) -> Tensor:
        prob = F.softmax(logits, dim=1)
        return -prob * torch.log2(prob + 1e-30) / math.log2(self.num_classes) if self.objective == "advent" else prob

    def _domain(self, judged: Tensor, domain: float) -> Tensor:
        return F.binary_cross_entropy_with_logits(judged, torch.full_like(judged, domain))
