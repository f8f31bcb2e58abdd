"""What a purge deletes: every statement that finds or deletes what is of a person. Nothing of it can be undone."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from .database import Database
from .removed_rows import Removed


class Whose(NamedTuple):
    """Of whom something is: identities with what was removed of them, and what they were called."""

    identities: tuple[int, ...]
    samples: tuple[int, ...]
    names: tuple[str, ...]


class LoggedVector(NamedTuple):
    """An answer on record, as far as a purge looks at it."""

    id: int
    tower: int
    threshold: float | None
    vector: bytes


class Purging:
    """The statements of a purge. The caller has recorded its event."""

    def __init__(self, database: Database, event: int) -> None:
        self._db, self._event = database, event

    def whose(self, name: str) -> Whose:
        """Return everything that is of identities of this name, enrolled or not, and of those merged into them."""
        rows = self._db.execute("SELECT id FROM identity WHERE name = ?", (name,)).fetchall()
        return self._of(Removed(self._db).belonging([row[0] for row in rows]))

    def removed(self) -> Whose:
        """Return everything that is out of use, but the names of those who are enrolled as well."""
        rows = self._db.execute("SELECT id FROM identity WHERE removed IS NOT NULL").fetchall()
        found = self._of([row[0] for row in rows])
        enrolled = {r[0] for r in self._db.execute("SELECT name FROM identity WHERE removed IS NULL").fetchall()}
        return found._replace(names=tuple(name for name in found.names if name not in enrolled))

    def _of(self, identities: list[int]) -> Whose:
        """Return identities with their samples, and all that they were ever called."""
        many, among = self._db.many(identities), self._db.among
        samples = self._db.execute(f"SELECT id FROM sample WHERE identity_id {among} ORDER BY id", (many,)).fetchall()
        now = self._db.execute(f"SELECT name FROM identity WHERE id {among}", (many,)).fetchall()
        former = self._db.execute(
            f"SELECT value FROM former WHERE item = 'identity.name' AND row_id {among}", (many,)
        ).fetchall()
        names = [row[0] for row in now] + [json.loads(row[0]) for row in former]
        return Whose(tuple(identities), tuple(row[0] for row in samples), tuple(dict.fromkeys(filter(None, names))))

    def merged_into(self, name: str) -> str | None:
        """Return with whom everybody of this name was merged; None where somebody was not, or there is nobody."""
        rows = self._db.execute(
            "SELECT o.name FROM identity i LEFT JOIN identity o ON o.id = i.removed_from WHERE i.name = ?", (name,)
        ).fetchall()
        return None if not rows or any(not row[0] for row in rows) else str(rows[-1][0])

    def called_now(self, name: str) -> str | None:
        """Return what somebody is called who had this name before, if there is one."""
        row = self._db.execute(
            "SELECT i.name FROM former f JOIN identity i ON i.id = f.row_id"
            " WHERE f.item = 'identity.name' AND f.value = ? AND i.name != '' ORDER BY f.event_id DESC LIMIT 1",
            (json.dumps(name),),
        ).fetchone()
        return str(row[0]) if row else None

    def pictures(self, samples: Sequence[int]) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield (digest, picture as kept) of samples."""
        for sample in samples:
            yield self._db.execute("SELECT digest, picture FROM sample WHERE id = ?", (sample,)).fetchone()

    def templates(self, samples: Collection[int]) -> dict[int, list[bytes]]:
        """Return tower -> vectors of samples."""
        rows = self._db.execute(
            f"SELECT tower_id, vector FROM template WHERE sample_id {self._db.among}", (self._db.many(list(samples)),)
        )
        found: dict[int, list[bytes]] = {}
        for tower, vector in rows.fetchall():
            found.setdefault(tower, []).append(bytes(vector))
        return found

    def answers(self) -> list[LoggedVector]:
        """Return all answers on record."""
        rows = self._db.execute("SELECT id, tower_id, threshold, vector FROM answer ORDER BY id").fetchall()
        return [LoggedVector(row[0], row[1], row[2], bytes(row[3])) for row in rows]

    def answers_naming(self, identities: Collection[int]) -> list[int]:
        """Return the answers that name these, or that were said to show them."""
        many = self._db.many(list(identities))
        rows = self._db.execute(
            f"SELECT id FROM answer WHERE identity_id {self._db.among}"
            f" UNION SELECT answer_id FROM correction WHERE identity_id {self._db.among}",
            (many, many),
        )
        return [row[0] for row in rows.fetchall()]

    def answers_of(self, pictures: Collection[bytes]) -> list[int]:
        """Return the answers to probes that are kept as the very same picture."""
        found = []
        for picture in pictures:
            rows = self._db.execute("SELECT id FROM answer WHERE picture = ?", (picture,)).fetchall()
            found += [row[0] for row in rows]
        return found

    def answers_before(self, date: str) -> list[int]:
        """Return the answers that were given before a time (UTC, ISO 8601)."""
        return [row[0] for row in self._db.execute("SELECT id FROM answer WHERE at < ?", (date,)).fetchall()]

    def strangers(self, names: Collection[str], digests: Collection[bytes], identities: Collection[int]) -> list[int]:
        """Return the strangers of these names, with these bytes, or that are one of these identities."""
        found = {
            row[0]
            for name in names
            for row in self._db.execute("SELECT id FROM stranger WHERE name = ?", (name,)).fetchall()
        }
        known = set(digests)
        found |= {row[0] for row in self._db.execute("SELECT id, digest FROM stranger").fetchall() if row[1] in known}
        rows = self._db.execute(
            f"SELECT stranger_id FROM stranger_search WHERE own {self._db.among}", (self._db.many(list(identities)),)
        )
        return sorted(found | {row[0] for row in rows.fetchall()})

    def all_strangers(self, removed: bool = False) -> list[int]:
        """Return all strangers, or those that were removed."""
        where = " WHERE removed IS NOT NULL" if removed else ""
        return [row[0] for row in self._db.execute(f"SELECT id FROM stranger{where}").fetchall()]

    def named(self, strangers: Collection[int]) -> tuple[list[str], set[bytes]]:
        """Return the names and digests of strangers."""
        rows = self._db.execute(
            f"SELECT name, digest FROM stranger WHERE id {self._db.among}", (self._db.many(list(strangers)),)
        ).fetchall()
        return list(dict.fromkeys(row[0] for row in rows)), {bytes(row[1]) for row in rows if row[1] is not None}

    # -- deleting -----------------------------------------------------------------------------------

    def delete_identities(self, whose: Whose) -> list[int]:
        """Delete what identities are known by; of each a number remains. Return the ids of the deleted templates."""
        db, samples, many = self._db, self._db.many(list(whose.samples)), self._db.many(list(whose.identities))
        rows = db.execute(f"SELECT id, tower_id FROM template WHERE sample_id {db.among}", (samples,)).fetchall()
        templates = [row[0] for row in rows]
        db.insert("gone", "event_id, template_id", ((self._event, template) for template in templates))
        db.execute(f"DELETE FROM own_search WHERE template_id {db.among}", (db.many(templates),))
        db.execute(f"DELETE FROM template WHERE sample_id {db.among}", (samples,))
        for tower in {row[1] for row in rows}:
            count = sum(row[1] == tower for row in rows)
            db.execute("UPDATE tally SET templates = templates - ? WHERE tower_id = ?", (count, tower))
        db.execute(f"DELETE FROM sample WHERE id {db.among}", (samples,))
        db.execute(f"DELETE FROM tag WHERE identity_id {db.among}", (many,))
        row = db.execute(f"SELECT count(*) FROM identity WHERE removed IS NULL AND id {db.among}", (many,)).fetchone()
        db.execute("UPDATE setting SET identities = identities - ?", (row[0],))
        db.execute(
            f"UPDATE identity SET name = '', removed = coalesce(removed, ?) WHERE id {db.among}", (self._event, many)
        )
        return templates

    def delete_answers(self, answers: Collection[int]) -> None:
        for table, column in (("correction", "answer_id"), ("answer", "id")):
            self._db.executemany(f"DELETE FROM {table} WHERE {column} = ?", ((answer,) for answer in answers))

    def delete_strangers(self, strangers: Collection[int]) -> None:
        for table, column in (("stranger_search", "stranger_id"), ("stranger", "id")):
            self._db.executemany(f"DELETE FROM {table} WHERE {column} = ?", ((stranger,) for stranger in strangers))

    def delete_pictures(self) -> None:
        """Delete every kept picture, and every answer on record."""
        for statement in ("DELETE FROM correction", "DELETE FROM answer", "UPDATE sample SET picture = NULL"):
            self._db.execute(statement)
        self._db.execute("UPDATE stranger SET picture = NULL")
        self._db.execute("UPDATE setting SET log = ?", (False,))

    def holds_pictures(self) -> bool:
        """Whether there is a picture, or an answer on record."""
        tables = ("sample WHERE picture IS NOT NULL", "stranger WHERE picture IS NOT NULL", "answer")
        return any(self._db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in tables)

    def delete_former(self) -> None:
        """Forget what rows were before: from here on nothing earlier can be undone or asked."""
        self._db.execute("DELETE FROM former")
        self._db.execute("UPDATE setting SET horizon = ?", (self._event,))

    def forget_names(self, names: Collection[str]) -> None:
        """Take names out of the texts that other rows keep: cards and reports of towers, file names."""
        for tower, card, report in self._db.execute("SELECT id, card, report FROM tower").fetchall():
            new = [None if text is None else json.dumps(without(json.loads(text), names)) for text in (card, report)]
            if new != [None if text is None else json.dumps(json.loads(text)) for text in (card, report)]:
                self._db.execute("UPDATE tower SET card = ?, report = ? WHERE id = ?", (*new, tower))
        for name in names:
            self._db.execute("UPDATE tag SET value = ? WHERE value = ?", (PURGED, name))
            self._db.execute("DELETE FROM tag WHERE key = ?", (name,))
        for table, column in (("sample", "source"), ("answer", "probe")):
            for row, text in self._db.execute(f"SELECT id, {column} FROM {table}").fetchall():
                if (new_text := path_without(text, names)) != text:
                    self._db.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (new_text, row))


PURGED = "(purged)"


def without(value: Any, names: Collection[str]) -> Any:
    """Return a JSON value in which these names stand nowhere as a text of their own."""
    if isinstance(value, dict):
        return {PURGED if key in names else key: without(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [without(each, names) for each in value]
    return PURGED if isinstance(value, str) and value in names else value


def path_without(path: str, names: Collection[str]) -> str:
    """Return a path in which none of these names stands, but as a part of a longer word; in any case of its letters."""
    for name in names:
        path = re.sub(rf"(?<![^\W\d_]){re.escape(name)}(?![^\W\d_])", PURGED, path, flags=re.IGNORECASE)
    return path
