"""The quantiles that a fitted threshold is made of, against scipy's."""

import numpy as np
import pytest
from scipy import stats

from siamese_index.thresholds import tail


@pytest.mark.parametrize("share", [0.1, 0.01, 0.001])
def test_quantiles_are_those_of_scipy(share):
    z = tail.normal_quantile(share)
    assert z == pytest.approx(stats.norm.ppf(share), abs=1e-6)
    assert tail.student_quantile(z, share, 2) == pytest.approx(stats.t.ppf(share, 2), rel=1e-6)
    for freedom in (3, 5, 10, 100):
        assert tail.student_quantile(z, share, freedom) == pytest.approx(stats.t.ppf(share, freedom), rel=0.03)


@pytest.mark.parametrize("beyond", [0.3, 0.6, 0.75])
def test_a_law_that_is_cut_off_is_found_again(beyond):
    drawn = 0.8 * np.random.default_rng(0).weibull(10, 2000)
    shape, scale = tail.weibull(drawn[drawn > beyond], beyond)
    assert shape == pytest.approx(10, rel=0.15) and scale == pytest.approx(0.8, rel=0.02)
