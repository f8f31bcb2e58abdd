"""Towers and generations: every statement that reads or changes them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import Damaged
from siamese_index.towers.card import LONGEST, Card

from .database import Database
from .event_rows import TOWER, Events, Former
from .rows import TowerRow


@dataclass(frozen=True)
class NewTower:
    """A tower on its way into a gallery; without a network it is an embedder outside."""

    sha256: str
    card: Card
    false_matches: NDArray[np.float32] = field(default_factory=lambda: np.zeros((2, 0), np.float32))
    onnx: bytes | None = None
    keras: bytes | None = None
    detector: bytes | None = None
    report: dict[str, Any] | None = None  # the comparison with the tower that was active when this one was made


class Towers:
    """The towers of a gallery, and the generations that they were active in."""

    def __init__(self, database: Database, events: Events) -> None:
        self._db, self._events = database, events

    def all(self) -> list[TowerRow]:
        rows = self._db.execute(
            "SELECT id, sha256, dimension, card, report, onnx IS NOT NULL FROM tower"
            " JOIN tally ON tower_id = id WHERE removed IS NULL ORDER BY id"
        ).fetchall()
        return [self._row(row) for row in rows]

    def row(self, tower: int) -> TowerRow:
        row = self._db.execute(
            "SELECT id, sha256, dimension, card, report, onnx IS NOT NULL FROM tower WHERE id = ?", (tower,)
        ).fetchone()
        return self._row(row)

    def _row(self, row: Any) -> TowerRow:
        try:
            content = json.loads(row[3])
            card = Card.parse(content) if row[5] else Card.of_vectors(row[2])
            report = json.loads(row[4]) if row[4] else None
            if not isinstance(report, dict | None):
                raise TypeError("its report is no object")
        except (ValueError, TypeError, RecursionError) as error:  # no card, or nothing where a page was lost
            raise Damaged(f"{self._db.path}: the card of a tower is damaged.", f"{error}.") from None
        if not 0 < row[2] <= LONGEST or not re.fullmatch("[0-9a-z-]{1,80}", row[1]):
            raise Damaged(f"{self._db.path}: the card of a tower is damaged.", f"{row[2]} numbers, {row[1][:64]!r}.")
        return TowerRow(row[0], row[1], row[2], card, report, bool(row[5]))

    def last_added(self) -> int:
        """Return the event that brought the last tower."""
        return int(self._db.execute("SELECT max(added) FROM tower").fetchone()[0] or 0)

    def removed(self) -> dict[str, int]:
        """Return id -> row id of the towers whose coming was undone."""
        rows = self._db.execute("SELECT sha256, id FROM tower JOIN tally ON tower_id = id WHERE removed IS NOT NULL")
        return dict(rows.fetchall())

    def set_removed(self, towers: Sequence[int], event: int | None) -> None:
        """Take towers out of every list, or bring them back."""
        marked = f"UPDATE tally SET removed = ? WHERE tower_id {self._db.among}"
        rows = self._db.execute(
            f"SELECT tower_id, removed FROM tally WHERE tower_id {self._db.among}", (self._db.many(towers),)
        )
        self._events.keep([Former(TOWER, row[0], "", row[1]) for row in rows.fetchall()])
        self._db.execute(marked, (event, self._db.many(towers)))

    def network(self, tower: int) -> tuple[bytes, bytes | None, bytes | None]:
        """Return (ONNX graph, detector, Keras model) of a tower."""
        row: tuple[bytes, bytes | None, bytes | None] = self._db.execute(
            "SELECT onnx, detector, keras FROM tower WHERE id = ?", (tower,)
        ).fetchone()
        return row

    def served(self, tower: int) -> tuple[bytes, bytes | None]:
        """Return (ONNX graph, detector) of a tower: what it answers with."""
        row: tuple[bytes, bytes | None] = self._db.execute(
            "SELECT onnx, detector FROM tower WHERE id = ?", (tower,)
        ).fetchone()
        return row

    def add(self, event: int, tower: NewTower) -> int:
        """Store a tower; return its row id."""
        row = self._db.execute(
            "INSERT INTO tower (sha256, dimension, added, report, card, false_matches, onnx, keras, detector)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (
                tower.sha256,
                tower.card.dimension,
                event,
                json.dumps(tower.report) if tower.report else None,
                json.dumps(tower.card.to_dict() if tower.onnx else {}),
                tower.false_matches.tobytes(),
                tower.onnx,
                tower.keras,
                tower.detector,
            ),
        ).fetchone()
        self._db.execute("INSERT INTO tally (tower_id, templates) VALUES (?, 0)", (row[0],))
        return int(row[0])

    def false_matches(self, tower: int) -> NDArray[np.float32]:
        """Return `statistics.false_match_table` of this tower's strangers: (2, p)."""
        blob = self._db.execute("SELECT false_matches FROM tower WHERE id = ?", (tower,)).fetchone()[0]
        table = np.frombuffer(blob, np.float32).reshape(2, -1)
        if not np.all(np.isfinite(table)) or np.any(table[1] <= 0):
            raise Damaged(f"{self._db.path}: the distances of a tower's strangers are damaged.")
        return table

    def set_false_matches(self, tower: int, table: NDArray[np.float32]) -> None:
        """Record `statistics.false_match_table` of this tower's strangers. It lies in a large row: seldom."""
        self._db.execute("UPDATE tower SET false_matches = ? WHERE id = ?", (table.tobytes(), tower))

    def set_comparisons(self, tower: int, doubt: NDArray[np.float32], mated: NDArray[np.float32]) -> None:
        """Record the standard errors (p,) of the shares of false matches, and mated distances (m,) of strangers."""
        self._db.execute(
            "UPDATE tally SET doubt = ?, mated = ? WHERE tower_id = ?", (doubt.tobytes(), mated.tobytes(), tower)
        )

    def doubt(self, tower: int) -> NDArray[np.float32] | None:
        """Return the standard errors (p,) of the shares of false matches; None in a gallery of an older program."""
        blob = self._db.execute("SELECT doubt FROM tally WHERE tower_id = ?", (tower,)).fetchone()[0]
        return None if blob is None else np.frombuffer(blob, np.float32)

    def mated(self, tower: int) -> NDArray[np.float64]:
        """Return distances (m,) between two samples of the same stranger."""
        row = self._db.execute("SELECT mated FROM tally WHERE tower_id = ?", (tower,)).fetchone()
        return np.frombuffer(row[0] if row and row[0] else b"", np.float32).astype(np.float64)

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
        self._events.change("setting.generation_id", {1: generation})
