"""The adaptation step with its networks, for alignment and for self-training."""

from __future__ import annotations

import logging
from typing import Any

from torch import nn

from esl_dist.config.schema import Config
from esl_dist.distributed import ddp
from esl_dist.distributed.lanes import CudaStreams, Lanes
from esl_dist.labels import protocol
from esl_dist.methods import identity
from esl_dist.methods.adaptation.modes import Modes
from esl_dist.methods.adaptation.objectives import build_objective, discriminated, reaches_aux, terms_of
from esl_dist.methods.adaptation.step import Adaptation, SelfTraining
from esl_dist.methods.kit import Kit
from esl_dist.methods.networks import passes_of, trained_discriminators, trained_segmenter
from esl_dist.methods.passes import Passes
from esl_dist.methods.stage import Stage
from esl_dist.models import build_mode_head
from esl_dist.models.segmenter import Segmenter

log = logging.getLogger(__name__)


def adaptation_step(stage: Stage, kit: Kit, self_training: SelfTraining | None = None) -> Adaptation:
    """Every network on the device and wrapped."""
    config, objective = kit.config, stage.settings["objective"]
    classes = protocol(config.data.classes).num_classes
    learns_aux = (
        config.align.source_aux > 0
        or (self_training is not None and self_training.weight_aux > 0)
        or (config.model.multi_level and reaches_aux(objective, config.align, classes))
    )
    segmenter = trained_segmenter(kit, kit.weights(stage.needs.get("init", "")), learns_aux)
    two_heads = config.model.multi_level
    discriminators = trained_discriminators(kit, discriminated(objective, config.align, two_heads))
    passes = passes_of(kit)
    modes = _modes(kit, segmenter, passes, self_training is not None) if _uses_modes(objective, config) else None
    _tell_what_is_of_a_micro_batch(config, objective, modes)
    return Adaptation(
        segmenter,
        passes,
        classes,
        build_objective(objective, config.align, two_heads, discriminators, _joint(kit)),
        config.align.source_aux,
        self_training,
        modes,
        _lanes(kit, modes),
    )


def _tell_what_is_of_a_micro_batch(config: Config, objective: str, modes: Modes | None) -> None:
    """Every other loss is a mean over the whole step: ``optim.accumulate`` leaves it as it is."""
    used = {
        "DRSL's alignment of modes": modes is not None and config.mmdl.align_weight > 0,
        "self-guidance": config.align.self_guidance and bool(terms_of(objective, config.align)),
    }
    own = [name for name, is_used in used.items() if is_used]
    if config.optim.accumulate > 1 and own:
        log.info(
            "optim.accumulate=%d: %s looks at one micro-batch at a time, so this is not the training of"
            " optim.batch=%d; all other losses are the same",
            config.optim.accumulate,
            " and ".join(own),
            config.optim.batch * config.optim.accumulate,
        )


def _lanes(kit: Kit, modes: Modes | None) -> Lanes | None:
    """Two streams for the passes, if they are asked for and nothing stands against it."""
    run, runtime = kit.config.run, kit.runtime
    if not run.overlap:
        return None
    why = (
        "there is no GPU"
        if runtime.device.type != "cuda"
        else "DRSL's target pass needs pixels of the source pass"
        if modes
        else "a compiled network cannot wait within itself"
        if run.compile or run.compile_blocks
        else ""
    )
    if why:
        log.info("run.overlap: source and target passes go one after the other: %s", why)
        return None
    return Lanes(CudaStreams(runtime.device))


def _joint(kit: Kit) -> bool:
    """Whether discriminators share a pass: DDP would not see the weights of a network that it does not call."""
    wanted = kit.config.run.join_discriminators
    if wanted and kit.runtime.world > 1:
        log.info("run.join_discriminators: is for one rank; each discriminator has its own pass")
    return wanted and kit.runtime.world == 1


def modes_identity(objective: str, config: Config) -> dict[str, Any]:
    """Options of DRSL's second head, where it is used."""
    return identity.options(config, ("mmdl",)) if _uses_modes(objective, config) else {}


def _uses_modes(objective: str, config: Config) -> bool:
    """None in the batch-norm control."""
    return config.mmdl.weight > 0 and objective != "bn"


def _modes(kit: Kit, segmenter: nn.Module, passes: Passes, learns_target: bool) -> Modes:
    """DRSL's second head, new in every stage as the discriminators are."""
    config = kit.config
    base = ddp.inner(segmenter)
    assert isinstance(base, Segmenter)
    head = build_mode_head(config.mmdl, base, config.run.seed + 3)
    wrapped = ddp.wrap(kit.runtime.place(head), kit.runtime)
    classes = protocol(config.data.classes).classes
    return Modes(wrapped, config.mmdl, passes, classes, config.run.seed, base.feature_size, learns_target)
