"""Searches and cohorts under every fusion, against a brute force of a few numpy lines."""

import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from siamese_index import Gallery
from siamese_index.analysis.doctor import examine
from siamese_index.files import GALLERY_ID
from siamese_index.search.fusion import RULES, fused, fused_by_identity
from siamese_index.store import schema
from siamese_index.thresholds import impostor_searches
from siamese_index.thresholds.impostor_searches import ImpostorSearches


def cloud(n, seed=0, d=8):
    vectors = np.random.default_rng(seed).normal(size=(n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_fusion_by_hand():
    distance = np.array([0.5, 0.3, 0.7])
    assert [fused(distance, rule) for rule in RULES] == pytest.approx([0.3, 0.5, 0.4])
    assert [fused(distance[:1], rule) for rule in RULES] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("rule", RULES)
def test_fusing_all_identities_at_once_is_fusing_each(rule):
    distance = np.random.default_rng(0).random((20, 12)).round(1)  # rounded: ties within an identity
    starts = np.array([0, 1, 3, 8])
    expected = [[fused(part, rule) for part in np.split(row, starts[1:])] for row in distance]
    assert fused_by_identity(distance, starts, rule) == pytest.approx(np.array(expected))


def brute_force(probe, enrolled, rule):
    """(name, distance) of everybody, nearest first."""
    by_name = {}
    for name, vector in enrolled:
        by_name.setdefault(name, []).append(np.linalg.norm(vector.astype(float) - probe.astype(float)))
    return sorted(((fused(np.array(d), rule), name) for name, d in by_name.items()))


def populated(gallery, rule, people=40, each=4):
    names = [f"p{i % people}" for i in range(people * each)]
    vectors = cloud(len(names))
    gallery.enroll_vectors(names, vectors)
    gallery.calibrate_vectors(fusion=rule)
    return list(zip(names, vectors, strict=True))


@pytest.mark.parametrize("rule", RULES)
def test_answers_are_those_of_a_brute_force(vector_gallery, rule):
    enrolled = populated(vector_gallery, rule)
    for name in ("p3", "p7"):
        vector_gallery.remove(name)
    enrolled = [e for e in enrolled if e[0] not in ("p3", "p7")]
    probes = cloud(30, seed=1)
    for probe, answer in zip(probes, vector_gallery.identify_vectors(probes, k=7, threshold=2), strict=True):
        expected = brute_force(probe, enrolled, rule)[:7]
        assert [c.identity for c in answer.candidates] == [name for _, name in expected]
        assert [c.distance for c in answer.candidates] == pytest.approx([d for d, _ in expected], abs=1e-6)
        assert answer.evidence.fusion == "best"  # the caller's threshold rests on nothing learned


@pytest.mark.parametrize("rule", RULES)
def test_every_search_stays_true_through_every_change(vector_gallery, rule):
    def true():
        assert [f.what for f in examine(vector_gallery.path).findings] == []

    populated(vector_gallery, rule)
    more = cloud(60, seed=2)
    vector_gallery.calibrate_vectors(names=[f"s{i}" for i in range(30)], vectors=more[:30])
    true()
    vector_gallery.enroll_vectors(["p1", "p1", "p2", "new", "new", "newer"], more[30:36], conflicts="allow")
    true()
    vector_gallery.enroll_vectors(["p5"], more[40:41] * 0.999 + 0.001 * more[41:42], conflicts="allow")
    true()
    vector_gallery.enroll_vectors(["s4", "twin of s5"], more[[4, 5]], conflicts="allow")  # strangers after all
    true()
    for name in ("p1", "s4", "new"):
        vector_gallery.remove(name)
        true()
    vector_gallery.rename("p2", "s9")
    true()
    vector_gallery.rename("s9", "p2")
    true()
    vector_gallery.calibrate_vectors(fusion="auto")
    true()


def test_of_a_large_gallery_a_random_part_searches(vector_gallery, monkeypatch):
    monkeypatch.setattr(impostor_searches, "OWN_SEARCHES", 50)
    vectors = cloud(200)
    for first in range(0, 200, 20):
        vector_gallery.enroll_vectors([f"p{i}" for i in range(first, first + 20)], vectors[first : first + 20])
    assert vector_gallery.calibrate_vectors().own_searches == 50
    assert [f.what for f in examine(vector_gallery.path).findings] == []
    with vector_gallery._session.store.reading():
        ids = vector_gallery._session.store.impostors.own(1, 8).ids
    assert 60 < np.median(ids) < 140  # early and late ones


def test_a_transaction_that_is_taken_back_leaves_the_searches_as_they_were(vector_gallery, monkeypatch):
    populated(vector_gallery, "best", people=10, each=1)
    with monkeypatch.context() as patch:
        patch.setattr(ImpostorSearches, "seen", lambda self: 1 / 0)  # the last thing before the commit
        with pytest.raises(ZeroDivisionError):
            vector_gallery.enroll_vectors(["late"], cloud(1, seed=3))
    vector_gallery.enroll_vectors(["later"], cloud(1, seed=4))
    assert [row.name for row in vector_gallery.identities()][:2] == ["later", "p0"]
    assert [f.what for f in examine(vector_gallery.path).findings] == []


def test_two_processes_that_enroll_in_turn_see_each_others_searches(vector_gallery):
    populated(vector_gallery, "best", people=10, each=2)
    with Gallery.open(vector_gallery.path) as other:
        for turn in range(4):
            one = (vector_gallery, other)[turn % 2]
            one.enroll_vectors([f"t{turn}"], cloud(1, seed=10 + turn))
    assert [f.what for f in examine(vector_gallery.path).findings] == []


def as_made_by(gallery, version, path):
    """Write what `gallery` holds as the tables of an older schema."""
    statements = [*schema._FIRST, *(schema._SECOND if version > 1 else ()), *(schema._THIRD if version > 2 else ())]
    new = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        new.execute(statement)
    new.execute(
        "CREATE TABLE _sqlite_migrations (id INTEGER PRIMARY KEY, migration_set TEXT, name TEXT, applied_at TEXT)"
    )
    new.execute("CREATE UNIQUE INDEX m ON _sqlite_migrations (migration_set, name)")
    for number in range(1, version + 1):
        new.execute("INSERT INTO _sqlite_migrations VALUES (?, 'siamese_index', ?, '')", (number, str(number)))
    new.execute("ATTACH ? AS old", (str(gallery.path),))
    for (table,) in new.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
        if table.startswith(("sqlite_", "_sqlite")):
            continue
        columns = [{r[1] for r in new.execute(f"PRAGMA {db}.table_info({table})")} for db in ("main", "old")]
        names, source = ", ".join(sorted(columns[0] & columns[1])), f"old.{table}"
        if version == 3 and table == "own_search":  # there they carried what they search with
            names, source = (
                f"{names}, vector",
                f"{source} JOIN (SELECT id, vector FROM old.template) ON id = template_id",
            )
        new.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM {source}")
    if version == 3:
        new.execute("UPDATE main.tower SET templates = (SELECT templates FROM old.tally WHERE tower_id = id)")
    if version == 1:  # there the nearest of a search was a template
        new.execute(
            "UPDATE main.stranger_search SET nearest = (SELECT t.id FROM main.template t JOIN main.sample s"
            " ON s.id = t.sample_id WHERE s.identity_id = nearest)"
        )
    new.execute("DETACH old")
    new.execute(f"PRAGMA application_id = {GALLERY_ID}")
    new.execute(f"PRAGMA user_version = {version}")
    new.close()
    path.chmod(0o600)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_gallery_of_an_older_schema_is_brought_up(file_gallery, tmp_path, version):
    populated(file_gallery, "best", people=10, each=2)
    file_gallery.calibrate_vectors(names=["eve", "mallory"], vectors=cloud(2, seed=5))
    file_gallery.remove("p3")
    as_made_by(file_gallery, version, tmp_path / "old.gallery")
    with Gallery.open(tmp_path / "old.gallery") as gallery:
        assert gallery.identify_vectors(cloud(1, seed=6), threshold=2)[0].verdict == "match"
        assert gallery.threshold().evidence.source in ("given", "given + gallery")
        gallery.enroll_vectors(["late"], cloud(1, seed=7), conflicts="allow")
        assert gallery.calibrate_vectors().own_searches == 19
        assert gallery.outlook().identities == len(gallery.identities()) == 10
    assert [f.what for f in examine(tmp_path / "old.gallery").findings] == []


def test_several_processes_bring_a_gallery_up_at_once(file_gallery, tmp_path):
    populated(file_gallery, "best", people=10, each=2)
    path = tmp_path / "old.gallery"
    as_made_by(file_gallery, 3, path)
    script = f"from siamese_index import Gallery; print(len(Gallery.open({str(path)!r}).identities()))"
    every = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(6)]
    assert [child.communicate()[0].strip() for child in every] == ["10"] * 6
    assert [f.what for f in examine(path).findings] == []


def test_a_stranger_who_is_enrolled_twice_is_searched_among_the_others_of_the_one_with_the_same_bytes(vector_gallery):
    mallory = cloud(1, seed=5)
    vector_gallery.calibrate_vectors(names=["mallory"], vectors=mallory)
    vector_gallery.enroll_vectors(["mallory"], cloud(1, seed=6), conflicts="allow")
    vector_gallery.enroll_vectors(["eve"], mallory, conflicts="allow")
    assert [f.what for f in examine(vector_gallery.path).findings] == []


def test_thirty_identities_refuse_to_promise_one_in_a_thousand_and_say_what_is_missing(vector_gallery):
    vector_gallery.enroll_vectors([f"p{i}" for i in range(30)], cloud(30))
    learned = vector_gallery.threshold(0.001)
    counted = learned.evidence.effective  # of two that are each other's nearest one counts
    assert 15 <= counted < 30 and learned.evidence.missing == 3000 - counted
    assert learned.evidence.promise == pytest.approx(3 / counted)
    answer = vector_gallery.identify_vectors(cloud(1, seed=8), fpir=0.001)[0]
    assert answer.evidence.missing == 3000 - counted and answer.probability is None
