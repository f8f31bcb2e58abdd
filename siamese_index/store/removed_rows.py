"""What was taken out of use, and stays in the file until it is purged.

A removed sample belongs to an identity that was never enrolled, has no name, and says from whom it was removed. So does
an identity that was merged with another, of that one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from .database import Database


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
        row = self._db.execute("SELECT id FROM identity WHERE removed_from = ? AND name = ''", (owner,)).fetchone()
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
            "SELECT s.id, h.removed_from FROM sample s JOIN identity h ON h.id = s.identity_id"
            f" WHERE h.removed_from IS NOT NULL AND s.id {self._db.among}",
            (self._db.many(samples),),
        ).fetchall()
        whose = {owner: self._whose(owner) for owner in {row[1] for row in rows}}
        return {row[0]: whose[row[1]] for row in rows}

    def _whose(self, identity: int) -> Owner:
        """Return an identity, or whom it was merged into."""
        while True:
            row = self._db.execute(
                "SELECT id, name, removed IS NULL, removed_from FROM identity WHERE id = ?", (identity,)
            ).fetchone()
            if row[3] is None:
                return Owner(row[0], row[1], bool(row[2]))
            identity = row[3]

    def belonging(self, identities: Collection[int]) -> list[int]:
        """Return these identities, and those that hold what was removed of them or were merged into them."""
        found, new = set(identities), set(identities)
        while new:
            rows = self._db.execute(
                f"SELECT id FROM identity WHERE removed_from {self._db.among}", (self._db.many(sorted(new)),)
            )
            new = {row[0] for row in rows.fetchall()} - found
            found |= new
        return sorted(found)

    def samples(self) -> list[RemovedSample]:
        """Return the samples that were removed alone, by id."""
        rows = self._db.execute(
            "SELECT s.id, h.removed_from, s.source, s.picture IS NOT NULL, e.at FROM sample s"
            " JOIN identity h ON h.id = s.identity_id JOIN event e ON e.id = s.enrolled"
            " WHERE h.removed_from IS NOT NULL ORDER BY s.id"
        ).fetchall()
        whose = {owner: self._whose(owner).name for owner in {row[1] for row in rows}}
        return [RemovedSample(r[0], whose[r[1]], r[2], bool(r[3]), r[4]) for r in rows]

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
