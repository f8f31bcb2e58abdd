"""Strangers of the user's: taken into a gallery, and recognised when they are enrolled after all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from siamese_index.store.rows import NewSample
from siamese_index.store.store import Store
from siamese_index.vectors import Vectors

from .statistics import false_match_table, mated_distances


def enrolled_as(store: Store, names: Sequence[str], digests: Sequence[bytes]) -> NDArray[np.int64]:
    """Return the identities that strangers are after all (n,): by the same bytes, else by name; -1 for none."""
    by_name, by_digest = store.identities_named(set(names)), store.holders(set(digests))
    return np.array(
        [by_digest[d][0] if d in by_digest else by_name.get(n, -1) for n, d in zip(names, digests, strict=True)],
        np.int64,
    )


def admit(
    store: Store,
    event: int,
    tower: int,
    source: str,
    samples: Sequence[NewSample],
    vectors: Vectors,
) -> int:
    """Add strangers that are not here yet, with their vectors (n, dimension), and bring back who was removed.

    Returns how many. They are to be compared, and their searches to be made: `compare`, `ImpostorSearches.recompute`.
    """
    present = store.impostors.digests(tower)
    fresh = [i for i, sample in enumerate(samples) if sample.digest not in present]
    back = [removed for sample in samples if (removed := present.get(sample.digest)) is not None]
    if fresh:
        ids = store.impostors.add_strangers(event, source, [samples[i] for i in fresh])
        store.impostors.add(tower, ids.tolist(), vectors[fresh])
    if back:
        store.impostors.set_removed(back, None)
    return len(fresh) + len(back)


def compare(store: Store, tower: int, dimension: int) -> None:
    """Compare all strangers with each other: for shares of false matches, and for mated distances."""
    everyone = store.impostors.strangers(tower, dimension)
    table, doubt = false_match_table(everyone.vectors, everyone.names)
    store.towers.set_false_matches(tower, table)
    store.towers.set_comparisons(tower, doubt, mated_distances(everyone.vectors, everyone.names))
