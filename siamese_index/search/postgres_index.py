"""The nearest templates, found where they are: on the server, and measured again here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput
from siamese_index.store.postgres import PostgreSQL
from siamese_index.store.rows import TowerRow
from siamese_index.store.store import Store
from siamese_index.vectors import Vectors

from .cache import Rows
from .result import Radius, SearchResult, nearest_of, of_found, scanned

SCANNED = 200_000  # templates: past it `rebuild` makes an HNSW index
FETCHED = 50  # candidates of that index per template that is asked for
NEAR = 1.25  # an unknown that lies nearer than this many thresholds is decided by a scan


def postgres_of(store: Store) -> PostgreSQL:
    """Return the connection of a store that is on a server. Raises BadInput for one in a file."""
    if isinstance(store.database, PostgreSQL):
        return store.database
    raise BadInput(f"{store.path}: this gallery is in a file.", "Expected one on a server.")


class PostgresIndex:
    """The templates of one tower on a server: every search asks there.

    But for what the first enrollment brings: until something changes it is searched here, where it still is.
    """

    def __init__(self, store: Store, database: PostgreSQL, tower: TowerRow) -> None:
        self._store, self._db, self._tower = store, database, tower
        self._total = 0
        self._first: tuple[tuple[int, bytes], Rows] | None = None
        self._tables: list[tuple[str, bool]] = []
        self._indexed = False

    def __len__(self) -> int:
        return self._total

    @property
    def coarse(self) -> bool:
        """Whether a search that is not told to be exact goes by the HNSW index."""
        return self._indexed

    def refresh(self, revision: tuple[int, bytes]) -> None:
        """Look how many templates there are. Call it inside the transaction that found the revision."""
        self._total = self._store.templates.total(self._tower.id)
        if self._first and self._first[0] != revision:
            self._first = None
        if not self._tables:
            self._tables = self._db.partitions()
            self._look_for_index()

    def add(
        self,
        before: tuple[int, bytes],  # noqa: ARG002
        revision: tuple[int, bytes],
        ids: NDArray[np.int64],
        owners: NDArray[np.int64],
        vectors: Vectors,
    ) -> None:
        """Keep what has just been added if it is all there is."""
        if self._store.templates.total(self._tower.id) == len(ids):
            self._first = revision, (ids, owners, vectors)

    def rebuild_if_stale(self) -> None:
        """Nothing: the server keeps its indexes itself."""

    def close(self) -> None:
        """Nothing is held."""

    def problem(self) -> str | None:
        """Nothing can be stale here."""
        return None

    def search(
        self,
        probes: Vectors,
        k: int,
        *,
        exact: bool = True,
        radius: Radius = None,
        only: NDArray[np.int64] | None = None,
    ) -> SearchResult:
        """Return the k nearest templates of each probe; k at most `len(self)`.

        Unless `exact`, by the HNSW index where there is one. What it finds is believed but where the nearest
        lies just beyond what the `radius` of an unknown is. `only` are the identities to search among.
        """
        if self._first:
            ids, owners, vectors = self._first[1]
            here = scanned(ids, owners, vectors, probes, k, None if only is None else np.isin(owners, only))
            return nearest_of([here], k, *2 * [np.zeros(0, np.int64)])
        by_index = self._indexed and not exact and only is None
        count = FETCHED * k if by_index else k
        statement = self._statement(count, by_index, only)
        if by_index:
            self._db.statement("SET LOCAL hnsw.iterative_scan = strict_order")
            self._db.statement("SET LOCAL hnsw.ef_search = 200")
        places = [] if only is None else [only.tolist()]
        parameters = [
            [value for _ in self._tables for value in (self._db.vector(probe.tobytes()), *places)] for probe in probes
        ]
        with self._db.pipeline():
            cursors = [self._db.execute(statement, each) for each in parameters]
        found = of_found(probes, [cursor.fetchall() for cursor in cursors], k, count)
        if by_index and radius:
            nearest = found.distances[:, 0] if found.distances.shape[1] else np.full(len(probes), np.inf)
            needed = radius(nearest)
            found.reach[(nearest > needed) & (nearest <= NEAR * needed)] = -1.0
        return found

    def _statement(self, count: int, by_index: bool, only: NDArray[np.int64] | None) -> str:
        """Return the search: the nearest of every partition, and the nearest of these, -1 for whose is not enrolled."""
        to = f"vector::vector({self._tower.dimension}) <-> ?::vector({self._tower.dimension})"
        distance = to if by_index else "vector <-> ?"
        among = "" if only is None else " AND identity_id = ANY(?)"
        parts = " UNION ALL ".join(
            f"(SELECT id, sample_id, identity_id, vector, {distance} AS distance FROM {table}"
            f" WHERE tower_id = {self._tower.id}{among} ORDER BY distance LIMIT {count})"
            for table, _ in self._tables
        )
        # A template whose sample is not here was left on its server by an enrollment that was never acknowledged.
        return (
            "SELECT x.id, CASE WHEN s.id IS NULL OR i.removed IS NOT NULL THEN -1 ELSE x.identity_id END, x.vector"
            f" FROM ({parts}) x LEFT JOIN sample s ON s.id = x.sample_id LEFT JOIN identity i ON i.id = x.identity_id"
            f" ORDER BY x.distance LIMIT {count}"
        )

    # -- the HNSW index -------------------------------------------------------------------------

    def _name(self, table: str) -> str:
        return f"{table}_hnsw_{self._tower.id}"

    def _look_for_index(self) -> None:
        rows = [
            self._db.execute("SELECT to_regclass(?)::text", (self._name(t),)).fetchone()[0] for t, _ in self._tables
        ]
        self._indexed = bool(rows) and all(rows)

    def rebuild(self, progress: Callable[[int], None] | None = None) -> None:
        """Make the HNSW indexes, of a gallery that is large enough. They are made outside of `reading`'s snapshot.

        Raises BadInput where the templates are on other servers: it is to be made there.
        """
        if self._total <= SCANNED:
            return
        makes = [
            f"CREATE INDEX IF NOT EXISTS {self._name(table)} ON {table}"
            f" USING hnsw ((vector::vector({self._tower.dimension})) vector_l2_ops) WHERE tower_id = {self._tower.id}"
            for table, _ in self._tables
        ]
        if any(foreign for _, foreign in self._tables):
            raise BadInput("The templates are on other servers.", "Run on each, with its own number:", makes[0])
        with self._db.outside() as statement:
            for make in makes:
                statement(make)
                if progress:
                    progress(self._total // len(makes))
        self._tables = []  # this transaction may not see them yet: the next looks again

    def described(self) -> tuple[str, str]:
        """Return how the nearest are found, and why so."""
        servers = sum(foreign for _, foreign in self._tables)
        where = f"on {servers} further servers" if servers else f"in {len(self._tables)} partitions"
        if self._indexed:
            return f"HNSW {where}, then the vectors themselves", f"a scan is for up to {SCANNED:,} templates"
        if self._total > SCANNED:
            return f"scan {where}", f"past {SCANNED:,} templates an HNSW index is faster: sidx index rebuild"
        return f"scan {where}", f"up to {SCANNED:,} templates are scanned"

    def sizes(self) -> tuple[int, int, int, int]:
        """Return templates on the server, none beside it, bytes on its disk, and those of the vectors."""
        size = self._db.execute(
            "SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint FROM pg_inherits"
            " WHERE inhparent = to_regclass('template')"
        ).fetchone()[0]
        return self._total, 0, int(size), 4 * self._tower.dimension * self._total
