"""One answer per visit: which pictures belong together, what they are worth, and how many strangers get in."""

import json
import shutil
import threading

import cv2
import numpy as np
import pytest
from scipy.stats import binom

from siamese_index import BadInput, Gallery
from siamese_index.analysis.visits import Visits
from siamese_index.samples import images
from siamese_index.samples.video import Shot
from siamese_index.thresholds.visits import independent, offset
from siamese_index.towers.adapting import whitened
from siamese_index.vectors import unit
from tests.towers.scenes import scene


def test_pictures_that_are_alike_are_worth_one(angles):
    assert independent(angles(10), 0.5) == independent(angles(10, 10, 10, 10), 0.5) == 1
    assert independent(angles(0, 60, 0, 60), None) == 1  # nothing is known of how pictures differ
    # Two at 60 degrees have a squared distance of 1: as far apart as two of an identity usually are.
    assert independent(angles(0, 60), 1.0) == 2
    assert independent(angles(0, 60), 2.0) == 1
    rng = np.random.default_rng(0)
    around = unit(np.ones(64) + rng.normal(0, 0.5, (9, 64)))
    usual = float(np.mean([np.sum((a - b) ** 2) for i, a in enumerate(around) for b in around[:i]]))
    assert independent(around, usual * 1.0001) in (8, 9)


def test_the_threshold_of_visits_keeps_its_promise_per_visit():
    """Strangers of a real kind: a mean vector each, and pictures that vary around it."""
    rng = np.random.default_rng(0)

    def people(count, each):
        means = rng.normal(size=(count, 1, 32))
        return unit((means + rng.normal(0, 0.6, (count, each, 32))).reshape(-1, 32)).reshape(count, each, 32)

    target, enrolled = 0.05, people(30, 1)[:, 0]
    known, asking = people(300, 6), people(1500, 4)

    def to(pictures):
        return np.sqrt(np.maximum(2 - 2 * pictures.reshape(-1, 32) @ enrolled.T, 0))

    singles = to(known)
    names = [f"s{i}" for i in range(300) for _ in range(6)]
    tau = float(np.quantile(singles.min(axis=1), target))
    means = to(asking).reshape(1500, 4, 30).mean(axis=1).min(axis=1)
    moved = tau + offset(singles, names, 4, target)
    let_in = int(np.sum(means <= moved))
    assert binom.ppf(0.001, 1500, target) <= let_in <= binom.ppf(0.999, 1500, 1.6 * target)
    assert int(np.sum(means <= tau)) < let_in  # one picture's threshold is stricter than it needs to be
    assert offset(singles, names, 1, target) == 0
    assert offset(singles[:30], names[:30], 4, target) == 0  # five strangers say too little


@pytest.fixture
def door(gallery, person):
    """A gallery of six people with two pictures each."""
    gallery.enroll_many([(f"p{n}", person(n, hand)) for n in range(6) for hand in range(2)], conflicts="allow")
    return gallery


def pixels(path):
    return images.decode(path.read_bytes(), 3)


def test_a_visit_ends_after_two_seconds_without_a_subject(door, person):
    visits = Visits(door)
    blank = np.full((32, 32, 3), 255, np.uint8)
    over = []
    for at in np.arange(0, 2, 0.25):
        over += visits.see(Shot(f"a@{at}", float(at), pixels(person(0, int(at * 4) % 2))))
    for at in np.arange(2, 5, 0.25):
        over += visits.see(Shot(f"b@{at}", float(at), blank))
    assert [v.frames for v in over] == [8] and over[0].decision.candidates[0].identity == "p0"
    assert (over[0].began, over[0].ended) == (0.0, 1.75)
    visits.see(Shot("c", 5.0, pixels(person(1, 0))))
    assert visits.see(Shot("", 7.5, None))[0].decision.candidates[0].identity == "p1"
    visits.see(Shot("d", 8.0, pixels(person(2, 0))))
    assert [v.decision.probe for v in visits.end()] == ["d"] and visits.end() == []


def test_distances_are_means_and_a_long_visit_is_answered_meanwhile(door, person):
    visits = Visits(door)
    shots = [pixels(person(3, 2)), pixels(person(3, 3))]
    for at, shot in enumerate(shots):
        visits.see(Shot(str(at), float(at), shot))
    (visit,) = visits.end()
    each = [door.identify(person(3, hand), k=100, threshold=0.0) for hand in (2, 3)]
    for candidate in visit.decision.candidates:
        single = [next(c.distance for c in a.candidates if c.identity == candidate.identity) for a in each]
        assert candidate.distance == pytest.approx(np.mean(single), abs=2e-3)
    over = []
    for at in range(70):
        over += visits.see(Shot(str(at), float(at), shots[at % 2]))
    assert len(over) == 1 and over[0].frames == 61


def test_pictures_far_apart_in_time_are_still_one_visit_where_one_asks_for_that(door, person):
    visits = Visits(door, every=5.0)
    over = []
    for at in range(0, 25, 5):
        over += visits.see(Shot(str(at), float(at), pixels(person(0, 1))))
    assert over == [] and visits.end()[0].frames == 5


def test_visits_of_a_tower_that_was_swapped_are_counted(door, person, tower_file):
    visits = Visits(door)
    visits.see(Shot("a", 0.0, pixels(person(0, 1))))
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(32, 32)))[0].astype(np.float32)
    door.promote(door.add_tower(whitened(tower_file, turn, np.zeros(32, np.float32))))
    visits.see(Shot("b", 0.5, pixels(person(1, 1))))
    assert [v.decision.probe for v in visits.end()] == ["b"] and visits.dropped == 1


def test_a_gallery_of_vectors_cannot_be_watched(file_gallery):
    with pytest.raises(BadInput, match="holds vectors"):
        Visits(file_gallery)


def test_the_command_prints_a_line_per_visit_and_enrolls(door, person, sidx, tmp_path):
    side = 64
    writer = cv2.VideoWriter(str(tmp_path / "door.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (side, side))
    blank = np.full((side, side, 3), 255, np.uint8)
    for number in (0, 1):
        for frame in range(10):
            picture = cv2.resize(pixels(person(number, frame % 2)), (side, side))
            writer.write(np.ascontiguousarray(picture[..., ::-1]))
        for _ in range(15):
            writer.write(blank)
    writer.release()
    done = sidx("watch", "door.avi", "-g", "people.gallery")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and "2 visits" in done.stderr, done.stderr
    assert [row["candidates"][0]["identity"] for row in rows] == ["p0", "p1"]
    assert [row["frames"] for row in rows] == [10, 10] and rows[0]["independent"] <= 10
    door.remove("p0")
    done = sidx("watch", "door.avi", "--enroll", "back", "-g", "people.gallery")
    assert done.returncode == 0 and "of 'back'" in done.stderr, done.stderr
    assert 2 <= len(door.samples("back")) <= 5
    assert sidx("watch", "nowhere", "-g", "people.gallery").returncode == 4
    assert sidx("watch", "door.avi", "--csv", "-g", "people.gallery").returncode == 2


def test_a_source_that_goes_away_costs_no_visit(door, person, sidx, tmp_path):
    shots = tmp_path / "shots"
    shots.mkdir()
    shutil.copy(person(0, 1), shots / "a.png")
    gone = threading.Timer(3.0, shutil.rmtree, [shots])
    gone.start()
    done = sidx("watch", "shots", "-g", "people.gallery")
    gone.join()
    assert done.returncode == 4 and "cannot be read" in done.stderr
    assert [json.loads(line)["probe"] for line in done.stdout.splitlines()] == ["a.png"]


def test_two_faces_are_two_visits(real_data, real_models, tmp_path):
    from siamese_index.towers.foreign import import_network

    orl = real_data("orl_faces.zip") / "orl_faces"
    file = import_network(
        real_models("face_embedder_rgb.onnx"),
        frame="face",
        detector=real_models("yunet_n_dynamic.onnx").read_bytes(),
    ).file
    with Gallery.create(tmp_path / "f.gallery", file) as gallery:
        for person in (1, 2):
            gallery.enroll(f"s{person}", orl / f"s{person}" / "1.pgm")
        visits = Visits(gallery, keep=True)
        for at in range(4):
            frame = scene(orl, (1, 2 + at, 40 + 10 * at, 100, 200), (2, 2 + at, 380, 60 + 5 * at, 220))
            assert visits.see(Shot(f"{at}", 0.5 * at, frame)) == []
        over = visits.end()
        assert sorted(v.decision.candidates[0].identity for v in over) == ["s1", "s2"]
        assert not any(v.alone for v in over)
        assert [v.frames for v in over] == [4, 4] and all(v.decision.box for v in over)
        cut = over[0].pictures[0]
        assert len(gallery.embedder().subjects(cut)) == 1
