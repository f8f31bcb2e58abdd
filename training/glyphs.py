"""Make-believe characters: each identity a figure of a few random strokes, each sample redrawn by an unsteady hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from siamese_index.samples import images

SIDE = 64


def glyph(identity: int, hand: int, unsteadiness: float = 0.035) -> NDArray[np.uint8]:
    """Return figure number `identity` as hand number `hand` draws it: uint8 (64, 64, 1), black on white.

    The strokes are cubic Bézier curves. A hand moves their control points by `unsteadiness` (a
    standard deviation, of the picture's side), leans, scales and shifts the figure, and has a pen.
    """
    figure = np.random.default_rng((identity, 0))
    strokes = figure.uniform(0.12, 0.88, (int(figure.integers(2, 5)), 4, 2))
    rng = np.random.default_rng((identity, 1 + hand))
    strokes = strokes + rng.normal(0, unsteadiness, strokes.shape)
    lean, scale = np.deg2rad(rng.normal(0, 6)), rng.uniform(0.85, 1.1)
    turn = scale * np.array([[np.cos(lean), -np.sin(lean)], [np.sin(lean), np.cos(lean)]])
    strokes = (strokes - 0.5) @ turn.T + 0.5 + rng.normal(0, 0.02, 2)
    t = np.linspace(0, 1, 40)[:, None]
    blend = np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=1)
    canvas = np.full((4 * SIDE, 4 * SIDE), 255, np.uint8)
    pen = int(rng.integers(9, 16))
    for stroke in strokes:
        curve = np.round(blend @ stroke * 4 * SIDE).astype(np.int32)
        cv2.polylines(canvas, [curve], isClosed=False, color=0, thickness=pen, lineType=cv2.LINE_AA)
    return np.asarray(cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)[..., None]


def draw(folder: Path, identities: range, hands: range) -> Path:
    """Write a folder per identity with a PNG per hand; return the folder."""
    for identity in identities:
        home = folder / f"glyph-{identity:03d}"
        home.mkdir(parents=True, exist_ok=True)
        for hand in hands:
            (home / f"hand-{hand:02d}.png").write_bytes(images.encode(glyph(identity, hand)))
    return folder
