"""Pictures of several people, composed of portraits."""

import numpy as np

from siamese_index.samples import images


def portrait(orl, person, number):
    return orl / f"s{person}" / f"{number}.pgm"


def scene(orl, *placed, size=(480, 640)):
    """Draw portraits (person, number, x, y, height) on a wall that is darker to one side."""
    wall = np.linspace(90, 160, size[1])[None, :] + np.random.default_rng(0).normal(0, 4, size)
    picture = np.repeat(np.clip(wall, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    for person, number, x, y, height in placed:
        face = images.decode(portrait(orl, person, number).read_bytes(), 3)
        fitted = images.fit(face, height, round(height * face.shape[1] / face.shape[0]))
        picture[y : y + height, x : x + fitted.shape[1]] = fitted
    return picture
