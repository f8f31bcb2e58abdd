"""Events: what was changed, and what each row was before. From these two a change is undone, and the past is known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from .database import Database

# What an event can change of a row that was there before, by the name that `former` has for it.
CHANGING = {
    "identity.name": ("identity", "name"),
    "identity.removed": ("identity", "removed"),
    "identity.removed_from": ("identity", "removed_from"),
    "sample.identity_id": ("sample", "identity_id"),
    "stranger.removed": ("stranger", "removed"),
    **{
        f"setting.{column}": ("setting", column)
        for column in ("generation_id", "target_fpir", "fusion", "log", "confidence", "strict", "shift")
    },
}
# Whoever sets a list in it is told of the events that are recorded: of its own, whoever else writes meanwhile.
MADE: ContextVar[list[int] | None] = ContextVar("MADE", default=None)
TAG, CORRECTION, TOWER = "tag", "correction", "tower"  # these have their own ways
CREATED = (  # what an event adds: table, and the column that says by which event
    ("identity", "enrolled"),
    ("sample", "enrolled"),
    ("stranger", "added"),
    ("tower", "added"),
)


@dataclass(frozen=True, slots=True)
class EventRow:
    """One change of a gallery."""

    id: int
    verb: str
    detail: dict[str, Any]
    at: str  # UTC time, for people; order comes from ids


@dataclass(frozen=True, slots=True)
class Former:
    """What something was before an event changed it."""

    item: str  # a key of CHANGING, TAG, CORRECTION or TOWER
    row: int
    key: str  # of a tag
    value: Any


class Events:
    """Every statement that reads or writes them."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._event: int | None = None

    def begin(self) -> None:
        """Forget the event of the transaction before."""
        self._event = None

    @property
    def current(self) -> int:
        """The event of this transaction. Whoever changes something has recorded one before."""
        if self._event is None:
            raise RuntimeError("a change without an event")
        return self._event

    def record(self, verb: str, detail: Mapping[str, Any]) -> int:
        """Add the event of this transaction; return its id, the new revision."""
        row = self._db.execute(
            "INSERT INTO event (verb, detail) VALUES (?, ?) RETURNING id", (verb, json.dumps(detail))
        ).fetchone()
        self._event = int(row[0])
        if (made := MADE.get()) is not None:
            made.append(self._event)
        return self._event

    def change(self, item: str, new: Mapping[int, Any]) -> None:
        """Give rows (by id) new values of an `item` of CHANGING, and keep what they were."""
        table, column = CHANGING[item]
        rows = self._db.execute(f"SELECT id, {column} FROM {table} WHERE id {self._db.among}", (self._db.many(new),))
        old = {row: value for row, value in rows.fetchall() if value != new[row]}
        self.keep((Former(item, row, "", value) for row, value in old.items()))
        self._db.executemany(f"UPDATE {table} SET {column} = ? WHERE id = ?", ((new[row], row) for row in old))

    def keep(self, former: Iterable[Former]) -> None:
        """Keep what was, unless this event has changed it before."""
        self._db.executemany(
            "INSERT INTO former (event_id, item, row_id, key, value) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            ((self.current, each.item, each.row, each.key, json.dumps(each.value)) for each in former),
        )

    # -- what was ---------------------------------------------------------------------------------

    def all(self, limit: int | None = None) -> list[EventRow]:
        """Return events, the newest first."""
        rows = self._db.execute(
            "SELECT id, verb, detail, at FROM event ORDER BY id DESC LIMIT ?", (1 << 60 if limit is None else limit,)
        )
        return [EventRow(row[0], row[1], json.loads(row[2]), row[3]) for row in rows.fetchall()]

    def former(self, event: int) -> list[Former]:
        """Return what an event changed, as it was before."""
        rows = self._db.execute("SELECT item, row_id, key, value FROM former WHERE event_id = ?", (event,))
        return [Former(row[0], row[1], row[2], json.loads(row[3])) for row in rows.fetchall()]

    def later(self, event: int) -> list[tuple[int, Former]]:
        """Return what the events after `event` changed, as it was before, the newest first."""
        rows = self._db.execute(
            "SELECT event_id, item, row_id, key, value FROM former WHERE event_id > ? ORDER BY event_id DESC", (event,)
        )
        return [(row[0], Former(row[1], row[2], row[3], json.loads(row[4]))) for row in rows.fetchall()]

    def created(self, event: int) -> dict[str, list[int]]:
        """Return table -> ids of what an event added."""
        return {
            table: [r[0] for r in self._db.execute(f"SELECT id FROM {table} WHERE {column} = ? ORDER BY id", (event,))]
            for table, column in CREATED
        }

    def with_effect(self) -> set[int]:
        """Return the events that changed something which can be undone."""
        sources = [f"SELECT {column} FROM {table}" for table, column in CREATED] + ["SELECT event_id FROM former"]
        return {row[0] for row in self._db.execute(" UNION ".join(sources)).fetchall()}

    def names_at(self, events: Sequence[int]) -> dict[int, list[str]]:
        """Return event -> whom it concerned, as they were called after it; a stranger who was given is one, too.

        A renaming has the old name first. Who was purged has no name.
        """
        many, wanted = self._db.many(events), set(events)
        whom: dict[int, dict[int, None]] = {event: {} for event in events}
        for event, identity in self._db.execute(
            f"SELECT DISTINCT enrolled, identity_id FROM sample WHERE enrolled {self._db.among}", (many,)
        ).fetchall():
            whom[event][identity] = None
        strangers = dict(self._db.execute("SELECT id, name FROM stranger WHERE source = 'given'").fetchall())
        taken_out: dict[int, dict[str, None]] = {}
        renamings: dict[int, list[tuple[int, str]]] = {}
        rows = self._db.execute("SELECT event_id, item, row_id, value FROM former ORDER BY event_id").fetchall()
        for event, item, row, value in rows:
            if item == "identity.name":
                renamings.setdefault(row, []).append((event, json.loads(value)))
            if event in wanted and item == "stranger.removed" and row in strangers:
                taken_out.setdefault(event, {})[strangers[row]] = None
            elif event in wanted and item.split(".")[0] in ("identity", TAG):
                whom[event][row] = None
            elif event in wanted and item == "sample.identity_id":
                whom[event][json.loads(value)] = None
        for event, detail in self._db.execute(f"SELECT id, detail FROM event WHERE id {self._db.among}", (many,)):
            told = json.loads(detail)
            whom[event] |= dict.fromkeys(told[key] for key in ("identity", "into") if isinstance(told.get(key), int))
        rows = self._db.execute("SELECT id, name, removed_from FROM identity").fetchall()
        names, from_whom = (
            {row[0]: row[1] for row in rows},
            {row[0]: row[2] for row in rows if row[2] is not None and not row[1]},
        )
        found: dict[int, list[str]] = {}
        for event, identities in whom.items():
            called = []
            for identity in dict.fromkeys(from_whom.get(i, i) for i in identities):
                later = [name for at, name in renamings.get(identity, ()) if at > event]
                called += [name for at, name in renamings.get(identity, ()) if at == event]
                called.append(later[0] if later else names.get(identity, ""))
            found[event] = list(dict.fromkeys(filter(None, called)))
        for event, name in self._db.execute(
            f"SELECT DISTINCT added, name FROM stranger WHERE source = 'given' AND added {self._db.among}", (many,)
        ).fetchall():
            taken_out.setdefault(event, {})[name] = None
        for event, called_so in taken_out.items():
            found[event] += called_so
        return found

    def horizon(self) -> int:
        """Return the revision before which nothing can be undone or asked: the last purge, or an older program's."""
        return int(self._db.execute("SELECT horizon FROM setting").fetchone()[0])

    def gone_since(self, revision: int) -> list[int]:
        """Return templates that are no more, or have other ids, since a revision."""
        rows = self._db.execute("SELECT template_id FROM gone WHERE event_id > ?", (revision,))
        return [row[0] for row in rows.fetchall()]
