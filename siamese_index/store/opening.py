"""Open a gallery's store, or make a new one: in a file or on a server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from siamese_index.errors import BadInput

from . import sqlite
from .sqlite import SQLite

if TYPE_CHECKING:
    from .postgres import PostgreSQL
from siamese_index.store.address import Address, place_of
from siamese_index.store.store import Store


def connect(place: str | Path) -> Store:
    """Open the gallery at a path or address. Raises Missing, Damaged, or BadInput for one of a newer program."""
    where = place_of(place)
    if isinstance(where, Address):
        from .postgres import PostgreSQL

        return Store(PostgreSQL(where))
    return Store(SQLite(where))


@contextlib.contextmanager
def creating(place: str | Path, target_fpir: float, keep_pictures: bool, nodes: Sequence[str] = ()) -> Iterator[Store]:
    """Yield a new gallery inside its first transaction; on leaving it is there, wholly or not at all.

    `nodes` are addresses of further servers for its templates. Raises BadInput when there is one already.
    """
    made: AbstractContextManager[SQLite] | AbstractContextManager[PostgreSQL]
    where = place_of(place)
    if isinstance(where, Address):
        from . import postgres_layout

        made = postgres_layout.creating(where, [place_of(node) for node in nodes])
    elif nodes:
        raise BadInput(
            "Only a gallery on a PostgreSQL server has nodes.", remedy="Leave them out, or use postgresql://…"
        )
    else:
        made = sqlite.creating(where)
    with made as database:
        database.execute(
            "INSERT INTO setting (id, target_fpir, keep_pictures) VALUES (1, ?, ?)", (target_fpir, int(keep_pictures))
        )
        yield Store(database)
