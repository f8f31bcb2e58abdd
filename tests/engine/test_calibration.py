"""The threshold as an order statistic, checked by hand and by simulation."""

import numpy as np
import pytest

from siamese_index.calibration import (
    effective_searches,
    expected_false_alarms,
    false_match_table,
    mated_misses,
    nearest_other,
    share_interval,
    threshold,
)


def strangers(n):
    return [f"stranger {i}" for i in range(n)]


def test_the_threshold_is_the_largest_distance_that_keeps_the_target():
    learned = threshold(np.linspace(0.5, 1.5, 1000), strangers(1000), 0.01)
    assert learned.evidence.false_alarms == 10
    assert learned.tau == pytest.approx(0.5 + 9 / 999)
    assert learned.evidence.missing == 0


def test_too_few_strangers_put_the_threshold_below_the_nearest_and_say_how_many_are_missing():
    nearest = np.linspace(0.5, 1.5, 60)
    learned = threshold(nearest, strangers(60), 0.01)
    assert learned.tau < 0.5
    assert learned.tau == np.nextafter(0.5, -1)
    assert learned.evidence.false_alarms == 0
    assert learned.evidence.promise == pytest.approx(3 / 60)
    assert learned.evidence.missing == 240
    assert learned.interval() == (0.0, pytest.approx(0.05))


def test_no_strangers_give_no_threshold():
    learned = threshold(np.zeros(0), [], 0.01)
    assert learned.tau is None
    assert learned.evidence.missing == 300
    assert learned.interval() is None


def test_a_tie_at_the_threshold_lets_nobody_extra_in():
    nearest = np.sort(np.concatenate([np.full(5, 0.4), np.full(10, 0.5), np.linspace(0.6, 1, 985)]))
    learned = threshold(nearest, strangers(1000), 0.01)
    assert learned.tau == 0.4
    assert np.mean(nearest <= learned.tau) <= 0.01


def test_a_tie_from_the_very_first_stranger_on_lets_nobody_in():
    nearest = np.concatenate([np.full(50, 0.4), np.linspace(0.6, 1, 950)])
    learned = threshold(nearest, strangers(1000), 0.01)
    assert learned.tau < 0.4
    assert learned.evidence.false_alarms == 0


def test_the_achieved_rate_is_the_promised_one_on_average_and_the_interval_holds_it():
    rng = np.random.default_rng(0)
    achieved, held = [], 0
    for _ in range(400):
        learned = threshold(rng.random(400), strangers(400), 0.01)  # uniform: the true FPIR at t is t
        low, high = learned.interval()
        achieved.append(learned.tau)
        held += low <= learned.tau <= high
    assert np.mean(achieved) == pytest.approx(0.01, rel=0.1)
    assert 0.92 <= held / 400 <= 0.98


def test_searches_of_one_stranger_count_as_fewer():
    rng = np.random.default_rng(0)
    names = np.repeat(strangers(50), 10)
    alone = rng.normal(size=500)
    alike = np.repeat(rng.normal(size=50), 10)
    assert effective_searches(alone, names) > 250
    assert effective_searches(alike, names) == pytest.approx(50, rel=0.3)
    assert effective_searches(alone, strangers(500)) == 500


def test_nearest_other_leaves_out_oneself_and_the_same_picture(angles):
    templates, identities = angles(0, 60, 90), np.array([1, 2, 3])
    at, distance = nearest_other(angles(50, 50, 60), np.array([-1, 2, -1]), templates, identities)
    assert at.tolist() == [1, 2, 2]  # the nearest; without identity 2; without the very same picture
    assert distance == pytest.approx(2 * np.sin(np.deg2rad([10, 40, 30]) / 2), abs=1e-6)


def test_nearest_other_of_nobody_is_infinitely_far(angles):
    at, distance = nearest_other(angles(0), np.array([-1]), angles()[:0], np.zeros(0, np.int64))
    assert at.tolist() == [-1] and distance.tolist() == [np.inf]


def test_mated_misses_count_the_far_and_the_mistaken(angles):
    vectors = angles(0, 10, 100, 160, 105)
    identities = np.array([1, 1, 2, 2, 3])
    # 0 and 10 find each other; 100 is nearer to identity 3; 160 is beyond the threshold and nearer to 3.
    assert mated_misses(vectors, identities, 0.5) == (2, 4)
    assert mated_misses(vectors, identities, 0.01) == (4, 4)
    assert mated_misses(vectors, identities, None) == (4, 4)


def test_expected_false_alarms_grow_with_distance_and_gallery(angles):
    table = false_match_table(angles(0, 60, 180), ["a", "b", "c"])
    assert table[0] == pytest.approx([1, np.sqrt(3), 2], abs=1e-5)
    assert expected_false_alarms(table, 0.5, 100) == 0
    assert expected_false_alarms(table, 1.001, 3) == pytest.approx(1, abs=0.01)
    assert expected_false_alarms(table, 2.0, 300) == pytest.approx(300)
    assert expected_false_alarms(np.zeros((2, 0), np.float32), 1.0, 10) is None


def test_intervals_of_shares_are_those_of_the_textbook():
    assert share_interval(0, 10) == (0.0, pytest.approx(0.3085, abs=1e-4))
    assert share_interval(5, 10) == (pytest.approx(0.1871, abs=1e-4), pytest.approx(0.8129, abs=1e-4))
    assert share_interval(0, 0) == (0.0, 1.0)
