"""Is this file a gallery of ours? Its tables when it is opened; its rows when something goes wrong with them."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from siamese_index.errors import Damaged

from .schema import COLUMNS, DEFAULTS, INDEXES

_REMEDY = "Restore a backup: sidx restore FILE"
_EXPRESSION = re.compile(r"\b(check|collate|generated|as)\b", re.IGNORECASE)
_OURS = ("CHECK (id = 1)", "")
_ROWS = (  # what no reference says: a statement that gives rows where it is not so, and what is wrong then
    ("SELECT 1 FROM own_search WHERE template_id NOT IN (SELECT id FROM template)", "A search is by no template"),
    (
        "SELECT 1 FROM template t JOIN tower w ON w.id = t.tower_id WHERE length(t.vector) != 4 * w.dimension",
        "A template is not as long as its tower's",
    ),
    (
        "SELECT 1 FROM stranger_search s JOIN tower w ON w.id = s.tower_id WHERE length(s.vector) != 4 * w.dimension",
        "A stranger's vector is not as long as its tower's",
    ),
    (
        "SELECT 1 FROM answer a JOIN tower w ON w.id = a.tower_id WHERE length(a.vector) != 4 * w.dimension",
        "A logged vector is not as long as its tower's",
    ),
    (
        "SELECT 1 FROM tower WHERE length(false_matches) % 8"
        " UNION ALL SELECT 1 FROM tally WHERE length(mated) % 4 OR length(doubt) % 4",
        "The distances of a tower's strangers are cut",
    ),
    ("SELECT 1 FROM stranger_search WHERE (nearest IS NULL) != (distance IS NULL)", "A stranger is near to nobody"),
    ("SELECT 1 FROM tower WHERE id NOT IN (SELECT tower_id FROM tally)", "A tower has no count of its templates"),
    ("SELECT 1 WHERE (SELECT count(*) FROM setting) != 1", "It has no settings"),
)


def refuse_other_schema(db: sqlite3.Connection, path: Path) -> None:
    """Raise Damaged for a gallery that somebody else made: with code in it, or without our tables and columns."""
    found = db.execute("SELECT type, name, sql, tbl_name FROM sqlite_schema").fetchall()
    for kind, name, sql, table in found:
        if table == "_sqlite_migrations" and kind in ("table", "index"):  # sqlite-utils notes migrations there
            continue
        if kind in ("trigger", "view") or re.match(r"\s*CREATE\s+VIRTUAL", sql or "", re.IGNORECASE):
            what = kind if kind != "table" else "virtual table"
            raise _changed(path, f"It has a {what} {str(name)[:60]!r}, which is not run.")
        if kind == "index" and sql and sql.replace('"', "") not in INDEXES:
            raise _changed(path, f"It has an index {str(name)[:60]!r}, which is not ours.")
        expressions = _EXPRESSION.search((sql or "").replace(*_OURS))
        if expressions:
            raise _changed(path, f"Its table {str(name)[:60]} has a {expressions[0].upper()}, which is not run.")
    there = {name for kind, name, _, _ in found if kind == "table"}
    columns: dict[str, list[str]] = {}
    rows = db.execute(
        "SELECT m.name, p.name, p.type, p.dflt_value FROM sqlite_schema m, pragma_table_info(m.name) p"
        " WHERE m.type = 'table'"
    )
    for table, column, kind, default in rows:
        if default not in DEFAULTS and table != "_sqlite_migrations":
            raise _changed(path, f"Its column {table}.{column} has a default of its own, which is not run.")
        columns.setdefault(table, []).append(f"{column} {kind[:1].lower()}")
    strict = {row[1] for row in db.execute("PRAGMA main.table_list") if row[5]}
    for table, wanted in COLUMNS.items():
        if table not in there:
            raise Damaged(f"{path}: this gallery is not whole.", f"It has no table {table}.", _REMEDY)
        if sorted(columns[table]) != sorted(wanted.split(", ")) or table not in strict:
            raise _changed(path, f"Its table {table} is another one.")


def _changed(path: Path, why: str) -> Damaged:
    return Damaged(f"{path}: this gallery was changed by another program.", why, _REMEDY)


def contradiction(db: sqlite3.Connection) -> str | None:
    """Return what contradicts itself in a gallery, or None. It looks at every row."""
    row = db.execute("PRAGMA foreign_key_check").fetchone()
    if row:
        return f"Row {row[1]} of {row[0]} refers to a {row[2]} that is not there"
    return next((wrong for statement, wrong in _ROWS if db.execute(statement).fetchone()), None)
