"""Shares of trials that resemble each other: what they are worth, and their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from siamese_index.vectors import Vectors

_CAUTION = 3  # identities that the variance between identities is believed to be measured on beforehand


def _of(names: Sequence[str], part: NDArray[np.bool_]) -> list[str]:
    return [name for name, taken in zip(names, part.tolist(), strict=True) if taken]


def effective_searches(nearest: NDArray[np.float64], names: Sequence[str], share: float = 0.5) -> float:
    """Return how many independent searches these n are worth, between the number of strangers and n.

    Measured at the quantile that is used, as far as it can be: where a `share` of them lies below, at least ten and
    at most half.
    """
    n = len(nearest)
    if not n:
        return 0.0
    below = min(math.ceil(n / 2), max(10, math.ceil(share * n)))
    return effective_count(nearest <= np.sort(nearest)[below - 1], names)


def effective_count(hits: NDArray[np.bool_], names: Sequence[str]) -> float:
    """Return how many independent trials these n are worth, between the number of identities and n.

    Trials of one identity resemble each other. Their design effect is p(1 - p) / variance of p by the
    delete-one-group jackknife (Kish, 1965; Efron & Stein, 1981). A variance that is itself measured on few
    identities is drawn towards that of one trial each, which those few certainly are worth.
    """
    n = len(hits)
    numbers: dict[str, int] = {}
    group = np.fromiter((numbers.setdefault(name, len(numbers)) for name in names), np.int64, n)
    groups = len(numbers)
    if groups < 2 or groups == n:
        return float(groups)
    sizes = np.bincount(group, minlength=groups)
    count = np.bincount(group, weights=hits, minlength=groups)
    left_out = (count.sum() - count) / (n - sizes)
    variance = (groups - 1) / groups * float(np.sum((left_out - left_out.mean()) ** 2))
    p = float(hits.mean())
    variance = (groups * variance + _CAUTION * p * (1 - p) / groups) / (groups + _CAUTION)
    if variance <= 0:
        return float(groups)
    return float(np.clip(p * (1 - p) / variance, groups, n))


def clustered_interval(hits: NDArray[np.bool_], names: Sequence[str]) -> tuple[float, float]:
    """Return the 95 % interval of a share of trials by identities `names`, by what the trials are worth."""
    effective = effective_count(hits, names)
    return share_interval(float(np.mean(hits)) * effective, effective)


def false_match_table(
    vectors: Vectors, names: Sequence[str], points: int = 512
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (2, p): distances between strangers of different identity, and the share at or below each.

    And the standard error of each share (p,), by the delete-one-identity jackknife: comparisons of one identity
    resemble each other. Ranks are spaced by ratio, so the small distances, which matter, are all there.
    """
    _, group = np.unique(np.asarray(names), return_inverse=True)
    if len(vectors) < 2 or group.max() == 0:
        return np.zeros((2, 0), np.float32), np.zeros(0, np.float32)
    rng = np.random.default_rng(0)
    if len(vectors) > 2000:  # 2 million pairs say enough; all of them would not fit
        chosen = np.sort(rng.choice(len(vectors), 2000, replace=False))
        vectors, group = vectors[chosen], group[chosen]
    first, second = np.nonzero(np.triu(group[:, None] != group[None, :], 1))
    distance = np.sqrt(np.maximum(2 - 2 * (vectors @ vectors.T)[first, second], 0))
    order = np.argsort(distance, kind="stable")
    ranks = np.unique(np.geomspace(1, len(order), points).astype(np.int64))
    table = np.stack([distance[order[ranks - 1]], ranks / len(order)]).astype(np.float32)
    # Which point each comparison comes in at; then, by identity, how many are within each point.
    comes = np.searchsorted(ranks, np.arange(1, len(order) + 1))
    within = np.zeros((int(group.max()) + 1, len(ranks)))
    for side in (first, second):
        np.add.at(within, (group[side[order]], comes), 1)
    mine = within.sum(axis=1, keepdims=True)
    left_out = (ranks - np.cumsum(within, axis=1)) / np.maximum(len(order) - mine, 1)
    groups = len(within)
    variance = (groups - 1) / groups * np.sum((left_out - left_out.mean(axis=0)) ** 2, axis=0)
    # Measured on few identities it is drawn towards that of disjoint pairs of them, which are certainly independent.
    disjoint = table[1] * (1 - table[1]) / (groups / 2)
    return table, np.sqrt((groups * variance + _CAUTION * disjoint) / (groups + _CAUTION)).astype(np.float32)


def mated_distances(
    vectors: Vectors, names: Sequence[str], most: int = 512, by: NDArray[np.float64] | None = None
) -> NDArray[np.float32]:
    """Return distances between two samples of the same identity, ascending: (m,), thinned evenly to `most`.

    Each less what it moves `by` (n,) when the first of the two is the probe.
    """
    at: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        at.setdefault(name, []).append(i)
    several = [members for members in at.values() if len(members) > 1]
    pairs = [(a, b) for members in several for k, a in enumerate(members[:20]) for b in members[k + 1 : 20]]
    if not pairs:
        return np.zeros(0, np.float32)
    first, second = np.array(pairs).T
    found = np.linalg.norm(vectors[first] - vectors[second], axis=1)
    found = np.sort(found if by is None else found - by[first]).astype(np.float32)
    return found[np.linspace(0, len(found) - 1, min(most, len(found))).astype(np.int64)]


def expected_false_alarms(table: NDArray[np.float32], distance: float, identities: int) -> float | None:
    """Return N * FMR(distance): how many of N enrolled identities a stranger lies this near to by chance."""
    if table.shape[1] == 0:
        return None
    return float(identities * np.interp(distance, table[0], table[1], left=0.0))


def share_interval(count: float, of: float) -> tuple[float, float]:
    """Return the 95 % Clopper-Pearson interval of a share (Clopper & Pearson, 1934)."""
    if of == 0:
        return 0.0, 1.0
    from scipy.special import betaincinv

    low = 0.0 if count == 0 else float(betaincinv(count, of - count + 1, 0.025))
    high = 1.0 if count == of else float(betaincinv(count + 1, of - count, 0.975))
    return low, high
