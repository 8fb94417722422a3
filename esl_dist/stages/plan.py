"""Which stages a configuration means, in order, and what each starts from. A pure function of the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from esl_dist.config.schema import Config


@dataclass(frozen=True)
class StagePlan:
    """One stage of a run."""

    entry: str
    """As written in ``run.stages``."""
    folder: str
    """Its folder in the run, unique."""
    kind: str
    """initial, source, oracle, align or selftrain."""
    steps: int
    objective: str = "none"
    """Alignment objective (align, selftrain)."""
    init: str = ""
    """Folder of the stage whose final weights it starts from; empty: ``model.checkpoint``, or weights drawn from the seed."""
    rule: str = ""
    """Pseudo-label rule (selftrain)."""
    teacher: str = ""
    """Folder of the stage that makes its pseudo-labels (selftrain)."""
    round: int = 1
    """Round of self-training, from 1."""

    @property
    def labels(self) -> str:
        """Name of its label set under ``pseudo_labels/``."""
        return _label_set(self.rule, self.round)

    @property
    def labels_before(self) -> str:
        """Name of the label set of the round before; empty in the first."""
        return _label_set(self.rule, self.round - 1) if self.round > 1 else ""


def _label_set(rule: str, number: int) -> str:
    return rule + (f"-r{number}" if number > 1 else "")


def plan(config: Config) -> list[StagePlan]:
    """The stages of ``run.stages``; ``selftrain.rounds`` repeats self-training with the last round as teacher."""
    stages: list[StagePlan] = []
    for entry in config.run.stages:
        kind, _, variant = entry.partition(":")
        folder = entry.replace(":", "-")
        if kind in ("initial", "source", "oracle"):
            init = "" if kind == "initial" else _initial(stages)
            stages.append(StagePlan(entry, folder, kind, getattr(config, kind).steps, init=init))
        elif kind == "align":
            init = _last(stages, "source") if config.align.init == "source" else _initial(stages)
            stages.append(StagePlan(entry, folder, kind, config.align.steps, variant or config.align.objective, init))
        else:
            stages += _rounds(config, entry, folder, variant or config.pseudo_labels.rule, stages)
    return stages


def _rounds(config: Config, entry: str, folder: str, rule: str, before: list[StagePlan]) -> list[StagePlan]:
    aligned = _last_aligned(before)
    objective = config.selftrain.objective
    if objective == "same":
        objective = next((s.objective for s in before if s.folder == aligned), "none")
    start = {"initial": _initial(before), "source": _last(before, "source"), "align": aligned}.get(config.selftrain.init)
    teacher = aligned or _last(before, "source") or _initial(before)
    rounds = []
    for number in range(1, config.selftrain.rounds + 1):
        name = folder + (f"-r{number}" if number > 1 else "")
        init = teacher if start is None else start
        rounds.append(StagePlan(entry, name, "selftrain", config.selftrain.steps, objective, init, rule, teacher, number))
        teacher = name
    return rounds


def _last(stages: list[StagePlan], kind: str) -> str:
    return next((s.folder for s in reversed(stages) if s.kind == kind), "")


def _initial(stages: list[StagePlan]) -> str:
    return _last(stages, "initial")


def _last_aligned(stages: list[StagePlan]) -> str:
    """The latest alignment that is a method, not the batch-norm control."""
    return next((s.folder for s in reversed(stages) if s.kind == "align" and s.objective not in ("none", "bn")), "")
