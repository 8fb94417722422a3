"""Which stages a configuration means, in order, and what each starts from. A pure function of the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from esl_dist.config.entries import parse
from esl_dist.config.schema import Config


@dataclass(frozen=True)
class StagePlan:
    """One stage of a run."""

    entry: str
    """As written in ``run.stages``."""
    folder: str
    """Its folder in the run, unique."""
    kind: str
    """initial, source, oracle, translate, align or selftrain."""
    steps: int
    objective: str = "none"
    """Alignment objective (align, selftrain)."""
    init: str = ""
    """Folder of the stage whose final weights it starts from; empty: ``model.checkpoint``, or weights drawn from the
    seed.
    """
    rule: str = ""
    """Pseudo-label rule (selftrain)."""
    teacher: str = ""
    """Folder of the stage that makes its pseudo-labels (selftrain), or judges its translations (translate; empty: none
    does).
    """
    round: int = 1
    """Round of self-training, from 1."""
    images: str = ""
    """Folder of the translation whose images it takes for the source's; empty: the originals."""

    @property
    def network(self) -> str:
        """Name in a checkpoint of the network that is its result."""
        return "to_target" if self.kind == "translate" else "segmenter"

    @property
    def labels(self) -> str:
        """Name of its label set under ``pseudo_labels/``."""
        return self._label_set(self.round) if self.rule else ""

    @property
    def labels_before(self) -> str:
        """Name of the label set of the round before; empty in the first."""
        return self._label_set(self.round - 1) if self.round > 1 else ""

    def _label_set(self, number: int) -> str:
        mark = parse(self.entry).mark
        return self.rule + (f"-{mark}" if mark else "") + (f"-r{number}" if number > 1 else "")


def plan(config: Config) -> list[StagePlan]:
    """The stages of ``run.stages``; ``selftrain.rounds`` repeats self-training with the last round as teacher.

    ``translate.rounds`` repeats, after all of them, the translation and the stages that see its images.
    """
    stages: list[StagePlan] = []
    for word in _repeated(config):
        entry = parse(word)
        kind, variant = entry.name, entry.variant
        folder = word.replace(":", "-").replace("+", "-")
        images = {0: "", 1: "translate"}.get(entry.images, f"translate-{entry.images}")
        if kind in ("initial", "source", "oracle"):
            init = "" if kind == "initial" else _initial(stages)
            stages.append(StagePlan(word, folder, kind, getattr(config, kind).steps, init=init, images=images))
        elif kind == "translate":
            stages.append(
                StagePlan(
                    word,
                    folder,
                    kind,
                    config.translate.steps,
                    teacher=_judge(stages) if config.translate.perceptual else "",
                )
            )
        elif kind == "align":
            init = _last(stages, "source") if config.align.init == "source" else _initial(stages)
            stages.append(
                StagePlan(
                    word, folder, kind, config.align.steps, variant or config.align.objective, init, images=images
                )
            )
        else:
            stages += _rounds(config, word, folder, variant or config.pseudo_labels.rule, stages, images)
    return stages


def _repeated(config: Config) -> list[str]:
    """``run.stages``, and in every further round of translation the stages that belong to it again."""
    words = list(config.run.stages)
    repeated = [entry for entry in map(parse, words) if entry.name == "translate" or entry.images]
    return words + [entry.again(number) for number in range(2, config.translate.rounds + 1) for entry in repeated]


def _judge(before: list[StagePlan]) -> str:
    """The newest segmenter that was trained for its own sake, without target labels."""
    return next(
        (
            s.folder
            for s in reversed(before)
            if s.kind in ("source", "selftrain") or (s.kind == "align" and s.objective not in ("none", "bn"))
        ),
        "",
    )


def _rounds(
    config: Config, entry: str, folder: str, rule: str, before: list[StagePlan], images: str
) -> list[StagePlan]:
    aligned = _last_aligned(before)
    objective = config.selftrain.objective
    if objective == "same":
        objective = next((s.objective for s in before if s.folder == aligned), "none")
    start = {"initial": _initial(before), "source": _last(before, "source"), "align": aligned}.get(
        config.selftrain.init
    )
    teacher = aligned or _last(before, "source") or _initial(before)
    rounds = []
    for number in range(1, config.selftrain.rounds + 1):
        name = folder + (f"-r{number}" if number > 1 else "")
        init = teacher if start is None else start
        rounds.append(
            StagePlan(entry, name, "selftrain", config.selftrain.steps, objective, init, rule, teacher, number, images)
        )
        teacher = name
    return rounds


def _last(stages: list[StagePlan], kind: str) -> str:
    return next((s.folder for s in reversed(stages) if s.kind == kind), "")


def _initial(stages: list[StagePlan]) -> str:
    return _last(stages, "initial")


def _last_aligned(stages: list[StagePlan]) -> str:
    """The latest alignment that is a method, not the batch-norm control."""
    return next((s.folder for s in reversed(stages) if s.kind == "align" and s.objective not in ("none", "bn")), "")
