"""Folders as people have them: links, system files, splits, endings that say nothing; nothing is lost unsaid."""

import os
import shutil
import unicodedata

import cv2
import numpy as np
import pytest

from siamese_index import BadInput, Missing, Unreadable
from siamese_index.samples import images, sources


@pytest.fixture
def put(world, tmp_path):
    """Put a picture at a path below `tmp_path`."""
    picture = world / "people" / "glyph-100" / "hand-00.png"

    def place(*paths):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(picture, tmp_path / path)
        return tmp_path

    return place


def said(items):
    return "\n".join(items.left_out)


def test_what_a_system_leaves_is_nobody(put):
    folder = put("ada/1.png", "ada/.ipynb_checkpoints/1.png", "ada/@eaDir/1.png", "bob/1.png", ".Trash-1000/files/bob/2.png",
                 "#recycle/cyd/1.png", "__MACOSX/bob/._1.png", "bob/._1.png", "lost+found/1.png")  # fmt: skip
    items = sources.items(folder)
    assert list(items.names) == ["ada", "bob"]
    assert "hidden, or made by a system" in said(items)
    for name in ("#recycle", ".Trash-1000", "and 4 more"):
        assert name in said(items)
    assert len(sources.samples([folder])) == 2


def test_pictures_are_known_by_their_content_and_links_are_followed_once(put, world):
    folder = put("ada/1.png", "cyd.png", "elsewhere/dan/1.png")
    jpeg = cv2.imencode(".jpg", cv2.imread(str(folder / "ada/1.png")))[1].tobytes()
    (folder / "bob").mkdir()
    for name in ("photo.jfif", "photo.jpg.1", "photo"):
        (folder / "bob" / name).write_bytes(jpeg)
    (folder / "bob" / "clip.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(64))
    (folder / "bob" / "notes.txt").write_text("who is it?")
    (folder / "ada" / "circle").symlink_to(folder)
    (folder / "ada" / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "eve").symlink_to(world / "people" / "glyph-101")
    items = sources.items(folder)
    assert list(items.names) == ["ada", "bob", "bob", "bob", "elsewhere/dan", *["eve"] * 4]
    for word in ("clip.mp4: a video", "notes.txt: no picture (.txt)", "cyd.png: in the folder itself",
                 "ada/circle: a link to a folder that is taken already", "ada/gone.png: a device, a pipe, or a link"):  # fmt: skip
        assert word in said(items), said(items)
    for _, path in items:
        assert images.decode(images.read(path), 1).size


def test_train_and_val_are_parts_of_one_data_set_unless_told(put):
    folder = put(*(f"{part}/{name}/{i}.png" for part in ("train", "Val") for name in ("ada", "bob") for i in range(2)))
    items = sources.items(folder)
    assert sorted(set(items.names)) == ["ada", "bob"] and len(items) == 8
    assert "2 identities, joined" in said(items)
    assert sorted(set(sources.items(folder, splits_apart=True).names)) == [
        "Val/ada",
        "Val/bob",
        "train/ada",
        "train/bob",
    ]
    put("carla/1.png")  # whoever lies beside them stays who he is
    assert set(sources.items(folder).names) == {"ada", "bob", "carla"}


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        (["data/train/ada/1.png", "data/val/ada/1.png", "data/val/bob/1.png"], {"data/ada", "data/bob"}),
        (["ada/train/1.png", "ada/test/1.png", "bob/train/1.png"], {"ada", "bob"}),
        (["train/ada/1.png", "train/bob/1.png"], {"ada", "bob"}),
        (["train_images/ada/1.png", "test_images/ada/1.png"], {"ada"}),
        (["gallery/ada/1.png", "query/ada/1.png"], {"ada"}),
        (["train/ada/1.png", "val/ada/1.png", "test/0001.png"], {"ada"}),
        (["train/1.png", "plane/1.png"], {"train", "plane"}),  # a toy, not a part
        (["test/1.png", "test/2.png"], {"test"}),
        (["models/train/1.png", "models/car/1.png"], {"models/train", "models/car"}),
    ],
)
def test_parts_of_a_data_set_are_no_identities_wherever_they_stand(put, files, wanted):
    items = sources.items(put(*files))
    assert set(items.names) == wanted
    assert any("joined" in sentence for sentence in items.left_out) == (
        wanted.isdisjoint({"train", "test", "models/train"})
    )
    if "test/0001.png" in files:
        assert len(items) == 2 and "test/0001.png: in a part of the data set" in said(items)


def test_pictures_in_the_parts_themselves_are_nobodys(put):
    with pytest.raises(BadInput):
        sources.items(put("train/ada.png", "val/ada.png"))


def test_names_of_files_and_of_folders_do_not_both_say_who_it_is(put):
    with pytest.raises(BadInput, match="folders of their own"):
        sources.items(put("ada/1.png", "bob/1.png"), by_file_name=True)


def test_file_names_may_say_who_it_is(put):
    folder = put("ada.png", "bob-1.png", "bob-2.png", "bob_10.png", "cyd (3).png", "r2d2.png", "7.png")
    with pytest.raises(BadInput, match="--by-file-name"):
        sources.items(folder)
    items = sources.items(folder, by_file_name=True)
    assert sorted(set(items.names)) == ["7", "ada", "bob", "cyd", "r2d2"]
    strangers = sources.items(folder, each_its_own=True)
    assert len(set(strangers.names)) == 7


def test_names_are_the_same_composed_decomposed_and_with_blanks(put):
    folder = put(
        *(f"{unicodedata.normalize(form, 'José')}/{form}.png" for form in ("NFC", "NFD")), "ada /1.png", "ada/2.png"
    )
    items = sources.items(folder)
    assert sorted(set(items.names)) == ["José", "ada"]
    assert all(path.is_file() for _, path in items)


def test_a_file_name_that_is_no_text_is_taken(put):
    folder = put("bob/1.png", "ada/1.png")
    raw = os.fsencode(folder) + b"/bob/ph\xe4.png"
    shutil.copy(folder / "bob/1.png", raw)
    items = sources.items(folder)
    assert list(items.names) == ["ada", "bob", "bob"]
    assert images.read(items[2][1])


def test_only_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.png"):
        with pytest.raises(Unreadable, match="a device or a pipe"):
            images.read(tmp_path / name)
    with pytest.raises(Missing, match="directory"):
        images.read(tmp_path)
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(images.MAX_BYTES + 1)
    with pytest.raises(Unreadable, match="are not read"):
        images.read(tmp_path / "huge.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_rights_is_named(put):
    folder = put("ada/1.png", "bob/1.png")
    (folder / "bob").chmod(0)
    try:
        assert "bob: cannot be read (permission denied)" in said(sources.items(folder))
    finally:
        (folder / "bob").chmod(0o700)


def test_heic_is_read_or_says_what_reads_it(put, tmp_path):
    folder = put("ada/1.png")
    try:
        import pillow_heif
    except ImportError:
        (folder / "ada" / "2.HEIC").write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(64))
        assert "pip install pillow-heif" in said(sources.items(folder))
        return
    from PIL import Image

    pixels = np.zeros((48, 32, 3), np.uint8)
    pixels[:, :16] = (255, 0, 0)
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(folder / "ada" / "2.HEIC", quality=95)
    items = sources.items(folder)
    assert len(items) == 2
    seen = images.decode(images.read(items[1][1]), 3)
    assert seen.shape == pixels.shape and np.abs(seen.astype(int) - pixels).mean() < 12
