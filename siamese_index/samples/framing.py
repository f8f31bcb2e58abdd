"""What of a picture a tower sees: the whole of it, or a window around its strokes; fitted to the tower's input."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from siamese_index.samples.headers import is_jpeg, refuse_from_header
from siamese_index.samples.images import Pixels, _channels, _jpeg, decode, fit


def load(data: bytes, height: int, width: int, channels: int, frame: str = "whole") -> Pixels:
    """Decode, frame and fit: the picture as a tower of that input takes it.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size when that leaves twice the pixels asked for.
    `frame` is one of FRAMES: the whole picture, or a window around its strokes.
    """
    if is_jpeg(data):
        shorter, longer = min(refuse_from_header(data)), max(height, width)
        part = next(part for part in (8, 4, 2, 1) if part == 1 or shorter >= 2 * longer * part)
        pixels = _channels(_jpeg(data, channels, part), channels)
    else:
        pixels = decode(data, channels)
    return fit(around_strokes(pixels) if frame == "strokes" else pixels, height, width)


FRAMES = ("whole", "strokes")
_FILLED = 0.7  # share of the window that strokes are to take, in the direction in which they take more
_NEARER, _FARTHER = 1 / 1.5, 1 / 0.7  # how small and how large a window may be, beside the picture
_STRETCHED = 1.4  # how much more the lesser direction is enlarged, at most: hands differ in how wide they write


def around_strokes(pixels: Pixels) -> Pixels:
    """Return a window that is centred on the strokes, in which small ones are larger and slender ones wider.

    The window has the picture's own shape but for up to _STRETCHED. Strokes are what differs from the
    ground, the commonest grey, by more than half of what differs most.
    """
    grey = pixels if pixels.shape[2] == 1 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[:, :, None]
    middle = _median(pixels)
    ground = int((middle if grey is pixels else _median(np.asarray(grey, np.uint8)))[0])
    away = cv2.absdiff(grey, np.full_like(grey, ground)).reshape(grey.shape[:2])
    inked = away > max(32, int(away.max())) // 2
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    if not len(rows) or away.max() < 32:
        return pixels
    height, width = inked.shape
    tall, wide = (rows[-1] - rows[0] + 1) / height, (columns[-1] - columns[0] + 1) / width
    zoom = min(max(max(tall, wide) / _FILLED, _NEARER), _FARTHER)
    stretch = min(_STRETCHED, math.sqrt(max(tall, wide) / min(tall, wide)))
    h = max(1, round(zoom * height / (stretch if tall < wide else 1)))
    w = max(1, round(zoom * width / (stretch if wide < tall else 1)))
    top, left = (rows[0] + rows[-1] + 1 - h) // 2, (columns[0] + columns[-1] + 1 - w) // 2
    window = np.full((h, w, pixels.shape[2]), middle, np.uint8)
    part = pixels[max(0, top) : max(0, top + h), max(0, left) : max(0, left + w)]
    at_y, at_x = max(0, -top), max(0, -left)
    window[at_y : at_y + part.shape[0], at_x : at_x + part.shape[1]] = part
    return window


def _median(pixels: Pixels) -> NDArray[np.float64]:
    """Return each channel's median. numpy's own is slower, and loads a part of numpy that nothing else needs."""
    flat = pixels.reshape(-1, pixels.shape[2])
    low, high = (len(flat) - 1) // 2, len(flat) // 2
    ordered = np.partition(flat, [low, high], axis=0)
    middle: NDArray[np.float64] = (ordered[low].astype(np.float64) + ordered[high]) / 2
    return middle
