"""Transformer encoders under the names that each library gives their weights, to this package's, which are the
authors'.

DINOv2: the hub's files, timm's, and transformers' before and since version 5. MiT: NVIDIA's files (also in
segmentation_models_pytorch), and transformers' before and since version 5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]
State = dict[str, Tensor]


@dataclass(frozen=True)
class EncoderLayout:
    """How a library names an encoder's weights."""

    name: str
    signature: tuple[str, ...]
    """Keys that such a file has, and no other layout's."""
    translate: Callable[[Tensors], State]
    """Its tensors under the authors' names; what it does not know keeps its name, and is refused by the caller."""
    ignored: tuple[str, ...] = ()
    """Prefixes of what only classification has."""
    prefixes: tuple[str, ...] = ()
    """Prefixes that all keys may have."""


def recognise(layouts: Iterable[EncoderLayout], tensors: Tensors) -> tuple[EncoderLayout, State, list[str]] | None:
    """The layout of ``tensors``, the weights under the authors' names, and the keys that were left out; None: none of
    ``layouts``.
    """
    for layout in layouts:
        stripped = tensors
        for prefix in layout.prefixes:
            if all(key.startswith((prefix, *layout.ignored)) for key in tensors):
                stripped = {key.removeprefix(prefix): value for key, value in tensors.items()}
        if all(key in stripped for key in layout.signature):
            dropped = [key for key in stripped if key.startswith(layout.ignored)] if layout.ignored else []
            return layout, layout.translate({k: v for k, v in stripped.items() if k not in set(dropped)}), dropped
    return None


def _renamed(tensors: Tensors, rules: Iterable[tuple[str, str]]) -> State:
    """Keys rewritten by the first rule (pattern of the whole key, replacement) that fits."""
    compiled = [(re.compile(pattern), new) for pattern, new in rules]
    out = {}
    for key, value in tensors.items():
        fitting = next((match.expand(new) for pattern, new in compiled if (match := pattern.fullmatch(key))), key)
        out[fitting] = value
    return out


def _joined(tensors: State, pattern: str, parts: tuple[str, ...], joined: str) -> State:
    """Tensors that the authors keep as one: ``pattern`` matches a key as (before, part, after), ``joined`` takes the
    parts' place.
    """
    match_key = re.compile(pattern)
    out: State = {}
    groups: dict[tuple[str, str], dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if match := match_key.fullmatch(key):
            groups.setdefault((match[1], match[3]), {})[match[2]] = value
        else:
            out[key] = value
    for (before, after), found in groups.items():
        if all(part in found for part in parts):
            out[f"{before}{joined}{after}"] = torch.cat([found[part] for part in parts])
        else:
            out |= {f"{before}{part}{after}": value for part, value in found.items()}
    return out


def _hub(tensors: Tensors) -> State:
    return dict(tensors)


def _timm_dinov2(tensors: Tensors) -> State:
    out = _renamed(tensors, [("reg_token", "register_tokens")])
    width = out["cls_token"].shape[-1]
    first = out.get("blocks.0.mlp.fc1.weight")
    if first is not None and first.shape[0] != 4 * width:  # the giant's gated MLP, packed
        out = _renamed(
            out, [(r"(blocks\.\d+\.mlp)\.fc1\.(.*)", r"\1.w12.\2"), (r"(blocks\.\d+\.mlp)\.fc2\.(.*)", r"\1.w3.\2")]
        )
    if "pos_embed" in out and "register_tokens" in out:  # the class token's position is added to the class token there
        out["pos_embed"] = torch.cat([torch.zeros_like(out["pos_embed"][:, :1]), out["pos_embed"]], dim=1)
    return out


_DINO_EMBEDDINGS = [
    (r"embeddings\.(cls_token|mask_token|register_tokens)", r"\1"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.(.*)", r"patch_embed.proj.\1"),
    (r"layernorm\.(.*)", r"norm.\1"),
    (r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
    (r"encoder\.layer\.(\d+)\.(norm[12]|mlp\.fc[12])\.(.*)", r"blocks.\1.\2.\3"),
]


def _dinov2_before_5(tensors: Tensors) -> State:
    inner = [
        (r"encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(.*)", r"blocks.\1.attn.\2.\3"),
        (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(.*)", r"blocks.\1.attn.proj.\2"),
        (r"encoder\.layer\.(\d+)\.mlp\.weights_in\.(.*)", r"blocks.\1.mlp.w12.\2"),
        (r"encoder\.layer\.(\d+)\.mlp\.weights_out\.(.*)", r"blocks.\1.mlp.w3.\2"),
    ]
    return _joined(
        _renamed(tensors, _DINO_EMBEDDINGS + inner),
        r"(.*\.attn\.)(query|key|value)(\..*)",
        ("query", "key", "value"),
        "qkv",
    )


def _dinov2_since_5(tensors: Tensors) -> State:
    inner = [
        (r"encoder\.layer\.(\d+)\.attention\.([qkv])_proj\.(.*)", r"blocks.\1.attn.\2.\3"),
        (r"encoder\.layer\.(\d+)\.attention\.o_proj\.(.*)", r"blocks.\1.attn.proj.\2"),
        (r"encoder\.layer\.(\d+)\.mlp\.(gate|up)_proj\.(.*)", r"blocks.\1.mlp.\2.\3"),
        (r"encoder\.layer\.(\d+)\.mlp\.down_proj\.(.*)", r"blocks.\1.mlp.w3.\2"),
    ]
    named = _joined(_renamed(tensors, _DINO_EMBEDDINGS + inner), r"(.*\.attn\.)([qkv])(\..*)", ("q", "k", "v"), "qkv")
    return _joined(named, r"(.*\.mlp\.)(gate|up)(\..*)", ("gate", "up"), "w12")


DINOV2 = (
    EncoderLayout("dinov2", ("cls_token", "mask_token", "blocks.0.attn.qkv.weight"), _hub, ("head.",)),
    EncoderLayout("timm", ("cls_token", "blocks.0.attn.qkv.weight"), _timm_dinov2, ("head.", "fc_norm.")),
    EncoderLayout(
        "transformers<5",
        ("embeddings.cls_token", "encoder.layer.0.attention.attention.query.weight"),
        _dinov2_before_5,
        ("classifier.",),
        ("dinov2.", "dinov2_with_registers."),
    ),
    EncoderLayout(
        "transformers>=5",
        ("embeddings.cls_token", "encoder.layer.0.attention.q_proj.weight"),
        _dinov2_since_5,
        ("classifier.",),
        ("dinov2.", "dinov2_with_registers."),
    ),
)


def _numbered(tensors: Tensors, rules: Iterable[tuple[str, str]]) -> State:
    """As ``_renamed``, for libraries that count stages from 0: ``#`` in a replacement stands before a stage to be
    counted from 1.
    """
    return {
        re.sub(r"#(\d)", lambda m: str(int(m[1]) + 1), key): value for key, value in _renamed(tensors, rules).items()
    }


def _mit_before_5(tensors: Tensors) -> State:
    block = r"encoder\.block\.(\d)\.(\d+)"
    named = _numbered(
        tensors,
        [
            (r"encoder\.patch_embeddings\.(\d)\.proj\.(.*)", r"patch_embed#\1.proj.\2"),
            (r"encoder\.patch_embeddings\.(\d)\.layer_norm\.(.*)", r"patch_embed#\1.norm.\2"),
            (r"encoder\.layer_norm\.(\d)\.(.*)", r"norm#\1.\2"),
            (block + r"\.layer_norm_([12])\.(.*)", r"block#\1.\2.norm\3.\4"),
            (block + r"\.attention\.self\.query\.(.*)", r"block#\1.\2.attn.q.\3"),
            (block + r"\.attention\.self\.(key|value)\.(.*)", r"block#\1.\2.attn.\3.\4"),
            (block + r"\.attention\.self\.sr\.(.*)", r"block#\1.\2.attn.sr.\3"),
            (block + r"\.attention\.self\.layer_norm\.(.*)", r"block#\1.\2.attn.norm.\3"),
            (block + r"\.attention\.output\.dense\.(.*)", r"block#\1.\2.attn.proj.\3"),
            (block + r"\.mlp\.dense([12])\.(.*)", r"block#\1.\2.mlp.fc\3.\4"),
            (block + r"\.mlp\.dwconv\.(.*)", r"block#\1.\2.mlp.dwconv.\3"),
        ],
    )
    return _joined(named, r"(.*\.attn\.)(key|value)(\..*)", ("key", "value"), "kv")


def _mit_since_5(tensors: Tensors) -> State:
    stage, block = r"stages\.(\d)", r"stages\.(\d)\.blocks\.(\d+)"
    named = _numbered(
        tensors,
        [
            (stage + r"\.patch_embeddings\.proj\.(.*)", r"patch_embed#\1.proj.\2"),
            (stage + r"\.patch_embeddings\.layer_norm\.(.*)", r"patch_embed#\1.norm.\2"),
            (stage + r"\.layer_norm\.(.*)", r"norm#\1.\2"),
            (block + r"\.layernorm_before\.(.*)", r"block#\1.\2.norm1.\3"),
            (block + r"\.layernorm_after\.(.*)", r"block#\1.\2.norm2.\3"),
            (block + r"\.attention\.q_proj\.(.*)", r"block#\1.\2.attn.q.\3"),
            (block + r"\.attention\.([kv])_proj\.(.*)", r"block#\1.\2.attn.\3.\4"),
            (block + r"\.attention\.o_proj\.(.*)", r"block#\1.\2.attn.proj.\3"),
            (block + r"\.attention\.sequence_reduction\.sequence_reduction\.(.*)", r"block#\1.\2.attn.sr.\3"),
            (block + r"\.attention\.sequence_reduction\.layer_norm\.(.*)", r"block#\1.\2.attn.norm.\3"),
            (block + r"\.mlp\.(.*)", r"block#\1.\2.mlp.\3"),
        ],
    )
    return _joined(named, r"(.*\.attn\.)([kv])(\..*)", ("k", "v"), "kv")


MIT = (
    EncoderLayout("mit", ("patch_embed1.proj.weight", "block1.0.attn.kv.weight"), _hub, ("head.",)),
    EncoderLayout(
        "transformers<5",
        ("encoder.patch_embeddings.0.proj.weight", "encoder.block.0.0.attention.self.query.weight"),
        _mit_before_5,
        ("classifier.", "decode_head."),
        ("segformer.",),
    ),
    EncoderLayout(
        "transformers>=5",
        ("stages.0.patch_embeddings.proj.weight", "stages.0.blocks.0.attention.q_proj.weight"),
        _mit_since_5,
        ("classifier.", "decode_head."),
        ("segformer.",),
    ),
)
