"""Answers on record, kept when the user wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

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


@dataclass(frozen=True, slots=True)
class NewAnswer:
    """An answer on its way into the log."""

    revision: int
    tower: str  # id of the one that embedded
    probe: str
    verdict: str
    sample: int | None  # the identity is that of this sample; None where nobody is named
    distance: float | None
    threshold: float | None
    vector: bytes  # float32
    picture: bytes | None


class AnswerLog:
    """Every statement that reads or changes it."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, answers: Sequence[NewAnswer]) -> None:
        """Log answers."""
        self._db.executemany(
            "INSERT INTO answer (revision, tower_id, probe, verdict, identity_id, distance, threshold, vector, picture)"
            " VALUES (?, (SELECT id FROM tower WHERE sha256 = ?), ?, ?, (SELECT identity_id FROM sample WHERE id = ?),"
            " ?, ?, ?, ?)",
            (astuple(answer) for answer in answers),
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
