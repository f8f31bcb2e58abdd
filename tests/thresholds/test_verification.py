"""One to one: the share of false matches that was asked for, or an answer that says it cannot be promised."""

import numpy as np

from siamese_index.search.fusion import all_distances
from siamese_index.thresholds.statistics import false_match_table
from siamese_index.thresholds.verification import of_identity, of_pairs


def people(rng, count, each, dimension=32):
    centres = rng.normal(size=(count, 1, dimension))
    vectors = centres + 0.4 * rng.normal(size=(count, each, dimension))
    return (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32)


def of_strangers(rng, count, each, target=0.01):
    vectors = people(rng, count, each).reshape(-1, 32)
    names = [f"s{i}" for i in np.repeat(np.arange(count), each)]
    return vectors, names, of_pairs(*false_match_table(vectors, names), target)


def test_few_strangers_promise_no_share_of_false_matches():
    rng = np.random.default_rng(0)
    for count in (2, 3, 5, 10):
        evidence = of_strangers(rng, count, 4)[2].evidence
        assert not evidence.promised and evidence.missing > 0
        assert evidence.effective <= count * (count - 1) / 2


def test_enough_strangers_keep_it():
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(10):
        learned = of_strangers(rng, 60, 3)[2]
        assert learned.evidence.promised
        fresh = people(rng, 300, 1)[:, 0]
        apart = all_distances(fresh[:150], fresh[150:])
        shares.append(np.mean(apart <= learned.tau))
    assert 0.005 < np.mean(shares) < 0.015


def test_a_claim_is_judged_by_the_templates_that_it_is_compared_with():
    """The nearest of five templates is nearer than one: the threshold of one would let in nearly three times as many."""
    rng = np.random.default_rng(2)
    shares = {10: [], 320: []}
    for count, found in shares.items():
        for _ in range(40):
            claimed = people(rng, 1, 5)[0]
            strangers = people(rng, count, 1)[:, 0]
            learned = of_identity(
                all_distances(strangers, claimed).min(axis=1).astype(float), [str(i) for i in range(count)], 0.01
            )
            assert learned.evidence.promised is (count == 320)
            fresh = all_distances(people(rng, 2000, 1)[:, 0], claimed).min(axis=1)
            found.append(np.mean(fresh <= learned.tau))
    assert np.mean(shares[10]) < 0.02 and 0.006 < np.mean(shares[320]) < 0.014
