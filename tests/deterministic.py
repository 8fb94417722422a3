"""Inputs and weights that are a pure function of a name, so that golden numbers need no file.

Everything is drawn from numpy's legacy ``RandomState`` (its streams are frozen by numpy's own promise), in float64 and
C order, and only then cast. A state-dict entry depends on its key alone, so a deeper or shallower network shares the
values of shared keys.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable

import numpy as np
import torch

BGR_MEAN = np.array([104.00698793, 116.66876762, 122.67891434], dtype=np.float32)
_WEIGHT_SEED, _COARSE_SEED, _NOISE_SEED, _LABEL_SEED, _LOGIT_SEED = 20240, 1_000_003, 2_000_003, 3_000_003, 4_000_003


def det_tensor(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of state-dict entry ``key``: float64 ``shape`` (int64 zeros for ``num_batches_tracked``)."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    stream = np.random.RandomState((zlib.crc32(key.encode()) + _WEIGHT_SEED) % 2**32)
    if key.endswith("running_var"):
        scale = (
            10_000.0 if key == "bn1.running_var" else 2.0
        )  # the stem sees pixels up to 255, everything else unit-sized maps
        return scale * (0.5 + stream.random_sample(shape))
    normal = np.asarray(stream.standard_normal(shape))
    if key.endswith(("running_mean", "bias")):
        return 0.1 * normal
    if not key.endswith("weight"):
        raise KeyError(f"no rule for state-dict entry {key!r}")
    if len(shape) == 1:  # the gain of a batch norm; small at the end of a residual branch
        gain = 1 + 0.1 * normal
        return 0.25 * gain if key.endswith("bn3.weight") else gain
    power = 8.0 if key.startswith(("layer5.", "layer6.")) else 2.0
    return normal * np.sqrt(power / int(np.prod(shape[1:])))


@torch.no_grad()
def fill(module: torch.nn.Module, prefix: str = "", rename: Callable[[str], str] | None = None) -> torch.nn.Module:
    """Overwrite every parameter and buffer of ``module`` with its deterministic value, rounded through float32; returns
    ``module``.

    ``rename`` maps the module's key to the reference's, ``prefix`` (``d_main.``, ``d_aux.``) is put before the result.
    """
    for key, tensor in module.state_dict().items():
        value = det_tensor(prefix + (rename(key) if rename else key), tuple(tensor.shape))
        if value.dtype == np.float64:
            value = value.astype(np.float32)
        tensor.copy_(torch.from_numpy(np.asarray(value)))
    return module


def _blocks(coarse: np.ndarray, times: int, h: int, w: int) -> np.ndarray:
    """Repeat every cell of the first two axes ``times`` x ``times`` and crop to ``h`` x ``w``."""
    return coarse.repeat(times, axis=0).repeat(times, axis=1)[:h, :w]


def image_u8(k: int, h: int, w: int) -> np.ndarray:
    """RGB image ``k``, uint8 [h, w, 3]: 16-pixel blocks of one colour plus noise of at most 20."""
    coarse = np.random.RandomState(_COARSE_SEED + k).randint(0, 256, (-(-h // 16), -(-w // 16), 3))
    noise = np.random.RandomState(_NOISE_SEED + k).randint(-20, 21, (h, w, 3))
    return (_blocks(coarse, 16, h, w) + noise).clip(0, 255).astype(np.uint8)


def image_chw(k: int, h: int, w: int) -> np.ndarray:
    """Image ``k`` as the network takes it: float32 [3, h, w], B G R, mean subtracted."""
    bgr = image_u8(k, h, w)[..., ::-1].astype(np.float32)
    return np.ascontiguousarray(np.moveaxis(bgr - BGR_MEAN, 2, 0))


def label_map(k: int, h: int, w: int, ignore: int = 255) -> np.ndarray:
    """Labels ``k``, uint8 [h, w]: 12-pixel blocks of 19 classes and, as a 20th, ``ignore``."""
    coarse = np.random.RandomState(_LABEL_SEED + k).randint(0, 20, (-(-h // 12), -(-w // 12)))
    coarse[coarse == 19] = ignore
    return _blocks(coarse, 12, h, w).astype(np.uint8)


def logits(k: int, n: int, c: int, h: int, w: int, scale: float) -> np.ndarray:
    """Smooth random logits, float32 [n, c, h, w]: 8-pixel blocks of a normal value, plus a quarter of per-pixel noise,
    times ``scale``.
    """
    stream = np.random.RandomState(_LOGIT_SEED + k)
    coarse = stream.standard_normal((n, c, -(-h // 8), -(-w // 8)))
    noise = stream.standard_normal((n, c, h, w))
    blocks = coarse.repeat(8, axis=2).repeat(8, axis=3)[:, :, :h, :w]
    return (scale * (blocks + 0.25 * noise)).astype(np.float32)


def stats(a: np.ndarray | torch.Tensor) -> dict[str, float]:
    """Seven figures of an array, flattened in C order, in float64; ``dot`` (with cos(i mod 1000)) notices a changed
    order.
    """
    if isinstance(a, torch.Tensor):
        a = a.detach().cpu().double().numpy()
    flat = np.asarray(a, np.float64).reshape(-1)
    wave = np.cos(np.arange(flat.size) % 1000)
    return {
        "n": flat.size,
        "sum": float(flat.sum()),
        "abs": float(np.abs(flat).sum()),
        "l2": float(np.sqrt(np.square(flat).sum())),
        "min": float(flat.min()),
        "max": float(flat.max()),
        "dot": float((flat * wave).sum()),
    }


def sample_indices(n: int, m: int = 16) -> np.ndarray:
    """``min(m, n)`` flat indices spread evenly over [0, n): floor((i + 0.5) * n / m)."""
    m = min(m, n)
    return np.floor((np.arange(m) + 0.5) * n / m).astype(np.int64)


def sha256(a: np.ndarray) -> str:
    """Hex digest of an array's raw bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()
