"""How probable it is that a sample is somebody else's: on people and populations that were drawn, by counting."""

import numpy as np
import pytest

from siamese_index.analysis import mislabels
from siamese_index.analysis.leave_one_out import LeaveOneOut


def judged(vectors, true, share, rng):
    """Put a share of samples under wrong names; return for those that are nearer to another than to their own the
    probabilities, and whether that other is whose they are.
    """
    identities, labels = np.unique(true), true.copy()
    wrong = rng.choice(len(true), round(share * len(true)), replace=False)
    for at in wrong:
        labels[at] = rng.choice(identities[identities != true[at]])
    nobody = np.zeros((0, vectors.shape[1]), np.float32), np.zeros(0, np.int64)
    enrolled = LeaveOneOut.sorted(vectors, labels, np.arange(len(labels)), *nobody, "best")
    searched = enrolled.search()
    found = mislabels.probabilities(enrolled, searched)
    nearer = np.flatnonzero(searched.other < searched.mate)
    return found[nearer], searched.nearest[nearer] == true[enrolled.samples][nearer], len(wrong)


def population(rng, people, each, noise):
    centres = rng.normal(size=(people, 16))
    vectors = np.repeat(centres, each, axis=0) + noise * rng.normal(size=(people * each, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), np.repeat(range(people), each)


@pytest.mark.parametrize("noise", [0.4, 0.7, 1.0])
def test_a_probability_is_the_share_that_is_right(noise):
    """From a tower that tells people apart well to one that misses every third."""
    told, right, planted = [], [], 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        probable, is_right, wrong = judged(*population(rng, 60, 6, noise), 0.05, rng)
        told += probable.tolist()
        right += is_right.tolist()
        planted += wrong
    likely = np.array(told) >= 0.5
    assert np.mean(np.array(right)[likely]) >= np.mean(np.array(told)[likely]) - 0.1
    assert np.sum(np.array(right)[likely]) >= {0.4: 0.85, 0.7: 0.6, 1.0: 0.03}[noise] * planted


@pytest.mark.parametrize("noise", [0.4, 1.0])
def test_where_nothing_is_wrong_next_to_nothing_is_probable(noise):
    count = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        count += int(np.sum(judged(*population(rng, 60, 6, noise), 0, rng)[0] >= 0.5))
    assert count <= 6  # of 2,160 samples


def test_people_by_vectors_of_others(real_data):
    raw = np.load(real_data("orl_dlib128.npy")).astype(np.float32)
    vectors = raw / np.linalg.norm(raw, axis=2, keepdims=True)
    for each in (3, 5):
        rng = np.random.default_rng(each)
        told, right, wrong = judged(vectors[:30, :each].reshape(-1, 128), np.repeat(range(30), each), 0.05, rng)
        assert np.sum(right[told >= 0.5]) >= wrong - 1 and np.sum(~right[told >= 0.5]) <= 2


def test_of_few_samples_nothing_is_said():
    rng = np.random.default_rng(0)
    assert np.isnan(judged(*population(rng, 3, 3, 0.4), 0.1, rng)[0]).all()
