"""Searches in memory: one row each, strangers first, then the gallery's own templates by id."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from siamese_index.store.rows import TowerRow
from siamese_index.store.store import Store
from siamese_index.vectors import Vectors


@dataclass
class SearchTable:
    """The searches of one tower."""

    names: list[str]  # of strangers
    digests: list[bytes]
    sources: list[str]
    ids: NDArray[np.int64]  # stranger ids, then template ids
    vectors: Vectors
    own: NDArray[np.int64]  # identity, -1 for none
    nearest: NDArray[np.int64]  # identity, -1 for none
    distance: NDArray[np.float64]  # inf for none
    mate: NDArray[np.float64]  # NaN for none
    _room: Vectors = field(default_factory=lambda: np.zeros((0, 0), np.float32))  # what `vectors` may grow into

    @classmethod
    def read(cls, store: Store, tower: TowerRow) -> SearchTable:
        """Return the searches as they are in the gallery."""
        strangers = store.impostors.strangers(tower.id, tower.dimension)
        own = store.impostors.own(tower.id, tower.dimension)
        return cls(
            list(strangers.names),
            list(strangers.digests),
            list(strangers.sources),
            np.concatenate([strangers.ids, own.ids]),
            np.concatenate([strangers.vectors, own.vectors]),
            np.concatenate([strangers.own, own.own]),
            np.concatenate([strangers.nearest, own.nearest]),
            np.concatenate([strangers.distances, own.distances]),
            np.concatenate([np.full(len(strangers.ids), np.nan), own.mates]),
        )

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Drop the rows that are not in the mask (n,): own searches only."""
        for column in ("ids", "vectors", "own", "nearest", "distance", "mate"):
            setattr(self, column, getattr(self, column)[mask])

    def append(self, ids: NDArray[np.int64], own: NDArray[np.int64], vectors: Vectors) -> NDArray[np.int64]:
        """Add own searches that are still to be made; return their rows."""
        n, before = len(ids), len(self.ids)
        if n:
            if before + n > len(self._room):  # grown by more than asked for: copying all for each costs more
                self._room = np.empty(((before + n) * 5 // 4, vectors.shape[1]), np.float32)
                self._room[:before] = self.vectors
            elif not np.shares_memory(self._room, self.vectors):
                self._room[:before] = self.vectors
            self._room[before : before + n] = vectors
            self.vectors = self._room[: before + n]
            new = {
                "ids": ids,
                "own": own,
                "nearest": np.full(n, -1),
                "distance": np.full(n, np.inf),
                "mate": np.full(n, np.nan),
            }
            for column, values in new.items():
                setattr(self, column, np.concatenate([getattr(self, column), values]))
        return np.arange(before, before + n)
