"""Strangers of the user's: taken into a gallery, and recognised when they are enrolled after all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from siamese_index.store.store import Store
from siamese_index.vectors import Vectors

from .statistics import false_match_table

if TYPE_CHECKING:
    pass


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
    rows: Sequence[tuple[str, bytes, bytes | None]],
    vectors: Vectors,
) -> int:
    """Add (name, digest, picture) strangers that are not here yet, with their vectors; return how many.

    Their searches are to be made: `Cohort.recompute`.
    """
    present = store.searches.digests(tower)
    fresh = [i for i, row in enumerate(rows) if row[1] not in present]
    if fresh:
        ids = store.searches.add_strangers(event, source, [rows[i] for i in fresh])
        store.searches.add(tower, ids.tolist(), vectors[fresh])
        everyone = store.searches.strangers(tower, vectors.shape[1])
        store.set_false_matches(tower, false_match_table(everyone.vectors, everyone.names))
    return len(fresh)
