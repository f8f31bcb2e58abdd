"""Another sample of the same: random but plausible changes, on uint8 pixels with OpenCV, or on vectors.

All of a picture's geometry is one warp, so that it is resampled once; Keras' layers would resample
it once each, and have no elastic and no stroke-width jitter (docs/decisions/004).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Jitter:
    """How far a sample may be changed; the values are the ends of uniform ranges around none."""

    rotation: float = 0.0  # degrees
    scale: float = 0.0  # relative
    shear: float = 0.0
    shift: float = 0.0  # of the side
    elastic: float = 0.0  # what a point of a 4 x 4 grid moves, standard deviation, of the longer side
    stroke: float = 0.0  # pixels by which strokes grow or shrink
    light: float = 0.0  # relative contrast and, halved, brightness
    shade: float = 0.0  # a light from one side: brightness from edge to edge, relative
    erase: float = 0.0  # the share of pictures of which a rectangle is covered
    flip: bool = False  # left-right, half of the pictures
    noise: float = 0.0  # of vectors: standard deviation, of that of each feature
    drop: float = 0.0  # of vectors: the share of features replaced by their mean


# How another picture of the same subject may differ, where nobody knows how.
LIKELY = Jitter(rotation=6.0, scale=0.08, shift=0.05, light=0.25, shade=0.15)


def turned(pixels: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """Return the picture turned by `turn` % 4 quarters, mirrored first when `turn` is 4 or more."""
    mirrored = pixels[:, ::-1] if turn >= 4 else pixels
    return np.ascontiguousarray(np.rot90(mirrored, turn % 4)) if turn else pixels


def jittered(pixels: NDArray[np.uint8], jitter: Jitter, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return pictures (n, height, width, channels), each moved, bent and lit differently, as 0..255.

    All that can be is computed for the whole batch at once: a small picture's share of Python would
    otherwise cost more than its pixels.
    """
    moved = _warped(pixels, jitter, rng)
    if jitter.stroke:
        for picture, by in zip(moved, rng.uniform(-jitter.stroke, jitter.stroke, len(moved)), strict=True):
            picture[...] = _restroked(picture, by).reshape(picture.shape)
    lit = moved.astype(np.float32)
    if jitter.light or jitter.shade:
        _relight(lit, jitter, rng)
    if jitter.erase:
        for i in np.flatnonzero(rng.random(len(lit)) < jitter.erase):
            _cover(lit[i], rng)
    return lit


def shaken(vectors: NDArray[np.float32], jitter: Jitter, rng: np.random.Generator, mean: Any, deviation: Any) -> Any:
    """Return vectors (n, d) with noise, some features replaced by their `mean` (d,)."""
    moved = vectors + rng.normal(0, jitter.noise, vectors.shape) * deviation if jitter.noise else vectors
    return np.where(rng.random(vectors.shape) < jitter.drop, mean, moved).astype(np.float32)


def _warped(pixels: NDArray[np.uint8], jitter: Jitter, rng: np.random.Generator) -> NDArray[np.uint8]:
    if not (jitter.rotation or jitter.scale or jitter.shear or jitter.shift or jitter.elastic or jitter.flip):
        return pixels.copy()
    n, height, width = pixels.shape[:3]
    warps, offsets = _affine(n, height, width, jitter, rng)
    out = np.empty_like(pixels)
    if not jitter.elastic:
        affine = np.concatenate([warps, offsets[..., None]], axis=2)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        for picture, matrix, into in zip(pixels, affine, out, strict=True):
            cv2.warpAffine(picture, matrix, (width, height), into, flags, cv2.BORDER_REPLICATE)
        return out
    # A coarse grid that is moved and bent, then made as fine as the picture: a map of (x, y) for each pixel.
    y, x = np.mgrid[0 : height - 1 : 4j, 0 : width - 1 : 4j]
    grid = np.stack([x, y], axis=-1).reshape(16, 2) @ warps.transpose(0, 2, 1) + offsets[:, None]
    grid += rng.normal(0, jitter.elastic * max(height, width), grid.shape)
    fine = (_refinement(height, width) @ grid.astype(np.float32)).reshape(n, height, width, 2)
    for picture, at, into in zip(pixels, fine, out, strict=True):
        cv2.remap(picture, at, _NONE, cv2.INTER_LINEAR, into, cv2.BORDER_REPLICATE)
    return out


def _affine(n: int, height: int, width: int, jitter: Jitter, rng: np.random.Generator) -> tuple[Any, Any]:
    """Return (n, 2, 2) and (n, 2): from a place (x, y) in the changed picture to that in the given one."""
    u = rng.uniform(-1, 1, (6, n))
    angle, scale, shear = np.deg2rad(u[0] * jitter.rotation), 1 + u[1] * jitter.scale, u[2] * jitter.shear
    squeeze = 1 + u[3] * jitter.scale / 2
    if jitter.flip:
        squeeze *= np.where(rng.random(n) < 0.5, -1, 1)
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    warps = np.array([[cos * squeeze, cos * shear - sin], [sin * squeeze, sin * shear + cos]]).transpose(2, 0, 1)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return warps, centre - warps @ centre + u[4:6].T * jitter.shift * np.array([width, height])


@cache
def _refinement(height: int, width: int) -> NDArray[np.float32]:
    """Return (height * width, 16): what each point of a 4 x 4 grid counts at each pixel, by cubic interpolation."""
    at = np.arange(4)

    def weights(length: int) -> NDArray[np.float64]:  # Lagrange's polynomials through four points
        t = np.linspace(0, 3, length)
        return np.stack([np.prod([(t - k) / (j - k) for k in at if k != j], axis=0) for j in at], axis=1)

    both = np.einsum("hi,wj->hwij", weights(height), weights(width))
    return np.asarray(both.reshape(-1, 16), np.float32)


_NONE: Any = None  # the map has both coordinates; OpenCV's stub knows only separate ones
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def _restroked(pixels: Any, by: float) -> Any:
    """Return a drawing with strokes thicker or thinner by about `by` pixels, whichever of dark and light they are."""
    dark = pixels.mean() > 127.5  # the ground is the greater part
    grown = cv2.erode(pixels, _CROSS) if dark == (by > 0) else cv2.dilate(pixels, _CROSS)
    share = min(1.0, abs(by))  # a part of the way to one pixel more
    return cv2.addWeighted(pixels, 1 - share, grown.reshape(pixels.shape), share, 0)


def _relight(lit: NDArray[np.float32], jitter: Jitter, rng: np.random.Generator) -> None:
    n, height, width = lit.shape[:3]
    u = rng.uniform(-1, 1, (4, n, 1, 1, 1)).astype(np.float32)
    gain = 1 + u[0] * jitter.light
    if jitter.shade:
        across = np.linspace(-1, 1, width, dtype=np.float32)[None, None, :, None]
        down = np.linspace(-1, 1, height, dtype=np.float32)[None, :, None, None]
        gain = gain + jitter.shade * (u[2] * across + u[3] * down)
    lit *= gain
    lit += u[1] * np.float32(jitter.light * 255 / 2)
    np.clip(lit, 0, 255, out=lit)


def _cover(picture: NDArray[np.float32], rng: np.random.Generator) -> None:
    height, width = picture.shape[:2]
    h, w = (max(1, int(side * rng.uniform(0.15, 0.45))) for side in (height, width))
    top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
    picture[top : top + h, left : left + w] = rng.integers(0, 256)
