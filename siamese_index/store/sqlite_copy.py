"""A copy of a gallery's file while others write."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from siamese_index.files import WINDOWS, kept_open, make_same

from .sqlite_errors import explained

STEP = 8192  # pages that are copied at once: others wait for so long
ANEW = 2  # times that a copy is begun anew because others write


class _OthersWrite(Exception):
    """A copy in steps was begun anew too often. It never leaves this module."""


def copy_database(
    db: sqlite3.Connection, source: Path, path: Path, reading: Callable[[], AbstractContextManager[None]]
) -> None:
    """Write a complete copy to `path`, in steps between which others write; not durable. Raises Missing.

    What another process writes begins it anew: after ANEW times it is made otherwise.
    """
    left, begun = sys.maxsize, 0

    def told(_status: int, remaining: int, _total: int) -> None:
        nonlocal left, begun
        begun, left = begun + (remaining >= left), remaining
        if begun > ANEW:
            raise _OthersWrite

    with explained(source):
        try:
            with _quick(path) as copy:
                db.backup(copy, pages=STEP, progress=told)
        except _OthersWrite:
            path.write_bytes(b"")
            copy_beside_others(db, source, path, reading)


def copy_beside_others(
    db: sqlite3.Connection, source: Path, path: Path, reading: Callable[[], AbstractContextManager[None]]
) -> None:
    """Copy the file while others write, then what they have changed meanwhile: they wait for that alone."""
    if WINDOWS or db.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        with _quick(path) as copy:
            db.backup(copy)  # beside a WAL others write anyway; Windows does not let one read what is locked
        return
    opened = kept_open(source)
    with path.open("r+b") as file:
        make_same(opened, file)
        with reading():
            db.execute("PRAGMA user_version").fetchone()  # it is locked from the first statement on
            make_same(opened, file)


@contextlib.contextmanager
def _quick(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a new database that is neither durable nor taken back: whoever needs that sees to it, as a whole."""
    with contextlib.closing(sqlite3.connect(path)) as copy:
        copy.execute("PRAGMA synchronous = OFF")
        copy.execute("PRAGMA journal_mode = OFF")
        yield copy
