"""Whether a picture is fit to be enrolled, and whether two picture files show the same."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from siamese_index.errors import BadInput, SiameseIndexError, Unreadable
from siamese_index.samples.framing import load
from siamese_index.samples.images import Pixels, decode, fit

# Mean difference at 32 x 32, relative to the contrast. Measured: what compression and resizing make, at most 0.046
# (ORL, Omniglot); two pictures of one person or character, at least 0.069.
ALIKE = 0.06


# Grey levels between the darkest and the lightest of 16 x 16 parts. Measured: 3,520 faces and characters, at least 97.
BLANK = 6
_NOISE = 8  # how many standard deviations of a part's mean they may differ by noise alone
_SPECKS = 3  # pixels that may differ: a sensor has hot ones


def is_blank(pixels: Pixels) -> bool:
    """Whether a picture shows nothing: all black, all white, a covered lens; noise and single bright pixels aside."""
    grey = pixels if pixels.shape[2] == 1 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[:, :, None]
    grey = grey.reshape(grey.shape[:2])
    ground = int(np.partition(grey.ravel(), grey.size // 2)[grey.size // 2])
    away = np.abs(grey.astype(np.int16) - ground)
    if int((away > 4 * BLANK).sum()) <= _SPECKS:
        grey = np.where(away > 4 * BLANK, np.uint8(ground), grey)
    parts = cv2.resize(grey.astype(np.float32), (16, 16), interpolation=cv2.INTER_AREA)
    # Noise by the median difference of neighbours, which what is drawn hardly changes (Donoho & Johnstone, 1994).
    noise = float(np.median(np.abs(np.diff(grey.astype(np.int16), axis=1)))) / 0.6745 / 2**0.5
    by_noise = _NOISE * noise / max(1.0, (grey.size / 256) ** 0.5)
    return bool(float(np.ptp(parts)) < min(max(BLANK, by_noise), 4 * BLANK))


def quality(data: bytes) -> dict[str, float]:
    """Return what makes a picture fit to be enrolled, as measured on its grey levels.

    size: the shorter side in pixels; brightness: mean, 0..255; contrast: standard deviation;
    sharpness: standard deviation of the Laplacian (after Pech-Pacheco et al., 2000) at up to 256
    pixels, relative to the contrast, so that darkness is not blur. Raises Unreadable.
    """
    grey = decode(data, 1)
    size = min(grey.shape[:2])
    scale = min(1.0, 256 / max(grey.shape[:2]))
    grey = fit(grey, max(1, round(grey.shape[0] * scale)), max(1, round(grey.shape[1] * scale)))
    contrast = float(grey.std())
    laplacian = float(cv2.Laplacian(grey, cv2.CV_32F).std())
    return {
        "size": float(size),
        "brightness": round(float(grey.mean()), 1),
        "contrast": round(contrast, 1),
        "sharpness": round(laplacian / contrast, 4) if contrast else 0.0,
    }


MEASURES = ("size", "brightness", "contrast", "sharpness")
_LOW = {"size": "small", "brightness": "dark", "contrast": "flat", "sharpness": "blurred"}


def refuse_below(floor: Mapping[str, float], data: bytes) -> None:
    """Raise Unreadable for a picture with a measure of `quality` below its floor, BadInput for no such measure."""
    unknown = sorted(set(floor) - set(MEASURES))
    if unknown:
        raise BadInput(f"There is no measure {unknown[0]!r}.", f"There are {', '.join(MEASURES)}.")
    found = quality(data)
    for measure, least in floor.items():
        if found[measure] < least:
            raise Unreadable(
                f"The picture is too {_LOW[measure]}.",
                f"Its {measure} is {found[measure]:g}, the floor {least:g}.",
                "Take a better one, or lower the floor.",
            )


def alike(a: bytes | None, b: bytes | None) -> bool:
    """Whether two picture files show the same pixels but for compression and size; False for what is no picture."""
    if a is None or b is None:
        return False
    try:
        first, second = (load(data, 32, 32, 1).astype(np.int16) for data in (a, b))
    except SiameseIndexError:
        return False
    return float(np.abs(first - second).mean()) < ALIKE * float(first.std())
