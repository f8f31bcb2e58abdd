"""Faces in a picture: found by YuNet with five points each, and warped to where an embedder expects these.

YuNet: Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector" (2023), through OpenCV. Its model is brought by
whoever makes the tower, and lies in the tower.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput, Damaged

from .images import Pixels

Box = tuple[int, int, int, int]  # x, y of the upper left corner, width, height; in pixels of the upright picture
Points = tuple[tuple[float, float], ...]  # (x, y) of the left eye in the picture, the right one, nose, mouth's corners

# Where embedders of 112 x 112 want the points: those of ArcFace (Deng et al., 2019).
_ARCFACE: Points = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
# Of 150 x 150: the mean face of dlib's 68 points, with its padding of a quarter. ORL, by dlib's kind of network: rank-1
# 1.000; with the points above, scaled, 0.93.
_DLIB: Points = ((47.55, 46.6), (100.48, 46.6), (74.01, 76.56), (50.41, 103.02), (97.61, 103.02))
SCORE = 0.6  # the least that counts as a face
_SMALL, _CLEAR = 0.25, 0.85  # share of the area, and score, of a face within another's box
_OVERLAP = 0.3  # of two boxes of one face
_CANVAS = 640
# Of the picture's longer side: a face that fills it is found when it is small, small ones when it is large.
_SCALES = (320, 640, 1280)


def template(height: int, width: int) -> Points:
    """Return where an embedder of that input wants the five points."""
    if (height, width) == (150, 150):
        return _DLIB
    return tuple((round(x * width / 112, 4), round(y * height / 112, 4)) for x, y in _ARCFACE)


@dataclass(frozen=True)
class Face:
    """A face that was found."""

    box: Box
    points: NDArray[np.float32]  # (5, 2)
    score: float  # 0 … 1


class FaceFinder:
    """Finds faces by a YuNet model, the bytes of its .onnx. May be used by several threads."""

    def __init__(self, model: bytes) -> None:
        """Raises Damaged for what OpenCV does not take for a YuNet."""
        self._model = np.frombuffer(model, np.uint8)
        self._of_thread = threading.local()
        self._any_size = True
        try:
            blank = np.zeros((320, 320, 3), np.uint8)
            try:
                self._detect(blank)
            except cv2.error:  # of a fixed size
                self._any_size = False
                self._detect(np.zeros((_CANVAS, _CANVAS, 3), np.uint8))
        except (cv2.error, SystemError, ValueError) as error:
            old = "" if cv2.__version__ >= "5" else f" OpenCV {cv2.__version__} opens few of them: update it to 5."
            why = str(error).splitlines()[0][:200]
            raise Damaged("The face detector cannot be opened.", why, f"Expected a YuNet, as .onnx.{old}") from None

    def find(self, pixels: Pixels) -> list[Face]:
        """Return the faces in a picture (h, w, 1 or 3), RGB, the largest first."""
        code = cv2.COLOR_GRAY2BGR if pixels.shape[2] == 1 else cv2.COLOR_RGB2BGR
        bgr = np.asarray(cv2.cvtColor(pixels, code), np.uint8)
        longer = max(bgr.shape[:2])
        faces: list[Face] = []
        for scale in _SCALES:
            if scale > _CANVAS and (longer < 0.75 * scale or not self._any_size):
                break
            if scale == _CANVAS and longer <= 0.5 * scale and faces:
                break  # a small picture, whose faces are large
            faces += [face for face in self._at(bgr, scale / longer) if not any(_same(face, f) for f in faces)]
        return sorted(faces, key=lambda face: -face.box[2] * face.box[3])

    def _at(self, bgr: NDArray[np.uint8], scale: float) -> list[Face]:
        height, width = (max(1, round(side * scale)) for side in bgr.shape[:2])
        shrinks = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = cv2.resize(bgr, (width, height), interpolation=shrinks)
        side = max(height, width) if self._any_size else _CANVAS
        canvas = np.zeros((-(-side // 32) * 32, -(-side // 32) * 32, 3), np.uint8)
        canvas[:height, :width] = small
        found = []
        for row in self._detect(canvas):
            x, y, w, h = (row[:4] / scale).tolist()
            left, top = max(0, round(x)), max(0, round(y))
            right, bottom = min(bgr.shape[1], round(x + w)), min(bgr.shape[0], round(y + h))
            if right - left >= 8 and bottom - top >= 8:
                points = np.asarray(row[4:14].reshape(5, 2) / scale, np.float32)
                found.append(Face((left, top, right - left, bottom - top), points, float(row[14])))
        return found

    def _detect(self, canvas: NDArray[np.uint8]) -> NDArray[np.float32]:
        size = canvas.shape[1], canvas.shape[0]
        opened: dict[str, Any] = self._of_thread.__dict__  # a detector is not for several threads
        key = f"{size}"
        if key not in opened:
            opened[key] = cv2.FaceDetectorYN.create(
                "onnx", self._model, np.zeros(0, np.uint8), size, SCORE, _OVERLAP, 5000
            )
        rows = opened[key].detect(canvas)[1]
        return np.zeros((0, 15), np.float32) if rows is None else np.asarray(rows, np.float32)


def _same(face: Face, other: Face) -> bool:
    """Whether two boxes are of one face: they overlap, or the middle of one lies in the other.

    A clear face that is much smaller is one by itself: on a poster behind somebody, or on his shirt.
    """
    (x, y, w, h), (u, v, m, n) = face.box, other.box
    inside = u <= x + w / 2 <= u + m and v <= y + h / 2 <= v + n
    small = w * h < _SMALL * m * n and face.score >= _CLEAR
    return (inside and not small) or overlap(face.box, other.box) > _OVERLAP


def refuse_no_box(box: Any) -> None:
    """Raise BadInput for what is neither a box nor None."""
    fine = isinstance(box, (tuple, list)) and len(box) == 4 and all(isinstance(n, int) for n in box)
    if box is not None and not fine:
        raise BadInput(f"{str(box)[:60]} is no box.", "Expected x, y, width and height in pixels.")


def overlap(a: Box, b: Box) -> float:
    """Return the area that two boxes share, relative to what they cover together: 0 … 1."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0, w) * max(0, h)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def aligned(pixels: Pixels, face: Face, points: Points, height: int, width: int) -> Pixels:
    """Return the face (height, width, channels), turned, scaled and moved so that its points lie at `points`.

    The similarity transform of least squares (Umeyama, 1991).
    """
    source, wanted = face.points.astype(np.float64), np.asarray(points, np.float64)
    from_mean, to_mean = source.mean(axis=0), wanted.mean(axis=0)
    a, b = source - from_mean, wanted - to_mean
    u, spread, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, np.sign(np.linalg.det(u @ vt)) or 1.0])
    rotation = (u * sign) @ vt
    scale = float((spread * sign).sum() / max(1e-9, (a**2).sum()))
    matrix = np.hstack([scale * rotation, (to_mean - scale * rotation @ from_mean)[:, None]])
    large = scale < 0.5  # sampled too coarsely as it is
    smooth = cv2.GaussianBlur(pixels, (0, 0), 0.4 / scale).reshape(pixels.shape) if large else pixels
    warped = cv2.warpAffine(smooth, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.uint8).reshape(height, width, pixels.shape[2])
