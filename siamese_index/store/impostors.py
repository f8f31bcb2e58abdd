"""The searches that thresholds are learned from: of strangers, and of the gallery's own templates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.store.rows import NewSample
from siamese_index.vectors import Vectors

from . import columns

if TYPE_CHECKING:
    from .database import Database
    from .event_rows import Events


ENOUGH_MATES = 10  # mated searches


@dataclass(frozen=True)
class StrangerRows:
    """Stranger searches of one tower, as columns."""

    ids: NDArray[np.int64]
    names: tuple[str, ...]
    digests: tuple[bytes, ...]
    sources: tuple[str, ...]
    vectors: Vectors
    own: NDArray[np.int64]  # identity id, -1 for none
    nearest: NDArray[np.int64]  # identity id, -1 for none
    distances: NDArray[np.float64]  # fused, to the nearest; inf while nobody else is enrolled


@dataclass(frozen=True)
class OwnRows:
    """Searches by the gallery's own templates, each among the others, as columns."""

    ids: NDArray[np.int64]  # template ids
    own: NDArray[np.int64]  # whose they are: identity id
    vectors: Vectors
    nearest: NDArray[np.int64]  # nearest other identity, -1 for none
    distances: NDArray[np.float64]  # fused, to it; inf for none
    mates: NDArray[np.float64]  # fused, to the other templates of its own identity; NaN when there are none


@dataclass(frozen=True)
class SearchRows:
    """What thresholds are learned from: distances of non-mated and of mated searches, without their vectors."""

    distances: NDArray[np.float64]  # (n,) to the nearest other identity
    names: tuple[str, ...]  # whose each search was: a stranger's name, `enrolled(identity)` of those who are enrolled
    sources: tuple[str, ...]  # "given", "tower", or "gallery": its own
    mates: NDArray[np.float64]  # (n,) to the own identity; NaN for strangers and for single templates
    own: NDArray[np.int64]  # (n,) the identity that searches; -1 for strangers
    nearest: NDArray[np.int64]  # (n,) the nearest other identity
    ids: NDArray[np.int64]  # (n,) of the stranger's sample, or of the gallery's template
    cohort: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))  # mated distances of the strangers
    measured: NDArray[np.float64] | None = None  # (n,) where `distances` moved: what they were

    @property
    def lacks_mates(self) -> bool:
        """Whether the gallery's own mated searches are too few to know what is usual."""
        return int(np.sum(~np.isnan(self.mates))) < ENOUGH_MATES

    @property
    def genuine(self) -> NDArray[np.float64]:
        """Mated distances: the gallery's own where it has enough, else its strangers'."""
        return self.cohort if self.lacks_mates else self.mates[~np.isnan(self.mates)]

    def mated_searches(self) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
        """Return mated searches: distances to the own identity, to the nearest other (both (m,)), and whose they are.

        The gallery's own. Where it has too few, those that its strangers' mated distances and the gallery's
        nearest others make, each with each: as if the one said nothing of the other.
        """
        own = ~np.isnan(self.mates)
        if not self.lacks_mates or not len(self.cohort) or not len(self.distances):
            whose = tuple(name for name, mated in zip(self.names, own.tolist(), strict=True) if mated)
            return self.mates[own], self.distances[own], whose
        others = self.distances[np.asarray(self.sources) == "gallery"]
        others = np.sort(others if len(others) else self.distances)
        mates, others = (
            x[np.linspace(0, len(x) - 1, min(len(x), 128)).astype(np.int64)] for x in (self.cohort, others)
        )
        whose = tuple(f"mated {i}" for i in range(len(mates)) for _ in others)
        return np.repeat(mates, len(others)), np.tile(others, len(mates)), whose

    def part(self, chosen: NDArray[np.bool_]) -> SearchRows:
        """Return the searches that are `chosen` (n,)."""
        at = np.flatnonzero(chosen)
        if len(at) == len(self.distances):
            return self
        return SearchRows(
            self.distances[at],
            tuple(self.names[i] for i in at.tolist()),
            tuple(self.sources[i] for i in at.tolist()),
            self.mates[at],
            self.own[at],
            self.nearest[at],
            self.ids[at],
            self.cohort,
            None if self.measured is None else self.measured[at],
        )

    def moved(self, by: NDArray[np.float64], cohort: NDArray[np.float64]) -> SearchRows:
        """Return the searches with distances that are less by so much (n,), and with another cohort."""
        return replace(
            self, distances=self.distances - by, mates=self.mates - by, cohort=cohort, measured=self.distances
        )

    @property
    def told(self) -> NDArray[np.float64]:
        """The distances (n,) that a person is told: between the templates."""
        return self.distances if self.measured is None else self.measured

    def pairs(self) -> NDArray[np.int64]:
        """Return a number for each search (n,): the same for all between the same two, whoever of them searches."""
        numbers: dict[tuple[str, str], int] = {}
        keys = (sorted((a, enrolled(b))) for a, b in zip(self.names, self.nearest.tolist(), strict=True))
        return np.fromiter((numbers.setdefault((a, b), len(numbers)) for a, b in keys), np.int64, len(self.names))

    def distinct(self) -> NDArray[np.bool_]:
        """Return which searches (n,) say something new.

        Of two templates that are each other's nearest only one does; of strangers at the very same distance from the
        same identity, copies under several names, too.
        """
        own = np.asarray(self.sources) == "gallery"
        one = np.where(own, np.minimum(self.own, self.nearest), -1)
        other = np.where(own, np.maximum(self.own, self.nearest), self.nearest)
        order = np.lexsort((self.own, self.told, other, one))  # stable: the first of equal strangers stays first
        new = np.ones(len(order), bool)
        again = np.ones(max(0, len(order) - 1), bool)
        for column in (one, other, self.told):
            again &= column[order][1:] == column[order][:-1]
        new[order[1:][again]] = False
        return new


class Impostors:
    """Every statement that reads or changes them."""

    def __init__(self, database: Database, events: Events) -> None:
        self._db, self._events = database, events

    def add_strangers(self, event: int, source: str, samples: Sequence[NewSample]) -> NDArray[np.int64]:
        """Insert strangers; return their ids."""
        at = self._db.reserve("stranger", len(samples))
        self._db.insert(
            "stranger",
            "id, source, name, digest, added, picture",
            ((at + i, source, s.name, s.digest, event, s.kept) for i, s in enumerate(samples)),
        )
        return np.arange(at, at + len(samples))

    def digests(self, tower: int) -> dict[bytes, int | None]:
        """Return digest -> id of a stranger who was removed, None of one who counts."""
        rows = self._db.execute(
            "SELECT digest, CASE WHEN removed IS NULL THEN NULL ELSE id END FROM stranger"
            " JOIN stranger_search ON stranger_id = id WHERE tower_id = ?",
            (tower,),
        )
        return {row[0]: row[1] for row in rows}

    def named(self, tower: int, name: str) -> list[int]:
        """Return the ids of a stranger's samples, removed ones too."""
        rows = self._db.execute(
            "SELECT id FROM stranger JOIN stranger_search ON stranger_id = id WHERE tower_id = ? AND name = ?",
            (tower, name),
        )
        return [row[0] for row in rows]

    def given(self, strangers: Sequence[int]) -> list[int]:
        """Return those of these strangers that somebody gave: a tower's come and go with it."""
        rows = self._db.execute(
            f"SELECT id FROM stranger WHERE source = 'given' AND id {self._db.among}", (self._db.many(strangers),)
        )
        return [row[0] for row in rows.fetchall()]

    def set_removed(self, strangers: Sequence[int], event: int | None) -> None:
        """Take strangers out of every search as of an event, or bring them back."""
        self._events.change("stranger.removed", dict.fromkeys(strangers, event))

    def listed(self, tower: int) -> list[tuple[Any, ...]]:
        """Return (id, name, source, added, kept, removed, own, nearest, distance) of every stranger."""
        rows: list[tuple[Any, ...]] = self._db.execute(
            "SELECT s.id, s.name, s.source, e.at, s.picture IS NOT NULL, s.removed IS NOT NULL, r.own, r.nearest,"
            " r.distance FROM stranger s JOIN stranger_search r ON r.stranger_id = s.id JOIN event e ON e.id = s.added"
            " WHERE r.tower_id = ? ORDER BY s.name, s.id",
            (tower,),
        ).fetchall()
        return rows

    def picture(self, stranger: int) -> bytes | None:
        """Return a stranger's picture as it was kept."""
        row = self._db.execute("SELECT picture FROM stranger WHERE id = ?", (stranger,)).fetchone()
        return row[0] if row else None

    def to_embed(self, tower: int) -> list[tuple[int, bytes, bytes]]:
        """Return (id, picture, digest) of strangers that the user gave and this tower has not embedded."""
        rows: list[tuple[int, bytes, bytes]] = self._db.execute(
            "SELECT id, picture, digest FROM stranger WHERE picture IS NOT NULL AND NOT EXISTS"
            " (SELECT 1 FROM stranger_search WHERE stranger_id = id AND tower_id = ?) ORDER BY id",
            (tower,),
        ).fetchall()
        return rows

    def add(self, tower: int, strangers: Iterable[int], vectors: Vectors) -> None:
        self._db.insert(
            "stranger_search",
            "stranger_id, tower_id, vector",
            ((int(s), tower, vector.tobytes()) for s, vector in zip(strangers, vectors, strict=True)),
        )

    def strangers(self, tower: int, dimension: int) -> StrangerRows:
        rows = self._db.execute(
            "SELECT id, name, digest, source, vector, own, nearest, distance FROM stranger_search JOIN stranger"
            " ON id = stranger_id WHERE tower_id = ? AND removed IS NULL ORDER BY id",
            (tower,),
        ).fetchall()
        return StrangerRows(
            np.array([r[0] for r in rows], np.int64),
            tuple(r[1] for r in rows),
            tuple(r[2] for r in rows),
            tuple(r[3] for r in rows),
            columns.matrix([r[4] for r in rows], dimension, self._db.path),
            columns.ids(rows, 5),
            columns.ids(rows, 6),
            columns.numbers(rows, 7, np.inf),
        )

    def own(self, tower: int, dimension: int) -> OwnRows:
        rows = self._db.execute(
            "SELECT template_id, identity_id, nearest, distance, mate FROM own_search"
            " WHERE tower_id = ? ORDER BY template_id",
            (tower,),
        ).fetchall()
        templates = columns.ids(rows, 0)
        there = dict(
            self._db.execute(
                f"SELECT id, vector FROM template WHERE id {self._db.among}", (self._db.many(templates.tolist()),)
            ).fetchall()
        )
        rows = [row for row in rows if row[0] in there]  # of a damaged gallery some are lost: `doctor` says so
        templates = columns.ids(rows, 0)
        return OwnRows(
            templates,
            columns.ids(rows, 1),
            columns.matrix([there[r[0]] for r in rows], dimension, self._db.path),
            columns.ids(rows, 2),
            columns.numbers(rows, 3, np.inf),
            columns.numbers(rows, 4, np.nan),
        )

    def all(self, tower: int) -> SearchRows:
        """Return all searches that met somebody."""
        rows = self._db.execute(
            "SELECT distance, own, name, source, NULL, nearest, id"
            " FROM stranger_search JOIN stranger ON id = stranger_id"
            " WHERE tower_id = ? AND distance IS NOT NULL AND removed IS NULL"
            " UNION ALL SELECT distance, identity_id, NULL, 'gallery', mate, nearest, template_id FROM own_search"
            " WHERE tower_id = ? AND distance IS NOT NULL",
            (tower, tower),
        ).fetchall()
        return SearchRows(
            columns.numbers(rows, 0, np.inf),
            tuple(r[2] if r[1] is None else enrolled(r[1]) for r in rows),
            tuple(r[3] for r in rows),
            columns.numbers(rows, 4, np.nan),
            columns.ids(rows, 1),
            columns.ids(rows, 5),
            columns.ids(rows, 6),
        )

    def set_own(self, tower: int, rows: OwnRows) -> None:
        """Record own searches."""
        self._db.executemany(
            "INSERT INTO own_search (template_id, tower_id, identity_id, nearest, distance, mate)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (template_id) DO UPDATE SET nearest = excluded.nearest,"
            " distance = excluded.distance, mate = excluded.mate",
            (
                (t, tower, o, n if n >= 0 else None, d if n >= 0 else None, None if m != m else m)
                for t, o, n, d, m in zip(
                    rows.ids.tolist(),
                    rows.own.tolist(),
                    rows.nearest.tolist(),
                    rows.distances.tolist(),
                    rows.mates.tolist(),
                    strict=True,
                )
            ),
        )

    def own_count(self, tower: int) -> int:
        return int(self._db.execute("SELECT count(*) FROM own_search WHERE tower_id = ?", (tower,)).fetchone()[0])

    def drop_all_own(self, tower: int) -> None:
        self._db.execute("DELETE FROM own_search WHERE tower_id = ?", (tower,))

    def drop_own(self, templates: Iterable[int]) -> None:
        self._db.executemany("DELETE FROM own_search WHERE template_id = ?", ((t,) for t in templates))

    def set_nearest(
        self,
        tower: int,
        strangers: NDArray[np.int64],
        own: NDArray[np.int64],
        nearest: NDArray[np.int64],
        distances: NDArray[np.float64],
    ) -> None:
        """Record each stranger's own identity and the nearest other one (-1: none), and the distance to that."""
        self._db.executemany(
            "UPDATE stranger_search SET own = ?, nearest = ?, distance = ? WHERE stranger_id = ? AND tower_id = ?",
            (
                (o if o >= 0 else None, n if n >= 0 else None, d if n >= 0 else None, s, tower)
                for s, o, n, d in zip(
                    strangers.tolist(), own.tolist(), nearest.tolist(), distances.tolist(), strict=True
                )
            ),
        )

    def labels(self, strangers: Sequence[int]) -> dict[int, tuple[str, bytes]]:
        """Return stranger id -> (name, digest)."""
        rows = self._db.execute(
            f"SELECT id, name, digest FROM stranger WHERE id {self._db.among}",
            (self._db.many(strangers),),
        )
        return {row[0]: (row[1], row[2]) for row in rows}


def enrolled(identity: int) -> str:
    """Return what no stranger can be called."""
    return f"\t{identity}"
