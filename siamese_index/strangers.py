"""Keeping every stranger's nearest distance true of this gallery, at this size.

A stranger who is enrolled after all (same name, or the same bytes) is searched among the others:
leave one out. All functions run inside the transaction that changes the gallery.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .calibration import false_match_table, nearest_other
from .store import Store
from .vectors import Vectors


def tighten(
    store: Store,
    tower: int,
    names: Sequence[str],
    digests: Sequence[bytes],
    identities: NDArray[np.int64],
    templates: NDArray[np.int64],
    vectors: Vectors,
) -> None:
    """Account for templates just enrolled: one row of products per stranger."""
    rows = store.strangers(tower, vectors.shape[1])
    if not len(rows.ids):
        return
    new_names, new_digests = set(names), set(digests)
    found = (n in new_names or d in new_digests for n, d in zip(rows.names, rows.digests, strict=True))
    # Somebody just enrolled may be one of the strangers; who that is decides what they are compared with.
    unmasked = np.fromiter(found, bool, len(rows.ids)) & (rows.own < 0)
    if unmasked.any():
        recompute(store, tower, vectors.shape[1])
        return
    at, distance = nearest_other(rows.vectors, rows.own, vectors, identities)
    nearer = np.flatnonzero(distance < rows.distances)
    store.set_nearest(tower, rows.ids[nearer], rows.own[nearer], templates[at[nearer]], distance[nearer])


def recompute(store: Store, tower: int, dimension: int) -> None:
    """Search every stranger anew: after removals, new strangers, or another tower."""
    rows = store.strangers(tower, dimension)
    if not len(rows.ids):
        return
    store.set_nearest(tower, rows.ids, *_searched(store, tower, dimension))


def stale(store: Store, tower: int, dimension: int) -> int:
    """Return how many strangers' stored distances are not what a new search finds."""
    rows = store.strangers(tower, dimension)
    if not len(rows.ids):
        return 0
    own, _, distance = _searched(store, tower, dimension)
    same = np.isclose(distance, rows.distances, rtol=0, atol=1e-6)
    return int(np.sum(~same | (own != rows.own)))


def _searched(
    store: Store, tower: int, dimension: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return each stranger's (own identity, nearest template, distance)."""
    rows = store.strangers(tower, dimension)
    by_name, by_digest = store.identity_ids(), store.owners_by_digest()
    who = (by_digest.get(d, by_name.get(n, -1)) for n, d in zip(rows.names, rows.digests, strict=True))
    own = np.fromiter(who, np.int64, len(rows.ids))
    templates, identities, vectors = store.all_templates(tower, dimension)
    at, distance = nearest_other(rows.vectors, own, vectors, identities)
    nearest = templates[at] if len(templates) else at
    return own, nearest, distance


def admit(
    store: Store,
    event: int,
    tower: int,
    source: str,
    rows: Sequence[tuple[str, bytes, bytes | None]],
    vectors: Vectors,
) -> int:
    """Add (name, digest, picture) strangers that are not here yet, with their vectors; return how many."""
    present = store.stranger_digests(tower)
    fresh = [i for i, row in enumerate(rows) if row[1] not in present]
    if fresh:
        ids = store.add_strangers(event, source, [rows[i] for i in fresh])
        store.add_searches(tower, ids.tolist(), vectors[fresh])
        everyone = store.strangers(tower, vectors.shape[1])
        store.set_false_matches(tower, false_match_table(everyone.vectors, everyone.names))
        recompute(store, tower, vectors.shape[1])
    return len(fresh)
