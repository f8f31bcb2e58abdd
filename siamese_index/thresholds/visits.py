"""The threshold for several pictures of one visit: their mean distance varies less than one picture's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from siamese_index.vectors import Vectors

ENOUGH = 8  # strangers with two samples or more
_DRAWS = 8  # visits of each stranger that are put together


def offset(distances: NDArray[np.float64], names: Sequence[str], pictures: int, target: float) -> float:
    """Return how much farther the threshold for the mean of `pictures` may lie than that for one picture.

    `distances` (n, identities) are fused, of strangers' samples with whose they are (n,). Visits are put together of
    a stranger's own samples; nearest distances are taken as normal, so that the threshold at `target` moves by the
    change of their mean and, times the quantile of `target`, of their deviation. 0 with too few strangers.
    """
    whose = np.unique(np.asarray(names), return_inverse=True)[1] if len(names) else np.zeros(0, np.int64)
    several = np.flatnonzero(np.bincount(whose) > 1) if len(whose) else whose
    if pictures < 2 or len(several) < ENOUGH or not distances.shape[1]:
        return 0.0
    rng, visits = np.random.default_rng(0), []
    for stranger in several.tolist():
        rows = np.flatnonzero(whose == stranger)
        for _ in range(_DRAWS):
            chosen = rng.permutation(rows)[:pictures]
            visits.append(float(distances[chosen].mean(axis=0).min()))
    single = distances[np.isin(whose, several)].min(axis=1)
    from scipy.special import ndtri

    return float(np.mean(visits) - single.mean() + ndtri(target) * (np.std(visits) - single.std()))


def independent(vectors: Vectors, usual: float | None) -> int:
    """Return how many independent pictures the vectors (n, d) of one visit are worth: 1 … n.

    Pictures that follow each other are alike. Their mean squared distance is compared with `usual`, that of two
    pictures of one identity taken at different times; without it they count as one.
    """
    n = len(vectors)
    if n < 2 or not usual:
        return 1
    mean = vectors.mean(axis=0, dtype=np.float64)
    between = 2 * n / (n - 1) * max(0.0, 1 - float(mean @ mean))  # mean over pairs of unit vectors
    return 1 + int((n - 1) * min(1.0, between / usual))
