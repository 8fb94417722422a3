"""Options that do nothing in a run, because what would read them is not in its plan: said once, never an error, since a
file of options serves several runs.

A reader here claims that nothing else reads an option, so it holds for this package's own methods: with a method of
one's own in the plan nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from esl_dist.config import load
from esl_dist.config.schema import Config
from esl_dist.methods.plan import METHODS
from esl_dist.methods.unread.planned import Planned
from esl_dist.methods.unread.readers import OWN, SHARED


def unread(config: Config, words: Collection[str] = ()) -> dict[str, str]:
    """Options that were given another value than their default and that nothing reads -> why. What stages that are not
    planned would read, a file may well have for other runs: of that, what the command line gives alone.

    Args:
        words: options of the command line.
    """
    now, default = load.flat(config), load.flat(Config())
    given = {key for key in now if now[key] != default[key]}
    return {
        key: why for key, (why, shared) in _unread(config, now).items() if key in given and (not shared or key in words)
    }


def never_read(configs: Iterable[Config], key: str) -> str:
    """Why an option does nothing in any of these runs; empty where it may do something in one."""
    why = ""
    for config in configs:
        found = _unread(config, [key]).get(key)
        if found is None:
            return ""
        why = found[0]
    return why


def sentence(found: Mapping[str, str]) -> str:
    """One line for the log."""
    by_reason: dict[str, list[str]] = {}
    for key, why in found.items():
        by_reason.setdefault(why, []).append(key)
    return "options that do nothing here: " + "; ".join(f"{', '.join(keys)} ({why})" for why, keys in by_reason.items())


def _unread(config: Config, keys: Collection[str]) -> dict[str, tuple[str, bool]]:
    """Key -> why nothing reads it, and whether a file may well have it for other runs."""
    run = Planned(config)
    if not all(stage.method.name in METHODS for stage in run.stages):
        return {}
    found: dict[str, tuple[str, bool]] = {}
    for readers, shared in ((SHARED, True), (OWN, False)):
        for reader in readers:
            said = [key for key in keys if key not in found and _is_of(key, reader.keys)]
            if said and not reader.reads(run):
                found |= dict.fromkeys(said, (reader.why, shared))
    others = tuple(f"model.{name}." for name in config.model.networks() if name != config.model.name)
    why = f"model.name={config.model.name}"
    return found | {key: (why, True) for key in keys if key.startswith(others)}


def _is_of(key: str, patterns: str) -> bool:
    return any(key == name or (name.endswith("*") and key.startswith(name[:-1])) for name in patterns.split())
