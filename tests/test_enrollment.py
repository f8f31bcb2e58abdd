"""What enrolling refuses, and what it would come to."""

import cv2
import numpy as np
import pytest

from siamese_index import BadInput, Conflict, Unreadable
from siamese_index.enrollment import SURE
from siamese_index.samples import images, quality
from siamese_index.vectors import unit


@pytest.fixture
def sure(vector_gallery, angles):
    """ada at 0 and bob at 90 degrees; strangers that set the threshold at 30 degrees, and let SURE be promised."""
    vector_gallery.enroll_vectors(["ada", "bob"], angles(0, 90))
    strangers = angles(*np.linspace(120, 330, 160))
    vector_gallery.calibrate_vectors(fpir=0.02, names=[f"s{i}" for i in range(160)], vectors=strangers)
    return vector_gallery


def names(gallery):
    return [row.name for row in gallery.identities()]


def test_a_sample_that_looks_like_somebody_else_is_a_conflict(sure, angles):
    assert sure.threshold().tau == pytest.approx(2 * np.sin(np.deg2rad(15)), abs=1e-5)
    with pytest.raises(Conflict, match=r"looks like 'ada' \(0.174, threshold 0.518\), not 'eve'"):
        sure.enroll_vectors(["eve"], angles(10))
    with pytest.raises(Conflict, match="'bob' itself is 1.286 away"):
        sure.enroll_vectors(["bob"], angles(10))
    assert sure.enroll_vectors(["ada"], angles(10)).enrolled  # she looks like herself
    assert sure.enroll_vectors(["bob"], angles(46)).enrolled  # like nobody: a new side of him
    sure.enroll_vectors(["eve"], angles(5), conflicts="allow")
    assert names(sure) == ["ada", "bob", "eve"]


def test_what_comes_together_is_compared_too_and_nothing_of_it_is_kept(sure, angles):
    with pytest.raises(Conflict, match="looks like 'eve'"):
        sure.enroll_vectors(["eve", "eve", "mallory"], angles(300, 310, 312))
    assert names(sure) == ["ada", "bob"]


def test_a_threshold_learned_from_the_gallery_itself_refuses_no_conflict(vector_gallery, angles):
    vector_gallery.enroll_vectors(["ada", "bob"], angles(0, 90))
    assert vector_gallery.threshold().evidence.source == "gallery"
    assert vector_gallery.enroll_vectors(["eve"], angles(1)).enrolled


def test_many_are_only_refused_by_a_threshold_that_is_sure(vector_gallery, angles):
    vector_gallery.enroll_vectors(["ada", "bob"], angles(0, 90))
    vector_gallery.calibrate_vectors(names=[f"s{i}" for i in range(20)], vectors=angles(*np.linspace(120, 330, 20)))
    assert vector_gallery.threshold().evidence.promise > SURE
    assert vector_gallery.enroll_vectors(["eve"], angles(1)).enrolled


def test_the_same_pixels_in_other_bytes_are_enrolled_already(gallery, person):
    pixels = images.decode(person(0, 0).read_bytes(), 1)
    again = images.encode(pixels, ".jpg")
    gallery.enroll("ada", [person(0, 0)])
    assert gallery.enroll("ada", [again]).already == [("ada", "picture 0")]
    assert gallery.enroll("ada", [again], dry_run=True).already == [("ada", "picture 0")]
    with pytest.raises(BadInput, match="already enrolled as 'ada', not 'eve'"):
        gallery.enroll("eve", [again])
    assert gallery.enroll("ada", [person(0, 1)]).enrolled  # another picture of hers


def test_pixels_tell_compression_from_another_picture(person):
    data = person(0, 0).read_bytes()
    larger = images.encode(images.fit(images.decode(data, 1), 128, 128), ".jpg")
    assert quality.alike(data, larger)
    assert not quality.alike(data, person(0, 1).read_bytes())
    assert not quality.alike(data, None) and not quality.alike(data, b"no picture")


def photo(blur=0.0, gain=1.0):
    scene = cv2.resize(np.random.default_rng(0).integers(0, 256, (100, 100), np.uint8), (200, 200))
    scene = cv2.GaussianBlur(scene, (0, 0), blur) if blur else scene
    return images.encode(np.uint8(scene * gain)[..., None])


def test_quality_falls_with_blur_darkness_and_flatness():
    sharp, blurred, dark = (quality.quality(p) for p in (photo(), photo(blur=6), photo(gain=0.1)))
    assert sharp["sharpness"] > 3 * blurred["sharpness"]
    assert sharp["sharpness"] == pytest.approx(dark["sharpness"], rel=0.3)  # darkness is not blur
    assert (dark["brightness"], dark["contrast"]) < (20, 40)
    assert sharp["size"] == 200
    blank = quality.quality(images.encode(np.full((20, 20, 1), 255, np.uint8)))
    assert (blank["contrast"], blank["sharpness"]) == (0, 0)


def test_what_is_below_the_floor_is_refused_with_the_reason(gallery, person):
    with pytest.raises(Unreadable, match="too small.\nIts size is 64, the floor 100"):
        gallery.enroll("ada", [person(0, 0)], floor={"size": 100})
    with pytest.raises(BadInput, match="no measure 'beauty'"):
        gallery.enroll("ada", [person(0, 0)], floor={"beauty": 1})
    done = gallery.enroll_many([("ada", person(0, 0)), ("bob", photo(blur=6))], floor={"sharpness": 0.3})
    assert ([n for n, _ in done.enrolled], len(done.refused)) == (["ada"], 1)
    assert "too blurred" in str(done.refused[0].error)


def test_a_dry_run_says_what_would_be_and_keeps_nothing(gallery, person):
    gallery.enroll_many([(f"p{n}", person(n, 0)) for n in range(4)])
    before, revision = gallery.outlook(), gallery.revision
    would = gallery.enroll_many([(f"p{n}", person(n, 1)) for n in range(8)], dry_run=True)
    assert (len(would.enrolled), would.outlook.identities, would.outlook.mated) == (8, 8, 8)
    assert (gallery.outlook(), gallery.revision) == (before, revision)
    gallery.enroll_many([(f"p{n}", person(n, 1)) for n in range(8)])
    assert gallery.outlook() == would.outlook  # it came as it was foretold


def test_vectors_of_any_length_have_a_direction():
    for scale in (1e300, 1e30, 1e-10):
        assert np.allclose(unit(scale * np.array([[3.0, 4.0]])), [[0.6, 0.8]], atol=1e-6)
    for row, what in (
        ([np.nan, 1], "NaN or infinity"),
        ([0, 0], "all zero"),
        ([1e-20, 0], "shorter than 1e-12"),
        ([1.7e308] * 2, "longer"),
    ):
        with pytest.raises(BadInput, match=f"row 1, which is {what}"):
            unit(np.array([[1.0, 0.0], row]))
