"""The planning formula against every gallery that there could be, and its interval against the truth."""

from itertools import combinations

import numpy as np
import pytest

from siamese_index import BadInput
from siamese_index.thresholds.planning import Planner


def families(rng, identities, each, d=12, spread=0.5, kin=0.6):
    """Lookalike families of three: centres around a family's, samples around centres."""
    family = np.repeat(rng.normal(size=(identities // 3 + 1, d)), 3, axis=0)[:identities]
    centre = family + kin * rng.normal(size=(identities, d))
    vectors = np.repeat(centre, each, axis=0) + spread * rng.normal(size=(identities * each, d))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), [f"p{i:04}" for i in np.repeat(np.arange(identities), each)]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6])
def test_the_formula_is_the_mean_over_every_gallery(size):
    vectors, names = families(np.random.default_rng(0), 7, 3)
    planner = Planner(vectors, names)
    exact = np.linalg.norm(vectors[::3][None].astype(float) - np.delete(vectors, np.s_[::3], axis=0)[:, None], axis=2)
    assert planner.distance[np.isfinite(planner.distance)] == pytest.approx(
        exact[np.isfinite(planner.distance)], abs=1e-5
    )
    for target in (0.05, 0.2, 0.5):
        plan = planner.plan(size, target)
        alarms, found = [], []
        for p in range(len(vectors)):
            if p % 3 == 0:
                continue  # the enrolled ones
            row = p - p // 3 - 1  # the first of each identity does not search
            distance = planner.distance[row]
            others = [i for i in range(7) if i != p // 3]
            alarms += [distance[list(g)].min() <= plan.threshold for g in combinations(others, size)]
            mate = planner.mate[row]
            found += [
                mate <= plan.threshold and all(distance[i] > mate for i in g) for g in combinations(others, size - 1)
            ]
        assert plan.fpir == pytest.approx(np.mean(alarms), abs=1e-9)
        assert plan.fnir == pytest.approx(1 - np.mean(found), abs=1e-9)
        assert plan.fpir <= target + 1e-9
        assert not plan.extrapolated


def test_the_interval_holds_the_truth():
    """The truth: the same threshold on many other sets of identities of the same law."""
    rng = np.random.default_rng(1)
    planners = [Planner(*families(rng, 90, 2)) for _ in range(100)]
    held = 0
    for planner in planners:
        plan = planner.plan(20, 0.1)
        true = np.mean([p._fpir(p.distance <= plan.threshold, 20)[0] for p in planners])
        held += plan.fpir_interval[0] <= true <= plan.fpir_interval[1]
    assert held >= 92


def test_beyond_the_held_out_a_bound_is_given_and_said_to_be_one():
    vectors, names = families(np.random.default_rng(2), 60, 3)
    planner = Planner(vectors, names)
    inside, beyond = planner.plan(59, 0.1), planner.plan(200, 0.1)
    assert (inside.extrapolated, beyond.extrapolated) == (False, True)
    assert beyond.threshold < inside.threshold and beyond.fnir >= inside.fnir


def test_capacity_is_where_the_misses_reach_the_limit():
    vectors, names = families(np.random.default_rng(3), 90, 3)
    planner = Planner(vectors, names)
    loose, strict = planner.capacity(0.1, 0.9), planner.capacity(0.1, 0.3)
    assert 0 <= strict.identities < loose.identities <= 89
    assert planner.plan(loose.identities, 0.1).fnir <= 0.9
    if not loose.at_least:
        assert planner.plan(loose.identities + 1, 0.1).fnir > 0.9
    assert [p.identities for p in loose.plans] == [2, 5, 10, 20, 50, 89]
    assert planner.capacity(0.1, 1.0).at_least


def test_too_little_to_plan_with_is_said(angles):
    with pytest.raises(BadInput, match="cannot plan"):
        Planner(angles(0, 90), ["a", "b"])
    with pytest.raises(BadInput, match="cannot plan"):
        Planner(angles(0, 90, 180), ["a", "b", "c"])
    with pytest.raises(BadInput, match="cannot be planned"):
        Planner(angles(0, 90, 180, 10), ["a", "b", "c", "a"]).plan(0, 0.1)
