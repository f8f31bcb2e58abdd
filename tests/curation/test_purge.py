"""Who is purged is gone: no byte of picture, vector or name is left in the gallery, nor in a file beside it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from siamese_index import BadInput, Gallery, Missing
from siamese_index.analysis.doctor import examine
from siamese_index.samples import images
from siamese_index.store.purge_rows import path_without, without
from siamese_index.store.store import PURGE
from siamese_index.store.template_rows import Templates
from siamese_index.training.glyphs import glyph
from tests.curation.test_history import stale, unit


def remains(folder, *needles):
    """Return which files of a folder hold any of these bytes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files for needle in needles if needle in path.read_bytes()]


@pytest.fixture
def people(tower_path, tmp_path, person):
    """A gallery with everything in it that can be of a person; the person is Ada Byron."""
    place = tmp_path / "here" / "people.gallery"
    place.parent.mkdir()
    with Gallery.create(place, tower_path) as gallery:
        gallery.log(True)
        gallery.enroll_many([(f"p{n}", person(n, hand)) for n in range(1, 6) for hand in range(3)])
        gallery.enroll("Ada Byron", [person(0, 0), person(0, 1)], tags={"site": "north"}, conflicts="allow")
        gallery.calibrate(fpir=0.1, strangers_given=[("Ada Byron", person(0, 3)), ("eve", person(6, 0))])
        gallery.identify(person(0, 1))
        gallery.identify(person(1, 3))
        gallery.curation.remove_samples([gallery.samples("Ada Byron")[0].id])
        gallery.rename("p5", "Ada Byron 2")
        gallery.rename("Ada Byron 2", "p5")
        gallery.rebuild_index()
    return place


def test_no_byte_of_a_person_is_left(people, person):
    with Gallery.open(people) as gallery:
        rows = gallery.samples("Ada Byron")
        vectors = [gallery.template(row.id).tobytes() for row in rows]
        pictures = [gallery.picture(row.id)[-200:] for row in rows]
        answer = gallery._session.store.log.all()[0]
        vectors.append(answer.vector)
        pictures.append(answer.picture[-200:])
    assert remains(people.parent, *vectors) and remains(people.parent, *pictures)
    with Gallery.open(people) as gallery, Gallery.open(people) as other:
        other.identify(person(1, 3))  # has templates in memory
        copy = people.parent / "copy.gallery"
        gallery.backup(copy)
        receipt = gallery.curation.purge(["Ada Byron"])
        assert (receipt.identities, receipt.samples, receipt.strangers, receipt.swept) == (2, 2, 1, True)
        assert receipt.answers >= 1 and [each.path for each in receipt.backups] == [str(copy)]
        assert stale(gallery) == 0
        for asked in (gallery, other):
            assert "Ada Byron" not in {c.identity for c in asked.identify(person(0, 2), k=9).candidates}
        assert [row.name for row in gallery.identities()] == [f"p{n}" for n in range(1, 6)]
        assert gallery.log()[1] >= 1  # what others asked is still there
        with pytest.raises(Missing, match="nothing to undo"):
            gallery.curation.undo()
        with pytest.raises(BadInput, match="cannot be asked"), gallery.past(3):
            pass
        assert all("Ada" not in json.dumps(row.identities) for row in gallery.curation.history())
        with pytest.raises(Missing, match="nowhere"):
            gallery.curation.purge(["Ada Byron"])
    copy.unlink()
    assert remains(people.parent, *vectors, *pictures, b"Ada Byron") == []
    assert examine(people).findings == ()


@pytest.mark.parametrize("seed", range(5))
def test_random_galleries_hold_nothing_of_who_was_purged(place, tmp_path, seed):
    """Names of 1 to 255 characters, in every table that has one; on a server the tables are looked through."""
    rng = np.random.default_rng(seed)
    letters = [*"abcdefghij éß漢字😀-_'\"%"]
    name = "".join(rng.choice(letters, int(rng.integers(1, 250)))).strip() or "x"
    with Gallery.create(place, dimension=8) as gallery:
        gallery.log(True)
        vectors = unit(rng, 24)
        gallery.enroll_vectors([f"p{n // 3}" for n in range(12)], vectors[:12], conflicts="allow")
        gallery.enroll_vectors([name] * 4, vectors[12:16], conflicts="allow", tags={"who": "this"})
        gallery.calibrate_vectors(fpir=0.2, names=[name, "s1", "s2", "s3"], vectors=vectors[16:20])
        gallery.identify_vectors(vectors[12:15] + 0.01)
        ids = [row.id for row in gallery.samples(name)]
        gallery.curation.move(ids[:1], "p0")
        gallery.curation.remove_samples(ids[1:2])
        if rng.integers(2):
            gallery.remove(name)
        if rng.integers(2):
            gallery.rename("p1", "other")
        moved = gallery.template(ids[0]).tobytes()
        suspected = sum(
            pair.cause == "stranger who was enrolled" and pair.second == name != pair.first
            for pair in gallery.outlook().suspects
        )
        receipt = gallery.curation.purge([name])
        assert receipt.samples == 3 and receipt.strangers == 1 + suspected  # who looks like it, too
        assert stale(gallery) == 0
        held = [*vectors[13:17]]
        if isinstance(place, str):
            rows = gallery._session.store.database.execute("SELECT name FROM identity UNION SELECT name FROM stranger")
            assert name not in {row[0] for row in rows.fetchall()}
            count = gallery._session.store.database.execute("SELECT count(*) FROM template").fetchone()[0]
            assert count == 13
        else:
            needles = [v.astype(np.float32).tobytes() for v in held] + ([name.encode()] if len(name) > 3 else [])
            assert remains(tmp_path, *needles) == []
            assert remains(tmp_path, moved)  # is somebody else's now
    assert examine(place).findings == ()


@pytest.mark.parametrize("seed", range(3))
def test_random_galleries_of_pictures_hold_nothing_of_who_was_purged(tower_path, tmp_path, seed):
    """Pictures, vectors and names of 1 to 255 characters: enrolled, moved, removed, asked about, of strangers."""
    rng = np.random.default_rng(seed)
    letters = [*"abcdefghij éß漢字😀-_'\"%"]
    name = "".join(rng.choice(letters, int(rng.integers(1, 256)))).strip() or "x"
    start = 1000 * seed
    drawn = [images.encode(glyph(start + n, hand)) for n in range(6) for hand in range(2)]
    place = tmp_path / "here" / "g.gallery"
    place.parent.mkdir()
    with Gallery.create(place, tower_path, fpir=0.2) as gallery:
        gallery.log(True)
        gallery.enroll_many([(f"p{n // 2}", drawn[n]) for n in range(6)], conflicts="allow")
        gallery.enroll(name, drawn[6:10], conflicts="allow", tags={"who": "this"})
        gallery.calibrate(strangers_given=[(name, drawn[10]), ("somebody", drawn[11])])
        gallery.identify(drawn[6])
        ids = [row.id for row in gallery.samples(name)]
        gallery.curation.remove_samples(ids[:1])
        if rng.integers(2):
            gallery.rename(name, "another")
            gallery.rename("another", name)
        if rng.integers(2):
            gallery.remove(name)
        vectors = [gallery.template(each.id).tobytes() for each in gallery.samples() if each.identity == name]
        gone = [drawn[n][-60:] for n in range(6, 11)] + vectors + ([name.encode()] if len(name) > 3 else [])
        assert remains(place.parent, *gone)
        receipt = gallery.curation.purge([name])
        assert receipt.samples == 4 and receipt.strangers >= 1 and receipt.answers >= 1
        assert stale(gallery) == 0
    assert remains(place.parent, *gone) == []
    assert examine(place).findings == ()


def test_all_strangers_and_old_answers_are_purged(vector_gallery):
    rng = np.random.default_rng(0)
    gallery = vector_gallery
    gallery.log(True)
    gallery.enroll_vectors(["a", "b"], unit(rng, 2))
    gallery.calibrate_vectors(names=["s1", "s2"], vectors=unit(rng, 2))
    gallery.identify_vectors(unit(rng, 3))
    assert gallery.curation.purge(strangers=True).strangers == 2
    assert gallery.strangers() == []
    gallery.enroll_vectors(["c"], unit(rng, 1), conflicts="allow")
    assert gallery.curation.purge(answers_before="2020-01-01").answers == 0
    assert gallery.curation.purge(strangers=True).strangers == 0
    assert gallery.curation.undo()[0].verb == "enroll"  # nothing was deleted: what was before can be undone
    assert gallery.curation.purge(answers_before="2120-01-01T00:00:00+02:00").answers == 3
    for wrong in ({"answers_before": "yesterday"}, {}):
        with pytest.raises(BadInput):
            gallery.curation.purge(**wrong)


def test_who_is_only_in_a_card_is_purged_from_it(people, tower_file):
    """Those whom a tower learned from or was judged by, and strangers, whose names cards hold, too."""
    learned, judged = tower_file.card.training.identities[0], tower_file.card.training.held_out[0]
    assert remains(people.parent, learned.encode()) and remains(people.parent, judged.encode())
    with Gallery.open(people) as gallery:
        receipt = gallery.curation.purge([learned])
        assert [(each.by_name, each.held_out) for each in receipt.towers] == [(True, False)] and receipt.retrain
        receipt = gallery.curation.purge(strangers=True)
        assert [(each.learned, each.held_out) for each in receipt.towers] == [(False, True)] and not receipt.retrain
        with pytest.raises(Missing, match="nowhere"):
            gallery.curation.purge([learned])
    assert remains(people.parent, learned.encode(), judged.encode()) == []


def test_a_tower_that_learned_before_a_purge_is_not_stored_after_it(people, tower_file):
    from dataclasses import replace

    from siamese_index.errors import Locked

    made = replace(tower_file, onnx=tower_file.onnx + b"\x72\x00")
    with Gallery.open(people) as gallery:
        began = gallery.revision
        gallery.enroll("late", [images.encode(glyph(700, 0))], conflicts="allow")
        gallery.curation.purge(["Ada Byron"])
        with pytest.raises(Locked, match="purged"):
            gallery.add_tower(made, None, began)
        assert len(gallery.towers()) == 1
        gallery.add_tower(made, None, gallery.revision)
        assert len(gallery.towers()) == 2


def test_a_receipt_knows_what_a_gallery_was_restored_from_and_a_lesser_copy_replaces_none(people, tmp_path):
    copy = tmp_path / "copy.gallery"
    with Gallery.open(people) as gallery:
        gallery.backup(copy)
        with pytest.raises(BadInput, match="holds more"):
            gallery.backup(copy, pictures=False)
        gallery.backup(tmp_path / "lesser.gallery", pictures=False)
    with Gallery.open(tmp_path / "lesser.gallery") as lesser:
        assert lesser.log() == (False, 0)
    Gallery.restore(copy, people, replace=True)
    with Gallery.open(people) as gallery:
        receipt = gallery.curation.purge(["p1"])
        assert str(copy) in {each.path for each in receipt.backups}


def test_killed_before_the_file_is_rewritten_it_is_done_when_it_is_next_opened(people, person):
    with Gallery.open(people) as gallery:
        row = gallery.samples("Ada Byron")[0]
        vector, picture = gallery.template(row.id).tobytes(), gallery.picture(row.id)[-200:]
    script = (
        "import os, sys; from siamese_index import Gallery; from siamese_index.store.sqlite import SQLite\n"
        "SQLite.sweep = lambda *_: os._exit(9)\n"
        "Gallery.open(sys.argv[1]).curation.purge(['Ada Byron'])"
    )
    assert subprocess.run([sys.executable, "-c", script, people]).returncode == 9
    with Gallery.open(people) as gallery:
        assert "Ada Byron" not in [row.name for row in gallery.identities()]
        with gallery._session.store.reading():
            assert gallery._session.store.pending() != PURGE
    assert remains(people.parent, vector, picture, b"Ada Byron") == []


def test_an_index_that_was_read_before_the_purge_is_not_put_in_place_after_it(people, monkeypatch):
    read, purged = Templates.chunks, []

    def purged_meanwhile(self, *arguments):
        for rows in read(self, *arguments):
            if not purged:
                purged.append(1)
                with Gallery.open(people) as other:
                    other.curation.purge(["Ada Byron"])
            yield rows

    with Gallery.open(people) as gallery:
        vector = gallery.template(gallery.samples("Ada Byron")[0].id).tobytes()
        gallery.identify_many([])
        monkeypatch.setattr(Templates, "chunks", purged_meanwhile)
        with pytest.raises(Missing, match="purged while its index was written"):
            gallery._session.searcher(gallery._session.state()).index.rebuild()
    assert purged and remains(people.parent, vector) == []


def test_copies_for_others_hold_no_pictures_and_nothing_removed(people, person, tmp_path):
    with Gallery.open(people) as gallery:
        gone = gallery.template(gallery.samples("p2")[0].id).tobytes()
        gallery.remove("p2")
        tau, row = gallery.threshold().tau, gallery.samples("p1")[0]
        picture, vector = gallery.picture(row.id)[-200:], gallery.template(row.id).tobytes()
        for path, options in (("a", {"removed": False}), ("b", {"pictures": False})):
            for _ in range(2):  # a later one replaces an earlier one
                gallery.backup(tmp_path / path, **options)
                gallery.tag("p1", {"x": "y"})
        assert gallery.curation.removed()[0]
    assert remains(people.parent, gone)
    for path, kept in (("a", True), ("b", False)):
        data = (tmp_path / path).read_bytes()
        assert vector in data and (picture in data) == kept and gone not in data
        with Gallery.open(tmp_path / path) as copy:
            assert copy.curation.removed() == ([], [])
            assert copy.threshold().tau == pytest.approx(tau, abs=0.05)
            assert copy.log()[1] == (2 if kept else 0)
            assert copy.identify(person(1, 3)).identity == "p1"
        assert examine(tmp_path / path).findings == ()


def test_names_are_taken_out_of_paths_and_cards():
    assert path_without("photos/bob/1.png", ["bob"]) == "photos/(purged)/1.png"
    assert path_without("bob-2.jpg", ["bob"]) == "(purged)-2.jpg"
    assert path_without("bob17.jpg", ["bob"]) == "(purged)17.jpg"
    assert path_without("bobby.jpg", ["bob"]) == "bobby.jpg"
    assert path_without("x/ada/b/1.png", ["ada/b"]) == "x/(purged)/1.png"
    assert path_without("visit_bob.npy", ["bob"]) == "visit_(purged).npy"
    assert path_without("Photo of BOB.png", ["bob"]) == "Photo of (purged).png"
    assert without({"a": ["bob", {"bob": 1}], "b": "bobby"}, ["bob"]) == {
        "a": ["(purged)", {"(purged)": 1}],
        "b": "bobby",
    }


def test_the_command_asks_and_prints_a_receipt(people, sidx, tmp_path):
    g = ("-g", str(people))
    refused = sidx("purge", "Ada Byron", *g)
    assert refused.returncode == 2 and "Add --yes" in refused.stderr
    assert sidx("purge", *g, "--yes").returncode == 2
    assert sidx("purge", "nobody", "--yes", *g).returncode == 4
    done = sidx("purge", "Ada Byron", "--yes", *g)
    assert done.returncode == 0, done.stderr
    receipt = json.loads(done.stdout)
    assert receipt["names"] == ["Ada Byron"] and receipt["samples"] == 2 and receipt["towers"] == []
    assert sidx("backup", "c.backup", "--for-colleague", *g).returncode == 0


def test_who_was_merged_renamed_or_tagged_is_gone_under_every_name(place, tmp_path):
    rng = np.random.default_rng(5)
    vectors = unit(rng, 12)
    with Gallery.create(place, dimension=8) as gallery:
        gallery.log(True)
        gallery.enroll_vectors(["bobby", "bobby", "alice", "dan"], vectors[:4], conflicts="allow")
        gallery.curation.remove_samples([gallery.samples("bobby")[0].id])
        gallery.curation.merge("bobby", "alice")
        assert [row.identity for row in gallery.curation.removed()[1]] == ["alice"]
        gallery.rename("alice", "alicia")
        gallery.tag("dan", {"friend": "alice", "bobby": "1"})
        with pytest.raises(Missing, match="'alice' is called 'alicia' now"):
            gallery.curation.purge(["alice"])
        for names in (["alicia", "nobody"], ["nobody"]):
            with pytest.raises(Missing, match="'nobody' is nowhere"):
                gallery.curation.purge(names, strangers=True)
        assert "alicia" in [row.name for row in gallery.identities()]  # nothing was purged
        receipt = gallery.curation.purge(["alicia"])
        assert receipt.samples == 3 and gallery.curation.removed() == ([], [])
        assert {row.name: row.tags for row in gallery.identities()} == {"dan": {"friend": "(purged)"}}
        with pytest.raises(BadInput):
            gallery.curation.purge("dan")
    if not isinstance(place, str):
        assert remains(tmp_path, b"alice", b"alicia", b"bobby", *(v.tobytes() for v in vectors[:3])) == []


def test_removed_samples_go_back_to_whom_theirs_were_merged_into_and_to_who_lost_the_last(vector_gallery):
    rng = np.random.default_rng(5)
    gallery = vector_gallery
    gallery.enroll_vectors(["amy", "amy", "dan", "bob"], unit(rng, 4), conflicts="allow")
    amy, bob = gallery.samples("amy")[0].id, gallery.samples("bob")[0].id
    gallery.curation.remove_samples([amy, bob])
    assert "bob" not in [row.name for row in gallery.identities()]
    gallery.curation.merge("amy", "dan")
    gallery.curation.restore_samples([amy, bob])
    assert {row.name: row.samples for row in gallery.identities()} == {"bob": 1, "dan": 3}
    assert stale(gallery) == 0
    gallery.curation.undo(3)
    assert {row.name: row.samples for row in gallery.identities()} == {"amy": 2, "bob": 1, "dan": 1}
    for wrong in ([], [True], [amy, amy]):
        with pytest.raises(BadInput):
            gallery.curation.move(wrong, "dan")
    with pytest.raises(BadInput, match="already"):
        gallery.curation.move([amy], "amy")


def test_what_comes_back_after_another_tower_was_promoted_is_embedded_by_it(gallery, tower_file, person):
    from dataclasses import replace

    gallery.enroll_many([(f"p{n}", person(n, hand)) for n in range(4) for hand in range(2)], conflicts="allow")
    one = gallery.samples("p0")[0].id
    gallery.curation.remove_samples([one])
    gallery.promote(gallery.add_tower(replace(tower_file, onnx=tower_file.onnx + b"\x72\x00")))
    gallery.curation.restore_samples([one])
    assert gallery.identify(person(0, 0)).distance == pytest.approx(0, abs=1e-3)
    assert examine(gallery.path).findings == ()


def test_dates_of_other_centuries_are_dates(vector_gallery):
    gallery = vector_gallery
    gallery.log(True)
    gallery.enroll_vectors(["a"], unit(np.random.default_rng(0), 1))
    gallery.identify_vectors(unit(np.random.default_rng(1), 3))
    assert gallery.curation.purge(answers_before="0999-01-01").answers == 0
    for far in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        with pytest.raises(BadInput):
            gallery.curation.purge(answers_before=far)


def test_a_copy_without_removed_has_no_answers_about_them(file_gallery, tmp_path):
    rng = np.random.default_rng(2)
    vectors = unit(rng, 4)
    file_gallery.log(True)
    file_gallery.enroll_vectors(["caroline", "dan"], vectors[:2], conflicts="allow", tags={"by": "caroline"})
    file_gallery.calibrate_vectors(names=["s1", "s2"], vectors=vectors[2:])
    file_gallery.identify_vectors(vectors[:1] + 0.001)
    probe = file_gallery._session.store.log.all()[0].vector
    file_gallery.remove("caroline")
    file_gallery.backup(tmp_path / "copy", removed=False)
    data = (tmp_path / "copy").read_bytes()
    assert probe not in data and b"caroline" not in data and vectors[1].tobytes() in data


def test_on_a_server_a_purge_waits_a_while_and_says_so(new_database):
    address = new_database()
    rng = np.random.default_rng(0)
    with Gallery.create(address, dimension=8) as gallery, Gallery.open(address) as other:
        gallery.enroll_vectors(["personname", "b"], unit(rng, 2), conflicts="allow")
        with other._session.store.reading():
            other._session.store.database.execute("SELECT count(*) FROM identity").fetchone()
            assert gallery._session.sweep(wait=0.5) is not None
        with gallery._session.store.writing("test"):
            gallery._session.store.database.statement("ANALYZE identity")
        receipt = gallery.curation.purge(["personname"])
        assert receipt.swept
        told = gallery._session.store.database.execute("SELECT count(*) FROM pg_stats WHERE most_common_vals::text LIKE ?"
                                                       " OR histogram_bounds::text LIKE ?", ("%personname%",) * 2)  # fmt: skip
        assert told.fetchone()[0] == 0


def test_a_copy_of_the_past_that_was_killed_is_swept(people):
    script = (
        "import os, sys, time; from siamese_index import Gallery\n"
        "g = Gallery.open(sys.argv[1])\n"
        "with g.past(3): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script, people]).returncode == 9
    assert [path for path in people.parent.iterdir() if "past" in path.name]
    Gallery.open(people).close()
    assert [path for path in people.parent.iterdir() if "past" in path.name] == []
