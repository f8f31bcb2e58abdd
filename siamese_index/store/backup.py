"""Whole galleries: backups, and the way from a file to a server and back."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siamese_index.errors import BadInput, Damaged, Locked, Missing
from siamese_index.files import drop_cache, kind_of, refuse_to_replace

from .address import Address, place_of
from .schema import TABLES
from .sqlite import SQLite
from .sqlite import creating as creating_file
from .store import Store

if TYPE_CHECKING:
    from .database import Database


def backup(store: Store, path: Path) -> None:
    """Write a complete, consistent copy to the file `path`, durably, while the gallery is in use."""
    database = store.database
    if isinstance(database, SQLite) and path.exists() and path.samefile(database.path):
        raise BadInput(f"{path} is the gallery itself.", remedy="Choose another file.")
    refuse_other_galleries(store, path)
    if isinstance(database, SQLite):
        database.backup(path)
        return
    with creating_file(path, replace=True) as file, store.reading():
        copy(database, file)


def remember(store: Store, path: Path) -> None:
    """Note in the gallery that a copy of it lies there, where it can be written."""
    with contextlib.closing(SQLite(path)) as there:
        revision = Store(there).revision()[0]
    with contextlib.suppress(Missing, Locked), store.writing("backup"):
        store.note_backup(revision, str(path.absolute()))


def refuse_other_galleries(store: Store, path: Path) -> None:
    """Raise BadInput unless `path` is free, or holds an earlier state of this gallery."""
    refuse_to_replace(path, "gallery")
    if not path.exists() or not path.stat().st_size:
        return
    with contextlib.closing(SQLite(path)) as there:
        revision, token = Store(there).revision()
        identities = Store(there).settings().identities
    with store.reading():
        earlier = store.token_of(revision) == token
    if not earlier:
        raise BadInput(
            f"{path}: there is another gallery already, of {identities} identities.",
            f"It is not an earlier state of {store.path}.",
            "Choose another name, or delete that file first.",
        )


def restore(source: Path, place: str | Path, replace: bool) -> Path | None:
    """Make the gallery at `place` what the file `source` is; return where its former content was put."""
    file = SQLite(source)
    try:
        problems = file.problems()
        if problems:
            raise Damaged(f"{source}: this backup is damaged.", problems[0], "Use another backup.")
        target = place_of(place)
        if isinstance(target, Address):
            from . import postgres_layout

            if replace:
                raise BadInput("A gallery on a server is not replaced.", remedy="Restore into an empty database.")
            with postgres_layout.creating(target, ()) as server:
                copy(file, server)
            return None
        if target.is_symlink():
            target = target.resolve()  # what it points to is the gallery
        if not target.exists():
            file.backup(target)
            _note(target, file, source)
            return None
        if target.samefile(source):
            raise BadInput(f"{source} is the gallery itself.", remedy="Give a file that backup made.")
        if not replace:
            raise BadInput(f"{place}: exists already.", remedy="Add --replace; its present content is put beside it.")
        try:
            with contextlib.closing(SQLite(target)) as gallery:
                with gallery.reading():
                    revision = Store(gallery).revision()[0]
                former = _beside(target, str(revision))
                gallery.restore(file, former)
        except Damaged:
            if target.suffix != ".gallery" and kind_of(target) != "gallery":
                raise  # it may be anything
            return _replaced(file, target)
        drop_cache(target)  # of another history
        _note(target, file, source)
        return former
    finally:
        file.close()


def _note(target: Path, file: SQLite, source: Path) -> None:
    """Note in a gallery which file it was restored from."""
    with contextlib.closing(SQLite(target)) as there, contextlib.suppress(Missing, Locked):
        store = Store(there)
        with store.writing("restore"):
            store.note_backup(Store(file).revision()[0], str(source.absolute()))


def _replaced(file: SQLite, target: Path) -> Path:
    """Put a damaged gallery, which cannot be read, beside; then make `target` what `file` is."""
    former = _beside(target, "damaged")
    former.hardlink_to(target)
    for ending in ("-journal", "-wal", "-shm"):  # they are of the damaged one, and would be played into the new one
        part = target.with_name(target.name + ending)
        if part.exists():
            part.replace(former.with_name(former.name + ending))
    file.backup(target)
    drop_cache(target)
    return former


def _beside(target: Path, what: str) -> Path:
    """Return a free name for the former content of a gallery."""
    kept = f"{target.name}.before-restore-{what}"
    names = (target.with_name(f"{kept}{again}") for again in ("", *(f".{n}" for n in range(2, 10_000))))
    return next(path for path in names if not path.exists())


def copy(source: Database, target: Database) -> None:
    """Copy every row of one engine's gallery into another's that has none. Call it inside transactions of both."""
    for table in TABLES:
        columns = source.columns(table)
        chunks = source.chunks(256, f"SELECT {', '.join(columns)} FROM {table} ORDER BY 1")
        rows: Iterable[Any] = itertools.chain.from_iterable(chunks)
        later: list[tuple[int, int]] = []
        if table == "identity":  # one may refer to another that comes after it
            rows = _without_reference(rows, columns.index("removed_from"), later)
        if table == "template":
            at = columns.index("vector")
            rows = ((*row[:at], target.vector(bytes(row[at])), *row[at + 1 :]) for row in rows)
        target.insert(table, ", ".join(columns), rows)
        target.executemany("UPDATE identity SET removed_from = ? WHERE id = ?", later)
    target.continue_ids()


def _without_reference(rows: Iterable[Any], at: int, later: list[tuple[int, int]]) -> Iterator[Any]:
    """Yield rows without a value that refers to another row; what it is, and of which id, is noted for `later`."""
    for row in rows:
        if row[at] is not None:
            later.append((row[at], row[0]))
        yield (*row[:at], None, *row[at + 1 :])
