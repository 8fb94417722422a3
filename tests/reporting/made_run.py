"""A run folder as the pipeline leaves it, made up in a second: small street images, drawn scores, perturbed labels."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
from PIL import Image

from esl_dist.config.load import dump, load_config
from esl_dist.config.schema import Config, StreetsConfig
from esl_dist.data import open_dataset
from esl_dist.labels import protocol
from esl_dist.pseudo_labels.sets.spool import Layout, ShardWriter, pack
from esl_dist.runs import manifest
from esl_dist.synthetic.streets import ensure_pair

SIZE = (256, 128)
CHECKPOINT = "ab" * 32
STAGES = {
    "initial": 18.0,
    "source": 24.0,
    "align-bn": 29.0,
    "align": 30.0,
    "selftrain-ssl": 31.5,
    "selftrain-esl": 32.4,
    "oracle": 44.0,
}
WITHHELD = 'run.stages=[initial,source,"align:bn",align,"selftrain:ssl","selftrain:esl"]'
LOSSES = {
    "initial": ("source_main", "source_aux"),
    "source": ("source_main", "source_aux"),
    "align-bn": ("source_main", "source_aux"),
    "align": (
        "source_main",
        "source_aux",
        "adv_main",
        "adv_aux",
        "d_main_source",
        "d_main_target",
        "d_aux_source",
        "d_aux_target",
    ),
    "selftrain-ssl": (
        "source_main",
        "source_aux",
        "target_main",
        "target_aux",
        "adv_main",
        "adv_aux",
        "d_main_source",
        "d_main_target",
    ),
    "selftrain-esl": (
        "source_main",
        "source_aux",
        "target_main",
        "target_aux",
        "adv_main",
        "adv_aux",
        "d_main_source",
        "d_main_target",
    ),
    "oracle": ("source_main", "source_aux"),
}


def make_data(root: Path, images: int = 6) -> StreetsConfig:
    """The embedded pair, a few images of it."""
    streets = StreetsConfig(make=True, size=SIZE, source_train=1, target_train=images, target_val=1, target_test=2)
    ensure_pair(root, streets, lambda text: None)
    return streets


def make_run(
    path: Path,
    data: Path,
    streets: StreetsConfig,
    *,
    seed: int = 1,
    name: str = "streets",
    labelled: bool = True,
    shift: float = 0.0,
    options: tuple[str, ...] = (),
) -> Config:
    """Write a complete run folder; ``shift`` moves every adapted score by so many points."""
    config = load_config(
        None,
        [
            f"run.name={name}",
            f"run.seed={seed}",
            f"data.root={data}",
            f"data.target.labelled={str(labelled).lower()}",
            *([] if labelled else [WITHHELD]),
            *options,
        ],
    )
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, streets=streets))
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(dump(config))
    stream = np.random.RandomState(seed)
    with open(path / "metrics.jsonl", "w") as log:
        clock = 1_790_000_000.0
        for stage, miou in STAGES.items():
            if stage == "oracle" and not labelled:
                continue
            folder = path / stage
            (folder / "checkpoints" / "step_00000240").mkdir(parents=True)
            content = manifest.encode(240, {}, {"world": 2})
            (folder / "checkpoints" / "step_00000240" / "manifest.json").write_bytes(content)
            clock = _log_stage(log, stage, clock, stream)
            (folder / "done.json").write_text(
                json.dumps(
                    {
                        "stage": stage,
                        "step": 240,
                        "checkpoint": "step_00000240",
                        "weights_sha256": CHECKPOINT,
                        "seconds": 31.25,
                    }
                )
            )
            if labelled:
                moved = miou + (shift if stage.startswith(("align", "selftrain")) else 0)
                for kind, more in (("running", 0.0), ("target", 6.0 if stage != "oracle" else 1.0)):
                    content = _metrics(moved + more, kind, stream)
                    (folder / f"metrics-{kind}.json").write_text(json.dumps(content))
        log.write(
            json.dumps({"event": "warning", "time": clock, "text": "1 unreadable sample(s) replaced <img src=x>"})
            + "\n"
        )
        log.write('{"event": "train", "stage": "source", "st')  # as a kill leaves it
    _labels(path / "pseudo_labels", config, stream)
    return config


def _metrics(miou: float, kind: str, stream: np.random.RandomState) -> dict[str, object]:
    names = protocol("19").classes
    iou = {n: float(np.clip(miou / 100 + 0.25 * stream.standard_normal(), 0.001, 0.97)) for n in names}
    iou |= {"train": None}  # type: ignore[dict-item]
    known = [v for v in iou.values() if v is not None]
    return {
        "miou": sum(known) / len(known),
        "iou": iou,
        "bn_statistics": kind,
        "split": "test",
        "images": 200,
        "at": "native",
        "confusion": [],
    }


def _log_stage(log, stage: str, clock: float, stream: np.random.RandomState) -> float:
    for step in range(20, 241, 20):
        clock += 2.5
        values = {
            f"loss/{name}": (
                (0.7 if name.startswith(("adv", "d_")) else 2 * 0.99**step + 0.4) + 0.05 * stream.standard_normal()
            )
            for name in LOSSES[stage]
        }
        line = {
            "event": "train",
            "stage": stage,
            "step": step,
            "steps": 240,
            "lr": 0.01,
            "images_per_second": 41 + stream.random_sample(),
            "data_wait": 0.08,
            **values,
        }
        log.write(json.dumps({**line, "time": clock}) + "\n")
    return clock


def _labels(folder: Path, config: Config, stream: np.random.RandomState) -> None:
    """Predictions are the truth with blocks of errors; SSL and ESL keep them where two smooth fields, nearly the same,
    are high.
    """
    truth_config = dataclasses.replace(config.data.target, labelled=True)
    target = open_dataset(truth_config, config.data.root, config.data.classes)
    names = protocol("19").classes
    layout = Layout("scores", {"checkpoint": CHECKPOINT}, {"checkpoint": CHECKPOINT}, "exact 256x128")
    spool = ShardWriter(folder / "spool" / CHECKPOINT[:12] / "rank0-0000.h5", layout)
    kept = {rule: np.zeros(19, np.int64) for rule in ("esl", "ssl")}
    count = np.zeros(19, np.int64)
    for i, name in enumerate(target.names):
        truth = target.label(i)
        height, width = truth.shape
        wrong = _field(stream, width, height) > 1.1
        guess = np.where(
            wrong | (truth == 255),
            stream.randint(0, 19, (height // 16 + 1, width // 16 + 1)).repeat(16, 0).repeat(16, 1)[:height, :width],
            truth,
        )
        prediction = guess.astype(np.uint8)
        count += np.bincount(prediction.reshape(-1), minlength=19)
        doubt = _field(stream, width, height) + 1.2 * wrong
        for rule, more in (("esl", 0.25), ("ssl", 0.3)):
            label = np.where(doubt + more * _field(stream, width, height) < 0.5, prediction, 255).astype(np.uint8)
            kept[rule] += np.bincount(label.reshape(-1), minlength=256)[:19]
            path = folder / rule / "labels" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(label).save(path)
        arrays = {"label": prediction, "entropy": doubt.astype(np.float32)}
        spool.add(i, name, (height, width), pack(arrays))
    spool.close({})
    for rule in kept:
        entries = [
            {
                "name": n,
                "count": int(c),
                "median": float(stream.random_sample()) if c else None,
                "threshold": 0.1 + 0.3 * float(stream.random_sample()),
                "kept": int(k),
            }
            for n, c, k in zip(names, count, kept[rule], strict=True)
        ]
        content = {"rule": rule, "nu": 0.1, "mu": 0.9, "classes": entries, "checkpoint": CHECKPOINT}
        (folder / rule / "thresholds.json").write_text(json.dumps(content))
    (folder / "of-align").mkdir()
    (folder / "of-align" / "selection.json").write_text(json.dumps(_selection(config.data.target.labelled)))


def _selection(labelled: bool) -> dict[str, object]:
    """The record of an extraction whose probabilities are 10 points too sure in their only two intervals."""
    pixels, right, mean = [0] * 20, [None] * 20, [None] * 20
    pixels[12], right[12], mean[12] = 3000, 0.525, 0.625  # type: ignore[call-overload]
    pixels[19], right[19], mean[19] = 1000, 0.875, 0.975  # type: ignore[call-overload]
    bins = {"edges": [i / 20 for i in range(21)], "pixels": pixels, "right": right, "mean": mean}
    about = {"images": 6, "pixels": 4000, "checkpoint": CHECKPOINT, "ground_truth": labelled, "sets": []}
    return {**about, "agreement": None, "curves": {}, "reliability": {"probability": bins} if labelled else None}


def _field(stream: np.random.RandomState, width: int, height: int) -> np.ndarray:
    """Smooth noise of unit size, float64 ``[height, width]``."""
    coarse = Image.fromarray(stream.standard_normal((height // 12 + 2, width // 12 + 2)).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64) * 1.3
