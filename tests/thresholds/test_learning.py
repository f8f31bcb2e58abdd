"""The threshold as an order statistic, checked by hand and by simulation."""

from dataclasses import replace
from math import comb

import numpy as np
import pytest

from siamese_index.store.impostors import SearchRows, enrolled
from siamese_index.thresholds.decision import Rule
from siamese_index.thresholds.learning import (
    at_least,
    learn,
    least_margin,
    misses,
    probabilities,
    threshold,
)
from siamese_index.thresholds.statistics import (
    effective_count,
    effective_searches,
    expected_false_alarms,
    false_match_table,
    share_interval,
)
from siamese_index.thresholds.suspects import grouped, probably_mated


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


def searches(distances, sources, mates=None, names=None, nearest=None):
    n = len(distances)
    mates = np.full(n, np.nan) if mates is None else np.asarray(mates, float)
    own = np.where(np.asarray(sources) == "gallery", np.arange(n), -1)
    nearest = np.arange(n) + 10_000 if nearest is None else np.asarray(nearest)
    names = [enrolled(o) if o >= 0 else name for o, name in zip(own.tolist(), names or strangers(n), strict=True)]
    return SearchRows(np.asarray(distances, float), tuple(names), tuple(sources), mates, own, nearest, np.arange(n))


def test_the_best_sources_that_suffice_are_used_and_named():
    given, tower, own = np.linspace(0.6, 1, 300), np.linspace(0.5, 1, 300), np.linspace(0.7, 1, 300)
    three = searches(np.concatenate([given, tower, own]), ["given"] * 300 + ["tower"] * 300 + ["gallery"] * 300)
    assert learn(three, 0.01).evidence.source == "given"
    assert learn(three, 0.01).tau == given[2]
    assert learn(three, 0.005).evidence.source == "given + tower"  # 600 are needed
    assert learn(three, 1 / 300).evidence.source == "given + tower + gallery"


def test_the_gallerys_own_searches_make_a_threshold_of_other_strangers_stricter():
    tower, own = np.linspace(0.8, 1, 60), np.linspace(0.5, 1, 60)
    both = searches(np.concatenate([tower, own]), ["tower"] * 60 + ["gallery"] * 60)
    learned = learn(both, 0.05)
    assert (learned.evidence.source, learned.tau, learned.evidence.false_alarms) == ("gallery", own[2], 3)
    assert learned.evidence.missing == 0
    fewer = searches(np.concatenate([tower, own[::2]]), ["tower"] * 60 + ["gallery"] * 30)
    assert (learn(fewer, 0.05).tau, learn(fewer, 0.05).evidence.missing) == (own[0], 30)  # on average, not promised
    few = searches(np.concatenate([tower, own[:19]]), ["tower"] * 60 + ["gallery"] * 19)
    assert learn(few, 0.05).evidence.source == "tower"  # of 19 no twentieth can be told
    given = searches(np.concatenate([tower, own]), ["given"] * 60 + ["gallery"] * 60)
    assert learn(given, 0.05).evidence.source == "given"  # who comes from the user's own camera is believed


def test_with_too_few_searches_a_law_of_all_sets_the_threshold():
    few = searches([0.9, 0.8, 0.85, 0.95], ["tower", "given", "gallery", "gallery"])
    learned = learn(few, 0.01)
    assert learned.evidence.fitted and not learned.evidence.promised
    assert (learned.evidence.source, learned.evidence.missing) == ("given + tower + gallery", 296)
    assert 0.2 < learned.tau < 0.8
    assert learn(few, 0.05).tau > learned.tau
    assert learn(searches([], []), 0.01).tau is None


def test_one_stranger_more_does_not_open_the_door():
    """The nearest of one stranger is anywhere; below it half of all strangers may lie."""
    rng = np.random.default_rng(0)
    let_in = {1: [], 3: [], 10: [], 40: []}
    for given, shares in let_in.items():
        for _ in range(200):
            near = 0.8 * rng.weibull(10, given + 20)  # the law of minima
            learned = learn(searches(near, ["given"] * given + ["gallery"] * 20), 0.01)
            shares.append(1 - np.exp(-((learned.tau / 0.8) ** 10)))
    assert all(np.mean(shares) < 0.025 for shares in let_in.values()), {k: np.mean(v) for k, v in let_in.items()}


def test_two_templates_that_are_each_others_nearest_count_once():
    rows = searches([0.5, 0.5, 0.7], ["gallery"] * 3, nearest=[1, 0, 1])
    assert rows.distinct().tolist() == [True, False, True]
    assert learn(rows, 0.01).evidence.searches == 2


def a_gallery_of(people, each, rng, wrong=0, twice=0):
    """Searches of `people` with `each` samples: one's own at 0.35 or so, others' nearest at 0.8 or so."""
    n = people * each
    own = np.repeat(np.arange(people), each)
    nearest = (own + 1 + rng.integers(0, people - 1, n)) % people
    others, mates = 0.8 * rng.weibull(12, n), rng.normal(0.35, 0.06, n)
    at = rng.choice(n, wrong, replace=False)  # samples of `nearest` under the name `own`
    others[at], mates[at] = rng.normal(0.35, 0.06, wrong), 0.8 * rng.weibull(12, wrong)
    for i in range(twice):  # 2i and 2i + 1 are one person
        both = np.isin(own, (2 * i, 2 * i + 1))
        others[both], nearest[both] = rng.normal(0.36, 0.06, both.sum()), 4 * i + 1 - own[both]
    return SearchRows(others, tuple(map(enrolled, own.tolist())), ("gallery",) * n, mates, own, nearest, np.arange(n))


def test_wrong_labels_and_doubles_are_set_aside_and_named():
    rng = np.random.default_rng(1)
    clean = learn(a_gallery_of(20, 5, rng), 0.01)
    assert clean.evidence.set_aside == 0
    wrong = a_gallery_of(20, 5, rng, wrong=2)
    assert learn(wrong, 0.01).tau == pytest.approx(clean.tau, rel=0.15)
    found = list(grouped(wrong))
    assert [pair.cause for pair in found] == ["mislabelled"] * 2 and learn(wrong, 0.01).evidence.set_aside >= 2
    twice = a_gallery_of(20, 5, rng, twice=2)
    assert learn(twice, 0.01).tau == pytest.approx(clean.tau, rel=0.15)
    found = list(grouped(twice))
    assert {(pair.cause, *sorted((pair.first, pair.second))) for pair in found} == {
        ("same person twice", enrolled(0), enrolled(1)), ("same person twice", enrolled(2), enrolled(3)),
    }  # fmt: skip


def test_look_alikes_are_not_set_aside():
    """Where strangers are often as near as one's own, a near one is no sign of a wrong label."""
    rng = np.random.default_rng(2)
    n = 300
    rows = SearchRows(
        0.8 * rng.weibull(3, n), tuple(f"s{i}" for i in range(n)), ("given",) * n, np.full(n, np.nan),
        np.full(n, -1), rng.integers(0, 40, n), np.arange(n), 0.6 * rng.weibull(4, 200),
    )  # fmt: skip
    assert np.mean(probably_mated(rows)) < 0.01


def test_a_stranger_who_looks_enrolled_is_set_aside():
    rng = np.random.default_rng(3)
    rows = a_gallery_of(20, 5, rng)
    both = SearchRows(
        np.append(rows.distances, 0.3), (*rows.names, "s23"), (*rows.sources, "given"), np.append(rows.mates, np.nan),
        np.append(rows.own, -1), np.append(rows.nearest, 7), np.arange(101),
    )  # fmt: skip
    found = list(grouped(both))
    assert [(pair.cause, pair.first, pair.second) for pair in found] == [
        ("stranger who was enrolled", "s23", enrolled(7))
    ]


def test_with_a_confidence_the_target_is_kept_that_surely():
    rng = np.random.default_rng(4)
    for n in (299, 300, 1000):
        tau = [threshold(rng.random(n), strangers(n), 0.01, confidence=0.95).tau for _ in range(400)]
        assert np.mean(np.array(tau) <= 0.01) > 0.92  # uniform: the true FPIR at t is t
    assert threshold(rng.random(1000), strangers(1000), 0.01, confidence=0.95).evidence.false_alarms == 5


def test_few_identities_are_not_worth_many_searches():
    assert effective_count(np.array([True, False] * 5), ["a"] * 5 + ["b"] * 5) < 5


def test_mated_searches_miss_by_distance_by_a_nearer_other_and_by_a_margin_too_small():
    rows = searches([0.9, 0.3, 0.55, 0.9], ["gallery"] * 4, mates=[0.7, 0.4, 0.5, np.nan])
    assert misses(rows, Rule(0.6)) == (2, 3)  # 0.7 is too far, 0.4 is farther than another
    assert misses(rows, Rule(0.6, 0.1)) == (3, 3)  # 0.5 and 0.55 are too close to tell
    assert misses(rows, Rule(None)) == (3, 3)


def test_the_margin_lets_at_most_the_stated_share_of_wrong_identities_slip_through():
    mates, others = np.full(100, 0.3), np.full(100, 0.8)
    others[:4] = 0.2, 0.25, 0.28, 0.29  # four of a hundred are nearer to somebody else, by 0.1 … 0.01
    assert least_margin(mates, others, 0.5, wrong=0.04) == 0
    assert least_margin(mates, others, 0.5, wrong=0.01) == pytest.approx(0.05)  # only the one by 0.1 slips through
    assert least_margin(mates, others, 0.5, wrong=0.0) == pytest.approx(0.1)
    assert least_margin(mates, others, 0.1, wrong=0.0) == 0  # nobody is named anyway


def test_the_margin_is_the_least_at_which_the_rule_names_so_few_wrongly():
    rng = np.random.default_rng(3)
    for _ in range(50):
        mates, others = rng.uniform(0, 1, 60), rng.uniform(0.3, 1, 60)
        margin = least_margin(mates, others, 0.6, wrong=0.05)

        def named_wrongly(rule, own=mates, other=others):
            return int(np.sum((other < own) & rule.is_within(other) & ~rule.is_ambiguous(other, own)))

        beyond = int(np.sum((others < mates) & (others <= 0.6) & (mates > 0.6)))  # these no margin can catch
        assert named_wrongly(Rule(0.6, margin)) <= max(3, beyond)
        if margin:
            assert named_wrongly(Rule(0.6, np.nextafter(margin, 0))) > max(3, beyond)


def test_probabilities_fall_with_distance_and_are_those_of_a_known_law():
    rng = np.random.default_rng(0)
    mates, others = rng.uniform(0, 1, 3000), rng.uniform(0.5, 1.5, 3000)
    rows = searches(np.concatenate([others, rng.uniform(0.5, 1.5, 3000)]), ["gallery"] * 3000 + ["given"] * 3000,
                    mates=np.concatenate([mates, np.full(3000, np.nan)]))  # fmt: skip
    table = probabilities(rows, "given")
    assert np.all(np.diff(table[1]) <= 0) and np.all(np.diff(table[0]) > 0)
    at = lambda d: table[1, np.searchsorted(table[0], d)]  # noqa: E731
    assert at(0.3) > 0.99 and at(1.3) < 0.01
    # At 0.75 a nearest identity is right with density 1 * 0.75, wrong with 1 * 0.25, a stranger's with 1.
    assert at(0.75) == pytest.approx(0.75 / 2, abs=0.08)
    assert probabilities(searches([0.5] * 20, ["given"] * 20, mates=[0.1] * 20), "given") is None


def test_expected_false_alarms_grow_with_distance_and_gallery(angles):
    table, doubt = false_match_table(angles(0, 60, 180), ["a", "b", "c"])
    assert doubt.shape == (table.shape[1],)
    assert table[0] == pytest.approx([1, np.sqrt(3), 2], abs=1e-5)
    assert expected_false_alarms(table, 0.5, 100) == 0
    assert expected_false_alarms(table, 1.001, 3) == pytest.approx(1, abs=0.01)
    assert expected_false_alarms(table, 2.0, 300) == pytest.approx(300)
    assert expected_false_alarms(np.zeros((2, 0), np.float32), 1.0, 10) is None


def test_intervals_of_shares_are_those_of_the_textbook():
    assert share_interval(0, 10) == (0.0, pytest.approx(0.3085, abs=1e-4))
    assert share_interval(5, 10) == (pytest.approx(0.1871, abs=1e-4), pytest.approx(0.8129, abs=1e-4))
    assert share_interval(0, 0) == (0.0, 1.0)


def test_strangers_of_another_kind_are_told():
    rng = np.random.default_rng(5)
    far, near = 1.2 + 0.05 * rng.normal(size=400), 0.8 + 0.05 * rng.normal(size=40)
    rows = searches(np.append(far, near), ["given"] * 400 + ["gallery"] * 40)
    assert learn(rows, 0.01).evidence.unlike and not learn(rows, 0.01).evidence.promised
    false = 0
    for _ in range(100):
        both = 0.8 + 0.05 * rng.normal(size=440)
        false += learn(searches(both, ["given"] * 400 + ["gallery"] * 40), 0.01).evidence.unlike
    assert false <= 2
    assert at_least(3, 10, 0.1) == pytest.approx(1 - sum(comb(10, k) * 0.1**k * 0.9 ** (10 - k) for k in range(3)))


def test_of_one_picture_each_the_strangers_pictures_give_the_margin():
    """Twins: whose nearest other is as near as oneself is named wrongly half the time, without a margin."""
    rng = np.random.default_rng(6)
    others = np.append(rng.normal(0.4, 0.03, 12), rng.normal(0.9, 0.05, 28))
    cohort = np.sort(rng.normal(0.4, 0.06, 300))
    rows = replace(searches(others, ["gallery"] * 40), cohort=cohort)
    mates, besides, whose = rows.mated_searches()
    assert len(mates) == len(besides) == len(whose) and set(np.unique(besides)) <= set(others)
    margin = least_margin(mates, besides, 0.7, 0.01)
    assert 0 < margin < 0.3
    assert least_margin(*searches(others, ["gallery"] * 40).mated_searches()[:2], 0.7, 0.01) == 0  # nothing is known


def test_copies_of_one_stranger_count_once():
    rng = np.random.default_rng(7)
    rows = searches(np.append(np.full(400, 0.9), rng.normal(0.8, 0.05, 20)), ["given"] * 400 + ["gallery"] * 20,
                    nearest=np.append(np.zeros(400, int), np.arange(20) + 10_000))  # fmt: skip
    assert learn(rows, 0.01).evidence.searches == 21 and not learn(rows, 0.01).evidence.promised
    assert list(grouped(rows)) == []


def test_strangers_of_quite_another_kind_leave_the_gallerys_own_searches_alone():
    rng = np.random.default_rng(8)
    own, far = rng.normal(0.8, 0.06, 20), rng.normal(1.8, 0.03, 200)
    rows = searches(np.append(far, own), ["given"] * 200 + ["gallery"] * 20)
    rows = replace(rows, cohort=np.sort(rng.normal(0.6, 0.15, 300)))
    assert learn(rows, 0.01).evidence.set_aside <= 2 and learn(rows, 0.01).tau < 1.0


def test_enrolled_people_among_the_strangers_are_seen_also_where_nobody_has_two_pictures():
    rng = np.random.default_rng(9)
    distances = np.append(rng.normal(0.8, 0.06, 30), [0.3, 0.35])
    rows = searches(distances, ["gallery"] * 20 + ["given"] * 12, nearest=(np.arange(32) + 7) % 20)
    assert learn(rows, 0.01).evidence.set_aside == 2
    assert {pair.cause for pair in grouped(rows)} == {"stranger who was enrolled"}


def test_templates_that_are_the_same_cannot_be_told_apart():
    assert Rule(0.5).is_ambiguous(0.2, 0.2 + 1e-6) and not Rule(0.5).is_ambiguous(0.2, 0.21)
