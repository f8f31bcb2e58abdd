"""What if the gallery had N identities? Exactly, from held-out ones, without sampling sub-galleries.

Each held-out identity is imagined enrolled from its first sample, and all its other samples search.
A probe p has m other identities, k_p(t) of them within distance t; of all galleries of N among them

    FPIR_N(t) = mean over p of 1 - C(m - k_p(t), N) / C(m, N),    N <= m.

Beyond m nothing unbiased is known; there N * FMR(t) is given, called extrapolated. FMR is itself estimated, on few
identities often as 0, so the figure is no bound: only the upper end of its interval is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput
from siamese_index.search.fusion import all_distances
from siamese_index.vectors import Vectors

from .statistics import share_interval

PROBES = 20_000  # at most; more are thinned evenly


@dataclass(frozen=True, slots=True)
class Plan:
    """What a tower promises and costs with N identities, enrolled from one picture each."""

    identities: int  # N
    threshold: float
    fpir: float  # at that threshold: at most the target
    fpir_interval: tuple[float, float]  # 95 %
    fnir: float
    fnir_interval: tuple[float, float]
    held_out: int  # identities that this was computed from
    probes: int
    extrapolated: bool  # N is beyond what these can show: only the upper ends of the intervals can be counted on


@dataclass(frozen=True)
class Capacity:
    """How many identities a tower can hold at a target FPIR before more than a share of mated searches miss."""

    identities: int  # 0: not even two
    at_least: bool  # the held-out identities do not reach the limit
    target_fpir: float
    fnir_limit: float
    plans: tuple[Plan, ...]  # at growing sizes


class Planner:
    """Held-out identities, and how far each of their probes is from each of the others.

    `vectors` (n, d) and whose each is; identities with a single sample are only imagined enrolled.
    Raises BadInput with fewer than three identities, or without a second sample of any.
    """

    def __init__(self, vectors: Vectors, names: Sequence[str]) -> None:
        _, group = np.unique(np.asarray(names), return_inverse=True)
        _, first = np.unique(group, return_index=True)
        rest = np.setdiff1d(np.arange(len(vectors)), first)
        if len(first) < 3 or not len(rest):
            raise BadInput(
                f"{len(first)} held-out identities with {len(rest)} further samples cannot plan.",
                "At least three are needed, and a second sample of some.",
                "Train with a larger --holdout, or give strangers: sidx calibrate --strangers DATA",
            )
        rest = rest[:: max(1, math.ceil(len(rest) / PROBES))]
        self.whose = group[rest]
        distance = all_distances(vectors[rest], vectors[first])
        rows = np.arange(len(rest))
        self.mate = distance[rows, self.whose]
        distance[rows, self.whose] = np.inf
        self.distance = distance  # (probes, identities); inf to its own
        self.identities, self.others = len(first), len(first) - 1
        self._sorted = np.sort(distance, axis=1)[:, :-1]

    def plan(self, identities: int, target: float) -> Plan:
        """Return what is promised with `identities` enrolled, at the threshold for `target` FPIR."""
        if isinstance(identities, bool) or not isinstance(identities, int):
            raise BadInput(f"{str(identities)[:60]!r} is no number of identities.")
        if identities < 1:
            raise BadInput(f"A gallery of {identities} identities cannot be planned.", "Expected 1 or more.")
        extrapolated = identities > self.others
        size = min(identities, self.others)
        tau = self.threshold(identities, target)
        within = self.distance <= tau
        if extrapolated:
            fmr = _Share(within.sum(axis=1) / self.others, self.whose)
            fpir, ends = min(1.0, identities * fmr.value), tuple(min(1.0, identities * e) for e in fmr.interval())
            nearer = np.minimum(1.0, (identities - 1) * (self.distance < self.mate[:, None]).sum(axis=1) / self.others)
            found = (self.mate <= tau) * (1 - nearer)
        else:
            fpir, ends = self._fpir(within, size)
            nearer_counts = (self.distance < self.mate[:, None]).sum(axis=1)
            found = (self.mate <= tau) * _none_of(nearer_counts, self.others, size - 1)
        missed = _Share(1 - found, self.whose)
        return Plan(
            identities,
            tau,
            fpir,
            (ends[0], ends[1]),
            missed.value,
            missed.interval(),
            self.identities,
            len(self.mate),
            extrapolated,
        )

    def threshold(self, identities: int, target: float) -> float:
        """Return the largest distance with FPIR_N (beyond m: its bound) at or below `target`."""
        m = self.others
        ranks = np.arange(1, m + 1)
        if identities <= m:  # the probability that the j-th nearest of m is the nearest of N
            weight = np.exp(_log_choose(m - ranks, identities - 1) - _log_choose(np.array([m]), identities))
        else:
            weight = np.full(m, identities / m)
        order = np.argsort(self._sorted, axis=None, kind="stable")
        reached = np.cumsum(np.tile(weight, len(self._sorted))[order]) / len(self._sorted)
        ordered = self._sorted.ravel()[order]
        k = int(np.searchsorted(reached, target * (1 + 1e-9), "right"))
        if k == len(ordered):
            return float(ordered[-1])
        return float(np.nextafter(ordered[k], -1))  # just below the first that would be too many

    def _fpir(self, within: NDArray[np.bool_], size: int) -> tuple[float, tuple[float, float]]:
        """Return FPIR_N and its 95 % interval: delete-one-identity jackknife, normal on the logit scale."""
        k, m, groups = within.sum(axis=1), self.others, self.identities
        value = float(np.mean(1 - _none_of(k, m, size)))
        # Without identity i there are m - 1 others, one fewer of them within where i was.
        small = min(size, m - 1)
        kept, fewer = (1 - _none_of(np.maximum(c, 0), m - 1, small) for c in (k, k - 1))
        total = kept.sum() + (fewer - kept) @ within
        mine, count = (np.bincount(self.whose, weights=w, minlength=groups) for w in (kept, np.ones(len(k))))
        left_out = (total - mine) / np.maximum(len(k) - count, 1)
        return value, _logit_interval(value, left_out, len(k))

    def capacity(self, target: float, limit: float) -> Capacity:
        """Return the largest N with FNIR at or below `limit` at the target, and plans on the way there."""
        sizes = [n for e in range(0, 7) for n in (10**e, 2 * 10**e, 5 * 10**e) if 2 <= n <= self.others]
        sizes = sorted({*sizes, self.others})
        plans = tuple(self.plan(n, target) for n in sizes)
        low, high = 0, self.others + 1  # FNIR grows with N: halve until the two meet
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.plan(middle, target).fnir <= limit else (low, middle)
        return Capacity(low, low == self.others, target, limit, plans)


@dataclass(frozen=True)
class _Share:
    """A mean over searches (n,) by identities (n,), and its interval."""

    each: NDArray[np.float64]
    whose: NDArray[np.int64]

    @property
    def value(self) -> float:
        return float(self.each.mean())

    def interval(self) -> tuple[float, float]:
        count = np.bincount(self.whose)
        left_out = (self.each.sum() - np.bincount(self.whose, weights=self.each)) / np.maximum(
            len(self.each) - count, 1
        )
        return _logit_interval(self.value, left_out[count > 0], len(self.each))


def _logit_interval(value: float, left_out: NDArray[np.float64], n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share from its values without each identity.

    Normal on the logit scale; where the share, or one of these, is next to none or all of the n
    searches, Clopper and Pearson's, of as many trials as its variance makes them.
    """
    groups = len(left_out)
    centred = left_out - left_out.mean()
    if min(float(left_out.min()), 1 - float(left_out.max())) * n < 1:
        variance = (groups - 1) / groups * float(np.sum(centred**2))
        worth = float(np.clip(value * (1 - value) / variance, groups, n)) if variance > 0 else float(groups)
        return share_interval(value * worth, worth)
    logits = np.log(left_out / (1 - left_out))
    spread = 1.96 * math.sqrt((groups - 1) / groups * float(np.sum((logits - logits.mean()) ** 2)))
    centre = math.log(value / (1 - value))
    return 1 / (1 + math.exp(spread - centre)), 1 / (1 + math.exp(-spread - centre))


def _none_of(k: NDArray[np.int64], m: int, n: int) -> NDArray[np.float64]:
    """Return C(m - k, n) / C(m, n): the probability that n of m drawn ones are none of k."""
    return np.asarray(np.exp(_log_choose(m - k, n) - _log_choose(np.array([m]), n)))


def _log_choose(n: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Return log C(n, k) by log-gamma, -inf where n < k."""
    table = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, int(n.max()) + 1)))]) if n.max() > 0 else np.zeros(1)
    inside = n >= k
    at = np.where(inside, n, k)
    if k >= len(table):
        return np.full(n.shape, -np.inf)
    at = np.minimum(at, len(table) - 1)
    return np.where(inside, table[at] - table[k] - table[at - k], -np.inf)
