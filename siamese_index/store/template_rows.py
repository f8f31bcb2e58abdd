"""Templates: every statement that reads or changes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import Missing
from siamese_index.vectors import Vectors

from . import columns
from .database import Database


@dataclass(frozen=True)
class Renewed:
    """Templates (n,) of one tower that have new ids, and of whom they are now."""

    before: NDArray[np.int64]  # their ids before
    ids: NDArray[np.int64]
    samples: NDArray[np.int64]
    identities: NDArray[np.int64]
    vectors: Vectors


class Templates:
    """The templates of a gallery's towers."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def after(self, tower: int, dimension: int, after: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Vectors]:
        """Return (template ids, identity ids, vectors) of what is enrolled with template ids above `after`, by id."""
        parts = list(self.chunks(tower, dimension, after))
        if not parts:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, dimension), np.float32)
        ids, owners, vectors = (np.concatenate(column) for column in zip(*parts, strict=True))
        return ids, owners, vectors

    def chunks(
        self, tower: int, dimension: int, after: int, size: int = 8192
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Vectors]]:
        """Yield what `after` returns, `size` at a time: each a statement by itself, so nobody waits for the whole."""
        while True:
            with self._db.reading():
                chunk = self._db.execute(
                    "SELECT id, identity_id, vector FROM template WHERE tower_id = ? AND id > ?"
                    " AND identity_id NOT IN (SELECT id FROM identity WHERE removed IS NOT NULL) ORDER BY id LIMIT ?",
                    (tower, after, size),
                ).fetchall()
            if not chunk:
                return
            after = chunk[-1][0]
            ids, owners, blobs = zip(*chunk, strict=True)
            yield np.array(ids, np.int64), np.array(owners, np.int64), columns.matrix(blobs, dimension, self._db.path)

    def some(self, tower: int, dimension: int, count: int) -> Vectors:
        """Return up to `count` templates (n, d) of enrolled identities, from all over."""
        rows = self._db.execute(
            f"SELECT vector FROM template WHERE tower_id = ? AND id {self._db.among}"
            " AND identity_id NOT IN (SELECT id FROM identity WHERE removed IS NOT NULL) ORDER BY id",
            (tower, self._db.many(np.unique(np.linspace(1, self._db.last("template"), count).astype(int)).tolist())),
        ).fetchall()
        return columns.matrix([r[0] for r in rows], dimension, self._db.path)

    def stored(self, tower: int) -> int:
        """Count the templates of a tower, of those who were removed too: what `template_total` keeps."""
        return int(self._db.execute("SELECT count(*) FROM template WHERE tower_id = ?", (tower,)).fetchone()[0])

    def count(self, tower: int) -> int:
        """Return how many templates of a tower are enrolled."""
        row = self._db.execute(
            "SELECT count(*) FROM template WHERE tower_id = ?"
            " AND identity_id NOT IN (SELECT id FROM identity WHERE removed IS NOT NULL)",
            (tower,),
        ).fetchone()
        return int(row[0])

    def of(self, tower: int, dimension: int, identity: int) -> tuple[NDArray[np.int64], Vectors]:
        """Return (template ids, vectors) of one identity, by id."""
        nothing = np.zeros(0, np.int64), np.zeros((0, dimension), np.float32)
        return self.of_each(tower, dimension, [identity]).get(identity, nothing)

    def of_each(
        self, tower: int, dimension: int, identities: Sequence[int], least: int = 1
    ) -> dict[int, tuple[NDArray[np.int64], Vectors]]:
        """Return identity -> (template ids, vectors), by id, of those that have `least` templates."""
        many = self._db.many(identities)
        # By the samples, which have an index; by the identity, which says on which server they are.
        rows = self._db.execute(
            f"SELECT identity_id, id, vector FROM template WHERE tower_id = ? AND identity_id {self._db.among}"
            f" AND sample_id IN (SELECT id FROM sample WHERE identity_id {self._db.among}) ORDER BY id",
            (tower, many, many),
        )
        of_each: dict[int, list[Any]] = {}
        for row in rows:
            of_each.setdefault(row[0], []).append(row)
        return {
            identity: (columns.ids(found, 1), columns.matrix([r[2] for r in found], dimension, self._db.path))
            for identity, found in of_each.items()
            if len(found) >= least
        }

    def of_samples(self, tower: int, dimension: int, samples: NDArray[np.int64]) -> tuple[NDArray[np.bool_], Vectors]:
        """Return which of the samples (n,) are enrolled with a template of this tower, and their templates (k, d)."""
        rows = self._db.execute(
            f"SELECT sample_id, vector FROM template WHERE tower_id = ? AND sample_id {self._db.among}"
            " AND identity_id NOT IN (SELECT id FROM identity WHERE removed IS NOT NULL)",
            (tower, self._db.many(samples.tolist())),
        )
        found = dict(rows.fetchall())
        present = np.array([sample in found for sample in samples.tolist()], bool)
        return present, columns.matrix([found[s] for s in samples[present].tolist()], dimension, self._db.path)

    def vector(self, tower: int, dimension: int, sample: int) -> NDArray[np.float32]:
        """Return the template (dimension,) of a sample. Raises Missing."""
        row = self._db.execute(
            "SELECT vector FROM template WHERE tower_id = ? AND sample_id = ?", (tower, sample)
        ).fetchone()
        if row is None:
            raise Missing(f"There is no sample {sample}.", remedy="See: sidx samples list")
        template: NDArray[np.float32] = columns.matrix([row[0]], dimension, self._db.path)[0]
        return template

    def owners(self, templates: Iterable[int]) -> dict[int, tuple[str, int]]:
        """Return template id -> (identity name, sample id), without templates that are no longer enrolled."""
        rows = self._db.execute(
            "SELECT t.id, i.name, t.sample_id FROM template t JOIN identity i ON i.id = t.identity_id"
            f" WHERE i.removed IS NULL AND t.id {self._db.among}",
            (self._db.many(list(templates)),),
        )
        return {row[0]: (row[1], row[2]) for row in rows}

    def missing(self, tower: int, limit: int) -> list[tuple[int, bytes | None]]:
        """Return (sample id, picture) of enrolled samples that this tower has not embedded yet."""
        rows: list[tuple[int, bytes | None]] = self._db.execute(
            "SELECT s.id, s.picture FROM sample s JOIN identity i ON i.id = s.identity_id WHERE i.removed IS NULL"
            " AND NOT EXISTS (SELECT 1 FROM template t WHERE t.sample_id = s.id AND t.tower_id = ?)"
            " ORDER BY s.id LIMIT ?",
            (tower, limit if limit >= 0 else 1 << 60),
        ).fetchall()
        return rows

    def lacking(self, tower: int, samples: Sequence[int]) -> list[tuple[int, bytes | None]]:
        """Return (sample id, picture) of those of these samples, enrolled or not, that this tower has not embedded."""
        rows: list[tuple[int, bytes | None]] = self._db.execute(
            f"SELECT s.id, s.picture FROM sample s WHERE s.id {self._db.among} AND NOT EXISTS"
            " (SELECT 1 FROM template t WHERE t.sample_id = s.id AND t.tower_id = ?) ORDER BY s.id",
            (self._db.many(samples), tower),
        ).fetchall()
        return rows

    def add(self, tower: int, samples: Sequence[int], vectors: Vectors) -> None:
        of, blob = self.sample_identities(samples), self._db.vector
        first = self._db.reserve("template", len(samples))
        present = self._db.execute(
            f"SELECT sample_id FROM template WHERE tower_id = ? AND sample_id {self._db.among}",
            (tower, self._db.many(samples)),
        )
        known = {row[0] for row in present}  # another process may have been at it
        fresh = [(sample, vector) for sample, vector in zip(samples, vectors, strict=True) if sample not in known]
        self._db.insert(
            "template",
            "id, tower_id, sample_id, identity_id, vector",
            ((first + i, tower, s, of[s], blob(v.tobytes())) for i, (s, v) in enumerate(fresh)),
        )
        self._db.execute("UPDATE tally SET templates = templates + ? WHERE tower_id = ?", (len(fresh), tower))

    def renew(self, event: int, samples: Sequence[int], tower: int, dimension: int) -> Renewed:
        """Give the templates of samples new ids, since they are found again or are somebody else's.

        Whatever keeps them by their old ids learns by `Events.gone_since` that these are no more. Returns what
        changed of those of `tower`.
        """
        rows = self._db.execute(
            f"SELECT id, tower_id, sample_id, vector FROM template WHERE sample_id {self._db.among} ORDER BY id",
            (self._db.many(samples),),
        ).fetchall()
        old = [row[0] for row in rows]
        of, first = self.sample_identities(samples), self._db.reserve("template", len(rows))
        self._db.execute(f"DELETE FROM template WHERE sample_id {self._db.among}", (self._db.many(samples),))
        self._db.execute(f"DELETE FROM own_search WHERE template_id {self._db.among}", (self._db.many(old),))
        self._db.insert(
            "template",
            "id, tower_id, sample_id, identity_id, vector",
            ((first + i, t, s, of[s], self._db.vector(bytes(v))) for i, (_, t, s, v) in enumerate(rows)),
        )
        self._db.insert("gone", "event_id, template_id", ((event, template) for template in old))
        mine = [i for i, row in enumerate(rows) if row[1] == tower]
        return Renewed(
            np.array([old[i] for i in mine], np.int64),
            np.array([first + i for i in mine], np.int64),
            np.array([rows[i][2] for i in mine], np.int64),
            np.array([of[rows[i][2]] for i in mine], np.int64),
            columns.matrix([bytes(rows[i][3]) for i in mine], dimension, self._db.path),
        )

    def total(self, tower: int) -> int:
        """Return how many templates of a tower there are, of those who were removed too."""
        return int(self._db.execute("SELECT templates FROM tally WHERE tower_id = ?", (tower,)).fetchone()[0])

    def sample_identities(self, samples: Sequence[int]) -> dict[int, int]:
        rows = self._db.execute(
            f"SELECT id, identity_id FROM sample WHERE id {self._db.among}",
            (self._db.many(samples),),
        )
        return dict(rows.fetchall())
