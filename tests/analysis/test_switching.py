"""Another embedder by a map of the old vectors: what is learned, what it costs, what the gallery answers then."""

import json

import numpy as np
import pytest

from siamese_index import BadInput, Gallery, Tower
from siamese_index.analysis.switching import by_both, given, measured
from siamese_index.samples.items import Items
from siamese_index.towers.mapping import learned, linear, orthogonal
from siamese_index.training.glyphs import draw
from siamese_index.vectors import unit

PEOPLE, EACH = 200, 3


@pytest.fixture(scope="module")
def worlds():
    """The same people by two embedders of 24 and 32 numbers that see the same of them, each with noise of its own."""
    rng = np.random.default_rng(0)
    who = rng.normal(size=(PEOPLE, 16)).repeat(EACH, axis=0) + rng.normal(0, 0.25, (PEOPLE * EACH, 16))
    views = [rng.normal(size=(16, d)) for d in (24, 32)]
    old, new = (unit(who @ view + rng.normal(0, 0.05, (len(who), view.shape[1]))) for view in views)
    return old, new, [f"p{i:03d}" for i in range(PEOPLE) for _ in range(EACH)]


def test_a_turn_is_found_exactly_and_taken_where_it_suffices():
    rng = np.random.default_rng(1)
    old = unit(rng.normal(size=(300, 12)))
    turn = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    new = (old @ turn).astype(np.float32)
    assert np.abs(orthogonal(old, new).matrix - turn).max() < 1e-5
    found = learned(old, new, np.arange(300) % 5 == 0)
    assert found.kind == "orthogonal" and np.abs(found(old) - new).max() < 1e-5
    # Dimensions that are added are filled, and what is left out costs what it held.
    assert orthogonal(old, np.hstack([new, np.zeros((300, 4), np.float32)]))(old).shape == (300, 16)
    skewed = unit(old @ (turn * np.linspace(0.2, 3, 12)))
    assert learned(old, skewed, np.arange(300) % 5 == 0).kind == "linear"
    moved = linear(old, new + 3, 1e-6)
    assert np.abs((old - moved.before) @ moved.matrix + moved.after - (new + 3)).max() < 1e-3


def test_what_a_map_costs_is_measured_on_others_beside_both_embedders(worlds):
    old, new, names = worlds
    result = measured(given(old, new, names), 24, 0.05)
    figures = result.figures
    assert figures["pairs"] == PEOPLE * EACH and 20 < figures["identities"] < 70 and not figures["same_picture"]
    assert figures["anew"]["rank1"] > 0.9 and figures["mapped"]["rank1"] > 0.8
    assert result.loss == pytest.approx(figures["mapped"]["fnir"] - figures["before"]["fnir"])
    shuffled = measured(given(old, np.random.default_rng(0).permutation(new), names), 24, 0.05)
    assert shuffled.loss > 0.5
    alone = measured(given(old, new), 24, 0.05)
    assert alone.figures["same_picture"] and alone.figures["before"] is None


def test_a_gallery_of_vectors_goes_over_and_back(worlds, tmp_path, sidx):
    old, new, names = worlds
    enrolled = np.arange(0, PEOPLE * EACH, EACH)
    with Gallery.create(tmp_path / "v.gallery", dimension=24) as gallery:
        gallery.enroll_many_vectors([names[i] for i in enrolled[:150]], old[enrolled[:150]])
        gallery.calibrate_vectors(names=[names[i] for i in enrolled[150:]], vectors=old[enrolled[150:]], fpir=0.05)
        before = gallery.template(1)
    np.save(tmp_path / "old.npy", old)
    np.save(tmp_path / "new.npy", new)
    (tmp_path / "names.txt").write_text("\n".join(names))
    words = ["towers", "switch", "--pairs", "old.npy", "new.npy", "--names", "names.txt", "-g", "v.gallery"]
    dry = sidx(*words, "--dry-run")
    assert dry.returncode == 0 and json.loads(dry.stdout)["mapped"]["rank1"] > 0.8
    refused = sidx(*words, "--most-loss", "0")
    if json.loads(dry.stdout)["loss"] > 0:
        assert refused.returncode == 10 and "Not switched" in refused.stderr
    done = sidx(*words, "--most-loss", "0.5")
    assert done.returncode == 0, done.stderr
    with Gallery.open(tmp_path / "v.gallery") as gallery:
        assert gallery.tower_record()[0].dimension == 32 and {s.name for s in gallery.strangers()} == set(names[450:])
        answers = gallery.identify_vectors(new[enrolled[:150] + 1])  # other pictures, by the new embedder
        assert (
            np.mean([a.candidates[0].identity == names[i] for a, i in zip(answers, enrolled[:150], strict=True)]) > 0.8
        )
        strangers = gallery.identify_vectors(new[enrolled[150:] + 1])
        assert np.mean([a.verdict == "match" for a in strangers]) < 0.2
        missed = np.mean([a.identity != names[i] for a, i in zip(answers, enrolled[:150], strict=True)])
        assert missed < json.loads(dry.stdout)["mapped"]["fnir"] + 0.15  # what was measured is what one gets
        gallery.enroll_vectors(["late"], new[-1:])
        with pytest.raises(BadInput, match="no picture"):
            gallery.rollback()  # the old embedder has not seen who came since
        gallery.remove("late")
        gallery.rollback()
        assert np.array_equal(gallery.template(1), before)


def test_strangers_among_the_pairs_set_the_threshold_by_the_new_embedder(worlds):
    old, new, names = worlds
    enrolled = set(names[:450])
    result = measured(given(old, new, names), 24, 0.05, enrolled)
    assert set(result.strangers[0]) == set(names) - enrolled and np.array_equal(result.strangers[1], new[450:])
    assert measured(given(old, new), 24, 0.05, enrolled).strangers is None  # who they are is not known
    assert measured(given(old, new, names), 24, 0.05, set(names)).strangers is None


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--data", "people"],
        ["--pairs", "a.npy", "b.npy", "--data", "people"],
        ["a.tower", "--names", "n.txt"],
    ],
)
def test_what_makes_no_sense_is_a_usage_error(file_gallery, sidx, words):
    done = sidx("towers", "switch", *words, "-g", "vectors.gallery")
    assert done.returncode == 2 and "bug" not in done.stderr


def test_a_gallery_of_vectors_goes_over_to_a_tower_by_vectors_that_are_there(tower_path, person, sidx, tmp_path):
    draw(tmp_path / "data", range(300, 400), range(2))
    files = sorted((tmp_path / "data").rglob("*.png"))
    vectors = Tower.open(tower_path).embed_samples([file.read_bytes() for file in files])
    turned = vectors @ np.linalg.qr(np.random.default_rng(0).normal(size=(32, 32)))[0].astype(np.float32)
    with Gallery.create(tmp_path / "v.gallery", dimension=32) as gallery:
        gallery.enroll_many_vectors([f.parent.name for f in files[:100]], turned[:100], conflicts="allow")
    np.save(tmp_path / "old.npy", turned)
    np.save(tmp_path / "new.npy", vectors)
    (tmp_path / "names.txt").write_text("\n".join(f.parent.name for f in files))
    pairs = ["--pairs", "old.npy", "new.npy", "--names", "names.txt"]
    done = sidx("towers", "switch", tower_path, *pairs, "-g", "v.gallery")
    assert done.returncode == 0, done.stderr
    with Gallery.open(tmp_path / "v.gallery") as gallery:
        assert gallery.identify(files[3], threshold=0.5).identity == files[3].parent.name


def test_too_few_and_unlike_are_told(worlds, tmp_path):
    old, new, names = worlds
    with pytest.raises(BadInput, match="There are 30 pictures"):
        measured(given(old[:30], new[:30]), 24, 0.05)
    with pytest.raises(BadInput, match="of one picture"):
        given(old, new[:-1])
    with pytest.raises(BadInput, match="have 24 numbers; this gallery's have 8"):
        measured(given(old, new), 8, 0.05)
    with pytest.raises(BadInput, match="of 1 identities"):
        measured(given(old, new, ["same"] * len(old)), 24, 0.05)


def test_pictures_that_were_kept_are_embedded_and_only_the_others_mapped(tower_path, tmp_path):
    """A gallery that kept no pictures, and a new tower that gives the same vectors turned."""
    from siamese_index import TowerFile
    from siamese_index.towers.adapting import whitened

    first = TowerFile.read(tower_path)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(32, 32)))[0].astype(np.float32)
    second = whitened(first, turn, np.zeros(32, np.float32))
    draw(tmp_path / "data", range(300, 400), range(2))
    files = sorted((tmp_path / "data").rglob("*.png"))
    items = Items([f.parent.name for f in files], lambda i: files[i])
    with Gallery.create(tmp_path / "g.gallery", first, keep_pictures=False) as gallery:
        gallery.enroll_many(items[:100], conflicts="allow")
        pairs = by_both(gallery, second, items)
        assert len(pairs.names) == 200
        result = measured(pairs, 32, 0.05)
        assert result.map.kind == "orthogonal" and abs(result.loss) < 0.05
        answer = gallery.identify(files[1], threshold=1.0)
        assert gallery.switch(second, result.map, report=result.figures) == second.id
        again = gallery.identify(files[1], threshold=1.0)
        assert again.tower == second.id and again.identity == answer.identity
        assert again.distance == pytest.approx(answer.distance, abs=1e-3)
        gallery.enroll("new", files[150], conflicts="allow")
        assert gallery.identify(files[150], threshold=1.0).identity == "new"
