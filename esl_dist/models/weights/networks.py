"""Checkpoints of transformer segmenters: whole networks of DAFormer's, HRDA's, MIC's and VFM-UDA's code, and encoders
of many libraries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esl_dist.models.adapter import VfmUdaPlus
from esl_dist.models.daformer import DaFormer
from esl_dist.models.dinov2 import DinoV2
from esl_dist.models.hrda import Hrda
from esl_dist.models.mit import MixTransformer
from esl_dist.models.soma import take_plain
from esl_dist.models.transformer import IMAGENET
from esl_dist.models.vfm import VfmUda
from esl_dist.models.weights.encoders import DINOV2, MIT, State, Tensors, recognise
from esl_dist.models.weights.lineages import LoadReport
from esl_dist.models.weights.reading import Stored, refuse_not_finite

ENCODERS = {DaFormer: "backbone.", VfmUda: "encoder.", VfmUdaPlus: "encoder.", DinoV2: "", MixTransformer: ""}
TRANSFORMERS = (*ENCODERS, Hrda)
OWN = "esl_dist"
ADAPTER_SURPLUS = ("mask_token", "norm.weight", "norm.bias")
"""What DINOv2 has and its adapted form has not."""


@dataclass(frozen=True)
class Content:
    """What a file gives a network."""

    layout: str
    tensors: State
    """Under the network's names."""
    dropped: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    """Prefixes of the network's names that such a file need not give."""


def load_network(stored: Stored, model: nn.Module) -> LoadReport:
    """Copy ``stored`` into ``model``, in place, whole or not at all.

    Raises:
        ValueError: no layout that this network can be loaded from, or entries that are missing, unknown or of another
            shape; one line.
    """
    content = next(_contents(stored, model), None)
    if content is None:
        few = ", ".join(list(stored.tensors)[:2])
        wanted = "MiT's or DAFormer's" if _uses_mit(model) else "DINOv2's or VFM-UDA's"
        raise ValueError(
            f"{stored.path}: is not {wanted} (its keys begin {few}); see docs/how-to/weights.md for files that are"
        )
    try:
        take_plain(model, content.tensors)
    except ValueError as error:
        raise ValueError(f"{stored.path}: {error}; another size") from None
    absent = _check(stored, content, model)
    refuse_not_finite(stored.path, content.tensors)
    state = model.state_dict()
    with torch.no_grad():
        for key, value in content.tensors.items():
            state[key].copy_(value)
    heads = (
        sorted({key.split(".")[0] for key in absent if key.startswith(content.optional)}) if content.optional else []
    )
    return LoadReport(
        file=str(stored.path),
        sha256=stored.sha256,
        layout=content.layout,
        loaded=len(content.tensors),
        dropped=content.dropped,
        renamed={prefix: "" for prefix in stored.prefixes},
        missing=tuple(absent),
        input_normalisation=IMAGENET,
        notes=(f"the file gives {' and '.join(heads)} no weights: left at the initial ones",) if heads else (),
    )


def _contents(stored: Stored, model: nn.Module) -> Iterator[Content]:
    """What the file may be to this network, the likeliest first."""
    tensors = stored.tensors
    if stored.own:
        yield Content(OWN, dict(tensors))
    elif isinstance(model, Hrda):
        yield from _multi_resolution(stored, model)
    else:
        if isinstance(model, DaFormer):
            yield from _mmseg(stored)
        elif isinstance(model, VfmUda | VfmUdaPlus):
            yield from _lightning(stored, model)
        yield from _encoder(stored, model)


def _encoder(stored: Stored, model: nn.Module) -> Iterator[Content]:
    found = recognise(MIT if _uses_mit(model) else DINOV2, stored.tensors)
    if found is None:
        return
    layout, tensors, dropped = found
    head = stored.tensors.get("head.weight")
    if layout.name == "mit" and head is not None and head.shape[0] != 1000:
        raise ValueError(
            f"{stored.path}: classifies {head.shape[0]} classes, ImageNet has 1000; take SegFormer's ImageNet-1k file"
        )
    prefix = next(prefix for kind, prefix in ENCODERS.items() if isinstance(model, kind))
    encoder = model.get_submodule(prefix.rstrip(".")) if prefix else model
    if isinstance(encoder, DinoV2):
        registers = "register_tokens" in tensors
        if registers != (encoder.register_tokens is not None):
            has, lacks = ("has", "none") if registers else ("has no", "some")
            which = "without" if registers else "with"
            raise ValueError(
                f"{stored.path}: {has} register tokens, the network {lacks}; take DINOv2's file {which} _reg"
            )
        surplus = [
            key for key in ADAPTER_SURPLUS if isinstance(model, VfmUdaPlus) and tensors.pop(key, None) is not None
        ]
        dropped += surplus
    own = {f"{prefix}{key}" for key in _bare(encoder)}
    rest = tuple(key for key in model.state_dict() if key not in own)
    optional = rest if layout.name != "timm" else (*rest, f"{prefix}mask_token")
    yield Content(layout.name, {f"{prefix}{key}": value for key, value in tensors.items()}, tuple(dropped), optional)


def _bare(encoder: nn.Module) -> list[str]:
    """Names of the encoder's weights as its own authors published it, without an adapter."""
    adapter = ("level_embed", "spm.", "interactions.", "up.", "norm1.", "norm2.", "norm3.", "norm4.")
    keys = list(encoder.state_dict())
    return [key for key in keys if not (isinstance(encoder, DinoV2) and key.startswith(adapter))]


def _mmseg(stored: Stored) -> Iterator[Content]:
    """DAFormer's files: an adaptation method around the network (``model.``), or the network alone."""
    tensors, dropped = _under(stored.tensors, "model.")
    if "decode_head.head.conv_seg.weight" in tensors:
        raise ValueError(f"{stored.path}: is a network of two resolutions; set model.hrda=true")
    if "decode_head.conv_seg.weight" in tensors and "backbone.patch_embed1.proj.weight" in tensors:
        yield Content("daformer", tensors, dropped)


def _multi_resolution(stored: Stored, model: Hrda) -> Iterator[Content]:
    tensors, dropped = _under(stored.tensors, "model.")
    if "decode_head.head.conv_seg.weight" in tensors:
        places = (
            ("decode_head.head.", "segmenter.decode_head."),
            ("decode_head.scale_attention.", "attention."),
            ("backbone.", "segmenter.backbone."),
        )
        renamed = {
            next((new + key[len(old) :] for old, new in places if key.startswith(old)), key): value
            for key, value in tensors.items()
        }
        yield Content("hrda", renamed, dropped)
        return
    for content in _contents(stored, model.segmenter):
        tensors = {f"segmenter.{key}": value for key, value in content.tensors.items()}
        optional = (*(f"segmenter.{prefix}" for prefix in content.optional), "attention.")
        yield Content(content.layout, tensors, content.dropped, optional)


def _lightning(stored: Stored, model: VfmUda | VfmUdaPlus) -> Iterator[Content]:
    """VFM-UDA's files: ``network.`` beside its teacher and its feature extractor; or an adapter pre-trained on
    ImageNet.
    """
    tensors, dropped = _under(stored.tensors, "network.")
    if (
        not dropped
        and len(tensors) == len(stored.tensors)
        and not any(key.startswith("network.") for key in stored.tensors)
    ):
        return
    twice = [key for key in tensors if key.startswith("token_masking.")]  # the encoder's mask token, registered again
    classifier = [key for key in tensors if "head" in key.split(".")]
    tensors = {key: value for key, value in tensors.items() if key not in {*twice, *classifier}}
    left_out = (*dropped, *(f"network.{key}" for key in (*twice, *classifier)))
    if "encoder.spm.fc1.weight" in tensors and "out.weight" not in tensors:
        yield Content("vfm-uda++ adapter", tensors, left_out, ("upscale.", "out."))
    else:
        yield Content("vfm-uda++" if isinstance(model, VfmUdaPlus) else "vfm-uda", tensors, left_out)


def _under(tensors: Tensors, prefix: str) -> tuple[State, tuple[str, ...]]:
    """What lies below ``prefix``, and the other keys; everything, where nothing does."""
    below = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    if not below:
        return dict(tensors), ()
    return below, tuple(key for key in tensors if not key.startswith(prefix))


def _uses_mit(model: nn.Module) -> bool:
    return any(isinstance(module, MixTransformer) for module in model.modules())


def _check(stored: Stored, content: Content, model: nn.Module) -> list[str]:
    """Keys of the network that the file need not give; ValueError for any other difference."""
    state: Mapping[str, Tensor] = model.state_dict()
    path = stored.path
    unknown = [key for key in content.tensors if key not in state]
    if unknown:
        raise ValueError(
            f"{path}: {len(unknown)} entries have no place in the network, first {unknown[0]}; another architecture"
        )
    absent = [key for key in state if key not in content.tensors]
    needed = [key for key in absent if not (content.optional and key.startswith(content.optional))]
    if needed:
        raise ValueError(
            f"{path}: {len(needed)} entries are missing, first {needed[0]}; another size, or an incomplete file"
        )
    for key, value in content.tensors.items():
        if value.shape != state[key].shape:
            what = (
                "another number of classes"
                if key.endswith(("conv_seg.weight", "conv_seg.bias", "out.weight"))
                else "another size"
            )
            raise ValueError(
                f"{path}: {key} has shape {tuple(value.shape)}, the network {tuple(state[key].shape)}; {what}"
            )
    return absent
