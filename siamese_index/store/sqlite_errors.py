"""SQLite's errors in our words: who is waited for, what may not be written, what is damaged."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from siamese_index.errors import BadInput, Damaged, Locked, Missing
from siamese_index.files import refused

WAIT_SECONDS = 10.0  # how long a second writer waits for the first
BESIDE = ("-journal", "-wal", "-shm")  # endings of the files that SQLite keeps beside a gallery
SOMEBODY = "a reader, or another program"
_MOVED = 1032  # SQLITE_READONLY_DBMOVED
_OTHER = re.compile(
    r"decode to UTF-8|^no such (table|column|collation)|^table \w+ already exists|^unknown function|too big"
)  # what SQLite says of a file that is not ours


@contextlib.contextmanager
def explained(path: Path, writer: Callable[[], str] = lambda: SOMEBODY) -> Iterator[None]:
    """Turn SQLite's errors into ours. `writer` says who is writing."""
    try:
        yield
    except sqlite3.Error as error:
        if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
            raise BadInput("This gallery is closed.", remedy="Open it again: Gallery.open(PATH)") from error
        if getattr(error, "sqlite_errorcode", 0) == _MOVED:
            raise Locked(f"{path}: another gallery was put in its place meanwhile.", remedy="Try again.") from error
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise Locked(
                f"{path}: another process is using it.",
                f"Waited {WAIT_SECONDS:.0f} s for {writer()}.",
                "Try again when it is done.",
            ) from error
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise Missing(
                f"{path}: cannot be written.",
                f"{error}.",
                "Free disk space and try again. No acknowledged change is lost.",
            ) from error
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            raise _forbidden(path, error) from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or _OTHER.search(str(error)):
            raise Damaged(
                f"{path}: this is not a gallery, or it is damaged.", f"{error}.", "Restore a backup: sidx restore FILE"
            ) from error
        raise


def _forbidden(path: Path, error: sqlite3.Error) -> Missing:
    """Return what to tell where SQLite may not open or write something: most often a file beside the gallery."""
    for ending in BESIDE:
        part = path.with_name(path.name + ending)
        with contextlib.suppress(OSError):
            if part.exists() and not os.access(part, os.R_OK | (os.W_OK if os.access(path, os.W_OK) else 0)):
                why = refused(part, PermissionError(errno.EACCES, "Permission denied"), "written")
                why.remedy = f"Its owner lets you: chmod --reference={path.name} {part}"
                return why
    return Missing(f"{path}: cannot be written.", f"{error}.", "Check the rights of the file and its folder.")
