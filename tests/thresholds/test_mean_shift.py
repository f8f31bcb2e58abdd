"""A threshold that moves with the probe: against brute force, and as every part of the program sees it."""

import numpy as np
import pytest

from siamese_index import BadInput, Gallery
from siamese_index.analysis.audit import audit
from siamese_index.analysis.evaluation import evaluate
from siamese_index.analysis.replay import replay
from siamese_index.thresholds.mean_shift import LEAST, MeanShift
from siamese_index.vectors import unit

DIMENSION = 16


def crowd(identities, pictures, seed=0, offset=0):
    """Vectors (identities * pictures, 16) and names: half live in a narrow cone, where all are near each other."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(identities, DIMENSION))
    centres[::2] = 0.35 * centres[::2] + 4 * np.eye(DIMENSION)[0]
    noise = np.where(np.arange(identities) % 2 == 0, 0.12, 0.45)
    vectors = centres[:, None] + noise[:, None, None] * rng.normal(size=(identities, pictures, DIMENSION))
    return unit(vectors.reshape(-1, DIMENSION), DIMENSION), [
        f"p{offset + i}" for i in range(identities) for _ in range(pictures)
    ]


@pytest.fixture
def crowded(tmp_path):
    """A gallery of 20 with three pictures each, and 60 strangers given with two."""
    with Gallery.create(tmp_path / "crowd.gallery", dimension=DIMENSION, fpir=0.1) as gallery:
        vectors, names = crowd(20, 3)
        gallery.enroll_vectors(names, vectors, conflicts="allow")
        vectors, names = crowd(60, 2, seed=1, offset=100)
        gallery.calibrate_vectors(names=names, vectors=vectors)
        yield gallery


def test_it_moves_by_half_of_what_the_nearest_strangers_differ_from_the_usual():
    vectors, names = crowd(12, 4, seed=3)
    shift = MeanShift.of(vectors, names, ["given"] * 48, np.full(48, -1))
    of = np.asarray(names)

    def mean(probe, name=None):
        d = np.sort(np.linalg.norm(vectors[of != name] - probe, axis=1))
        return d[:20].mean()

    usual = np.mean([mean(v, n) for v, n in zip(vectors, names, strict=True)])
    probes = crowd(5, 1, seed=4)[0]
    expected = [(mean(p) - usual) / 2 for p in probes]
    assert shift.by(probes) == pytest.approx(expected, abs=1e-6)
    own = [(mean(v, n) - usual) / 2 for v, n in zip(vectors, names, strict=True)]
    assert shift.by(vectors, names) == pytest.approx(own, abs=1e-6)


def test_only_strangers_given_and_not_enrolled_count_and_ten_of_them_are_needed():
    vectors, names = crowd(LEAST, 2)
    n = len(names)
    given, nobody = ["given"] * n, np.full(n, -1)
    assert MeanShift.of(vectors, names, given, nobody) is not None
    assert MeanShift.of(vectors, names, ["tower"] * n, nobody) is None
    nobody[:2] = 7
    assert MeanShift.of(vectors, names, given, nobody) is None


def test_answers_are_decided_at_the_threshold_that_is_told(crowded):
    before = crowded.threshold().tau
    crowded.calibrate_vectors(shift=True)
    learned = crowded.threshold()
    assert learned.evidence.shift and learned.tau != before
    probes = crowd(40, 2, seed=5, offset=500)[0]
    answers = crowded.identify_vectors(probes)
    with crowded.reading() as state:
        moves = state.moves(probes)
    assert np.ptp(moves) > 0.05
    for answer, by in zip(answers, moves.tolist(), strict=True):
        assert answer.threshold == pytest.approx(learned.tau + by, abs=1e-12)
        assert (answer.verdict == "unknown") == (answer.distance > answer.threshold)
    alone = [crowded.identify_vectors(probe[None])[0] for probe in probes]
    assert [(a.verdict, a.identity, a.threshold) for a in alone] == [
        (a.verdict, a.identity, a.threshold) for a in answers
    ]


def test_the_promise_is_kept_and_fewer_are_missed(tmp_path):
    missed = {False: 0, True: 0}
    let_in = {False: [], True: []}
    for seed in range(8):
        vectors, names = crowd(160, 4, seed=seed)
        groups = vectors.reshape(160, 4, DIMENSION)
        with Gallery.create(tmp_path / f"{seed}.gallery", dimension=DIMENSION, fpir=0.1) as gallery:
            gallery.enroll_vectors(names[: 30 * 4 : 4], groups[:30, 0], conflicts="allow")
            gallery.calibrate_vectors(names=names[30 * 4 : 90 * 4], vectors=vectors[30 * 4 : 90 * 4])
            for shift in missed:
                gallery.calibrate_vectors(shift=shift)
                mated = gallery.identify_vectors(groups[:30, 1:].reshape(-1, DIMENSION))
                missed[shift] += sum(a.identity != names[i // 3 * 4] for i, a in enumerate(mated))
                others = gallery.identify_vectors(vectors[90 * 4 :])
                let_in[shift].append(np.mean([a.verdict != "unknown" for a in others]))
    assert np.mean(let_in[True]) < 0.15
    assert missed[True] < missed[False]


def test_auto_takes_it_where_it_misses_fewer_and_it_is_refused_without_strangers(crowded, tmp_path):
    before = crowded.calibrate_vectors()
    result = crowded.calibrate_vectors(fusion="auto")
    assert result.misses <= before.misses
    with crowded.reading() as state:
        assert state.settings.shift == result.evidence.shift
    with pytest.raises(BadInput, match="Give one of the two"):
        crowded.calibrate_vectors(fusion="auto", shift=True)
    with Gallery.create(tmp_path / "few.gallery", dimension=DIMENSION) as few:
        vectors, names = crowd(LEAST - 1, 3)
        few.enroll_vectors(["ada"], vectors[:1])
        few.calibrate_vectors(names=names, vectors=vectors)
        revision = few.revision
        with pytest.raises(BadInput, match="at least 10 identities"):
            few.calibrate_vectors(shift=True)
        assert few.revision == revision
        few.calibrate_vectors(fusion="auto")
        assert not few.threshold().evidence.shift


def test_it_waits_while_too_few_strangers_are_left(crowded):
    crowded.calibrate_vectors(shift=True)
    for i in range(100, 155):
        crowded.set_stranger(f"p{i}", counts=False)
    result = crowded.calibrate_vectors()
    assert result.shift_waits and not result.evidence.shift
    answer = crowded.identify_vectors(crowd(1, 1, seed=9)[0])[0]
    assert answer.threshold == crowded.threshold().tau
    crowded.set_stranger("p120", counts=True)
    for i in range(100, 110):
        crowded.set_stranger(f"p{i}", counts=True)
    assert crowded.threshold().evidence.shift


def test_evaluation_replay_and_audit_decide_as_answers_do(crowded):
    crowded.calibrate_vectors(shift=True)
    crowded.log(True)
    probes, _ = crowd(30, 1, seed=6)
    crowded.identify_vectors(probes)
    assert replay(crowded).flips == ()
    with crowded.reading() as state:
        searches = state.searches
        given = np.asarray(searches.sources) == "given"
        alarms = state.threshold(None).rule.is_within(searches.distances[given])
    found = audit(crowded)
    assert found.fpir == pytest.approx(np.mean(alarms))
    assert found.threshold == pytest.approx(crowded.threshold().tau)
    result = crowded.calibrate_vectors()
    assert found.fnir == pytest.approx(result.fnir)


def test_an_evaluation_counts_by_each_probes_own_threshold(crowded, tmp_path):
    crowded.calibrate_vectors(shift=True)
    vectors, names = crowd(25, 2, seed=8, offset=900)
    paths = []
    for i, vector in enumerate(vectors):
        paths.append(tmp_path / f"{i}.npy")
        np.save(paths[-1], vector)
    result = evaluate(crowded, list(zip(names, paths, strict=True)))
    answers = crowded.identify_vectors(vectors, log=False)
    assert result.fpir.count == sum(a.verdict != "unknown" for a in answers) > 0
    told = {mistake.probe: mistake.distance for mistake in result.mistakes}
    for path, answer in zip(paths, answers, strict=True):
        if answer.verdict != "unknown" and str(path) in told:
            assert told[str(path)] == pytest.approx(answer.distance, abs=1e-3)
