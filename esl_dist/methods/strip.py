"""A few predictions of each scored network, the same images for all stages of a run: what reports and trackers show."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
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


def write_strip(predict: Predict, folder: StageFolder, work: Work) -> None:
    """Label maps of evenly spaced scored images, as PNGs with the classes' palette, into ``folder.predictions``; for
    one process. A disk that refuses costs the pictures, not the run.
    """
    assert work.scored is not None
    try:
        _write(predict, spread(len(work.scored), IMAGES), folder.prediction, work)
    except OSError as error:
        log.warning("%s: its predictions are not shown (%s)", folder.path, error)


def write_extremes(predict: Predict, folder: StageFolder, result: EvaluationResult, work: Work) -> None:
    """Likewise of the worst and the best images of ``result``, in place of what ``folder.extremes`` holds."""
    assert work.scored is not None
    place = {name: index for index, name in enumerate(work.scored.names)}
    try:
        shutil.rmtree(folder.extremes, ignore_errors=True)
        _write(predict, [place[image.name] for image in (*result.worst, *result.best)], folder.extreme, work)
    except OSError as error:
        log.warning("%s: its worst and best images are not shown (%s)", folder.path, error)


def _write(predict: Predict, indices: Sequence[int], path_of: Callable[[str], Path], work: Work) -> None:
    assert work.scored is not None
    data, options, classes = work.config.data, work.config.eval, protocol(work.config.data.classes)
    size, fit = options.input_size, data.target.fit
    for found in inference_batches(work.scored, indices, size=size, batch=options.batch, fit=fit, leave_out=True):
        logits = predict(found.images)
        for slot, index in enumerate(found.indices):
            native = work.scored.size(index)
            factor = min(1.0, WIDEST / native[0])
            shown = max(1, round(native[0] * factor)), max(1, round(native[1] * factor))
            label = upsampled_argmax(cut_padding(logits[slot], native, size, fit).contiguous(), shown)
            write_bytes(path_of(work.scored.names[index]), _png(label.cpu().numpy(), classes), durable=False)


def _png(label: np.ndarray, classes: Protocol) -> bytes:
    picture = Image.fromarray(label).convert("L")
    table = np.zeros((256, 3), np.uint8)
    table[: classes.num_classes] = classes.palette
    picture.putpalette(table.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
