"""What a tower is fed with: glyphs, jitter, the split by identity. None of it needs Keras."""

import numpy as np
import pytest

from siamese_index import images
from siamese_index.training import fit
from siamese_index.training.augment import DRAWINGS, PHOTOS, Jitter, jittered
from siamese_index.training.glyphs import draw, glyph

STILL = Jitter(rotation=0, scale=0, shear=0, shift=0, elastic=0, light=0, flip=False)


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
    assert np.array_equal(jittered(picture, STILL, np.random.default_rng(0)), picture)


@pytest.mark.parametrize("jitter", [DRAWINGS, PHOTOS])
@pytest.mark.parametrize("shape", [(40, 40, 1), (64, 48, 1), (33, 64, 3)])
def test_a_jittered_picture_is_another_of_the_same_shape(jitter, shape):
    picture = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    rng = np.random.default_rng(0)
    first, second = jittered(picture, jitter, rng), jittered(picture, jitter, rng)
    assert first.shape == shape and first.dtype == np.uint8
    assert not np.array_equal(first, second)


def test_drawings_keep_their_ink_and_photos_may_be_mirrored():
    picture = glyph(5, 0)
    ink = [(255 - jittered(picture, DRAWINGS, np.random.default_rng(i)).astype(float)).sum() for i in range(50)]
    assert 0.5 < np.mean(ink) / (255 - picture.astype(float)).sum() < 1.6
    left = np.zeros((32, 32, 1), np.uint8)
    left[:, :10] = 200
    sides = [jittered(left, PHOTOS, np.random.default_rng(i))[:, :8].mean() > 60 for i in range(40)]
    assert 8 < sum(sides) < 32


def test_the_split_is_by_identity_seeded_and_stays_when_data_grow():
    names = [f"p{i}" for i in range(50) for _ in range(3)]
    held_out = fit._split(names, fit.Settings())
    assert len(held_out) == 10
    assert held_out == fit._split(list(reversed(names)), fit.Settings())
    assert held_out != fit._split(names, fit.Settings(seed=1))
    grown = fit._split([*names, "new", "new"], fit.Settings())
    assert len(held_out & grown) >= 9
    assert fit._split(names, fit.Settings(holdout=0)) == set()


def test_identities_with_one_picture_are_never_held_out():
    names = ["single"] * 1 + [f"p{i}" for i in range(9) for _ in range(2)]
    assert "single" not in fit._split(names, fit.Settings(holdout=0.9))


def test_kind_and_size_are_chosen_from_the_pictures(world, tmp_path):
    rng = np.random.default_rng(0)
    assert fit._look([("a", images.encode(glyph(i, 0))) for i in range(8)] + [("bcd"[i], images.encode(glyph(9, i))) for i in range(3)],
                     fit.Settings()) == ("drawings", 40, 40, 1)  # fmt: skip
    smooth = [np.clip(rng.normal(128, 30, (112, 92, 1)), 0, 255).astype(np.uint8) for _ in range(8)]
    assert fit._look([(str(i), images.encode(p)) for i, p in enumerate(smooth)], fit.Settings()) == (
        "photos",
        64,
        53,
        1,
    )
    colour = [rng.integers(0, 256, (50, 100, 3), np.uint8) for _ in range(8)]
    items = [(str(i), images.encode(p)) for i, p in enumerate(colour)]
    assert fit._look(items, fit.Settings()) == ("photos", 32, 64, 3)
    assert fit._look(items, fit.Settings(kind="drawings", size=30)) == ("drawings", 15, 30, 3)
