"""What a checkpoint says of its network, so that nobody needs the configuration that trained it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from esl_dist.config.schema import Config, EvalConfig, ModelConfig
from esl_dist.labels import PROTOCOLS, protocol
from esl_dist.models.builders import empty_segmenter, sketch_segmenter
from esl_dist.models.normalisation import Normalisation
from esl_dist.models.segmenter import Segmenter

KEY = "network"
"""Of a checkpoint's meta data."""
_ELSEWHERE = ("checkpoint", "layout", "bn", "discriminator_width")
"""Options of ``model`` that say how a network is trained, not what it computes."""


@dataclass(frozen=True)
class Card:
    """A segmenter and what its numbers mean."""

    name: str
    """As ``model.name``."""
    options: Mapping[str, Any]
    """As ``model.<name>``."""
    beside: Mapping[str, Any]
    """Further options of ``model`` that the network depends on."""
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    normalisation: Normalisation
    input_size: tuple[int, int]
    """Width and height that it was scored at."""
    fit: str
    """How an image of another shape met that size."""
    window: tuple[int, int] = (0, 0)
    """Width and height of the windows that slid over it, ``stride`` pixels apart; 0: it was seen whole."""
    stride: tuple[int, int] = (0, 0)
    averaged: str = "logits"
    """What of overlapping windows was averaged."""

    @classmethod
    def of(cls, config: Config) -> Card:
        """Of the network that a configuration trains."""
        model, classes = config.model, protocol(config.data.classes)
        sections = {*model.networks(), *_ELSEWHERE, "name"}
        beside = {f.name: getattr(model, f.name) for f in dataclasses.fields(model) if f.name not in sections}
        return cls(
            model.name,
            dataclasses.asdict(model.options),
            beside,
            classes.classes,
            classes.palette,
            sketch_segmenter(model, classes.num_classes, config.data).normalisation,
            config.eval.input_size,
            config.data.target.fit,
            config.eval.window,
            config.eval.stride,
            config.eval.averaged,
        )

    @property
    def scoring(self) -> EvalConfig:
        """How the network was shown an image when it was scored."""
        averaged = cast(Any, self.averaged)
        return EvalConfig(input_size=self.input_size, window=self.window, stride=self.stride, averaged=averaged)

    def network(self) -> Segmenter:
        """The network with every entry zero, for the checkpoint's weights.

        Raises:
            ValueError: a network or an option that this release does not have.
        """
        try:
            options = dataclasses.replace(getattr(ModelConfig(), self.name), **_tuples(self.options))
            model = ModelConfig(name=self.name, **{self.name: options}, **_tuples(self.beside))
        except (AttributeError, TypeError) as error:
            raise ValueError(
                f"the checkpoint's network {self.name} is not of this release ({error}); update esl_dist"
            ) from None
        network = empty_segmenter(model, len(self.classes))
        network.normalisation = self.normalisation
        return network

    def words(self) -> list[str]:
        """The options that stand for it in a configuration, as ``section.option=value``. Classes are named where they
        are a shipped set; another's file is not in a card.
        """
        named = (self.classes, self.palette)
        known = next((n for n, shipped in PROTOCOLS.items() if (shipped.classes, shipped.palette) == named), "")
        found = {
            "model.name": self.name,
            **{f"model.{self.name}.{key}": value for key, value in self.options.items()},
            **{f"model.{key}": value for key, value in self.beside.items()},
            "eval.input_size": self.input_size,
            "eval.window": self.window,
            "eval.stride": self.stride,
            "eval.averaged": self.averaged,
            "data.target.fit": self.fit,
            **({"data.classes": known} if known else {}),
        }
        return [f"{key}={json.dumps(value)}" for key, value in found.items()]

    def to_json(self) -> dict[str, Any]:
        """JSON values; ``of_json`` gives the same card back."""
        return dataclasses.asdict(self)

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> Card:
        """What ``to_json`` gave, read back.

        Raises:
            ValueError: something is missing or of another kind.
        """
        try:
            fields = {field.name: field for field in dataclasses.fields(cls)}
            # A card of an earlier release has no entry for what came later, and there is a default for that.
            named = [n for n, field in fields.items() if n in content or field.default is dataclasses.MISSING]
            given = _tuples({key: content[key] for key in named})
            normalisation = Normalisation(**_tuples(content["normalisation"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the checkpoint's card is damaged ({error!r})") from None
        return cls(**{**given, "normalisation": normalisation})


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists as the tuples that they were."""
    return {key: _tuple(value) for key, value in values.items()}


def _tuple(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _tuples(value)
    return tuple(_tuple(item) for item in value) if isinstance(value, list | tuple) else value
