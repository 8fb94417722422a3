"""State dicts of each published layout's names and shapes load whole into the network they belong to, and nothing else
does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from esl_dist.models import weights
from esl_dist.models.dinov2 import DinoV2
from esl_dist.models.transformer import IMAGENET
from tests.models.transformers.common import VIT, built

State = dict[str, Tensor]


def values(name: str, seed: int = 9) -> State:
    """A trained network's state: every entry drawn."""
    generator = torch.Generator().manual_seed(seed)
    state = built(name).state_dict()
    return {k: torch.randn(v.shape, generator=generator) if v.is_floating_point() else v + 7 for k, v in state.items()}


def part(state: State, prefix: str, renamed: str = "") -> State:
    return {renamed + key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


def hub(name: str) -> State:
    """DINOv2 as the hub has it: a network's encoder, with the mask token and the norm that an adapted one lacks."""
    state = part(values(name), "encoder.")
    plain = DinoV2(VIT, grid=5).state_dict()
    return {key: state.get(key, value) for key, value in plain.items()}


def timm() -> State:
    return {key: value for key, value in hub("vfm_uda").items() if key != "mask_token"}


def shallow() -> State:
    return {key: value for key, value in hub("vfm_uda").items() if "blocks.3" not in key}


def mit(head: int = 1000) -> State:
    return part(values("daformer"), "backbone.") | {
        "head.weight": torch.randn(head, 32),
        "head.bias": torch.zeros(head),
    }


def daformer() -> dict[str, object]:
    """An adaptation method's file: the student below ``model.``, its teacher and the ImageNet network beside it."""
    state = values("daformer")
    others = prefixed(values("daformer", 1), "ema_model.") | prefixed(
        part(state, "backbone.", "backbone."), "imnet_model."
    )
    return {"meta": {"epoch": 1, "CLASSES": ("road",)}, "state_dict": prefixed(state, "model.") | others}


def hrda() -> dict[str, object]:
    state = values("hrda-daformer")
    names = part(state, "segmenter.backbone.", "backbone.") | part(state, "segmenter.decode_head.", "decode_head.head.")
    return {"state_dict": prefixed(names | part(state, "attention.", "decode_head.scale_attention."), "model.")}


def lightning(name: str) -> dict[str, object]:
    state = values(name)
    inner = dict(state)
    if name == "vfm_uda":
        inner["token_masking.mask_token"] = state["encoder.mask_token"]
    others = prefixed(values(name, 1), "network_ema.") | {"network_feature_extractor.cls_token": torch.zeros(1, 1, 8)}
    return {"epoch": 3, "state_dict": prefixed(inner, "network.") | others}


def adapter() -> dict[str, object]:
    """An adapter pre-trained on ImageNet, with its classifier."""
    state = {key: value for key, value in values("vfm_uda_plus").items() if key.startswith("encoder.")}
    return {"state_dict": prefixed(state, "network.") | {"network.head.weight": torch.zeros(1000, 64)}}


LAYOUTS: dict[str, tuple[str, Callable[[], object], str, str]] = {
    # case: network, file, layout recognised, entries that stay: prefixes of those that the file has not
    "hub": ("vfm_uda", lambda: hub("vfm_uda"), "dinov2", "upscale. out."),
    "hub into the adapter": ("vfm_uda_plus", lambda: hub("vfm_uda_plus"), "dinov2", ADAPTER := (
        "upscale. out. encoder.level_embed encoder.spm. encoder.interactions. encoder.up. encoder.norm"
    )),
    "timm": ("vfm_uda", timm, "timm", "upscale. out. encoder.mask_token"),
    "timm into the adapter": ("vfm_uda_plus", timm, "timm", ADAPTER),
    "hub into hrda": ("hrda-vfm_uda", lambda: hub("vfm_uda"), "dinov2", "segmenter.upscale. segmenter.out. attention."),
    "vfm-uda": ("vfm_uda", lambda: lightning("vfm_uda"), "vfm-uda", ""),
    "vfm-uda++": ("vfm_uda_plus", lambda: lightning("vfm_uda_plus"), "vfm-uda++", ""),
    "pre-trained adapter": ("vfm_uda_plus", adapter, "vfm-uda++ adapter", "upscale. out."),
    "mit": ("daformer", mit, "mit", "decode_head."),
    "mit of segmentation_models_pytorch": (
        "daformer", lambda: part(values("daformer"), "backbone."), "mit", "decode_head."
    ),
    "mit into hrda": ("hrda-daformer", mit, "mit", "segmenter.decode_head. attention."),
    "daformer": ("daformer", daformer, "daformer", ""),
    "source-only mmseg": ("daformer", lambda: {"state_dict": values("daformer")}, "daformer", ""),
    "daformer into hrda": ("hrda-daformer", daformer, "daformer", "attention."),
    "hrda and mic": ("hrda-daformer", hrda, "hrda", ""),
}  # fmt: skip


def save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("case", LAYOUTS)
def test_a_published_layout_loads_whole(case: str, tmp_path: Path) -> None:
    name, make, layout, left = LAYOUTS[case]
    network = built(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    report = weights.load(save(tmp_path / "file.pth", make()), network)
    assert report.layout == layout
    prefixes = tuple(left.split())
    for key, value in network.state_dict().items():
        kept = bool(prefixes) and key.startswith(prefixes)
        assert torch.equal(value, before[key]) == kept, f"{key} {'was overwritten' if kept else 'was not loaded'}"
    assert bool(report.missing) == bool(prefixes) == bool(report.notes)
    assert report.input_normalisation == IMAGENET


@pytest.mark.parametrize("case", LAYOUTS)
def test_a_file_short_of_one_entry_is_refused(case: str, tmp_path: Path) -> None:
    """One line that names the entry; the network stays as it was."""
    name, make, _, _ = LAYOUTS[case]
    content = make()
    state = content.get("state_dict", content)
    place = next(
        i for i, key in enumerate(state) if key.endswith(("blocks.2.attn.proj.weight", "block2.1.attn.proj.weight"))
    )
    missing = list(state)[place]
    del state[missing]
    refused(save(tmp_path / "file.pth", content), name, "1 entries are missing, first .*attn.proj.weight")


REFUSED: dict[str, tuple[str, Callable[[], object], str]] = {
    "another size": ("vfm_uda", shallow, "entries are missing"),
    "more blocks": ("vfm_uda", lambda: hub("vfm_uda") | {"blocks.9.ls1.gamma": torch.ones(64)}, "encoder.blocks.9"),
    "another patch": ("vfm_uda", lambda: hub("vfm_uda") | {"patch_embed.proj.weight": torch.ones(64, 3, 9, 9)}, "size"),
    "registers": ("vfm_uda", lambda: hub("vfm_uda") | {"register_tokens": torch.zeros(1, 4, 64)}, "without _reg"),
    "ade20k classes": ("daformer", lambda: mit(150), "classifies 150 classes"),
    "another number of classes": (
        "daformer", lambda: values("daformer") | {"decode_head.conv_seg.bias": torch.ones(19)}, "number of classes"
    ),
    "hrda into one resolution": ("daformer", hrda, "model.hrda"),
    "mit into dinov2": ("vfm_uda", mit, "is not DINOv2's or VFM-UDA's"),
    "dinov2 into mit": ("daformer", lambda: hub("vfm_uda"), "is not MiT's or DAFormer's"),
    "vfm-uda into the adapter": ("vfm_uda_plus", lambda: lightning("vfm_uda"), "no place in the network"),
    "a value that is not finite": ("daformer", lambda: mit() | {"norm4.bias": torch.ones(32) / 0}, "not finite"),
    "an unknown file": ("vfm_uda", lambda: {"weight": torch.zeros(2)}, "keys begin weight"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case: str, tmp_path: Path) -> None:
    name, make, message = REFUSED[case]
    refused(save(tmp_path / "file.pth", make()), name, message)


def refused(file: Path, name: str, message: str) -> None:
    network = built(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=message) as error:
        weights.load(file, network)
    assert "\n" not in str(error.value) and file.name in str(error.value)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_registers(tmp_path: Path) -> None:
    """The hub's file, and timm's, in which the class token's position is added to the class token."""
    network = DinoV2(VIT, registers=4, grid=5).eval()
    state = {k: torch.randn(v.shape) for k, v in network.state_dict().items()}
    x = torch.randn(1, 3, 70, 70)
    outputs = []
    packed = {key: value for key, value in state.items() if key not in ("mask_token", "register_tokens")}
    packed |= {"reg_token": state["register_tokens"], "cls_token": state["cls_token"] + state["pos_embed"][:, :1]}
    packed["pos_embed"] = state["pos_embed"][:, 1:]
    for content, layout in ((state, "dinov2"), (packed, "timm")):
        assert weights.load(save(tmp_path / "reg.pth", content), network).layout == layout
        with torch.no_grad():
            outputs.append(network(x))
    torch.testing.assert_close(*outputs)


def safetensors(path: Path, state: State) -> Path:
    """Written by hand, as the format says: the length of a table, the table, the numbers."""
    table: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    for key, value in state.items():
        numbers = value.contiguous().numpy().tobytes()
        table[key] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(numbers)]}
        data += numbers
    head = json.dumps(table).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + data)
    return path


def test_safetensors(tmp_path: Path) -> None:
    network, state = built("vfm_uda"), timm()
    report = weights.load(safetensors(tmp_path / "model.safetensors", state), network)
    assert report.layout == "timm" and torch.equal(network.encoder.pos_embed, state["pos_embed"])


@pytest.mark.parametrize("damage", ["cut", "table", "empty", "length"])
def test_damaged_safetensors(damage: str, tmp_path: Path) -> None:
    file = safetensors(tmp_path / "model.safetensors", timm())
    content = bytearray(file.read_bytes())
    changed = {
        "cut": content[:-100],
        "table": content[:10] + b"\xff" + content[11:],
        "empty": b"",
        "length": (1 << 60).to_bytes(8, "little") + content[8:],
    }[damage]
    file.write_bytes(bytes(changed))
    refused(file, "vfm_uda", "fetch it again")
