"""ORL faces: a tower trained on 30 people, a gallery of 10 whom it never saw. AT&T Laboratories Cambridge."""

import shutil

import numpy as np
import pytest

from siamese_index import Gallery
from siamese_index.analysis.evaluation import evaluate
from siamese_index.training import train

pytestmark = [pytest.mark.real, pytest.mark.keras]


@pytest.fixture(scope="module")
def faces(real_data):
    return real_data("orl_faces.zip") / "orl_faces"


@pytest.fixture(scope="module")
def tower(faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("orl")
    for person in range(1, 31):
        shutil.copytree(faces / f"s{person}", folder / f"s{person}")
    return train(folder)


def pictures(faces, person):
    return [faces / f"s{person}" / f"{number}.pgm" for number in range(1, 11)]


def test_one_picture_enrolled_the_other_nine_are_found(faces, tower, tmp_path, record_property):
    shares = []
    for enrolled in range(5):
        with Gallery.create(tmp_path / f"{enrolled}.gallery", tower) as gallery:
            gallery.enroll_many([(f"s{p}", pictures(faces, p)[enrolled]) for p in range(31, 41)])
            probes = [
                (f"s{p}", path) for p in range(31, 41) for i, path in enumerate(pictures(faces, p)) if i != enrolled
            ]
            result = evaluate(gallery, probes)
        assert result.rank1.of == 90
        shares.append(result.rank1.share)
    record_property("rank1", float(np.mean(shares)))
    print(f"\nORL: rank-1 {np.mean(shares):.3f}, mean of five enrolled pictures: {[f'{s:.2f}' for s in shares]}")
    assert np.mean(shares) >= 0.85


def test_strangers_are_let_in_no_more_often_than_the_threshold_says(faces, tower, tmp_path):
    with Gallery.create(tmp_path / "half.gallery", tower) as gallery:
        gallery.enroll_many([(f"s{p}", pictures(faces, p)[0]) for p in range(31, 36)])
        mated = [(f"s{p}", path) for p in range(31, 36) for path in pictures(faces, p)[1:]]
        strangers = [(f"s{p}", path) for p in range(36, 41) for path in pictures(faces, p)]
        result = evaluate(gallery, mated + strangers)
    assert (result.mated, result.strangers) == (45, 50)
    low, high = result.fpir_stated
    print(
        f"\nORL, 5 enrolled: FPIR {result.fpir.count} of 50, stated {low:.3f} to {high:.3f}"
        f" by {result.evidence.searches} searches worth {result.evidence.effective:.0f};"
        f" FNIR {result.fnir.count} of 45"
    )
    assert low <= result.fpir.share <= high
