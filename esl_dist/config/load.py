"""From YAML files and ``key=value`` words to one frozen, checked ``Config``.

Precedence, lowest first: schema defaults, the preset of ``protocol``, the file's ``base`` files, the file, the command
line.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from esl_dist.config.reading import ConfigError, Layer, read_file, read_words
from esl_dist.config.renamed import notice
from esl_dist.config.schema import Config
from esl_dist.config.secrets import public

__all__ = ["ConfigError", "build", "configs_dir", "dump", "find_file", "flat", "load_config", "run_dir"]

T = TypeVar("T")

DEFAULT_CONFIG = "streets.yaml"

# Where the ESL paper and the public code differ (weight decay, ties, rank, score arithmetic, scope, optimiser updates).
PROTOCOLS: dict[str, dict[str, Any]] = {
    "ours": {},
    "paper": {"optim.weight_decay": 1e-4, "pseudo_labels.ties": "drop"},
    "code": {
        "optim.weight_decay": 5e-4,
        "optim.updates": "published",
        "pseudo_labels.ties": "keep",
        "pseudo_labels.rank": "reference",
        "pseudo_labels.scores": "library",
        "pseudo_labels.window": 3000,
    },
}


def configs_dir() -> Path:
    """The folder of shipped configurations: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def load_config(
    file: str | None = None, overrides: Sequence[str] | None = None, say: Callable[[str], None] | None = None
) -> Config:
    """Read ``file`` (or the embedded pair's configuration) and apply ``key.sub=value`` words.

    Args:
        say: is told, in one line, of options that were given under an old name.

    Raises:
        ConfigError: unknown key, wrong type, impossible combination or unreadable file.
    """
    layers = [*_file_layers(find_file(file or DEFAULT_CONFIG)), read_words(overrides or [], Config)]
    named = [layer.values["protocol"] for layer in layers if "protocol" in layer.values]
    config = build(Config, [Layer(PROTOCOLS[named[-1]] if named else {}), *layers])
    old = [key for layer in layers for key in layer.old]
    if old and say is not None:
        say(notice(old))
    return config


def build(schema: type[T], layers: Iterable[Layer]) -> T:
    """A configuration with the options of the layers; of those that set the same one, the last wins.

    Raises:
        ConfigError: a number out of bounds, an impossible combination; with the line of the file that set the option.
    """
    values: dict[str, Any] = {}
    where: dict[str, str] = {}
    for layer in layers:
        values |= layer.values
        where |= {key: layer.where.get(key, "") for key in layer.values}
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        inside = tree
        for section in sections:
            inside = inside.setdefault(section, {})
        inside[name] = value
    try:
        return schema(**{key: _section(field_default(schema, key), value) for key, value in tree.items()})
    except ValueError as error:
        option = re.match(r"[\w.]+(?=[:\[])", str(error))
        line = where.get(option[0], "") if option else ""
        raise ConfigError(f"{line}: {error}" if line else str(error)) from None


def _section(default: Any, value: Any) -> Any:
    """A section with other values than its defaults; any other value as it is."""
    if not dataclasses.is_dataclass(default) or isinstance(default, type):
        return value
    return dataclasses.replace(default, **{key: _section(getattr(default, key), inner) for key, inner in value.items()})


def field_default(schema: Any, name: str) -> Any:
    """The default of a schema's field."""
    field = next(field for field in dataclasses.fields(schema) if field.name == name)
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def dump(config: Any) -> str:
    """The resolved configuration (or study) as YAML; loading it gives the same one back."""
    return str(yaml.safe_dump(_plain(public(config)), sort_keys=False, allow_unicode=True, default_flow_style=False))


def flat(config: Config, *sections: str) -> dict[str, Any]:
    """The options of the named sections (all without names) as ``{"section.option": value}``."""
    tree = _plain(public(config))
    return {key: value for name in sections or tree for key, value in _flatten(str(name), tree[name])}


def _plain(value: Any) -> Any:
    """Dataclasses as mappings, tuples as lists."""
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def _flatten(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(prefix, value)]
    return [pair for key, inner in value.items() for pair in _flatten(f"{prefix}.{key}", inner)]


def run_dir(config: Config) -> Path:
    """The run folder: ``run.dir``, or ``runs/<name>``."""
    return Path(config.run.dir) if config.run.dir else Path("runs") / config.run.name


def find_file(file: str, beside: Path | None = None) -> Path:
    """A configuration's file: as named (from the folder ``beside``, if given), or one that is shipped, from any folder
    and with or without ``configs/`` before it.

    Raises:
        ConfigError: there is none.
    """
    shipped = configs_dir()
    inside = file.removeprefix("./").removeprefix("configs/")
    own = [(beside or Path()) / file, Path(file)]
    found = next((path for path in (*own, shipped / inside, shipped / file) if _is_file(path)), None)
    if found is not None:
        return found
    if any(os.path.exists(path) for path in own):
        raise ConfigError(f"--config: {file!r} is not a file that can be read")
    names = (
        [path.relative_to(shipped).as_posix() for path in sorted(shipped.rglob("*.yaml"))] if shipped.is_dir() else []
    )
    close = difflib.get_close_matches(inside, names, n=1) or difflib.get_close_matches(Path(file).name, names, n=1)
    raise ConfigError(f"--config: no file {file!r}" + (f"; did you mean configs/{close[0]}?" if close else ""))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or that no file can have
        return False


def _file_layers(path: Path, seen: tuple[Path, ...] = ()) -> list[Layer]:
    """The file and, before it, the files that its ``base`` names (relative to it, or shipped)."""
    if path.resolve() in seen:
        raise ConfigError(f"{path}: base files refer to each other in a circle")
    layer = read_file(path, Config)
    layers: list[Layer] = []
    for base in layer.bases:
        try:
            parent = find_file(base, path.parent)
        except ConfigError as error:
            raise ConfigError(f"{path}: base: {str(error).removeprefix('--config: ')}") from None
        layers += _file_layers(parent, (*seen, path.resolve()))
    return [*layers, layer]
