"""From stranger searches to a threshold, and how sure it is.

A stranger is a probe whose identity is not enrolled. Its search yields its nearest distance d_min;
FPIR(t) is the share of stranger searches with d_min <= t, and the threshold is the largest observed
d_min that keeps it at or below the target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .decision import Evidence
from .vectors import Vectors, distances

DEFAULT_FPIR = 0.01
SAME_PICTURE = 1e-3  # a stranger nearer than this to a template is that sample, re-encoded


@dataclass(frozen=True)
class Threshold:
    """The largest distance that counts as a match (None without evidence), and what it rests on."""

    tau: float | None
    evidence: Evidence

    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval of the true FPIR at tau.

        For n independent searches the true FPIR at the k-th smallest d_min follows
        Beta(k, n + 1 - k) (order statistics of uniforms: David & Nagaraja, 2003); n is the
        effective number. With no false alarm it is (0, 3/n), the rule of three.
        """
        e = self.evidence
        if self.tau is None or e.searches == 0:
            return None
        if e.false_alarms == 0:
            return 0.0, min(1.0, 3 / e.effective)
        from scipy.special import betaincinv

        k = e.false_alarms * e.effective / e.searches
        a, b = max(k, 1e-9), e.effective + 1 - k
        return float(betaincinv(a, b, 0.025)), float(betaincinv(a, b, 0.975))


def threshold(nearest: NDArray[np.float64], names: Sequence[str], target: float) -> Threshold:
    """Return the threshold for `target` FPIR from stranger distances d_min (n,) and whose they are (n,)."""
    n = len(nearest)
    needed = math.ceil(3 / target)
    if n == 0:
        return Threshold(None, Evidence("strangers", target, 0, 0.0, 0, None, needed))
    ordered = np.sort(nearest)
    effective = effective_searches(nearest, names)
    # Too few to promise the target: let none of them in, and promise what that supports.
    k = math.floor(target * n + 1e-9) if effective >= needed else 0
    while 0 < k < n and ordered[k] == ordered[k - 1]:  # a tie would let more in than allowed
        k = int(np.searchsorted(ordered, ordered[k - 1], "left"))
    tau = float(ordered[k - 1]) if k else float(np.nextafter(ordered[0], -1))
    promise = k / (n + 1) if k else min(1.0, 3 / effective)
    missing = 0 if k else max(0, math.ceil(needed - effective))
    return Threshold(tau, Evidence("strangers", target, n, effective, k, promise, missing))


def effective_searches(nearest: NDArray[np.float64], names: Sequence[str]) -> float:
    """Return how many independent searches these n are worth, between the number of strangers and n.

    Measured where it can be: at the median distance.
    """
    return effective_count(nearest <= np.median(nearest), names) if len(nearest) else 0.0


def effective_count(hits: NDArray[np.bool_], names: Sequence[str]) -> float:
    """Return how many independent trials these n are worth, between the number of identities and n.

    Trials of one identity resemble each other. Their design effect is p(1 - p) / variance of p by the
    delete-one-group jackknife (Kish, 1965; Efron & Stein, 1981).
    """
    n = len(hits)
    _, group = np.unique(np.asarray(names), return_inverse=True)
    groups = int(group.max()) + 1 if n else 0
    if groups < 2 or groups == n:
        return float(groups)
    sizes = np.bincount(group, minlength=groups)
    count = np.bincount(group, weights=hits, minlength=groups)
    left_out = (count.sum() - count) / (n - sizes)
    variance = (groups - 1) / groups * float(np.sum((left_out - left_out.mean()) ** 2))
    p = float(hits.mean())
    if variance <= 0:
        return float(groups)
    return float(np.clip(p * (1 - p) / variance, groups, n))


def clustered_interval(hits: NDArray[np.bool_], names: Sequence[str]) -> tuple[float, float]:
    """Return the 95 % interval of a share of trials by identities `names`, by what the trials are worth."""
    effective = effective_count(hits, names)
    return share_interval(float(np.mean(hits)) * effective, effective)


def nearest_other(
    probes: Vectors, own: NDArray[np.int64], templates: Vectors, identities: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return, per probe, the position of its nearest template and their distance (inf when there is none).

    Templates of the probe's own identity do not count (`own` (n,), -1 for none; `identities` (m,)),
    nor do templates so near that they are the same picture under another name.
    """
    at = np.full(len(probes), -1, np.int64)
    distance = np.full(len(probes), np.inf)
    if not len(templates) or not len(probes):
        return at, distance
    step = max(1, 16_000_000 // len(templates))
    for start in range(0, len(probes), step):
        rows = slice(start, start + step)
        likeness = probes[rows] @ templates.T
        likeness[own[rows, None] == identities[None, :]] = -np.inf
        likeness[likeness > 1 - SAME_PICTURE**2 / 2] = -np.inf
        best = likeness.argmax(axis=1)
        found = likeness[np.arange(len(best)), best] > -np.inf
        chosen = np.flatnonzero(found) + start
        at[chosen] = best[found]
        # By subtraction, as the search does it: tau must equal the distance that a stranger is told.
        distance[chosen] = distances(probes[chosen], templates[best[found]])
    return at, distance


def mated_misses(vectors: Vectors, identities: NDArray[np.int64], tau: float | None) -> tuple[int, int]:
    """Return (misses, searches): each template of an identity with several, searched among all others.

    A search misses when its own identity lies beyond `tau` or is not the nearest. Without tau all miss.
    """
    _, group, counts = np.unique(identities, return_inverse=True, return_counts=True)
    searches = np.flatnonzero(counts[group] > 1) if len(identities) else np.zeros(0, np.int64)
    misses = 0
    step = max(1, 16_000_000 // max(1, len(vectors)))
    for start in range(0, len(searches), step):
        rows = searches[start : start + step]
        likeness = vectors[rows] @ vectors.T
        likeness[np.arange(len(rows)), rows] = -np.inf
        own = identities[rows, None] == identities[None, :]
        mate = np.where(own, likeness, -np.inf).max(axis=1)
        other = np.where(own, -np.inf, likeness).max(axis=1)
        distance = np.sqrt(np.maximum(2 - 2 * mate, 0))
        misses += int(np.sum((distance > tau) | (other >= mate))) if tau is not None else len(rows)
    return misses, len(searches)


def false_match_table(vectors: Vectors, names: Sequence[str], points: int = 512) -> NDArray[np.float32]:
    """Return (2, p): distances between strangers of different identity, and the share at or below each.

    Ranks are spaced by ratio, so the small distances, which matter, are all there.
    """
    _, group = np.unique(np.asarray(names), return_inverse=True)
    if len(vectors) < 2 or group.max() == 0:
        return np.zeros((2, 0), np.float32)
    rng = np.random.default_rng(0)
    if len(vectors) > 2000:  # 2 million pairs say enough; all of them would not fit
        chosen = np.sort(rng.choice(len(vectors), 2000, replace=False))
        vectors, group = vectors[chosen], group[chosen]
    upper = np.triu(group[:, None] != group[None, :], 1)
    squared = 2 - 2 * (vectors @ vectors.T)[upper]
    ordered = np.sort(np.sqrt(np.maximum(squared, 0)))
    ranks = np.unique(np.geomspace(1, len(ordered), points).astype(np.int64))
    return np.stack([ordered[ranks - 1], ranks / len(ordered)]).astype(np.float32)


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
