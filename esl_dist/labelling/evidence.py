"""What can be known about a teacher's labels before anybody learns from them: which batch-norm statistics are safer,
and which confidence keeps the fewest wrong labels.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch.nn.modules.batchnorm import _BatchNorm

from esl_dist.config.schema import Config
from esl_dist.data import open_dataset
from esl_dist.data.dataset import Dataset
from esl_dist.data.sampler import spread
from esl_dist.data.subset import Subset
from esl_dist.distributed import collectives
from esl_dist.distributed.collectives import agree
from esl_dist.distributed.in_step import Stop
from esl_dist.distributed.runtime import Runtime
from esl_dist.labelling.open import ground_truth, images_of, statistics_batches
from esl_dist.labelling.opened import opened
from esl_dist.labelling.statistics import compare_statistics, sentence
from esl_dist.labels import protocol
from esl_dist.metrics.inference import Predictor
from esl_dist.pseudo_labels.scores.kinds import KINDS
from esl_dist.pseudo_labels.scores.scorer import scoring
from esl_dist.pseudo_labels.sets.comparison import VIEWS, Comparison, table
from esl_dist.pseudo_labels.sets.images import Readout
from esl_dist.pseudo_labels.sets.views import Views
from esl_dist.runs.folders import TeacherFolder

log = logging.getLogger(__name__)


def gather_evidence(
    config: Config, checkpoint: Path, target: Dataset, runtime: Runtime, folder: TeacherFolder, stop: Stop
) -> None:
    """Measure what ``extract.check_statistics`` and ``extract.compare`` ask for, log it, write ``evidence.json``.
    Collective.

    Args:
        checkpoint: of the network that makes the labels.
        folder: where the record goes.

    Raises:
        ValueError: the held-out split is not there, or labelled images cannot be read.
    """
    options = config.extract
    if not (options.check_statistics or options.compare):
        return
    predictor = agree(lambda: Predictor.from_checkpoint(config, checkpoint, runtime, options.precision))
    source = agree(lambda: open_dataset(config.data.source, config.data.root, config.data.classes, _held_out(config)))
    found: dict[str, Any] = {}
    with runtime.fixed_forward(options.precision):
        if options.check_statistics and any(isinstance(module, _BatchNorm) for module in predictor.network.modules()):
            found["statistics"] = compare_statistics(predictor, config, target, source, stop)
            log.info("%s", sentence(found["statistics"], options.bn_statistics))
        if options.compare:
            found["confidences"] = _compare(predictor, checkpoint, config, target, source, stop)
    if found and collectives.is_main():
        folder.evidence.write(found)
    collectives.barrier()


def require_held_out(config: Config) -> None:
    """``ValueError`` where figures are asked for of a split (``extract.held_out``) that is not there."""
    options = config.extract
    if options.held_out and (options.check_statistics or options.compare):
        open_dataset(config.data.source, config.data.root, config.data.classes, options.held_out)


def _held_out(config: Config) -> str | None:
    return config.extract.held_out or None


def _compare(
    predictor: Predictor, checkpoint: Path, config: Config, target: Dataset, source: Dataset, stop: Stop
) -> dict[str, Any]:
    """Every confidence on images with ground truth: the target's, or the source's where those are withheld."""
    options, data = config.extract, config.data
    domain, whole = (data.target, target) if target.labelled else (data.source, source)
    judged = Subset(whole, tuple(spread(len(whole), options.compare)))
    canvas = options.size if target.labelled else domain.size
    device = predictor.runtime.device
    size = (canvas[1], canvas[0])
    images = images_of(config, judged, domain, canvas)
    classes = protocol(data.classes).num_classes
    readout = Readout(scoring("exact", device), images.output_size or (lambda index: size), KINDS, "exact", classes)

    def load(file: Path) -> Predictor:
        if file == checkpoint:
            return predictor
        return agree(lambda: Predictor.from_checkpoint(config, file, predictor.runtime, options.precision))

    with opened(checkpoint, load, options.bn_statistics, lambda: statistics_batches(config, target)) as network:
        mine = range(len(judged))[collectives.rank() :: collectives.world()]
        views = [*VIEWS]
        views += [Views(heads=True)] if predictor.network.multi_level else []
        views += [Views(teacher=True)] if network.partner else []
        figures = Comparison(images, ground_truth(judged), readout, views, stop)(network, mine)
    where = "target" if target.labelled else "held-out source" if options.held_out else "source (training images)"
    about = f"{len(judged)} {where} images"
    log.info("%s", table(figures, about))
    return {"about": about, "figures": figures}
