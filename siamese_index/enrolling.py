"""Whole enrollments: of pictures and of vectors, of any number, some thousands a transaction."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import enrollment
from .answering import Answering
from .embedding import Embed
from .enrollment import Conflicts, Enrollment, Progress, clean_name
from .errors import BadInput
from .images import Picture
from .store import Store, TowerRow
from .vectors import Vectors, unit, with_lengths

CHUNK = 1024  # pictures per transaction when enrolling many
VECTOR_CHUNK = 131_072  # vectors


class _TakenBack(Exception):
    """Ends the transaction of a dry run."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms samples are enrolled."""

    conflicts: Conflicts
    floor: Mapping[str, float] = field(default_factory=dict)  # the least of each measure of `images.quality`
    dry_run: bool = False
    tags: tuple[tuple[str, str], ...] = ()  # for the identities of what is enrolled


class Enrolling:
    """Enrolls for the active tower, on the same terms, and counts in `total` what became of everything."""

    def __init__(self, store: Store, answering: Answering, active: Callable[[], TowerRow], terms: Terms) -> None:
        self._store, self._answering, self._terms = store, answering, terms
        self._active, self._tower = active, active()
        self.total = Enrollment(revision=answering.revision)

    def pictures(
        self,
        items: Iterable[tuple[str, Picture]],
        embed: Callable[[], Embed],
        progress: Progress | None = None,
        strict: bool = False,
    ) -> Enrollment:
        """Enroll (name, picture) items; all or none if `strict`, and a dry run, are one transaction.

        `embed` gives what embeds with the tower that is active when a transaction's pictures are taken in.
        """
        waiting, size = iter(items), None if strict or self._terms.dry_run else CHUNK
        chunk = list(itertools.islice(waiting, size))
        while True:
            self._pictures(chunk, embed(), progress, strict)
            if not (chunk := list(itertools.islice(waiting, size))):
                return self.total
            self._tower = self._active()

    def _pictures(
        self, items: Sequence[tuple[str, Picture]], embed: Embed, progress: Progress | None, strict: bool
    ) -> None:
        keep = self._store.settings().keep_pictures
        samples, vectors = enrollment.take(
            items, embed, self._tower.dimension, self.total, strict, keep, self._terms.floor, progress, self._holder
        )
        with contextlib.suppress(_TakenBack), self._store.writing("enroll"):
            self._write(samples, vectors, strict)
            if self._terms.dry_run:
                self.total.outlook = self._answering.outlook()
                raise _TakenBack

    def vectors(
        self, names: Sequence[str], vectors: Any, progress: Progress | None = None, strict: bool = False
    ) -> Enrollment:
        """Enroll vectors (n, dimension) under `names` (n,), all of which are checked before the first is enrolled.

        All of them are one transaction if `strict`. Raises BadInput.
        """
        if self._tower.has_network:
            path = self._store.path
            raise BadInput(f"{path}: this gallery embeds pictures itself.", remedy="Enroll pictures, not vectors.")
        if len(np.shape(vectors)) != 2:
            raise BadInput(f"These are not vectors: shape {np.shape(vectors)}.", "Expected shape (n, dimension).")
        if len(names) != len(vectors):
            raise BadInput(f"{len(names):,} names for {len(vectors):,} vectors.", "Each vector needs its name.")
        names = [clean_name(name) for name in names]
        size = max(1, len(names)) if strict else VECTOR_CHUNK
        parts = [slice(first, first + size) for first in range(0, len(names), size)] or [slice(0, 0)]
        for part in parts if len(parts) > 1 else ():
            with_lengths(vectors[part], self._tower.dimension, part.start)
        for part in parts:
            rows = unit(vectors[part], self._tower.dimension, part.start)
            samples = [
                (name, hashlib.sha256(row).digest(), f"row {number}", None)
                for number, (name, row) in enumerate(zip(names[part], rows, strict=True), part.start)
            ]
            with self._store.writing("enroll"):
                self._write(samples, rows, strict)
            if progress:
                progress(len(rows))
        return self.total

    def _write(self, samples: Sequence[enrollment.Sample], vectors: Vectors, strict: bool) -> None:
        enrollment.write(
            self._store, self._answering, self._tower, samples, vectors, self.total, strict, self._terms.conflicts,
            self._terms.tags,
        )  # fmt: skip

    def _holder(self, digest: bytes) -> str | None:
        with self._store.reading():
            found = self._store.holders([digest]).get(digest)
        return found[1] if found else None
