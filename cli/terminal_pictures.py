"""Pictures of samples: in a page, in a PNG, or in a terminal that can show them, by kitty's protocol or sixels."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from siamese_index import Gallery
from siamese_index.analysis import glance
from siamese_index.analysis.glance import SampleAtAGlance
from siamese_index.files import refuse_to_replace, replace_file, signed
from siamese_index.samples import images

from .output import AsJson, for_a_person, note

if TYPE_CHECKING:
    from siamese_index.samples.images import Pixels

_KITTY = ("kitty", "ghostty", "wezterm")  # terminals that draw by kitty's protocol
_SIXEL = ("sixel", "foot", "mlterm", "contour", "yaft")  # and by DEC's
_CHUNK = 4096  # characters of base64 that kitty takes at once


def show_pictures(
    gallery: Gallery, samples: Sequence[SampleAtAGlance], page: Path | None, picture: Path | None, as_json: AsJson
) -> None:
    """Write a page or a picture of samples if that is asked for, and draw them where the terminal can."""
    if page is not None:
        refuse_to_replace(page, "report")
        replace_file(page, glance.page(gallery, samples).encode(), "report")
        note(f"Look at it:  {page}")
    if picture is not None:
        refuse_to_replace(picture, "explanation")
        replace_file(picture, signed(images.encode(glance.sheet(gallery, samples))), "explanation")
        note(f"Look at it:  {picture}")
    way = protocol() if for_a_person(as_json) else None
    if way is not None:
        pixels = glance.sheet(gallery, samples)
        sys.stdout.write(f"{kitty(pixels) if way == 'kitty' else sixel(pixels)}\n")


def protocol() -> str | None:
    """Return how the terminal draws pictures, by what it says of itself: "kitty", "sixel", or None."""
    told = " ".join(os.environ.get(name, "") for name in ("TERM", "TERM_PROGRAM")).lower()
    if os.environ.get("KITTY_WINDOW_ID") or any(name in told for name in _KITTY):
        return "kitty"
    return "sixel" if any(name in told for name in _SIXEL) else None


def kitty(pixels: Pixels) -> str:
    """Return what makes a terminal draw a picture (height, width, 3) by kitty's graphics protocol: a PNG in pieces."""
    data = base64.standard_b64encode(images.encode(pixels)).decode()
    pieces = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)]
    last = len(pieces) - 1
    heads = [f"{'a=T,f=100,' if i == 0 else ''}m={int(i < last)}" for i in range(len(pieces))]
    return "".join(f"\x1b_G{head};{piece}\x1b\\" for head, piece in zip(heads, pieces, strict=True))


def sixel(pixels: Pixels) -> str:
    """Return what makes a terminal draw a picture (height, width, 3) by DEC's sixels, in 216 colours."""
    levels = (pixels.astype(np.uint16) * 5 + 127) // 255
    colour: NDArray[np.int64] = (levels[..., 0] * 36 + levels[..., 1] * 6 + levels[..., 2]).astype(np.int64)
    height, width = colour.shape
    used = np.unique(colour).tolist()
    palette = "".join(f"#{c};2;{c // 36 * 20};{c // 6 % 6 * 20};{c % 6 * 20}" for c in used)
    bands = []
    for top in range(0, height, 6):
        band = colour[top : top + 6]
        weight = (1 << np.arange(len(band)))[:, None]
        lines = []
        for c in np.unique(band).tolist():
            bits = ((band == c) * weight).sum(axis=0)
            lines.append(f"#{c}{_runs(bits)}")
        bands.append("$".join(lines))
    return f'\x1bPq"1;1;{width};{height}{palette}{"-".join(bands)}\x1b\\'


def _runs(bits: NDArray[np.int64]) -> str:
    """Return six rows of one colour: a character a column, repetitions counted."""
    ends = np.flatnonzero(np.diff(bits, append=-1))
    counts = np.diff(ends, prepend=-1)
    pairs = zip(bits[ends].tolist(), counts.tolist(), strict=True)
    return "".join(f"!{n}{chr(63 + b)}" if n > 3 else chr(63 + b) * n for b, n in pairs)
