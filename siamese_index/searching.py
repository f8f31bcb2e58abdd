"""From vectors to the nearest identities: the index finds templates, fusion makes identities of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .fusion import SAME_PICTURE, Fusion, to_identity
from .index import Found, Index
from .store import Store, TowerRow
from .vectors import Vectors


class Hit(NamedTuple):
    """An enrolled identity, its fused distance, and the nearest of its templates."""

    identity: int
    distance: float
    template: int


class Searcher:
    """Searches among the templates of one tower, exactly, kept up with the gallery's revision."""

    def __init__(self, store: Store, tower: TowerRow) -> None:
        self._store, self._tower = store, tower
        self.index = Index(store.path, tower.id, tower.sha256, tower.dimension)
        self._revision: tuple[int, bytes] | None = None
        self._identities = 0
        self._fusion: Fusion = "best"
        self._templates: dict[int, Vectors] = {}  # of identities that came up at this revision

    def refresh(self, revision: tuple[int, bytes], identities: int, fusion: Fusion) -> None:
        """Catch up with the gallery. Call it inside the transaction that found these."""
        self.index.refresh(self._store, revision)
        if revision != self._revision or fusion != self._fusion:
            self._revision, self._identities, self._fusion, self._templates = revision, identities, fusion, {}

    def nearest(self, vectors: Vectors, wanted: int) -> list[list[Hit]]:
        """Return the `wanted` nearest identities of each vector (n, d), nearest first; fewer if there are no more."""
        return list(self._search(vectors, min(wanted, self._identities), None))

    def nearest_other(self, vectors: Vectors, own: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return (identity, distance) of each vector's nearest identity that is not its own: (-1, inf) for none.

        `own` (n,) is -1 for strangers. An identity with a template so near that it is the same
        picture is the search's own under another name, and does not count either.
        """
        identities, distance = np.full(len(vectors), -1, np.int64), np.full(len(vectors), np.inf)
        for i, hits in enumerate(self._search(vectors, min(1, self._identities), own)):
            if hits:
                identities[i], distance[i] = hits[0].identity, hits[0].distance
        return identities, distance

    def _search(self, vectors: Vectors, wanted: int, own: NDArray[np.int64] | None) -> Iterator[list[Hit]]:
        if not wanted:
            yield from ([] for _ in vectors)
            return
        each = len(self.index) / max(1, self._identities)  # templates per identity
        first = min(len(self.index), math.ceil((wanted + (own is not None)) * each) + 3)
        step = max(1, 4_000_000 // (first * self._tower.dimension))
        for start in range(0, len(vectors), step):
            found = self.index.search(vectors[start : start + step], first)
            for i in range(len(found.templates)):
                number, asked, row, part = start + i, first, found, i
                while True:
                    whole = asked == len(self.index)
                    hits = self._hits(
                        vectors[number], row, part, wanted, None if own is None else int(own[number]), whole
                    )
                    if len(hits) == wanted or whole:
                        break
                    # Many templates of one identity, or removed ones, filled the places: look further.
                    asked = min(len(self.index), 4 * asked)
                    row, part = self.index.search(vectors[number : number + 1], asked), 0
                yield hits

    def _hits(
        self, vector: NDArray[np.float32], found: Found, row: int, wanted: int, own: int | None, whole: bool
    ) -> list[Hit]:
        """Return the hits that are certain: no template that was not fetched can change or precede them."""
        first: dict[int, Hit] = {}
        passed = set() if own is None else {own}
        identities, distance = found.identities[row].tolist(), found.distances[row].tolist()
        for place, (identity, d) in enumerate(zip(identities, distance, strict=True)):
            if identity < 0 or identity in first or identity in passed:
                continue
            if own is not None and d < SAME_PICTURE:
                passed.add(identity)
                continue
            first[identity] = Hit(identity, d, int(found.templates[row, place]))
            if self._fusion == "best" and len(first) == wanted:
                break
        if self._fusion == "best":
            return list(first.values())
        hits = sorted(
            (
                hit._replace(distance=to_identity(vector, self._of(hit.identity), self._fusion))
                for hit in first.values()
            ),
            key=lambda hit: (hit.distance, hit.template),
        )[:wanted]
        # A fused distance is never below the smallest: what was not fetched lies beyond the last of these.
        reach = math.inf if whole else distance[-1]
        return [hit for hit in hits if hit.distance <= reach]

    def _of(self, identity: int) -> Vectors:
        if identity not in self._templates:
            self._templates[identity] = self._store.templates_of(self._tower.id, self._tower.dimension, identity)[1]
        return self._templates[identity]
