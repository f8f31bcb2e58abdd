"""Samples as a finished network sees them: its vectors of each as it is, and changed a little. Embedded once."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index import BadInput, Missing, Tower
from siamese_index.files import replacing
from siamese_index.samples.augment import Jitter, jittered
from siamese_index.towers.adapting import whitening

from .data import Data
from .progress import OnProgress

FILE = "features.npz"  # in the folder of a training
VIEWS = 4  # of a sample that is learned from: as it is, and three that are changed
MEMORY = 1 << 30  # bytes that all vectors may take; where four views of each take more there are fewer
CHUNK = 64  # samples that are embedded at once
SAVED_EVERY = 60.0  # seconds
NEAREST = 10  # other identities that are kept of each


class Features:
    """The vectors of a training's samples by position: `take` of each as it is, `one_view` of any of its views."""

    def __init__(
        self,
        tower: Tower,
        data: Data,
        learned: NDArray[np.int64],
        jitter: Jitter,
        on_progress: OnProgress,
        folder: Path | None = None,
    ) -> None:
        """Embed all that can be used of `data`, those that are `learned` from in all views.

        With a `folder` vectors are kept there by the hash of their sample, and taken from there.
        """
        self.shape: tuple[int, ...] = (tower.dimension,)
        pictures = not tower.takes_numbers
        each = tower.dimension * 4 * max(1, len(data))
        self.views = max(1, min(VIEWS, MEMORY // each)) if pictures else 1
        self._rows = np.zeros((len(data), self.views, tower.dimension), np.float32)
        self._is_learned = np.zeros(len(data), np.bool_)
        self._is_learned[learned] = True
        self._key = json.dumps([tower.id, self.views, asdict(jitter) if self.views > 1 else None], sort_keys=True)
        self._path = folder / FILE if folder else None
        wanted = np.flatnonzero(data.whose >= 0)
        missing = wanted[~self._found(data, wanted)]
        self._embed(tower, data, missing, jitter, on_progress)

    def take(self, positions: Any) -> NDArray[np.float32]:
        """Return the vectors (k, d) of samples as they are."""
        vectors: NDArray[np.float32] = self._rows[np.asarray(positions, np.int64), 0]
        return vectors

    def one_view(self, positions: Any, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return a vector (k, d) of any view of each sample. Those that are not learned from have one."""
        at = np.asarray(positions, np.int64)
        views = np.where(self._is_learned[at], rng.integers(0, self.views, len(at)), 0)
        vectors: NDArray[np.float32] = self._rows[at, views]
        return vectors

    def whitening(self, data: Data) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Return the (matrix, mean) by which all views that are learned from vary alike within an identity.

        None where no identity has two vectors.
        """
        at = np.flatnonzero(self._is_learned)
        rows = self._rows[at].reshape(-1, self._rows.shape[2])
        try:
            return whitening(rows, np.repeat(data.whose[at].astype(np.int64), self.views))
        except BadInput:
            return None

    def _embed(
        self, tower: Tower, data: Data, missing: NDArray[np.int64], jitter: Jitter, on_progress: OnProgress
    ) -> None:
        told = saved = time.monotonic()
        for start in range(0, len(missing), CHUNK):
            at = missing[start : start + CHUNK]
            pictures = data.take(at)
            self._rows[at, 0] = tower.embed(list(pictures))
            learned = np.flatnonzero(self._is_learned[at]) if self.views > 1 else np.zeros(0, np.int64)
            if len(learned):
                changed = [v for i in learned for v in self._changed(pictures[i], data.digests[at[i]], jitter)]
                self._rows[at[learned], 1:] = tower.embed(changed).reshape(len(learned), self.views - 1, -1)
            now = time.monotonic()
            if now - told > 0.5:
                told = now
                on_progress({"stage": "embed", "done": start + len(at), "of": len(missing)})
            if now - saved > SAVED_EVERY:
                saved = now
                self._keep(data, np.setdiff1d(np.flatnonzero(data.whose >= 0), missing[start + CHUNK :]), on_progress)
        if len(missing):
            self._keep(data, np.flatnonzero(data.whose >= 0), on_progress)

    def _changed(self, picture: NDArray[Any], digest: NDArray[np.uint8], jitter: Jitter) -> Iterator[NDArray[Any]]:
        """Yield a picture's other views; which ones depends on its own bytes alone."""
        rng = np.random.default_rng(digest)
        yield from np.rint(jittered(np.repeat(picture[None], self.views - 1, axis=0), jitter, rng)).astype(np.uint8)

    def _found(self, data: Data, wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Take from the file what is there; return (k,) of which of `wanted` that was."""
        there = np.zeros(len(wanted), np.bool_)
        if self._path is None or not self._path.exists():
            return there
        try:
            with self._path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                if arrays["key"].item() != self._key:
                    return there
                digests, rows, full = arrays["digests"], arrays["rows"], arrays["full"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return there  # a file that is none costs the time to embed again
        if rows.shape != (len(digests), *self._rows.shape[1:]) or len(full) != len(digests):
            return there
        known = {digest.tobytes(): i for i, digest in enumerate(digests)}
        for k, position in enumerate(wanted.tolist()):
            i = known.get(data.digests[position].tobytes())
            if i is not None and (full[i] or not self._is_learned[position]):
                self._rows[position], there[k] = rows[i], True
        return there

    def _keep(self, data: Data, done: NDArray[np.int64], on_progress: OnProgress) -> None:
        if self._path is None:
            return
        try:
            with replacing(self._path) as temporary, temporary.open("wb") as file:
                np.savez(
                    file,
                    key=np.array(self._key),
                    digests=data.digests[done],
                    rows=self._rows[done],
                    full=self._is_learned[done],
                )
        except Missing as error:  # a full disk costs the file, not the training
            on_progress({"stage": "checkpoint", "failed": str(error).replace("\n", " ")})


def nearest_identities(vectors: NDArray[np.float32], whose: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (identities, k): of each those with the nearest mean vectors, of `vectors` (n, d) by `whose` (n,)."""
    count = int(whose.max()) + 1
    means = np.zeros((count, vectors.shape[1]), np.float64)
    np.add.at(means, whose, vectors)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    kept = min(NEAREST, count - 1)
    nearest = np.empty((count, kept), np.int64)
    step = max(1, 16_000_000 // count)
    for start in range(0, count, step):
        likeness = means[start : start + step] @ means.T
        likeness[np.arange(len(likeness)), np.arange(start, start + len(likeness))] = -np.inf
        nearest[start : start + step] = np.argsort(-likeness, axis=1)[:, :kept]
    return nearest
