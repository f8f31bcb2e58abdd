"""Figures that one counts by hand."""

import numpy as np
import pytest

from siamese_index import BadInput
from siamese_index.evaluation import Rate, compare, equal_error_rate, evaluate, tower_figures


def test_mated_probes_and_strangers_are_counted_apart(gallery, person, world, tmp_path):
    gallery.enroll_many([(f"glyph-{100 + n}", person(n, 0)) for n in range(6)])
    (tmp_path / "bad.png").write_bytes(b"x")
    mated = [(f"glyph-{100 + n}", person(n, 0)) for n in range(6)]  # the enrolled pictures themselves
    strangers = [(p.parent.name, p) for p in sorted((world / "strangers").rglob("*.png"))]
    result = evaluate(gallery, [*mated, ("glyph-100", tmp_path / "bad.png"), *strangers], given=1e-3)
    assert (result.mated, result.strangers, result.stranger_identities, result.unreadable) == (7, 16, 8, 1)
    assert (result.rank1.count, result.rank1.of) == (6, 7)  # what cannot be read is an error, not left out
    assert (result.fnir.count, result.fpir.count, result.wrong_identity.count) == (1, 0, 0)
    assert result.cmc[-1] == pytest.approx(6 / 7)
    everyone = evaluate(gallery, strangers, given=2.0)
    assert (everyone.fpir.count, everyone.fpir.share, everyone.rank1.share) == (16, 1.0, None)
    with pytest.raises(BadInput, match="no probes"):
        evaluate(gallery, [])


def test_rates_carry_counts_and_intervals():
    rate = Rate.measured(1, 50)
    assert (rate.count, rate.of, rate.share) == (1, 50, 0.02)
    assert rate.low < 0.02 < rate.high


def test_tower_figures_by_hand(angles):
    # a: 10 degrees apart; b: 30 apart, and one b is nearer to a; c was seen in training.
    vectors, names = angles(0, 10, 35, 65, 120, 180), ["a", "a", "b", "b", "c", "c"]
    figures = tower_figures(vectors, names, {"a", "b"}, target=0.5)
    assert (figures["searches"], figures["identities"], figures["gallery"]) == (4, 2, 3)
    assert figures["rank1"] == 0.75
    assert tower_figures(vectors, names, set(), 0.5) == {"searches": 0, "identities": 0}


def cloud(spread, seed=0, people=30, each=5):
    """Unit vectors around random centres, and whose they are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(people, 16))
    vectors = np.repeat(centres, each, axis=0) + spread * rng.normal(size=(people * each, 16))
    names = [f"p{i:02d}" for i in np.repeat(np.arange(people), each)]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), names


def test_a_clearly_better_tower_is_proved_and_a_worse_one_too():
    poor, names = cloud(1.0)
    good, _ = cloud(0.4)
    held_out = set(names)
    better = compare(poor, good, names, held_out, 0.05, draws=200)
    assert better["verdict"] == "better"
    assert better["challenger"]["fnir"] < better["champion"]["fnir"]
    assert compare(good, poor, names, held_out, 0.05, draws=200)["verdict"] == "worse"


def test_two_equal_towers_prove_nothing():
    vectors, names = cloud(0.8)
    same = compare(vectors, vectors, names, set(names), 0.05, draws=200)
    assert (same["verdict"], same["fnir_change"], same["rank1_interval"]) == ("no proof", 0.0, [0.0, 0.0])
    assert compare(vectors, cloud(0.8, seed=5)[0], names, set(names), 0.05, draws=200)["verdict"] == "no proof"


def test_the_equal_error_rate_of_separate_and_of_equal_distributions():
    near, far = np.linspace(0, 0.5, 50), np.linspace(0.6, 1, 50)
    assert equal_error_rate(near, far) == 0
    assert equal_error_rate(near, near) == pytest.approx(0.5, abs=0.02)
