"""A threshold that moves with the probe: strangers near to all of a kind tell what is near for that kind.

Half of what a probe's mean distance to its nearest strangers differs from the usual one is taken from its distances.
Half: all of it is the mean shift of score normalisation, which was measured to lose (docs/decisions/006, 012).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from siamese_index.search.fusion import all_distances
from siamese_index.store.impostors import OwnRows, SearchRows, StrangerRows
from siamese_index.vectors import Vectors, distances

from .statistics import mated_distances

LEAST = 10  # strangers given, below which the threshold stays where it is
_NEAREST = 20  # pictures of strangers
_PART = 0.5
_MOST = 4096  # pictures of strangers that are compared with


@dataclass(frozen=True)
class MeanShift:
    """The strangers that the user gave and who are not enrolled: pictures of the kind that will ask."""

    vectors: Vectors  # (n, d)
    names: NDArray[np.str_]  # (n,) whose
    usual: float  # mean distance of their pictures to the nearest ones of others

    @classmethod
    def of(
        cls, vectors: Vectors, names: Sequence[str], sources: Sequence[str], own: NDArray[np.int64]
    ) -> MeanShift | None:
        """Return that of a gallery's strangers (n, d), with whose and whence they are and which identity: -1 for none.

        None with fewer than LEAST that count.
        """
        at = np.flatnonzero((np.asarray(sources) == "given") & (own < 0))
        if len({names[i] for i in at.tolist()}) < LEAST:
            return None
        at = at[np.linspace(0, len(at) - 1, min(_MOST, len(at))).astype(np.int64)]
        shift = cls(vectors[at], np.asarray(names)[at], 0.0)
        return replace(shift, usual=float(np.mean(shift._mean_distances(shift.vectors, shift.names))))

    def by(self, probes: Vectors, names: Sequence[str] | None = None) -> NDArray[np.float64]:
        """Return by how much each probe's (n, d) threshold moves: (n,). By `names` nobody is his own neighbour."""
        return _PART * (self._mean_distances(probes, None if names is None else np.asarray(names)) - self.usual)

    def moved(self, searches: SearchRows, by: NDArray[np.float64]) -> SearchRows:
        """Return the searches as their thresholds, which move `by` so much (n,), see them."""
        return searches.moved(by, self.mated() if len(searches.cohort) else searches.cohort)

    def mated(self) -> NDArray[np.float64]:
        """Return the strangers' mated distances (m,), less what the threshold of each moves by."""
        names = self.names.tolist()
        return mated_distances(self.vectors, names, by=self.by(self.vectors, names)).astype(np.float64)

    def moved_stored(self, searches: SearchRows, strangers: StrangerRows, own: OwnRows) -> SearchRows:
        """As `moved`, of searches that a gallery holds in these rows."""
        by, gallery = np.zeros(len(searches.distances)), np.asarray(searches.sources) == "gallery"
        of_strangers = self.by(strangers.vectors, strangers.names)
        for part, ids, moves in (
            (~gallery, strangers.ids, of_strangers),
            (gallery, own.ids, self.by(own.vectors)),
        ):
            by[part] = moves[np.searchsorted(ids, searches.ids[part])]
        return self.moved(searches, by)

    def _mean_distances(self, probes: Vectors, names: NDArray[np.str_] | None) -> NDArray[np.float64]:
        """Return each probe's mean distance (n,) to the nearest pictures, the same whoever is asked beside it."""
        found, most = np.empty(len(probes)), min(_NEAREST, len(self.vectors))
        for first in range(0, len(probes), 256):
            part = slice(first, first + 256)
            distance = all_distances(probes[part], self.vectors)
            if names is not None:
                distance[names[part, None] == self.names[None]] = np.inf
            nearest = np.argpartition(distance, most - 1, axis=1)[:, :most]
            there = np.isfinite(np.take_along_axis(distance, nearest, axis=1))
            exact = np.where(there, distances(self.vectors[nearest], probes[part, None, :]), 0)
            found[part] = np.sort(exact, axis=1).sum(axis=1) / there.sum(axis=1)
        return found
