"""From vectors to the nearest identities: the index finds templates, fusion makes identities of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamese_index.store.rows import Fusion, TowerRow
from siamese_index.store.store import Store
from siamese_index.vectors import Vectors

from .file_index import FETCHED
from .fusion import SAME_PICTURE, to_identity
from .opening import index_of
from .result import Radius, SearchResult


class Hit(NamedTuple):
    """An enrolled identity, its fused distance, and the nearest of its templates."""

    identity: int
    distance: float
    template: int


class Searcher:
    """Searches among the templates of one tower, kept up with the gallery's revision."""

    def __init__(self, store: Store, tower: TowerRow) -> None:
        self._store, self._tower = store, tower
        self.index = index_of(store, tower)
        self._revision: tuple[int, bytes] | None = None
        self._identities = 0
        self._fusion: Fusion = "best"
        self._templates: dict[int, Vectors] = {}  # of identities that came up at this revision

    def refresh(self, revision: tuple[int, bytes], identities: int, fusion: Fusion) -> None:
        """Catch up with the gallery. Call it inside the transaction that found these."""
        self.index.refresh(revision)
        if revision != self._revision or fusion != self._fusion:
            self._revision, self._identities, self._fusion, self._templates = revision, identities, fusion, {}

    def nearest(
        self,
        vectors: Vectors,
        wanted: int,
        *,
        radius: Radius = None,
        only: NDArray[np.int64] | None = None,
    ) -> list[list[Hit]]:
        """Return the `wanted` nearest identities of each vector (n, d), nearest first; fewer if there are no more.

        They are exact within `radius` (all of them by default): what lies beyond may come from a coarse
        image. `only` are the identities (ascending ids) to search among.
        """
        among = self._identities if only is None else len(only)
        return self._search(vectors, min(wanted, among), None, radius, only)

    def nearest_other(self, vectors: Vectors, own: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return (identity, distance) of each vector's nearest identity that is not its own: (-1, inf) for none.

        `own` (n,) is -1 for strangers. An identity with a template so near that it is the same
        picture is the search's own under another name, and does not count either.
        """
        identities, distance = np.full(len(vectors), -1, np.int64), np.full(len(vectors), np.inf)
        left = np.ones(len(vectors), bool)
        if self._fusion == "best" and len(self.index):
            step = self._at_once(self._asked(2), not self.index.coarse)
            for first in range(0, len(vectors), step):
                part = slice(first, first + step)
                left[part] = self._met(vectors[part], own[part], identities[part], distance[part])
        again = np.flatnonzero(left)
        hits_of = self._search(vectors[again], min(1, self._identities), own[again], None, None)
        for i, hits in zip(again.tolist(), hits_of, strict=True):
            identities[i], distance[i] = (hits[0].identity, hits[0].distance) if hits else (-1, np.inf)
        return identities, distance

    def _met(
        self,
        vectors: Vectors,
        own: NDArray[np.int64],
        identities: NDArray[np.int64],
        distance: NDArray[np.float64],
    ) -> NDArray[np.bool_]:
        """Write down the others that one look finds; return which searches need another (n,)."""
        found = self.index.search(vectors, self._asked(2), exact=not self.index.coarse)
        others = (found.identities >= 0) & (found.identities != own[:, None])
        each, first = np.arange(len(vectors)), others.argmax(axis=1)
        identities[:], distance[:] = found.identities[each, first], found.distances[each, first]
        same = (others & (found.distances < SAME_PICTURE)).any(axis=1)
        again: NDArray[np.bool_] = ~others.any(axis=1) | same | (distance > found.reach)
        return again

    def _asked(self, wanted: int) -> int:
        """Return how many templates to look for, to find so many identities."""
        return min(len(self.index), math.ceil(wanted * len(self.index) / max(1, self._identities)) + 3)

    def _at_once(self, asked: int, exact: bool) -> int:
        """Return how many searches for so many templates to make at once: what they find must fit into memory."""
        return max(1, 4_000_000 // (max(asked, 1 if exact else FETCHED) * self._tower.dimension))

    def _search(
        self,
        vectors: Vectors,
        wanted: int,
        own: NDArray[np.int64] | None,
        radius: Radius,
        only: NDArray[np.int64] | None,
    ) -> list[list[Hit]]:
        out: list[list[Hit]] = [[] for _ in vectors]
        if not wanted:
            return out
        total, asked = len(self.index), self._asked(wanted + (own is not None))
        # Who wants all of several exactly need not look coarsely first.
        exact = not self.index.coarse or only is not None or (radius is None and own is None)
        waiting = np.arange(len(vectors))
        while len(waiting):
            # Many templates of one identity, or removed ones, may fill the places: then look further.
            still, whole = [], exact and asked == total
            step = self._at_once(asked, exact)
            for start in range(0, len(waiting), step):
                part = waiting[start : start + step]
                found = self.index.search(vectors[part], asked, exact=exact, radius=radius, only=only)
                for row, i in enumerate(part.tolist()):
                    hits = self._hits(vectors[i], found, row, wanted, None if own is None else int(own[i]))
                    needed = self._needed(hits, None if exact else radius)
                    if whole or (len(hits) == wanted and needed <= found.reach[row]):
                        out[i] = hits
                    else:
                        still.append(i)
            waiting = np.array(still, np.int64)
            if exact:
                asked = min(total, 4 * asked)
            exact = True
        return out

    def _hits(
        self, vector: NDArray[np.float32], found: SearchResult, row: int, wanted: int, own: int | None
    ) -> list[Hit]:
        """Return the `wanted` nearest identities of those that were found."""
        first: dict[int, Hit] = {}
        passed = {-1} if own is None else {-1, own}
        templates, identities = found.templates[row].tolist(), found.identities[row].tolist()
        for template, identity, distance in zip(templates, identities, found.distances[row].tolist(), strict=True):
            if identity in first or identity in passed:
                continue
            if own is not None and distance < SAME_PICTURE:
                passed.add(identity)
                continue
            first[identity] = Hit(identity, distance, template)
            if self._fusion == "best" and len(first) == wanted:
                break
        if self._fusion == "best":
            return list(first.values())
        fused = (h._replace(distance=to_identity(vector, self._of(h.identity), self._fusion)) for h in first.values())
        return sorted(fused, key=lambda hit: (hit.distance, hit.template))[:wanted]

    def _needed(self, hits: Sequence[Hit], radius: Radius) -> float:
        """Return how far nothing may be missing for these hits to be the answer; infinity without hits.

        A fused distance is never below the smallest: an identity that was not found at all is farther than any of its
        templates. So the first is the nearest of all once nothing nearer than its fused distance is missing.
        """
        if not hits:
            return math.inf
        first, last = hits[0].distance, hits[-1].distance
        if radius is None:
            return last
        return min(last, float(radius(np.array(first))))

    def _of(self, identity: int) -> Vectors:
        if identity not in self._templates:
            self._templates[identity] = self._store.templates.of(self._tower.id, self._tower.dimension, identity)[1]
        return self._templates[identity]
