"""Training by faces: what is learned from, stored, and retrained with is the face that was found."""

import shutil

import numpy as np
import pytest

from siamese_index import Gallery, Tower
from siamese_index.samples import images
from siamese_index.training import retrain, train
from tests.towers.scenes import portrait, scene

pytestmark = [pytest.mark.keras, pytest.mark.real]


def test_faces_in_large_pictures_are_learned_enrolled_and_retrained(real_data, real_models, tmp_path):
    orl, detector = real_data("orl_faces.zip") / "orl_faces", real_models("yunet_n_dynamic.onnx")
    rng = np.random.default_rng(0)
    for person in range(1, 15):
        (tmp_path / "learn" / f"s{person}").mkdir(parents=True)
        for number in range(1, 4):
            x, y = int(rng.integers(0, 440)), int(rng.integers(0, 230))
            picture = scene(orl, (person, number, x, y, 220))
            (tmp_path / "learn" / f"s{person}" / f"{number}.jpg").write_bytes(images.encode(picture, ".jpg"))
    shutil.copytree(tmp_path / "learn" / "s1", tmp_path / "learn" / "walls")
    for file in (tmp_path / "learn" / "walls").iterdir():
        file.write_bytes(images.encode(scene(orl), ".jpg"))
    said = []
    made = train(
        tmp_path / "learn", said.append, frame="face", face_model=str(detector), steps=20, size=48, dimension=16
    )
    assert (made.card.input.frame, made.detector) == ("face", detector.read_bytes())
    assert len(made.card.input.template) == 5 and made.card.input.shape[0] == made.card.input.shape[1] == 48
    left_out = next(message["left_out"] for message in said if message.get("stage") == "data")
    assert len(left_out) == 3 and all("no face" in line for line in left_out)
    tower = Tower.of(made)
    (found,) = tower.subjects(images.encode(scene(orl, (20, 1, 300, 100, 220))))
    assert 300 < found.box[0] + found.box[2] / 2 < 480
    with Gallery.create(tmp_path / "g.gallery", made) as gallery:
        gallery.enroll_many([(f"s{p}", portrait(orl, p, n)) for p in range(16, 32) for n in (1, 2)], conflicts="allow")
    again = retrain(tmp_path / "g.gallery", steps=10)
    with Gallery.open(tmp_path / "g.gallery") as gallery:
        candidate = gallery.tower_file(again.tower)
    assert (candidate.card.input.frame, candidate.detector) == ("face", made.detector)


@pytest.mark.parametrize(
    "words",
    [
        ["--frame", "face"],
        ["--face-model", "a.png"],
        ["--frame", "corner"],
        ["--frame", "face", "--face-model", "a.png"],
    ],
)
def test_frames_that_make_no_sense_are_refused_before_anything_is_read(sidx, person, tmp_path, words):
    shutil.copy(person(0, 0), tmp_path / "a.png")
    (tmp_path / "data").mkdir()
    done = sidx("train", "data", "-o", "x.tower", *words)
    assert done.returncode in (2, 6) and "bug" not in done.stderr and not (tmp_path / "x.tower").exists()
