"""Which identities a training learns from, and which it never sees."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siamese_index import TowerFile
from siamese_index.samples.names import hashed_share

from .data import Data, Source

FEW = 4  # held-out identities
MOMENT = 0.4  # share of the held-out identities that choose the moment
COHORT = 4000  # samples of held-out identities that are measured with and kept as strangers


@dataclass(frozen=True)
class Split:
    """Positions of samples, by identity: to learn from, held out, and of these the ones that choose the moment."""

    seen: NDArray[np.int64]
    unseen: NDArray[np.int64]
    watched: NDArray[np.int64]


def split(data: Data, holdout: float, seed: int, *, singles: bool = False, taught: Set[str] = frozenset()) -> Split:
    """Hold identities with two samples and more out, those whose hash of the name lies below `holdout`.

    So one that was learned from is never held out later, however the data grow. Below two the lowest two are taken.
    An identity with more samples than these together is learned from (`richest`): without it little would be.
    Of many held-out samples the first of each identity are taken, about COHORT in all. A part of the held-out
    identities, by another hash, chooses the moment; the others measure. Of fewer than four all do both. With `singles`
    identities of one sample may be held out, too; those that were `taught` to a network before are not.
    """
    good = np.flatnonzero(data.whose >= 0)
    counts = np.bincount(data.whose[good], minlength=len(data.names))

    def share(what: str, identity: int) -> float:
        return hashed_share(what, data.names[identity])

    rich = None if singles else richest(data)
    free = (i for i in np.flatnonzero(counts > (0 if singles else 1)).tolist() if data.names[i] not in taught)
    ranked = sorted((i for i in free if i != rich), key=lambda i: share(str(seed), i))
    below = sum(share(str(seed), i) < holdout for i in ranked)
    held_out = ranked[: max(2, below)] if holdout > 0 else []
    mine = np.isin(data.whose[good], held_out)
    unseen = good[mine]
    if len(unseen) > COHORT:
        order = np.argsort(data.whose[unseen], kind="stable")
        sorted_whose = data.whose[unseen][order]
        place = np.arange(len(order)) - np.searchsorted(sorted_whose, sorted_whose)  # within its identity
        unseen = np.sort(unseen[order[place < max(2, COHORT // len(held_out))]])
    chosen = [i for i in held_out if share(f"{seed}/moment", i) < MOMENT]
    if len(held_out) < FEW or not chosen or len(chosen) == len(held_out):
        chosen = held_out if len(held_out) < FEW else held_out[: len(held_out) // 2]
    return Split(good[~mine], unseen, unseen[np.isin(data.whose[unseen], chosen)])


def richest(data: Data) -> int | None:
    """Return the identity that has more samples than all others with two and more together, if there is one."""
    counts = np.bincount(data.whose[data.whose >= 0], minlength=len(data.names))
    counts[counts < 2] = 0
    most = int(np.argmax(counts))
    return most if 2 * counts[most] > counts.sum() else None


def taught_to(base: TowerFile | None, data: Data) -> set[str]:
    """Return the identities that the network has learned from already: they cannot be held out."""
    if base is None:
        return set()
    record = base.card.training
    seen = record.has_learned_from({digest.tobytes() for digest in data.digests[data.whose >= 0]})
    by_sample = {data.names[w] for w, d in zip(data.whose, data.digests, strict=True) if w >= 0 and d.tobytes() in seen}
    return by_sample | (set(record.identities) & set(data.names))


def taught_before(source: Source, data: Data) -> set[str]:
    """Return the identities that a tower before learned from, unless too few others have two samples to be held out."""
    counts = np.bincount(data.whose[data.whose >= 0], minlength=len(data.names))
    others = [i for i, name in enumerate(data.names) if counts[i] > 1 and name not in source.taught]
    return set(source.taught) if len(others) >= FEW else set()
