"""Pictures that are in memory: arrays, PIL images, open files; answered as the same picture in a file."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from siamese_index import BadInput, Gallery, Tower, Unreadable
from siamese_index.samples import images


@pytest.fixture
def colourful(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png", pixels


def test_every_form_of_a_picture_is_the_same_picture(colourful):
    path, pixels = colourful
    data = path.read_bytes()
    wanted = images.decode(data, 3)
    assert np.array_equal(wanted, pixels)
    with path.open("rb") as opened:
        assert np.array_equal(images.decode(images.read(opened), 3), wanted)
    with Image.open(path) as image:
        assert np.array_equal(images.decode(images.read(image), 3), wanted)
    forms = (
        path,
        str(path),
        data,
        bytearray(data),
        memoryview(data),
        io.BytesIO(data),
        pixels,
        Image.fromarray(pixels),
    )
    for form in forms:
        assert np.array_equal(images.decode(images.read(form), 3), wanted), type(form)
    grey = pixels[..., 0]
    for form in (grey, grey[..., None], Image.fromarray(grey)):
        assert np.array_equal(images.decode(images.read(form), 1)[..., 0], grey)
    see_through = np.dstack([pixels, np.full((40, 30), 128, np.uint8)])
    assert np.array_equal(
        images.decode(images.read(see_through), 3), images.decode(images.read(Image.fromarray(see_through)), 3)
    )


def test_a_pil_image_is_upright_as_its_file_is(colourful, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = tmp_path / "turned.png"
    with Image.open(colourful[0]) as image:
        image.save(turned, exif=exif)
    with Image.open(turned) as image:
        assert np.array_equal(images.decode(images.read(image), 3), images.decode(images.read(turned), 3))


@pytest.mark.parametrize(
    "wrong", [0, None, 1.5, object(), np.zeros((4, 4)), np.zeros((2, 3, 4, 5), np.uint8), np.zeros((9, 9, 2), np.uint8),
              np.zeros((0, 9), np.uint8), io.StringIO("text"), ["a.png"]],
)  # fmt: skip
def test_anything_else_is_bad_input(wrong):
    with pytest.raises(BadInput):
        images.read(wrong)


def test_a_gallery_takes_them_and_says_what_it_is(gallery, tower_path, person, tmp_path):
    gallery.enroll("ada", str(person(0, 0)))  # one, not its letters
    gallery.enroll("bob", images.decode(images.read(person(1, 0)), 3))
    with Image.open(person(1, 0)) as image:
        answer = gallery.identify(image, threshold=np.float32(1.5))
    assert (answer.identity, answer.matched, bool(answer)) == ("bob", True, True)
    assert json.loads(json.dumps(answer.to_dict()))["threshold"] == 1.5
    assert not gallery.identify(person(0, 1), threshold=0)
    for call in (lambda: gallery.identify(0), lambda: gallery.enroll("x", []), lambda: gallery.enroll("x", 0),
                 lambda: gallery.enroll("x", [person(2, 0)], conflicts="no")):  # fmt: skip
        with pytest.raises(BadInput):
            call()
    assert "people.gallery" in repr(gallery) and "'bob'" in repr(answer) and "32" in repr(Tower.open(tower_path))
    path = gallery.path
    gallery.close()
    assert "closed" in repr(gallery)
    for call in (gallery.identities, lambda: gallery.identify(person(0, 0)), lambda: gallery.remove("ada"),
                 lambda: gallery.enroll("cyd", person(2, 0)), lambda: gallery.calibrate(fpir=0.1)):  # fmt: skip
        with pytest.raises(BadInput, match="closed"):
            call()
    with Gallery.open(path) as again:
        assert [row.name for row in again.identities()] == ["ada", "bob"]


@pytest.mark.parametrize("mode", ["grey", "colour"])
def test_a_jpeg_is_answered_as_the_same_pixels_in_a_png(tmp_path, tower_path, mode):
    """Also a large one, of which a decoder offers a smaller version."""
    tower = Tower.open(tower_path)
    drawn = np.full((512, 512, 3), 255, np.uint8)
    drawn[100:104, 50:460] = drawn[80:430, 250:253] = 0 if mode == "grey" else (200, 0, 0)
    Image.fromarray(drawn).save(tmp_path / "a.jpg", quality=95)
    pixels = images.decode((tmp_path / "a.jpg").read_bytes(), 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    first, second = tower.embed_samples([(tmp_path / name).read_bytes() for name in ("a.jpg", "a.png")])
    assert np.linalg.norm(first - second) < 0.02  # grey of a JPEG is its own, of a PNG that of its colours


def test_sixteen_bits_through_pil_are_those_of_the_file(tmp_path):
    deep = (np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64)
    (tmp_path / "a.png").write_bytes(images.cv2.imencode(".png", deep)[1].tobytes())
    wanted = images.decode((tmp_path / "a.png").read_bytes(), 1)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode.startswith("I")
        assert np.array_equal(images.decode(images.read(image), 1), wanted)
    for mode in ("F", "I"):
        with pytest.raises(Unreadable):
            images.read(Image.fromarray(np.full((16, 16), 70000, np.float32 if mode == "F" else np.int32)))


def test_what_cannot_be_read_any_more_says_so(colourful):
    path, _ = colourful
    opened = path.open("rb")
    opened.close()
    image = Image.open(path)
    image.close()
    for gone in (opened, image):
        with pytest.raises(Unreadable):
            images.read(gone)


def test_options_of_a_question_are_of_their_kind(gallery, person):
    gallery.enroll("ada", person(0, 0))
    for wrong in ({"k": "3"}, {"k": 2.5}, {"k": True}, {"fpir": "0.1"}, {"threshold": True}, {"exact": "no"},
                  {"strict": "no"}, {"tags": "x"}):  # fmt: skip
        with pytest.raises(BadInput):
            gallery.identify(person(0, 0), **wrong)
    for call in (lambda: gallery.plan("x"), lambda: gallery.calibrate(fpir="x"), lambda: gallery.capacity(fnir="x"),
                 lambda: Gallery.open(None), lambda: Gallery.open(3), lambda: gallery.backup(None), lambda: gallery.log("yes"),
                 lambda: list(gallery.identify_many(None)), lambda: gallery.enroll_many({"a": [person(0, 0)]}),
                 lambda: gallery.identify("a\0b"), lambda: gallery.enroll("\u200b", person(1, 0))):  # fmt: skip
        with pytest.raises(BadInput):
            call()
    (alone,) = gallery.identify_many(str(person(0, 0)), threshold=1)
    assert alone.identity == "ada"


def test_a_verification_is_true_where_they_match(gallery, person):
    gallery.enroll("ada", person(0, 0))
    same, other = gallery.verify_as(person(0, 0), "ada"), gallery.verify_as(person(1, 0), "ada")
    for answer in (same, other):
        assert bool(answer) == answer.matched == (answer.verdict == "match")


def test_a_closed_gallery_says_so_in_every_method(gallery, person, tmp_path):
    gallery.enroll("ada", person(0, 0))
    gallery.close()
    for call in (lambda: gallery.identify(person(0, 0)), lambda: gallery.backup(tmp_path / "b"), lambda: gallery.picture(1),
                 lambda: gallery.promote("abc"), lambda: list(gallery.pictures()), lambda: gallery.samples()):  # fmt: skip
        with pytest.raises(BadInput, match="closed"):
            call()
    assert "people.gallery" in repr(gallery)
