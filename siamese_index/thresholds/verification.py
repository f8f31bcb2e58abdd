"""One to one: the distance at which a share of comparisons between different identities match, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .decision import Evidence
from .learning import SUPPORTED, Threshold, fitted, threshold


def of_pairs(table: NDArray[np.float32], doubt: NDArray[np.float32], target: float) -> Threshold:
    """Return the threshold for two samples of whomever, from `statistics.false_match_table` (2, p) and its errors (p,).

    Comparisons are worth p(1 - p) / variance independent ones, at the share that is used.
    """
    needed = math.ceil(3 / target)
    within = np.flatnonzero(table[1] <= target)
    if not within.size:
        return Threshold(None, Evidence("strangers", target, 0, 0.0, 0, None, needed))
    at = int(within[-1])
    tau, share, error = float(table[0, at]), float(table[1, at]), float(doubt[at])
    effective = share * (1 - share) / error**2 if error > 0 else 0.0
    promise = min(1.0, max(share, 3 / effective)) if effective else 1.0
    missing = max(0, math.ceil(needed - effective))
    count = round(1 / float(table[1, 0]))  # the first point is one comparison
    evidence = Evidence("strangers", target, count, effective, round(share * count), promise, missing)
    return Threshold(tau, replace(evidence, promised=promise <= SUPPORTED * target))


def of_identity(distances: NDArray[np.float64], names: Sequence[str], target: float) -> Threshold:
    """Return the threshold for the claim to be one enrolled identity, from strangers' fused distances to it (n,).

    As for searches, since a claim is a search among one: an order statistic, or of too few a fitted distribution.
    """
    learned = threshold(distances, names, target)
    every = np.ones(len(distances), bool)
    return fitted(distances, every, learned, target) if learned.evidence.missing else learned
