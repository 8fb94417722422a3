"""From a painted canvas to the picture that a domain's camera takes: texture, light, haze, lens and sensor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from esl_dist.synthetic.streets.canvas import Canvas
from esl_dist.synthetic.streets.dice import Dice, noise_tiles, rolled
from esl_dist.synthetic.streets.domains import Domain


def _blurred(image: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """The 1-2-1 filter along one axis, edges repeated."""
    size = image.shape[axis]
    before = np.take(image, np.maximum(np.arange(size) - 1, 0), axis)
    after = np.take(image, np.minimum(np.arange(size) + 1, size - 1), axis)
    blurred: NDArray[np.float32] = (before + after) * np.float32(0.25) + image * np.float32(0.5)
    return blurred


def develop(canvas: Canvas, domain: Domain, dice: Dice) -> NDArray[np.uint8]:
    """The image ``[H, W, 3]`` uint8; reads colour, label and depth of the canvas."""
    height, width = canvas.label.shape
    fine, coarse = noise_tiles()
    amplitude = np.full(256, 0.04, np.float32)
    for label, value in domain.fine.items():
        amplitude[label] = value
    texture = (
        np.float32(1.0)
        + amplitude[canvas.label] * rolled(fine, height, width, dice)
        + np.float32(domain.blotch) * rolled(coarse, height, width, dice)
    )
    gain = np.float32(dice.between(domain.exposure))
    image = canvas.rgb * (texture * gain)[..., None] * np.array(domain.tint, np.float32)

    # exp(-x) to third order as a quotient: exact arithmetic, the same bits everywhere.
    x = canvas.depth * np.float32(dice.between(domain.extinction))
    through = np.float32(1.0) / (
        np.float32(1.0) + x * (np.float32(1.0) + x * (np.float32(0.5) + x * np.float32(1 / 6)))
    )
    veil = np.array(domain.materials.haze, np.float32) * gain
    image = veil + (image - veil) * through[..., None]

    grey = (image[..., 0] + image[..., 1] + image[..., 2])[..., None] * np.float32(1 / 3)
    image = grey + (image - grey) * np.float32(domain.saturation)
    if domain.vignette:
        across = (canvas.xs * np.float32(2 / width) - 1) ** 2
        down = (canvas.ys * np.float32(2 / height) - 1) ** 2
        image *= (np.float32(1.0) - np.float32(0.5 * domain.vignette) * (across[None] + down[:, None]))[..., None]
    image = np.clip(image, 0, 1)
    image -= np.float32(domain.curve) * image * (1 - image) * np.float32(2.0)
    for _ in range(domain.blur * max(width // 256, 1)):
        image = _blurred(_blurred(image, 0), 1)
    image += np.float32(domain.noise / 0.41) * dice.grain(height, width)
    picture: NDArray[np.uint8] = (np.clip(image, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return picture
