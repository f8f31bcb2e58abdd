"""Which index for which gallery: a file has its cache beside it, a server searches where the templates are."""

from __future__ import annotations

from pathlib import Path

from siamese_index.store.rows import TowerRow
from siamese_index.store.store import Store

from .file_index import FileIndex
from .template_index import TemplateIndex


def index_of(store: Store, tower: TowerRow) -> TemplateIndex:
    """Return what searches among the templates of a tower."""
    if isinstance(store.home, Path):
        return FileIndex(store, store.home, tower.id, tower.sha256, tower.dimension)
    from .postgres_index import PostgresIndex, postgres_of  # needs psycopg

    return PostgresIndex(store, postgres_of(store), tower)
