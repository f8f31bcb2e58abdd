"""Unknown answers are grouped by whom they show, and named or made strangers with one command."""

import json

import numpy as np
import pytest

from siamese_index import BadInput, Gallery
from siamese_index.analysis.review import grouped, page, review
from tests.curation.test_history import content, stale


def people(rng, persons, each, spread, dimension=32):
    """Return (vectors, whose): unit vectors of persons, each seen some times."""
    centres = rng.standard_normal((persons, dimension))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    whose = rng.permutation(np.repeat(np.arange(persons), each))
    vectors = centres[whose] + spread * rng.standard_normal((len(whose), dimension)) / np.sqrt(dimension)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), whose


def test_those_of_one_person_come_together():
    vectors, whose = people(np.random.default_rng(0), 60, 8, 0.5)
    labels = grouped(vectors, 0.9)
    together = labels[:, None] == labels[None]
    same = whose[:, None] == whose[None]
    assert (together & ~same).sum() == 0
    assert (together & same).sum() / same.sum() > 0.97
    assert len(grouped(vectors[:0], 0.9)) == 0


def test_it_is_average_linkage_as_plainly_written():
    """Join the two nearest groups, by the mean squared distance of all pairs, while it is within the threshold."""
    vectors, _ = people(np.random.default_rng(1), 12, 4, 1.0, 8)
    tau, groups = 0.95, [[i] for i in range(len(vectors))]
    squared = ((vectors[:, None].astype(np.float64) - vectors[None]) ** 2).sum(axis=2)
    while len(groups) > 1:
        means = {(a, b): squared[np.ix_(groups[a], groups[b])].mean() for a in range(len(groups)) for b in range(a)}
        (a, b), nearest = min(means.items(), key=lambda pair: pair[1])
        if nearest > tau**2:
            break
        groups[b] += groups.pop(a)
    labels = grouped(vectors, tau)
    found = {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist())}
    assert found == {frozenset(group) for group in groups} and 3 < len(found) < 40


@pytest.fixture
def asked(place):
    """A gallery of 10 people that was asked about 3 others, 6 times each, and about 5 once."""
    rng = np.random.default_rng(2)
    with Gallery.create(place, dimension=32, fpir=0.02) as gallery:
        gallery.log(True)
        enrolled, whose = people(rng, 10, 3, 0.4)
        gallery.enroll_vectors([f"p{n}" for n in whose], enrolled, conflicts="allow")
        strangers, theirs = people(rng, 100, 2, 0.4)
        gallery.calibrate_vectors(names=[f"s{n}" for n in theirs], vectors=strangers)
        gallery.identify_vectors(np.concatenate([people(rng, 3, 6, 0.4)[0], people(rng, 5, 1, 0.4)[0], enrolled[:2]]))
        yield gallery


def test_groups_are_named_or_learned_from(asked):
    before, found = content(asked), review(asked)
    assert [len(c.answers) for c in found.clusters] == [6, 6, 6, 1, 1, 1, 1, 1] and found.answers == 23
    assert len(review(asked, least=2).clusters) == 3
    first, second = found.clusters[:2]
    assert first.nearest.startswith("p") and first.first <= first.last
    done = asked.curation.settle([first.answers], "new one")
    assert done.samples == 6 and done.new and stale(asked) == 0
    strangers = len(asked.strangers())
    done = asked.curation.settle([c.answers for c in found.clusters[1:]], stranger=True)
    assert done.samples == 17 and len(asked.strangers()) == strangers + 17
    assert {f"answer {c.answers[0]}" for c in found.clusters[1:]} <= {row.name for row in asked.strangers()}
    assert review(asked).clusters == ()
    asked.curation.undo(2)
    assert content(asked) == before and review(asked) == found
    with pytest.raises(BadInput):
        asked.curation.settle([second.answers])


def test_the_page_and_the_command(tmp_path, tower_path, person, sidx):
    with Gallery.create(tmp_path / "main.gallery", tower_path) as gallery:
        gallery.enroll_many([(f"p{n}", person(n, 0)) for n in range(4)])
        gallery.log(True)
        list(gallery.identify_many([person(n, hand) for n in (8, 9) for hand in range(3)]))
        found = review(gallery)
        assert "data:image" in page(gallery, found, "how")
    done = sidx("review", "--page", "r.html")
    assert done.returncode == 0, done.stderr
    groups = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(group["count"] for group in groups) == found.answers
    assert f"{groups[0]['id']}: {groups[0]['count']} times" in (tmp_path / "r.html").read_text()
    named = sidx("review", groups[0]["id"], "--is", "nine")
    assert named.returncode == 0 and "of nine." in named.stderr
    assert sidx("review", "--all", "--ignore").returncode == 0
    assert sidx("review").stdout == ""
    for wrong in (["--ignore"], ["a"], ["--all"], ["--all", "--is", "x"], ["a", "--is", "x", "--ignore"]):
        assert sidx("review", *wrong).returncode == 2, wrong
    assert sidx("review", groups[0]["id"], "--ignore").returncode == 4  # corrected already
