"""Those who ask are compared with the strangers: like them, nearer, too few."""

import numpy as np
import pytest

from siamese_index import Gallery
from siamese_index.analysis.log_check import check_log


def people(rng, count, spread=1.0, around=0.0):
    vectors = around + spread * rng.normal(size=(count, 24))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def asked(tmp_path):
    rng = np.random.default_rng(0)
    with Gallery.create(tmp_path / "g.gallery", dimension=24, fpir=0.05) as gallery:
        gallery.enroll_vectors([f"p{i}" for i in range(20)], people(rng, 20))
        gallery.calibrate_vectors(names=[f"s{i}" for i in range(100)], vectors=people(rng, 100))
        gallery.log(True)
        yield gallery, rng


def test_strangers_like_the_cohort_raise_no_alarm(asked):
    gallery, rng = asked
    assert check_log(gallery).probability is None  # nobody asked yet
    gallery.identify_vectors(people(rng, 200))
    found = check_log(gallery)
    assert found.unknown > 150 and found.probability > 0.01 and not found.alarm


def test_strangers_who_lie_nearer_to_the_enrolled_do(asked):
    gallery, rng = asked
    enrolled = people(np.random.default_rng(0), 20)
    near = enrolled[rng.integers(0, 20, 100)] + 0.3 * rng.normal(size=(100, 24))
    gallery.identify_vectors(near.astype(np.float32))
    found = check_log(gallery)
    assert found.alarm and found.near > found.unknown / 2
