"""What of a picture a tower sees: the whole of it, a window around its strokes, or each face; fitted to its input."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput
from siamese_index.samples.faces import Box, FaceFinder, Points, aligned
from siamese_index.samples.headers import MIN_SIDE
from siamese_index.samples.images import Pixels, decode, encode, fit


@dataclass(frozen=True)
class Subject:
    """What a tower takes of a picture, and where it is."""

    taken: NDArray[np.uint8] | NDArray[np.float32]
    box: Box | None = None  # None: the whole of the picture


@dataclass(frozen=True)
class Frame:
    """How pictures are cut for a tower's input."""

    name: str
    height: int
    width: int
    channels: int
    finder: FaceFinder | None = None  # of the frame "face"
    points: Points = ()  # where it puts a face's points

    def subjects(self, data: bytes) -> list[Subject]:
        """Return what is in a picture, the largest first; nothing when nobody is. Raises Unreadable."""
        return self.subjects_in(decode(data, self.channels))

    def subjects_in(self, pixels: Pixels) -> list[Subject]:
        """Return what is in pixels (h, w, channels), as `subjects` does."""
        if self.finder is None:
            return [Subject(fitted(pixels, self.height, self.width, self.name))]
        return [
            Subject(aligned(pixels, face, self.points, self.height, self.width), face.box)
            for face in self.finder.find(pixels)
        ]


def refuse_frame(name: str, has_detector: bool) -> None:
    """Raise BadInput for a frame that there is not, or that does not go with a detector, or with none."""
    if name not in ALL_FRAMES:
        raise BadInput(f"There is no frame {name!r}.", f"There are {', '.join(ALL_FRAMES)}.")
    if name == "face" and not has_detector:
        raise BadInput("The frame face needs a face detector.", remedy="--face-model YUNET.onnx")
    if name != "face" and has_detector:
        raise BadInput(f"The frame {name} needs no face detector.", remedy="Leave it out, or choose --frame face.")


def around(data: bytes, box: Box, margin: float = 0.5) -> bytes:
    """Return a part of a picture as a picture file: the box, and `margin` of its size more on each side.

    Raises Unreadable, or BadInput for a box that is not in the picture.
    """
    return _cut(decode(data, 3), box, margin)


def part_of(data: bytes, part: tuple[float, float, float, float]) -> bytes:
    """Return a part of a picture as a picture file: x, y, width and height relative to its own.

    What lies outside is left out. Raises Unreadable, or BadInput for a part that is too small.
    """
    pixels = decode(data, 3)
    height, width = pixels.shape[:2]
    x, y = max(0, round(part[0] * width)), max(0, round(part[1] * height))
    right, bottom = min(width, round((part[0] + part[2]) * width)), min(height, round((part[1] + part[3]) * height))
    return _cut(pixels, (x, y, right - x, bottom - y), 0.0)


def _cut(pixels: Pixels, box: Box, margin: float) -> bytes:
    x, y, w, h = box
    more_x, more_y = round(margin * w), round(margin * h)
    part = pixels[max(0, y - more_y) : y + h + more_y, max(0, x - more_x) : x + w + more_x]
    outside = margin == 0 and (x + w > pixels.shape[1] + 1 or y + h > pixels.shape[0] + 1)
    if outside or min(w, h) < MIN_SIDE or x < 0 or y < 0 or min(part.shape[:2]) < MIN_SIDE:
        raise BadInput(
            f"The box {x},{y},{w},{h} is not in the picture, which is {pixels.shape[1]} x {pixels.shape[0]}.",
            f"Expected x, y of its upper left corner, width and height, at least {MIN_SIDE} each.",
        )
    return encode(np.ascontiguousarray(part))


def load(data: bytes, height: int, width: int, channels: int, frame: str = "whole") -> Pixels:
    """Decode, frame and fit: the picture as a tower of that input takes it.

    `frame` is one of FRAMES: the whole picture, or a window around its strokes. A JPEG is decoded in full: at a half or
    a quarter of its size its thin strokes would not be those of the same picture as a PNG.
    """
    return fitted(decode(data, channels), height, width, frame)


def fitted(pixels: Pixels, height: int, width: int, frame: str = "whole") -> Pixels:
    """Frame and fit pixels (h, w, channels) that were decoded: as `load`."""
    return fit(around_strokes(pixels) if frame == "strokes" else pixels, height, width)


FRAMES = ("whole", "strokes", "box")  # those that need nothing else; "box": the part that somebody cut out, as a whole
ALL_FRAMES = (*FRAMES, "face")  # "face" needs a detector
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
