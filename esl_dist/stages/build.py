"""From a stage's plan to its networks and its training step: a plain function from configuration to stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from esl_dist.config.schema import Config
from esl_dist.distributed import ddp
from esl_dist.distributed.runtime import Runtime
from esl_dist.labels import protocol
from esl_dist.models import build_discriminator, build_mode_head, build_segmenter, build_translation
from esl_dist.models.deeplabv2 import DeepLabV2
from esl_dist.models.weights import load as load_weights
from esl_dist.stages.adapt import Adaptation, SelfTraining
from esl_dist.stages.history import History
from esl_dist.stages.modes import Modes
from esl_dist.stages.objectives import build_objective, discriminated, reaches_aux
from esl_dist.stages.passes import Passes
from esl_dist.stages.plan import StagePlan
from esl_dist.stages.supervised import Supervised
from esl_dist.stages.translate import SOURCE, TARGET, Translation

BACKEND = "inductor"
"""What torch.compile hands its graphs to."""


def build_stage(
    plan: StagePlan, config: Config, runtime: Runtime, initial: Mapping[str, Any] | None, scaler: torch.amp.GradScaler
) -> Supervised | Adaptation | Translation:
    """The stage with its networks on the device, wrapped for DDP.

    Args:
        initial: state dict of the segmenter that it starts from (None: ``model.checkpoint``, or the seed), or that
            judges its translations.
    """
    if plan.kind == "translate":
        return _translation(config, runtime, initial, scaler)
    num_classes = protocol(config.data.protocol).num_classes
    segmenter = _segmenter(config, num_classes, initial)
    if config.model.bn == "sync":
        if runtime.device.type != "cuda":
            raise ValueError("model.bn: sync needs CUDA; use train or frozen on CPU")
        segmenter = nn.SyncBatchNorm.convert_sync_batchnorm(segmenter)
    learns_aux = config.align.source_aux > 0 or plan.kind == "selftrain" or reaches_aux(plan.objective, config.align)
    if config.model.multi_level and not learns_aux:
        train_aux_head(segmenter, False)
    network = _ready(segmenter, config, runtime)
    passes = Passes(runtime, config.data.mean, config.data.scale, scaler.scale)
    if plan.kind in ("initial", "source", "oracle"):
        return Supervised(network, passes, num_classes, config.align.source_aux)
    discriminators = {}
    for head in discriminated(plan.objective, config.align, config.model.multi_level):
        made = build_discriminator(config.model, num_classes, config.run.seed + (1 if head == "main" else 2))
        discriminators[head] = _ready(made.train(), config, runtime)
    objective = build_objective(plan.objective, config.align, config.model.multi_level, discriminators)
    self_training = (
        SelfTraining(config.selftrain.weight, config.selftrain.weight_aux) if plan.kind == "selftrain" else None
    )
    modes = _modes(plan, config, segmenter, passes)
    return Adaptation(network, passes, num_classes, objective, config.align.source_aux, self_training, modes)


def _modes(plan: StagePlan, config: Config, segmenter: DeepLabV2, passes: Passes) -> Modes | None:
    """DRSL's second head, new in every stage as the discriminators are; none in the batch-norm control."""
    if config.mmdl.weight == 0 or plan.objective == "bn":
        return None
    head = build_mode_head(config.mmdl, segmenter, config.run.seed + 3)
    wrapped = ddp.wrap(passes.runtime.place(head), passes.runtime)
    return Modes(
        wrapped,
        config.mmdl,
        passes,
        protocol(config.data.protocol).classes,
        config.run.seed,
        learns_target=plan.kind == "selftrain",
    )


def _translation(
    config: Config, runtime: Runtime, judging: Mapping[str, Any] | None, scaler: torch.amp.GradScaler
) -> Translation:
    """The stage ``translate``.

    Args:
        judging: state dict of the segmenter that keeps translations recognisable; None leaves the perceptual term out.
    """
    options, seed = config.translate, config.run.seed
    generators: dict[str, nn.Module] = {}
    discriminators: dict[str, nn.Module] = {}
    history = {}
    batch, micro = config.optim.batch, config.optim.accumulate
    lanes = [(a * runtime.world + runtime.rank) * batch + j for a in range(micro) for j in range(batch)]
    for number, domain in enumerate((TARGET, SOURCE)):
        generator, discriminator = build_translation(options, 2 * seed + number)
        generators[domain] = ddp.wrap(runtime.place(generator), runtime)
        discriminators[domain] = ddp.wrap(runtime.place(discriminator), runtime)
        history[domain] = History(
            lanes,
            runtime.world * batch * micro,
            options.history,
            (3, options.crop, options.crop),
            2 * seed + number,
            runtime.device,
        )
    judge = None
    if judging is not None:
        judge = (
            runtime.place(_segmenter(config, protocol(config.data.protocol).num_classes, judging))
            .eval()
            .requires_grad_(False)
        )
    passes = Passes(runtime, config.data.mean, config.data.scale, scaler.scale)
    return Translation(generators, discriminators, history, passes, options, judge)


def _ready(network: nn.Module, config: Config, runtime: Runtime) -> nn.Module:
    """On the device, compiled if asked for (in place and before DDP takes it, for fixed shapes), wrapped."""
    runtime.place(network)
    if config.run.compile:
        network.compile(backend=BACKEND, dynamic=False)
    return ddp.wrap(network, runtime)


def _segmenter(config: Config, num_classes: int, initial: Mapping[str, Any] | None) -> DeepLabV2:
    segmenter = build_segmenter(config.model, num_classes, config.run.seed)
    if initial is not None:
        segmenter.load_state_dict(initial)
    elif config.model.checkpoint:
        load_weights(config.model.checkpoint, segmenter, config.model.layout)
    segmenter.train()
    return segmenter


def train_aux_head(segmenter: DeepLabV2, trains: bool) -> None:
    """Freeze the aux head where no loss reaches it (MaxSquare without guidance): neither gradient nor weight decay
    moves it then.
    """
    for name, parameter in segmenter.named_parameters():
        if name.startswith("layer5."):
            parameter.requires_grad_(trains)
