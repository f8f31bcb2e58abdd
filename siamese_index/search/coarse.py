"""A coarse image of many templates: found in it fast, and known how far it can be wrong.

Templates are product-quantised to 4 bits per two dimensions and scanned in registers (Andre et al.,
2015, as FAISS' fast scan). A coarse distance differs from the true one by at most the distance of a
template from its own image (the triangle inequality), so whoever fetches the k coarsely nearest knows
within which radius nothing can have been missed. The few templates with the worst images are kept aside
and looked at always; so the radius is not theirs to spoil.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.vectors import Vectors

from .scan import BLUR, at_once, loaded, shares

LEARNED_FROM = 16_384  # templates that suffice to learn 16 centroids per part
_PARTS = 256  # at most: their 8-bit look-ups are summed in 16 bits
_ASIDE = 4096  # one in so many is kept aside
_BLOCK = 65_536
_SHARED = 16_000_000  # bytes of codes: more are scanned by several threads, each its share


@dataclass(frozen=True)
class Coarse:
    """The image of all rows of a base."""

    # faiss.IndexPQFastScan. Blocks of rows are dealt out to them in turn, so that those that came together, and
    # may resemble each other, are not all in one.
    shards: list[Any]
    error: float  # no row that is not aside is farther from its image than this
    aside: NDArray[np.int64]  # positions of the rows that are

    @classmethod
    def made_of(cls, rows: Vectors) -> Coarse:
        """Learn the image of rows (m, d), which may be memory-mapped; the same rows make the same image."""
        faiss = loaded(_BLOCK)
        each, parts = _shape(rows.shape[1])
        codes = faiss.IndexPQ(parts * each, parts, 4)
        chosen = np.random.default_rng(0).choice(len(rows), min(len(rows), LEARNED_FROM), replace=False)
        codes.train(padded(rows[np.sort(chosen)], codes.d))
        errors = np.empty(len(rows), np.float32)
        for first in range(0, len(rows), _BLOCK):
            block = padded(rows[first : first + _BLOCK], codes.d)
            packed = codes.pq.compute_codes(block)
            errors[first : first + len(block)] = np.linalg.norm(block - codes.pq.decode(packed), axis=1)
            codes.add_sa_codes(packed)
        aside = np.sort(np.argsort(errors, kind="stable")[len(rows) - len(rows) // _ASIDE :])
        errors[aside] = 0
        # The image is computed in float32 on both sides.
        return cls([faiss.IndexPQFastScan(codes)], float(errors.max()) + 1e-5, aside)

    @classmethod
    def from_parts(
        cls,
        centroids: NDArray[np.float32],
        codes: NDArray[np.uint8],
        count: int,
        error: float,
        aside: NDArray[np.int64],
    ) -> Coarse:
        """Make again what `parts` gave, of `count` rows: no file of FAISS' is ever read.

        Raises ValueError for parts that do not fit each other: FAISS would read beyond them.
        """
        faiss = loaded()
        parts, _, each = centroids.shape
        empty = faiss.IndexPQFastScan(parts * each, parts, 4)
        block, size = empty.bbs, empty.bbs * (empty.M2 // 2)  # rows, and bytes of their codes
        blocks = -(-count // block)
        if len(codes) != blocks * size or (len(aside) and not 0 <= aside.min() <= aside.max() < count):
            raise ValueError("the parts of this image do not fit")
        several = min(blocks, shares()) if len(codes) > _SHARED else 1

        def shard(first: int) -> Any:
            index, own = faiss.IndexPQFastScan(parts * each, parts, 4), codes.reshape(blocks, size)[first::several]
            faiss.copy_array_to_vector(centroids.ravel(), index.pq.centroids)
            has_last = (blocks - 1) % several == first
            index.is_trained, index.ntotal2 = True, len(own) * block
            index.ntotal = len(own) * block - (blocks * block - count if has_last else 0)
            index.codes.resize(own.size)
            _codes_of(index)[:] = own
            return index

        return cls(at_once([partial(shard, first) for first in range(several)]), error, aside)

    def parts(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return the centroids (parts, 16, dimensions of a part), and the codes as they are scanned."""
        each = [_codes_of(index) for index in self.shards]
        codes = np.empty((sum(map(len, each)), each[0].shape[1]), np.uint8)
        for first, own in enumerate(each):
            codes[first :: len(each)] = own
        pq = self.shards[0].pq
        return loaded().vector_to_array(pq.centroids).reshape(pq.M, 16, pq.dsub), codes.ravel()

    def search(self, probes: Vectors, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Return positions of about the k coarsely nearest rows (n, k), the least that each can be away, ascending.

        The third is how far away every row is at least that is neither among them nor aside (n,).
        """
        ready, each = padded(probes, self.shards[0].d), -(-k // len(self.shards))

        def scanned(index: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            loaded(len(probes))
            found: tuple[NDArray[np.float32], NDArray[np.int64]] = index.search(ready, min(each, index.ntotal))
            return found

        works = [partial(scanned, index) for index in self.shards]
        found = at_once(works) if len(probes) == 1 else [work() for work in works]  # of many FAISS shares the probes
        rounding = self._rounding(ready)
        reach = np.full(len(probes), np.inf)
        for index, (squared, at) in zip(self.shards, found, strict=True):
            if at.shape[1] < index.ntotal:
                reach = np.minimum(reach, squared[:, -1])
        squared, at = (np.concatenate(columns, axis=1) for columns in zip(*found, strict=True))
        if len(found) > 1:
            shard, block = np.repeat(np.arange(len(found)), [part[1].shape[1] for part in found]), self.shards[0].bbs
            at = (at // block * len(found) + shard) * block + at % block
            order, each_probe = np.argsort(squared, axis=1), np.arange(len(probes))[:, None]
            squared, at = squared[each_probe, order], at[each_probe, order]
        least = np.sqrt(np.maximum(squared - rounding[:, None], 0)) - self.error
        return at, least, np.sqrt(np.maximum(reach - rounding, 0)) - self.error

    def _rounding(self, probes: Vectors) -> NDArray[np.float64]:
        """Return how far each probe's squared coarse distances may be off (n,): its look-ups are rounded to 8 bits."""
        parts = len(self._farthest)
        lengths = np.sqrt(np.square(probes.reshape(len(probes), parts, -1)).sum(axis=2))
        span = np.square(lengths + self._farthest).max(axis=1)  # of the look-ups of a part, at most
        off: NDArray[np.float64] = span.astype(np.float64) * (parts * 0.5 / 255) + BLUR
        return off

    @cached_property
    def _farthest(self) -> NDArray[np.float32]:
        """The length of each part's longest centroid (parts,)."""
        pq = self.shards[0].pq
        centroids = loaded().vector_to_array(pq.centroids).reshape(pq.M, 16, pq.dsub)
        longest: NDArray[np.float32] = np.sqrt(np.square(centroids).sum(axis=2)).max(axis=1)
        return longest


def _codes_of(index: Any) -> NDArray[np.uint8]:
    """Return the codes of an index, in place: a row for each block."""
    codes: NDArray[np.uint8] = loaded().rev_swig_ptr(index.codes.get(), index.codes.size())
    return codes.reshape(-1, index.bbs * (index.M2 // 2))


def _shape(dimension: int) -> tuple[int, int]:
    """Return the dimensions of a part, and the number of parts."""
    each = max(2, -(-dimension // _PARTS))
    return each, -(-dimension // each)


def shape_of(centroids: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """Return centroids, read back as numbers, in their shape. Raises ValueError when they are not of `dimension`."""
    each, parts = _shape(dimension)
    return centroids.reshape(parts, 16, each)


def padded(vectors: Vectors, dimension: int) -> Vectors:
    """Return vectors with zeros appended up to `dimension`: distances stay what they are."""
    if vectors.shape[1] == dimension:
        return np.ascontiguousarray(vectors)
    return np.pad(vectors, ((0, 0), (0, dimension - vectors.shape[1])))
