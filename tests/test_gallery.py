"""Enroll, identify, remove, swap towers: what a gallery promises, on one real SQLite file."""

import contextlib
import re
import sqlite3
import stat
import threading
import unicodedata

import numpy as np
import pytest

from siamese_index import BadInput, Damaged, Gallery, Locked, Missing, Refusal, TowerFile, Unreadable
from siamese_index.analysis.doctor import examine
from siamese_index.store import postgres
from siamese_index.store import sqlite as store_module


def fill(gallery, person, people=range(6), hand=0):
    return gallery.enroll_many([(f"person {n}", person(n, hand)) for n in people])


# -- enrolling and identifying pictures -------------------------------------------------------------


def test_one_picture_each_is_enough_to_be_found_by_other_hands(gallery, person):
    fill(gallery, person)
    found = [gallery.identify(person(n, hand), threshold=2.0).identity for n in range(6) for hand in (1, 2, 3)]
    right = sum(name == f"person {n}" for n, name in zip(np.repeat(range(6), 3), found, strict=True))
    assert right >= 15  # of 18; chance would be 3


def test_an_answer_says_everything_that_it_rests_on(gallery, person):
    fill(gallery, person)
    answer = gallery.identify(person(2, 0), k=3)
    assert (answer.verdict, answer.identity) == ("match", "person 2")
    assert answer.distance < 1e-3
    assert [c.rank for c in answer.candidates] == [1, 2, 3]
    assert answer.margin == pytest.approx(answer.candidates[1].distance - answer.distance)
    assert answer.expected_false_alarms == 0
    assert answer.tower == gallery.tower.id
    assert answer.revision == gallery.revision
    assert set(answer.ms) == {"decode", "embed", "search", "decide"}
    assert list(answer.to_dict()) == [
        "probe", "verdict", "identity", "distance", "threshold", "margin", "expected_false_alarms", "probability",
        "candidates", "evidence", "tower", "revision", "box", "answer", "ms",
    ]  # fmt: skip


def test_a_stranger_is_unknown_under_the_learned_threshold(gallery, person, world):
    fill(gallery, person)
    answers = list(gallery.identify_many(sorted((world / "strangers").rglob("*.png"))))
    assert len(answers) == 16
    assert sum(a.verdict == "match" for a in answers) <= 2


def test_a_reopened_gallery_answers_as_before(gallery, person):
    fill(gallery, person)
    before = gallery.identify(person(1, 1))
    gallery.close()
    with Gallery.open(gallery.path) as again:
        after = again.identify(person(1, 1))
    assert (after.candidates, after.threshold, after.evidence) == (before.candidates, before.threshold, before.evidence)


def test_an_empty_gallery_knows_nobody(gallery, person):
    answer = gallery.identify(person(0, 0))
    assert (answer.verdict, answer.identity, answer.distance, answer.candidates) == ("unknown", None, None, ())
    assert answer.threshold is None


def test_the_same_picture_again_is_an_answer_and_under_another_name_an_error(gallery, person):
    gallery.enroll("ada", [person(0, 0)])
    revision = gallery.revision
    assert gallery.enroll("ada", [person(0, 0)]).already == [("ada", str(person(0, 0)))]
    with pytest.raises(BadInput, match="already enrolled as 'ada'"):
        gallery.enroll("bob", [person(0, 0)])
    assert gallery.revision == revision
    assert [(row.name, row.samples) for row in gallery.identities()] == [("ada", 1)]


def test_one_bad_picture_refuses_the_identity_but_not_the_batch(gallery, person, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(Unreadable, match="bad.png"):
        gallery.enroll("ada", [person(0, 0), tmp_path / "bad.png"])
    assert gallery.identities() == []
    done = gallery.enroll_many([("ada", person(0, 0)), ("bob", tmp_path / "bad.png"), ("carol", person(2, 0))])
    assert [name for name, _ in done.enrolled] == ["ada", "carol"]
    assert [refusal.source for refusal in done.refused] == [str(tmp_path / "bad.png")]


def test_the_same_picture_under_two_names_in_one_batch_is_listed(gallery, person):
    done = gallery.enroll_many([("ada", person(0, 0)), ("bob", person(0, 0)), ("ada", person(0, 0))])
    assert (len(done.enrolled), len(done.already), len(done.refused)) == (1, 1, 1)


def test_unreadable_probes_are_answered_in_their_place(gallery, person, tmp_path):
    fill(gallery, person)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    answers = list(gallery.identify_many([person(0, 0), tmp_path / "bad.png", person(1, 0)]))
    assert [isinstance(answer, Refusal) for answer in answers] == [False, True, False]
    assert answers[2].identity == "person 1"
    with pytest.raises(Unreadable, match="bad.png"):
        gallery.identify(tmp_path / "bad.png")


def test_a_batch_answers_as_one_by_one(gallery, person):
    fill(gallery, person, range(12))
    probes = [person(n, hand) for n in range(12) for hand in (1, 2, 3)]
    together = [(a.verdict, a.identity) for a in gallery.identify_many(probes)]
    assert together == [(a.verdict, a.identity) for a in map(gallery.identify, probes)]


def test_pictures_may_be_bytes(gallery, person):
    gallery.enroll("ada", [person(0, 0).read_bytes()])
    assert gallery.identify(person(0, 0).read_bytes()).identity == "ada"


@pytest.mark.parametrize(
    "name", ["Ada Lovelace", "阿达", "🦉", "Greek/character01", "a" * 255, "../../etc/passwd", "'; --"]
)
def test_names_may_be_anything_that_people_write(gallery, person, name):
    gallery.enroll(name, [person(0, 0)])
    assert gallery.identify(person(0, 0)).identity == name


@pytest.mark.parametrize("name", ["", "   ", "two\nlines", "nul\0", "a" * 256, "x" * 10_000, "tab\there", "\ud800"])
def test_names_that_would_break_a_listing_are_refused(gallery, person, name):
    with pytest.raises(BadInput):
        gallery.enroll(name, [person(0, 0)])
    assert gallery.identities() == []


def test_a_name_is_one_name_however_its_accents_are_encoded(gallery, person):
    gallery.enroll(unicodedata.normalize("NFD", "Zoë"), [person(0, 0)])
    gallery.enroll(unicodedata.normalize("NFC", "Zoë"), [person(0, 1)])
    assert [(row.name, row.samples) for row in gallery.identities()] == [("Zoë", 2)]


# -- vectors, whose distances one checks by hand ----------------------------------------------------


def test_distances_are_euclidean_between_unit_vectors(vector_gallery, angles):
    vector_gallery.enroll_vectors(["ada", "bob"], 7 * angles(0, 90))  # length does not matter
    answer = vector_gallery.identify_vectors(angles(30), threshold=0.6)[0]
    assert [(c.identity, c.distance) for c in answer.candidates] == [
        ("ada", pytest.approx(2 * np.sin(np.deg2rad(15)))),
        ("bob", pytest.approx(1.0)),
    ]
    assert answer.identity == "ada"


def test_at_the_threshold_counts_as_within(vector_gallery, angles):
    vector_gallery.enroll_vectors(["ada"], angles(0))
    distance = vector_gallery.identify_vectors(angles(30), threshold=0.6)[0].distance
    assert vector_gallery.identify_vectors(angles(30), threshold=distance)[0].verdict == "match"
    below = np.nextafter(distance, 0)
    assert vector_gallery.identify_vectors(angles(30), threshold=below)[0].verdict == "unknown"


def test_two_identities_exactly_as_near_are_ambiguous(vector_gallery, angles):
    vector_gallery.enroll_vectors(["ada", "bob"], angles(-20, 20))
    answer = vector_gallery.identify_vectors(angles(0), threshold=1)[0]
    assert (answer.verdict, answer.identity, answer.margin) == ("ambiguous", None, 0.0)


def test_an_identity_is_as_near_as_its_nearest_template(vector_gallery, angles):
    vector_gallery.enroll_vectors(["ada"] * 40 + ["bob"], angles(*np.linspace(40, 41, 40), 90))
    answer = vector_gallery.identify_vectors(angles(42), k=5, threshold=1)[0]
    assert [c.identity for c in answer.candidates] == ["ada", "bob"]  # though 40 templates lie before bob's


def test_removed_identities_are_not_found_and_may_come_back(vector_gallery, angles):
    vector_gallery.enroll_vectors(["ada", "bob"], angles(0, 10))
    assert vector_gallery.remove("ada") == 1
    answer = vector_gallery.identify_vectors(angles(0), threshold=2)[0]
    assert [c.identity for c in answer.candidates] == ["bob"]
    vector_gallery.enroll_vectors(["ada"], angles(0))
    assert vector_gallery.identify_vectors(angles(0), threshold=2)[0].identity == "ada"


def test_a_renamed_identity_keeps_its_samples(vector_gallery, angles):
    vector_gallery.enroll_vectors(["ada", "bob"], angles(0, 90))
    vector_gallery.rename("ada", "augusta")
    assert vector_gallery.identify_vectors(angles(0), threshold=1)[0].identity == "augusta"
    with pytest.raises(BadInput, match="enrolled already"):
        vector_gallery.rename("augusta", "bob")
    with pytest.raises(Missing, match="'ada' is not enrolled"):
        vector_gallery.rename("ada", "x")


@pytest.mark.parametrize(
    "vectors",
    [np.full((1, 8), np.nan), np.zeros((1, 8)), np.full((1, 8), np.inf), np.ones((1, 7)), np.ones((2, 2, 8)),
     np.array([["a"] * 8]), np.ones((1, 0))],
)  # fmt: skip
def test_vectors_without_a_direction_or_of_another_embedder_are_refused(vector_gallery, vectors):
    with pytest.raises(BadInput):
        vector_gallery.enroll_vectors(["ada"] * len(vectors), vectors)
    assert vector_gallery.identities() == []
    with pytest.raises(BadInput):
        vector_gallery.identify_vectors(vectors)


def test_one_bad_vector_enrolls_none(vector_gallery, angles):
    vectors = angles(0, 10, 20)
    vectors[1] = np.nan
    with pytest.raises(BadInput, match="row 1"):
        vector_gallery.enroll_vectors(["a", "b", "c"], vectors)
    with pytest.raises(BadInput, match="2 names for 3"):
        vector_gallery.enroll_vectors(["a", "b"], angles(0, 10, 20))
    assert vector_gallery.identities() == []


def test_a_gallery_of_pictures_takes_no_vectors_and_the_other_way_round(gallery, vector_gallery, person, angles):
    with pytest.raises(BadInput, match="embeds pictures itself"):
        gallery.enroll_vectors(["ada"], angles(0))
    with pytest.raises(Unreadable, match="not a vector"):
        vector_gallery.enroll("ada", [person(0, 0)])
    with pytest.raises(BadInput, match="holds vectors"):
        _ = vector_gallery.tower


@pytest.mark.parametrize("request_", [{"k": 0}, {"k": 1001}, {"fpir": 0.0}, {"fpir": 1.5}, {"threshold": 3.0},
                                      {"fpir": 0.1, "threshold": 1.0}])  # fmt: skip
def test_impossible_questions_are_refused(vector_gallery, angles, request_):
    with pytest.raises(BadInput):
        vector_gallery.identify_vectors(angles(0), **request_)


# -- the threshold ----------------------------------------------------------------------------------


def brute_force_nearest(gallery):
    """Each stranger's distance to its nearest template of another name, the slow way, from the database itself."""
    db = gallery._session.store.database
    with db.reading():
        enrolled = db.execute(
            "SELECT i.name, t.vector FROM template t JOIN sample s ON s.id = t.sample_id"
            " JOIN identity i ON i.id = s.identity_id JOIN generation g ON g.tower_id = t.tower_id"
            " JOIN setting x ON x.generation_id = g.id WHERE i.removed IS NULL"
        ).fetchall()
        searches = db.execute(
            "SELECT s.name, x.vector, x.distance FROM stranger_search x JOIN stranger s ON s.id = x.stranger_id"
            " JOIN generation g ON g.tower_id = x.tower_id JOIN setting y ON y.generation_id = g.id ORDER BY s.id"
        ).fetchall()
    expected = []
    for name, vector, _ in searches:
        far = [
            np.linalg.norm(np.frombuffer(vector, np.float32).astype(float) - np.frombuffer(v, np.float32))
            for n, v in enrolled
            if n != name
        ]
        expected.append(min((d for d in far if d > 1e-3), default=None))
    return expected, [stored for _, _, stored in searches]


def test_strangers_distances_stay_true_through_every_change(vector_gallery):
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(60, 8))

    def check():
        expected, stored = brute_force_nearest(vector_gallery)
        assert [e is None for e in expected] == [s is None for s in stored]
        assert [s for s in stored if s is not None] == pytest.approx([e for e in expected if e is not None], abs=1e-5)

    vector_gallery.calibrate_vectors(names=[f"s{i}" for i in range(20)], vectors=cloud[:20])
    check()
    for i in range(20, 40):
        vector_gallery.enroll_vectors([f"p{i // 2}"], cloud[i : i + 1])
    check()
    vector_gallery.enroll_vectors(["s3", "s4", "s5"], cloud[40:43] + cloud[3:6])  # strangers who are enrolled after all
    check()
    vector_gallery.remove("p11")
    vector_gallery.remove("s4")
    check()
    vector_gallery.rename("p12", "s7")
    vector_gallery.rename("s3", "p3")
    check()
    vector_gallery.calibrate_vectors(names=["late"] * 4, vectors=cloud[50:54])
    check()
    assert examine(vector_gallery.path).findings == ()


def test_the_threshold_follows_the_gallery(vector_gallery, angles):
    vector_gallery.enroll_vectors(["ada"], angles(0))
    vector_gallery.calibrate_vectors(fpir=0.1, names=[f"s{i}" for i in range(40)], vectors=angles(*range(60, 100)))
    before = vector_gallery.threshold().tau
    assert before == pytest.approx(2 * np.sin(np.deg2rad(63 / 2)))  # the fourth nearest of forty
    vector_gallery.enroll_vectors(["bob"], angles(110))
    assert vector_gallery.threshold().tau == pytest.approx(2 * np.sin(np.deg2rad(14 / 2)), abs=1e-6)  # 11 … 14 away
    vector_gallery.remove("bob")
    assert vector_gallery.threshold().tau == before


def test_without_strangers_nobody_is_named_and_the_missing_number_is_said(vector_gallery, angles):
    vector_gallery.enroll_vectors(["ada"], angles(0))
    answer = vector_gallery.identify_vectors(angles(0))[0]
    assert (answer.verdict, answer.threshold) == ("unknown", None)
    assert answer.evidence.missing == 300
    assert answer.candidates[0].identity == "ada"


def test_a_stranger_who_is_enrolled_is_searched_among_the_others(vector_gallery, angles):
    vector_gallery.calibrate_vectors(names=["ada", "eve"], vectors=angles(0, 100))
    vector_gallery.enroll_vectors(["ada", "bob"], angles(1, 60))
    result = vector_gallery.calibrate_vectors()
    assert result.enrolled_strangers == 1
    expected, stored = brute_force_nearest(vector_gallery)
    assert stored == pytest.approx(expected)
    assert stored[0] == pytest.approx(1.0)  # to bob, 60 degrees away, and not to herself


def test_calibration_reports_what_the_threshold_costs(vector_gallery, angles):
    vector_gallery.enroll_vectors(["ada", "ada", "bob", "bob"], angles(0, 10, 90, 170))
    vector_gallery.calibrate_vectors(fpir=0.05, names=[f"s{i}" for i in range(70)], vectors=angles(*range(200, 270)))
    result = vector_gallery.calibrate_vectors()
    assert (result.misses, result.mated) == (2, 4)
    assert result.fnir == 0.5
    assert result.fnir_interval[0] < 0.5 < result.fnir_interval[1]
    assert result.fpir_interval[0] < 0.05 < result.fpir_interval[1]
    assert result.strangers == {"given": 70}


def test_a_towers_held_out_identities_are_its_strangers(gallery, tower_file, person):
    fill(gallery, person)
    evidence = gallery.threshold().evidence
    assert (
        gallery.calibrate()[0].strangers["tower"] == len(tower_file.cohort) == 36
    )  # 6 of 16 identities, 6 samples each
    assert 6 <= evidence.effective <= evidence.searches <= 36 + len(gallery.samples())
    assert evidence.missing > 0


def test_given_strangers_are_read_and_counted_once(gallery, person, world, tmp_path):
    fill(gallery, person)
    before = gallery.calibrate()[0].strangers["tower"]
    items = [(p.parent.name, p) for p in sorted((world / "strangers").rglob("*.png"))]
    (tmp_path / "bad.png").write_bytes(b"x")
    result, refused = gallery.calibrate(strangers_given=[*items, ("eve", tmp_path / "bad.png")])
    assert result.strangers == {"given": 16, "tower": before}
    assert [r.source for r in refused] == [str(tmp_path / "bad.png")]
    assert gallery.calibrate(strangers_given=items)[0].strangers == {"given": 16, "tower": before}


# -- verifying --------------------------------------------------------------------------------------


def test_verifying_two_pictures_and_a_claim(gallery, person):
    fill(gallery, person)
    assert gallery.verify(person(0, 0), person(0, 0), fmr=0.3).verdict == "match"
    unsure = gallery.verify(person(0, 0), person(0, 0))  # six strangers do not promise 1 %
    assert (unsure.verdict, unsure.evidence.promised) == ("unknown", False) and unsure.evidence.missing > 0
    same = gallery.verify(person(0, 0), person(0, 1)).distance
    other = gallery.verify(person(0, 0), person(5, 1)).distance
    assert same < other
    assert gallery.verify_as(person(3, 0), "person 3").distance < 1e-3
    with pytest.raises(Missing, match="nobody"):
        gallery.verify_as(person(3, 0), "nobody")


# -- towers and generations -------------------------------------------------------------------------


@pytest.fixture(scope="session")
def other_tower(world) -> TowerFile:
    from siamese_index.training import train

    return train(world / "learn", steps=20, size=32, dimension=32, holdout=0.4, seed=1)


def test_promotion_embeds_everything_anew_and_rollback_takes_in_what_came_since(gallery, person, other_tower, world):
    fill(gallery, person)
    items = [(p.parent.name, p) for p in sorted((world / "strangers").rglob("*.png"))]
    gallery.calibrate(strangers_given=items)
    first, before = gallery.tower.id, gallery.identify(person(0, 1))
    candidate = gallery.add_tower(other_tower, {"verdict": "better"})
    assert gallery.identify(person(0, 1)).candidates == before.candidates  # stored, not active
    assert gallery.promote(candidate[:10]) == 6
    assert gallery.tower.id == candidate != first
    assert gallery.identify(person(0, 0)).identity == "person 0"
    strangers = gallery.calibrate()[0].strangers
    assert strangers == {"tower": len(other_tower.cohort), "given": 16}  # given strangers come along
    gallery.enroll("late", [person(9, 0)])
    assert gallery.rollback() == first
    assert gallery.identify(person(9, 0)).identity == "late"
    assert gallery.identify(person(0, 1)).distance == pytest.approx(before.distance)
    assert examine(gallery.path).findings == ()
    with pytest.raises(BadInput, match="no earlier tower to go back to"):
        gallery.rollback()


def test_an_open_gallery_notices_that_another_process_swapped_the_tower(gallery, person, other_tower):
    fill(gallery, person)
    gallery.identify(person(0, 0))
    with Gallery.open(gallery.path) as other:
        other.promote(other.add_tower(other_tower))
    assert gallery.identify(person(0, 0)).tower == other_tower.id


def test_towers_are_named_by_the_beginning_of_their_id(gallery, other_tower):
    gallery.add_tower(other_tower)
    assert gallery.add_tower(other_tower) == other_tower.id  # again changes nothing
    assert [active for _, active in gallery.towers()] == [True, False]
    with pytest.raises(Missing, match="not in this gallery"):
        gallery.promote("ffff00")
    with pytest.raises(BadInput, match="active one already"):
        gallery.promote(gallery.tower.id)


def test_a_gallery_without_pictures_keeps_its_tower(tmp_path, tower_file, other_tower, person):
    with Gallery.create(tmp_path / "g.gallery", tower_file, keep_pictures=False) as gallery:
        gallery.enroll("ada", [person(0, 0)])
        candidate = gallery.add_tower(other_tower)
        with pytest.raises(BadInput, match="no picture in this gallery"):
            gallery.promote(candidate)
        assert gallery.identify(person(0, 0)).identity == "ada"


# -- the file ---------------------------------------------------------------------------------------


def test_the_file_is_for_its_owner_only(file_gallery, angles):
    file_gallery.enroll_vectors(["ada"], angles(0))
    for path in file_gallery.path.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_gallery_is_not_made_over_another_file(file_gallery):
    with pytest.raises(BadInput, match="exists already"):
        Gallery.create(file_gallery.path, dimension=8)


def test_a_gallery_needs_exactly_one_kind_of_content(tmp_path, tower_file):
    with pytest.raises(BadInput):
        Gallery.create(tmp_path / "x.gallery")
    with pytest.raises(BadInput):
        Gallery.create(tmp_path / "x.gallery", tower_file, dimension=8)
    with pytest.raises(BadInput):
        Gallery.create(tmp_path / "x.gallery", dimension=0)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_a_gallery_is_refused(tmp_path):
    with pytest.raises(Missing, match="no such gallery"):
        Gallery.open(tmp_path / "none.gallery")
    (tmp_path / "text.gallery").write_text("hello " * 1000)
    with pytest.raises(Damaged):
        Gallery.open(tmp_path / "text.gallery")
    sqlite3.connect(tmp_path / "other.gallery").execute("CREATE TABLE x (y)").connection.close()
    with pytest.raises(Damaged, match="another program"):
        Gallery.open(tmp_path / "other.gallery")


def test_a_gallery_of_a_newer_program_is_left_alone(file_gallery):
    file_gallery.close()
    with sqlite3.connect(file_gallery.path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(BadInput, match="newer siamese-index"):
        Gallery.open(file_gallery.path)


def test_every_change_is_one_event(vector_gallery, angles):
    vector_gallery.enroll_vectors(["ada", "bob"], angles(0, 90))
    vector_gallery.rename("ada", "eve")
    vector_gallery.remove("bob")
    vector_gallery.calibrate_vectors(fpir=0.05)
    db = vector_gallery._session.store.database
    with db.reading():
        events = [row[0] for row in db.execute("SELECT verb FROM event ORDER BY id")]
        logged = " ".join(row[0] for row in db.execute("SELECT detail FROM event"))
    assert events == ["init", "enroll", "rename", "remove", "calibrate"]
    assert vector_gallery.revision == 5
    assert "ada" not in logged and "bob" not in logged  # no names in the log


def test_durability_and_safety_are_set_on_every_connection(file_gallery):
    db = file_gallery._session.store._db
    found = {
        p: db.execute(f"PRAGMA {p}").fetchone()[0]
        for p in ("synchronous", "foreign_keys", "secure_delete", "trusted_schema")
    }
    assert found == {"synchronous": 2, "foreign_keys": 1, "secure_delete": 1, "trusted_schema": 0}
    mode = db.execute("PRAGMA journal_mode").fetchone()[0]
    assert mode == ("wal" if store_module.wal_is_safe() else "truncate")


@pytest.mark.parametrize(
    ("version", "safe"),
    [((3, 40, 1), False), ((3, 44, 5), False), ((3, 44, 6), True), ((3, 45, 0), False), ((3, 50, 6), False),
     ((3, 50, 7), True), ((3, 51, 0), False), ((3, 51, 3), True), ((3, 52, 0), True)],
)  # fmt: skip
def test_wal_is_used_only_where_sqlite_is_sound(version, safe):
    assert store_module.wal_is_safe(version) is safe


def test_a_second_writer_waits_and_then_says_who_writes(vector_gallery, angles, monkeypatch):
    monkeypatch.setattr(store_module, "WAIT_SECONDS", 0.3)
    monkeypatch.setattr(postgres, "WAIT_SECONDS", 0.3)
    inside, done = threading.Event(), threading.Event()

    def write_slowly():
        with Gallery.open(vector_gallery.path) as other, other._session.store.writing("enroll"):
            inside.set()
            done.wait(10)

    writer = threading.Thread(target=write_slowly)
    writer.start()
    inside.wait(10)
    try:
        with (
            Gallery.open(vector_gallery.path) as impatient,
            pytest.raises(Locked, match=r"process \d+ \(.* enroll\)"),
        ):
            impatient.enroll_vectors(["ada"], angles(0))
        assert vector_gallery.identities() == []  # reading goes on
    finally:
        done.set()
        writer.join()
    vector_gallery.enroll_vectors(["ada"], angles(0))


def test_who_waits_is_never_told_to_wait_for_itself(file_gallery, angles):
    with Gallery.open(file_gallery.path) as other:
        other.enroll_vectors(["ada"], angles(0))
        assert re.fullmatch(r"process \d+ \(.* enroll\)", file_gallery._session.store.database._writer())
        assert "a reader" in other._session.store.database._writer()


def test_a_program_without_a_readable_name_may_write(file_gallery, angles, monkeypatch):
    for name in (["\udcff"], []):
        monkeypatch.setattr("sys.argv", name)
        file_gallery.enroll_vectors([f"ada {len(name)}"], angles(len(name)))
    assert len(file_gallery.identities()) == 2


def test_while_a_gallery_is_replaced_nobody_else_writes(file_gallery, angles, tmp_path, monkeypatch):
    file_gallery.enroll_vectors(["ada"], angles(0))
    file_gallery.backup(tmp_path / "copy")
    monkeypatch.setattr(store_module, "WAIT_SECONDS", 0.1)
    whole, tried = store_module.SQLite.backup, []

    with Gallery.open(file_gallery.path) as other:

        def interrupted(database, path):
            whole(database, path)
            with pytest.raises(Locked):
                other.enroll_vectors(["bob"], angles(90))
            tried.append(path)

        monkeypatch.setattr(store_module.SQLite, "backup", interrupted)
        Gallery.restore(tmp_path / "copy", file_gallery.path, replace=True)
        monkeypatch.undo()
        assert len(tried) == 1
    file_gallery.enroll_vectors(["carol"], angles(90))
    assert [row.name for row in file_gallery.identities()] == ["ada", "carol"]


def test_no_picture_is_refused_and_no_row_is_an_answer(gallery, vector_gallery):
    with pytest.raises(BadInput, match="There are no pictures"):
        gallery.enroll("ada", [])
    assert gallery.enroll_many([], dry_run=True).outlook is not None
    assert vector_gallery.enroll_vectors([], np.zeros((0, 8))).revision == vector_gallery.revision


def test_pictures_go_on_with_the_tower_that_is_swapped_in_meanwhile(gallery, person, monkeypatch, other_tower):
    monkeypatch.setattr("siamese_index.enrollment.CHUNK", 2)

    def items():
        yield from [("one", person(1, 0)), ("two", person(2, 0))]
        with Gallery.open(gallery.path) as elsewhere:
            elsewhere.promote(elsewhere.add_tower(other_tower))
        yield ("three", person(3, 0))

    assert len(gallery.enroll_many(items()).enrolled) == 3
    assert gallery.tower.id == other_tower.id
    assert examine(gallery.path).findings == ()


def test_a_backup_is_complete_and_restoring_puts_the_former_content_beside(file_gallery, angles, tmp_path):
    file_gallery.enroll_vectors(["ada"], angles(0))
    file_gallery.backup(tmp_path / "copy")
    file_gallery.enroll_vectors(["bob"], angles(90))
    with pytest.raises(BadInput, match="exists already"):
        Gallery.restore(tmp_path / "copy", file_gallery.path)
    former = Gallery.restore(tmp_path / "copy", file_gallery.path, replace=True)
    assert [row.name for row in file_gallery.identities()] == ["ada"]  # also in a gallery that was open
    with Gallery.open(former) as kept:
        assert [row.name for row in kept.identities()] == ["ada", "bob"]
    file_gallery.enroll_vectors(["carol"], angles(90))  # another history of the same length
    second = Gallery.restore(tmp_path / "copy", file_gallery.path, replace=True)
    assert second != former
    with Gallery.open(former) as kept, Gallery.open(second) as later:
        assert [row.name for row in kept.identities()] == ["ada", "bob"]
        assert [row.name for row in later.identities()] == ["ada", "carol"]
    assert Gallery.restore(tmp_path / "copy", tmp_path / "new.gallery") is None
    with pytest.raises(BadInput, match="the gallery itself"):
        file_gallery.backup(file_gallery.path)


@pytest.mark.parametrize("damage", ["header", "pages", "cut"])
def test_a_damaged_gallery_is_put_beside_and_restored(file_gallery, angles, tmp_path, damage):
    file_gallery.enroll_vectors(["ada", "bob"], angles(0, 90))
    file_gallery.backup(tmp_path / "copy")
    path = file_gallery.path
    file_gallery.close()
    data = bytearray(path.read_bytes())
    if damage == "header":
        data[:64] = b"\xff" * 64
    elif damage == "pages":
        data[4096 : len(data) // 2] = b"\xff" * (len(data) // 2 - 4096)
    broken = bytes(data[:3000] if damage == "cut" else data)
    path.write_bytes(broken)
    path.with_name(f"{path.name}-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(504))
    former = Gallery.restore(tmp_path / "copy", path, replace=True)
    assert "damaged" in former.name and former.read_bytes() == broken
    with Gallery.open(path) as gallery:
        assert [i.name for i in gallery.identities()] == ["ada", "bob"]
        assert gallery.identify_vectors(angles(1), threshold=0.5)[0].identity == "ada"
    assert examine(path).findings == ()


def test_a_file_of_another_kind_is_not_replaced_by_a_restored_gallery(file_gallery, angles, tmp_path):
    file_gallery.enroll_vectors(["ada"], angles(0))
    file_gallery.backup(tmp_path / "copy")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Damaged):
        Gallery.restore(tmp_path / "copy", tmp_path / "notes.txt", replace=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_after_restoring_an_older_state_nothing_is_stale(file_gallery, tmp_path):
    rng = np.random.default_rng(0)
    names = [f"p{i}" for i in range(6000)]
    file_gallery.enroll_many_vectors(names[:3000], rng.normal(size=(3000, 8)))
    file_gallery.backup(tmp_path / "copy")
    file_gallery.enroll_many_vectors(names[3000:], rng.normal(size=(3000, 8)))
    file_gallery.rebuild_index()
    path = file_gallery.path
    file_gallery.close()
    Gallery.restore(tmp_path / "copy", path, replace=True)
    assert examine(path).findings == ()


def test_a_gallery_is_the_same_one_wherever_one_goes(angles, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with Gallery.create("v.gallery", dimension=8) as gallery:
        monkeypatch.chdir(tmp_path / "elsewhere")
        gallery.enroll_many_vectors([f"p{i}" for i in range(3000)], np.random.default_rng(0).normal(size=(3000, 8)))
        gallery.identify_vectors(angles(0))
        gallery.rebuild_index()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "v.gallery.cache").is_dir()


def test_one_may_write_while_pictures_are_read_and_leave_in_between(gallery, person):
    gallery.enroll_many([(f"p{n}", person(n, 0)) for n in range(4)], conflicts="allow")
    seen = []
    for name, _ in gallery.pictures():
        seen.append(name)
        gallery.tag(name, {"seen": "yes"})
        if len(seen) == 3:
            break
    gallery.remove("p3")
    assert [name for name, _ in gallery.pictures()] == ["p0", "p1", "p2"]


def test_a_gallery_that_came_in_wal_mode_leaves_it_where_sqlite_is_not_sound(file_gallery, angles, monkeypatch):
    path = file_gallery.path
    file_gallery.close()
    monkeypatch.setattr(store_module, "wal_is_safe", lambda *_: False)
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal"
    with Gallery.open(path) as gallery:
        gallery.enroll_vectors(["ada"], angles(0))
        assert gallery._session.store.facts()["journal"].startswith("truncate")


def test_a_gallery_that_is_put_in_its_place_is_noticed(file_gallery, angles, tmp_path):
    file_gallery.enroll_vectors(["ada", "bob"], angles(0, 90))
    assert file_gallery.identify_vectors(angles(1), threshold=0.5)[0].identity == "ada"
    with Gallery.create(tmp_path / "new.gallery", dimension=8) as other:
        other.enroll_vectors(["cyd", "dan"], angles(0, 180))
    (tmp_path / "new.gallery").replace(file_gallery.path)
    assert file_gallery.identify_vectors(angles(1), threshold=0.5)[0].identity == "cyd"
    file_gallery.enroll_vectors(["eve"], angles(45))
    with Gallery.open(file_gallery.path) as again:
        assert [row.name for row in again.identities()] == ["cyd", "dan", "eve"]


def test_nothing_is_written_into_a_gallery_that_is_gone(file_gallery, angles):
    file_gallery.enroll_vectors(["ada"], angles(0))
    file_gallery.path.unlink()
    with pytest.raises(Missing, match="is gone"):
        file_gallery.enroll_vectors(["bob"], angles(90))
    with pytest.raises(Missing, match="is gone"):
        file_gallery.identities()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON identity BEGIN DELETE FROM identity; END",
        "CREATE VIEW v AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "DROP TABLE tag",
        "ALTER TABLE sample RENAME TO simple",
        "ALTER TABLE setting DROP COLUMN strict",
    ],
)
def test_a_gallery_that_another_program_changed_is_refused_in_words(file_gallery, angles, statement):
    file_gallery.enroll_vectors(["ada"], angles(0))
    path = file_gallery.path
    file_gallery.close()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute(statement)
    with pytest.raises(Damaged), Gallery.open(path) as gallery:
        gallery.identify_vectors(angles(1))


def test_a_gallery_in_wal_mode_that_others_use_is_not_put_aside(file_gallery, angles, tmp_path, monkeypatch):
    file_gallery.enroll_vectors(["ada"], angles(0))
    file_gallery.backup(tmp_path / "copy")
    path = file_gallery.path
    file_gallery.close()
    monkeypatch.setattr(store_module, "wal_is_safe", lambda *_: False)
    monkeypatch.setattr(store_module, "WAIT_SECONDS", 0.2)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN")
        other.execute("SELECT * FROM event").fetchone()
        with pytest.raises(Locked):
            Gallery.restore(tmp_path / "copy", path, replace=True)
    assert not list(tmp_path.glob("*before-restore*"))


def test_a_change_inside_a_reading_is_refused_in_words(file_gallery, angles):
    with file_gallery.reading(), pytest.raises(BadInput, match="while it is being read"):
        file_gallery.enroll_vectors(["ada"], angles(0))
    file_gallery.enroll_vectors(["ada"], angles(0))


def test_an_old_program_does_not_write_what_a_newer_one_has_brought_up(file_gallery, angles):
    with contextlib.closing(sqlite3.connect(file_gallery.path)) as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(BadInput, match="newer siamese-index"):
        file_gallery.enroll_vectors(["ada"], angles(0))


def test_a_damaged_backup_is_not_restored(vector_gallery, angles, tmp_path):
    rng = np.random.default_rng(0)
    vector_gallery.enroll_vectors([f"p{i}" for i in range(500)], rng.normal(size=(500, 8)))
    vector_gallery.backup(tmp_path / "copy")
    content = bytearray((tmp_path / "copy").read_bytes())
    content[8192:40960] = bytes(40960 - 8192)
    (tmp_path / "copy").write_bytes(content)
    with pytest.raises(Damaged):
        Gallery.restore(tmp_path / "copy", vector_gallery.path, replace=True)
    assert len(vector_gallery.identities()) == 500


def test_an_older_backup_enrolled_into_again_is_not_mistaken_for_its_future(file_gallery, angles, tmp_path):
    file_gallery.backup(tmp_path / "copy")
    file_gallery.enroll_vectors(["ada"], angles(0))
    assert file_gallery.identify_vectors(angles(0), threshold=1)[0].identity == "ada"
    with Gallery.open(file_gallery.path) as other:
        Gallery.restore(tmp_path / "copy", other.path, replace=True)
        other.enroll_vectors(["bob"], angles(120))  # the same revision and the same ids as ada's
    answer = file_gallery.identify_vectors(angles(0), threshold=1)[0]
    assert answer.verdict == "unknown" and answer.candidates[0].identity == "bob"


def test_a_gallery_lives_in_wal_mode_too(tmp_path, angles, monkeypatch):
    """Where SQLite has no known fault galleries use WAL; this checks our side of it with whatever SQLite is here."""
    monkeypatch.setattr(store_module, "wal_is_safe", lambda *_: True)
    with Gallery.create(tmp_path / "wal.gallery", dimension=8) as gallery:
        gallery.enroll_vectors(["ada", "bob"], angles(0, 90))
        with Gallery.open(gallery.path) as other:
            other.remove("bob")
        assert [c.identity for c in gallery.identify_vectors(angles(1), threshold=1)[0].candidates] == ["ada"]
        assert gallery._session.store.facts()["journal"].startswith("wal")
        modes = {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir() if p.is_file()}
        assert modes == {0o600}
        gallery.backup(tmp_path / "copy")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "wal.gallery", "wal.gallery.lock"]
    Gallery.restore(tmp_path / "copy", tmp_path / "wal.gallery", replace=True)
    assert examine(tmp_path / "wal.gallery").findings == ()


# -- tags -------------------------------------------------------------------------------------


def tagged_gallery(gallery):
    vectors = np.eye(8, dtype=np.float32)
    gallery.enroll_vectors(["a", "b", "c"], vectors[:3], tags={"site": "north"})
    gallery.enroll_vectors(["d", "e"], vectors[3:5], tags={"site": "south", "shift": "night"})
    gallery.enroll_vectors(["f"], vectors[5:6])
    return vectors


def found(gallery, probe, **tags):
    return [c.identity for c in gallery.identify_vectors(probe, k=9, threshold=2, tags=tags)[0].candidates]


def test_only_identities_with_the_tags_are_searched(vector_gallery):
    vectors = tagged_gallery(vector_gallery)
    assert sorted(found(vector_gallery, vectors[3])) == list("abcdef")
    assert sorted(found(vector_gallery, vectors[3], site="north")) == list("abc")
    assert found(vector_gallery, vectors[3], site="south", shift="night") == ["d", "e"]
    with pytest.raises(BadInput, match="Nobody who is enrolled is tagged shift=day site=south"):
        found(vector_gallery, vectors[3], site="south", shift="day")
    assert vector_gallery.identify_vectors(vectors[3], threshold=0.5, tags={"site": "north"})[0].verdict == "unknown"
    assert vector_gallery.identify_vectors(vectors[3], threshold=0.5, tags={"site": "south"})[0].identity == "d"


def test_tags_follow_their_identity(vector_gallery):
    vectors = tagged_gallery(vector_gallery)
    vector_gallery.tag("a", {"site": "south", "post": "gate"})
    vector_gallery.tag("d", {"site": None})
    vector_gallery.remove("e")
    assert found(vector_gallery, vectors[0], site="south") == ["a"]
    assert found(vector_gallery, vectors[0], post="gate") == ["a"]
    assert {row.name: row.tags for row in vector_gallery.identities()}["d"] == {"shift": "night"}
    vector_gallery.rename("a", "z")
    assert found(vector_gallery, vectors[0], post="gate") == ["z"]


def test_a_tag_of_a_thousand_narrows_the_search_exactly(vector_gallery):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5000, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for part in range(5):
        rows = slice(1000 * part, 1000 * part + 1000)
        names = [f"p{i}" for i in range(rows.start, rows.stop)]
        vector_gallery.enroll_vectors(names, vectors[rows], conflicts="allow", tags={"part": str(part)})
    probes = vectors[rng.permutation(5000)[:20]]
    for part in range(5):
        mine = vectors[1000 * part : 1000 * part + 1000]
        nearest = np.linalg.norm(mine[None] - probes[:, None], axis=2).argsort(axis=1)[:, :3] + 1000 * part
        answers = vector_gallery.identify_vectors(probes, k=3, threshold=2, tags={"part": str(part)})
        assert [[c.identity for c in a.candidates] for a in answers] == [[f"p{i}" for i in row] for row in nearest]


# -- many vectors -----------------------------------------------------------------------------


def test_many_vectors_are_all_checked_before_the_first_is_enrolled(vector_gallery, monkeypatch):
    monkeypatch.setattr("siamese_index.enrollment.VECTOR_CHUNK", 10)
    vectors = np.random.default_rng(0).normal(size=(35, 8))
    vectors[33, 2] = np.nan
    with pytest.raises(BadInput, match="row 33"):
        vector_gallery.enroll_many_vectors([f"p{i}" for i in range(35)], vectors)
    with pytest.raises(BadInput, match="empty"):
        vector_gallery.enroll_many_vectors([f"p{i}" for i in range(32)] + [""], vectors[:33])
    assert vector_gallery.identities() == []


def test_many_vectors_go_on_where_they_were_interrupted(vector_gallery, monkeypatch):
    monkeypatch.setattr("siamese_index.enrollment.VECTOR_CHUNK", 10)
    vectors, names = np.random.default_rng(0).normal(size=(35, 8)), [f"p{i}" for i in range(35)]
    told = []

    def interrupt(more):
        told.append(more)
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vector_gallery.enroll_many_vectors(names, vectors, interrupt)
    assert len(vector_gallery.identities()) == 20
    done = vector_gallery.enroll_many_vectors(names, vectors, conflicts="allow")
    assert (len(done.enrolled), len(done.already)) == (15, 20)
    assert vector_gallery.samples("p33")[0].source == "row 33"
