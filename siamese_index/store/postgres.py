"""A gallery on a PostgreSQL server with pgvector: the same promises for many machines at once.

Templates are partitioned by a hash of their identity, so that an enrollment touches one partition. Over
several servers the partitions are foreign tables (postgres_fdw); the statements stay the same.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from siamese_index.errors import BadInput, Damaged, Locked, Missing, NotInstalled, SiameseIndexError

from .address import Address
from .postgres_schema import MIGRATIONS
from .schema import TABLES, VERSION

try:
    import psycopg
    from psycopg import conninfo, sql
    from psycopg.adapt import Dumper, Loader
    from psycopg.pq import Format, TransactionStatus
    from psycopg.types import TypeInfo
except ImportError as error:
    raise NotInstalled(
        "A gallery on a server needs the client of PostgreSQL.",
        f"{error}.",
        "In the folder of its source: pip install '.[postgres]'",
    ) from None


WAIT_SECONDS = 10.0  # how long a second writer waits for the first
_LOCK = 0x53494458  # the advisory lock of the one writer
_OLDEST, _OLDEST_VECTOR = 14, (0, 8)  # whose scans by index go on until there are enough


class PostgreSQL:
    """A connection to a gallery. One writer at a time, any number of readers, from anywhere."""

    among = "= ANY(?)"

    def __init__(self, address: Address, *, new: bool = False, node: bool = False) -> None:
        """`new`: there must be no gallery yet; `node`: it only holds templates of one."""
        try:
            self._told = conninfo.conninfo_to_dict(address.full)
        except psycopg.Error as error:
            raise BadInput(
                "This is no address of a server.", _line(error), "Such as postgresql://user@host/database"
            ) from None
        self.path = address
        self._password = str(self._told.get("password") or "")
        self._new, self._node = new, node
        self._inside = False
        self._names = itertools.count()  # of cursors
        self._connection = self._connected()

    def _connected(self) -> psycopg.Connection[Any]:
        # What the address says comes first.
        told: dict[str, Any] = {"connect_timeout": 10, "application_name": f"process {os.getpid()} (sidx)"} | self._told
        with self._explained():
            connection: psycopg.Connection[Any] = psycopg.connect(conninfo.make_conninfo(**told), autocommit=True)
        self._connection = connection
        try:
            with self._explained():
                self._examine()
        except BaseException:
            connection.close()
            raise
        return connection

    def _examine(self) -> None:
        connection = self._connection
        if connection.info.server_version < _OLDEST * 10_000:
            raise BadInput(
                f"{self.path}: PostgreSQL {connection.info.server_version // 10_000} is too old.",
                f"Version {_OLDEST} or newer is needed.",
            )
        if self._new or self._node:
            self._extend()
        if connection.execute("SHOW synchronous_commit").fetchone() == ("off",):
            connection.execute("SET synchronous_commit = on")  # acknowledged means durable
        version = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
        if version is None:
            raise Missing(f"{self.path}: there is no gallery in this database.", remedy=self._make_one())
        if tuple(int(part) for part in version[0].split(".")[:2]) < _OLDEST_VECTOR:
            raise BadInput(
                f"{self.path}: pgvector {version[0]} is too old.",
                f"Version {'.'.join(map(str, _OLDEST_VECTOR))} or newer is needed.",
                "An administrator runs: ALTER EXTENSION vector UPDATE",
            )
        info = TypeInfo.fetch(connection, "vector")
        if info is None:
            raise Missing(f"{self.path}: the type of pgvector is not visible here.", remedy="Look at the search_path.")
        info.register(connection)
        connection.adapters.register_loader(info.oid, _VectorLoader)
        connection.adapters.register_dumper(_Vector, type("_Dumper", (_VectorDumper,), {"oid": info.oid}))
        there = connection.execute("SELECT to_regclass('about') IS NOT NULL").fetchone() == (True,)
        if self._node:
            return
        if there == self._new:
            if there:
                raise BadInput(f"{self.path}: holds a gallery already.", remedy="Use it as it is, or another database.")
            raise Missing(f"{self.path}: there is no gallery in this database.", remedy=self._make_one())
        if there:
            found = connection.execute("SELECT schema FROM about").fetchone()
            if found is None or found[0] > VERSION:
                raise BadInput(
                    f"{self.path}: made by a newer siamese-index.",
                    f"Its schema is {found and found[0]}, this program knows {VERSION}.",
                    "pip install -U siamese-index",
                )
            if found[0] < VERSION:
                self._bring_up()

    def _bring_up(self) -> None:
        """Bring the tables to VERSION, in one transaction."""
        with self.writing("upgrade"):
            found = self.execute("SELECT schema FROM about").fetchone()[0]  # another process may have done it
            for version in range(found + 1, VERSION + 1):
                for statement in MIGRATIONS[version]:
                    self.statement(statement)
            self.execute("UPDATE about SET schema = ?", (VERSION,))

    def _make_one(self) -> str:
        return f"Make one: sidx init -g {self.path} --tower faces.tower"

    def _extend(self) -> None:
        try:
            self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except psycopg.errors.FeatureNotSupported:
            raise Missing(
                f"{self.path}: this server has no pgvector.",
                "It finds the nearest templates there.",
                "Install pgvector on the server: https://github.com/pgvector/pgvector",
            ) from None
        except psycopg.errors.InsufficientPrivilege as error:
            raise Missing(
                f"{self.path}: pgvector may not be switched on.",
                _line(error),
                "An administrator of the database runs: CREATE EXTENSION vector",
            ) from None

    def close(self) -> None:
        self._connection.close()

    # -- transactions -------------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """One consistent state for everything that is read inside."""
        if self._inside:
            yield
            return
        with self._transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "ROLLBACK"):
            yield

    @contextlib.contextmanager
    def writing(self, verb: str) -> Iterator[None]:
        """One transaction, durable on leaving; what changes something calls `record` in it.

        Raises Locked when another writer does not finish in WAIT_SECONDS.
        """
        # Every statement sees what was committed before it: nobody else writes while the lock is held.
        with self._transaction("BEGIN", "COMMIT"):
            try:
                self.statement(f"SET LOCAL lock_timeout = {round(WAIT_SECONDS * 1000)}")
                self.execute("SELECT pg_advisory_xact_lock(?)", (_LOCK,))
            except psycopg.errors.LockNotAvailable:
                self.statement("ROLLBACK")
                raise Locked(
                    f"{self.path}: another process is writing.",
                    f"Waited {WAIT_SECONDS:.0f} s for {self._holder()}.",
                    "Try again when it is done.",
                ) from None
            self.execute("SELECT set_config('application_name', ?, true)", (f"process {os.getpid()} (sidx {verb})",))
            yield

    @contextlib.contextmanager
    def _transaction(self, begin: str, end: str) -> Iterator[None]:
        with self._explained():
            try:
                self._live().execute(begin)
            except psycopg.OperationalError:  # the server went away since, and may be back
                self._connection.close()
                self._live().execute(begin)
            self._inside = True
            try:
                yield
                if self._connection.info.transaction_status != TransactionStatus.INTRANS:
                    # In a transaction that failed, COMMIT would roll back without a word.
                    raise Missing(
                        f"{self.path}: a statement of this change failed, so none of it was kept.",
                        "The server gave the change up.",
                        "Run the same command again.",
                    )
                self.statement(end)
            except BaseException:
                with contextlib.suppress(psycopg.Error):
                    self.statement("ROLLBACK")
                raise
            finally:
                self._inside = False

    def _holder(self) -> str:
        row = self.execute(
            "SELECT a.application_name, a.client_addr FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.granted AND l.objid = ?"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            (_LOCK,),
        ).fetchone()
        return f"{row[0]} at {row[1] or 'the server'}" if row else "it"

    # -- statements ---------------------------------------------------------------------------

    def many(self, values: Collection[int] | Collection[str]) -> list[Any]:
        return list(values)

    def vector(self, blob: bytes) -> _Vector:
        return _Vector(blob)

    def statement(self, text: str | sql.Composed) -> None:
        """Run a statement without parameters."""
        self._live().execute(text)

    def _live(self) -> psycopg.Connection[Any]:
        """Return the connection; outside of a transaction a new one, when it was lost."""
        if self._connection.closed and not self._inside:
            self._connection = self._connected()
        return self._connection

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        return self._live().execute(_placed(statement), parameters, binary=True)

    def chunks(self, size: int, statement: str, parameters: Sequence[Any] = ()) -> Iterator[list[Any]]:
        with self._live().cursor(name=f"c{next(self._names)}", binary=True) as cursor:
            cursor.execute(_placed(statement), parameters)
            while rows := cursor.fetchmany(size):
                yield rows

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(_placed(statement), rows)

    def insert(self, table: str, columns: str, rows: Iterable[Sequence[Any]]) -> None:
        described = self.execute(f"SELECT {columns} FROM {table} WHERE false").description
        with (
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.set_types([column.type_code for column in described])
            for row in rows:
                copy.write_row(row)

    def last(self, table: str) -> int:
        return int(self.execute(f"SELECT last_value FROM {table}_ids").fetchone()[0])

    def reserve(self, table: str, count: int) -> int:
        if not count:
            return 0
        end = self.execute(f"SELECT setval('{table}_ids', nextval('{table}_ids') + ?)", (count - 1,)).fetchone()[0]
        return int(end) - count + 1

    def columns(self, table: str) -> list[str]:
        rows = self.execute(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass(?) AND attnum > 0"
            " AND NOT attisdropped ORDER BY attnum",
            (table,),
        )
        return [row[0] for row in rows]

    def continue_ids(self) -> None:
        for table in TABLES:
            if self.execute("SELECT to_regclass(?) IS NOT NULL", (f"{table}_ids",)).fetchone()[0]:
                self.statement(f"SELECT setval('{table}_ids', (SELECT coalesce(max(id), 0) + 1 FROM {table}), false)")

    @contextlib.contextmanager
    def outside(self) -> Iterator[Any]:
        """Yield what runs statements on a connection of its own, each a transaction: for what may take long."""
        with contextlib.closing(PostgreSQL(self.path)) as other, other._explained():
            yield other.statement

    def pipeline(self) -> Any:
        """Statements inside are sent without waiting for the answers of those before."""
        return self._connection.pipeline()

    def partitions(self) -> list[tuple[str, bool]]:
        """Return the tables that hold the templates, each with whether it is on another server."""
        rows = self.execute(
            "SELECT c.relname::text, c.relkind = 'f' FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid"
            " WHERE inhparent = to_regclass('template') ORDER BY c.relname"
        )
        return [(row[0], row[1]) for row in rows]

    def sweep(self, wait: float) -> None:
        """Write the tables anew that are on this server. Those of its nodes are their administrators' to do."""
        tables = [table for table in TABLES if table != "template"]
        with self.reading():
            tables += [table for table, foreign in self.partitions() if not foreign]
            owner = "SELECT bool_and(pg_has_role(relowner, 'USAGE')) FROM pg_class WHERE oid = to_regclass(?)"
            if not all(self.execute(owner, (table,)).fetchone()[0] for table in tables):
                raise Missing(f"{self.path}: only the owner of its tables can write them anew.")
        with self.outside() as statement:
            statement(f"SET lock_timeout = {round(wait * 1000)}")
            for table in tables:
                statement(f"VACUUM (FULL, ANALYZE) {table}")

    @property
    def in_use(self) -> bool:
        return self._inside

    def understood(self) -> contextlib.nullcontext[None]:
        return contextlib.nullcontext()  # the server sees to it that nothing is contradicted

    @contextlib.contextmanager
    def still(self) -> Iterator[PostgreSQL]:
        yield self  # readers and writers do not wait for each other there

    def problems(self) -> list[str]:
        """Return what would let the server lose what it acknowledged."""
        found = []
        try:
            with self.reading():
                if self.execute("SHOW fsync").fetchone()[0] == "off":
                    found.append("fsync is off: the server can lose what it acknowledged")
                if self.execute("SHOW full_page_writes").fetchone()[0] == "off":
                    found.append("full_page_writes is off: a power cut can damage the gallery")
        except SiameseIndexError as error:
            found.append(str(error).replace("\n", " "))
        return found

    def facts(self) -> dict[str, str]:
        with self.reading():
            server = self.execute("SHOW server_version").fetchone()[0]
            vector = self.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()[0]
            standbys = self.execute("SHOW synchronous_standby_names").fetchone()[0]
            nodes = sum(foreign for _, foreign in self.partitions())
        return {
            "PostgreSQL": server,
            "pgvector": vector,
            "nodes": str(nodes),
            "synchronous standbys": standbys or "none",
        }

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the server's errors into ours. None of them tells a password."""
        try:
            yield
        except psycopg.Error as error:
            said, state = _line(error), error.sqlstate or ""
            if self._password:
                said = said.replace(self._password, "…")
            if state == "55P03":
                raise Locked(f"{self.path}: another process is using it.", said, "Try again when it is done.") from None
            if state in ("53100", "53200"):
                raise Missing(
                    f"{self.path}: cannot be written.",
                    said,
                    "Free disk space on the server and try again. No acknowledged change is lost.",
                ) from None
            if state == "42501":
                raise Missing(
                    f"{self.path}: not allowed.",
                    said,
                    f"An administrator grants it to {self._told.get('user', 'you')}.",
                ) from None
            if state == "25006":
                raise Missing(
                    f"{self.path}: can only be read.", said, "This is a standby: write to the primary server."
                ) from None
            if state in ("08001", "08006") or state.startswith("HV"):
                raise Missing(
                    f"{self.path}: a server that holds part of this gallery cannot be reached.",
                    said,
                    "Nothing was answered in part. Try again when it is back.",
                ) from None
            if isinstance(error, psycopg.OperationalError):
                raise Missing(
                    f"{self.path}: the server cannot be reached.", said, "What was acknowledged is safe. Try again."
                ) from None
            if state.startswith("XX"):
                raise Damaged(f"{self.path}: the server finds the gallery damaged.", said) from None
            raise


class _Vector(bytes):
    """The float32 numbers of a template, little-endian, on their way into a column of pgvector's type."""


class _VectorLoader(Loader):
    format = Format.BINARY

    def load(self, data: Any) -> bytes:
        # Big-endian: dimension, 0, numbers.
        return np.frombuffer(data, ">f4", offset=4).astype("<f4").tobytes()


class _VectorDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Any) -> bytes:
        return struct.pack(">HH", len(obj) // 4, 0) + np.frombuffer(obj, "<f4").astype(">f4").tobytes()


@functools.cache
def _placed(statement: str) -> str:
    return statement.replace("%", "%%").replace("?", "%s")


def _line(error: BaseException) -> str:
    """Return what the server said first: its further lines can hold data."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
