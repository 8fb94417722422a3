"""Checkpoints of every code of the lineage, in and out.

ADVENT, ESL, AdaptSegNet, BDL, MaxSquare and CRST publish the same network under nearly the same keys, with different
functions behind them. ``load`` recognises what keys and shapes show, takes the rest from the caller, and refuses where
it would have to guess.
"""

from __future__ import annotations

import logging
from pathlib import Path

from torch import nn

from esl_dist.models.deeplabv2 import DeepLabV2
from esl_dist.models.discriminator import Discriminator
from esl_dist.models.hrda import Hrda, Whole
from esl_dist.models.segmenter import Segmenter
from esl_dist.models.weights.discriminator import load_discriminator
from esl_dist.models.weights.exporting import export
from esl_dist.models.weights.lineages import LAYOUTS, LoadReport
from esl_dist.models.weights.networks import TRANSFORMERS, load_network
from esl_dist.models.weights.plain import load_plain
from esl_dist.models.weights.reading import read
from esl_dist.models.weights.segmenter import load_segmenter

__all__ = ["LAYOUTS", "LoadReport", "export", "load", "load_trained"]

_log = logging.getLogger(__name__)


def load(path: str | Path, model: nn.Module, layout: str = "auto", branches: int | None = None) -> LoadReport:
    """Copy a checkpoint's weights into ``model``, in place, and log what was loaded, dropped and renamed.

    Nothing in the file is executed, and ``model`` is untouched unless all of it fits.

    Args:
        layout: whose file it is: ``auto``, ``advent`` (and ESL), ``adaptsegnet``, ``bdl``, ``maxsquare``, ``crst``;
            ``resnet101`` takes the
            backbone alone from any of them. A ``segmenter.pt`` inside a checkpoint folder of this package is seen to be
            its own, whatever ``layout`` says. Discriminators and networks other than DeepLab-v2 need none.
        branches: ASPP branches that the file's own code sums, where that is known but not its lineage.

    Raises:
        ValueError: unreadable file, other architecture or classes, or a function that the file does not determine; one
            line with the way out.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"model.layout: unknown {layout!r}; one of {', '.join(LAYOUTS)}")
    if branches not in (None, 2, 4):
        raise ValueError(f"branches: 2 or 4, not {branches}")
    stored = read(path)
    if isinstance(model, Hrda) and isinstance(model.segmenter, Whole) and not stored.own:
        return load(path, model.segmenter.inner, layout, branches)  # nobody publishes these at two resolutions
    if isinstance(model, Discriminator):
        report = load_discriminator(stored, model)
    elif isinstance(model, DeepLabV2):
        report = load_segmenter(stored, model, layout, branches)
    elif layout != "auto":
        raise ValueError(f"model.layout: {layout} is a lineage of DeepLab-v2; leave it at auto for another network")
    elif isinstance(model, TRANSFORMERS):
        report = load_network(stored, model)
    else:
        assert isinstance(model, Segmenter)
        report = load_plain(stored, model)
    # Our own checkpoints are read after every stage: nothing about them is news.
    _log.log(logging.DEBUG if report.layout == "esl_dist" else logging.INFO, "%s", report)
    for note in report.notes:
        _log.warning("%s: %s", report.file, note)
    return report


def load_trained(path: str | Path, model: Segmenter, layout: str = "auto") -> LoadReport:
    """``load`` for a network that is to judge images: a file that gives its main head nothing is refused.

    Raises:
        ValueError: as ``load``, or only a backbone's weights.
    """
    report = load(path, model, layout)
    aux = {id(parameter) for parameter in model.aux_parameters()}
    lacking = [name for name, p in model.named_parameters() if name in report.missing and id(p) not in aux]
    if lacking:
        way = (
            "name whose file it is by model.layout (resnet101 is its backbone alone), or "
            if layout == "resnet101"
            else ""
        )
        raise ValueError(
            f"{path}: gives the head {lacking[0].partition('.')[0]} no weights, so it judges no image; {way}"
            "train with it as model.checkpoint first"
        )
    return report
