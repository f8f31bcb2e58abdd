"""Recipes: the files, what is wrong in one, and the choice from data. None of it needs Keras."""

import tomllib

import numpy as np
import pytest

from siamese_index import BadInput, Missing, Unreadable
from siamese_index.samples import images
from siamese_index.samples.items import Items
from siamese_index.training import look, recipe
from siamese_index.training.glyphs import glyph
from siamese_index.vectors import pack


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_says_what_it_is_for_and_survives_the_card(name):
    found = recipe.named(name)
    assert found.name == name and len(found.about) > 30
    assert recipe.path_of(name).read_text().startswith("# ")
    assert recipe.parse(found.to_dict()) == found


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("[fit]\nsteeps = 3", "mine.toml: .fit.: 'steeps' is not known"), ("speed = 3", "'speed' is not known"),
     ("[fit]\nrate = 'fast'", "rate is 'fast'"), ("[augment]\nflip = 1", "flip is 1"), ("fit = 3", "fit is 3"),
     ("[feeding]\nby = 'luck'", "this cannot be"), ("[feeding]\nsamples = 99", "this cannot be"), ("[fit", "not a TOML file"),
     ("[tower]\ndepth = 3", ".tower. has no name"), ("[loss]\nname = 'circle'\n[feeding]\nby = 'pairs'", "this cannot be"),
     ("[loss]\nname = 'triplet'", "this cannot be"), ("[feeding]\ngenuine = 0.0", "this cannot be")],
)  # fmt: skip
def test_a_faulty_recipe_is_told_where(tmp_path, content, complaint):
    (tmp_path / "mine.toml").write_text(content)
    with pytest.raises(BadInput, match=complaint):
        recipe.named(str(tmp_path / "mine.toml"))


def test_a_recipe_of_ones_own_changes_what_it_names(tmp_path):
    (tmp_path / "mine.toml").write_text("about = 'coins'\n[augment]\nrotation = 180\n[fit]\nsteps = 7")
    mine = recipe.named(str(tmp_path / "mine.toml"))
    assert (mine.name, mine.augment.rotation, mine.fit.steps, mine.fit.rate) == ("mine", 180, 7, recipe.Fit().rate)


def test_an_unknown_recipe_lists_the_known(tmp_path):
    with pytest.raises(Missing, match="no recipe 'faces'") as caught:
        recipe.named("faces")
    assert "drawings" in caught.value.why
    with pytest.raises(Missing, match="cannot be read"):
        recipe.named(str(tmp_path / "none.toml"))


def encoded(pictures):
    return Items([str(i) for i in range(len(pictures))], lambda i: images.encode(pictures[i]))


def choice(pictures, **options):
    made = recipe.choose(encoded(pictures), None, **options)
    return made.recipe.name, made.shape


def test_recipe_and_size_are_chosen_from_the_pictures():
    rng = np.random.default_rng(0)
    assert choice([glyph(i, 0) for i in range(8)]) == ("drawings", (40, 40, 1))
    smooth = [np.clip(rng.normal(128, 30, (112, 92, 1)), 0, 255).astype(np.uint8) for _ in range(8)]
    assert choice(smooth) == ("photos", (64, 53, 1))
    assert choice([p[:30, :30] for p in smooth]) == ("photos", (30, 30, 1))  # not blown up
    colour = [rng.integers(0, 256, (50, 100, 3), np.uint8) for _ in range(8)]
    assert choice(colour) == ("photos", (32, 64, 3))
    assert choice(colour, size=32) == ("photos", (16, 32, 3))


def test_the_choice_is_explained():
    why = recipe.choose(encoded([glyph(i, 0) for i in range(8)]), None).why
    assert "look like drawings" in why[0] and "as dark or as light as it gets" in why[0]
    assert "40 x 40 pixels" in why[1] and "grey" in why[1]


def test_vectors_get_the_recipe_for_vectors():
    rows = np.random.default_rng(0).normal(size=(8, 10))
    items = Items([str(i) for i in range(8)], lambda i: pack(rows[i]))
    assert recipe.choose(items, None).shape == (10,)
    assert recipe.choose(items, None).recipe.name == "vectors"
    with pytest.raises(BadInput, match="'photos' is for pictures"):
        recipe.choose(items, recipe.named("photos"))
    both = Items(list("abcdef"), lambda i: pack(rows[i]) if i else images.encode(glyph(0, 0)))
    with pytest.raises(BadInput, match="pictures and vectors"):
        recipe.choose(both, None)
    uneven = Items(list("abcdef"), lambda i: pack(rows[i, : 5 + i % 2]))
    with pytest.raises(BadInput, match="different lengths"):
        recipe.choose(uneven, None)


def test_data_that_cannot_train_a_tower_say_why(tmp_path):
    (tmp_path / "one").mkdir()
    for hand in range(5):
        (tmp_path / "one" / f"{hand}.png").write_bytes(images.encode(glyph(0, hand)))
    with pytest.raises(BadInput, match="1 identity cannot train"):
        look(tmp_path)
    with pytest.raises(Unreadable, match="None of the pictures"):
        recipe.choose(Items(list("abcdef"), lambda i: b"no"), None)
    with pytest.raises(Missing):
        look(tmp_path / "nowhere")
    with pytest.raises(Missing, match="no recipe"):
        look(tmp_path, "no-such")


def test_the_recipes_are_installed_with_the_program():
    for name in recipe.names():
        assert tomllib.loads(recipe.path_of(name).read_text())["about"]
    assert {"drawings", "photos", "vectors", "pairs", "mnist", "fashion-mnist", "orl-faces"} <= set(recipe.names())


@pytest.mark.parametrize(
    ("table", "what", "how"),
    [
        ('[tower]\nname = "mlp"\ndropuot = 0.1', "mlp has no 'dropuot'", "It takes dense, dropout, beside"),
        ('[tower]\nname = "mlp"\ndense = 64', "mlp: dense is 64", "Expected something like [128, 128]"),
        ('[tower]\nname = "resnet"\nhead = true', "resnet: head is True", "'flatten'"),
        ('[loss]\nname = "cosface"\nscale = "x"', "cosface: scale is 'x'", "16.0"),
        ('[loss]\nname = "triplet"\nminig = "hard"', "triplet has no 'minig'", "It takes margin, mining, distance"),
        ('[loss]\nname = "similarity"\nscale = 2', "similarity has no 'scale'", "It takes none"),
    ],
)
def test_an_option_that_is_misspelt_or_of_another_kind_is_named_before_keras_is_loaded(tmp_path, table, what, how):
    (tmp_path / "mine.toml").write_text(table)
    with pytest.raises(BadInput) as caught:
        recipe.named(str(tmp_path / "mine.toml"))
    assert what in caught.value.what and how in caught.value.why
