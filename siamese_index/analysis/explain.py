"""Why this answer? The reasoning in words, and a picture: the probe, who is nearest, and what drove the distance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Unpack

import cv2
import numpy as np
from numpy.typing import NDArray

from siamese_index import describe
from siamese_index.analysis.contract import OpenGallery, by_one_tower
from siamese_index.samples import images
from siamese_index.samples.images import Picture, Pixels
from siamese_index.thresholds.decision import Decision
from siamese_index.thresholds.question import Asked, Question
from siamese_index.towers.tower import Tower
from siamese_index.towers.vector_embedder import VectorEmbedder
from siamese_index.vectors import distances

PATCHES = 8  # along each side; each patch covers two of these steps
SIDE = 192  # pixels of each picture of the strip


@dataclass(frozen=True)
class Explanation:
    """An answer with its reasons."""

    decision: Decision
    words: tuple[str, ...]
    strip: Pixels | None  # (height, width, 3): probe, what drove it, nearest of the first two; None for vectors


@by_one_tower
def explain(gallery: OpenGallery, picture: Picture, **asked: Unpack[Asked]) -> Explanation:
    """Identify a picture as `Gallery.identify` does, with its options, and say why the answer is what it is.

    Raises Unreadable.
    """
    k, fpir, threshold = Question.of(asked).k, asked.get("fpir"), asked.get("threshold")
    two: Asked = {**asked, "k": max(2, k)}  # the words and the picture speak of two, whatever is listed
    decision = gallery.identify(picture, **two)
    listed = replace(decision, candidates=decision.candidates[:k])
    learned = gallery.threshold(fpir)
    words = describe.decision(decision, learned if threshold is None else None)
    tower = gallery.embedder()
    if isinstance(tower, VectorEmbedder) or tower.takes_numbers or not decision.candidates:
        return Explanation(listed, words, None)
    data = images.read(picture)
    probe = images.decode(data, 3)
    prepared = np.asarray(tower.prepare(data), np.uint8)
    nearest = gallery.template(decision.candidates[0].sample)
    heat = occlusion(tower, prepared, nearest)
    panels = [(probe, "probe"), (_overlaid(prepared, heat), "what spoke for the first")]
    for candidate in decision.candidates[:2]:
        kept = gallery.picture(candidate.sample)
        shown = images.decode(kept, 3) if kept is not None else np.full((SIDE, SIDE, 3), 235, np.uint8)
        panels.append((shown, f"{candidate.rank}: {candidate.distance:.3f}"))
    return Explanation(listed, words, _strip(panels))


def occlusion(tower: Tower, prepared: NDArray[np.uint8], nearest: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (PATCHES, PATCHES): how much farther `nearest` is when a patch of the picture is covered.

    The picture is as the tower takes it; the cover is its mean (Zeiler & Fergus, 2014). Positive: that
    place spoke for the identity.
    """
    height, width = prepared.shape[:2]
    mean = prepared.reshape(-1, prepared.shape[2]).mean(axis=0).astype(np.uint8)
    covered = []
    for row in range(PATCHES):
        for column in range(PATCHES):
            picture = prepared.copy()
            top, left = (row - 0.5) * height / PATCHES, (column - 0.5) * width / PATCHES
            ys = slice(max(0, round(top)), round(top + 2 * height / PATCHES))
            xs = slice(max(0, round(left)), round(left + 2 * width / PATCHES))
            picture[ys, xs] = mean
            covered.append(picture)
    vectors = tower.embed([prepared, *covered])
    farther = distances(vectors, nearest)
    return np.asarray((farther[1:] - farther[0]).reshape(PATCHES, PATCHES), np.float64)


def _overlaid(prepared: NDArray[np.uint8], heat: NDArray[np.float64]) -> Pixels:
    """Return the picture in grey with what spoke for the identity in orange, against it in blue."""
    grey = prepared if prepared.shape[2] == 1 else cv2.cvtColor(prepared, cv2.COLOR_RGB2GRAY)[:, :, None]
    scale = SIDE / max(grey.shape[:2])
    size = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
    shown = cv2.resize(grey, size, interpolation=cv2.INTER_NEAREST).reshape(size[1], size[0], 1).astype(np.float64)
    strength = cv2.resize(heat / max(1e-9, float(np.abs(heat).max())), size, interpolation=cv2.INTER_CUBIC)[..., None]
    colour = np.where(strength > 0, np.array([230.0, 110.0, 0.0]), np.array([0.0, 114.0, 178.0]))
    share = np.clip(np.abs(strength), 0, 1) * 0.65
    return np.asarray(shown * (1 - share) + colour * share, np.uint8)


def _strip(panels: list[tuple[Pixels, str]]) -> Pixels:
    """Return pictures side by side on white, a line of text below each."""
    parts = []
    for pixels, label in panels:
        scale = SIDE / max(pixels.shape[:2])
        fitted = images.fit(pixels, max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale)))
        panel = np.full((SIDE + 28, SIDE + 8, 3), 255, np.uint8)
        top, left = (SIDE - fitted.shape[0]) // 2, 4 + (SIDE - fitted.shape[1]) // 2
        panel[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
        cv2.putText(panel, label, (6, SIDE + 19), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
        parts.append(panel)
    return np.concatenate(parts, axis=1)
