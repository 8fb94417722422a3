"""What several trials need is made once: which trial needs which stages and which spool, and how they come into a
trial's run folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from esl_dist.atomic import write_text
from esl_dist.config import load
from esl_dist.config.schema import Config
from esl_dist.config.study import StudyConfig
from esl_dist.methods import identity, plan, stages
from esl_dist.runs import PartFolder, RunFolder, StudyFolder
from esl_dist.runs.content import MadeOfPart
from esl_dist.studies.child import Child

STOPPED = "stopped"
POLL_S = 0.2


@dataclass(frozen=True)
class Chain:
    """The shared stages of a trial, each by the hash of everything that decides its weights, and the spool of the
    network that labels for it.
    """

    entries: tuple[str, ...]
    keys: tuple[str, ...]
    config: Config
    """Of a run that makes them."""
    teacher: str = ""
    """Folder of the shared stage that makes the trial's first pseudo-labels; empty: none does."""
    spool: str = ""
    """Hash of that stage and of the options of the extraction."""

    @property
    def part(self) -> str:
        """Key of the run that holds them all; empty where nothing is shared."""
        return key_of(self.keys) if self.keys else ""


@dataclass(frozen=True)
class Part:
    """A run that makes some shared stages, on top of those that another part has made."""

    key: str
    entries: tuple[str, ...]
    config: Config
    parent: str = ""
    adopted: tuple[str, ...] = ()
    """Those of ``entries`` that the parent has made."""
    spools: dict[str, Chain] = field(default_factory=dict)
    """Hash -> a chain that needs it."""


def chain_of(study: StudyConfig, config: Config, base_seed: int) -> Chain:
    """What a trial with ``config`` shares.

    Raises:
        ValueError: a shared stage starts from one that is not shared.
    """
    shares = tuple(entry for entry in config.run.stages if entry in study.shared)
    if not shares:
        return Chain((), (), config)
    seed = base_seed if study.shared_seed == "base" else config.run.seed
    own = dataclasses.replace(
        config,
        run=dataclasses.replace(config.run, stages=shares, seed=seed),
        extract=dataclasses.replace(config.extract, spool_dir=""),
    )
    shared = stages(own)
    if shared != [stage for stage in stages(config) if stage.entry in shares]:
        raise ValueError(
            f"study.shared: {', '.join(shares)} start from stages that are not shared; add those, or share less"
        )
    hashes: dict[str, str] = {}
    for stage in shared:
        hashes[stage.name] = key_of([stage.name, stage.identity(own, own.run.precision, study.world, hashes)])
    keys = tuple(key_of([hashes[s.name] for s in shared if s.entry == entry]) for entry in shares)
    teacher = next(
        (
            s.needs["teacher"]
            for s in stages(config)
            if s.labels and s.entry not in shares and s.round == 1 and s.needs["teacher"] in hashes
        ),
        "",
    )
    if not teacher or config.extract.spool == "none":
        return Chain(shares, keys, own)
    extraction = identity.options(config, ("extract",))
    return Chain(shares, keys, own, teacher, key_of([hashes[teacher], extraction, config.pseudo_labels.temperature]))


def parts_of(chains: Sequence[Chain]) -> list[Part]:
    """The runs that make all chains, parents first: what a set of trials has in common in front is one run, what
    follows another one on top.
    """
    users = Counter(chain.keys[:length] for chain in chains for length in range(1, len(chain.keys) + 1))
    parts: dict[str, Part] = {}
    for chain in chains:
        parent, adopted = "", tuple[str, ...]()
        for length in range(1, len(chain.keys) + 1):
            if length < len(chain.keys) and users[chain.keys[: length + 1]] == users[chain.keys[:length]]:
                continue  # whoever needs this stage needs the next one too
            key, entries = key_of(chain.keys[:length]), chain.entries[:length]
            config = dataclasses.replace(chain.config, run=dataclasses.replace(chain.config.run, stages=entries))
            parts.setdefault(key, Part(key, entries, config, parent, adopted))
            parent, adopted = key, entries
        if chain.spool:
            parts[parent].spools.setdefault(chain.spool, chain)
    return list(parts.values())


def spool_of(study_dir: Path, chain: Chain) -> Path:
    """Where the spool of a chain lies."""
    return StudyFolder(study_dir).part(chain.part).extraction(chain.spool).spool


def missing(study_dir: Path, part: Part) -> list[str]:
    """What of a part is still to be made: ``stages``, and the hashes of spools."""
    done = StudyFolder(study_dir).part(part.key).made.recall()
    return [what for what in ("stages", *part.spools) if done is None or what not in done.made]


def make(study_dir: Path, part: Part, world: int, cwd: str, environment: Mapping[str, str]) -> str:
    """Train a part's stages and run its extractions, going on where an earlier call was cut off; returns why it failed,
    or an empty string.
    """
    study = StudyFolder(study_dir)
    folder, left = study.part(part.key), missing(study_dir, part)
    made = [what for what in ("stages", *part.spools) if what not in left]
    if part.parent:
        adopt(study.part(part.parent).path, folder.path, part.config, part.adopted)
    for what in left:
        command, arguments = _stages(folder, part) if what == "stages" else _extraction(folder, what, part.spools[what])
        child = Child(world, command, arguments, folder.path, folder.log, cwd, environment)
        while (code := child.code()) is None:
            if study.stop.exists():
                child.stop()
                return STOPPED
            time.sleep(POLL_S)
        if code:
            return child.reason()
        made.append(what)
        folder.made.write(MadeOfPart(tuple(made), part.entries))
    return ""


def _stages(folder: PartFolder, part: Part) -> tuple[str, list[str]]:
    run = dataclasses.replace(part.config.run, name=f"shared-{part.key}", dir=str(folder.path), adopted=part.adopted)
    config = dataclasses.replace(part.config, run=run, tracking=dataclasses.replace(part.config.tracking, mlflow=False))
    write_text(folder.given, load.dump(config))
    return "train", ["--config", str(folder.given)]


def _extraction(folder: PartFolder, key: str, chain: Chain) -> tuple[str, list[str]]:
    """Logits serve every rule; scores would serve the first one that was asked for."""
    made, extract = folder.extraction(key), dataclasses.replace(chain.config.extract, spool="logits")
    write_text(made.given, load.dump(dataclasses.replace(chain.config, extract=extract)))
    checkpoint = folder.run.stage(chain.teacher).final
    return "extract", [
        "--config",
        str(made.given),
        "--checkpoint",
        str(checkpoint),
        "--out",
        str(made.path),
    ]


def adopt(source: Path, run_dir: Path, config: Config, entries: Sequence[str]) -> None:
    """Put the finished stages of ``entries`` into a run folder, without a copy of their bytes."""
    run_dir.mkdir(parents=True, exist_ok=True)
    there, here = RunFolder(source), RunFolder(run_dir)
    finished = [node for node in plan(config) if set(node.entries) <= set(entries)]
    for node in finished:
        for original, folder in zip(node.folders(there), node.folders(here), strict=True):
            if folder.exists():
                continue
            aside = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
            shutil.rmtree(aside, ignore_errors=True)
            shutil.copytree(original, aside, copy_function=_link)
            os.replace(aside, folder)


def _link(source: str, target: str) -> None:
    """A second name for the same bytes: files of a run are replaced, never written over. A copy where the disk has no
    such names.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def key_of(content: Any) -> str:
    """A short name for whatever has this JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]
