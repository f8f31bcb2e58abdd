"""Distances as the similarities that clients of other services expect: 0.5 at the threshold, and monotone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AT_THRESHOLD, MATED, NON_MATED = 0.5, 0.95, 0.1  # at the threshold, and at the medians of both kinds of searches
BELOW = 0.4999  # what is not named


@dataclass(frozen=True)
class Similarity:
    """A piecewise linear map from distances (0..2) to similarities (1..0)."""

    distances: tuple[float, ...]  # ascending
    similarities: tuple[float, ...]  # descending

    @classmethod
    def of(cls, threshold: float | None, mated: NDArray[np.float64], non_mated: NDArray[np.float64]) -> Similarity:
        """Return the map of a threshold, and of the distances of mated and non-mated searches.

        A median that lies on the wrong side of the threshold is left out; without a threshold nobody is similar.
        """
        if threshold is None or threshold <= 0:
            return cls((0.0, 2.0), (BELOW, 0.0))
        points = [(0.0, 1.0)]
        if len(mated) and 0 < (median := float(np.median(mated))) < threshold:
            points.append((median, MATED))
        points.append((threshold, AT_THRESHOLD))
        if len(non_mated) and threshold < (median := float(np.median(non_mated))) < 2:
            points.append((median, NON_MATED))
        if threshold < 2:
            points.append((2.0, 0.0))
        return cls(tuple(at for at, _ in points), tuple(value for _, value in points))

    def __call__(self, distance: float, named: bool = True) -> float:
        """Return the similarity at a distance; of what is not `named` it is below 0.5."""
        value = float(np.interp(distance, self.distances, self.similarities))
        return round(value if named else min(value, BELOW), 5)
