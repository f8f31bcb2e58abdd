"""Which identities a training learns from, and which it never sees."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .data import Data

COHORT = 4000  # samples of held-out identities that are measured with and kept as strangers
APART = 16  # with so many held-out identities, half choose the moment and the others measure


@dataclass(frozen=True)
class Split:
    """Positions of samples, by identity: to learn from, held out, and of these the ones that choose the moment."""

    seen: NDArray[np.int64]
    unseen: NDArray[np.int64]
    watched: NDArray[np.int64]


def split(data: Data, holdout: float, seed: int) -> Split:
    """Hold identities with two samples and more out by a hash of their names: the same ones each time the data grow.

    Of many held-out samples the first of each identity are taken, about COHORT in all. Half of the
    held-out identities choose the moment, when there are enough.
    """
    good = np.flatnonzero(data.whose >= 0)
    counts = np.bincount(data.whose[good], minlength=len(data.names))
    wanted = max(2, round(holdout * int(np.sum(counts > 0)))) if holdout > 0 else 0

    def rank(identity: int) -> bytes:
        return hashlib.sha256(f"{seed}/{data.names[identity]}".encode()).digest()

    held_out = sorted(np.flatnonzero(counts > 1).tolist(), key=rank)[:wanted]
    mine = np.isin(data.whose[good], held_out)
    unseen = good[mine]
    if len(unseen) > COHORT:
        order = np.argsort(data.whose[unseen], kind="stable")
        sorted_whose = data.whose[unseen][order]
        place = np.arange(len(order)) - np.searchsorted(sorted_whose, sorted_whose)  # within its identity
        unseen = np.sort(unseen[order[place < max(2, COHORT // len(held_out))]])
    chosen = held_out[::2] if len(held_out) >= APART else held_out
    return Split(good[~mine], unseen, unseen[np.isin(data.whose[unseen], chosen)])
