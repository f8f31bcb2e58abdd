"""A tower adapted by a closed form: what whitening does, what the candidate answers, and who judges it."""

import json

import numpy as np
import pytest

from siamese_index import BadInput, Gallery, Tower
from siamese_index.analysis.adaptation import adapt
from siamese_index.samples.items import Items
from siamese_index.towers.adapting import applied, whitening
from siamese_index.towers.foreign import import_network
from siamese_index.training.glyphs import draw


def test_whitening_makes_what_one_identity_differs_by_alike_in_all_directions():
    rng = np.random.default_rng(0)
    spread = np.diag([4.0, 1.0, 0.25, 0.5, 2.0])
    turned = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    identities = np.repeat(np.arange(400), 6)
    means = rng.normal(0, 3, (400, 5))
    vectors = (means[identities] + rng.normal(size=(2400, 5)) @ spread @ turned).astype(np.float32)
    matrix, mean = whitening(vectors, identities)
    moved = (vectors - mean) @ matrix
    within = moved - np.stack([moved[identities == i].mean(axis=0) for i in range(400)])[identities]
    covariance = within.T @ within
    assert np.abs(covariance / np.trace(covariance) * 5 - np.eye(5)).max() < 0.06
    assert np.abs(mean - vectors.reshape(400, 6, 5).mean(axis=(0, 1))).max() < 1e-4
    assert np.linalg.norm(matrix, 2) == pytest.approx(1)


def test_few_samples_are_shrunken_to_what_they_can_say():
    """With fewer samples than numbers the covariance itself has no inverse."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(40, 64)).astype(np.float32)
    matrix, _ = whitening(vectors, np.repeat(np.arange(20), 2))
    values = np.linalg.svd(matrix, compute_uv=False)
    assert np.isfinite(values).all() and values[0] / values[-1] < 10
    with pytest.raises(BadInput, match="No identity has two"):
        whitening(vectors, np.arange(40))


@pytest.fixture
def full(tower_path, tmp_path):
    """A gallery of 40 people with three pictures each."""
    folder = tmp_path / "more"
    draw(folder, range(300, 340), range(3))
    with Gallery.create(tmp_path / "full.gallery", tower_path) as gallery:
        gallery.enroll_many([(p.parent.name, p) for p in sorted(folder.rglob("*.png"))], conflicts="allow")
        yield gallery


def test_the_candidate_answers_as_the_arithmetic_says_and_was_judged_by_others(full):
    before = full.tower_file()
    result = adapt(full)
    row, active = full.tower_record(result.tower)
    judges, learned = set(row.card.training.held_out), set(row.card.training.identities)
    assert not active and not judges & learned and min(len(judges), result.learned_from) >= 10
    assert result.comparison["challenger"]["identities"] == len(judges)
    assert row.card.adapted == {"from": before.id}
    samples = full.samples()
    vectors = np.stack([full.template(sample.id) for sample in samples])
    learn = np.array([sample.identity not in judges for sample in samples])
    ids = np.unique([sample.identity for sample in samples], return_inverse=True)[1]
    matrix, mean = whitening(vectors[learn], ids[learn])
    opened = Tower.of(full.tower_file(result.tower))
    seen = opened.embed_samples([full.picture(sample.id) for sample in samples[:9]])
    assert np.abs(seen - applied(vectors[:9], matrix, mean)).max() < 1e-4
    digests = {bytes.fromhex(s.digest): s.identity for s in samples}
    assert opened.card.training.has_learned_from(digests) == {d for d, name in digests.items() if name not in judges}


def test_promoted_it_answers_and_keeps_the_strangers_of_the_tower(full):
    strangers = len(full.strangers())
    assert strangers > 0
    result = adapt(full)
    full.promote(result.tower)
    assert len(full.strangers()) == strangers
    answer = full.identify(full.picture(full.samples()[4].id), threshold=0.05)
    assert answer.identity == full.samples()[4].identity and answer.tower == result.tower
    full.rollback()


def test_too_few_are_told_with_numbers(gallery, person, angles, tmp_path):
    gallery.enroll_many([(f"p{n}", person(n, hand)) for n in range(4) for hand in range(2)], conflicts="allow")
    with pytest.raises(BadInput, match="4 identities have two or more.*8 pictures are kept"):
        adapt(gallery)
    with Gallery.create(tmp_path / "v.gallery", dimension=8) as vectors:
        vectors.enroll_vectors(["a", "b"], angles(0, 90))
        with pytest.raises(BadInput, match="holds vectors"):
            adapt(vectors)


def test_faces_that_are_badly_framed_are_found_better(sidx, real_models, real_data, tmp_path):
    """Whole pictures of ORL by somebody's embedder, which wants them cut and upright."""
    faces = real_data("orl_faces.zip") / "orl_faces"
    file = import_network(real_models("face_embedder_rgb.onnx")).file
    items = [(f"s{p}", faces / f"s{p}" / f"{i}.pgm") for p in range(1, 41) for i in range(1, 11)]
    with Gallery.create(tmp_path / "f.gallery", file, fpir=0.05) as gallery:
        gallery.enroll_many(items, conflicts="allow")
    done = sidx("towers", "adapt", "-g", "f.gallery")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["verdict"] == "better", done.stderr
    assert found["challenger"]["fnir"] < 0.7 * found["champion"]["fnir"]
    assert found["challenger"]["rank1"] >= found["champion"]["rank1"]
    assert "one place cannot speak for another" in done.stderr
    with Gallery.open(tmp_path / "f.gallery") as gallery:
        again = adapt(gallery, Items([n for n, _ in items], lambda i: items[i][1]))
    assert again.comparison["attempt"] == 2  # asked twice, it takes more to be a proof
    assert again.refused == ()
    assert again.comparison["champion"]["searches"] == found["champion"]["searches"]  # what is enrolled counts once


def test_without_second_pictures_it_learns_by_changed_views(tower_path, tmp_path):
    draw(tmp_path / "one", range(400, 440), range(1))
    draw(tmp_path / "two", range(440, 452), range(2))
    draw(tmp_path / "two", range(460, 465), range(1))
    with Gallery.create(tmp_path / "one.gallery", tower_path) as gallery:
        gallery.enroll_many([(p.parent.name, p) for p in sorted((tmp_path / "one").rglob("*.png"))], conflicts="allow")
        result = adapt(gallery)
        assert (result.by, result.learned_from) == ("views", 40) and not result.better  # there is nobody to judge
        row, _ = gallery.tower_record(result.tower)
        assert row.card.held_out["searches"] == 0 and len(row.card.training.identities) >= 40
        gallery.enroll_many([(p.parent.name, p) for p in sorted((tmp_path / "two").rglob("*.png"))], conflicts="allow")
        judged = adapt(gallery)
        assert (judged.by, judged.learned_from) == ("views", 45) and judged.comparison["challenger"]["identities"] == 12
        judges = set(gallery.tower_record(judged.tower)[0].card.training.held_out)
        assert judges == {f"glyph-{n}" for n in range(440, 452)}
        assert not judges & set(gallery.tower_record(judged.tower)[0].card.training.identities)


def test_a_few_identities_are_shared_between_learning_and_judging(gallery, person):
    gallery.enroll_many([(f"p{n}", person(n, hand)) for n in range(12) for hand in range(3)], conflicts="allow")
    result = adapt(gallery)
    judges = result.comparison["challenger"]["identities"]
    assert result.by == "views" and 0 < judges < 12 and result.learned_from == 3 * (12 - judges)


def test_views_alone_find_badly_framed_faces_better(real_models, real_data, tmp_path):
    faces = real_data("orl_faces.zip") / "orl_faces"
    file = import_network(real_models("face_embedder_rgb.onnx")).file
    with Gallery.create(tmp_path / "f.gallery", file, fpir=0.05) as gallery:
        several = [(f"s{p}", faces / f"s{p}" / f"{i}.pgm") for p in range(1, 10) for i in range(1, 11)]
        single = [(f"s{p}-{i}", faces / f"s{p}" / f"{i}.pgm") for p in range(10, 41) for i in range(1, 6)]  # unlabelled
        gallery.enroll_many([*several, *single], conflicts="allow")
        result = adapt(gallery)
    before, after = result.comparison["champion"], result.comparison["challenger"]
    assert result.by == "views" and before["identities"] == 9
    assert after["fnir"] <= before["fnir"] and after["rank1"] >= before["rank1"]
