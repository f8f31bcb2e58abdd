"""A tower of 8-bit numbers: real quantisation, and taken only when it is as good and faster."""

from dataclasses import replace

import numpy as np
import pytest

from siamese_index import BadInput, Gallery, Tower
from siamese_index.training.quantize import _shortcoming, optimize


def test_an_optimized_tower_is_a_candidate_only_if_it_is_as_good(tower_file, world, tmp_path):
    from siamese_index.samples.sources import items

    with Gallery.create(tmp_path / "people.gallery", tower_file) as gallery:
        gallery.enroll_many(items(world / "people"))
    made = optimize(tmp_path / "people.gallery", world / "strangers")
    assert made.comparison["size"] < 0.5
    with Gallery.open(tmp_path / "people.gallery") as gallery:
        stored = [row.sha256 for row, _ in gallery.towers()]
        assert (made.tower in stored) == made.accepted == (not made.why)
        if made.accepted:
            before = gallery.tower
            gallery.promote(made.tower)
            assert gallery.tower.card.optimized == {"from": before.id, "numbers": "int8"}
            assert gallery.calibrate()[0].strangers == {"tower": 8 * 2}
            pictures = sorted((world / "people").glob("*/hand-00.png"))
            samples = [before.prepare(picture.read_bytes()) for picture in pictures]
            ours, theirs = gallery.tower.embed(samples), before.embed(samples)
            nearest = np.argmax(ours @ theirs.T, axis=1)  # of each picture: mostly its own vector, before the rounding
            assert np.mean(nearest == np.arange(12)) >= 0.75 and not np.array_equal(ours, theirs)


def test_too_few_identities_that_it_has_not_seen_are_told(tower_file, world, tmp_path):
    with Gallery.create(tmp_path / "few.gallery", tower_file) as gallery:
        gallery.enroll("ada", [world / "people" / "glyph-100" / f"hand-0{hand}.png" for hand in range(2)])
    with pytest.raises(BadInput, match="1 identities"):
        optimize(tmp_path / "few.gallery")


def test_worse_or_slower_is_not_taken():
    good = {"rank1": 0.9, "rank1_interval": [0.85, 0.95], "fnir": 0.1, "fnir_interval": [0.05, 0.15]}
    judged = {"champion": good, "challenger": {**good, "rank1": 0.86, "fnir": 0.14}, "speed": 0.6}
    assert _shortcoming(judged) == ""
    assert "rank-1 falls" in _shortcoming({**judged, "challenger": {**good, "rank1": 0.84}})
    assert "FNIR rises" in _shortcoming({**judged, "challenger": {**good, "fnir": 0.16}})
    assert "as long" in _shortcoming({**judged, "speed": 1.2})


def test_a_tower_that_looks_often_takes_fewer_at_once(tower_file):
    card = replace(tower_file.card, input=replace(tower_file.card.input, views=21))
    assert Tower(tower_file.onnx, card, tower_file.id)._at_once == 3
