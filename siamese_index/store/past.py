"""Make a copy of a gallery what the gallery was at a revision: nothing of what came later is in it."""

from __future__ import annotations

from .database import Database
from .event_rows import CHANGING, CORRECTION, TAG, TOWER, Events
from .schema import INDEXES

_LATER = (  # in the order in which rows refer to each other
    "UPDATE template SET identity_id = (SELECT identity_id FROM sample WHERE id = sample_id)"
    " WHERE identity_id != (SELECT identity_id FROM sample WHERE id = sample_id)",
    "DELETE FROM correction WHERE answer_id IN (SELECT id FROM answer WHERE revision > ?)",
    "DELETE FROM answer WHERE revision > ?",
    "DELETE FROM backup WHERE revision > ?",
    "DELETE FROM own_search",  # these searches, and those of strangers, are made anew
    "UPDATE stranger_search SET own = NULL, nearest = NULL, distance = NULL",
    "DELETE FROM template WHERE sample_id IN (SELECT id FROM sample WHERE enrolled > ?)",
    "DELETE FROM sample WHERE enrolled > ?",
    "DELETE FROM tag WHERE identity_id IN (SELECT id FROM identity WHERE enrolled > ?)",
    "DELETE FROM stranger_search WHERE stranger_id IN (SELECT id FROM stranger WHERE added > ?)",
    "DELETE FROM stranger WHERE added > ?",
    "DELETE FROM identity WHERE removed_from IS NOT NULL AND enrolled > ?",
    "DELETE FROM identity WHERE enrolled > ?",
    "DELETE FROM generation WHERE begun > ?",
)
_OF_TOWERS = ("own_search", "template", "stranger_search", "tally")


def go_back(database: Database, revision: int) -> None:
    """Undo all later events at once. Searches have to be made anew. Call it inside a transaction."""
    database.execute("DROP INDEX identity_name")  # a name may be somebody else's on the way
    for _, former in Events(database).later(revision):
        row, value = former.row, former.value
        if former.item in CHANGING:
            table, column = CHANGING[former.item]
            database.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (value, row))
        elif former.item == TOWER:
            database.execute("UPDATE tally SET removed = ? WHERE tower_id = ?", (value, row))
        elif former.item == TAG:
            database.execute("DELETE FROM tag WHERE identity_id = ? AND key = ?", (row, former.key))
            if value is not None:
                database.execute("INSERT INTO tag (identity_id, key, value) VALUES (?, ?, ?)", (row, former.key, value))
        elif former.item == CORRECTION:
            database.execute("DELETE FROM correction WHERE answer_id = ?", (row,))
            database.execute(  # unless the log was cleared since
                "INSERT INTO correction (answer_id, truth, identity_id) SELECT id, ?, ? FROM answer"
                " WHERE id = ? AND ? IS NOT NULL",
                (*(value or (None, None)), row, value and value[0]),
            )
    for statement in _LATER:
        database.execute(statement, (revision,) if "?" in statement else ())
    later = database.execute("SELECT id FROM tower WHERE added > ?", (revision,)).fetchall()
    for table in _OF_TOWERS:
        database.executemany(f"DELETE FROM {table} WHERE tower_id = ?", later)
    database.executemany("DELETE FROM tower WHERE id = ?", later)
    database.execute(
        "UPDATE tally SET templates = (SELECT count(*) FROM template WHERE template.tower_id = tally.tower_id)"
    )
    database.execute("UPDATE setting SET identities = (SELECT count(*) FROM identity WHERE removed IS NULL)")
    for table in ("former", "gone"):
        database.execute(f"DELETE FROM {table} WHERE event_id > ?", (revision,))
    database.execute("DELETE FROM event WHERE id > ?", (revision,))
    database.execute(next(index for index in INDEXES if "identity_name" in index))
