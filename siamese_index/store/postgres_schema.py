"""The tables of a gallery on a PostgreSQL server: those of a file, and how older ones are brought up."""

from __future__ import annotations

from .schema import VERSION

_NOW = "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
TEMPLATE = """(id BIGINT NOT NULL, tower_id BIGINT NOT NULL, sample_id BIGINT NOT NULL,
    identity_id BIGINT NOT NULL, vector vector NOT NULL)"""
HISTORY = (
    """CREATE TABLE former (event_id BIGINT NOT NULL REFERENCES event(id), item TEXT NOT NULL, row_id BIGINT NOT NULL,
        key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (event_id, item, row_id, key))""",
    """CREATE TABLE gone (event_id BIGINT NOT NULL REFERENCES event(id), template_id BIGINT NOT NULL,
        PRIMARY KEY (event_id, template_id))""",
    """CREATE TABLE correction (answer_id BIGINT PRIMARY KEY REFERENCES answer(id), truth TEXT NOT NULL,
        identity_id BIGINT REFERENCES identity(id))""",
    f"""CREATE TABLE backup (id BIGINT PRIMARY KEY DEFAULT nextval('backup_ids'),
        revision BIGINT NOT NULL REFERENCES event(id), at TEXT NOT NULL DEFAULT {_NOW}, path TEXT NOT NULL)""",
)
SCHEMA = (
    *(f"CREATE SEQUENCE {table}_ids" for table in ("event", "identity", "sample", "tower", "template", "stranger",
                                                   "generation", "answer", "backup")),
    "CREATE TABLE about (schema INTEGER NOT NULL)",
    f"INSERT INTO about VALUES ({VERSION})",
    f"""CREATE TABLE event (id BIGINT PRIMARY KEY DEFAULT nextval('event_ids'), verb TEXT NOT NULL,
        detail TEXT NOT NULL, at TEXT NOT NULL DEFAULT {_NOW},
        token BYTEA NOT NULL DEFAULT substring(uuid_send(gen_random_uuid()) from 9 for 8))""",
    """CREATE TABLE identity (id BIGINT PRIMARY KEY, name TEXT COLLATE "C" NOT NULL,
        enrolled BIGINT NOT NULL REFERENCES event(id), removed BIGINT REFERENCES event(id),
        removed_from BIGINT REFERENCES identity(id))""",
    "CREATE UNIQUE INDEX identity_name ON identity(name) WHERE removed IS NULL",
    "CREATE INDEX identity_removed ON identity(removed) WHERE removed IS NOT NULL",
    """CREATE TABLE sample (id BIGINT PRIMARY KEY, identity_id BIGINT NOT NULL REFERENCES identity(id),
        digest BYTEA NOT NULL, source TEXT NOT NULL, enrolled BIGINT NOT NULL REFERENCES event(id), picture BYTEA)""",
    "CREATE INDEX sample_identity ON sample(identity_id)",
    "CREATE INDEX sample_digest ON sample(digest)",
    """CREATE TABLE tower (id BIGINT PRIMARY KEY DEFAULT nextval('tower_ids'), sha256 TEXT NOT NULL UNIQUE,
        dimension INTEGER NOT NULL, added BIGINT NOT NULL REFERENCES event(id), report TEXT, card TEXT NOT NULL,
        false_matches BYTEA NOT NULL, onnx BYTEA, keras BYTEA, detector BYTEA)""",
    """CREATE TABLE tally (tower_id BIGINT PRIMARY KEY REFERENCES tower(id), templates BIGINT NOT NULL,
        mated BYTEA, doubt BYTEA, removed BIGINT REFERENCES event(id))""",
    f"CREATE TABLE template {TEMPLATE} PARTITION BY HASH (identity_id)",
    """CREATE TABLE stranger (id BIGINT PRIMARY KEY, source TEXT NOT NULL, name TEXT NOT NULL, digest BYTEA NOT NULL,
        added BIGINT NOT NULL REFERENCES event(id), picture BYTEA, removed BIGINT REFERENCES event(id))""",
    """CREATE TABLE stranger_search (stranger_id BIGINT NOT NULL REFERENCES stranger(id),
        tower_id BIGINT NOT NULL REFERENCES tower(id), vector BYTEA NOT NULL, own BIGINT REFERENCES identity(id),
        nearest BIGINT REFERENCES identity(id), distance DOUBLE PRECISION, PRIMARY KEY (stranger_id, tower_id))""",
    """CREATE TABLE own_search (template_id BIGINT PRIMARY KEY, tower_id BIGINT NOT NULL REFERENCES tower(id),
        identity_id BIGINT NOT NULL REFERENCES identity(id), nearest BIGINT REFERENCES identity(id),
        distance DOUBLE PRECISION, mate DOUBLE PRECISION)""",
    """CREATE TABLE generation (id BIGINT PRIMARY KEY DEFAULT nextval('generation_ids'),
        tower_id BIGINT NOT NULL REFERENCES tower(id), before BIGINT REFERENCES generation(id),
        begun BIGINT NOT NULL REFERENCES event(id))""",
    """CREATE TABLE setting (id INTEGER PRIMARY KEY CHECK (id = 1), generation_id BIGINT REFERENCES generation(id),
        target_fpir DOUBLE PRECISION NOT NULL, keep_pictures INTEGER NOT NULL, fusion TEXT NOT NULL DEFAULT 'best',
        log INTEGER NOT NULL DEFAULT 0, identities BIGINT NOT NULL DEFAULT 0,
        confidence DOUBLE PRECISION, strict INTEGER NOT NULL DEFAULT 0, shift INTEGER NOT NULL DEFAULT 0,
        horizon BIGINT NOT NULL DEFAULT 0, pending INTEGER NOT NULL DEFAULT 0)""",
    f"""CREATE TABLE answer (id BIGINT PRIMARY KEY DEFAULT nextval('answer_ids'), at TEXT NOT NULL DEFAULT {_NOW},
        revision BIGINT NOT NULL REFERENCES event(id), tower_id BIGINT NOT NULL REFERENCES tower(id),
        probe TEXT NOT NULL, verdict TEXT NOT NULL, identity_id BIGINT REFERENCES identity(id),
        distance DOUBLE PRECISION, threshold DOUBLE PRECISION, vector BYTEA NOT NULL, picture BYTEA)""",
    """CREATE TABLE tag (identity_id BIGINT NOT NULL REFERENCES identity(id), key TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (identity_id, key))""",
    "CREATE INDEX tag_value ON tag(key, value)",
    *HISTORY,
)  # fmt: skip


def _granted(table: str, what: str = "") -> str:
    """Return the statement that lets whoever may read or write towers do so with a new table, too."""
    usable = "USAGE, SELECT, UPDATE" if what else "%s"
    given = f"'GRANT {usable} ON {what or table} TO %s'"
    return f"""DO $$ DECLARE given RECORD; BEGIN
        FOR given IN SELECT privilege_type AS what,
            CASE grantee WHEN 'PUBLIC' THEN 'PUBLIC' ELSE quote_ident(grantee) END AS whom
            FROM information_schema.role_table_grants
            WHERE table_schema = current_schema() AND table_name = 'tower' AND grantee <> current_user
        LOOP EXECUTE format({given}, {"given.what, " if not what else ""}given.whom); END LOOP; END $$"""


MIGRATIONS = {  # the first schema on servers was the third
    4: (
        "ALTER TABLE own_search DROP COLUMN vector",
        "DROP INDEX own_search_tower",
        "CREATE TABLE tally (tower_id BIGINT PRIMARY KEY REFERENCES tower(id), templates BIGINT NOT NULL)",
        "INSERT INTO tally SELECT id, templates FROM tower",
        _granted("tally"),
        "ALTER TABLE tower DROP COLUMN templates",
    ),
    5: (
        "ALTER TABLE stranger ADD COLUMN removed BIGINT REFERENCES event(id)",
        "ALTER TABLE setting ADD COLUMN confidence DOUBLE PRECISION",
        "ALTER TABLE setting ADD COLUMN strict INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE setting ADD COLUMN shift INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE tally ADD COLUMN mated BYTEA",
        "ALTER TABLE tally ADD COLUMN doubt BYTEA",
    ),
    6: ("ALTER TABLE tower ADD COLUMN detector BYTEA",),
    7: (
        "CREATE SEQUENCE backup_ids",
        *HISTORY,
        "ALTER TABLE identity ADD COLUMN removed_from BIGINT REFERENCES identity(id)",
        "ALTER TABLE tally ADD COLUMN removed BIGINT REFERENCES event(id)",
        "ALTER TABLE setting ADD COLUMN horizon BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE setting ADD COLUMN pending INTEGER NOT NULL DEFAULT 0",
        "UPDATE setting SET horizon = (SELECT coalesce(max(id), 0) FROM event)",
        "UPDATE setting SET pending = 2 WHERE EXISTS (SELECT 1 FROM tally WHERE mated IS NULL)",
        *(_granted(table) for table in ("former", "gone", "correction", "backup")),
        _granted("backup_ids", "SEQUENCE backup_ids"),
    ),
}
