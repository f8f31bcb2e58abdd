"""Vectors of identities in look-alike families, as many as wanted, and other samples of them."""

from __future__ import annotations

import numpy as np

MILLION, DIMENSION, LATENT, FAMILIES = 1_000_000, 128, 24, 2000
Vectors = np.ndarray


class Crowd:
    """Identities, and how their samples look."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._map = (self._rng.normal(size=(LATENT, DIMENSION)) / np.sqrt(LATENT)).astype(np.float32)
        self._families = self._rng.normal(size=(FAMILIES, LATENT)).astype(np.float32)
        self._identities = self._somebody(count)
        self.vectors = self._looks(self._identities)

    def _somebody(self, count: int) -> Vectors:
        family = self._families[self._rng.integers(FAMILIES, size=count)]
        return family + np.float32(0.7) * self._rng.normal(size=(count, LATENT)).astype(np.float32)

    def _looks(self, who: Vectors) -> Vectors:
        seen = who + np.float32(0.3) * self._rng.normal(size=who.shape).astype(np.float32)
        vectors = seen @ self._map
        vectors += np.float32(0.1) * self._rng.normal(size=vectors.shape).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def mated(self, count: int) -> tuple[Vectors, Vectors]:
        """Other samples of enrolled identities, and whose."""
        whose = self._rng.choice(len(self._identities), count, replace=False)
        return self._looks(self._identities[whose]), whose

    def strangers(self, count: int) -> Vectors:
        return self._looks(self._somebody(count))
