"""What a gallery holds, and the statements that read or change it: one text for every database engine.

Reads see one committed state; writes are one transaction and one event each, acknowledged when durable.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import count, repeat
from operator import methodcaller
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import Damaged
from siamese_index.vectors import Vectors

from . import columns
from .answer_log import AnswerLog
from .impostors import Searches
from .rows import Fusion

if TYPE_CHECKING:
    from siamese_index.search.template_index import TemplateIndex

    from .database import Database
from siamese_index.store.rows import IdentityRow, SampleRow, Settings, TowerRow


class Store:
    """An open gallery."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.path = database.path
        self.searches, self.log = Searches(database), AnswerLog(database)
        self.reading, self.writing = database.reading, database.writing
        self.problems, self.facts, self.close = database.problems, database.facts, database.close

    def index(self, tower: TowerRow) -> TemplateIndex:
        """Return what searches among the templates of a tower."""
        return self._db.index(self, tower)

    @property
    def database(self) -> Database:
        return self._db

    def record(self, verb: str, **detail: Any) -> int:
        """Add the event of this transaction; return its id, the new revision."""
        row = self._db.execute(
            "INSERT INTO event (verb, detail) VALUES (?, ?) RETURNING id", (verb, json.dumps(detail))
        ).fetchone()
        return int(row[0])

    # -- state --------------------------------------------------------------------------------

    def revision(self) -> tuple[int, bytes]:
        """Return the id and token of the newest event; (0, b"") for a new gallery."""
        row = self._db.execute("SELECT id, token FROM event ORDER BY id DESC LIMIT 1").fetchone()
        return (row[0], row[1]) if row else (0, b"")

    def token_of(self, revision: int) -> bytes | None:
        row = self._db.execute("SELECT token FROM event WHERE id = ?", (revision,)).fetchone()
        return row[0] if row else None

    def settings(self) -> Settings:
        row = self._db.execute(
            "SELECT g.tower_id, s.target_fpir, s.keep_pictures, s.fusion, s.log, s.identities, t.sha256 FROM setting s"
            " LEFT JOIN generation g ON g.id = s.generation_id LEFT JOIN tower t ON t.id = g.tower_id"
        ).fetchone()
        return Settings(row[0], row[1], bool(row[2]), row[3], bool(row[4]), row[5], row[6])

    def set_target(self, target_fpir: float) -> None:
        self._db.execute("UPDATE setting SET target_fpir = ?", (target_fpir,))

    def set_fusion(self, fusion: Fusion) -> None:
        self._db.execute("UPDATE setting SET fusion = ?", (fusion,))

    def set_log(self, log: bool) -> None:
        self._db.execute("UPDATE setting SET log = ?", (int(log),))

    def identity_count(self) -> int:
        return int(self._db.execute("SELECT identities FROM setting").fetchone()[0])

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

    def rename(self, identity: int, name: str) -> None:
        self._db.execute("UPDATE identity SET name = ? WHERE id = ?", (name, identity))

    def remove(self, identity: int, event: int) -> None:
        self._db.execute("UPDATE identity SET removed = ? WHERE id = ?", (event, identity))
        self._db.execute("UPDATE setting SET identities = identities - 1")

    def samples(self, name: str | None = None) -> list[SampleRow]:
        rows = self._db.execute(
            "SELECT s.id, i.name, s.source, s.digest, s.picture IS NOT NULL, e.at FROM sample s"
            " JOIN identity i ON i.id = s.identity_id JOIN event e ON e.id = s.enrolled"
            " WHERE i.removed IS NULL AND (CAST(? AS TEXT) IS NULL OR i.name = ?) ORDER BY s.id",
            (name, name),
        )
        return [SampleRow(r[0], r[1], r[2], r[3].hex(), bool(r[4]), r[5]) for r in rows]

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
        rows: Sequence[tuple[str, bytes, str, bytes | None]],
        vectors: Vectors,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Insert (name, digest, source, picture) rows and their templates; return (identity ids, template ids)."""
        names, digests, sources, pictures = zip(*rows, strict=True)
        known = self.identities_named(set(names))
        new = [name for name in dict.fromkeys(names) if name not in known]
        # The one writer may count ids by itself; asking for each would halve the speed.
        first = self._db.reserve("identity", len(new))
        known.update(zip(new, range(first, first + len(new)), strict=True))
        # Rows as columns put side by side: of a million, the loops cost as much as the database.
        self._db.insert("identity", "id, name, enrolled", zip(count(first), new, repeat(event)))
        sample, template = (self._db.reserve(table, len(rows)) for table in ("sample", "template"))
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
        self._db.execute("UPDATE tally SET templates = templates + ? WHERE tower_id = ?", (len(rows), tower))
        return np.array(owners, np.int64), np.arange(template, template + len(rows))

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
        self._db.executemany("DELETE FROM tag WHERE identity_id = ? AND key = ?", ((i, k) for i, k, _ in pairs))
        self._db.executemany(
            "INSERT INTO tag (identity_id, key, value) VALUES (?, ?, ?)", (p for p in pairs if p[2] is not None)
        )

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

    def pictures(self) -> Iterator[tuple[str, bytes | None]]:
        """Yield (identity name, picture) of every enrolled sample, by id."""
        for chunk in self._db.chunks(
            64,
            "SELECT i.name, s.picture FROM sample s JOIN identity i ON i.id = s.identity_id"
            " WHERE i.removed IS NULL ORDER BY s.id",
        ):
            yield from chunk

    # -- templates ----------------------------------------------------------------------------

    def templates_after(
        self, tower: int, dimension: int, after: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Vectors]:
        """Return (template ids, identity ids, vectors) of what is enrolled with template ids above `after`, by id."""
        parts = list(self.template_chunks(tower, dimension, after))
        if not parts:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, dimension), np.float32)
        ids, owners, vectors = (np.concatenate(column) for column in zip(*parts, strict=True))
        return ids, owners, vectors

    def template_chunks(
        self, tower: int, dimension: int, after: int, size: int = 8192
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Vectors]]:
        """Yield what `templates_after` returns, `size` at a time."""
        for chunk in self._db.chunks(
            size,
            "SELECT id, identity_id, vector FROM template WHERE tower_id = ? AND id > ?"
            " AND identity_id NOT IN (SELECT id FROM identity WHERE removed IS NOT NULL) ORDER BY id",
            (tower, after),
        ):
            ids, owners, blobs = zip(*chunk, strict=True)
            yield np.array(ids, np.int64), np.array(owners, np.int64), columns.matrix(blobs, dimension, self.path)

    def some_templates(self, tower: int, dimension: int, count: int) -> Vectors:
        """Return up to `count` templates (n, d) of enrolled identities, from all over."""
        rows = self._db.execute(
            f"SELECT vector FROM template WHERE tower_id = ? AND id {self._db.among}"
            " AND identity_id NOT IN (SELECT id FROM identity WHERE removed IS NOT NULL) ORDER BY id",
            (tower, self._db.many(np.unique(np.linspace(1, self._db.last("template"), count).astype(int)).tolist())),
        ).fetchall()
        return columns.matrix([r[0] for r in rows], dimension, self.path)

    def templates_stored(self, tower: int) -> int:
        """Count the templates of a tower, of those who were removed too: what `template_total` keeps."""
        return int(self._db.execute("SELECT count(*) FROM template WHERE tower_id = ?", (tower,)).fetchone()[0])

    def template_count(self, tower: int) -> int:
        """Return how many templates of a tower are enrolled."""
        row = self._db.execute(
            "SELECT count(*) FROM template WHERE tower_id = ?"
            " AND identity_id NOT IN (SELECT id FROM identity WHERE removed IS NOT NULL)",
            (tower,),
        ).fetchone()
        return int(row[0])

    def removed_since(self, revision: int) -> NDArray[np.int64]:
        """Return the identities that were removed after `revision`."""
        rows = self._db.execute("SELECT id FROM identity WHERE removed > ?", (revision,)).fetchall()
        return np.array([r[0] for r in rows], np.int64)

    def templates_of(self, tower: int, dimension: int, identity: int) -> tuple[NDArray[np.int64], Vectors]:
        """Return (template ids, vectors) of one identity, by id."""
        nothing = np.zeros(0, np.int64), np.zeros((0, dimension), np.float32)
        return self.templates_of_each(tower, dimension, [identity]).get(identity, nothing)

    def templates_of_each(
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
            identity: (columns.ids(found, 1), columns.matrix([r[2] for r in found], dimension, self.path))
            for identity, found in of_each.items()
            if len(found) >= least
        }

    def template(self, tower: int, dimension: int, sample: int) -> NDArray[np.float32] | None:
        row = self._db.execute(
            "SELECT vector FROM template WHERE tower_id = ? AND sample_id = ?", (tower, sample)
        ).fetchone()
        return columns.matrix([row[0]], dimension, self.path)[0] if row else None

    def owners(self, templates: Iterable[int]) -> dict[int, tuple[str, int]]:
        """Return template id -> (identity name, sample id), without templates that are no longer enrolled."""
        rows = self._db.execute(
            "SELECT t.id, i.name, t.sample_id FROM template t JOIN identity i ON i.id = t.identity_id"
            f" WHERE i.removed IS NULL AND t.id {self._db.among}",
            (self._db.many(list(templates)),),
        )
        return {row[0]: (row[1], row[2]) for row in rows}

    def without_template(self, tower: int, limit: int) -> list[tuple[int, bytes | None]]:
        """Return (sample id, picture) of enrolled samples that this tower has not embedded yet."""
        rows: list[tuple[int, bytes | None]] = self._db.execute(
            "SELECT s.id, s.picture FROM sample s JOIN identity i ON i.id = s.identity_id WHERE i.removed IS NULL"
            " AND NOT EXISTS (SELECT 1 FROM template t WHERE t.sample_id = s.id AND t.tower_id = ?)"
            " ORDER BY s.id LIMIT ?",
            (tower, limit if limit >= 0 else 1 << 60),
        ).fetchall()
        return rows

    def add_templates(self, tower: int, samples: Sequence[int], vectors: Vectors) -> None:
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

    def template_total(self, tower: int) -> int:
        """Return how many templates of a tower there are, of those who were removed too."""
        return int(self._db.execute("SELECT templates FROM tally WHERE tower_id = ?", (tower,)).fetchone()[0])

    # -- towers and generations ---------------------------------------------------------------

    def towers(self) -> list[TowerRow]:
        rows = self._db.execute(
            "SELECT id, sha256, dimension, card, report, onnx IS NOT NULL FROM tower ORDER BY id"
        ).fetchall()
        return [self._tower_row(row) for row in rows]

    def tower(self, tower: int) -> TowerRow:
        row = self._db.execute(
            "SELECT id, sha256, dimension, card, report, onnx IS NOT NULL FROM tower WHERE id = ?", (tower,)
        ).fetchone()
        return self._tower_row(row)

    def _tower_row(self, row: Any) -> TowerRow:
        try:
            card, report = json.loads(row[3]), json.loads(row[4]) if row[4] else None
        except (ValueError, TypeError):  # no JSON, or nothing where a page was lost
            raise Damaged(f"{self.path}: the card of a tower is damaged.") from None
        return TowerRow(row[0], row[1], row[2], card, report, bool(row[5]))

    def network(self, tower: int) -> tuple[bytes, bytes | None]:
        """Return (ONNX graph, Keras model) of a tower."""
        row: tuple[bytes, bytes | None] = self._db.execute(
            "SELECT onnx, keras FROM tower WHERE id = ?", (tower,)
        ).fetchone()
        return row

    def onnx(self, tower: int) -> bytes:
        graph: bytes = self._db.execute("SELECT onnx FROM tower WHERE id = ?", (tower,)).fetchone()[0]
        return graph

    def add_tower(
        self,
        event: int,
        sha256: str,
        dimension: int,
        card: dict[str, Any],
        false_matches: NDArray[np.float32],
        onnx: bytes | None,
        keras: bytes | None,
        report: dict[str, Any] | None,
    ) -> int:
        row = self._db.execute(
            "INSERT INTO tower (sha256, dimension, added, report, card, false_matches, onnx, keras)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (sha256, dimension, event, json.dumps(report) if report else None, json.dumps(card),
             false_matches.tobytes(), onnx, keras),
        ).fetchone()  # fmt: skip
        self._db.execute("INSERT INTO tally (tower_id, templates) VALUES (?, 0)", (row[0],))
        return int(row[0])

    def false_matches(self, tower: int) -> NDArray[np.float32]:
        """Return `calibration.false_match_table` of this tower's strangers: (2, p)."""
        blob = self._db.execute("SELECT false_matches FROM tower WHERE id = ?", (tower,)).fetchone()[0]
        return np.frombuffer(blob, np.float32).reshape(2, -1)

    def set_false_matches(self, tower: int, table: NDArray[np.float32]) -> None:
        self._db.execute("UPDATE tower SET false_matches = ? WHERE id = ?", (table.tobytes(), tower))

    def active_generation(self) -> tuple[int, int | None] | None:
        """Return (generation id, the generation before it)."""
        row = self._db.execute(
            "SELECT g.id, g.before FROM setting s JOIN generation g ON g.id = s.generation_id"
        ).fetchone()
        return (row[0], row[1]) if row else None

    def generation_tower(self, generation: int) -> int:
        return int(self._db.execute("SELECT tower_id FROM generation WHERE id = ?", (generation,)).fetchone()[0])

    def begin_generation(self, event: int, tower: int) -> None:
        """Make a new generation of `tower`, after the active one, and activate it."""
        active = self.active_generation()
        row = self._db.execute(
            "INSERT INTO generation (tower_id, before, begun) VALUES (?, ?, ?) RETURNING id",
            (tower, active[0] if active else None, event),
        ).fetchone()
        self.activate(row[0])

    def activate(self, generation: int) -> None:
        self._db.execute("UPDATE setting SET generation_id = ?", (generation,))

    def sample_identities(self, samples: Sequence[int]) -> dict[int, int]:
        rows = self._db.execute(
            f"SELECT id, identity_id FROM sample WHERE id {self._db.among}",
            (self._db.many(samples),),
        )
        return dict(rows.fetchall())


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
