"""What a tower sees of a picture, to look at: where its subjects are, and each as it is taken."""

from __future__ import annotations

import cv2
import numpy as np

from siamese_index.errors import BadInput
from siamese_index.samples import images
from siamese_index.samples.images import Picture, Pixels

from .contract import OpenGallery

_LONGER = 960  # pixels of the picture as it is drawn
_SIDE = 160  # of each subject


def frame_picture(gallery: OpenGallery, picture: Picture) -> Pixels:
    """Return the picture (h, w, 3) with a box around each subject, and below it each subject as the tower takes it.

    Numbered in the order of the answers. Raises Unreadable, or BadInput in a gallery of vectors.
    """
    embedder = gallery.embedder()
    if embedder.takes_numbers:
        raise BadInput("A vector has no frame to be shown.")
    data = images.read(picture)
    whole, subjects = images.decode(data, 3), embedder.subjects(data)
    scale = min(1.0, _LONGER / max(whole.shape[:2]))
    drawn = images.fit(whole, max(1, round(whole.shape[0] * scale)), max(1, round(whole.shape[1] * scale))).copy()
    for number, subject in enumerate(subjects, 1):
        if subject.box is not None:
            x, y, w, h = (round(side * scale) for side in subject.box)
            cv2.rectangle(drawn, (x, y), (x + w, y + h), (230, 110, 0), 2)
            cv2.putText(drawn, str(number), (x + 4, y + 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (230, 110, 0), 2)
    tiles = []
    for subject in subjects:
        taken = np.asarray(subject.taken, np.uint8)
        colour = np.repeat(taken, 3, axis=2) if taken.shape[2] == 1 else taken
        tall, wide = colour.shape[:2]
        ratio = _SIDE / max(tall, wide)
        tile = np.full((_SIDE, _SIDE, 3), 255, np.uint8)
        fitted = images.fit(colour, max(1, round(tall * ratio)), max(1, round(wide * ratio)))
        tile[: fitted.shape[0], : fitted.shape[1]] = fitted
        tiles.append(tile)
    across = max(1, drawn.shape[1] // (_SIDE + 8))
    width = max(drawn.shape[1], _SIDE + 8)
    rows = -(-len(tiles) // across)
    sheet = np.full((drawn.shape[0] + rows * (_SIDE + 8), width, 3), 255, np.uint8)
    sheet[: drawn.shape[0], : drawn.shape[1]] = drawn
    for i, tile in enumerate(tiles):
        top, left = drawn.shape[0] + 8 + i // across * (_SIDE + 8), i % across * (_SIDE + 8)
        sheet[top : top + _SIDE, left : left + _SIDE] = tile
    return sheet
