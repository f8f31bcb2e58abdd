"""Answers on record, kept when the user wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .database import Database
from .event_rows import CORRECTION, Events, Former

_COLUMNS = "a.id, a.at, a.revision, a.tower_id, a.probe, a.verdict, i.name, a.distance, a.threshold"
_NAMED = "answer a LEFT JOIN identity i ON i.id = a.identity_id"


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


class NewAnswer(NamedTuple):
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

    def __init__(self, database: Database, events: Events) -> None:
        self._db, self._events = database, events

    def add(self, answers: Sequence[NewAnswer]) -> list[int]:
        """Log answers; return their ids."""
        insert = (
            "INSERT INTO answer (revision, tower_id, probe, verdict, identity_id, distance, threshold, vector, picture)"
            " VALUES (?, (SELECT id FROM tower WHERE sha256 = ?), ?, ?, (SELECT identity_id FROM sample WHERE id = ?),"
            " ?, ?, ?, ?) RETURNING id"
        )
        return [int(self._db.execute(insert, answer).fetchone()[0]) for answer in answers]

    def some(self, answers: Sequence[int]) -> dict[int, Answer]:
        """Return answers by their ids, of those that are there."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS}, a.vector, a.picture FROM {_NAMED} WHERE a.id {self._db.among}",
            (self._db.many(answers),),
        ).fetchall()
        return {row[0]: Answer(*row) for row in rows}

    def unknown(self, tower: int) -> list[Answer]:
        """Return the answers of a tower that named nobody and were not corrected, without their pictures."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS}, a.vector, NULL FROM {_NAMED} WHERE a.tower_id = ? AND a.verdict = 'unknown'"
            " AND a.id NOT IN (SELECT answer_id FROM correction) ORDER BY a.id",
            (tower,),
        ).fetchall()
        return [Answer(*row) for row in rows]

    def open_count(self) -> int:
        """Count the answers of any tower that named nobody and were not corrected."""
        row = self._db.execute(
            "SELECT count(*) FROM answer WHERE verdict = 'unknown' AND id NOT IN (SELECT answer_id FROM correction)"
        ).fetchone()
        return int(row[0])

    def listed(self, limit: int) -> list[Answer]:
        """Return the last answers, the newest first, without vectors and pictures."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS}, NULL, NULL FROM {_NAMED} ORDER BY a.id DESC LIMIT ?", (limit,)
        ).fetchall()
        return [Answer(*row) for row in rows]

    def picture(self, answer: int) -> bytes | None:
        """Return the picture of an answer, as it was kept."""
        row = self._db.execute("SELECT picture FROM answer WHERE id = ?", (answer,)).fetchone()
        return row[0] if row else None

    def all(self) -> list[Answer]:
        rows = self._db.execute(f"SELECT {_COLUMNS}, a.vector, a.picture FROM {_NAMED} ORDER BY a.id")
        return [Answer(*row) for row in rows]

    def set_corrections(self, truths: Mapping[int, tuple[str, int | None] | None]) -> None:
        """Note what answers (by id) should have been: ("identity", whose), ("stranger", None), or nothing."""
        there = f"SELECT id FROM answer WHERE id {self._db.among}"  # the log may have been cleared since
        known = {row[0] for row in self._db.execute(there, (self._db.many(list(truths)),)).fetchall()}
        truths = {answer: truth for answer, truth in truths.items() if answer in known}
        if not truths:
            return
        found = f"SELECT answer_id, truth, identity_id FROM correction WHERE answer_id {self._db.among}"
        rows = self._db.execute(found, (self._db.many(list(truths)),)).fetchall()
        old = {row[0]: [row[1], row[2]] for row in rows}
        self._events.keep(Former(CORRECTION, answer, "", old.get(answer)) for answer in truths)
        self._db.executemany("DELETE FROM correction WHERE answer_id = ?", ((answer,) for answer in old))
        self._db.executemany(
            "INSERT INTO correction (answer_id, truth, identity_id) VALUES (?, ?, ?)",
            ((answer, *truth) for answer, truth in truths.items() if truth is not None),
        )

    def corrections(self) -> dict[int, tuple[str, int | None]]:
        """Return answer id -> what it should have been."""
        rows = self._db.execute("SELECT answer_id, truth, identity_id FROM correction").fetchall()
        return {row[0]: (row[1], row[2]) for row in rows}

    def count(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM answer").fetchone()[0])

    def clear(self) -> None:
        self._db.execute("DELETE FROM correction")
        self._db.execute("DELETE FROM answer")
