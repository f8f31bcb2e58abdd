"""Galleries that somebody else made, or of which a page was lost: damaged, not a bug, and nothing is waited for."""

import sqlite3

import numpy as np
import pytest

from siamese_index import Damaged, Gallery, SiameseIndexError
from siamese_index.analysis.doctor import examine
from siamese_index.store.schema import COLUMNS


@pytest.fixture
def filled(file_gallery):
    """People and strangers, an answer on record, one who was removed; two samples each."""
    rng = np.random.default_rng(0)
    people = np.repeat(rng.normal(size=(20, 8)), 2, axis=0) + 0.1 * rng.normal(size=(40, 8))
    file_gallery.enroll_vectors([f"p{i // 2}" for i in range(40)], people, conflicts="allow")
    file_gallery.calibrate_vectors(names=[f"s{i}" for i in range(60)], vectors=rng.normal(size=(60, 8)))
    file_gallery.log(True)
    file_gallery.identify_vectors(people[:2])
    file_gallery.remove("p2")
    file_gallery.close()
    return file_gallery.path


def changed(path, statement, *values):
    with sqlite3.connect(path) as db:
        db.execute(statement, values)
    db.close()


def everything(path):
    """Ask all there is; return what was raised."""
    rng, raised = np.random.default_rng(1), []

    def tried(work):
        try:
            with Gallery.open(path) as gallery:
                work(gallery)
        except SiameseIndexError as error:
            raised.append(error)

    for work in (
        lambda g: g.identify_vectors(rng.normal(size=(2, 8))),
        lambda g: (g.identities(), g.samples(), g.strangers(), g.towers(), g.outlook()),
        lambda g: (g.audit(), g.replay(), g.index_status()),
        lambda g: (g.rename("p4", "q"), g.remove("p5"), g.calibrate_vectors(fpir=0.2)),
        lambda g: g.enroll_vectors(["new"], rng.normal(size=(1, 8)), conflicts="allow"),
        lambda g: g.rollback(),
    ):
        tried(work)
    try:
        examine(path)
    except SiameseIndexError as error:
        raised.append(error)
    return raised


def test_the_columns_of_a_new_gallery_are_those_that_are_looked_for(filled):
    with sqlite3.connect(filled) as db:
        for table, wanted in COLUMNS.items():
            found = [f"{row[1]} {row[2][0].lower()}" for row in db.execute(f"PRAGMA table_info({table})")]
            assert sorted(found) == sorted(wanted.split(", "))
    db.close()


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE tag ADD COLUMN more TEXT",
        "ALTER TABLE answer DROP COLUMN picture",
        "ALTER TABLE tag RENAME COLUMN key TO k",
    ],
)
def test_a_table_that_is_another_one_is_refused(filled, statement):
    changed(filled, statement)
    with pytest.raises(Damaged, match="changed by another program"):
        Gallery.open(filled)


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("UPDATE setting SET target_fpir = ?", 1e308),
        ("UPDATE setting SET target_fpir = ?", -1.0),
        ("UPDATE setting SET confidence = ?", 1e308),
        ("UPDATE setting SET identities = ?", -(1 << 62)),
        ("UPDATE setting SET fusion = ?", "median"),
        ("UPDATE tower SET dimension = ?", -1),
        ("UPDATE tower SET dimension = ?", 1 << 62),
        ("UPDATE tower SET sha256 = ?", "../../x\0"),
        ("UPDATE tower SET false_matches = ?", b"x"),
        ("UPDATE tally SET mated = ?", b"x"),
        ("UPDATE tally SET tower_id = ?", 9),
        ("UPDATE identity SET id = ? WHERE id = 1", -1),
        ("UPDATE template SET identity_id = ?", 0),
        ("UPDATE own_search SET template_id = ? WHERE template_id = 1", 7777),
        ("UPDATE stranger_search SET nearest = ?", 1 << 61),
        ("UPDATE generation SET before = ?", -1),
        ("UPDATE answer SET vector = ?", b""),
        ("DELETE FROM setting WHERE id = ?", 1),
    ],
)  # fmt: skip
def test_what_cannot_be_is_damage_and_no_bug(filled, statement, value):
    changed(filled, statement, value)
    try:
        found = bool(examine(filled).findings)
    except Damaged:
        found = True
    assert found or any(isinstance(error, Damaged) for error in everything(filled))


def test_a_mistake_of_a_caller_is_no_damage(filled):
    with Gallery.open(filled) as gallery, pytest.raises(KeyError), gallery.reading():
        raise KeyError("mine")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX mine ON event(instr(hex(zeroblob(5000000)), hex(zeroblob(2500000)) || '1')) WHERE id > 99999",
        "CREATE INDEX mine ON identity(name COLLATE nocase)",
        "CREATE TRIGGER _sqlite AFTER INSERT ON _sqlite_migrations BEGIN DELETE FROM event; END",
        "DROP INDEX sample_digest; CREATE INDEX sample_digest ON sample(hex(digest))",
        "PRAGMA writable_schema = 1; UPDATE sqlite_schema SET sql = replace(sql, 'verb TEXT', 'verb TEXT CHECK (verb = 1)')",
        "PRAGMA writable_schema = 1; UPDATE sqlite_schema SET sql = replace(sql, 'randomblob(8)', 'zeroblob(900000000)')",
    ],
)
def test_code_in_the_schema_is_refused(filled, statement):
    db = sqlite3.connect(filled, isolation_level=None)
    db.executescript(statement)
    db.close()
    with pytest.raises(Damaged, match="changed by another program"):
        Gallery.open(filled)
