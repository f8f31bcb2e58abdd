"""How probable it is that a sample is somebody else's, learned from the gallery itself.

Where a tower tells identities apart badly, many samples lie nearer to another identity than to their own although they
are where they belong. So each sample is put, in thought, under the name of somebody else, and the ratio of its
distances then is compared with the ratios as they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from siamese_index.search.fusion import to_identity

from .leave_one_out import LeaveOneOut, LeftOut

PRIOR = 0.05  # share of samples that are believed to be mistaken before their distances are seen
SHARES = (0.005, 0.25)  # the least and the largest that is believed after
ROUNDS = 20  # in which the share is estimated anew
LEAST = 10  # samples below which nothing is said
ODD = (0.02, 3.0)  # of samples that are where they belong, the share that is spread more widely, and how many times
_TINY = 1e-6
_Numbers = NDArray[np.float64]


def probabilities(enrolled: LeaveOneOut, searched: LeftOut) -> _Numbers:
    """Return for each sample (n,) the probability that it is of the nearest other identity, not of its own.

    By Bayes' rule from log(distance to its own / distance to the nearest other), with the share of mistaken samples
    estimated from the samples themselves (EM: Dempster et al., 1977). The law of samples where they belong is a normal
    one by median and median deviation, and a part of it wider; that of mistaken ones is of the same form, from all
    samples each under the name of another identity that is drawn: one law for those whose own identity would be the
    nearest other, one for those whose would not. NaN for the only sample of an identity, and for all where fewer than
    LEAST can be judged.
    """
    found = np.full(len(searched.mate), np.nan)
    usable = np.flatnonzero(np.isfinite(searched.mate) & np.isfinite(searched.other))
    mate, other = searched.mate[usable], searched.other[usable]
    is_found = mate < other
    if len(usable) < LEAST or is_found.sum() < LEAST / 2:
        return found
    ratio, moved = _log_ratio(mate, other), _log_ratio(_elsewhere(enrolled, usable), np.fmin(mate, other))
    placed, mistaken = _law(ratio), _law(moved[is_found])
    lost = _law(moved[~is_found]) if np.sum(~is_found) >= LEAST / 2 else mistaken
    right = float(is_found.mean())

    def weighed(at: _Numbers, share: float) -> tuple[_Numbers, _Numbers]:
        """Return the probabilities that a sample is mistaken, and is the nearest other's."""
        whose = share * right * _density(at, *mistaken)
        others = share * (1 - right) * _density(at, *lost)
        usual = (1 - ODD[0]) * _density(at, *placed) + ODD[0] * _density(at, placed[0], ODD[1] * placed[1])
        total = np.maximum(whose + others + (1 - share) * usual, 1e-300)
        return (whose + others) / total, whose / total

    share = PRIOR
    for _ in range(ROUNDS):
        share = float(np.clip(weighed(ratio, share)[0].mean(), *SHARES))
    # What is more telling is not less probable, whatever the tails of normal laws say.
    grid = np.linspace(float(ratio.min()), float(ratio.max()) + _TINY, 1000)
    found[usable] = np.interp(ratio, grid, np.maximum.accumulate(weighed(grid, share)[1]))
    return found


def _elsewhere(enrolled: LeaveOneOut, samples: NDArray[np.int64]) -> _Numbers:
    """Return the distance of each of these samples to another identity than its own, which is drawn."""
    groups, starts, counts = np.unique(enrolled.identities, return_index=True, return_counts=True)
    drawn = np.random.default_rng(0).integers(1, len(groups), len(samples))
    of = (np.searchsorted(groups, enrolled.identities[samples]) + drawn) % len(groups)
    return np.array(
        [
            to_identity(enrolled.vectors[i], enrolled.vectors[starts[g] : starts[g] + counts[g]], enrolled.fusion)
            for i, g in zip(samples.tolist(), of.tolist(), strict=True)
        ]
    )


def _log_ratio(own: _Numbers, other: _Numbers) -> _Numbers:
    return np.log(np.maximum(own, _TINY)) - np.log(np.maximum(other, _TINY))


def _law(values: _Numbers) -> tuple[float, float]:
    """Return median and spread, which some wrong values do not move."""
    middle = float(np.median(values))
    return middle, max(1.4826 * float(np.median(np.abs(values - middle))), 0.05)


def _density(at: _Numbers, middle: float, spread: float) -> _Numbers:
    return np.asarray(np.exp(-(((at - middle) / spread) ** 2) / 2) / spread)
