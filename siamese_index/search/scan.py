"""The nearest rows of an array, exactly: by one product while FAISS is not needed, by FAISS' scan otherwise."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from siamese_index.vectors import Vectors

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


# Past so many bytes of vectors one probe takes more than about 5 ms on a slow machine (docs/decisions/009).
SCANNED = 40_000_000
SMALL = 1 << 22  # products of numbers: below this one thread of numpy is done before FAISS is imported
LARGE = 1 << 24  # numbers: more are scanned for a single probe by several threads, each its share
SHARED = 1 << 26  # below this one thread is done before another one, which may have to wait for a core, has begun
# How far a squared distance of unit vectors that was computed by a product may be off, in float32.
BLUR = 4e-6
T = TypeVar("T")


def nearest(
    rows: Vectors, probes: Vectors, k: int, only: NDArray[np.bool_] | None = None, alone: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return positions and squared distances (n, k) of the k rows nearest to each probe, about nearest first.

    Rows (m, d) and probes (n, d) are unit vectors; `only` (m,) are the rows to look at. Where there are
    fewer than k the position is -1. Squared distances are right to BLUR: who needs better computes those
    of the rows found by subtraction. `alone`: by one thread, beside others that work.
    """
    k = min(k, len(rows))
    if k == 0:
        return np.zeros((len(probes), 0), np.int64), np.zeros((len(probes), 0), np.float32)
    if "faiss" not in sys.modules and rows.size * len(probes) <= SMALL:
        likeness = probes @ rows.T
        if only is not None:
            likeness[:, ~only] = -np.inf
        at = np.argpartition(likeness, len(rows) - k, axis=1)[:, len(rows) - k :]
        found = np.take_along_axis(likeness, at, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        at, found = np.take_along_axis(at, order, axis=1), np.take_along_axis(found, order, axis=1)
        return np.where(np.isfinite(found), at, -1), 2 - 2 * found
    if len(probes) == 1 and rows.size > LARGE and not alone:
        step = -(-len(rows) // shares())

        def share(first: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            part = slice(first, first + step)
            at, found = nearest(rows[part], probes, k, None if only is None else only[part], alone=True)
            return np.where(at < 0, -1, at + first), found

        each = at_once([functools.partial(share, first) for first in range(0, len(rows), step)])
        at, found = (np.concatenate(columns, axis=1) for columns in zip(*each, strict=True))
        order = np.argsort(found, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(at, order, axis=1), np.take_along_axis(found, order, axis=1)
    faiss = loaded(1 if alone or rows.size * len(probes) < SHARED else len(probes))
    distance, at = np.empty((len(probes), k), np.float32), np.empty((len(probes), k), np.int64)
    bits = None if only is None else np.packbits(only, bitorder="little")
    selector = None if bits is None else faiss.IDSelectorBitmap(len(rows), faiss.swig_ptr(bits))
    faiss.knn_L2sqr(
        faiss.swig_ptr(np.ascontiguousarray(probes)),
        faiss.swig_ptr(rows),
        rows.shape[1],
        len(probes),
        len(rows),
        k,
        faiss.swig_ptr(distance),
        faiss.swig_ptr(at),
        None,
        selector,
    )
    return at, distance


@functools.cache
def _threads() -> int:
    import faiss

    return 1 if _forked else int(faiss.omp_get_max_threads())


_forked = False  # from a process in which FAISS' threads had run: here they would be waited for for ever


def _note_fork() -> None:
    global _forked
    _forked = _forked or "faiss" in sys.modules
    _threads.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def shares() -> int:
    """Return among how many threads the scan for a single probe is shared: it is soon bound by memory."""
    return min(4, _threads())


@functools.cache
def _helpers(process: int) -> ThreadPoolExecutor:  # noqa: ARG001  # a fork has none of its parent's threads
    from concurrent.futures import ThreadPoolExecutor  # a cold start needs none

    return ThreadPoolExecutor(max(1, _threads() - 1), "scan")


def beside(work: Callable[[], T]) -> Callable[[], T]:
    """Begin `work` in a thread; return what waits for it, and gives or raises what it did."""
    try:
        return _helpers(os.getpid()).submit(work).result
    except RuntimeError:  # the interpreter is about to end, and begins no threads
        return work


def at_once(works: Sequence[Callable[[], T]]) -> list[T]:
    """Return what these give, the first done here, the others beside it by threads."""
    if len(works) == 1:
        return [works[0]()]
    others = [beside(work) for work in works[1:]]
    return [works[0](), *(other() for other in others)]


def loaded(probes: int = 1) -> Any:
    """Return FAISS, set for so many probes at once: one is answered sooner by one thread."""
    import faiss

    # FAISS turns a batch of probes into one matrix product only above this many nq * d (128,000 in 1.15):
    # far too late on flat indexes. The knob's meaning has changed before, so it is set where it is known.
    if getattr(faiss.cvar, "distance_compute_blas_threshold", 0) > 1024:
        faiss.cvar.distance_compute_blas_threshold = 1024
        faiss.cvar.distance_compute_blas_database_bs = 4096  # rows of one product; 1024 take a tenth longer
    every = _threads()  # asked before it is set
    faiss.omp_set_num_threads(1 if probes == 1 else every)
    return faiss
