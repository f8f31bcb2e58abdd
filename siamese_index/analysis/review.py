"""Unknown answers on record, grouped by whom they show: to be named, or learned from as strangers."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput, SiameseIndexError
from siamese_index.samples import images
from siamese_index.vectors import Vectors, unit

from . import html
from .contract import OpenGallery

MOST = 10_000  # answers that are looked at, the last ones
_SHOWN = 10  # pictures of a group
_BLOCK = 2048  # answers that are compared with all others at a time
_THUMBNAIL = 112  # pixels


@dataclass(frozen=True, slots=True)
class Cluster:
    """Unknown answers that look like one: the ids in the order in which they were given."""

    answers: tuple[int, ...]
    first: str  # when, UTC
    last: str
    nearest: str | None  # the identity nearest to them on average
    distance: float | None  # to it

    @property
    def id(self) -> str:
        """What names it: another one when an answer comes to it or leaves it."""
        return hashlib.sha256(repr(self.answers).encode()).hexdigest()[:8]

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {"id": self.id, **asdict(self), "count": len(self.answers)}


@dataclass(frozen=True)
class Review:
    """All groups, the largest first."""

    clusters: tuple[Cluster, ...]
    answers: int  # that were looked at
    left_out: int  # older ones, or of another tower
    threshold: float


def review(gallery: OpenGallery, least: int = 1) -> Review:
    """Group the unknown answers of the active tower that were not corrected; groups of `least` answers and more.

    Two groups are one while the mean of all squared distances between them is within the square of the threshold
    (average linkage: Sokal & Michener, 1958). Raises BadInput where there is no threshold.
    """
    with gallery.reading() as state:
        tau, tower = state.threshold(None).tau, state.active
        answers = state.store.log.unknown(tower.id)
        every = state.store.log.open_count()
    if tau is None:
        raise BadInput(
            "There is no threshold yet.", "It says what looks like one.", "sidx calibrate --strangers FOLDER"
        )
    chosen = answers[-MOST:]
    vectors = np.frombuffer(b"".join(a.vector for a in chosen), np.float32).reshape(len(chosen), tower.dimension)
    labels = grouped(vectors, tau)
    order = np.argsort(labels, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(order) else []
    parts = sorted((p for p in parts if len(p) >= least), key=lambda p: (-len(p), int(p[0])))
    means = np.array([vectors[p].mean(axis=0) for p in parts], np.float32).reshape(-1, tower.dimension)
    names, away = gallery.distances(unit(means, tower.dimension))
    found = []
    for part, line in zip(parts, away, strict=True):
        at = int(np.argmin(line)) if len(line) else -1
        members = [chosen[i] for i in part.tolist()]
        cluster = Cluster(
            tuple(answer.id for answer in members),
            members[0].at,
            members[-1].at,
            names[at] if at >= 0 else None,
            round(float(line[at]), 4) if at >= 0 else None,
        )
        found.append(cluster)
    return Review(tuple(found), len(chosen), every - len(chosen), tau)


def grouped(vectors: Vectors, tau: float) -> NDArray[np.int64]:
    """Return a number for each unit vector (n, d), the same for those that look like one: (n,).

    Only vectors that a chain of distances within `tau` connects can come together, so the rest is never compared in
    full: the mean of distances that are all greater is greater, too.
    """
    n = len(vectors)
    if not n:
        return np.zeros(0, np.int64)
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    rows, columns = [], []
    for first in range(0, n, _BLOCK):
        near = vectors[first : first + _BLOCK] @ vectors.T >= 1 - tau**2 / 2 - 1e-6
        at = np.nonzero(near)
        rows.append(at[0] + first)
        columns.append(at[1])
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = coo_matrix((np.ones(len(row), np.int8), (row, column)), shape=(n, n))
    count, part = connected_components(graph, directed=False)
    labels, used = np.zeros(n, np.int64), 0
    members = np.argsort(part, kind="stable")
    for joined in np.split(members, np.cumsum(np.bincount(part, minlength=count))[:-1]):
        if len(joined) == 1:
            found = np.ones(1, np.int64)
        else:
            found = fcluster(linkage(_squared(vectors[joined]), "average"), tau**2, "distance")
        labels[joined] = found + used
        used += int(found.max())
    return labels


def _squared(vectors: Vectors) -> NDArray[np.float64]:
    """Return the squared distances of all pairs, as scipy wants them: those of the first to all after it, and so on."""
    n, at = len(vectors), 0
    pairs = np.empty(n * (n - 1) // 2)
    for first in range(0, n - 1, _BLOCK):
        block = np.maximum(2 - 2 * (vectors[first : first + _BLOCK] @ vectors[first:].T), 0)
        for i, row in enumerate(block[: n - 1 - first]):
            pairs[at : at + len(row) - i - 1] = row[i + 1 :]
            at += len(row) - i - 1
    return pairs


def page(gallery: OpenGallery, found: Review, commands: str) -> str:
    """Return an HTML page with a strip of pictures for each group; `commands` says how to name one."""
    sections = []
    for cluster in found.clusters:
        shown = [cluster.answers[i] for i in np.unique(np.linspace(0, len(cluster.answers) - 1, _SHOWN).astype(int))]
        pictures = [([_thumbnail(gallery, answer)], str(answer)) for answer in shown]
        days = cluster.first[:10], cluster.last[:10]
        when = cluster.first[:16].replace("T", " ") if days[0] == days[1] else " to ".join(days)
        near = f", nearest to {cluster.nearest} ({cluster.distance:.3f})" if cluster.nearest else ""
        title = f"{cluster.id}: {len(cluster.answers)} times, {when}{near}"
        sections.append((title, html.strip(pictures)))
    about = (
        f"{found.answers:,} unknown answers in {gallery.path}, grouped by whom they show; the threshold is"
        f" {found.threshold:.3f}. {commands}"
    )
    return html.page("Whom nobody knew", about, sections)


def _thumbnail(gallery: OpenGallery, answer: int) -> images.Pixels:
    with gallery.reading() as state:
        kept = state.store.log.picture(answer)
    try:
        pixels = images.decode(kept, 3) if kept is not None else None
    except SiameseIndexError:
        pixels = None
    if pixels is None:
        return np.full((_THUMBNAIL // 2, _THUMBNAIL // 2, 3), 235, np.uint8)
    scale = min(1.0, _THUMBNAIL / max(pixels.shape[:2]))
    return images.fit(pixels, max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale)))
