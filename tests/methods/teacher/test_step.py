"""The step as a whole: what is averaged over, what margins and selection do, what is remembered, wrong options."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from esl_dist.config.load import load_config
from esl_dist.config.teacher import SelectConfig, TeacherConfig, TeacherLabelsConfig, published
from esl_dist.engine.step import Remembers
from esl_dist.labels import protocol
from esl_dist.methods import stages
from esl_dist.methods.passes import Passes, Prediction
from esl_dist.methods.teacher.build import things
from esl_dist.methods.teacher.ingredients import Source
from esl_dist.methods.teacher.labels import Guess
from esl_dist.methods.teacher.quantiles import RunningQuantiles
from esl_dist.methods.teacher.student import Student
from esl_dist.methods.teacher.weights import LabelWeights
from esl_dist.models.boxes import Box
from esl_dist.models.hrda import MultiResolution
from esl_dist.models.segmenter import Outputs
from tests.methods.teacher.made import CLASSES, build, disturb, pair, runtime, segmenter

LABELS = TeacherLabelsConfig(tau=0.4)


def test_the_source_loss_is_a_mean_over_all_pixels_or_the_labelled_ones() -> None:
    surely = math.log(math.e - 1)  # of two classes: a cross-entropy of exactly 1
    logits = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    logits[:, 1] = surely
    said = Prediction(Outputs(logits, None), (2, 2))
    labels = torch.tensor([[[0, 0], [0, 255]]], dtype=torch.uint8)
    student = Student(segmenter(), Passes(runtime()), 2, 0, "pixels")
    loss, parts = student.cross_entropy(said, labels, 4.0, "source")
    assert float(loss) == pytest.approx(0.75) and float(parts["source_main"]) == pytest.approx(0.75)
    loss, _ = student.cross_entropy(said, labels, torch.tensor(3.0), "source")
    assert float(loss) == pytest.approx(1.0)


def test_a_method_is_what_it_publishes_unless_an_option_says_otherwise() -> None:
    plain = {name: published(name, TeacherConfig()) for name in ("daformer", "hrda", "mic", "vfm_uda")}
    assert [made.labels.margins for made in plain.values()] == ["v1", "v2", "v2", "vfm"]
    assert [made.mean for made in plain.values()] == ["pixels", "pixels", "pixels", "valid"]
    assert [made.average.of for made in plain.values()] == ["parameters"] * 3 + ["buffers"]
    assert plain["mic"].ingredients == ("feature_distance", "mix", "mask")
    asked = TeacherConfig(labels=TeacherLabelsConfig(margins="none"), mean="valid", ingredients=("mask",))
    assert published("mic", asked).labels == dataclasses.replace(plain["mic"].labels, margins="none")
    assert published("mic", asked).mean == "valid" and published("teacher", asked).ingredients == ("mask",)


def weigh(**options: object) -> list[list[float]]:
    """Weights of four pixels of two images, the second image's last pixel in a margin."""
    doubt = torch.tensor([[[0.0, 0.2, 0.3, 0.9]], [[0.1, 0.4, 0.5, 0.8]]])
    guess = Guess(torch.tensor([[[0, 0, 0, 0]], [[1, 1, 1, 1]]], dtype=torch.uint8), 1 - doubt, doubt)
    inside = torch.ones(2, 1, 4)
    inside[1, 0, 3] = 0
    figures: dict[str, Tensor] = {}
    weights = LabelWeights(0.75, **options)  # type: ignore[arg-type]
    (weight,) = weights.of_step(weights.slot(0), [guess], [inside], figures)
    return [[round(float(w), 4) for w in row] for row in weight.flatten(1)]


def test_what_a_label_weighs() -> None:
    def running() -> RunningQuantiles:
        return RunningQuantiles(2, 1, Fraction(1, 2))

    assert weigh() == [[0.375, 0.375, 0.375, 0.375], [0.375, 0.375, 0.375, 0]]  # 3 of 8 at or above 0.75
    assert weigh(of_image=True) == [[0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.25, 0]]
    select = {"by": "probability", "nu": 0.0}
    assert weigh(use="replace", running=running(), **select) == [[1, 1, 0, 0], [1, 1, 0, 0]]
    assert weigh(use="with", running=running(), **select) == [[0.375, 0.375, 0, 0], [0.375, 0.375, 0, 0]]
    assert weigh(use="replace", soft=True, running=running(), **select) == [[1, 0.8, 0, 0], [0.9, 0.6, 0, 0]]
    assert weigh(use="replace", running=running(), by="probability", nu=0.5) == [[1, 1, 1, 0], [1, 1, 1, 0]]


def test_a_resumed_step_equals_the_uninterrupted_one() -> None:
    options = TeacherConfig(labels=LABELS, select=SelectConfig("with", window=6))

    def figures(resumed: bool) -> dict[str, Tensor]:
        step = build("mic", options, 2)
        for number in range(3):
            step.step([pair([0, 2], number, 2)])
            disturb(step, number)
        if resumed:
            other = build("mic", options, 2)
            other.student.segmenter.load_state_dict(step.student.segmenter.state_dict())
            other.teacher.network.load_state_dict(step.teacher.network.state_dict())
            assert isinstance(step, Remembers)
            other.recall({name: value.clone() for name, value in step.memory().items()})
            step = other
        step.student.segmenter.zero_grad(set_to_none=True)
        losses = step.step([pair([0, 2], 3, 2)])
        grads = {n: p.grad for n, p in step.student.segmenter.named_parameters() if p.grad is not None}
        return losses | grads | {f"teacher.{n}": p.detach() for n, p in step.teacher.network.named_parameters()}

    through, again = figures(False), figures(True)
    assert through.keys() == again.keys() and "label/kept" in through
    assert all(torch.equal(through[name], again[name]) for name in through)


def test_heads_can_agree_where_there_are_two() -> None:
    options = TeacherConfig(labels=LABELS, select=SelectConfig("replace", of="heads"))
    with pytest.raises(ValueError, match=r"teacher\.select\.of: heads needs a network with an aux head"):
        build("mic", options, 2, multi_level=False)


def test_looking_leaves_the_student_as_it_was() -> None:
    step = build("mic", TeacherConfig(labels=LABELS), 2)
    network = step.student.segmenter
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    with step.student.looking() as looked:
        assert not looked.training
        step.student.passes.forward(looked, pair([0, 2], 0, 2).source.images)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_network_of_one_head_and_no_ingredient_but_the_source() -> None:
    step = build("teacher", TeacherConfig(labels=LABELS), 2, multi_level=False)
    losses = step.step([pair([0, 2], 0, 2)])
    assert set(losses) == {"label/share", "source_main"}


def test_things_of_a_protocol() -> None:
    assert things(protocol("19")) == (6, 7, 11, 12, 13, 14, 15, 16, 17, 18)
    assert [protocol("7").classes[i] for i in things(protocol("7"))] == ["human", "vehicle"]
    assert things(protocol("7"), ("sky",)) == (protocol("7").classes.index("sky"),)
    with pytest.raises(ValueError, match=r"teacher\.distance\.classes: 'moon' is not a class of data\.classes=7"):
        things(protocol("7"), ("moon",))
    assert len(protocol("7").classes) == CLASSES


@pytest.mark.parametrize(
    ("ingredients", "message"),
    [
        (("mixup",), "unknown 'mixup'"),
        (("mix", "mix"), "names one twice"),
        (("no.such.module:f",), "cannot import 'no.such.module:f'"),
    ],
)
def test_ingredients_that_there_are_not(ingredients: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^teacher\.ingredients: .*{message}"):
        build("teacher", TeacherConfig(ingredients=ingredients), 2)


@pytest.mark.parametrize("parity", [False, True])
def test_the_loss_of_a_close_look_by_hand(parity: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    fused, detail = (torch.randn(2, CLASSES, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.randint(0, CLASSES, (2, 16, 16), generator=generator, dtype=torch.uint8)
    labels[0, 3] = 255
    weights = torch.rand(2, 16, 16, generator=generator, dtype=torch.float64)
    box = Box(4, 8, 8, 8)
    said = Prediction(MultiResolution(fused, None, detail, box), (16, 16))  # type: ignore[arg-type]
    student = Student(segmenter(), Passes(runtime()), CLASSES, 0, "pixels", 0.1, 0.25, parity)
    loss, parts = student.cross_entropy(said, labels, float(labels.numel()), "mix", weights, 3.0)

    def mean(logits: Tensor, label: Tensor, weight: Tensor) -> Tensor:
        up = torch.nn.functional.interpolate(logits, label.shape[1:], mode="bilinear", align_corners=True)
        each = torch.nn.functional.cross_entropy(up, label.long(), ignore_index=255, reduction="none")
        return (each * weight).mean()

    whole, close = mean(fused, labels, weights), mean(detail, box.of(labels), box.of(weights))
    expected = 0.75 * 3 * whole + 0.25 * (1 if parity else 3) * close
    assert float(loss) == pytest.approx(float(expected), rel=1e-12)
    assert float(parts["mix_detail"]) == pytest.approx(float(close), rel=1e-12)


def test_a_finished_teacher_method_labels_for_self_training() -> None:
    planned = stages(load_config(None, ["run.stages=[initial,mic,'mic:esl','selftrain:esl']"]))
    assert [stage.title for stage in planned] == ["initial weights", "MIC", "MIC + ESL", "ESL"]
    assert planned[-1].needs["teacher"] == "mic-esl" and planned[1].needs == {"init": "initial"}


def test_margins_and_padded_edges_have_no_say_in_the_thresholds() -> None:
    """Without the two sure pixels at the edge, half of the class is one that is less sure."""
    labels = torch.zeros(1, 1, 4, dtype=torch.uint8)
    doubt = torch.tensor([[[0.01, 0.02, 0.3, 0.6]]])
    guess = Guess(labels, 1 - doubt, doubt)
    edges = {}
    for name, inside in (("all", None), ("inside", torch.tensor([[[0.0, 0.0, 1.0, 1.0]]]))):
        running = RunningQuantiles(1, 1, Fraction(1, 2))
        weights = LabelWeights(0.5, use="replace", by="probability", running=running)
        (weight,) = weights.of_step(weights.slot(0), [guess], [inside], {})
        edges[name] = float(running.thresholds(0.0)[0])
        assert weight.tolist() == [[[1, 1, 0, 0]]] if inside is None else [[[0, 0, 1, 0]]]
    assert 0.02 <= edges["all"] < 0.03 and 0.3 <= edges["inside"] < 0.31


def test_another_frozen_network_is_refused_when_a_stage_goes_on() -> None:
    step, other = build("daformer", TeacherConfig(labels=LABELS), 2), build("daformer", TeacherConfig(labels=LABELS), 2)
    assert isinstance(step, Remembers) and isinstance(other, Remembers)
    memory = step.memory()
    assert memory["frozen/feature_distance"].shape == (32,)
    other.recall(memory)
    other.recall({})  # a checkpoint of before the digest was kept
    changed = build("daformer", TeacherConfig(labels=LABELS), 2)
    source = changed.ingredients[0]
    assert isinstance(source, Source) and source.distance is not None and isinstance(changed, Remembers)
    with torch.no_grad():
        next(source.distance.reference.parameters()).add_(1)
    with pytest.raises(ValueError, match="frozen network of feature_distance is not the one that this stage began"):
        changed.recall(memory)
