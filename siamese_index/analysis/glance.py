"""One identity at a glance: its samples, how near they are to each other, who else is near; rows and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from siamese_index.errors import Missing, SiameseIndexError
from siamese_index.samples import images
from siamese_index.store.rows import SampleRow
from siamese_index.vectors import distances

from . import html
from .contract import OpenGallery, by_one_tower

_THUMBNAIL = 160  # pixels of the longer side
_COLUMNS, _GAP, _LINE = 6, 8, 28  # of a sheet: pictures in a row, pixels between and below them


@dataclass(frozen=True)
class SampleAtAGlance:
    """A sample with its distance to the identity's nearest other sample, and to the nearest other identity."""

    row: SampleRow
    own: float | None  # None where it is the only one
    other: str | None  # None where nobody else is enrolled
    other_distance: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return it as one flat object."""
        return {**asdict(self.row), "own": self.own, "other": self.other, "other_distance": self.other_distance}


@by_one_tower
def glance(gallery: OpenGallery, name: str) -> list[SampleAtAGlance]:
    """Return an identity's samples in the order of their enrollment. Raises Missing."""
    rows = gallery.samples(name)
    vectors = np.stack([gallery.template(row.id) for row in rows])
    names, away = gallery.distances(vectors)
    mine = names.index(rows[0].identity)
    away[:, mine] = np.inf
    found = []
    for at, row in enumerate(rows):
        to_own = np.delete(distances(vectors, vectors[at]), at)
        nearest = int(np.argmin(away[at]))
        alone = len(names) == 1
        found.append(
            SampleAtAGlance(
                row,
                float(to_own.min()) if len(to_own) else None,
                None if alone else names[nearest],
                None if alone else float(away[at, nearest]),
            )
        )
    return found


@by_one_tower
def samples(gallery: OpenGallery, ids: Sequence[int]) -> list[SampleAtAGlance]:
    """Return samples by their ids, in that order. Raises Missing."""
    of = {row.id: row.identity for row in gallery.samples()}
    lost = next((sample for sample in ids if sample not in of), None)
    if lost is not None:
        raise Missing(f"There is no enrolled sample {lost}.", remedy="See: sidx samples list")
    found = {each.row.id: each for name in dict.fromkeys(of[i] for i in ids) for each in glance(gallery, name)}
    return [found[i] for i in ids]


def sheet(gallery: OpenGallery, samples: Sequence[SampleAtAGlance]) -> images.Pixels:
    """Return one picture (height, width, 3) of all samples, with their ids and names below them."""
    import cv2

    columns = min(len(samples), _COLUMNS)
    rows = -(-len(samples) // columns)
    pixels = np.full((rows * (_THUMBNAIL + _LINE), columns * (_THUMBNAIL + _GAP), 3), 255, np.uint8)
    for at, sample in enumerate(samples):
        top, left = at // columns * (_THUMBNAIL + _LINE), at % columns * (_THUMBNAIL + _GAP)
        seen = _thumbnail(gallery, sample)
        pixels[top : top + seen.shape[0], left : left + seen.shape[1]] = seen
        name = sample.row.identity.encode("ascii", "replace").decode()  # the font has no other letters
        said = f"{sample.row.id} {name}"[:22]
        cv2.putText(
            pixels, said, (left, top + _THUMBNAIL + 16), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA
        )
    return pixels


def page(gallery: OpenGallery, samples: Sequence[SampleAtAGlance]) -> str:
    """Return an HTML page with a thumbnail of each sample that is kept, and what `glance` found."""
    names = list(dict.fromkeys(sample.row.identity for sample in samples))
    name = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    tau = gallery.threshold().tau
    shown = [([_thumbnail(gallery, sample)], _caption(sample, tau)) for sample in samples]
    cells = [
        [s.row.id, s.row.source, s.row.enrolled, _number(s.own), s.other or "–", _number(s.other_distance)]
        for s in samples
    ]
    head = ("sample", "source", "enrolled", "nearest own", "nearest other identity", "its distance")
    about = f"{len(samples)} of {name} in {gallery.path}. The threshold is {_number(tau)}: nearer is a match."
    return html.page(name, about, [("Samples", html.strip(shown)), ("In numbers", html.table(cells, head))])


def _thumbnail(gallery: OpenGallery, sample: SampleAtAGlance) -> images.Pixels:
    kept = gallery.picture(sample.row.id)
    try:
        pixels = images.decode(kept, 3) if kept is not None else None
    except SiameseIndexError:  # a vector
        pixels = None
    if pixels is None:
        return np.full((_THUMBNAIL // 2, _THUMBNAIL // 2, 3), 235, np.uint8)
    scale = min(1.0, _THUMBNAIL / max(pixels.shape[:2]))
    return images.fit(pixels, max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale)))


def _caption(sample: SampleAtAGlance, tau: float | None) -> str:
    said = f"{sample.row.id}: own {_number(sample.own)}"
    if tau is not None and sample.other_distance is not None and sample.other_distance <= tau:
        said += f", {sample.other} {sample.other_distance:.3f}"
    return said


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
