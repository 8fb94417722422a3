"""N ranks equal one process on the same global batch: gradients to 1e-6, batch norm frozen, ignore fractions that
differ between ranks.

All stages run in one start of the ranks, since starting them costs far more than a step of the small network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from esl_dist.config.schema import AlignConfig, TermConfig
from esl_dist.data.loader import Batch
from esl_dist.distributed import collectives, ddp
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.step import Pair
from esl_dist.methods.adaptation.objectives import build_objective, discriminated
from esl_dist.methods.adaptation.step import Adaptation, SelfTraining
from esl_dist.methods.passes import Passes
from esl_dist.methods.supervised import Supervised
from esl_dist.models import DeepLabV2, Discriminator, Normalisation
from tests.ranks import run_ranks

CLASSES, SIZE = 7, (48, 64)
GUIDED = AlignConfig("maxsquare", weight=0.5, weight_aux=0.0, self_guidance=True, guidance_threshold=0.2)
STAGES = {
    "source": None,
    "source by class": None,
    "none": AlignConfig("none"),
    "bn": AlignConfig("bn"),
    "adaptsegnet": AlignConfig("adaptsegnet", weight=0.5, weight_aux=0.2),
    "advent": AlignConfig("advent", weight=0.5, weight_aux=0.2),
    "ls gan": AlignConfig("advent", gan="ls", weight=0.5, weight_aux=0.2),
    "minent": AlignConfig("minent", weight=0.5, weight_aux=0.2),
    "maxsquare": AlignConfig("maxsquare", weight=0.5, weight_aux=0.2),
    "iw_maxsquare": AlignConfig("iw_maxsquare", weight=0.5, weight_aux=0.0),
    "guided": GUIDED,
    "combined": AlignConfig(
        "advent",
        weight=0.5,
        weight_aux=0.2,
        also=[TermConfig("iw_maxsquare", 0.4, 0.1), TermConfig(f"{__name__}:margin", 0.3)],
    ),
    "user": AlignConfig(f"{__name__}:margin", weight=0.7),
    "combined+labels": AlignConfig("minent", weight=0.5, weight_aux=0.2, also=[TermConfig("adaptsegnet", 0.3, 0.0)]),
    "none+labels": AlignConfig("none"),
    "advent+labels": AlignConfig("advent", weight=0.5, weight_aux=0.2),
    "single+labels": AlignConfig("advent", weight=0.5),
    "weighted+labels": AlignConfig("none"),
}


def margin(logits_main: torch.Tensor, logits_aux: torch.Tensor | None) -> torch.Tensor:
    """A user's term: the gap between the two best classes, both heads."""
    assert logits_aux is not None
    gaps = [
        (best[:, 0] - best[:, 1]).mean()
        for logits in (logits_main, logits_aux)
        for best in [torch.softmax(logits, 1).topk(2, dim=1).values]
    ]
    return -gaps[0] - 0.5 * gaps[1]


def sample(index: int, labelled: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Image ``index`` and a label map whose ignored share differs from image to image (image 1 has nothing
    to learn).
    """
    generator = torch.Generator().manual_seed(index)
    image = torch.randint(0, 256, (3, *SIZE), generator=generator, dtype=torch.uint8)
    label = torch.randint(0, CLASSES, SIZE, generator=generator, dtype=torch.uint8)
    label[torch.rand(SIZE, generator=generator) < (1.0 if index % 100 == 1 else 0.3 * (index % 4))] = 255
    return image, label if labelled else None


def weight(index: int) -> torch.Tensor:
    """Of each pixel of image ``index``, in 255ths; images differ in their mean."""
    return torch.randint(
        1, 60 + 60 * (index % 4), SIZE, generator=torch.Generator().manual_seed(1000 + index), dtype=torch.uint8
    )


def batch(indices: list[int], labelled: bool, weighted: bool = False) -> Batch:
    samples = [sample(i, labelled) for i in indices]
    labels = torch.stack([label for _, label in samples if label is not None]) if labelled else None
    return Batch(
        torch.stack([image for image, _ in samples]),
        labels,
        torch.tensor(indices),
        (),
        weights=torch.stack([weight(i) for i in indices]) if weighted else None,
    )


def build(name: str, runtime: Runtime) -> Supervised | Adaptation:
    """The stage with small networks, their batch norm frozen, drawn from one seed."""
    torch.manual_seed(0)
    config, multi_level = STAGES[name], not name.startswith("single")
    segmenter = DeepLabV2(CLASSES, layers=(1, 1, 1, 1), width=8, multi_level=multi_level).eval()
    segmenter.normalisation = Normalisation("bgr", (104.0, 108.0, 112.0), (64.0, 64.0, 64.0))
    passes = Passes(runtime)
    wrapped = ddp.wrap(segmenter, runtime)
    if config is None:
        weights = torch.cat([torch.tensor([1, 0.01, 0.3, 0.2, 0.9, 0.05, 0.5]), torch.zeros(256 - CLASSES)])
        return Supervised(wrapped, passes, CLASSES, class_weights=weights if name.endswith("by class") else None)
    discriminators: dict[str, nn.Module] = {
        head: ddp.wrap(Discriminator(CLASSES, ndf=8), runtime)
        for head in discriminated(config.objective, config, multi_level)
    }
    made = build_objective(config.objective, config, multi_level, discriminators)
    return Adaptation(wrapped, passes, CLASSES, made, 0.1, SelfTraining(1.0, 0.1) if name.endswith("+labels") else None)


def gradients_of(stage: Supervised | Adaptation, micro: Sequence[Pair]) -> dict[str, torch.Tensor]:
    for _ in range(2):  # the second step shows a reducer that the first left in a bad state
        for network in stage.networks.values():
            network.zero_grad(set_to_none=True)
        stage.step(micro)
    return {
        f"{n}.{k}": p.grad
        for n, m in stage.networks.items()
        for k, p in ddp.inner(m).named_parameters()
        if p.grad is not None
    }


def gradients(cases: list[list[int]], out: str) -> bool:
    """Gradients of every stage for each case (images per rank and micro-batch, global batch), split over the ranks that
    there are.
    """
    runtime = Runtime(collectives.rank(), collectives.world(), 0, 1, torch.device("cpu"), "fp32", 1, 1, True, 100)
    found = []
    for per_rank, total in cases:
        share = runtime.world * per_rank
        starts = [a * share + runtime.rank * per_rank for a in range(total // share)]
        found.append(
            {
                name: gradients_of(stage, [pair(stage, name, range(s, s + per_rank)) for s in starts])
                for name in STAGES
                for stage in [build(name, runtime)]
            }
        )
    if runtime.rank == 0:
        torch.save(found, out)
    return True


def pair(stage: Supervised | Adaptation, name: str, own: Sequence[int]) -> Pair:
    return Pair(
        batch(list(own), True),
        (
            batch([100 + i for i in own], name.endswith("+labels"), name.startswith("weighted"))
            if stage.needs_target
            else None
        ),
    )


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_equal_one_process(world: int, tmp_path: Path) -> None:
    """One and two images per rank, and two micro-batches of one image, against all images at once."""
    cases = [(1, world), (2, 2 * world), (1, 2 * world)]
    run_ranks(world, f"{__name__}:gradients", cases, str(tmp_path / "ranks.pt"))
    gradients([[total, total] for _, total in cases], str(tmp_path / "one.pt"))
    results = (torch.load(tmp_path / name, weights_only=True) for name in ("ranks.pt", "one.pt"))
    for (per_rank, total), ranks, one in zip(cases, *results, strict=True):
        accumulates = total > world * per_rank
        for name in STAGES:
            if not (accumulates and name == "guided"):  # counts its pixels per micro-batch, see ``Guidance``
                same(ranks[name], one[name], f"{name}, {per_rank} per rank of {total}")


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], what: str) -> None:
    assert found.keys() == expected.keys(), what
    assert any(bool(g.abs().sum() > 0) for g in expected.values()), what
    for key, value in expected.items():
        assert float((found[key] - value).abs().max()) <= 1e-6 * max(float(value.abs().max()), 1.0), f"{what}: {key}"


def test_weights_that_are_all_one_change_nothing_and_others_the_mean_of_all_labelled_pixels() -> None:
    runtime = Runtime(0, 1, 0, 1, torch.device("cpu"), "fp32", 1, 1, True, 100)
    source = batch([2, 3], True)

    def target(value: int) -> Batch:
        made = batch([102, 103], True)
        return made._replace(weights=torch.full_like(made.labels, value))

    plain, ones, halves = (
        gradients_of(build("none+labels", runtime), [Pair(source, t)])
        for t in (batch([102, 103], True), target(255), target(128))
    )
    assert all(torch.equal(plain[key], ones[key]) for key in plain)
    same(
        halves, plain, "a common factor"
    )  # a weighted mean: weights say how pixels share the loss, not how much of it there is
    other = gradients_of(build("none+labels", runtime), [Pair(source, batch([102, 103], True, weighted=True))])
    assert max(float((other[key] - plain[key]).abs().max()) for key in plain) > 1e-3


def test_guidance_is_the_mean_of_its_micro_batches() -> None:
    runtime = Runtime(0, 1, 0, 1, torch.device("cpu"), "fp32", 1, 1, True, 100)
    pairs = [
        Pair(batch([2], True), batch([100 + i], False)) for i in range(2)
    ]  # one source image: its mean is the same
    together, *apart = (gradients_of(build("guided", runtime), micro) for micro in (pairs, pairs[:1], pairs[1:]))
    same(together, {key: (apart[0][key] + apart[1][key]) / 2 for key in together}, "two micro-batches")
