"""Searches that count as non-mated and probably are not: wrong labels, one person under two names, enrolled strangers.

One of them among a hundred sets a threshold, since its distance is the smallest. They are set aside and named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from siamese_index.store.impostors import SearchRows, enrolled

from . import tail

Cause = Literal["mislabelled", "same person twice", "stranger who was enrolled"]
PRIOR = 0.05  # share of searches that are believed to be mated before their distances are seen
SHARES = (0.005, 0.25)  # the least and the largest that is believed after
ROUNDS = 3  # in which the share is estimated anew from the searches
UNKNOWN = (-0.7, 0.35)  # what is believed of mated logarithms where none are known: below the others' median; spread
MANY = 15  # searches of a kind, to fit a distribution of their own
COPIES = 0.2  # of mated searches, the share that may be nearer than is usual
_LEAST = 5  # distances of each kind below which nothing is judged


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A pair whose searches were set aside: two identities, or a stranger and an identity."""

    cause: Cause
    first: str  # the name of who searched at the smallest distance
    second: str  # whom that search met
    distance: float  # the smallest
    searches: int  # how many were set aside
    samples: tuple[int, ...]  # ids of the samples that searched, the most telling first; of a stranger: none


@dataclass(frozen=True, slots=True)
class Pair:
    """The same, before names are looked up."""

    cause: Cause
    first: str  # `SearchRows.names`: a stranger's name, or `enrolled(identity)`
    second: str  # `enrolled(identity)`
    searches: tuple[int, ...]  # which, the most telling first
    distance: float


def probably_mated(searches: SearchRows) -> NDArray[np.bool_]:
    """Return which searches (n,) to set aside: all between a pair of which one is probably mated."""
    probable = _probable(searches)
    if not probable.any():
        return probable
    pairs = searches.pairs()
    return np.isin(pairs, pairs[probable])


def _probable(searches: SearchRows) -> NDArray[np.bool_]:
    """Return which searches (n,) are probably mated.

    By Bayes' rule, with the share of mated ones estimated from the searches themselves (EM: Dempster et al., 1977),
    from the densities of the mated distances (log-normal, by median and median deviation, and a part
    spread evenly below the median: pictures that are nearly copies) and of the non-mated ones (Weibull's law for
    minima, fitted to those that are farther than the median mated one, where few mated searches hide). Where
    non-mated distances are often so small, as with look-alikes, nothing is set aside.
    """
    distances = searches.distances
    nothing = np.zeros(len(distances), bool)
    if len(distances) < _LEAST:
        return nothing
    middle, spread = _law(searches)
    at = np.log(np.maximum(distances, 1e-6))
    if at.min() > middle + 3 * spread:
        return nothing  # the usual case: nobody is as near as one's own
    # Densities of the logarithm of the distance.
    usual = np.exp(-(((at - middle) / spread) ** 2) / 2) / (spread * np.sqrt(2 * np.pi))
    mated = (1 - COPIES) * usual + COPIES * np.where(at < middle, np.exp(at - middle), 0)
    other = np.ones(len(distances))
    for kind in _kinds(searches, at > middle):
        far = kind & (at > middle)
        if far.sum() < _LEAST:
            return nothing
        shape, scale = tail.weibull(distances[far], float(np.exp(middle)))
        power = shape * (at[kind] - np.log(scale))
        other[kind] = shape * np.exp(power - np.exp(np.minimum(power, 50)))
    share = PRIOR
    for _ in range(ROUNDS):
        share = float(np.clip(np.mean(share * mated / (share * mated + (1 - share) * other)), *SHARES))
    return np.asarray(share * mated > (1 - share) * other)


def _law(searches: SearchRows) -> tuple[float, float]:
    """Return median and spread of the logarithm of mated distances.

    Where none are known they are taken to be about half as large as the non-mated ones: enough to see copies and most
    of one's own pictures, too little for look-alikes.
    """
    mates = searches.genuine
    if len(mates) < _LEAST:
        return _median(np.log(np.maximum(searches.distances, 1e-6))) + UNKNOWN[0], UNKNOWN[1]
    logs = np.log(np.maximum(mates, 1e-6))
    middle = _median(logs)
    return middle, _deviation(logs, middle)


def _kinds(searches: SearchRows, far: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Return the searches that follow one law: own and strangers' each, where both are many; else all together."""
    own = np.asarray(searches.sources) == "gallery"
    if min(int(np.sum(own & far)), int(np.sum(~own & far))) < MANY:
        return [np.ones(len(own), bool)]
    return [own, ~own]


def _usual(searches: SearchRows) -> float:
    """Return the distance that most mated searches lie within."""
    middle, spread = _law(searches)
    return float(np.exp(middle + 2 * spread))


def _median(values: NDArray[np.float64]) -> float:
    ordered = np.sort(values)  # np.median loads numpy.ma: 5 ms
    return float(ordered[[(len(values) - 1) // 2, len(values) // 2]].mean())


def _deviation(logs: NDArray[np.float64], middle: float) -> float:
    return max(1.4826 * _median(np.abs(logs - middle)), 0.02)


def grouped(searches: SearchRows) -> Iterator[Pair]:
    """Yield what is set aside, a pair each, the nearest first, with the probable cause.

    One person twice: of both identities a sample lies near its own and near the other, or has no other of its own.
    Else the sample that is farthest from its own is probably mislabelled.
    """
    probable = _probable(searches)
    if not probable.any():
        return
    pairs = searches.pairs()
    aside, near = np.isin(pairs, pairs[probable]), _usual(searches)
    at: dict[int, list[int]] = {}
    for i in np.flatnonzero(aside)[np.argsort(searches.distances[aside], kind="stable")].tolist():
        at.setdefault(int(pairs[i]), []).append(i)
    for members in at.values():
        nearest = members[0]
        cause: Cause = "stranger who was enrolled"
        if searches.own[nearest] >= 0 and searches.sources[nearest] == "gallery":
            cause = "same person twice" if _is_twice(searches, members, near) else "mislabelled"
        if cause == "mislabelled":  # of both, the one that is farther from its own
            among = [i for i in members if searches.sources[i] == "gallery"]  # not a stranger who was enrolled later
            nearest = max(among, key=lambda i: np.nan_to_num(searches.mates[i], nan=2.0) - searches.distances[i])
            members = [nearest, *(i for i in members if i != nearest)]
        first, second = searches.names[nearest], enrolled(int(searches.nearest[nearest]))
        yield Pair(cause, first, second, tuple(members), float(searches.told[nearest]))


def _is_twice(searches: SearchRows, members: Sequence[int], near: float) -> bool:
    """Whether of both identities of a pair a sample is as near to the other as one's own are, and not misplaced."""
    at = np.array([i for i in members if searches.distances[i] <= near], np.int64)
    placed = ~(searches.mates[at] > near)  # NaN: a single sample cannot be misplaced
    both = {int(searches.own[members[0]]), int(searches.nearest[members[0]])}
    return both <= set(searches.own[at][placed].tolist())
