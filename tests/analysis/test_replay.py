"""The decision log: opt-in, durable, asked again of another tower."""

import numpy as np
import pytest

from siamese_index import BadInput, Gallery, TowerFile
from siamese_index.analysis.evaluation import evaluate


def test_nothing_is_logged_unless_asked(gallery, person):
    gallery.enroll("ada", [person(0, 0)])
    gallery.identify(person(0, 1))
    assert gallery.log() == (False, 0)
    with pytest.raises(BadInput, match="No answer has been logged"):
        gallery.replay()


def test_answers_are_kept_until_cleared_and_change_no_revision(gallery, person):
    gallery.enroll("ada", [person(0, 0)])
    assert gallery.log(True) == (True, 0)
    revision = gallery.revision
    list(gallery.identify_many([person(0, 1), person(1, 1)]))
    with Gallery.open(gallery.path) as again:
        assert again.log() == (True, 2)
    assert gallery.revision == revision
    assert gallery.log(False) == (False, 2)
    gallery.identify(person(0, 2))
    assert gallery.log(clear=True) == (False, 0)


def test_replaying_the_active_tower_flips_nothing_until_the_gallery_changes(gallery, person):
    gallery.enroll_many([(f"p{n}", person(n, 0)) for n in range(6)])
    gallery.log(True)
    answers = list(gallery.identify_many([person(n, 0) for n in range(6)]))
    assert [a.verdict for a in answers] == ["match"] * 6
    again = gallery.replay()
    assert (again.answers, again.flips, again.threshold) == (6, (), pytest.approx(answers[0].threshold, abs=1e-5))
    gallery.remove("p2")
    flips = gallery.replay().flips
    assert [(f.probe, f.verdict, f.identity) for f in flips] == [(str(person(2, 0)), "match", "p2")]


@pytest.fixture
def other_tower(tower_file):
    """The same network with one more, empty, field: another tower that answers the same."""
    return TowerFile(tower_file.onnx + b"\x72\x00", tower_file.keras, tower_file.card, tower_file.cohort)


def test_a_candidate_answers_from_the_pictures_without_being_stored_into(gallery, person, world, other_tower):
    gallery.enroll_many([(f"p{n}", person(n, 0)) for n in range(6)])
    gallery.calibrate(strangers_given=[(p.parent.name, p) for p in sorted((world / "strangers").rglob("*.png"))])
    gallery.log(True)
    before = next(gallery.identify_many([person(n, 1) for n in range(6)])).threshold
    candidate = gallery.add_tower(other_tower)
    revision = gallery.revision
    again = gallery.replay(candidate)
    assert (again.answers, again.skipped, again.flips, again.tower) == (6, 0, (), candidate)
    assert again.threshold == pytest.approx(before, abs=1e-5)
    assert gallery.revision == revision


def test_answers_without_pictures_cannot_be_asked_of_another_tower(tower_file, other_tower, person, tmp_path):
    with Gallery.create(tmp_path / "bare.gallery", tower_file, keep_pictures=False) as gallery:
        gallery.enroll("ada", [person(0, 0)])
        gallery.log(True)
        gallery.identify(person(0, 1))
        assert gallery.replay(gallery.add_tower(other_tower)).skipped == 1


def test_a_gallery_of_vectors_is_replayed_too(vector_gallery, angles):
    vector_gallery.enroll_vectors(["ada", "bob"], angles(0, 90))
    vector_gallery.log(True)
    vector_gallery.identify_vectors(angles(1, 88))
    vector_gallery.rename("bob", "robert")
    assert vector_gallery.replay().flips == ()  # the same identity by another name
    vector_gallery.enroll_vectors(["eve"], angles(1))
    assert [f.identity for f in vector_gallery.replay().flips if f.new_identity == "eve"] in ([], ["ada"])
    vector_gallery.remove("ada")
    assert "ada" in [f.identity for f in vector_gallery.replay().flips]


def test_an_evaluation_is_not_logged(gallery, person):
    gallery.enroll("ada", [person(0, 0)])
    gallery.log(True)
    evaluate(gallery, [("ada", person(0, 1))])
    assert gallery.log() == (True, 0)


def test_it_decides_by_the_threshold_of_the_gallery(tmp_path):
    """Also where the gallery is small, and what is usual for its identities is learned from strangers."""
    rng = np.random.default_rng(10)
    people = rng.standard_normal((12, 8))
    with Gallery.create(tmp_path / "v.gallery", dimension=8, fpir=0.05) as gallery:
        gallery.log(True)
        gallery.enroll_vectors([f"p{n}" for n in range(12)], people, conflicts="allow")
        strangers = np.repeat(rng.standard_normal((10, 8)), 3, axis=0) + 0.2 * rng.standard_normal((30, 8))
        near = people[:4] + 0.2 * rng.standard_normal((4, 8))
        names = [*(f"s{n // 3}" for n in range(30)), *(f"near {n}" for n in range(4))]
        gallery.calibrate_vectors(names=names, vectors=np.concatenate([strangers, near]))
        gallery.identify_vectors(people[:3] + 0.2)
        assert gallery.calibrate_vectors().evidence.set_aside > 0
        assert gallery.replay().threshold == pytest.approx(gallery.threshold().tau, abs=1e-9)
        assert gallery.replay().flips == ()
