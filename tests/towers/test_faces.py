"""Towers that find faces: each face its own answer, nobody is no_subject, and the face of a box is enrolled."""

import json
from dataclasses import replace

import numpy as np
import pytest

from siamese_index import Damaged, Gallery, Tower, TowerFile
from siamese_index.errors import SeveralSubjects
from siamese_index.samples import faces, framing, images
from siamese_index.towers.foreign import import_network
from tests.towers.scenes import portrait, scene

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def detector(real_models):
    return real_models("yunet_n_dynamic.onnx").read_bytes()


@pytest.fixture(scope="module")
def tower(real_models, detector):
    return import_network(real_models("face_embedder_rgb.onnx"), frame="face", detector=detector).file


@pytest.fixture(scope="module")
def orl(real_data):
    return real_data("orl_faces.zip") / "orl_faces"


def test_a_template_is_reached_by_the_points_of_a_face():
    points = np.array([(30, 40), (70, 42), (50, 60), (35, 80), (66, 82)], np.float32)
    drawn = np.zeros((200, 200, 1), np.uint8)
    for x, y in points.astype(int):
        drawn[y - 2 : y + 3, x - 2 : x + 3] = 255
    for size in (112, 150):
        wanted = np.asarray(faces.template(size, size))
        seen = faces.aligned(drawn, faces.Face((0, 0, 99, 99), points, 1.0), faces.template(size, size), size, size)
        rows, columns = np.nonzero(seen[..., 0] > 60)
        nearest = np.linalg.norm(np.stack([columns, rows], 1)[:, None] - wanted[None], axis=2)
        assert nearest.min(axis=1).max() < 12  # a similarity cannot reach all five exactly
        assert nearest.min(axis=0).max() < 8
    assert faces.template(224, 224)[0] == pytest.approx((2 * 38.2946, 2 * 51.6963), abs=1e-3)


@pytest.mark.parametrize("model", ["yunet_n_dynamic.onnx", "yunet_s_640x640.onnx"])
def test_every_portrait_has_one_face_and_people_are_recognised_by_one_picture(tower, orl, real_models, model):
    opened = Tower.of(replace(tower, detector=real_models(model).read_bytes()))
    samples = [portrait(orl, p, n).read_bytes() for p in range(1, 41) for n in range(1, 11)]
    found = [opened.subjects(sample) for sample in samples]
    assert {len(each) for each in found} == {1}
    first = np.arange(400) % 10 == 0

    def rank1(vectors):
        nearest = (vectors[~first] @ vectors[first].T).argmax(axis=1)
        return np.mean(nearest == np.repeat(np.arange(40), 9))

    assert rank1(opened.embed([each[0].taken for each in found])) == 1.0
    assert rank1(Tower.of(import_network_of(tower)).embed_samples(samples)) == pytest.approx(0.764, abs=0.01)


def test_small_and_several_faces_are_found_where_they_are(detector, orl):
    placed = [(3, 1, 40, 60, 224), (7, 1, 400, 90, 150), (9, 1, 330, 320, 80)]
    finder = faces.FaceFinder(detector)
    found = finder.find(scene(orl, *placed))
    assert len(found) == 3
    for face, (_, _, x, y, height) in zip(found, placed, strict=True):  # the largest first
        middle = face.box[0] + face.box[2] / 2, face.box[1] + face.box[3] / 2
        assert x < middle[0] < x + height * 0.82 and y < middle[1] < y + height
    assert finder.find(scene(orl)) == []
    poster = scene(orl, (3, 1, 40, 20, 440), (7, 1, 180, 330, 90))  # a face on a shirt
    assert len(finder.find(poster)) == 2


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x01" * 50])
def test_what_is_no_detector_is_refused(content, tower, tmp_path):
    with pytest.raises(Damaged):
        faces.FaceFinder(content)


def test_the_id_is_of_all_that_changes_a_vector(tower, real_models, tmp_path):
    other = real_models("yunet_s_640x640.onnx").read_bytes()
    network = real_models("face_embedder_rgb.onnx")
    ids = {tower.id, import_network(network).file.id, import_network(network, frame="strokes").file.id,
           import_network(network, frame="face", detector=other).file.id}  # fmt: skip
    assert len(ids) == 4
    tower.write(tmp_path / "faces.tower")
    read = TowerFile.read(tmp_path / "faces.tower")
    assert (read.id, read.detector, read.card.input) == (tower.id, tower.detector, tower.card.input)


@pytest.fixture
def people(tower, orl, tmp_path):
    with Gallery.create(tmp_path / "people.gallery", tower) as gallery:
        gallery.enroll_many([(f"s{p}", portrait(orl, p, 1)) for p in range(1, 11)])
        gallery.calibrate(fpir=0.05, strangers_given=[(f"s{p}", portrait(orl, p, 1)) for p in range(21, 41)])
    return tmp_path


def saved(folder, name, pixels):
    (folder / name).write_bytes(images.encode(pixels))
    return folder / name


def test_each_face_of_a_picture_has_its_own_answer_and_nobody_is_no_subject(people, sidx, orl):
    saved(people, "two.png", scene(orl, (3, 4, 60, 60, 224), (35, 2, 400, 90, 160)))
    saved(people, "wall.png", scene(orl))
    done = sidx("identify", "two.png", "-g", "people.gallery")
    first, second = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 10  # one of them is unknown
    assert (first["probe"], first["verdict"], first["identity"]) == ("two.png", "match", "s3")
    assert (second["probe"], second["verdict"]) == ("two.png", "unknown")
    assert first["box"][0] < 300 < second["box"][0]
    largest = sidx("identify", "two.png", "--largest", "-g", "people.gallery")
    assert (largest.returncode, json.loads(largest.stdout)["identity"]) == (0, "s3")
    nobody = sidx("identify", "wall.png", "-g", "people.gallery")
    assert (nobody.returncode, json.loads(nobody.stdout)["verdict"]) == (12, "no_subject")
    assert "no face" in nobody.stderr.lower()
    both = sidx("verify", "two.png", str(portrait(orl, 3, 2)), "-g", "people.gallery")
    assert both.returncode == 3 and "2 faces" in both.stderr
    with Gallery.open(people / "people.gallery") as gallery:
        with pytest.raises(SeveralSubjects, match="2 faces"):
            gallery.identify(people / "two.png")
        assert gallery.identify(people / "two.png", largest=True).identity == "s3"


def test_what_the_tower_sees_is_drawn(people, sidx, orl):
    saved(people, "two.png", scene(orl, (3, 4, 60, 60, 224), (35, 2, 400, 90, 160)))
    done = sidx("identify", "two.png", "--show-frame", "--exit-zero", "-g", "people.gallery")
    assert done.returncode == 0 and "two.frame.png" in done.stderr, done.stderr
    sheet = images.decode((people / "two.frame.png").read_bytes(), 3)
    assert sheet.shape == (480 + 168, 640, 3)
    orange = np.all(np.abs(sheet[:480].astype(int) - (230, 110, 0)) < 8, axis=2)
    (_, first), (_, second) = (
        np.nonzero(orange[:, half].any(axis=0))[0][[0, -1]] for half in (slice(0, 320), slice(320, 640))
    )
    assert first > 60 and second > 80
    assert sheet[490:640, 10:150].std() > 20 and sheet[490:640, 180:310].std() > 20  # the two faces as they are cut
    assert sidx("identify", "two.png", "two.png", "--show-frame", "-g", "people.gallery").returncode == 2


def test_enrolling_takes_the_only_face_or_the_one_of_the_box(people, sidx, orl):
    saved(people, "two.png", scene(orl, (13, 4, 60, 60, 224), (15, 2, 400, 90, 160)))
    saved(people, "wall.png", scene(orl))
    refused = sidx("enroll", "new", "two.png", "-g", "people.gallery")
    assert refused.returncode == 3 and "2 faces" in refused.stderr and "--box" in refused.stderr
    with Gallery.open(people / "people.gallery") as gallery:
        (left, right) = [answer.box for answer in gallery.identify_many([people / "two.png"])]
    for name, box in (("s13", left), ("s15", right)):
        done = sidx("enroll", name, "two.png", "--box", ",".join(map(str, box)), "-g", "people.gallery")
        assert done.returncode == 0, done.stderr
    for person in (13, 15):
        done = sidx("identify", str(portrait(orl, person, 8)), "-g", "people.gallery")
        assert json.loads(done.stdout)["candidates"][0]["identity"] == f"s{person}"
    assert sidx("enroll", "x", "wall.png", "-g", "people.gallery").returncode == 12
    assert sidx("enroll", "x", "two.png", "--box", "600,10,20,20", "-g", "people.gallery").returncode == 2
    assert sidx("enroll", "x", "two.png", "--box", "left", "-g", "people.gallery").returncode == 2
    assert sidx("doctor", "-g", "people.gallery").returncode == 0


def test_a_face_in_a_large_picture_is_kept_large_enough_to_be_found_again(people, tower, orl):
    large = saved(people, "large.png", scene(orl, (17, 1, 1500, 900, 150), size=(2000, 3000)))
    with Gallery.open(people / "people.gallery") as gallery:
        gallery.enroll("s17", [large])
        sample = gallery.samples("s17")[0].id
        kept = gallery.picture(sample)
        again = Tower.of(tower).embed_samples([kept])[0]
        assert np.abs(again - gallery.template(sample)).max() < 1e-6
        assert gallery.identify(portrait(orl, 17, 3), threshold=2).identity == "s17"


def test_a_tower_of_faces_goes_from_gallery_to_gallery(people, tower, sidx, orl):
    assert sidx("towers", "export", "-o", "out.tower", "-g", "people.gallery").returncode == 0
    assert TowerFile.read(people / "out.tower").id == tower.id
    whole = import_network_of(tower)
    whole.write(people / "whole.tower")
    done = sidx("init", "--tower", "whole.tower", "-g", "other.gallery")
    assert done.returncode == 0, done.stderr
    assert sidx("enroll", "s1", str(portrait(orl, 1, 1)), "-g", "other.gallery").returncode == 0
    assert sidx("towers", "add", "out.tower", "-g", "other.gallery").returncode == 0
    assert sidx("towers", "promote", tower.id[:12], "-g", "other.gallery").returncode == 0
    answer = json.loads(sidx("identify", str(portrait(orl, 1, 2)), "--threshold", "1.2", "-g", "other.gallery").stdout)
    assert answer["identity"] == "s1" and answer["box"] is not None
    assert sidx("backup", "copy.gallery", "-g", "other.gallery").returncode == 0
    assert sidx("identify", str(portrait(orl, 1, 2)), "--threshold", "1.2", "-g", "copy.gallery").returncode == 0


def import_network_of(tower):
    """The same network without a detector."""
    card = replace(tower.card, input=replace(tower.card.input, frame="whole", template=()))
    return TowerFile(tower.onnx, None, card)


def test_a_face_tower_without_its_detector_or_with_another_template_is_none(tower, tmp_path):
    def card(**changes):
        return replace(tower.card, **changes)

    same = ((1.0, 1.0),) * 5
    for wrong in (
        TowerFile(tower.onnx, None, tower.card, detector=b""),
        TowerFile(tower.onnx, None, card(input=replace(tower.card.input, template=same)), detector=tower.detector),
        TowerFile(tower.onnx, None, card(format=1), detector=tower.detector),
        TowerFile(tower.onnx, None, tower.card),
    ):
        wrong.write(tmp_path / "wrong.tower")
        with pytest.raises(Damaged):
            Tower.open(tmp_path / "wrong.tower")


def test_a_box_of_a_tower_that_sees_the_whole_picture_is_cut_out(gallery, person):
    pixels = images.decode(person(0, 0).read_bytes(), 3)
    wide = np.full((pixels.shape[0], 3 * pixels.shape[1], 3), 255, np.uint8)
    wide[:, pixels.shape[1] : 2 * pixels.shape[1]] = pixels
    box = (pixels.shape[1], 0, pixels.shape[1], pixels.shape[0])
    gallery.enroll("ada", [images.encode(wide)], box=box)
    kept = images.decode(gallery.picture(gallery.samples("ada")[0].id), 3)
    assert np.array_equal(kept, pixels)
    assert np.array_equal(framing.load(images.encode(kept), 32, 32, 1), framing.load(images.encode(pixels), 32, 32, 1))
