"""An answer that was wrong becomes a sample, a stranger, or an example; and what that gains is told."""

import numpy as np
import pytest

from siamese_index import BadInput, Gallery, Missing
from tests.curation.test_history import content, stale, unit


@pytest.fixture
def asked(vector_gallery):
    """A gallery of vectors that has answered: six probes of somebody whom it does not know, three of others."""
    rng = np.random.default_rng(1)
    gallery, new = vector_gallery, unit(rng, 1)
    gallery.log(True)
    gallery.enroll_vectors([f"p{n // 2}" for n in range(12)], np.repeat(unit(rng, 6), 2, 0) + 0.05 * unit(rng, 12))
    gallery.calibrate_vectors(fpir=0.1, names=[f"s{n}" for n in range(30)], vectors=unit(rng, 30))
    probes = np.concatenate([new + 0.05 * unit(rng, 6), unit(rng, 3)])
    answers = gallery.identify_vectors(probes)
    assert [a.verdict for a in answers][:6] == ["unknown"] * 6
    return gallery


def test_an_answer_becomes_a_sample_and_others_follow(asked):
    before = content(asked)
    done = asked.curation.correct(1, "new one")
    assert (done.truth, done.name, done.samples, done.new, done.named) == ("identity", "new one", 1, True, 5)
    assert stale(asked) == 0
    rows = {row.id: row for row in asked.curation.answers(100)}
    assert (rows[1].corrected, rows[1].truth) == ("identity", "new one") and rows[2].corrected is None
    assert rows[1].tower == "vectors-8" and rows[1].revision > 0 and rows[1].threshold is not None
    again = asked.curation.correct(2, "new one")
    assert (again.new, again.samples, again.named) == (False, 1, 4)
    with pytest.raises(BadInput, match="corrected already"):
        asked.curation.correct(1, stranger=True)
    asked.curation.undo(2)
    assert content(asked) == before
    assert all(row.corrected is None for row in asked.curation.answers(100))
    assert asked.curation.correct(1, stranger=True).truth == "stranger"


def test_an_answer_becomes_a_stranger_or_is_ignored(asked):
    strangers = len(asked.strangers())
    done = asked.curation.correct(7, stranger=True)
    assert (done.truth, done.name, done.samples) == ("stranger", "answer 7", 1)
    assert len(asked.strangers()) == strangers + 1 and stale(asked) == 0
    assert asked.curation.correct(8, ignore=True).samples == 0
    assert {row.id: row.corrected for row in asked.curation.answers(100)}[8] == "ignored"
    asked.curation.undo(2)
    assert len([row for row in asked.strangers() if row.state != "removed"]) == strangers
    for wrong in ({}, {"name": "x", "stranger": True}, {"stranger": True, "ignore": True}):
        with pytest.raises(BadInput, match="not told"):
            asked.curation.correct(9, **wrong)
    with pytest.raises(Missing, match="no answer 99"):
        asked.curation.correct(99, "x")


def test_corrections_are_undone_and_asked_also_when_the_log_was_cleared_since(asked):
    before, revision = content(asked), asked.revision
    asked.curation.correct(1, "new one")
    asked.curation.correct(2, stranger=True)
    asked.curation.undo()
    asked.curation.correct(2, stranger=True)
    asked.log(clear=True)
    asked.curation.undo()
    with asked.past(revision + 2) as past:
        assert past.curation.answers() == []
    with asked.past(revision) as past, asked.past(revision + 1) as later:
        assert content(past) == before and "new one" in [row.name for row in later.identities()]
    asked.curation.undo()
    assert content(asked) == before


def test_a_picture_is_corrected_too(gallery, person, tmp_path):
    gallery.enroll_many([(f"p{n}", person(n, 0)) for n in range(5)])
    done = gallery.curation.correct(person(1, 3), "p1")
    assert (done.samples, done.new) == (1, False)
    assert gallery.curation.correct(person(1, 3), "p1").samples == 0
    with pytest.raises(BadInput, match="already enrolled as 'p1'"):
        gallery.curation.correct(person(1, 3), "p2")
    assert gallery.curation.correct(person(7, 0), stranger=True).samples == 1
    with pytest.raises(BadInput, match="Only an answer on record"):
        gallery.curation.correct(person(1, 2), ignore=True)


def test_an_answer_of_an_earlier_tower_is_embedded_from_its_picture(gallery, tower_file, person):
    from dataclasses import replace

    gallery.log(True)
    gallery.enroll_many([(f"p{n}", person(n, 0)) for n in range(5)])
    gallery.identify(person(1, 3))
    gallery.promote(gallery.add_tower(replace(tower_file, onnx=tower_file.onnx + b"\x72\x00")))
    assert gallery.curation.correct(1, "p1").samples == 1
    sample = gallery.samples("p1")[-1]
    assert np.allclose(gallery.template(sample.id), gallery.embed([person(1, 3)])[0][0], atol=1e-2)


def test_the_command_line(sidx, tmp_path, tower_path, person):
    with Gallery.create(tmp_path / "main.gallery", tower_path) as gallery:
        gallery.enroll_many([(f"p{n}", person(n, 0)) for n in range(5)])
        gallery.log(True)
    assert sidx("identify", person(7, 0), "--exit-zero").returncode == 0
    listed = sidx("log", "list")
    assert listed.returncode == 0 and '"id": 1' in listed.stdout and "sidx correct" in listed.stderr
    done = sidx("correct", 1, "--is", "new")
    assert done.returncode == 0 and "It is a sample of new now." in done.stderr and "not enrolled before" in done.stderr
    assert sidx("identify", person(7, 0)).returncode == 0
    assert sidx("correct", person(8, 0), "--stranger").returncode == 0
    assert sidx("correct", 99, "--stranger").returncode == 4
    assert sidx("correct", 1).returncode == 2
    assert sidx("correct", "nothing.png", "--stranger").returncode == 4
