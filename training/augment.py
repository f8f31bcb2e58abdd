"""Another picture of the same: random but plausible changes, on uint8 pixels with OpenCV."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Jitter:
    """How far a picture may be changed; the values are the ends of uniform ranges around none."""

    rotation: float  # degrees
    scale: float  # relative
    shear: float
    shift: float  # of the side
    elastic: float  # pixels that a point of a 4 x 4 grid moves, standard deviation, of the side
    light: float  # relative contrast and, of 255, brightness
    flip: bool  # left-right


DRAWINGS = Jitter(rotation=12, scale=0.2, shear=0.2, shift=0.08, elastic=0.03, light=0.0, flip=False)
PHOTOS = Jitter(rotation=10, scale=0.12, shear=0.05, shift=0.08, elastic=0.0, light=0.25, flip=True)


def jittered(pixels: NDArray[np.uint8], jitter: Jitter, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return one picture (height, width, channels), moved, bent and lit differently."""
    height, width = pixels.shape[:2]
    u = rng.uniform(-1, 1, 8)
    angle = np.deg2rad(u[0] * jitter.rotation)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    warp = turn @ np.array([[1, u[1] * jitter.shear], [0, 1]]) * (1 + u[2] * jitter.scale)
    warp[:, 0] *= 1 + u[3] * jitter.scale / 2
    if jitter.flip and rng.random() < 0.5:
        warp[:, 0] *= -1
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = centre - warp @ centre + u[4:6] * jitter.shift * np.array([width, height])
    affine = np.column_stack([warp, offset])
    if jitter.elastic:
        coarse = rng.normal(0, jitter.elastic * max(height, width), (4, 4, 2)).astype(np.float32)
        bend = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        y, x = np.mgrid[:height, :width].astype(np.float32)
        at = np.stack([x, y], axis=-1) @ affine[:, :2].T.astype(np.float32) + affine[:, 2].astype(np.float32) + bend
        moved = cv2.remap(pixels, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    else:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = cv2.warpAffine(pixels, affine, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    if jitter.light:
        gain, lift = 1 + u[6] * jitter.light, u[7] * jitter.light * 255 / 2
        moved = np.clip(moved * gain + lift, 0, 255).astype(np.uint8)
    return np.asarray(moved, np.uint8).reshape(pixels.shape)
