"""BDL's translation: a CycleGAN between the domains, after which the source set is rewritten in the target's look."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from esl_dist.config.check import require
from esl_dist.config.entries import Entry, parse
from esl_dist.config.schema import Config
from esl_dist.data import open_dataset
from esl_dist.distributed import collectives, ddp
from esl_dist.distributed.collectives import agree
from esl_dist.engine import checkpoint
from esl_dist.engine.optim import Adam, Poly, Recipe
from esl_dist.engine.step import Streams
from esl_dist.methods import identity
from esl_dist.methods.kit import Kit, Training
from esl_dist.methods.networks import passes_of, starting_segmenter
from esl_dist.methods.node import Node, Work
from esl_dist.methods.planning import last, needs, translation_name
from esl_dist.methods.stage import Stage
from esl_dist.methods.streams import both_domains, translated
from esl_dist.methods.translation.history import History
from esl_dist.methods.translation.rewriting import (
    Translator,
    colour_statistics,
    is_rewritten,
    picture_rows,
    rewrite,
)
from esl_dist.methods.translation.step import SOURCE, TARGET, Translation
from esl_dist.models import build_translation

log = logging.getLogger(__name__)

BETAS = (0.5, 0.999)
"""Adam's of a CycleGAN."""


class Translate:
    """``translate``, ``translate:2`` and so on."""

    name = "translate"

    def plan(self, entry: Entry, config: Config, before: Sequence[Node]) -> Sequence[Node]:
        numbered = entry.variant == "" or (entry.variant.isdecimal() and int(entry.variant) >= 2)
        require(numbered, "run.stages", f"{entry.word!r}: translate takes a number from 2 after the colon")
        require(not entry.images, "run.stages", f"{entry.word!r}: +it is for source, align and selftrain")
        require(not config.data.also_source, "data.also_source", f"{entry.word} rewrites one source set, not several")
        number = int(entry.variant or 1)
        judge = last(before, "baseline", "method") if config.translate.perceptual else ""
        return [
            Stage(
                entry.word,
                translation_name(number),
                self,
                config.translate.steps,
                "translation" + (f" {number}" if number > 1 else ""),
                "tool",
                needs=needs(teacher=judge),
                result=f"to_{TARGET}",
            )
        ]

    def identity(self, stage: Stage, config: Config) -> dict[str, Any]:
        return identity.options(config, ("data", "translate"), ("translate.steps", "translate.rounds"))

    def build(self, stage: Stage, kit: Kit) -> Training:
        """Adam for all four networks, at the full rate at first and then in a line to zero."""
        options, optim = kit.config.translate, kit.config.optim
        judge = stage.needs.get("teacher", "")
        if options.perceptual and not judge:
            log.info(
                "%s: no segmenter was trained before it, so the perceptual term (translate.perceptual) is left out",
                stage.name,
            )
        step = translation_step(kit, kit.weights(judge))
        adam = Adam(options.lr, BETAS, optim.backend)
        schedule = Poly(stage.steps, 1.0, optim.warmup, options.hold)
        return Training(step, Recipe(dict.fromkeys(step.networks, adam), schedule))

    def streams(self, stage: Stage, work: Work, start: int) -> Streams:
        options = work.config.translate
        view: dict[str, Any] = {
            "labels": False,
            "fit": "width",
            "size": (options.load, 0),
            "crop": options.crop,
            "mirror": options.mirror,
            "blur": 0.0,
        }
        return both_domains(work, stage, start, {}, **view)

    def finish(self, stage: Stage, work: Work) -> None:
        """The source set in the target's look below ``<stage>/source``, and what the report shows of it."""
        config, data, runtime = work.config, work.config.data, work.runtime
        folder, final = work.run.stage(stage.name), work.final(stage.name)
        source = agree(lambda: open_dataset(data.source, data.root, data.classes))
        root, generator = Path(data.root, data.source.root), checkpoint.file_sha256(final, f"to_{TARGET}.pt")
        if is_rewritten(source, root, folder.translated, generator, config.translate.load) and folder.look.exists():
            return
        translators = agree(
            lambda: {look: Translator(final, look, config.translate, runtime) for look in (SOURCE, TARGET)}
        )
        rewrite(source, root, folder.translated, translators[TARGET], log.info, stop=lambda: work.stop.local)
        if runtime.is_main and not folder.look.exists():
            picture_rows({SOURCE: source, TARGET: work.target}, translators, folder.pictures)
            sets = {SOURCE: source, "translated": translated(work, folder.translated), TARGET: work.target}
            folder.look.write({name: colour_statistics(dataset) for name, dataset in sets.items()})
        collectives.barrier()


def repeated(words: Sequence[str], rounds: int) -> list[str]:
    """``run.stages``, and in every further round of translation the stages that belong to it again.

    Raises:
        ValueError: there is no translation to repeat, or it is repeated by hand already.
    """
    entries = [parse(word) for word in words]
    belonging = [entry for entry in entries if entry.name == Translate.name or entry.images]
    made = {entry.word for entry in entries if entry.name == Translate.name}
    require(
        rounds == 1 or made == {Translate.name},
        "translate.rounds",
        "repeats the first translation and the stages marked +it: name translate once in run.stages, or the rounds"
        " there and leave this at 1",
    )
    return [*words, *(_again(entry, number) for number in range(2, rounds + 1) for entry in belonging)]


def _again(entry: Entry, number: int) -> str:
    """The same stage in another round, as written."""
    if entry.name == Translate.name:
        return f"{Translate.name}:{number}"
    return Entry(entry.name, entry.variant, number).word


def translation_step(kit: Kit, judging: Mapping[str, Any] | None) -> Translation:
    """Generators, discriminators and their histories on the device, wrapped.

    Args:
        judging: state dict of the segmenter that keeps translations recognisable; None leaves the perceptual term out.
    """
    config, runtime, options, seed = kit.config, kit.runtime, kit.config.translate, kit.config.run.seed
    generators, discriminators, history = {}, {}, {}
    batch, micro = config.optim.batch, config.optim.accumulate
    lanes = [(a * runtime.world + runtime.rank) * batch + j for a in range(micro) for j in range(batch)]
    total, shape = runtime.world * batch * micro, (3, options.crop, options.crop)
    for number, domain in enumerate((TARGET, SOURCE)):
        generator, discriminator = build_translation(options, 2 * seed + number)
        generators[domain] = ddp.wrap(runtime.place(generator), runtime)
        discriminators[domain] = ddp.wrap(runtime.place(discriminator), runtime)
        history[domain] = History(lanes, total, options.history, shape, 2 * seed + number, runtime.device)
    judge = None
    if judging is not None:
        judge = runtime.place(starting_segmenter(config, judging)).eval().requires_grad_(False)
    return Translation(generators, discriminators, history, passes_of(kit), options, judge)
