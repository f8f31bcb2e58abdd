"""From one embedder's vectors to another's: a map learned from vectors of the same pictures by both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siamese_index.vectors import Vectors

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # relative to the mean variance of a number


@dataclass(frozen=True)
class VectorMap:
    """(vector - before) @ matrix + after, of unit length again."""

    kind: str  # orthogonal, or linear
    matrix: NDArray[np.float64]  # (old dimension, new dimension)
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    def __call__(self, vectors: Vectors) -> Vectors:
        """Return float32 unit vectors (n, new dimension) of `vectors` (n, old dimension)."""
        moved = (vectors - self.before) @ self.matrix + self.after
        unit: Vectors = (moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)).astype(np.float32)
        return unit


def orthogonal(old: Vectors, new: Vectors) -> VectorMap:
    """Return the turn (with dimensions added or left out) that brings `old` (n, d) nearest to `new` (n, e).

    The orthogonal Procrustes problem (Schönemann, 1966).
    """
    u, _, vt = np.linalg.svd(old.astype(np.float64).T @ new, full_matrices=False)
    return VectorMap("orthogonal", u @ vt, np.zeros(old.shape[1]), np.zeros(new.shape[1]))


def linear(old: Vectors, new: Vectors, ridge: float) -> VectorMap:
    """Return the linear map of least squares from `old` (n, d) to `new` (n, e), with a penalty on its size."""
    before, after = old.mean(axis=0, dtype=np.float64), new.mean(axis=0, dtype=np.float64)
    a, b = old - before, new - after
    penalty = ridge * max(float(np.mean(a**2)), 1e-12) * len(a)
    matrix = np.linalg.solve(a.T @ a + penalty * np.eye(a.shape[1]), a.T @ b)
    return VectorMap("linear", matrix, before, after)


def learned(old: Vectors, new: Vectors, choosing: NDArray[np.bool_]) -> VectorMap:
    """Return the map from `old` (n, d) to `new` (n, e) that serves best on the rows that are `choosing` (n,).

    All are learned from the other rows. The orthogonal one is taken where it is as good within one standard error.
    """
    candidates = [orthogonal(old[~choosing], new[~choosing])]
    candidates += [linear(old[~choosing], new[~choosing], ridge) for ridge in RIDGES]
    errors = [np.linalg.norm(each(old[choosing]) - new[choosing], axis=1) for each in candidates]
    best = int(np.argmin([error.mean() for error in errors]))
    doubt = float(np.std(errors[0] - errors[best])) / np.sqrt(max(1, int(choosing.sum())))
    return candidates[0] if errors[0].mean() <= errors[best].mean() + doubt else candidates[best]
