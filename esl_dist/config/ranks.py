"""What a configuration means on N ranks: lengths counted in samples become steps, learning rates follow the global
batch.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from esl_dist.config.entries import parse
from esl_dist.config.schema import Config, OptimConfig, ProfileConfig

EXPONENT = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}


def global_batch(optim: OptimConfig, world: int) -> int:
    """Source images of one optimiser step, all ranks together; as many target images come beside them."""
    return world * optim.batch * optim.accumulate


def trainings(config: Config) -> dict[str, Any]:
    """The sections that say how long a stage trains, by name."""
    sections = {entry.name: getattr(config, entry.name) for entry in dataclasses.fields(config)}
    return {
        name: section
        for name, section in sections.items()
        if hasattr(section, "steps") and not isinstance(section, ProfileConfig)
    }


def on_ranks(config: Config, world: int) -> tuple[Config, str]:
    """The configuration in optimiser steps and final rates, and one sentence on what that changed (empty: nothing).

    A function of the global batch: another number of ranks with the same global batch trains the same steps at the same
    rates.
    """
    optim, batch, said = config.optim, global_batch(config.optim, world), []
    if optim.count == "samples":
        # Rounded up: no sample that was asked for is left out.
        stages = {
            name: dataclasses.replace(section, steps=-(-section.steps // batch))
            for name, section in trainings(config).items()
        }
        optim = dataclasses.replace(
            optim, count="steps", decay_steps=-(-optim.decay_steps // batch), warmup=-(-optim.warmup // batch)
        )
        teacher = stages["teacher"]
        warmup = -(-teacher.optim.warmup // batch)
        stages["teacher"] = dataclasses.replace(teacher, optim=dataclasses.replace(teacher.optim, warmup=warmup))
        config = dataclasses.replace(config, **stages)
        used = dict.fromkeys(parse(entry).name for entry in config.run.stages)
        lengths = ", ".join(f"{name} {stages[name].steps}" for name in used if name in stages)
        said.append(
            f"counted in samples that is {lengths} steps, decay {optim.decay_steps or 'over the stage'}, warm-up"
            f" {optim.warmup}"
        )
    if optim.scale_lr != "none":
        factor = (batch / optim.base_batch) ** EXPONENT[optim.scale_lr]
        said.append(f"learning rates times {factor:.4g} ({optim.scale_lr} from a batch of {optim.base_batch})")
        optim = dataclasses.replace(
            optim, scale_lr="none", lr=optim.lr * factor, discriminator_lr=optim.discriminator_lr * factor
        )
    sentence = (
        f"one step is {batch} source image(s), {world} rank(s) x {optim.batch} x {optim.accumulate}: {'; '.join(said)}"
        if said
        else ""
    )
    return dataclasses.replace(config, optim=optim), sentence
