"""Leave-one-out searches in memory: what a gallery would answer with other content, or with another tower."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from siamese_index.search.fusion import SAME_PICTURE, all_distances, fused_by_identity, to_identity
from siamese_index.store.impostors import SearchRows, enrolled
from siamese_index.store.rows import Fusion
from siamese_index.thresholds.decision import Rule
from siamese_index.thresholds.mean_shift import MeanShift
from siamese_index.vectors import Vectors

_BLOCK = 4_000_000  # distances at a time


@dataclass(frozen=True)
class LeaveOneOut:
    """Templates, identity by identity, and strangers."""

    vectors: Vectors  # (n, d)
    identities: NDArray[np.int64]  # (n,) ascending
    samples: NDArray[np.int64]  # (n,)
    stranger_vectors: Vectors  # (s, d)
    stranger_own: NDArray[np.int64]  # (s,) -1 for those who are not enrolled
    fusion: Fusion
    stranger_names: tuple[str, ...] = ()  # (s,)
    shift: MeanShift | None = None  # by which thresholds move

    @classmethod
    def sorted(
        cls,
        vectors: Vectors,
        identities: NDArray[np.int64],
        samples: NDArray[np.int64],
        stranger_vectors: Vectors,
        stranger_own: NDArray[np.int64],
        fusion: Fusion,
        stranger_names: tuple[str, ...] = (),
        shift: MeanShift | None = None,
    ) -> LeaveOneOut:
        given = cls(vectors, identities, samples, stranger_vectors, stranger_own, fusion, stranger_names, shift)
        return given._of(identities)

    def without(self, gone: NDArray[np.bool_]) -> LeaveOneOut:
        """Return the same without some templates."""
        kept = ~gone
        return replace(self, vectors=self.vectors[kept], identities=self.identities[kept], samples=self.samples[kept])

    def merged(self, one: int, other: int) -> LeaveOneOut:
        """Return the same with the templates of `other` as those of `one`."""
        return self._of(np.where(self.identities == other, one, self.identities))

    def _of(self, identities: NDArray[np.int64]) -> LeaveOneOut:
        """Return the same templates as those of these identities (n,), in their order."""
        order = np.argsort(identities, kind="stable")
        return replace(self, vectors=self.vectors[order], identities=identities[order], samples=self.samples[order])

    def to_identities(self, probes: Vectors) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the identities (N,) and the fused distance of each probe (p, d) to each: (p, N)."""
        groups, starts = np.unique(self.identities, return_index=True)
        if not len(groups):
            return groups, np.zeros((len(probes), 0))
        return groups, fused_by_identity(all_distances(probes, self.vectors), starts, self.fusion)

    def search(self) -> LeftOut:
        """Search every template among the others, and every stranger among all: leave one identity out.

        The distances found are less what each search's threshold moves by.
        """
        n, s = len(self.vectors), len(self.stranger_vectors)
        mate = np.full(n, np.nan)
        other, nearest = np.full(n + s, np.inf), np.full(n + s, -1)
        own = np.concatenate([self.identities, self.stranger_own])
        searching = np.concatenate([self.vectors, self.stranger_vectors])
        groups, starts = np.unique(self.identities, return_index=True)
        ends = np.append(starts[1:], n)
        step = max(1, _BLOCK // max(1, n))
        for first in range(0, n + s if n else 0, step):
            rows = np.arange(first, min(first + step, n + s))
            distance = all_distances(searching[rows], self.vectors)
            by_identity = fused_by_identity(distance, starts, self.fusion)
            twin = fused_by_identity(distance, starts, "best") < SAME_PICTURE
            by_identity[(own[rows, None] == groups[None]) | twin] = np.inf
            at = by_identity.argmin(axis=1)
            other[rows] = by_identity[np.arange(len(rows)), at]
            nearest[rows] = np.where(np.isfinite(other[rows]), groups[at], -1)
            for i in range(len(rows)):
                row, g = rows[i], at[i]
                if nearest[row] >= 0:  # by subtraction, as an answer is
                    other[row] = to_identity(searching[row], self.vectors[starts[g] : ends[g]], self.fusion)
                if row < n:
                    g = int(np.searchsorted(groups, own[row]))
                    mine = np.delete(self.vectors[starts[g] : ends[g]], row - starts[g], axis=0)
                    mate[row] = to_identity(searching[row], mine, self.fusion) if len(mine) else np.nan
        own_moves, moves = np.zeros(n), np.zeros(s)
        if self.shift is not None:
            own_moves, moves = self.shift.by(self.vectors), self.shift.by(self.stranger_vectors, self.stranger_names)
        return LeftOut(
            mate - own_moves,
            other[:n] - own_moves,
            nearest[:n],
            other[n:] - moves,
            nearest[n:],
            self.identities,
            self.stranger_own,
            np.concatenate([other[n:], other[:n]]),
        )


@dataclass(frozen=True)
class LeftOut:
    """Every template among the others, and every stranger among all."""

    mate: NDArray[np.float64]  # (n,) to the own identity; NaN without
    other: NDArray[np.float64]  # (n,) to the nearest other; inf without
    nearest: NDArray[np.int64]  # (n,) which; -1 without
    stranger: NDArray[np.float64]  # (s,)
    hit: NDArray[np.int64]  # (s,) which identity; -1 without
    own: NDArray[np.int64]  # (n,) whose the template is
    stranger_own: NDArray[np.int64]  # (s,) -1 for those who are not enrolled
    measured: NDArray[np.float64]  # (s + n,) `stranger` and `other` as they were before thresholds moved

    def missed(self, rule: Rule) -> NDArray[np.bool_]:
        """Which mated searches do not return their identity (n,)."""
        mated = ~np.isnan(self.mate)
        missed = np.zeros(len(mated), bool)
        missed[mated] = ~rule.returns(self.mate[mated], self.other[mated])
        return missed

    def rates(self, rule: Rule) -> tuple[float | None, float | None]:
        """Return (FNIR, FPIR); None where nothing searched."""
        mated = ~np.isnan(self.mate)
        return (
            float(self.missed(rule)[mated].mean()) if mated.any() else None,
            float(rule.is_within(self.stranger).mean()) if len(self.stranger) else None,
        )

    def rows(self, stranger_names: Sequence[str], sources: Sequence[str]) -> SearchRows:
        """Return what a threshold is learned from; the strangers' names (s,) and sources (s,) are told."""
        distance = np.concatenate([self.stranger, self.other])
        met = np.flatnonzero(np.isfinite(distance))
        own = np.concatenate([self.stranger_own, self.own])
        known = itertools.chain(stranger_names, itertools.repeat(""))
        every = [enrolled(o) if o >= 0 else name for o, name in zip(own.tolist(), known, strict=False)]
        whence = [*sources, *["gallery"] * len(self.own)]
        mates = np.concatenate([np.full(len(self.stranger), np.nan), self.mate])
        return SearchRows(
            distance[met],
            tuple(every[i] for i in met),
            tuple(whence[i] for i in met),
            mates[met],
            own[met],
            np.concatenate([self.hit, self.nearest])[met],
            met,
            measured=self.measured[met],
        )
