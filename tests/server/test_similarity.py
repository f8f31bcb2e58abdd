"""The map from distances to similarities: half at the threshold, monotone, whatever the gallery is like."""

import numpy as np
import pytest

from siamese_index.server.similarity import BELOW, Similarity


def test_it_is_monotone_and_half_at_the_threshold():
    for seed in range(300):
        rng = np.random.default_rng(seed)
        tau = float(rng.uniform(0.01, 2.2))
        mated, others = rng.uniform(0, 2, rng.integers(0, 9)), rng.uniform(0, 2, rng.integers(0, 9))
        similar = Similarity.of(tau, mated, others)
        values = [similar(d) for d in np.linspace(0, 2, 300)]
        assert np.all(np.diff(values) <= 0) and values[-1] >= 0 and values[0] == 1
        assert similar(tau) == pytest.approx(0.5) if tau <= 2 else values[-1] >= 0.5
        assert all((similar(d) >= 0.5) == (d <= tau) for d in rng.uniform(0, 2, 50) if abs(d - tau) > 1e-3)
        assert similar(0.0, named=False) == BELOW
        if len(mated) and 0 < np.median(mated) < tau:
            assert similar(float(np.median(mated))) == pytest.approx(0.95)
        if len(others) and tau < np.median(others) < 2:
            assert similar(float(np.median(others))) == pytest.approx(0.1)


def test_without_a_threshold_nobody_is_similar():
    similar = Similarity.of(None, np.array([0.1]), np.array([1.0]))
    assert similar(0.0) < 0.5 and similar(2.0) == 0
