"""Boxes that MegaDetector found, and towers that know parts of pictures."""

import json

import numpy as np
import pytest

from siamese_index import BadInput
from siamese_index.samples import images, sources
from siamese_index.samples.framing import part_of


@pytest.fixture
def trap(tmp_path):
    """Pictures of a camera trap, 200 x 100, with a square of 40 at (100, 20), and what a detector found in them."""
    found = []
    for leopard in ("kali", "mosi"):
        (tmp_path / leopard).mkdir()
        for number in range(3):
            picture = np.full((100, 200, 3), 90, np.uint8)
            picture[20:60, 100:140] = 200 + 10 * number
            (tmp_path / leopard / f"{number}.png").write_bytes(images.encode(picture))
            box = {"category": "1", "conf": 0.9, "bbox": [0.5, 0.2, 0.2, 0.4]}
            faint = {"category": "1", "conf": 0.1, "bbox": [0.0, 0.0, 0.1, 0.1]}
            found.append({"file": f"{leopard}/{number}.png", "detections": [box, faint]})
    found[2]["detections"].append({"category": "1", "conf": 0.8, "bbox": [0.1, 0.2, 0.2, 0.2]})
    found.append({"file": "kali/broken.png", "failure": "Image cannot be loaded"})
    found.append({"file": "mosi/empty.png", "detections": []})
    path = tmp_path / "found.json"
    path.write_text(json.dumps({"images": found, "detection_categories": {"1": "animal"}, "info": {}}))
    return path


def test_subjects_are_cut_out_and_their_folder_is_their_identity(trap):
    items = sources.items(trap)
    assert items.names == ["kali", "kali", "mosi", "mosi", "mosi"] and items.boxed
    for _, sample in items:
        pixels = images.decode(images.read(sample), 3)
        assert pixels.shape == (40, 40, 3) and pixels.min() >= 200
    said = " ".join(items.left_out)
    for words in ("1 pictures with several subjects", "1 pictures that the detector could not", "6 boxes of a confid"):
        assert words in said
    assert "1 pictures in which it found nothing" in said


def test_each_subject_is_a_probe(trap):
    found = sources.samples([trap])
    assert len(found) == 7 and found.boxed and "found nothing" in " ".join(found.left_out)
    assert "kali/0.png at 0.500,0.200,0.200,0.400" in found[0].source


def test_a_picture_that_is_gone_is_one_bad_sample_among_many(trap):
    (trap.parent / "kali" / "0.png").unlink()
    with pytest.raises(Exception, match="no such file"):
        images.read(sources.items(trap)[0][1])
    assert len(images.read(sources.items(trap)[1][1]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no detections"),
        ('{"images": [1]}', "no detections"),
        ('{"images": []}', "nothing was found"),
        ('{"images": [{"detections": []}]}', "has no file"),
        ('{"images": [{"file": "a/b.png", "detections": [{"conf": 1, "bbox": [0, 0, 1]}]}]}', "no box"),
        ('{"images": [{"file": "a/b.png", "detections": [{"conf": 1, "bbox": [10, 10, 50, 50]}]}]}', "not relative"),
        ('{"images": [{"file": "b.png", "detections": [{"conf": 1, "bbox": [0, 0, 1, 1]}]}]}', "no picture with one"),
    ],
)
def test_what_is_no_list_of_detections_is_told(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(BadInput, match=message):
        sources.items(tmp_path / "a.json")


def test_a_part_is_cut_at_the_edge_and_too_small_a_one_refused():
    picture = images.encode(np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3).astype(np.uint8))
    assert images.decode(part_of(picture, (0.5, 0.5, 0.6, 0.6)), 3).shape == (32, 32, 3)
    with pytest.raises(BadInput, match="not in the picture"):
        part_of(picture, (0.5, 0.5, 0.001, 0.001))


@pytest.mark.keras
def test_a_tower_of_parts_wants_boxes_to_learn_from_and_says_so_of_whole_pictures(world, sidx, tmp_path):
    from siamese_index.training import train

    with pytest.raises(BadInput, match="needs boxes"):
        train(world / "people", frame="box", steps=1)
    folder = world / "people"
    lines = ["path,label,x,y,w,h"]
    lines += [f"{file},{file.parent.name},1,1,30,30" for file in sorted(folder.rglob("*.png"))]
    (tmp_path / "parts.csv").write_text("\n".join(lines))
    made = train(tmp_path / "parts.csv", frame="box", steps=5, size=24, dimension=8)
    assert made.card.input.frame == "box" and made.card.training.recipe["input"]["frame"] == "box"
    made.write(tmp_path / "parts.tower")
    one = next(folder.rglob("*.png"))
    done = sidx("enroll", "ada", one, "--tower", "parts.tower", "-g", "p.gallery")
    assert done.returncode == 0 and "learned from parts" in done.stderr
    done = sidx("identify", one, "--box", "1,1,30,30", "-g", "p.gallery")
    assert done.returncode in (0, 10) and "learned from parts" not in done.stderr
    assert "--box is for one" in sidx("identify", one, one, "--box", "1,1,30,30", "-g", "p.gallery").stderr
