"""Several templates of an identity, one distance: how the distances to them are fused.

All rules give the distance itself for a single template, and none is ever below the smallest distance.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from siamese_index.store.rows import Fusion
from siamese_index.vectors import Vectors, distances

SAME_PICTURE = 1e-3  # a search nearer than this to a template is by that very sample, re-encoded
RULES: tuple[Fusion, ...] = get_args(Fusion)  # simplest first


def fused(distance: NDArray[np.float64], rule: Fusion) -> float:
    """Return an identity's distance from those to its templates (m,)."""
    if rule == "best" or len(distance) == 1:
        return float(distance.min())
    if rule == "mean":
        return float(distance.mean())
    return float(np.partition(distance, 1)[:2].mean())


def fused_by_identity(distance: NDArray[np.float64], starts: NDArray[np.int64], rule: Fusion) -> NDArray[np.float64]:
    """Return (n, identities) from distances (n, m) whose columns lie identity by identity, each from `starts`."""
    first = np.minimum.reduceat(distance, starts, axis=1)
    sizes = np.diff(np.append(starts, distance.shape[1]))
    if rule == "best" or sizes.max() == 1:
        return first
    if rule == "mean":
        return np.add.reduceat(distance, starts, axis=1) / sizes
    smallest = distance == np.repeat(first, sizes, axis=1)
    again = np.add.reduceat(smallest, starts, axis=1) > 1
    second = np.minimum.reduceat(np.where(smallest, np.inf, distance), starts, axis=1)
    second = np.where(again, first, second)
    return np.where(np.isfinite(second), (first + second) / 2, first)


def all_distances(probes: Vectors, templates: Vectors) -> NDArray[np.float64]:
    """Return distances (n, m) of unit vectors by one matrix product: right to 1e-3 near zero, to 1e-6 elsewhere."""
    likeness = probes @ templates.T
    return np.sqrt(np.maximum(2 - 2 * likeness.astype(np.float64), 0))


def to_identity(probe: Vectors, templates: Vectors, rule: Fusion) -> float:
    """Return the fused distance of one probe (1, d) or (d,) to an identity's templates (m, d), by subtraction."""
    return fused(distances(templates, probe), rule)
