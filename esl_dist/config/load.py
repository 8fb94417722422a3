"""From YAML files and ``key=value`` words to one frozen, checked ``Config``.

Precedence, lowest first: schema defaults, the preset of ``protocol``, the file's ``base`` files, the file, the command
line.
"""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from esl_dist.config.schema import Config

DEFAULT_CONFIG = "streets.yaml"

# Where the ESL paper and the public code differ (weight decay, ties, rank, score arithmetic, scope, optimiser updates).
PROTOCOLS: dict[str, dict[str, Any]] = {
    "ours": {},
    "paper": {"optim": {"weight_decay": 1e-4}, "pseudo_labels": {"ties": "drop"}},
    "code": {
        "optim": {"weight_decay": 5e-4, "updates": "published"},
        "pseudo_labels": {"ties": "keep", "rank": "reference", "scores": "library", "window": 3000},
    },
}


class ConfigError(ValueError):
    """A configuration that cannot be run; the message is one line that names the key and the way out."""


def configs_dir() -> Path:
    """The folder of shipped configurations: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def load_config(file: str | None = None, overrides: list[str] | None = None) -> Config:
    """Read ``file`` (or the embedded pair's configuration) and apply ``key.sub=value`` words.

    Raises:
        ConfigError: unknown key, wrong type, impossible combination or unreadable file.
    """
    path = find_file(file or DEFAULT_CONFIG)
    layers = [*_file_layers(path), from_words(overrides or [])]
    named = [layer["protocol"] for layer in layers if "protocol" in layer]
    preset = str(named[-1]) if named else "ours"
    if preset not in PROTOCOLS:
        raise ConfigError(f"protocol: unknown {preset!r}; one of {', '.join(PROTOCOLS)}")
    merged = OmegaConf.structured(Config)
    for layer in (OmegaConf.create(PROTOCOLS[preset]), *layers):
        check_keys(layer, Config, "")
        try:
            merged = OmegaConf.merge(merged, layer)
        except OmegaConfBaseException as error:
            raise ConfigError(one_line(error)) from None
    try:
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(one_line(error)) from None
    except ValueError as error:
        raise ConfigError(str(error)) from None
    assert isinstance(config, Config)
    return config


def dump(config: Config) -> str:
    """The resolved configuration as YAML; loading it gives the same ``Config`` back."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def flat(config: Config, *sections: str) -> dict[str, Any]:
    """The options of the named sections (all without names) as ``{"section.option": value}``."""
    tree = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(tree, dict)
    return {key: value for name in sections or tree for key, value in _flatten(str(name), tree[name])}


def _flatten(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(prefix, value)]
    return [pair for key, inner in value.items() for pair in _flatten(f"{prefix}.{key}", inner)]


def run_dir(config: Config) -> Path:
    """The run folder: ``run.dir``, or ``runs/<name>``."""
    return Path(config.run.dir) if config.run.dir else Path("runs") / config.run.name


def find_file(file: str) -> Path:
    for candidate in (Path(file), configs_dir() / file):
        if candidate.is_file():
            return candidate
    shipped = (
        sorted(p.relative_to(configs_dir()).as_posix() for p in configs_dir().rglob("*.yaml"))
        if configs_dir().is_dir()
        else []
    )
    close = difflib.get_close_matches(Path(file).name, shipped, n=1)
    raise ConfigError(f"--config: no file {file!r}" + (f"; did you mean configs/{close[0]}?" if close else ""))


def _file_layers(path: Path, seen: tuple[Path, ...] = ()) -> list[DictConfig]:
    """The file and, before it, the files that its ``base`` names (relative to it)."""
    if path in seen:
        raise ConfigError(f"{path}: base files refer to each other in a circle")
    try:
        content = OmegaConf.load(path)
    except Exception as error:
        raise ConfigError(f"{path}: not readable as YAML: {one_line(error)}") from None
    if not isinstance(content, DictConfig):
        raise ConfigError(f"{path}: must hold 'section:' mappings")
    bases = content.pop("base", [])
    layers: list[DictConfig] = []
    for base in [bases] if isinstance(bases, str) else bases:
        parent = path.parent / str(base)
        if not parent.is_file():
            raise ConfigError(f"{path}: base: no file {parent}")
        layers += _file_layers(parent, (*seen, path))
    return [*layers, content]


def from_words(words: list[str]) -> DictConfig:
    for word in words:
        if "=" not in word or word.startswith("-"):
            raise ConfigError(f"{word!r}: options are written section.option=value (and the file as --config FILE)")
    try:
        # ``key=`` means the empty text, as the options that it switches off say of themselves.
        return OmegaConf.from_dotlist([f'{word}""' if word.endswith("=") else word for word in words])
    except Exception as error:
        raise ConfigError(f"{' '.join(words)}: {one_line(error)}") from None


def check_keys(layer: Any, schema: type, prefix: str) -> None:
    """Refuse keys that the schema lacks, with the nearest one that it has."""
    known = {f.name: f for f in dataclasses.fields(schema)}
    for key in layer:
        name = str(key)
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {prefix}{close[0]}?" if close else _elsewhere(name) or f"known: {', '.join(known)}"
            raise ConfigError(f"{prefix}{name}: unknown option; {hint}")
        factory = known[name].default_factory
        if factory is not dataclasses.MISSING and dataclasses.is_dataclass(inner := type(factory())):
            value = layer[key]
            if not isinstance(value, DictConfig):
                raise ConfigError(f"{prefix}{name}: is a section; set {prefix}{name}.option=value")
            check_keys(value, inner, f"{prefix}{name}.")


def _elsewhere(name: str) -> str:
    """Where an option of that name lives, if the section was wrong."""
    homes = [
        f"{section.name}.{name}"
        for section in dataclasses.fields(Config)
        if section.default_factory is not dataclasses.MISSING and hasattr(section.default_factory(), name)
    ]
    return f"did you mean {homes[0]}?" if homes else ""


def one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    key = next((line.removeprefix("full_key: ") for line in lines if line.startswith("full_key: ")), "")
    text = lines[0] if lines else type(error).__name__
    return f"{key}: {text}" if key and key not in text else text
