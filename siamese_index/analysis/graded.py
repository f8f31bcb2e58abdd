"""Pairs with graded labels, from 0 (unlike) to 1 (the same): do near pairs have high labels?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.vectors import Vectors, distances

DRAWS = 400  # of the bootstrap


def graded_figures(vectors: Vectors, pairs: NDArray[np.int64], labels: NDArray[np.float32]) -> dict[str, Any]:
    """Return how well distances rank pairs (m, 2) of rows of `vectors` by their labels (m,): counts, and `spearman`.

    That is Spearman's rank correlation of label and nearness, -1 … 1; None where labels or distances are all alike.
    Its 95 % interval is a bootstrap's over items, since pairs of one item are not independent; and at least as wide as
    so few of them make it by Fisher's transformation (Bonett and Wright, 2000).
    """
    distance = distances(vectors[pairs[:, 0]], vectors[pairs[:, 1]]) if len(pairs) else np.zeros(0)
    found = correlation(labels, distance)
    items, at = np.unique(pairs, return_inverse=True)
    at = at.reshape(pairs.shape)
    rng, drawn = np.random.default_rng(0), []
    for _ in range(DRAWS if found is not None else 0):
        times = np.bincount(rng.integers(0, len(items), len(items)), minlength=len(items))
        again = np.repeat(np.arange(len(pairs)), times[at[:, 0]] * times[at[:, 1]])
        value = correlation(labels[again], distance[again])
        if value is not None:
            drawn.append(value)
    interval: list[float | None] = [None, None]
    if drawn and found is not None:
        low, high = np.quantile(drawn, (0.025, 0.975)).tolist()
        least, most = _by_count(found, min(len(pairs), len(items)))
        interval = [min(low, least), max(high, most)]
    return {"pairs": len(pairs), "items": len(items), "spearman": found, "spearman_interval": interval}


def _by_count(found: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a rank correlation of so many."""
    if count <= 3:
        return -1.0, 1.0
    middle, half = float(np.arctanh(min(max(found, -0.9999), 0.9999))), 1.96 * ((1 + found**2 / 2) / (count - 3)) ** 0.5
    return float(np.tanh(middle - half)), float(np.tanh(middle + half))


def correlation(labels: NDArray[Any], distance: NDArray[Any]) -> float | None:
    """Return Spearman's rank correlation of labels and nearness; None where either is all alike."""
    if len(labels) < 3 or np.ptp(labels) == 0 or np.ptp(distance) == 0:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(labels, -distance).statistic)
