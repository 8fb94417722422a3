"""A set of images rewritten in the other domain's look by a trained generator: same layout, same names, same sizes, the
set's own labels.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from esl_dist.atomic import write_bytes
from esl_dist.config.schema import TranslateConfig
from esl_dist.config.translation import STRIDE
from esl_dist.data.dataset import Dataset, FolderDataset
from esl_dist.data.encode import png
from esl_dist.data.sampler import spread
from esl_dist.data.transforms import fit_image, resize_image
from esl_dist.distributed.collectives import agree, barrier, broadcast_json, gather_json, is_main
from esl_dist.distributed.in_step import Stop, in_step, never
from esl_dist.distributed.runtime import Runtime
from esl_dist.models import build_translation
from esl_dist.models.weights.reading import read, refuse_not_finite
from esl_dist.runs import Record
from esl_dist.runs.content import Colours

Picture = NDArray[np.uint8]

COLOUR_IMAGES = 100
"""Evenly spaced images of each set that colour statistics are taken of."""

SAMPLES = 4
"""Images of each domain that are kept with their translation and the way back, for the report."""


class Translator:
    """A trained generator as a function of one image. The bits depend on the image and the weights, not on its
    neighbours.
    """

    def __init__(self, checkpoint: Path, domain: str, options: TranslateConfig, runtime: Runtime) -> None:
        """``domain``: whose look it gives, ``source`` or ``target``.

        Raises:
            ValueError: the checkpoint folder holds no such generator, or one of another size.
        """
        stored = read(checkpoint / f"to_{domain}.pt")
        network, _ = build_translation(options, 0)
        try:
            network.load_state_dict(stored.tensors)
        except RuntimeError:
            raise ValueError(
                f"{stored.path}: is no generator of {options.blocks} blocks and width {options.width}; set"
                " translate.blocks and translate.width as it was trained"
            ) from None
        refuse_not_finite(stored.path, stored.tensors)
        self.network = runtime.place(network).eval()
        self.width, self.runtime, self.sha256 = options.load, runtime, stored.sha256

    @torch.inference_mode()
    def __call__(self, image: Picture) -> Picture:
        """uint8 RGB ``[H, W, 3]`` to the same shape: scaled to ``translate.load`` pixels across, translated, scaled
        back.
        """
        scaled = fit_image(image, (self.width, 0), "width")
        height, width = scaled.shape[1:]
        pixels = scaled.to(self.runtime.device).float().div_(127.5).sub_(1)[None]
        pixels = F.pad(pixels, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        with self.runtime.fixed_forward():
            made = self.network(pixels.contiguous(memory_format=torch.channels_last))[0, :, :height, :width]
        made = made.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().contiguous().numpy()
        return np.ascontiguousarray(resize_image(made, (image.shape[1], image.shape[0])).permute(1, 2, 0).numpy())


def rewrite(
    dataset: FolderDataset,
    root: Path,
    out: Path,
    translate: Translator,
    report: Callable[[str], None],
    stop: Stop = never,
) -> None:
    """Make ``out`` a data set like the one below ``root``, its images translated and its labels links to the originals.
    Collective.

    Every rank translates its share; an image is there whole or not at all, so a run that was cut short goes on where it
    ended. ``<out>.json``, written last, names the generator and holds every image's SHA-256 and size.

    Args:
        stop: asked after every few images; see ``in_step``.

    Raises:
        ValueError: an image cannot be read, or the folder was made by another generator; on all ranks.
        StoppedBySignal: ``stop`` said so on some rank.
    """
    manifest = _manifest(out)
    made_with = _made_with(dataset, root, translate.sha256, translate.width)
    known = broadcast_json(agree(lambda: _known(manifest, made_with)))
    names = [_placed(dataset, root, index).as_posix() for index in range(len(dataset))]
    missing = [index for index, name in enumerate(names) if not _whole(out / name, known.get(name))]
    if broadcast_json(not missing and len(known) == len(names)):
        return
    if translate.runtime.is_main:
        _record(manifest).write({"made_with": made_with, "files": known})
        for file in (path for path in root.iterdir() if path.is_file()):
            _link(out / file.name, file)  # lists and the set's own configuration
    barrier()
    mine = range(translate.runtime.rank, len(dataset), translate.runtime.world)
    if translate.runtime.is_main:
        report(f"{out}: translating {len(dataset)} images, {len(mine)} of them here")

    def work() -> Generator[None, None, None]:
        for index in mine:
            if not _whole(out / names[index], known.get(names[index])):
                write_bytes(out / names[index], png(Image.fromarray(translate(dataset.image(index)))))
            if dataset.label_files is not None:
                _link(out / dataset.label_files[index].relative_to(root), dataset.label_files[index])
            yield

    in_step(work(), stop)
    parts = gather_json({names[index]: _digest(out / names[index]) for index in mine})
    if translate.runtime.is_main:
        files = {name: entry for part in parts for name, entry in part.items()}
        _record(manifest).write({"made_with": made_with, "files": {name: files[name] for name in names}})
    barrier()


def is_rewritten(dataset: FolderDataset, root: Path, out: Path, generator_sha256: str, width: int) -> bool:
    """Whether ``rewrite`` has nothing left to do, as rank 0 sees it; no network is needed to tell. Collective."""

    def complete() -> bool:
        known = _known(_manifest(out), _made_with(dataset, root, generator_sha256, width))
        names = [_placed(dataset, root, index).as_posix() for index in range(len(dataset))]
        return len(known) == len(names) and all(_whole(out / name, known.get(name)) for name in names)

    return bool(broadcast_json(agree(lambda: complete() if is_main() else False)))


def picture_rows(sets: Mapping[str, Dataset], translators: Mapping[str, Translator], folder: Path) -> None:
    """``<folder>/<domain>-<k>-{0,1,2}.png``: an image of each domain, its translation, and the way back; for one
    process.
    """
    for domain, other in (("source", "target"), ("target", "source")):
        for number, index in enumerate(spread(len(sets[domain]), SAMPLES)):
            image = sets[domain].image(index)
            there = translators[other](image)
            for step, picture in enumerate((image, there, translators[domain](there))):
                write_bytes(folder / f"{domain}-{number}-{step}.png", png(Image.fromarray(picture)))


def colour_statistics(dataset: Dataset) -> Colours:
    """Mean and standard deviation of R, G and B, range 0-255, over the pixels of evenly spaced images."""
    total, squares, count = np.zeros(3), np.zeros(3), 0
    for index in spread(len(dataset), COLOUR_IMAGES):
        pixels = dataset.image(index).reshape(-1, 3).astype(np.float64)
        total, squares, count = total + pixels.sum(0), squares + np.square(pixels).sum(0), count + len(pixels)
    mean = total / count
    return {"mean": mean.tolist(), "std": np.sqrt(squares / count - np.square(mean)).tolist()}


class Rewritten(TypedDict):
    """``<out>.json``."""

    made_with: dict[str, Any]
    files: dict[str, list[str | int]]
    """Name -> SHA-256 and size in bytes."""


def _manifest(out: Path) -> Path:
    return out.with_name(f"{out.name}.json")


def _record(manifest: Path) -> Record[Rewritten]:
    return Record(manifest, Rewritten, "delete it and the same command makes sure of every image again")


def _made_with(dataset: Dataset, root: Path, generator_sha256: str, width: int) -> dict[str, Any]:
    return {
        "generator_sha256": generator_sha256,
        "width": width,
        "source": str(root.resolve()),
        "images": len(dataset),
    }


def _known(manifest: Path, made_with: Mapping[str, Any]) -> dict[str, list[str | int]]:
    """The finished files of an earlier call."""
    if not manifest.is_file():
        return {}
    content = _record(manifest).read()
    for key, value in made_with.items():
        if content["made_with"].get(key) != value:
            raise ValueError(
                f"{manifest}: was made with {key}={content['made_with'].get(key)}, now it is {value}; delete it and its"
                " folder to translate anew"
            )
    return content["files"]


def _placed(dataset: FolderDataset, root: Path, index: int) -> Path:
    """Where an image lies below its root, as a PNG."""
    return dataset.image_files[index].relative_to(root).with_suffix(".png")


def _whole(path: Path, entry: Sequence[Any] | None) -> bool:
    """Whether a translated image is there; images are renamed into place, so one of another size than recorded was
    damaged later.
    """
    try:
        size = path.stat().st_size
    except OSError:
        return False
    return entry is None or entry[1] == size


def _digest(path: Path) -> list[str | int]:
    data = path.read_bytes()
    return [hashlib.sha256(data).hexdigest(), len(data)]


def _link(link: Path, original: Path) -> None:
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(original.resolve(), link)
