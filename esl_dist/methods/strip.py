"""A few predictions of each scored network, the same images for all stages of a run: what reports and trackers show."""

from __future__ import annotations

import io
import logging

import numpy as np
from PIL import Image

from esl_dist.atomic import write_bytes
from esl_dist.data.loader import inference_batches
from esl_dist.data.sampler import spread
from esl_dist.data.transforms import cut_padding
from esl_dist.labels import Protocol, protocol
from esl_dist.methods.node import Work
from esl_dist.metrics.ensemble import Predict
from esl_dist.metrics.upsample import upsampled_argmax
from esl_dist.runs import StageFolder

log = logging.getLogger(__name__)

IMAGES, WIDEST = 4, 960
"""Images of a strip, and pixels across that each has at most."""


def write_strip(predict: Predict, folder: StageFolder, work: Work) -> None:
    """Label maps of evenly spaced scored images, as PNGs with the classes' palette, into ``folder.predictions``; for
    one
    process. A disk that refuses costs the pictures, not the run.
    """
    assert work.scored is not None
    data, options, classes = work.config.data, work.config.eval, protocol(work.config.data.classes)
    indices = spread(len(work.scored), IMAGES)
    size, fit = options.input_size, data.target.fit
    batches = inference_batches(work.scored, indices, size=size, batch=options.batch, fit=fit, leave_out=True)
    try:
        for found in batches:
            logits = predict(found.images)
            for slot, index in enumerate(found.indices):
                native = work.scored.size(index)
                factor = min(1.0, WIDEST / native[0])
                shown = max(1, round(native[0] * factor)), max(1, round(native[1] * factor))
                label = upsampled_argmax(cut_padding(logits[slot], native, size, fit).contiguous(), shown)
                data_bytes = _png(label.cpu().numpy(), classes)
                write_bytes(folder.prediction(work.scored.names[index]), data_bytes, durable=False)
    except OSError as error:
        log.warning("%s: its predictions are not shown (%s)", folder.path, error)


def _png(label: np.ndarray, classes: Protocol) -> bytes:
    picture = Image.fromarray(label).convert("L")
    table = np.zeros((256, 3), np.uint8)
    table[: classes.num_classes] = classes.palette
    picture.putpalette(table.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
