"""What a tower is fed with: glyphs, jitter, batches. None of it needs Keras."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from siamese_index import BadInput
from siamese_index.samples import images
from siamese_index.samples.augment import Jitter, jittered, shaken, turned
from siamese_index.training import recipe
from siamese_index.training.batch_builder import Sampler
from siamese_index.training.glyphs import draw, glyph
from siamese_index.training.recipe import Feeding


def one(picture, jitter, seed):
    """One picture, changed."""
    return jittered(picture[None], jitter, np.random.default_rng(seed))[0]


DRAWINGS, PHOTOS = recipe.named("drawings").augment, recipe.named("photos").augment


def test_a_figure_is_always_the_same_and_every_hand_draws_it_differently():
    assert np.array_equal(glyph(3, 1), glyph(3, 1))
    assert not np.array_equal(glyph(3, 1), glyph(3, 2))
    assert glyph(3, 1).shape == (64, 64, 1)
    assert glyph(3, 1).min() < 40 and glyph(3, 1).max() == 255


def test_drawn_folders_hold_a_picture_per_hand(tmp_path):
    draw(tmp_path, range(2), range(3))
    assert [p.name for p in sorted((tmp_path / "glyph-001").iterdir())] == ["hand-00.png", "hand-01.png", "hand-02.png"]
    assert np.array_equal(images.decode((tmp_path / "glyph-001" / "hand-02.png").read_bytes(), 1), glyph(1, 2))


def test_no_jitter_changes_nothing():
    picture = glyph(1, 1)
    assert np.array_equal(one(picture, Jitter(), 0), picture)


@pytest.mark.parametrize("jitter", [DRAWINGS, PHOTOS])
@pytest.mark.parametrize("shape", [(40, 40, 1), (64, 48, 1), (33, 64, 3)])
def test_a_jittered_picture_is_another_of_the_same_shape(jitter, shape):
    picture = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    first, second = jittered(np.stack([picture, picture]), jitter, np.random.default_rng(0))
    assert first.shape == shape and first.dtype == np.float32 and first.min() >= 0 and first.max() <= 255
    assert not np.array_equal(first, second)
    assert np.array_equal(
        picture, np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    )  # it is not changed itself


def test_drawings_keep_their_ink_and_photos_may_be_mirrored():
    picture = glyph(5, 0)
    ink = [(255 - one(picture, DRAWINGS, i)).sum() for i in range(50)]
    assert 0.5 < np.mean(ink) / (255 - picture.astype(float)).sum() < 1.6
    left = np.zeros((32, 32, 1), np.uint8)
    left[:, :10] = 200
    sides = [one(left, PHOTOS, i)[:, :8].mean() > 60 for i in range(40)]
    assert 8 < sum(sides) < 32


def test_strokes_grow_and_shrink_on_either_ground():
    picture, jitter = glyph(5, 0), Jitter(stroke=1.0)
    ink = [(255 - one(picture, jitter, i)).sum() for i in range(30)]
    plain = (255 - picture.astype(float)).sum()
    assert min(ink) < 0.8 * plain and max(ink) > 1.2 * plain
    light = [one(255 - picture, jitter, i).sum() for i in range(30)]
    assert np.allclose(light, ink, rtol=1e-3)  # white on black grows where black on white does


def test_a_side_light_and_a_cover_change_what_they_should():
    grey = np.full((40, 60, 1), 128, np.uint8)
    lit = [one(grey, Jitter(shade=0.5), i)[..., 0] for i in range(20)]
    assert max(abs(p[:, 0].mean() - p[:, -1].mean()) for p in lit) > 40
    covered = [np.mean(one(grey, Jitter(erase=1.0), i) != 128) for i in range(20)]
    assert all(0.02 < share < 0.21 for share in covered if share)
    untouched = [np.array_equal(one(grey, Jitter(erase=0.3), i), grey) for i in range(200)]
    assert 0.55 < np.mean(untouched) < 0.85


def test_the_eight_turns_of_a_picture_are_eight_pictures():
    picture = np.arange(9, dtype=np.uint8).reshape(3, 3, 1)
    all_turns = {turned(picture, t).tobytes() for t in range(8)}
    assert len(all_turns) == 8
    assert np.array_equal(turned(picture, 1)[..., 0], np.rot90(picture[..., 0]))
    assert np.array_equal(turned(picture, 4)[..., 0], np.fliplr(picture[..., 0]))


def test_vectors_are_shaken_by_the_spread_of_each_feature():
    rng = np.random.default_rng(0)
    rows = np.zeros((4000, 2), np.float32)
    moved = shaken(rows, Jitter(noise=0.5), rng, np.zeros(2), np.array([1.0, 10.0]))
    assert moved.std(axis=0) == pytest.approx([0.5, 5.0], rel=0.1)
    dropped = shaken(np.ones((4000, 2), np.float32), Jitter(drop=0.25), rng, np.array([7.0, 8.0]), np.ones(2))
    assert np.mean(dropped[:, 0] == 7) == pytest.approx(0.25, abs=0.03)
    assert set(dropped[:, 1].tolist()) == {1.0, 8.0}


# -- batches ----------------------------------------------------------------------------------------

POSITIONS = np.arange(100, 130)
WHOSE = np.repeat(np.arange(10), 3)


def sampler(positions=POSITIONS, whose=WHOSE, **feeding):
    return Sampler(positions, whose, Feeding(**feeding), seed=7)


def test_a_batch_of_identities_holds_each_as_often_and_no_sample_twice():
    batch = sampler(batch=12, samples=3).batch(0)
    assert len(set(batch.positions.tolist())) == 12
    assert sorted(Counter(batch.labels[:, 1].tolist()).values()) == [3, 3, 3, 3]
    assert set(batch.labels[:, 0]) == {0}  # one group: all are compared
    assert (WHOSE[batch.positions - 100] == batch.labels[:, 1]).all()


def test_identities_are_chosen_alike_however_many_samples_they_have():
    whose = np.array([0] * 97 + [1, 2, 2])
    batches = [Sampler(np.arange(100), whose, Feeding(batch=60), 0).batch(step) for step in range(20)]
    counts = Counter(label for b in batches for label in b.labels[:, 1].tolist())
    assert all(300 < counts[i] < 500 for i in range(3))


def test_an_identity_with_one_sample_meets_itself_augmented():
    batch = Sampler(np.arange(4), np.array([0, 1, 1, 1]), Feeding(batch=6, samples=3), 0).batch(0)
    assert sorted(batch.positions.tolist()) == [0, 0, 0, 1, 2, 3]


@pytest.mark.parametrize(("share", "genuine"), [(0.5, 10), (0.25, 5), (0.01, 1), (1.0, 20)])
def test_pairs_have_the_genuine_share_that_was_asked_for_and_never_none(share, genuine):
    for step in range(50):
        batch = sampler(by="pairs", batch=40, genuine=share).batch(step)
        pairs, labels = batch.positions.reshape(-1, 2), batch.labels.reshape(-1, 2, 2)
        same = labels[:, 0, 1] == labels[:, 1, 1]
        assert same.sum() == genuine
        assert (pairs[:, 0] != pairs[:, 1]).all()  # never a picture with itself
        assert (WHOSE[pairs - 100][:, 0] == WHOSE[pairs - 100][:, 1]).tolist() == same.tolist()
        assert (labels[:, 0, 0] == labels[:, 1, 0]).all() and len(set(labels[:, 0, 0])) == 20  # a group each


def test_impostors_and_negatives_come_from_everywhere():
    """One faulty generator paired a picture always with the same partner, another only within a class."""
    met = set()
    for step in range(200):
        batch = sampler(by="triplets", batch=30).batch(step)
        for anchor, positive, negative in batch.positions.reshape(-1, 3):
            assert anchor != positive
            assert WHOSE[anchor - 100] == WHOSE[positive - 100] != WHOSE[negative - 100]
            met.add((anchor, negative))
    assert len(met) > 0.8 * 30 * 27


def test_ready_made_pairs_are_fed_as_they_are_listed():
    listed = np.array([(0, 1), (2, 3), (0, 2), (1, 3)])
    genuine = np.array([True, True, False, False])
    made = Sampler(np.arange(4), np.array([0, 0, 1, 1]), Feeding(by="pairs", batch=8), 0, listed, genuine)
    for step in range(20):
        batch = made.batch(step)
        fed = [tuple(pair) for pair in batch.positions.reshape(-1, 2).tolist()]
        assert set(fed) <= {(0, 1), (2, 3), (0, 2), (1, 3)}
        assert sum(pair in {(0, 1), (2, 3)} for pair in fed) == 2
    with pytest.raises(BadInput, match="2 genuine and 0 impostor pairs"):
        Sampler(np.arange(4), np.array([0, 0, 1, 1]), Feeding(by="pairs", batch=8), 0, listed[:2], genuine[:2])


def test_a_turned_class_is_another_and_its_picture_is_turned():
    batch = sampler(batch=400, classes=4).batch(0)
    assert batch.labels[:, 1].max() >= 36
    assert (batch.labels[:, 1] % 4 == batch.turns).all()
    assert (batch.labels[:, 1] // 4 == WHOSE[batch.positions - 100]).all()


def test_a_batch_depends_on_the_seed_and_the_step_alone():
    one, again, other = sampler(batch=16).batch(5), sampler(batch=16).batch(5), sampler(batch=16).batch(6)
    assert np.array_equal(one.positions, again.positions) and np.array_equal(one.labels, again.labels)
    assert not np.array_equal(one.positions, other.positions)


def test_one_identity_cannot_be_told_from_itself():
    with pytest.raises(BadInput, match="One identity alone"):
        Sampler(np.arange(4), np.zeros(4, np.int64), Feeding(), 0)


@pytest.mark.parametrize("by", ["identities", "pairs", "triplets"])
def test_who_was_answered_wrongly_comes_up_more_often(by):
    whose = np.repeat(np.arange(50), 4)
    feeding = replace(Feeding(), by=by, batch=24, samples=2, classes=1)
    counts = []
    for hard in (None, np.array([7, 8])):
        sampler = Sampler(np.arange(200), whose, feeding, 0, hard=hard)
        drawn = np.concatenate([sampler.batch(step).labels[:, 1] for step in range(200)])
        counts.append(float(np.isin(drawn, [7, 8]).mean()))
        assert len(np.unique(drawn)) == 50  # the others, too
    assert counts[0] < 0.06 and counts[1] > 2 * counts[0]
