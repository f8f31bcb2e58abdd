"""What a gallery holds, and the statements that read or change it: one text for every database engine.

Reads see one committed state; writes are one transaction and one event each, acknowledged when durable.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from itertools import count, repeat
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import Damaged, Missing
from siamese_index.samples.names import clean_name
from siamese_index.vectors import Vectors

from . import columns
from .event_rows import TAG, Events, Former
from .impostors import Impostors
from .removed_rows import Removed
from .rows import Fusion, GallerySettings, IdentityRow, NewSample, SampleRow
from .template_rows import Templates
from .tower_rows import Towers

if TYPE_CHECKING:
    from .answer_log import AnswerLog
    from .database import Database


PURGE, SEARCHES = 1, 2  # what a killed program, or an older one, left to be done


class Store:
    """An open gallery."""

    def __init__(self, database: Database, home: Path | str | None = None) -> None:
        self._db = database
        self.path = database.path
        self.home = home or self.path  # the gallery whose cache serves this one: another only if this is a copy
        self.events = Events(database)
        self.templates, self.towers = Templates(database), Towers(database, self.events)
        self.impostors, self.removed = Impostors(database, self.events), Removed(database)
        self.reading, self.writing = database.reading, database.writing
        self.problems, self.facts, self.close = database.problems, database.facts, database.close

    @property
    def database(self) -> Database:
        return self._db

    def record(self, verb: str, **detail: Any) -> int:
        """Add the event of this transaction; return its id, the new revision."""
        return self.events.record(verb, detail)

    @contextlib.contextmanager
    def still(self) -> Iterator[Store]:
        """Yield the gallery as it is now, for a long look for which nobody waits; what is changed in it is lost."""
        with self._db.still() as database:
            yield self if database is self._db else Store(database, self.path)

    # -- state --------------------------------------------------------------------------------

    def revision(self) -> tuple[int, bytes]:
        """Return the id and token of the newest event; (0, b"") for a new gallery."""
        row = self._db.execute("SELECT id, token FROM event ORDER BY id DESC LIMIT 1").fetchone()
        return (row[0], row[1]) if row else (0, b"")

    def token_of(self, revision: int) -> bytes | None:
        row = self._db.execute("SELECT token FROM event WHERE id = ?", (revision,)).fetchone()
        return row[0] if row else None

    def settings(self) -> GallerySettings:
        row = self._db.execute(
            "SELECT g.tower_id, s.target_fpir, s.keep_pictures, s.fusion, s.log, s.confidence, s.strict, s.shift,"
            " s.identities, t.sha256 FROM setting s"
            " LEFT JOIN generation g ON g.id = s.generation_id LEFT JOIN tower t ON t.id = g.tower_id"
        ).fetchone()
        there = row is not None and all(row[i] is not None for i in (1, 2, 3, 4, 6, 7, 8))
        possible = there and 0 < row[1] < 1 and (row[5] is None or 0 < row[5] < 1) and row[8] >= 0
        if not possible or row[3] not in get_args(Fusion):
            raise Damaged(
                f"{self.path}: its settings cannot be.", f"{row and row[1:9]}.", "Restore a backup: sidx restore FILE"
            )
        keep, log, strict, shift = (bool(row[i]) for i in (2, 4, 6, 7))
        return GallerySettings(row[0], row[1], keep, row[3], log, row[5], strict, shift, row[8], row[9])

    def pending(self) -> int:
        """Return what is still to be done here: PURGE, SEARCHES or nothing (0)."""
        row = self._db.execute("SELECT pending FROM setting").fetchone()
        return int(row[0] or 0) if row else 0

    def set_pending(self, pending: int) -> None:
        self._db.execute("UPDATE setting SET pending = ?", (pending,))

    def new_since(self, event: int) -> tuple[int, int, int, int]:
        """Return what came after an event: enrolled samples and identities, corrections; and days that passed."""
        row = self._db.execute(
            "SELECT count(*), count(DISTINCT CASE WHEN i.enrolled > ? THEN i.id END) FROM sample s"
            " JOIN identity i ON i.id = s.identity_id WHERE i.removed IS NULL AND s.enrolled > ?",
            (event, event),
        ).fetchone()
        corrected = self._db.execute(
            "SELECT count(*) FROM event WHERE verb = 'correct' AND id > ?", (event,)
        ).fetchone()
        at = self._db.execute("SELECT at FROM event WHERE id = ?", (event,)).fetchone()
        days = (datetime.now(UTC) - datetime.fromisoformat(at[0])).days if at else 0
        return int(row[0]), int(row[1]), int(corrected[0]), days

    def note_backup(self, revision: int, path: str) -> None:
        """Remember where a copy was put: a purge names it."""
        self._db.execute("INSERT INTO backup (revision, path) VALUES (?, ?)", (revision, path))

    def forget_lost_backups(self) -> None:
        """Forget the copies that are not where they were put any more."""
        rows = self._db.execute("SELECT id, path FROM backup").fetchall()
        lost = [row[0] for row in rows if not Path(row[1]).exists()]
        self._db.executemany("DELETE FROM backup WHERE id = ?", ((row,) for row in lost))

    def backups(self) -> list[tuple[int, str]]:
        """Return (revision, path) of the copies that were made, the last of each path."""
        rows = self._db.execute("SELECT max(revision), path FROM backup GROUP BY path ORDER BY path").fetchall()
        return [(row[0], row[1]) for row in rows]

    def set_target(self, target_fpir: float) -> None:
        self.events.change("setting.target_fpir", {1: target_fpir})

    def set_fusion(self, fusion: Fusion) -> None:
        self.events.change("setting.fusion", {1: fusion})

    def set_shift(self, shift: bool) -> None:
        self.events.change("setting.shift", {1: int(shift)})

    def set_confidence(self, confidence: float | None) -> None:
        self.events.change("setting.confidence", {1: confidence})

    def set_strict(self, strict: bool) -> None:
        self.events.change("setting.strict", {1: int(strict)})

    def set_log(self, log: bool) -> None:
        self.events.change("setting.log", {1: int(log)})

    @cached_property
    def log(self) -> AnswerLog:
        """The answers that are kept. Most commands need them not."""
        from .answer_log import AnswerLog

        return AnswerLog(self._db, self.events)

    # -- identities and samples ---------------------------------------------------------------

    def identities(self) -> list[IdentityRow]:
        rows = self._db.execute(
            "SELECT i.id, i.name, count(s.id) FROM identity i LEFT JOIN sample s ON s.identity_id = i.id"
            " WHERE i.removed IS NULL GROUP BY i.id ORDER BY i.name"
        )
        tags = self.tags()
        return [IdentityRow(row[0], row[1], row[2], tags.get(row[0], {})) for row in rows]

    def identity(self, name: str) -> int | None:
        row = self._db.execute("SELECT id FROM identity WHERE name = ? AND removed IS NULL", (name,)).fetchone()
        return row[0] if row else None

    def known(self, name: str) -> int:
        """Return the id of an enrolled identity. Raises Missing."""
        identity = self.identity(clean_name(name))
        if identity is None:
            raise Missing(f"{name!r} is not enrolled in {self.path}.", remedy="See who is: sidx identities list")
        return identity

    def rename(self, identity: int, name: str) -> None:
        self.events.change("identity.name", {identity: name})

    def set_removed(self, identities: Sequence[int], event: int | None) -> None:
        """Take enrolled identities out, or bring back who was taken out."""
        state = "NOT NULL" if event is None else "NULL"
        rows = self._db.execute(
            f"SELECT id FROM identity WHERE removed IS {state} AND id {self._db.among}", (self._db.many(identities),)
        ).fetchall()
        self.events.change("identity.removed", {row[0]: event for row in rows})
        change = len(rows) if event is None else -len(rows)
        self._db.execute("UPDATE setting SET identities = identities + ?", (change,))

    def samples(self, name: str | None = None, *, ids: Sequence[int] | None = None) -> list[SampleRow]:
        """Return the enrolled samples (of one identity, or of these ids) in the order of their ids. Raises Missing."""
        where, parameters = "", []
        if name is not None:
            where, parameters = " AND i.id = ?", [self.known(name)]
        elif ids is not None:
            where, parameters = f" AND s.id {self._db.among}", [self._db.many(ids)]
        rows = self._db.execute(
            "SELECT s.id, i.name, s.source, s.digest, s.picture IS NOT NULL, e.at FROM sample s"
            " JOIN identity i ON i.id = s.identity_id JOIN event e ON e.id = s.enrolled"
            f" WHERE i.removed IS NULL{where} ORDER BY s.id",
            parameters,
        )
        return [SampleRow(r[0], r[1], r[2], r[3].hex(), bool(r[4]), r[5]) for r in rows]

    def first_samples(self, identities: Collection[int]) -> dict[int, int]:
        """Return identity id -> id of the first sample."""
        rows = self._db.execute(
            f"SELECT identity_id, min(id) FROM sample WHERE identity_id {self._db.among} GROUP BY identity_id",
            (self._db.many(list(identities)),),
        )
        return dict(rows.fetchall())

    def samples_of(self, identities: Collection[int]) -> list[int]:
        """Return the ids of the samples that these identities have, enrolled or not."""
        rows = self._db.execute(
            f"SELECT id FROM sample WHERE identity_id {self._db.among} ORDER BY id", (self._db.many(list(identities)),)
        )
        return [row[0] for row in rows.fetchall()]

    def digests(self, samples: Sequence[int]) -> dict[int, bytes]:
        """Return sample id -> SHA-256 of the sample as it came in."""
        rows = self._db.execute(f"SELECT id, digest FROM sample WHERE id {self._db.among}", (self._db.many(samples),))
        return dict(rows.fetchall())

    def arrivals(self, samples: Sequence[int]) -> dict[int, NewSample]:
        """Return those of these samples that are enrolled, as they came in, without their pictures."""
        rows = self._db.execute(
            "SELECT s.id, i.name, s.digest, s.source FROM sample s JOIN identity i ON i.id = s.identity_id"
            f" WHERE i.removed IS NULL AND s.id {self._db.among}",
            (self._db.many(samples),),
        )
        return {row[0]: NewSample(row[1], row[2], row[3], None) for row in rows.fetchall()}

    def without_samples(self, identities: Sequence[int]) -> dict[int, str]:
        """Return id -> name of those of these enrolled identities that have no sample."""
        rows = self._db.execute(
            "SELECT id, name FROM identity i WHERE removed IS NULL AND NOT EXISTS"
            f" (SELECT 1 FROM sample s WHERE s.identity_id = i.id) AND id {self._db.among}",
            (self._db.many(identities),),
        )
        return dict(rows.fetchall())

    def add_identity(self, event: int, name: str) -> int:
        """Enroll a name that has no sample yet; return its id."""
        identity = self._db.reserve("identity", 1)
        self._db.execute("INSERT INTO identity (id, name, enrolled) VALUES (?, ?, ?)", (identity, name, event))
        self._db.execute("UPDATE setting SET identities = identities + 1")
        return identity

    def holders(self, digests: Collection[bytes]) -> dict[bytes, tuple[int, str]]:
        """Return which of these samples are enrolled already, and as whom: digest -> (identity id, name)."""
        statement = (
            "SELECT s.digest, i.id, i.name FROM sample s JOIN identity i ON i.id = s.identity_id"
            " WHERE i.removed IS NULL"
        )
        if len(digests) > max(500, self._db.last("sample") // 4):  # one look-up each is slower than one pass
            wanted = set(digests)
            return {row[0]: (row[1], row[2]) for row in self._db.execute(statement) if row[0] in wanted}
        found, every = {}, list(digests)
        for first in range(0, len(every), 500):
            part = every[first : first + 500]
            for row in self._db.execute(f"{statement} AND s.digest IN ({_marks(part)})", part):
                found[row[0]] = (row[1], row[2])
        return found

    def add_samples(
        self,
        event: int,
        tower: int,
        samples: Sequence[NewSample],
        vectors: Vectors,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Insert samples and their templates (n, dimension); return (identity ids, template ids)."""
        names, digests, sources, pictures = zip(*samples, strict=True)
        known = self.identities_named(set(names))
        new = [name for name in dict.fromkeys(names) if name not in known]
        # The one writer may count ids by itself; asking for each would halve the speed.
        first = self._db.reserve("identity", len(new))
        known.update(zip(new, range(first, first + len(new)), strict=True))
        # Rows as columns put side by side: of a million, the loops cost as much as the database.
        self._db.insert("identity", "id, name, enrolled", zip(count(first), new, repeat(event)))
        sample, template = (self._db.reserve(table, len(samples)) for table in ("sample", "template"))
        owners = [known[name] for name in names]
        self._db.insert(
            "sample",
            "id, identity_id, digest, source, enrolled, picture",
            zip(count(sample), owners, digests, sources, repeat(event), pictures),
        )
        blobs = map(self._db.vector, map(methodcaller("tobytes"), vectors))
        self._db.insert(
            "template",
            "id, tower_id, sample_id, identity_id, vector",
            zip(count(template), repeat(tower), count(sample), owners, blobs),
        )
        self._db.execute("UPDATE setting SET identities = identities + ?", (len(new),))
        self._db.execute("UPDATE tally SET templates = templates + ? WHERE tower_id = ?", (len(samples), tower))
        return np.array(owners, np.int64), np.arange(template, template + len(samples))

    def identities_named(self, names: Collection[str]) -> dict[str, int]:
        """Return name -> identity id of those who are enrolled."""
        rows = self._db.execute(
            f"SELECT name, id FROM identity WHERE removed IS NULL AND name {self._db.among}",
            (self._db.many(names),),
        )
        return dict(rows.fetchall())

    def tag(self, identities: Sequence[int], tags: Sequence[tuple[str, str | None]]) -> None:
        """Set tags (key, value) of each identity; a value of None takes the tag away."""
        pairs = [(identity, key, value) for identity in identities for key, value in tags]
        old = self.tags_of(identities)
        self.events.keep(
            Former(TAG, i, key, old.get((i, key))) for i, key, value in pairs if old.get((i, key)) != value
        )
        self._db.executemany("DELETE FROM tag WHERE identity_id = ? AND key = ?", ((i, k) for i, k, _ in pairs))
        self._db.executemany(
            "INSERT INTO tag (identity_id, key, value) VALUES (?, ?, ?)", (p for p in pairs if p[2] is not None)
        )

    def tags_of(self, identities: Sequence[int]) -> dict[tuple[int, str], str]:
        """Return (identity, key) -> value."""
        rows = self._db.execute(
            f"SELECT identity_id, key, value FROM tag WHERE identity_id {self._db.among}", (self._db.many(identities),)
        )
        return {(row[0], row[1]): row[2] for row in rows.fetchall()}

    def tags(self) -> dict[int, dict[str, str]]:
        """Return identity id -> its tags, of those who have any."""
        found: dict[int, dict[str, str]] = {}
        for identity, key, value in self._db.execute("SELECT identity_id, key, value FROM tag ORDER BY key"):
            found.setdefault(identity, {})[key] = value
        return found

    def tagged(self, tags: Sequence[tuple[str, str]]) -> NDArray[np.int64]:
        """Return the enrolled identities that have all of these tags, ascending."""
        each = "SELECT identity_id FROM tag WHERE key = ? AND value = ?"
        rows = self._db.execute(
            f"SELECT id FROM identity WHERE removed IS NULL AND id IN ({' INTERSECT '.join([each] * len(tags))})"
            " ORDER BY id",
            [text for pair in tags for text in pair],
        ).fetchall()
        return columns.ids(rows, 0)

    def identity_names(self) -> dict[int, str]:
        return dict(self._db.execute("SELECT id, name FROM identity WHERE removed IS NULL").fetchall())

    def picture(self, sample: int) -> bytes | None:
        """Return a sample as it was kept."""
        row = self._db.execute("SELECT picture FROM sample WHERE id = ?", (sample,)).fetchone()
        return row[0] if row else None

    def pictures(self, after: int = 0) -> Iterator[tuple[int, str, bytes | None]]:
        """Yield (sample id, identity name, picture) of every enrolled sample, by id.

        Some at a time are read, each in a statement by itself: others may write meanwhile, and so may the caller.
        """
        while True:
            with self.reading():
                chunk = self._db.execute(
                    "SELECT s.id, i.name, s.picture FROM sample s JOIN identity i ON i.id = s.identity_id"
                    " WHERE i.removed IS NULL AND s.id > ? ORDER BY s.id LIMIT 64",
                    (after,),
                ).fetchall()
            if not chunk:
                return
            after = chunk[-1][0]
            yield from chunk

    def removed_since(self, revision: int) -> NDArray[np.int64]:
        """Return the identities that were removed after `revision`."""
        rows = self._db.execute("SELECT id FROM identity WHERE removed > ?", (revision,)).fetchall()
        return np.array([r[0] for r in rows], np.int64)


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
