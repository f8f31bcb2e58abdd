"""A gallery in one SQLite file."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
import sys
import weakref
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from siamese_index.errors import BadInput, Damaged, Locked, Missing, SiameseIndexError
from siamese_index.files import (
    GALLERY_ID,
    alive,
    beside,
    drop_cache,
    drop_training,
    kind_of,
    note_closed,
    note_opened,
    opened_as,
    refused,
    replacing,
    sweep,
)

from .schema import VERSION, migrate
from .sqlite_checks import contradiction, refuse_other_schema
from .sqlite_copy import copy_database
from .sqlite_errors import BESIDE, SOMEBODY, WAIT_SECONDS, explained

_NOTE = 120  # bytes
_LARGE = 32_000_000  # bytes; less is looked through in a tenth of a second


def wal_is_safe(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """Say whether this SQLite keeps commits when two connections checkpoint a WAL at once."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


@contextlib.contextmanager
def creating(path: Path, *, replace: bool = False) -> Iterator[SQLite]:
    """Yield a new database inside a transaction; on leaving it is at `path`, wholly or not at all.

    Raises BadInput when `path` exists, unless it is to be replaced.
    """
    if path.exists() and not replace:
        raise BadInput(f"{path}: exists already.", remedy="Choose another name, or use the gallery as it is.")
    with replacing(path, exclusive=not replace) as temporary, explained(path):
        connection = sqlite3.connect(temporary, isolation_level=None)
        with contextlib.closing(connection):
            _set(connection, writable=True)
            migrate(connection)
        with contextlib.closing(SQLite(temporary)) as database, database.writing("init"):
            yield database


_connections: weakref.WeakSet[SQLite] = weakref.WeakSet()
_used_at_fork: set[tuple[int, int]] = set()  # files on which the parent had locks when this process was forked


def _note_fork() -> None:
    _used_at_fork.update(each._file for each in _connections if each.in_use)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class SQLite:
    """An open file. One writer at a time, any number of readers, also across processes."""

    among = "IN (SELECT value FROM json_each(?))"
    in_use = False  # a transaction is open
    _note: int | None = None  # the descriptor of the file that says who writes, once this connection has written

    def __init__(self, path: Path) -> None:
        """Raises Missing, Damaged, or BadInput for one of a newer program, or an older one that cannot be written."""
        self.path = path
        self._mark = os.urandom(4).hex()  # of this connection's notes
        if path.is_file() and kind_of(path) == "tower":
            raise BadInput(
                f"{path}: this is a tower file, not a gallery.",
                remedy=f"Make a gallery: sidx init --tower {path} -g people.gallery",
            )
        if not path.is_file():
            raise Missing(f"{path}: no such gallery.", remedy=f"Make one: sidx init -g {path} --tower faces.tower")
        self.path = path.absolute()  # what lies beside it is found whatever folder one goes to
        sweep(self.path)
        self._connect()

    def _connect(self) -> None:
        path = self.path
        writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
        try:
            mode = "rw" if writable else _reading_mode(path)
            uri = f"{path.resolve().as_uri()}?mode={mode}"
            self._file = note_opened(path, mode)
        except OSError as error:  # it went a moment ago
            raise refused(path, error, "opened") from None
        if self._file in _used_at_fork:
            self._forget()
            raise BadInput(
                f"{self.path}: this process was forked while its parent used the gallery.",
                "SQLite takes the parent's locks for its own here, and nobody would be kept out.",
                "Fork when no thread is in a call, or start a process instead (spawn).",
            )
        _connections.add(self)
        with explained(path), contextlib.ExitStack() as undo:
            undo.callback(self._forget)
            self._db = sqlite3.connect(
                uri, uri=True, isolation_level=None, timeout=WAIT_SECONDS, check_same_thread=False
            )
            undo.callback(self._db.close)
            version = self._version()
            _set(self._db, writable)
            if version < VERSION:
                self._bring_up(writable)
            refuse_other_schema(self._db, self.path)
            if writable:
                _share(path)
            undo.pop_all()

    def _follow(self) -> None:
        """Open the file anew if another one was put in its place. Raises Missing when there is none any more."""
        try:
            about = os.stat(self.path)  # noqa: PTH116
        except OSError:
            raise Missing(
                f"{self.path}: the gallery is gone.",
                "It was deleted or moved while it was open.",
                "Open it where it is.",
            ) from None
        if (about.st_dev, about.st_ino) != self._file:
            self._disconnect()
            self._connect()

    def _disconnect(self) -> None:
        self._db.close()
        self._forget()

    def _forget(self) -> None:
        note_closed(self._file)
        self._file = (0, 0)  # so that it is opened anew when it is next used

    def _version(self) -> int:
        """Return the schema that the file has."""
        found, version = (self._db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("application_id", "user_version"))
        if found != GALLERY_ID:
            raise Damaged(f"{self.path}: this is not a gallery.", "It is an SQLite file of another program, or empty.")
        if version > VERSION:
            raise BadInput(
                f"{self.path}: made by a newer siamese-index.",
                f"Its schema is {version}, this program knows {VERSION}.",
                "pip install -U siamese-index",
            )
        return int(version)

    def _bring_up(self, writable: bool) -> None:
        if not writable:
            raise BadInput(
                f"{self.path}: made by an older siamese-index.",
                "It is brought up to date when it is opened, but cannot be written here.",
                "Copy it to a place where it can be, and use that.",
            )
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if self._version() < VERSION:  # another process may have done it
                migrate(self._db)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        self._disconnect()
        if self._note is not None:
            os.close(self._note)
            self._note = None

    # -- transactions -------------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """One consistent state for everything that is read inside."""
        with explained(self.path):
            if self.in_use:
                yield
                return
            self._follow()
            self.in_use = True
            try:
                self._db.execute("BEGIN")
                with self.understood():
                    yield
            finally:
                self.in_use = False
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    @contextlib.contextmanager
    def writing(self, verb: str) -> Iterator[None]:
        """One transaction, durable on leaving; what changes something calls `record` in it.

        Raises Locked when another writer does not finish in WAIT_SECONDS.
        """
        with explained(self.path, self._writer):
            if self.in_use:
                raise BadInput(f"{self.path}: nothing can be changed while it is being read.", "Leave `reading` first.")
            self._follow()
            self.in_use = True
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._version()  # a newer program may have been here since it was opened
                self._say(verb)
                with self.understood():
                    yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            finally:
                self.in_use = False

    @contextlib.contextmanager
    def understood(self) -> Iterator[None]:
        """Tell a gallery that contradicts itself from a mistake of ours, when something goes wrong inside."""
        try:
            yield
        except (LookupError, ValueError, TypeError, ArithmeticError, sqlite3.IntegrityError) as error:
            found = None
            with contextlib.suppress(sqlite3.Error):
                found = contradiction(self._db)
            if not found:
                raise
            raise Damaged(
                f"{self.path}: this gallery contradicts itself.", f"{found}.", "Restore a backup: sidx restore FILE"
            ) from error

    @property
    def _note_file(self) -> Path:
        # SQLite's own lock decides; this file only tells a waiting process who is writing.
        return self.path.with_name(f"{self.path.name}.lock")

    def _say(self, verb: str) -> None:
        """Leave a note of who writes, for those who wait."""
        program = Path(sys.argv[0] if sys.argv else "").name
        note = f"{self._mark} process {os.getpid()} ({program} {verb})".encode(errors="replace")[:_NOTE].ljust(_NOTE)
        with contextlib.suppress(OSError):  # a full disk must not stop a removal
            if self._note is None:
                self._note = os.open(self._note_file, os.O_WRONLY | os.O_CREAT, 0o600)
            os.lseek(self._note, 0, os.SEEK_SET)
            os.write(self._note, note)

    def _writer(self) -> str:
        """Return who left the last note, if that can be whom we wait for."""
        try:
            mark, _, note = self._note_file.read_text(errors="replace").strip().partition(" ")
            process = int(note.split(" ")[1])
        except (OSError, ValueError, IndexError):
            return SOMEBODY
        return note if mark != self._mark and alive(process) else SOMEBODY

    # -- statements ---------------------------------------------------------------------------

    def many(self, values: Collection[int] | Collection[str]) -> str:
        return json.dumps(list(values))

    def vector(self, blob: bytes) -> bytes:
        return blob

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._db.execute(statement, parameters)

    def chunks(self, size: int, statement: str, parameters: Sequence[Any] = ()) -> Iterator[list[Any]]:
        cursor = self.execute(statement, parameters)
        while rows := cursor.fetchmany(size):
            yield rows

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        self._db.executemany(statement, rows)

    def insert(self, table: str, columns: str, rows: Iterable[Sequence[Any]]) -> None:
        marks = ", ".join("?" * len(columns.split(",")))
        self._db.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)

    def last(self, table: str) -> int:
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        if row and not isinstance(row[0], int):
            raise Damaged(f"{self.path}: this gallery contradicts itself.", f"The last id of {table} is {row[0]!r}.")
        return row[0] if row else 0

    def reserve(self, table: str, count: int) -> int:  # noqa: ARG002
        return self.last(table) + 1  # inserting the rows moves it

    def columns(self, table: str) -> list[str]:
        return [row[1] for row in self._db.execute(f"PRAGMA table_info({table})")]

    def continue_ids(self) -> None:
        pass  # inserting the rows has moved them

    def sweep(self, wait: float) -> None:
        """Write the file anew, and drop the cache. SQLite's own temporary copy is beside it, not in a common folder."""
        with explained(self.path, self._writer):
            self._follow()
            drop_cache(self.path)
            drop_training(self.path)
            before = os.environ.get("SQLITE_TMPDIR")
            os.environ["SQLITE_TMPDIR"] = str(self.path.parent)
            self._db.execute(f"PRAGMA busy_timeout = {round(wait * 1000)}")
            try:
                self._db.execute("VACUUM")
            finally:
                self._db.execute(f"PRAGMA busy_timeout = {round(WAIT_SECONDS * 1000)}")
                os.environ.pop("SQLITE_TMPDIR")
                os.environ.update({} if before is None else {"SQLITE_TMPDIR": before})
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            drop_cache(self.path)  # who searched meanwhile may have written one

    # -- whole files --------------------------------------------------------------------------

    def backup(self, path: Path) -> None:
        """Write a complete copy to `path`, durably. Raises Missing."""
        with replacing(path) as temporary:
            copy_database(self._db, self.path, temporary, self.reading)

    @contextlib.contextmanager
    def still(self) -> Iterator[SQLite]:
        """Yield the gallery as it is now, for a long look for which nobody waits: a large one as a copy beside it.

        Where no copy can be made it is the gallery itself, and who writes has to wait.
        """
        with contextlib.ExitStack() as stack:
            copy = None
            if self.path.stat().st_size > _LARGE:
                with contextlib.suppress(SiameseIndexError):
                    temporary = stack.enter_context(beside(self.path, f".{os.urandom(4).hex()}"))
                    copy_database(self._db, self.path, temporary, self.reading)
                    copy = stack.enter_context(contextlib.closing(SQLite(temporary)))
            yield copy or self

    def restore(self, backup: SQLite, former: Path) -> None:
        """Write the content to `former`, and replace it by that of `backup`, in one transaction of SQLite's own.

        Nobody else writes in between.
        """
        with explained(self.path, self._writer):
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")  # locks are kept from here on
            try:
                with self.writing("restore"):
                    pass
                self.backup(former)
                backup._db.backup(self._db)
            finally:
                self._db.execute("PRAGMA locking_mode = NORMAL")
                self._db.execute("SELECT 1 FROM sqlite_schema").fetchone()  # lets go of them

    def problems(self) -> list[str]:
        """Return what SQLite itself finds wrong with the file."""
        try:
            with explained(self.path):
                found = [row[0] for row in self._db.execute("PRAGMA integrity_check") if row[0] != "ok"]
                found += [
                    f"{r[0]} row {r[1]} refers to a missing {r[2]}"
                    for r in self._db.execute("PRAGMA foreign_key_check")
                ] or [wrong for wrong in [contradiction(self._db)] if wrong]
        except SiameseIndexError as error:
            return [str(error).replace("\n", " ")]
        return found

    def facts(self) -> dict[str, str]:
        journal = str(self._db.execute("PRAGMA journal_mode").fetchone()[0])
        unsafe = "" if wal_is_safe() else " (WAL can lose commits below SQLite 3.51.3)"
        return {"SQLite": sqlite3.sqlite_version, "journal": journal + unsafe}


def _reading_mode(path: Path) -> str:
    """Return how to open a file in a place that cannot be written.

    A WAL database without its log wants to make one, unless told that nothing will change.
    """
    if mode := opened_as(path.stat()):
        return mode
    with path.open("rb") as file:
        is_wal = file.read(20)[18:19] == b"\x02"
    return "ro&immutable=1" if is_wal and not path.with_name(f"{path.name}-wal").exists() else "ro"


def _set(connection: sqlite3.Connection, writable: bool) -> None:
    """Set what durability and safety rest on, and make sure that it took."""
    if writable and wal_is_safe():
        connection.execute("PRAGMA journal_mode = WAL")
    elif writable and connection.execute("PRAGMA journal_mode = TRUNCATE").fetchone()[0] == "wal":
        # Not DELETE: a journal that is deleted may be back after a power cut, and take back what was acknowledged.
        raise Locked(  # not Damaged: `restore` would take it for broken, and put it aside while others write
            "The gallery is in WAL mode, in which this SQLite can lose commits, and others are using it.",
            remedy="Close the other programs, and try again.",
        )
    wanted = {"synchronous": 2, "foreign_keys": 1, "secure_delete": 1, "trusted_schema": 0}
    for name, value in wanted.items():
        connection.execute(f"PRAGMA {name} = {value}")
        if connection.execute(f"PRAGMA {name}").fetchone()[0] != value:
            raise Damaged(f"This SQLite does not support {name} = {value}.", remedy="Use a Python with its own SQLite.")


def _share(path: Path) -> None:
    """Give the files that SQLite keeps beside a gallery the rights that it has, where they are ours."""
    for ending in BESIDE:
        part = path.with_name(path.name + ending)
        with contextlib.suppress(OSError):
            if part.stat().st_mode != path.stat().st_mode:
                part.chmod(stat.S_IMODE(path.stat().st_mode))
