"""What a training reads, within its budget, and what it refuses. None of it needs Keras."""

import numpy as np
import pytest

from siamese_index import BadInput, Gallery, Missing, Unreadable
from siamese_index.samples import framing, images, sources
from siamese_index.samples.items import Items
from siamese_index.training.data import Data, source
from siamese_index.training.glyphs import glyph
from siamese_index.training.split import split


def quiet(said):
    pass


def drawn(count=12, hands=3):
    names = [f"p{i:02}" for i in range(count) for _ in range(hands)]
    return Items(names, lambda i: images.encode(glyph(i // hands, i % hands)))


def names_of(data, positions):
    return {data.names[i] for i in data.whose[positions]}


def test_samples_beyond_the_budget_are_decoded_when_they_are_needed():
    items = drawn()
    whole = Data(items, (32, 32, 1), quiet)
    part = Data(items, (32, 32, 1), quiet, budget=5 * 32 * 32)
    assert len(part._cache) == 5 and len(whole._cache) == 36
    wanted = np.array([35, 0, 4, 5, 20, 20])
    assert np.array_equal(whole.take(wanted), part.take(wanted))
    assert np.array_equal(part.take([7])[0], framing.load(items[7][1], 32, 32, 1))


def test_what_cannot_be_read_is_left_out_by_name_and_the_rest_is_used(tmp_path):
    for number in range(5):
        (tmp_path / f"p{number}").mkdir()
        for hand in range(2):
            (tmp_path / f"p{number}" / f"{hand}.png").write_bytes(images.encode(glyph(number, hand)))
    (tmp_path / "p3" / "0.png").write_bytes(b"no picture")
    (tmp_path / "p3" / "1.png").write_bytes(images.encode(glyph(3, 1))[:100])
    data = Data(sources.items(tmp_path), (32, 32, 1), quiet)
    assert [line.split(":")[0] for line in data.left_out] == [str(tmp_path / "p3" / f"{i}.png") for i in (0, 1)]
    assert (data.whose >= 0).sum() == 8
    assert names_of(data, np.flatnonzero(data.whose >= 0)) == {"p0", "p1", "p2", "p4"}


def test_pictures_of_mixed_sizes_and_kinds_are_fitted(tmp_path):
    sizes = [(20, 30), (300, 200), (64, 64), (8, 8)]
    for number, (height, width) in enumerate(sizes):
        (tmp_path / str(number)).mkdir()
        picture = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        for suffix in (".png", ".jpg", ".webp", ".bmp", ".tiff", ".ppm"):
            (tmp_path / str(number) / f"a{suffix}").write_bytes(images.encode(picture, suffix))
    data = Data(sources.items(tmp_path), (24, 16, 3), quiet)
    assert data.left_out == [] and data.take(range(len(data))).shape == (24, 24, 16, 3)


def test_the_same_bytes_under_two_names_are_left_out_and_under_one_count_once():
    pictures = [images.encode(glyph(0, 0)), images.encode(glyph(0, 1)), images.encode(glyph(1, 0))]
    once = Data(Items(["a", "a", "a", "b"], lambda i: pictures[[0, 0, 1, 2][i]]), (32, 32, 1), quiet)
    assert (once.whose >= 0).sum() == 3
    double = Items(["a", "a", "b", "b"], lambda i: pictures[[0, 1, 0, 2][i]])
    data = Data(double, (32, 32, 1), quiet)
    assert data.whose.tolist() == [-1, 0, -1, 1]
    assert data.left_out == ["the same picture under two names: a sample of 'a' and a sample of 'b'"]
    with pytest.raises(BadInput, match="The same picture under two names"):
        Data(double, (32, 32, 1), quiet, duplicates="refuse")


def test_nothing_readable_is_an_error():
    with pytest.raises(Unreadable, match="4 of 4 samples cannot be used"):
        Data(Items(["a", "b", "c", "d"], lambda i: b"no"), (32, 32, 1), quiet)


def test_the_digest_is_of_what_is_used_in_any_order():
    items = drawn(4)
    backwards = Items(items.names[::-1], lambda i: items[len(items) - 1 - i][1])
    assert Data(items, (32, 32, 1), quiet).digest() == Data(backwards, (32, 32, 1), quiet).digest()
    assert Data(items, (32, 32, 1), quiet).digest() != Data(drawn(5), (32, 32, 1), quiet).digest()


# -- the split --------------------------------------------------------------------------------------


def split_names(data, **settings):
    parts = split(data, settings.get("holdout", 0.2), settings.get("seed", 0))
    return names_of(data, parts.unseen), names_of(data, parts.seen), parts.unseen, parts.seen


def test_the_split_is_by_identity_seeded_and_stays_when_data_grow():
    data = Data(drawn(50), (16, 16, 1), quiet)
    held_out, learned, unseen, seen = split_names(data)
    assert 4 <= len(held_out) <= 16 and len(learned) == 50 - len(held_out) and not held_out & learned
    assert len(unseen) == 3 * len(held_out) and len(seen) == 3 * len(learned)
    assert split_names(data, seed=1)[0] != held_out
    grown, later, _, _ = split_names(Data(drawn(90), (16, 16, 1), quiet))
    assert held_out < grown and learned < later  # nobody moves
    assert split_names(data, holdout=0)[0] == set()


def test_a_part_of_the_held_out_identities_chooses_the_moment_and_the_others_measure():
    few = split(Data(drawn(5), (16, 16, 1), quiet), 0.01, 0)
    assert len(few.unseen) == 6 and np.array_equal(few.watched, few.unseen)  # two at least, of whom all do both
    data = Data(drawn(40), (16, 16, 1), quiet)
    many = split(data, 0.5, 0)
    assert 0.2 < len(many.watched) / len(many.unseen) < 0.7 and set(many.watched) < set(many.unseen)
    larger = Data(drawn(80), (16, 16, 1), quiet)
    assert names_of(data, many.watched) <= names_of(larger, split(larger, 0.5, 0).watched)  # nobody moves


def test_identities_with_one_sample_are_never_held_out():
    items = drawn(10, 2)
    data = Data(Items(items.names[1:], lambda i: items[i + 1][1]), (16, 16, 1), quiet)
    held_out, learned, _, _ = split_names(data, holdout=0.999)
    assert learned == {"p00"} and len(held_out) == 9


@pytest.mark.parametrize("others", [1, 2])
def test_the_only_rich_identity_is_learned_from(others):
    names = ["rich"] * 40 + [f"p{n:02}" for n in range(12) for _ in range(others)]
    pictures = drawn(64, 1)
    data = Data(Items(names, lambda i: pictures[i][1]), (16, 16, 1), quiet)
    for seed in range(8):
        held_out, learned, _, _ = split_names(data, seed=seed, holdout=0.9)
        assert "rich" in learned and len(held_out) >= (0 if others == 1 else 2)
        assert len(learned) + len(held_out) == 13


def test_of_very_many_held_out_samples_some_of_each_identity_are_measured_with(monkeypatch):
    monkeypatch.setattr("siamese_index.training.split.COHORT", 12)
    data = Data(drawn(20, 6), (16, 16, 1), quiet)
    held_out, _, unseen, seen = split_names(data)
    each = max(2, 12 // len(held_out))
    assert len(unseen) == each * len(held_out) and len(seen) == 6 * (20 - len(held_out))
    assert set(np.bincount(data.whose[unseen])) == {0, each}


# -- sources ----------------------------------------------------------------------------------------


def pairs_table(folder, rows):
    for number in range(6):
        (folder / f"{number}.png").write_bytes(images.encode(glyph(number, 0)))
    (folder / "pairs.csv").write_text("path_a,path_b,label\n" + "\n".join(rows) + "\n")
    return folder / "pairs.csv"


def test_pairs_join_pictures_into_identities(tmp_path):
    found = source(
        pairs_table(tmp_path, ["0.png,1.png,1", "1.png,2.png,1", "3.png,4.png,1", "0.png,3.png,0", "5.png,2.png,0"])
    )
    assert list(found.items.names) == ["0.png", "0.png", "0.png", "3.png", "3.png", "5.png"]
    assert found.pairs.tolist() == [[0, 1], [1, 2], [3, 4], [0, 3], [5, 2]]
    assert found.labels.tolist() == [1, 1, 1, 0, 0] and not found.graded
    assert found.items[4] == ("3.png", tmp_path / "4.png")


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [(["0.png,1.png,1", "1.png,2.png,1", "0.png,2.png,0"], "line 4 says that two pictures differ"),
     (["0.png,1.png,yes"], "line 2 has the label 'yes'"), (["0.png,0.png,1"], "line 2 pairs a picture with itself"),
     (["0.png,,1"], "line 2 has no path_b"), ([], "no rows")],
)  # fmt: skip
def test_impossible_pairs_say_where(tmp_path, rows, complaint):
    with pytest.raises(BadInput, match=complaint):
        source(pairs_table(tmp_path, rows))


def test_a_gallery_is_a_source_as_it_was_at_that_moment(gallery, person):
    gallery.enroll("ada", [person(0, 0), person(0, 1)])
    gallery.enroll("bob", [person(1, 0)])
    found = source(gallery.path).items
    gallery.remove("ada")
    assert [name for name, _ in found] == ["ada", "ada", "bob"]
    assert [sample for _, sample in found] == [
        person(0, 0).read_bytes(),
        person(0, 1).read_bytes(),
        person(1, 0).read_bytes(),
    ]


def test_a_gallery_without_pictures_gives_none(tower_file, tmp_path, person):
    with Gallery.create(tmp_path / "bare.gallery", tower_file, keep_pictures=False) as gallery:
        gallery.enroll("ada", [person(0, 0)])
    assert len(source(tmp_path / "bare.gallery").items) == 0


def test_a_data_set_that_was_not_prepared_is_not_fetched():
    pytest.importorskip("tensorflow_datasets", reason="an optional part")
    with pytest.raises(Missing, match="tfds:no_such_set cannot be read"):
        source("tfds:no_such_set")
