"""Figures that one counts by hand."""

import json
import shutil

import numpy as np
import pytest

from siamese_index import BadInput, Tower
from siamese_index.analysis.comparison import compare, equal_error_rate, sign_flip, tower_figures
from siamese_index.analysis.evaluation import Rate, evaluate
from siamese_index.analysis.evaluation_page import evaluation_page
from siamese_index.analysis.one_shot import evaluate_one_shot, is_one_shot
from siamese_index.analysis.pairs_evaluation import evaluate_pairs
from siamese_index.samples import images
from siamese_index.samples.sources import items
from siamese_index.samples.tables import pairs
from siamese_index.vectors import pack


def test_mated_probes_and_strangers_are_counted_apart(gallery, person, world, tmp_path):
    gallery.enroll_many([(f"glyph-{100 + n}", person(n, 0)) for n in range(6)])
    (tmp_path / "bad.png").write_bytes(b"x")
    again = [images.encode(images.decode(person(n, 0).read_bytes(), 3), ".bmp") for n in range(6)]
    mated = [(f"glyph-{100 + n}", again[n]) for n in range(6)]  # the enrolled pictures, in other files
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
    enrolled = [(f"glyph-{100 + n}", person(n, 0)) for n in range(6)]
    assert evaluate(gallery, [*enrolled, *strangers], tags=[{}] * 22).known == 6
    with pytest.raises(BadInput, match="All 6 probes are enrolled themselves"):
        evaluate(gallery, enrolled)


def test_rates_carry_counts_and_intervals():
    rate = Rate.measured([True] + [False] * 49, [f"p{i}" for i in range(50)])
    assert (rate.count, rate.of, rate.share) == (1, 50, 0.02)
    assert rate.low < 0.02 < rate.high
    # Ten trials each by five people who are always or never right are worth five.
    same = Rate.measured([True] * 20 + [False] * 30, [f"p{i // 10}" for i in range(50)])
    assert (same.share, same.low) == (0.4, pytest.approx(0.053, abs=0.01))
    assert Rate.measured([], []) == Rate(0, 0, None, 0.0, 1.0)


@pytest.fixture
def plane(vector_gallery, angles):
    """ada at 0, bob at 90, carol at 180 degrees."""
    vector_gallery.enroll_vectors(["ada", "bob", "carol"], angles(0, 90, 180))
    return vector_gallery


def probes(angles, **of):
    return [(name, pack(angles(d)[0])) for name, degrees in of.items() for d in degrees]


def test_figures_by_hand(plane, angles):
    # Within 40 degrees counts. ada: found, missed, taken for bob; carol: found. Two of four strangers are let in.
    mine = probes(angles, ada=(10, -44, 80), carol=(170,), eve=(300, 310, 322, 215))
    result = evaluate(plane, mine, given=2 * np.sin(np.deg2rad(20)))
    assert (result.rank1.count, result.fnir.count, result.wrong_identity.count) == (3, 2, 1)
    assert (result.fpir.count, result.fpir.of, result.stranger_identities) == (2, 4, 1)
    assert (result.fnmr.count, result.fnmr.of) == (2, 4)
    assert (result.fmr.count, result.fmr.of) == (3, 4 * 2 + 4 * 3)
    assert [o.threshold is None for o in result.operating] == [True, True, True]  # four strangers cannot tell 10 %
    told = [(m.identity, m.taken_for) for m in result.mistakes]
    assert told == [("ada", "bob"), ("eve", "carol"), ("eve", "ada"), ("ada", None)]
    missed = result.mistakes[3]
    assert missed.own_distance == missed.distance == pytest.approx(2 * np.sin(np.deg2rad(22)), abs=1e-3)
    assert "searches" not in result.to_dict() and json.dumps(result.to_dict())


def test_misses_at_a_false_alarm_rate_use_these_very_strangers(plane, angles):
    mine = probes(angles, ada=(10, 30), eve=(200, 209, 218, 227, 236, 245, 254, 263, 272, 281))
    point = evaluate(plane, mine, given=1.0).operating[0]
    assert point.fpir == 0.1  # one of ten may be let in: that at 20 degrees from carol, not that at 29
    assert 2 * np.sin(np.deg2rad(10)) <= point.threshold < 2 * np.sin(np.deg2rad(14.5))
    assert (point.fnir.count, point.fnir.of) == (1, 2)


def test_tags_break_the_figures_down(plane, angles):
    mine = probes(angles, ada=(10, -44), eve=(322, 300))
    tags = [{"site": "north"}, {"site": "south"}, {"site": "north"}, {"site": "south"}]
    by = evaluate(plane, mine, given=2 * np.sin(np.deg2rad(20)), tags=tags).by_tag
    assert list(by) == ["site=north", "site=south"]
    assert [by[site]["fnir"].count for site in by] == [0, 1]
    assert [by[site]["fpir"].count for site in by] == [1, 0]


def test_columns_of_a_table_are_tags(tmp_path):
    (tmp_path / "probes.csv").write_text("path,label,site\na.png,ada,north\nb.png,bob,\n")
    assert items(tmp_path / "probes.csv").tags == [{"site": "north"}, {}]


def test_pairs_are_verified_with_counts(gallery, person, tmp_path):
    rows = ["path_a,path_b,label"]
    rows += [f"{person(n, 0)},{person(n, 1)},1" for n in range(8)]
    rows += [f"{person(n, 0)},{person((n + 3) % 8, 2)},0" for n in range(8, 12)]
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    result = evaluate_pairs(gallery, pairs(tmp_path / "pairs.csv"))
    assert (result.pairs, result.genuine, result.fmr.of, result.fnmr.of) == (12, 8, 4, 8)
    assert result.threshold == gallery.verification_threshold()
    assert 0 <= result.eer <= 0.5
    assert result.fnmr.count == sum(result.genuine_distances > result.threshold)
    (tmp_path / "same.csv").write_text("\n".join(rows[:9]))
    with pytest.raises(BadInput, match="Both kinds"):
        evaluate_pairs(gallery, pairs(tmp_path / "same.csv"))


def test_one_shot_runs_in_the_layout_of_omniglot(tower_path, person, tmp_path):
    for run in ("run01", "run02"):
        lines = []
        for part in ("test", "training"):
            (tmp_path / run / part).mkdir(parents=True)
        for n in range(6):
            shutil.copy(person(n, 0), tmp_path / run / "test" / f"item{n}.png")
            shutil.copy(person(n, 0 if run == "run01" else 1), tmp_path / run / "training" / f"class{n}.png")
            lines.append(f"{run}/test/item{n}.png {run}/training/class{n}.png")
        (tmp_path / run / "class_labels.txt").write_text("\n".join(lines))
    assert is_one_shot(tmp_path) and not is_one_shot(tmp_path / "run01")
    result = evaluate_one_shot(Tower.open(tower_path), tmp_path)
    assert (result.runs, result.trials, result.by_run[0]) == (2, 12, 0.0)  # the very same pictures
    (tmp_path / "run02" / "class_labels.txt").write_text("../../etc/passwd run02/training/class0.png")
    with pytest.raises(BadInput, match="outside of"):
        evaluate_one_shot(Tower.open(tower_path), tmp_path)


def test_the_page_holds_what_it_says(gallery, person, world):
    gallery.enroll_many([(f"glyph-{100 + n}", person(n, 0)) for n in range(8)])
    everyone = [(p.parent.name, p) for p in sorted((world / "people").rglob("*.png"))]
    page = evaluation_page(gallery, evaluate(gallery, everyone, given=0.6), "About & more.", "A promise.")
    assert page.count("<svg") >= 2 and "About &amp; more." in page
    assert "data:image/png;base64," in page
    assert "<script" not in page and 'src="http' not in page


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


def test_two_towers_that_are_equally_good_are_rarely_proved_different():
    rng = np.random.default_rng(0)

    def made(centres, spread):
        vectors = np.repeat(centres, 4, axis=0) + spread * rng.normal(size=(4 * len(centres), 16))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def verdicts(identities, before, after, attempt=1):
        found = []
        for _ in range(60):
            centres = rng.normal(size=(identities + 20, 16))
            names = [f"p{i}" for i in np.repeat(np.arange(len(centres)), 4)]
            judges = {f"p{i}" for i in range(identities)}
            towers = made(centres, before), made(centres, after)
            found.append(compare(*towers, names, judges, 0.05, draws=10, attempt=attempt)["verdict"])
        return found

    assert verdicts(5, 1.1, 0.7) == ["no proof"] * 60  # too few to prove anything
    assert sum(verdict == "better" for verdict in verdicts(10, 0.9, 0.9)) <= 4
    assert sum(verdict == "better" for verdict in verdicts(10, 1.1, 0.7)) >= 48
    assert sum(verdict == "better" for verdict in verdicts(10, 0.9, 0.9, attempt=3)) <= 1


def test_a_proof_says_how_many_identities_it_lacks():
    vectors, names = cloud(0.8)
    few = compare(vectors, vectors, names, {"p00", "p01", "p02"}, 0.05, draws=10)
    assert (few["verdict"], few["identities_missing"]) == ("no proof", 4)
    assert compare(vectors, vectors, names, set(names), 0.05, draws=10)["identities_missing"] == 0


def test_the_sign_flip_test_is_exact():
    assert sign_flip(np.array([1.0, 1.0, 1.0])) == 1 / 8
    assert sign_flip(np.array([3.0, -1.0, 1.0])) == pytest.approx(3 / 8)
    assert sign_flip(np.ones(20)) == pytest.approx(2**-20, abs=1e-4)
