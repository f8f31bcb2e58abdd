"""Whole galleries: backups, and the way from a file to a server and back."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BadInput, Damaged
from .schema import TABLES
from .sqlite import SQLite
from .sqlite import creating as creating_file
from .store import Address, Store, connect, place_of

if TYPE_CHECKING:
    from .contracts import Database


def backup(store: Store, path: Path) -> None:
    """Write a complete, consistent copy to the file `path`, durably, while the gallery is in use."""
    database = store.database
    if isinstance(database, SQLite):
        if path.exists() and path.samefile(database.path):
            raise BadInput(f"{path} is the gallery itself.", remedy="Choose another file.")
        database.backup(path)
        return
    with creating_file(path, replace=True) as file, store.reading():
        copy(database, file)


def restore(source: Path, place: str | Path, replace: bool) -> Path | None:
    """Make the gallery at `place` what the file `source` is; return where its former content was put."""
    file = SQLite(source)
    try:
        problems = file.problems()
        if problems:
            raise Damaged(f"{source}: this backup is damaged.", problems[0], "Use another backup.")
        target = place_of(place)
        if isinstance(target, Address):
            from . import postgres

            if replace:
                raise BadInput("A gallery on a server is not replaced.", remedy="Restore into an empty database.")
            with postgres.creating(target, ()) as server:
                copy(file, server)
            return None
        if not target.exists():
            file.backup(target)
            return None
        if not replace:
            raise BadInput(f"{place}: exists already.", remedy="Add --replace; its present content is put beside it.")
        gallery = connect(target)
        try:
            kept = f"{target.name}.before-restore-{gallery.revision()[0]}"
            beside = (target.with_name(f"{kept}{again}") for again in ("", *(f".{n}" for n in range(2, 10_000))))
            former = next(path for path in beside if not path.exists())
            assert isinstance(gallery.database, SQLite)
            gallery.database.restore(file, former)
        finally:
            gallery.close()
        return former
    finally:
        file.close()


def copy(source: Database, target: Database) -> None:
    """Copy every row of one engine's gallery into another's that has none. Call it inside transactions of both."""
    for table in TABLES:
        columns = source.columns(table)
        chunks = source.chunks(256, f"SELECT {', '.join(columns)} FROM {table} ORDER BY 1")
        rows: Iterable[Any] = itertools.chain.from_iterable(chunks)
        if table == "template":
            at = columns.index("vector")
            rows = ((*row[:at], target.vector(bytes(row[at])), *row[at + 1 :]) for row in rows)
        target.insert(table, ", ".join(columns), rows)
    target.continue_ids()
