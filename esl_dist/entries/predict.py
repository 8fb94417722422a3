"""Predictions for anyone's pictures: ``torchrun --nproc_per_node=N -m esl_dist.predict --checkpoint CKPT --images WHAT
--out DIR``.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from esl_dist.distributed.collectives import agree
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.guards import StopFlag, alone_in, die_with_parent
from esl_dist.entries import cli
from esl_dist.prediction import job
from esl_dist.prediction.frames import VideoFrames, open_frames
from esl_dist.prediction.model import describe, predictor_of
from esl_dist.prediction.overlays import write_video
from esl_dist.prediction.products import Products, server_ids
from esl_dist.prediction.settings import Asked, batches, identity, require_apart
from esl_dist.prediction.sheet import write_sheet
from esl_dist.runs import RunFolder
from esl_dist.tracking.console import setup_logging


def parser() -> argparse.ArgumentParser:
    made = cli.parser("predict", "Label maps, overlays and confidences of images, folders and videos.", default=cli.OWN)
    add = made.add_argument
    add("--checkpoint", required=True, type=Path, help="folder of a checkpoint, a stage or a run, or a weights file")
    add("--images", required=True, metavar="WHAT", help="folder, 'pattern*.png', list.txt, an image or a video")
    add("--out", required=True, type=Path, help="folder to write to; the same command goes on in it")
    add("--size", help="WxH that the network sees every image at (default: eval.input_size)")
    add("--window", help="WxH: slide windows of this size over images at their own scale instead")
    add("--batch", type=int, help="images (or windows) of a forward (default: eval.batch)")
    add("--precision", default="fp32", choices=("fp32", "tf32", "bf16", "fp16", "auto"), help="of the forward")
    add("--bn", default="running", choices=("running", "frames"), help="BN statistics: as trained, or of these frames")
    add("--alpha", type=float, default=0.5, help="share of the class's colour in an overlay, 0 to 1; 0 makes none")
    add("--ids", action="store_true", help="also label ids as Cityscapes' test server reads them")
    add("--confidence", action="store_true", help="also the label's probability, 0 to 255 for 0 to 1")
    add("--entropy", action="store_true", help="also the normalised entropy, 0 to 255 for 0 to 1")
    add("--video", action="store_true", help="of a video: also the overlays as a video")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files; 1 where a frame could not be read (all others are done then)."""
    arguments, config = cli.parse(parser(), argv)
    asked = Asked(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Asked)})
    if arguments.video and not asked.alpha:
        raise ValueError("--video: is made of the overlays, which --alpha 0 leaves out")
    out: Path = arguments.out
    require_apart(out, arguments.images)
    die_with_parent()
    started = Runtime.start(config.run, RunFolder(out).flight_recorder)
    with started as runtime, StopFlag() as stop, alone_in(out, runtime.is_main):
        setup_logging(runtime.is_main, None)
        frames = agree(lambda: open_frames(arguments.images, out))
        if arguments.video and not isinstance(frames, VideoFrames):
            raise ValueError(f"--video: {arguments.images} is no video; leave it out")
        named = None if arguments.own else arguments.config
        card, layout = agree(lambda: describe(asked.checkpoint, named, arguments.options))
        if asked.ids:
            server_ids(card.classes)
        predictor = agree(lambda: predictor_of(asked.checkpoint, card, layout, runtime, asked.precision))
        forward = asked.forward(config, predictor)
        settings = agree(lambda: identity(asked, config, card.classes, forward, frames))
        products = Products(card, asked.kinds, asked.alpha)
        task = job.Task(frames, forward, products, out, settings, forward.batch, config.data.workers)
        statistics = "target" if asked.bn == "frames" else "running"
        seen = batches(frames, forward, config.extract.bn_images)
        with runtime.fixed_forward(asked.precision), predictor.statistics(statistics, seen):
            made = job.run(task, stop=lambda: stop.local)
        if runtime.is_main:
            if isinstance(frames, VideoFrames) and arguments.video:
                print(f"video: {write_video(task, frames)}")
            print(f"{made.frames - len(made.unreadable)} of {made.frames} frames: {out}")
            print(f"contact sheet: {write_sheet(task, made)}", flush=True)
    return 1 if made.unreadable else 0
