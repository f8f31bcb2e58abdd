"""What was taken out of use, and stays in the file until it is purged.

A removed sample belongs to an identity that was never enrolled, has no name, and says from whom it was removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .database import Database

_OWNER = "JOIN identity h ON h.id = s.identity_id JOIN identity o ON o.id = h.removed_from"


class Owner(NamedTuple):
    """Whose a removed sample was."""

    identity: int
    name: str
    enrolled: bool


class RemovedSample(NamedTuple):
    """A sample that was removed alone."""

    id: int
    identity: str  # whose it was
    source: str
    kept: bool
    enrolled: str  # UTC time


class RemovedIdentity(NamedTuple):
    """An identity that was removed, with its samples."""

    id: int
    name: str
    samples: int
    removed: str  # UTC time


class Removed:
    """Every statement that reads or changes it."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def holder(self, event: int, owner: int) -> int:
        """Return the identity that holds what was removed of `owner`, who has one from now on."""
        row = self._db.execute("SELECT id FROM identity WHERE removed_from = ?", (owner,)).fetchone()
        if row:
            return int(row[0])
        identity = self._db.reserve("identity", 1)
        self._db.execute(
            "INSERT INTO identity (id, name, enrolled, removed, removed_from) VALUES (?, '', ?, ?, ?)",
            (identity, event, event, owner),
        )
        return identity

    def owners(self, samples: Sequence[int]) -> dict[int, Owner]:
        """Return whose these samples were, of those that were removed alone."""
        rows = self._db.execute(
            f"SELECT s.id, o.id, o.name, o.removed IS NULL FROM sample s {_OWNER} WHERE s.id {self._db.among}",
            (self._db.many(samples),),
        )
        return {row[0]: Owner(row[1], row[2], bool(row[3])) for row in rows.fetchall()}

    def samples(self) -> list[RemovedSample]:
        """Return the samples that were removed alone, by id."""
        rows = self._db.execute(
            f"SELECT s.id, o.name, s.source, s.picture IS NOT NULL, e.at FROM sample s {_OWNER}"
            " JOIN event e ON e.id = s.enrolled ORDER BY s.id"
        )
        return [RemovedSample(r[0], r[1], r[2], bool(r[3]), r[4]) for r in rows.fetchall()]

    def identities(self) -> list[RemovedIdentity]:
        """Return the identities that were removed with their samples, the last removed first."""
        rows = self._db.execute(
            "SELECT i.id, i.name, count(s.id), e.at FROM identity i JOIN sample s ON s.identity_id = i.id"
            " JOIN event e ON e.id = i.removed WHERE i.removed IS NOT NULL AND i.removed_from IS NULL"
            " GROUP BY i.id, i.name, i.removed, e.at ORDER BY i.removed DESC, i.id DESC"
        )
        return [RemovedIdentity(*row) for row in rows.fetchall()]

    def identity(self, name: str) -> int | None:
        """Return the identity of this name that was removed last, with samples."""
        return next((row.id for row in self.identities() if row.name == name), None)
