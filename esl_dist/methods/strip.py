"""A few predictions of each scored network, the same images for all stages of a run: what reports and trackers show."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from esl_dist.atomic import write_bytes
from esl_dist.data.loader import inference_batches
from esl_dist.data.sampler import spread
from esl_dist.data.transforms import cut_padding
from esl_dist.labels import Protocol, protocol
from esl_dist.methods.node import Work
from esl_dist.metrics.ensemble import Predict
from esl_dist.metrics.evaluate import EvaluationResult
from esl_dist.metrics.upsample import upsampled_argmax
from esl_dist.runs import StageFolder

log = logging.getLogger(__name__)

IMAGES, WIDEST = 4, 960
"""Images of a strip, and pixels across that each has at most."""
SIDE, GAP = 256, 4
"""Pixels across of a strip's pictures, and between them."""


def write_strip(predict: Predict, folder: StageFolder, step: int, work: Work) -> None:
    """Label maps of evenly spaced scored images, as PNGs with the classes' palette, into ``folder.predictions``, and
    each beside its image and its truth into ``folder.strips``; for one process. A disk that refuses costs the pictures,
    not the run.
    """
    assert work.scored is not None
    classes = protocol(work.config.data.classes)
    try:
        for index, label in _labelled(predict, spread(len(work.scored), IMAGES), work):
            name = work.scored.names[index]
            write_bytes(folder.prediction(name), _png(label, classes), durable=False)
            maps = [coloured(ids, classes) for ids in (work.scored.label(index), label)]
            beside = side_by_side([Image.fromarray(work.scored.image(index)), *maps])
            write_bytes(folder.strip(step, name), beside, durable=False)
    except OSError as error:
        log.warning("%s: its predictions are not shown (%s)", folder.path, error)


def write_extremes(predict: Predict, folder: StageFolder, result: EvaluationResult, work: Work) -> None:
    """Likewise of the worst and the best images of ``result``, in place of what ``folder.extremes`` holds."""
    assert work.scored is not None
    place = {name: index for index, name in enumerate(work.scored.names)}
    try:
        shutil.rmtree(folder.extremes, ignore_errors=True)
        chosen = [place[image.name] for image in (*result.worst, *result.best)]
        for index, label in _labelled(predict, chosen, work):
            picture = _png(label, protocol(work.config.data.classes))
            write_bytes(folder.extreme(work.scored.names[index]), picture, durable=False)
    except OSError as error:
        log.warning("%s: its worst and best images are not shown (%s)", folder.path, error)


def _labelled(predict: Predict, indices: Sequence[int], work: Work) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(index, predicted train ids ``[H, W]``, at most ``WIDEST`` across) of scored images that can be read."""
    assert work.scored is not None
    data, options = work.config.data, work.config.eval
    size, fit = options.input_size, data.target.fit
    for found in inference_batches(work.scored, indices, size=size, batch=options.batch, fit=fit, leave_out=True):
        logits = predict(found.images)
        for slot, index in enumerate(found.indices):
            native = work.scored.size(index)
            factor = min(1.0, WIDEST / native[0])
            shown = max(1, round(native[0] * factor)), max(1, round(native[1] * factor))
            label = upsampled_argmax(cut_padding(logits[slot], native, size, fit).contiguous(), shown)
            yield index, label.cpu().numpy()


def coloured(label: NDArray[np.uint8], classes: Protocol) -> Image.Image:
    """Train ids ``[H, W]`` with the classes' palette; what is ignored is black."""
    picture = Image.fromarray(np.ascontiguousarray(label)).convert("L")
    table = np.zeros((256, 3), np.uint8)
    table[: classes.num_classes] = classes.palette
    picture.putpalette(table.tobytes())
    return picture


def side_by_side(pictures: Sequence[Image.Image]) -> bytes:
    """Pictures of one shape as one JPEG, each at most ``SIDE`` across; those with a palette keep its colours."""
    factor = min(1.0, SIDE / pictures[0].width)
    size = max(1, round(pictures[0].width * factor)), max(1, round(pictures[0].height * factor))
    row = Image.new("RGB", (len(pictures) * (size[0] + GAP) - GAP, size[1]), "white")
    for place, picture in enumerate(pictures):
        how = Image.Resampling.NEAREST if picture.mode == "P" else Image.Resampling.BILINEAR
        row.paste(picture.resize(size, how).convert("RGB"), (place * (size[0] + GAP), 0))
    return _encoded(row, "JPEG", quality=90)


def _png(label: NDArray[np.uint8], classes: Protocol) -> bytes:
    return _encoded(coloured(label, classes), "PNG", optimize=True)


def _encoded(picture: Image.Image, kind: str, **options: int | bool) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
