"""A trained network as a function of anyone's images, from its checkpoint alone (public: ``esl_dist.load``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import cast, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from esl_dist.config.load import load_config
from esl_dist.data.decode import DataError, read_rgb
from esl_dist.data.transforms import Fit
from esl_dist.distributed.arithmetic import resolve
from esl_dist.distributed.runtime import Runtime
from esl_dist.metrics.inference import Predictor
from esl_dist.metrics.sliding import windowed
from esl_dist.models.card import Card
from esl_dist.models.weights import load_trained
from esl_dist.prediction.checkpoints import find_checkpoint, own_card, own_config
from esl_dist.prediction.forward import Predicted, Whole
from esl_dist.prediction.products import overlay
from esl_dist.runs import CheckpointFolder

One = str | PathLike[str] | Image.Image | NDArray[np.uint8]
"""An image: a file, Pillow's, or uint8 RGB ``[H, W, 3]``."""
Many = list[One] | tuple[One, ...]


@dataclass(frozen=True)
class Segmentation:
    """What a network says of one image, at the image's own size."""

    image: NDArray[np.uint8]
    """RGB ``[H, W, 3]``."""
    labels: NDArray[np.uint8]
    """Class of each pixel ``[H, W]``, an index into ``classes``."""
    scores: NDArray[np.float32]
    """Probability of that class ``[H, W]``, 0-1."""
    entropy: NDArray[np.float32]
    """Of the class probabilities, over its maximum ``[H, W]``, 0-1; small where the network is sure."""
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]

    @property
    def picture(self) -> Image.Image:
        """Every pixel in the colour of its class."""
        return self.overlay(1.0)

    def overlay(self, alpha: float = 0.5) -> Image.Image:
        """The image with ``alpha`` of each class's colour mixed in."""
        return Image.fromarray(overlay(self.image, self.labels, self.palette, alpha))


@dataclass(frozen=True)
class Model:
    """A network on its device; call it with an image, or with a list of them."""

    card: Card
    predictor: Predictor
    size: tuple[int, int]
    """Width and height that the network sees, in windows where it was scored in such at this size; results are at each
    image's own size.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        return self.card.classes

    @property
    def network(self) -> torch.nn.Module:
        """The network itself, from normalised images to logits."""
        return self.predictor.network

    @overload
    def __call__(self, images: One) -> Segmentation: ...
    @overload
    def __call__(self, images: Many) -> list[Segmentation]: ...
    def __call__(self, images: One | Many) -> Segmentation | list[Segmentation]:
        """Labels, scores and a coloured picture of an image, or of each of a list.

        Raises:
            ValueError: a file that is no image; names it.
        """
        if isinstance(images, str | PathLike | Image.Image | np.ndarray):
            return next(self._each([images]))
        return list(self._each(images))

    def _each(self, images: Many) -> Iterator[Segmentation]:
        seen = windowed(self.predictor, self.card.scoring) if self.size == self.card.input_size else self.predictor
        forward = Whole(seen, self.size, cast(Fit, self.card.fit), 1, maps=True)
        for given in images:
            image = _pixels(given)
            (found,) = forward([image])
            yield self._named(image, found)

    def _named(self, image: NDArray[np.uint8], found: Predicted) -> Segmentation:
        assert found.confidence is not None and found.entropy is not None
        return Segmentation(image, found.label, found.confidence, found.entropy, self.card.classes, self.card.palette)

    def __repr__(self) -> str:
        device = self.predictor.runtime.device
        return f"<{self.predictor.network.describe()}, {len(self.classes)} classes, on {device}>"


def load(
    path: str | PathLike[str],
    *,
    device: str = "auto",
    precision: str = "fp32",
    config: str | None = None,
    options: Sequence[str] = (),
    size: tuple[int, int] | None = None,
) -> Model:
    """The network of a checkpoint: a step's, a stage's or a run's folder, or a file of weights.

    A checkpoint of this package says itself what network it holds and what its classes are; one of an earlier release
    takes that from the configuration of the run that it lies in. A file of other people's weights needs ``config`` (a
    YAML file, or a shipped one's name) or ``options`` (``["model.name=…", "data.classes=19"]``).

    Args:
        device: ``auto`` takes CUDA where there is one; ``cpu``, ``cuda``, ``cuda:1``.
        precision: fp32, tf32, bf16 or fp16, of the forward.
        size: width and height that the network sees, in place of what it was scored at.

    Raises:
        ValueError: nothing there, a damaged file, another architecture; one line.
    """
    found = find_checkpoint(Path(path))
    card, layout = describe(found, config, options)
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else torch.device(device)
    # One rank with the process's own threads: nobody compares its bits with another rank's.
    alone = Runtime(0, 1, 0, 1, place, resolve(precision, place, "precision"), torch.get_num_threads(), 0, True, 100)
    return Model(card, predictor_of(found, card, layout, alone, precision), size or card.input_size)


def describe(checkpoint: Path, config: str | None = None, options: Sequence[str] = ()) -> tuple[Card, str]:
    """What network a checkpoint holds, and whose layout its file has. Without ``config`` it says so itself where it
    can, and options say at which size and with which fit it sees images.

    Raises:
        ValueError: it does not say, and no configuration was given; or an option says otherwise.
    """
    card = own_card(checkpoint) if config is None else None
    own = config or own_config(checkpoint)
    about = next((key for key in (word.partition("=")[0] for word in options) if _of_network(key)), "")
    if card is not None:
        if about:
            raise ValueError(
                f"{about}: the checkpoint says itself what network it holds; leave it out, or name a configuration"
                " (--config FILE; config=)"
            )
        seen = load_config(own, [*([] if own else card.words()), *options]) if options else None
        if seen is not None:
            shown = seen.eval
            card = replace(
                card,
                input_size=shown.input_size,
                fit=seen.data.target.fit,
                window=shown.window,
                stride=shown.stride,
                averaged=shown.averaged,
            )
        return card, "auto"
    if own is None and not about:
        raise ValueError(
            f"{checkpoint}: does not say what network it holds, and lies in no run; name its configuration"
            " (--config FILE; config=)"
        )
    read = load_config(own, list(options))
    return Card.of(read), read.model.layout


def predictor_of(checkpoint: Path, card: Card, layout: str, runtime: Runtime, precision: str) -> Predictor:
    """The network that a card describes, with a checkpoint's weights, on its device.

    Raises:
        ValueError: the file holds another architecture, or is not readable.
    """
    network = card.network()
    load_trained(weights_file(checkpoint), network, layout)
    return Predictor(runtime.place(network).eval(), runtime, precision)


def _of_network(key: str) -> bool:
    """Whether an option says what a network is, or what its numbers mean."""
    return key.startswith("model.") or key in {
        f"data.{n}" for n in ("classes", "protocol", "mean", "scale", "deviation")
    }


def weights_file(checkpoint: Path) -> Path:
    """The segmenter's file of a checkpoint's folder, or the file itself."""
    return CheckpointFolder(checkpoint).segmenter if checkpoint.is_dir() else checkpoint


def _pixels(given: One) -> NDArray[np.uint8]:
    """uint8 RGB ``[H, W, 3]``."""
    if isinstance(given, str | PathLike):
        try:
            return read_rgb(Path(given))
        except DataError as error:
            raise ValueError(str(error)) from None
    if isinstance(given, Image.Image):
        return np.array(given.convert("RGB"))
    if given.ndim != 3 or given.shape[2] != 3 or given.dtype != np.uint8:
        raise ValueError(f"an array must be uint8 RGB [H, W, 3], not {given.dtype} {list(given.shape)}")
    return np.ascontiguousarray(given)
