"""Tower files: whole or refused, and never run by reading."""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from siamese_index import BadInput, Cohort, Damaged, Missing, Tower, TowerFile
from siamese_index.towers.card import Card


def test_a_tower_file_comes_back_as_it_was_written(tower_file, tmp_path):
    tower_file.write(tmp_path / "copy.tower")
    again = TowerFile.read(tmp_path / "copy.tower")
    assert (again.id, again.onnx, again.keras, again.card) == (
        tower_file.id, tower_file.onnx, tower_file.keras, tower_file.card,
    )  # fmt: skip
    assert again.cohort.names == tower_file.cohort.names
    assert again.cohort.vectors == pytest.approx(tower_file.cohort.vectors, abs=1e-6)


def test_pictures_become_finite_unit_vectors_and_a_batch_is_as_one_by_one(tower_path, person):
    tower = Tower.open(tower_path)
    pixels = [tower.prepare(person(n, hand).read_bytes()) for n in range(12) for hand in range(4)] * 2
    vectors = tower.embed(pixels)
    assert vectors.shape == (96, tower.dimension) and vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[:5] == pytest.approx(np.concatenate([tower.embed([p]) for p in pixels[:5]]), abs=1e-5)


def test_a_tower_refuses_pixels_of_another_shape(tower_path):
    with pytest.raises(BadInput, match="takes samples of shape"):
        Tower.open(tower_path).embed([np.zeros((8, 8, 3), np.uint8)])


def rewritten(tower_path, tmp_path, change, compression=zipfile.ZIP_STORED):
    """The same tower with some members changed (None: left out)."""
    path = tmp_path / "changed.tower"
    with zipfile.ZipFile(tower_path) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            data = change.get(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return path


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, names=np.array([{}], dtype=object), digests=np.array(["00"]), vectors=np.ones((1, 2)))
    return buffer.getvalue()


def uneven() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, names=np.array(["a", "b"]), digests=np.array(["00"]), vectors=np.ones((1, 2)))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "change",
    [{"card.json": None}, {"card.json": b"{"}, {"card.json": b"[]"}, {"tower.onnx": None}, {"calibration.npz": b"PK"},
     {"calibration.npz": pickled()}, {"calibration.npz": uneven()}],
)  # fmt: skip
def test_a_tower_file_with_a_wrong_part_is_refused(tower_path, tmp_path, change):
    with pytest.raises(Damaged, match="not a tower file"):
        TowerFile.read(rewritten(tower_path, tmp_path, change))


def test_compressed_parts_are_refused_since_they_may_be_bombs(tower_path, tmp_path):
    with pytest.raises(Damaged, match="compressed"):
        TowerFile.read(rewritten(tower_path, tmp_path, {}, zipfile.ZIP_DEFLATED))


def test_what_is_no_tower_is_refused(tmp_path):
    with pytest.raises(Missing, match="no such tower"):
        TowerFile.read(tmp_path / "none.tower")
    for content in (b"", b"hello", b"PK\x03\x04" + bytes(100)):
        (tmp_path / "x.tower").write_bytes(content)
        with pytest.raises(Damaged, match="not a tower file"):
            TowerFile.read(tmp_path / "x.tower")


def test_a_tower_of_a_newer_program_says_so(tower_path, tower_file, tmp_path):
    newer = json.dumps({**tower_file.card.to_dict(), "format": 99})
    with pytest.raises(BadInput, match="newer siamese-index"):
        TowerFile.read(rewritten(tower_path, tmp_path, {"card.json": newer}))


PIXELS = {"height": 9, "width": 9, "channels": 1}


@pytest.mark.parametrize(
    "card",
    [
        [],
        {},
        {"input": {**PIXELS, "height": 0}, "dimension": 4},
        {"input": {**PIXELS, "width": 5000}, "dimension": 4},
        {"input": {**PIXELS, "channels": 2}, "dimension": 4},
        {"input": {**PIXELS, "frame": "oval"}, "dimension": 4},
        {"input": {**PIXELS, "looks": 0}, "dimension": 4},
        {"input": {"numbers": 1.5}, "dimension": 4},
        {"input": PIXELS},
        *({"input": PIXELS, "dimension": wrong} for wrong in (-5, 0, 1.5, True, 10**12, "4", None)),
        {"input": PIXELS, "dimension": 4, "training": []},
        {"input": PIXELS, "dimension": 4, "training": {"identities": "ada"}},
        {"input": PIXELS, "dimension": 4, "training": {"identities": [1]}},
        {"input": PIXELS, "dimension": 4, "held_out": 3},
        {"input": PIXELS, "dimension": 4, "format": "1"},
    ],
)
def test_an_impossible_card_is_refused(tower_path, tmp_path, card):
    with pytest.raises(Damaged, match="card"):
        TowerFile.read(rewritten(tower_path, tmp_path, {"card.json": json.dumps(card)}))


def test_a_card_says_the_same_when_it_was_written_and_read(tower_file):
    assert Card.parse(tower_file.card.to_dict()) == tower_file.card
    noted = {**tower_file.card.to_dict(), "licence": "ours", "training": {"samples": 3, "who": "we"}}
    card = Card.parse(noted)
    assert card.to_dict()["licence"] == "ours" and card.training.samples == 3  # keys of others are kept at the top
    assert Card.parse({"input": PIXELS, "dimension": 4}).training.identities == []


def test_a_broken_network_is_refused_before_it_gets_into_a_gallery(tower_file, gallery):
    broken = TowerFile(tower_file.onnx[:1000], None, tower_file.card, Cohort())
    with pytest.raises(Damaged, match="cannot be opened"):
        gallery.add_tower(broken)
    assert len(gallery.towers()) == 1


def test_a_card_that_lies_about_the_dimension_is_noticed(tower_file):
    tower = Tower(tower_file.onnx, replace(tower_file.card, dimension=16), "id")
    with pytest.raises(Damaged, match="its card says"):
        tower.embed([np.zeros(tower.shape, np.uint8)])


def test_a_failed_write_leaves_the_old_file(tower_file, tmp_path, monkeypatch):
    tower_file.write(tmp_path / "t.tower")
    before = (tmp_path / "t.tower").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Missing, match=r"t.tower: cannot be written"):
        tower_file.write(tmp_path / "t.tower")
    assert (tmp_path / "t.tower").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["t.tower"]


def test_a_tower_frames_what_it_is_asked_about_as_what_it_learned_from(tower_file, person):
    tower = Tower(tower_file.onnx, tower_file.card, tower_file.id)
    assert (tower.frame, tower_file.card.training.recipe["input"]["frame"]) == ("strokes", "strokes")
    content = tower_file.card.to_dict()
    del content["input"]["frame"]
    older = Card.parse(content)
    assert Tower(tower_file.onnx, older, "id").frame == "whole"
    data = person(0, 0).read_bytes()
    assert not np.array_equal(tower.prepare(data), Tower(tower_file.onnx, older, "id").prepare(data))
