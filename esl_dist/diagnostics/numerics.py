"""Arithmetic: the same bits for the same image on every rank, and the gradient of N ranks equal to that of
one process.
"""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from esl_dist.config.schema import Config
from esl_dist.diagnostics.check import Check
from esl_dist.distributed import collectives, ddp
from esl_dist.distributed.runtime import Runtime
from esl_dist.losses import segmentation_loss, upsample
from esl_dist.models import Segmenter
from esl_dist.models.builders import tiny_segmenter
from esl_dist.pseudo_labels.confidence import confidence_map

CLASSES = 19
SIZE_HW = (65, 97)
REPEATS = 3
# Relative difference of gradients: rounding of float32 sums in another order.
TOLERANCE = 1e-5


def determinism(config: Config, runtime: Runtime) -> list[Check]:
    """The forward of extraction with scores and labels, repeated: its hash on every rank and every time."""
    problem, mine = "", []
    try:
        network = _network(runtime).eval()
        image = _images(1, runtime)
        with torch.no_grad(), runtime.fixed_forward():
            for _ in range(REPEATS):
                with runtime.autocast():
                    logits = network(image).main
                label, score = confidence_map(logits, SIZE_HW)
                mine.append(
                    hashlib.sha256(label.cpu().numpy().tobytes() + score.cpu().numpy().tobytes()).hexdigest()[:12]
                )
    except Exception as error:  # the other ranks wait in the gather below
        problem = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    everyone = collectives.gather_json(mine)
    if problem:
        return [Check("determinism", "broken", problem, "the forward of the network fails on this rank")]
    if len(set(mine)) > 1:
        return [
            Check(
                "determinism",
                "broken",
                f"the same image gave {len(set(mine))} results in {REPEATS} forwards",
                "set run.deterministic=true; if it is, this machine's memory or GPU is suspect",
            )
        ]
    hashes = {runs[0] for runs in everyone if runs}
    if len(hashes) > 1:
        odd = [rank for rank, runs in enumerate(everyone) if runs and runs[0] != everyone[0][0]]
        advice = (
            "pseudo-labels would depend on which rank makes them: use machines of one kind and the same versions of"
            " torch"
        )
        return [
            Check("determinism", "broken", f"rank {', '.join(map(str, odd))} computes other bits than rank 0", advice)
        ]
    return [
        Check(
            "determinism",
            "ok",
            f"{REPEATS} forwards on {runtime.world} rank(s) in {runtime.precision} gave the same bits ({mine[0]})",
        )
    ]


def gradient_parity(config: Config, runtime: Runtime) -> list[Check]:
    """One image per rank under DDP against all images in one process, float32, with unequal numbers of valid pixels."""
    if runtime.world == 1:
        return []
    images, labels = _images(runtime.world, runtime), _labels(runtime)
    valid = (labels != 255).sum()
    alone = _network(runtime)
    _loss(alone, images, labels, valid).backward()
    shared = _network(runtime)
    wrapped = ddp.wrap(shared, runtime)
    one = slice(runtime.rank, runtime.rank + 1)
    (
        _loss(wrapped, images[one], labels[one], valid) * runtime.world
    ).backward()  # DDP takes the mean over ranks, the loss is a sum
    expected, found = _gradient(alone), _gradient(shared)
    difference = float((found - expected).norm() / expected.norm())
    text = f"{runtime.world} ranks against one process: relative difference {difference:.1e}"
    if not difference <= TOLERANCE:
        return [
            Check(
                "gradient parity",
                "broken",
                f"{text}, at most {TOLERANCE:.0e} is rounding",
                "the ranks would train another network than one process: check all-reduce above, then the versions",
            )
        ]
    return [Check("gradient parity", "ok", text)]


def _network(runtime: Runtime) -> Segmenter:
    return tiny_segmenter(CLASSES, seed=7).to(runtime.device)


def _images(count: int, runtime: Runtime) -> torch.Tensor:
    """Normalised images ``[count, 3, H, W]``, the same on every rank."""
    generator = torch.Generator().manual_seed(11)
    return (torch.rand(count, 3, *SIZE_HW, generator=generator) * 255 - 110).to(runtime.device)


def _labels(runtime: Runtime) -> torch.Tensor:
    """Labels ``[world, H, W]`` of which the first ranks ignore the most."""
    generator = torch.Generator().manual_seed(13)
    labels = torch.randint(0, CLASSES, (runtime.world, *SIZE_HW), generator=generator)
    ignored = (
        torch.rand(labels.shape, generator=generator)
        > (torch.arange(runtime.world) + 1).view(-1, 1, 1) / runtime.world * 0.9
    )
    return labels.masked_fill(ignored, 255).to(runtime.device)


def _loss(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    main, aux = network(images)
    loss = segmentation_loss(upsample(main, SIZE_HW), labels, valid)
    return loss + 0.1 * segmentation_loss(upsample(aux, SIZE_HW), labels, valid)


def _gradient(network: nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.double().flatten().cpu() for p in network.parameters() if p.grad is not None])
