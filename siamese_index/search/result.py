"""What a search found, and how far it can be relied on: measured by subtraction, merged, cut to the nearest."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siamese_index.vectors import Vectors, distances

from . import scan

# From the distance to the nearest (n,): how far nothing may be missing (n,). None: as far as all that is asked for.
Radius = Callable[[NDArray[np.float64]], NDArray[np.float64]] | None
_FEW = 16  # identities or templates that are compared one by one
_NOBODY = np.zeros(0, np.int64)


@dataclass(frozen=True)
class SearchResult:
    """Nearest templates, nearest first, equals by id: (n, k) each."""

    templates: NDArray[np.int64]
    identities: NDArray[np.int64]  # -1: no longer enrolled, or none (at distance inf)
    distances: NDArray[np.float64]
    reach: NDArray[np.float64]  # (n,) no template nearer than this is missing


def scanned(
    ids: NDArray[np.int64],
    owners: NDArray[np.int64],
    rows: Vectors,
    probes: Vectors,
    k: int,
    mask: NDArray[np.bool_] | None,
) -> SearchResult:
    """Scan rows (m, d), of which `mask` (m,) are to be looked at, for the k nearest; measure these."""
    at, _ = scan.nearest(rows, probes, k, mask)
    exactly = distances(rows[at], probes[:, None, :])
    exactly[at < 0] = np.inf
    if k >= len(rows):
        reach = np.full(len(probes), np.inf)
    else:  # farther rows are farther, but for the blur
        reach = np.sqrt(np.maximum(exactly.max(axis=1, initial=0) ** 2 - 2 * scan.BLUR, 0))
    return SearchResult(ids[at], np.where(at < 0, -1, owners[at]), exactly, reach)


def nearest_of(
    parts: Sequence[SearchResult], k: int, removed: NDArray[np.int64], gone: NDArray[np.int64]
) -> SearchResult:
    """Return the k nearest of all parts, nearest first, equals by id.

    Identities that were `removed`, and templates that are `gone`, are nobody's.
    """
    ids, owners, exactly, reach = parts[0].templates, parts[0].identities, parts[0].distances, parts[0].reach
    if len(parts) > 1:
        ids = np.concatenate([p.templates for p in parts], axis=1)
        owners = np.concatenate([p.identities for p in parts], axis=1)
        exactly = np.concatenate([p.distances for p in parts], axis=1)
        reach = functools.reduce(np.minimum, [p.reach for p in parts])
    order, each = np.argsort(exactly, axis=1, kind="stable")[:, : k + 1], np.arange(len(ids))[:, None]
    ids, owners, exactly = ids[each, order], owners[each, order], exactly[each, order]
    if (exactly[:, 1:] == exactly[:, :-1]).any():
        order = np.lexsort((ids, exactly), axis=1)
        ids, owners = ids[each, order], owners[each, order]
    if ids.shape[1] > k:
        reach = np.minimum(reach, exactly[:, k - 1])
        ids, owners, exactly = ids[:, :k], owners[:, :k], exactly[:, :k]
    for found, lost in ((owners, removed), (ids, gone)):
        if len(lost):
            few = len(lost) <= _FEW  # most have lost nobody, or somebody, since the cache was written
            owners = np.where((found[:, :, None] == lost).any(axis=2) if few else np.isin(found, lost), -1, owners)
    return SearchResult(ids, owners, exactly, reach)


def of_found(probes: Vectors, rows: Sequence[Sequence[tuple[int, int, bytes]]], k: int, asked: int) -> SearchResult:
    """Return what a server found for each probe: rows (template id, identity id, vector), of `asked` at most."""
    width = max(map(len, rows), default=0)
    ids, owners = np.full((len(probes), width), -1), np.full((len(probes), width), -1)
    exactly, reach = np.full((len(probes), width), np.inf), np.full(len(probes), np.inf)
    for i, found in enumerate(rows):
        n = len(found)
        if not n:
            continue
        ids[i, :n], owners[i, :n] = [row[0] for row in found], [row[1] for row in found]
        vectors = np.frombuffer(b"".join(row[2] for row in found), np.float32).reshape(n, -1)
        exactly[i, :n] = distances(vectors, probes[i])
        if n >= asked:
            reach[i] = math.sqrt(max(0.0, float(exactly[i, :n].max()) ** 2 - scan.BLUR))
    return nearest_of([SearchResult(ids, owners, exactly, reach)], k, _NOBODY, _NOBODY)
