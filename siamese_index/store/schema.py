"""The tables of a gallery file and their numbered migrations."""

from __future__ import annotations

import sqlite3

from siamese_index.files import GALLERY_ID

# In the order in which they refer to each other. Columns with the first letter of their type.
COLUMNS = {
    "event": "id i, verb t, detail t, at t, token b",
    "identity": "id i, name t, enrolled i, removed i, removed_from i",
    "sample": "id i, identity_id i, digest b, source t, enrolled i, picture b",
    "tower": "id i, sha256 t, dimension i, added i, report t, card t, false_matches b, onnx b, keras b, detector b",
    "tally": "tower_id i, templates i, mated b, doubt b, removed i",
    "template": "id i, tower_id i, sample_id i, identity_id i, vector b",
    "stranger": "id i, source t, name t, digest b, added i, picture b, removed i",
    "stranger_search": "stranger_id i, tower_id i, vector b, own i, nearest i, distance r",
    "own_search": "template_id i, tower_id i, identity_id i, nearest i, distance r, mate r",
    "generation": "id i, tower_id i, before i, begun i",
    "setting": (
        "id i, generation_id i, target_fpir r, keep_pictures i, fusion t, log i, identities i, confidence r, strict i,"
        " shift i, horizon i, pending i"
    ),
    "answer": (
        "id i, at t, revision i, tower_id i, probe t, verdict t, identity_id i, distance r, threshold r, vector b,"
        " picture b"
    ),
    "tag": "identity_id i, key t, value t",
    "correction": "answer_id i, truth t, identity_id i",
    "former": "event_id i, item t, row_id i, key t, value t",
    "gone": "event_id i, template_id i",
    "backup": "id i, revision i, at t, path t",
}
TABLES = tuple(COLUMNS)
INDEXES = {
    "CREATE UNIQUE INDEX identity_name ON identity(name) WHERE removed IS NULL",
    "CREATE INDEX identity_removed ON identity(removed) WHERE removed IS NOT NULL",
    "CREATE INDEX sample_digest ON sample(digest)",
    "CREATE INDEX sample_identity ON sample(identity_id)",
    "CREATE INDEX tag_value ON tag(key, value)",
    "CREATE UNIQUE INDEX template_sample ON template(sample_id, tower_id)",
}
DEFAULTS = {None, "strftime('%Y-%m-%dT%H:%M:%fZ')", "randomblob(8)", "0", "'best'"}  # of columns
VERSION = 7  # the newest migration, kept in PRAGMA user_version
_FIRST = (
    # Every mutation is one row here; its id is the gallery's revision. The token tells apart two
    # histories of the same length: a restored backup that was enrolled into again.
    """CREATE TABLE event (
        id INTEGER PRIMARY KEY AUTOINCREMENT, verb TEXT NOT NULL, detail TEXT NOT NULL,
        at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
        token BLOB NOT NULL DEFAULT (randomblob(8))) STRICT""",
    """CREATE TABLE identity (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL,
        enrolled INTEGER NOT NULL REFERENCES event(id), removed INTEGER REFERENCES event(id)) STRICT""",
    "CREATE UNIQUE INDEX identity_name ON identity(name) WHERE removed IS NULL",
    """CREATE TABLE sample (
        id INTEGER PRIMARY KEY AUTOINCREMENT, identity_id INTEGER NOT NULL REFERENCES identity(id),
        digest BLOB NOT NULL, source TEXT NOT NULL,
        enrolled INTEGER NOT NULL REFERENCES event(id), picture BLOB) STRICT""",
    "CREATE INDEX sample_identity ON sample(identity_id)",
    "CREATE INDEX sample_digest ON sample(digest)",
    # The large columns stand last: SQLite reads a row only as far as it must.
    """CREATE TABLE tower (
        id INTEGER PRIMARY KEY AUTOINCREMENT, sha256 TEXT NOT NULL UNIQUE, dimension INTEGER NOT NULL,
        added INTEGER NOT NULL REFERENCES event(id), report TEXT, card TEXT NOT NULL, false_matches BLOB NOT NULL,
        onnx BLOB, keras BLOB) STRICT""",
    """CREATE TABLE template (
        id INTEGER PRIMARY KEY AUTOINCREMENT, tower_id INTEGER NOT NULL REFERENCES tower(id),
        sample_id INTEGER NOT NULL REFERENCES sample(id), vector BLOB NOT NULL) STRICT""",
    "CREATE UNIQUE INDEX template_sample ON template(sample_id, tower_id)",
    """CREATE TABLE stranger (
        id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, name TEXT NOT NULL, digest BLOB NOT NULL,
        added INTEGER NOT NULL REFERENCES event(id), picture BLOB) STRICT""",
    # own: the enrolled identity that this stranger is; it is then searched among the others.
    """CREATE TABLE stranger_search (
        stranger_id INTEGER NOT NULL REFERENCES stranger(id), tower_id INTEGER NOT NULL REFERENCES tower(id),
        vector BLOB NOT NULL, own INTEGER REFERENCES identity(id), nearest INTEGER REFERENCES template(id),
        distance REAL, PRIMARY KEY (stranger_id, tower_id)) WITHOUT ROWID, STRICT""",
    """CREATE TABLE generation (
        id INTEGER PRIMARY KEY AUTOINCREMENT, tower_id INTEGER NOT NULL REFERENCES tower(id),
        before INTEGER REFERENCES generation(id), begun INTEGER NOT NULL REFERENCES event(id)) STRICT""",
    """CREATE TABLE setting (
        id INTEGER PRIMARY KEY CHECK (id = 1), generation_id INTEGER REFERENCES generation(id),
        target_fpir REAL NOT NULL, keep_pictures INTEGER NOT NULL) STRICT""",
)
_SECOND = (
    # The nearest of a search is an identity, at the distance that is fused over its templates.
    """CREATE TABLE searched (
        stranger_id INTEGER NOT NULL REFERENCES stranger(id), tower_id INTEGER NOT NULL REFERENCES tower(id),
        vector BLOB NOT NULL, own INTEGER REFERENCES identity(id), nearest INTEGER REFERENCES identity(id),
        distance REAL, PRIMARY KEY (stranger_id, tower_id)) WITHOUT ROWID, STRICT""",
    """INSERT INTO searched SELECT r.stranger_id, r.tower_id, r.vector, r.own, s.identity_id, r.distance
        FROM stranger_search r LEFT JOIN template t ON t.id = r.nearest LEFT JOIN sample s ON s.id = t.sample_id""",
    "DROP TABLE stranger_search",
    "ALTER TABLE searched RENAME TO stranger_search",
    # The gallery's own templates, each searched among the others. mate: the distance to its own identity.
    """CREATE TABLE own_search (
        template_id INTEGER PRIMARY KEY REFERENCES template(id), tower_id INTEGER NOT NULL REFERENCES tower(id),
        nearest INTEGER REFERENCES identity(id), distance REAL, mate REAL) STRICT""",
    "CREATE INDEX own_search_tower ON own_search(tower_id)",
    "ALTER TABLE setting ADD COLUMN fusion TEXT NOT NULL DEFAULT 'best'",
    "ALTER TABLE setting ADD COLUMN log INTEGER NOT NULL DEFAULT 0",
    # Answers, kept when the user wants them: not an event, since they change nothing.
    """CREATE TABLE answer (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
        revision INTEGER NOT NULL REFERENCES event(id), tower_id INTEGER NOT NULL REFERENCES tower(id),
        probe TEXT NOT NULL, verdict TEXT NOT NULL, identity_id INTEGER REFERENCES identity(id),
        distance REAL, threshold REAL, vector BLOB NOT NULL, picture BLOB) STRICT""",
)
_THIRD = (
    # Own searches carry what they search with: reading them needs no join.
    """CREATE TABLE own (
        template_id INTEGER PRIMARY KEY, tower_id INTEGER NOT NULL REFERENCES tower(id),
        identity_id INTEGER NOT NULL REFERENCES identity(id), nearest INTEGER REFERENCES identity(id),
        distance REAL, mate REAL, vector BLOB NOT NULL) STRICT""",
    """INSERT INTO own SELECT o.template_id, o.tower_id, s.identity_id, o.nearest, o.distance, o.mate, t.vector
        FROM own_search o JOIN template t ON t.id = o.template_id JOIN sample s ON s.id = t.sample_id""",
    "DROP TABLE own_search",
    "ALTER TABLE own RENAME TO own_search",
    "CREATE INDEX own_search_tower ON own_search(tower_id)",
    # A template names its identity: reading a million needs no join.
    """CREATE TABLE owned (
        id INTEGER PRIMARY KEY AUTOINCREMENT, tower_id INTEGER NOT NULL REFERENCES tower(id),
        sample_id INTEGER NOT NULL REFERENCES sample(id), identity_id INTEGER NOT NULL REFERENCES identity(id),
        vector BLOB NOT NULL) STRICT""",
    """INSERT INTO owned SELECT t.id, t.tower_id, t.sample_id, s.identity_id, t.vector
        FROM template t JOIN sample s ON s.id = t.sample_id ORDER BY t.id""",
    "DROP TABLE template",
    "ALTER TABLE owned RENAME TO template",
    "CREATE UNIQUE INDEX template_sample ON template(sample_id, tower_id)",
    # What counts and finds at any size without looking at everybody.
    "ALTER TABLE setting ADD COLUMN identities INTEGER NOT NULL DEFAULT 0",
    "UPDATE setting SET identities = (SELECT count(*) FROM identity WHERE removed IS NULL)",
    "ALTER TABLE tower ADD COLUMN templates INTEGER NOT NULL DEFAULT 0",
    "UPDATE tower SET templates = (SELECT count(*) FROM template WHERE tower_id = tower.id)",
    "CREATE INDEX identity_removed ON identity(removed) WHERE removed IS NOT NULL",
    """CREATE TABLE tag (
        identity_id INTEGER NOT NULL REFERENCES identity(id), key TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (identity_id, key)) WITHOUT ROWID, STRICT""",
    "CREATE INDEX tag_value ON tag(key, value)",
)
_FOURTH = (
    # What every enrollment changes lies in few pages: own searches without vectors, a count beside the networks.
    """CREATE TABLE own (
        template_id INTEGER PRIMARY KEY, tower_id INTEGER NOT NULL REFERENCES tower(id),
        identity_id INTEGER NOT NULL REFERENCES identity(id), nearest INTEGER REFERENCES identity(id),
        distance REAL, mate REAL) STRICT""",
    "INSERT INTO own SELECT template_id, tower_id, identity_id, nearest, distance, mate FROM own_search",
    "DROP TABLE own_search",
    "ALTER TABLE own RENAME TO own_search",
    """CREATE TABLE tally (
        tower_id INTEGER PRIMARY KEY REFERENCES tower(id), templates INTEGER NOT NULL) STRICT""",
    "INSERT INTO tally SELECT id, templates FROM tower",
    "ALTER TABLE tower DROP COLUMN templates",
)

_FIFTH = (
    # Strangers can be taken out and brought back; the target is kept on average or with a confidence.
    "ALTER TABLE stranger ADD COLUMN removed INTEGER REFERENCES event(id)",
    "ALTER TABLE setting ADD COLUMN confidence REAL",
    "ALTER TABLE setting ADD COLUMN strict INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE setting ADD COLUMN shift INTEGER NOT NULL DEFAULT 0",
    # Of a tower's strangers: distances between samples of the same one, and how sure the shares of false matches are.
    "ALTER TABLE tally ADD COLUMN mated BLOB",
    "ALTER TABLE tally ADD COLUMN doubt BLOB",
)

_SIXTH = (
    # A tower that finds faces carries its detector.
    "ALTER TABLE tower ADD COLUMN detector BLOB",
)

_SEVENTH = (
    # What a row was before an event changed it (JSON): so that changes can be undone, and the past asked.
    """CREATE TABLE former (
        event_id INTEGER NOT NULL REFERENCES event(id), item TEXT NOT NULL, row_id INTEGER NOT NULL, key TEXT NOT NULL,
        value TEXT NOT NULL, PRIMARY KEY (event_id, item, row_id, key)) WITHOUT ROWID, STRICT""",
    # Templates that are no more, or have other ids since their sample is somebody else's: for what keeps them by id.
    """CREATE TABLE gone (
        event_id INTEGER NOT NULL REFERENCES event(id), template_id INTEGER NOT NULL,
        PRIMARY KEY (event_id, template_id)) WITHOUT ROWID, STRICT""",
    # A sample that was removed belongs to an identity without a name, which was never enrolled; from whom it was.
    "ALTER TABLE identity ADD COLUMN removed_from INTEGER REFERENCES identity(id)",
    "ALTER TABLE tally ADD COLUMN removed INTEGER REFERENCES event(id)",
    # Nothing before the horizon can be undone. Pending: a purge that is still to be swept up (1), searches that are to
    # be made anew (2), since older programs did not keep all that they are judged by.
    "ALTER TABLE setting ADD COLUMN horizon INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE setting ADD COLUMN pending INTEGER NOT NULL DEFAULT 0",
    "UPDATE setting SET horizon = (SELECT coalesce(max(id), 0) FROM event)",
    "UPDATE setting SET pending = 2 WHERE EXISTS (SELECT 1 FROM tally WHERE mated IS NULL)",
    # What somebody said of an answer: identity, stranger or ignored.
    """CREATE TABLE correction (
        answer_id INTEGER PRIMARY KEY REFERENCES answer(id), truth TEXT NOT NULL,
        identity_id INTEGER REFERENCES identity(id)) STRICT""",
    """CREATE TABLE backup (
        id INTEGER PRIMARY KEY AUTOINCREMENT, revision INTEGER NOT NULL REFERENCES event(id),
        at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')), path TEXT NOT NULL) STRICT""",
)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the gallery to VERSION, each migration in a transaction of its own."""
    # Imported here: it costs as much as an identification, and an up-to-date gallery needs none of it.
    from sqlite_utils import Database
    from sqlite_utils.migrations import Migrations

    migrations = Migrations("siamese_index")

    @migrations(name="1")
    def first(db: Database) -> None:
        for statement in _FIRST:
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {GALLERY_ID}")
        db.execute("PRAGMA user_version = 1")

    @migrations(name="2")
    def second(db: Database) -> None:
        for statement in _SECOND:
            db.execute(statement)
        db.execute("PRAGMA user_version = 2")

    @migrations(name="3")
    def third(db: Database) -> None:
        for statement in _THIRD:
            db.execute(statement)
        db.execute("PRAGMA user_version = 3")

    @migrations(name="4")
    def fourth(db: Database) -> None:
        for statement in _FOURTH:
            db.execute(statement)
        db.execute("PRAGMA user_version = 4")

    @migrations(name="5")
    def fifth(db: Database) -> None:
        for statement in _FIFTH:
            db.execute(statement)
        db.execute("PRAGMA user_version = 5")

    @migrations(name="6")
    def sixth(db: Database) -> None:
        for statement in _SIXTH:
            db.execute(statement)
        db.execute("PRAGMA user_version = 6")

    @migrations(name="7")
    def seventh(db: Database) -> None:
        for statement in _SEVENTH:
            db.execute(statement)
        db.execute("PRAGMA user_version = 7")

    migrations.apply(Database(connection))
