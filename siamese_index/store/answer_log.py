"""Answers on record, kept when the user wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from siamese_index.thresholds.decision import Decision

    from .database import Database


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as the log keeps it."""

    id: int
    at: str
    revision: int
    tower: int  # row id
    probe: str
    verdict: str
    identity: str | None
    distance: float | None
    threshold: float | None
    vector: bytes  # float32
    picture: bytes | None


class AnswerLog:
    """Every statement that reads or changes it."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, tower: int, rows: Sequence[tuple[Decision, bytes, bytes | None]]) -> None:
        """Log answers of a tower, each with its probe's vector and, if kept, picture."""
        names = {d.identity for d, _, _ in rows if d.identity is not None}
        found = self._db.execute(
            f"SELECT name, id FROM identity WHERE removed IS NULL AND name {self._db.among}", (self._db.many(names),)
        )
        known = dict(found.fetchall())
        self._db.executemany(
            "INSERT INTO answer (revision, tower_id, probe, verdict, identity_id, distance, threshold, vector, picture)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (d.revision, tower, d.probe, d.verdict, known.get(d.identity or ""), d.distance, d.threshold, v, p)
                for d, v, p in rows
            ),
        )

    def all(self) -> list[Answer]:
        rows = self._db.execute(
            "SELECT a.id, a.at, a.revision, a.tower_id, a.probe, a.verdict, i.name, a.distance, a.threshold, a.vector,"
            " a.picture FROM answer a LEFT JOIN identity i ON i.id = a.identity_id ORDER BY a.id"
        )
        return [Answer(*row) for row in rows]

    def count(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM answer").fetchone()[0])

    def clear(self) -> None:
        self._db.execute("DELETE FROM answer")
