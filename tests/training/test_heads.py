"""Heads: what is learned behind a network that stays as it is, and pairs whose labels are graded."""

import hashlib

import cv2
import numpy as np
import pytest

from siamese_index import BadInput, Gallery, Tower
from siamese_index.analysis.graded import graded_figures
from siamese_index.samples import images
from siamese_index.samples.tables import pairs
from siamese_index.towers.adapting import whitening
from siamese_index.towers.foreign import import_network
from siamese_index.towers.heads import without_head
from siamese_index.training import retrain, train
from siamese_index.training.features import FILE, nearest_identities
from siamese_index.training.glyphs import draw
from siamese_index.vectors import unit


@pytest.fixture(scope="module")
def network(tower_file, world):
    """The tower's network as somebody would bring it."""
    path = world / "glyphs.onnx"
    path.write_bytes(tower_file.onnx)
    return path


@pytest.mark.keras
def test_a_head_is_learned_and_the_network_stays_as_it_was(network, world, tmp_path):
    said = []
    made = train(world / "people", said.append, base=network, out=tmp_path / "a.tower", steps=20, holdout=0.4)
    base = import_network(network).file
    assert made.card.tuned == {"from": base.id, "dimension": 32} and made.card.imported["file"] == "glyphs.onnx"
    assert any(message.get("stage") == "embed" or message.get("stage") == "fit" for message in said)
    samples = [file.read_bytes() for file in sorted((world / "strangers").rglob("*.png"))]
    before = Tower.of(base).embed_samples(samples)
    assert np.abs(Tower.of(without_head(made)).embed_samples(samples) - before).max() < 1e-6
    after = Tower.of(made).embed_samples(samples)
    assert after.shape == before.shape and np.abs(after - before).max() > 0.01
    record = made.card.training
    assert record.recipe["name"] == "head" and made.card.held_out["plain"]["searches"] > 0
    assert set(record.identities).isdisjoint(record.held_out)
    with np.load(tmp_path / "a.training" / FILE, allow_pickle=False) as kept:
        assert kept["rows"].shape == (48, 4, 32)
        where = {digest.tobytes(): row for digest, row in zip(kept["digests"], kept["rows"], strict=True)}
    # The same command again takes the vectors from there: what stands there is what it learns from.
    first = (world / "people" / "glyph-100" / "hand-00.png").read_bytes()
    plain = where[hashlib.sha256(first).digest()][0]
    assert np.abs(plain - Tower.of(base).embed_samples([first])[0]).max() < 1e-6
    (tmp_path / "a.tower").unlink()
    for file in (tmp_path / "a.training").iterdir():
        if file.name != FILE:
            file.unlink()  # as if it had been interrupted after embedding
    again = train(world / "people", base=network, out=tmp_path / "a.tower", steps=20, holdout=0.4)
    assert again.id == made.id


@pytest.mark.keras
def test_retraining_an_imported_tower_learns_a_head_and_goes_on_with_it(network, tmp_path):
    draw(tmp_path / "people", range(300, 330), range(3))
    with Gallery.create(tmp_path / "g.gallery", import_network(network).file) as gallery:
        files = sorted((tmp_path / "people").rglob("*.png"))
        gallery.enroll_many([(file.parent.name, file) for file in files], conflicts="allow")
        base = gallery.tower.id
    result = retrain(tmp_path / "g.gallery", steps=20)
    with Gallery.open(tmp_path / "g.gallery") as gallery:
        row, active = gallery.tower_record(result.tower)
        assert not active and row.card.tuned["from"] == base
        # The judges were not learned from, neither by the head nor for its beginning.
        assert result.comparison["challenger"]["identities"] > 0
        gallery.promote(result.tower)
    assert retrain(tmp_path / "g.gallery", steps=10).unchanged  # nothing is better than what it goes on from
    lenient = tmp_path / "lenient.toml"
    lenient.write_text(
        '[tower]\nname = "head"\n[loss]\nname = "supervised-contrastive"\n[feeding]\nbatch = 32\nsamples = 2\n'
        "[fit]\ntolerance = 100.0\n"
    )
    again = retrain(tmp_path / "g.gallery", recipe=str(lenient), steps=10)
    with Gallery.open(tmp_path / "g.gallery") as gallery:
        card = gallery.tower_record(again.tower)[0].card
    assert card.training.continued and card.tuned["from"] == base
    assert set(row.card.training.identities) <= set(card.training.identities)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 64}, "are those of the network"),
        ({"recipe": "photos"}, "learns from pixels"),
    ],
)
@pytest.mark.keras
def test_what_is_the_networks_cannot_be_chosen(network, world, options, message):
    with pytest.raises(BadInput, match=message):
        train(world / "people", base=network, **options)


def test_the_nearest_identities_are_those_of_the_nearest_means(angles):
    vectors = angles(0, 2, 40, 44, 90, 170)
    assert nearest_identities(vectors, np.array([0, 0, 1, 1, 2, 3]))[:, 0].tolist() == [1, 0, 1, 2]


def test_whitening_of_views_needs_no_second_picture(angles):
    views = np.concatenate([angles(0, 1, 2), angles(90, 91, 92)])
    matrix, _ = whitening(views, np.repeat([0, 1], 3))
    assert np.isfinite(matrix).all()


# -- graded labels ---------------------------------------------------------------------------------


@pytest.fixture
def graded(tmp_path):
    """Bars at 90 angles, somewhere; two are as alike as the angle between them is small. Returns the table."""
    rng = np.random.default_rng(0)
    for degrees in range(90):
        picture = np.full((32, 32, 1), 255, np.uint8)
        x, y = (int(n) for n in rng.integers(13, 19, 2))
        dx, dy = (round(10 * turn(np.deg2rad(degrees))) for turn in (np.cos, np.sin))
        cv2.line(picture, (x - dx, y - dy), (x + dx, y + dy), 0, 3, cv2.LINE_AA)
        (tmp_path / f"{degrees}.png").write_bytes(images.encode(picture))
    lines = ["path_a,path_b,label"]
    for _ in range(1500):
        a, b = (int(n) for n in rng.choice(90, 2, replace=False))
        lines.append(f"{a}.png,{b}.png,{min(0.99, (1 + np.cos(np.deg2rad(2 * (a - b)))) / 2):.3f}")
    (tmp_path / "alike.csv").write_text("\n".join(lines))
    return tmp_path / "alike.csv"


@pytest.mark.keras
def test_graded_pairs_are_learned_and_ranked_on_items_never_seen(graded, sidx, tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('[tower]\nname = "cnn"\n[loss]\nname = "pair-logistic"\n[feeding]\nby = "pairs"\nbatch = 64\n')
    made = train(graded, recipe=str(recipe), steps=150, size=32, dimension=8, holdout=0.4)
    figures = made.card.held_out
    low, high = figures["spearman_interval"]
    assert figures["spearman"] > 0.6 and low < figures["spearman"] < high
    assert 0 < figures["items"] < 45 and figures["pairs"] > 20  # those that are held out
    made.write(tmp_path / "a.tower")
    Gallery.create(tmp_path / "a.gallery", tmp_path / "a.tower").close()
    done = sidx("evaluate", "alike.csv", "-g", "a.gallery", "--report", "a.html")
    assert done.returncode == 0 and "rank correlation" in done.stderr, done.stderr
    assert "0 unlike, 1 the same" in (tmp_path / "a.html").read_text()


def test_few_pairs_say_little():
    vectors = np.eye(6, dtype=np.float32)
    vectors[1] = unit(np.array([[0.9, 0.1, 0, 0, 0, 0]]))[0]
    listed, labels = np.array([[0, 1], [2, 3], [4, 1]]), np.array([1, 0.2, 0.3], np.float32)
    low, high = graded_figures(vectors, listed, labels)["spearman_interval"]
    assert low == -1 and high == 1


def test_labels_of_pairs_are_numbers_from_0_to_1(graded):
    assert pairs(graded).graded and pairs(graded).labels.dtype == np.float32
    for cell in ("1.5", "-0.1", "nan", "same"):
        graded.write_text(f"path_a,path_b,label\n1.png,2.png,{cell}\n")
        with pytest.raises(BadInput, match="line 2 has the label"):
            pairs(graded)


@pytest.mark.keras
def test_graded_labels_want_a_loss_for_them(graded):
    with pytest.raises(BadInput, match="these labels are graded"):
        train(graded, recipe="pairs")
