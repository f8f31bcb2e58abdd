"""Folders, tables and arrays of pictures, well-formed and not."""

import numpy as np
import pytest

from siamese_index import BadInput, Missing, images, sources


def test_a_folder_per_identity_nested_folders_are_named_by_their_path(world):
    items = sources.items(world / "people")
    assert len(items) == 48
    assert items[0] == ("glyph-100", world / "people" / "glyph-100" / "hand-00.png")
    assert sources.items(world)[0][0] == "learn/glyph-000"


def test_a_table_names_paths_relative_to_itself(world):
    table = world / "table.csv"
    table.write_text("label,path\nada,people/glyph-100/hand-00.png\nbob,people/glyph-101/hand-00.png\n")
    assert sources.items(table) == [
        ("ada", world / "people/glyph-100/hand-00.png"),
        ("bob", world / "people/glyph-101/hand-00.png"),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("file,label\na,b\n", "no column 'path'"), ("path\na\n", "no column 'label'"), ("", "no column 'path'"),
     ("path,label\n", "no rows"), ("path,label\na.png,\n", "line 2 has no label"), ("path,label\n,b\n", "line 2 has no path")],
)  # fmt: skip
def test_malformed_tables_say_where(tmp_path, text, complaint):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(BadInput, match=complaint):
        sources.items(tmp_path / "t.csv")


def test_a_table_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"path,label\n\xff\xfe\x00,x\n")
    with pytest.raises(BadInput, match="not a table of text"):
        sources.items(tmp_path / "t.csv")


def test_arrays_in_keras_layout_become_pictures(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.array([0, 1, 2, 0, 1, 2]))
    items = sources.items(tmp_path / "a.npz")
    assert [name for name, _ in items] == list("012012")
    assert np.array_equal(images.decode(items[3][1], 1)[..., 0], x[3])


def test_keras_names_are_found_in_keras_own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(Missing, match=r"keras.datasets.mnist.load_data"):
        sources.items("keras:mnist")
    (tmp_path / "datasets").mkdir()
    np.savez(tmp_path / "datasets" / "mnist.npz", x_train=np.zeros((2, 28, 28), np.uint8), y_train=np.array([7, 8]))
    assert [name for name, _ in sources.items("keras:mnist")] == ["7", "8"]
    with pytest.raises(Missing):
        sources.items("keras:../../secret")


@pytest.mark.parametrize(
    "arrays",
    [{"z": np.zeros(3)}, {"x": np.zeros((2, 8, 8)), "y": np.zeros(2)}, {"x": np.zeros((2, 8, 8), np.uint8), "y": np.zeros(3)},
     {"x": np.zeros((2, 8), np.uint8), "y": np.zeros(2)}, {"x": np.zeros((2, 8, 8, 7), np.uint8), "y": np.zeros(2)},
     {"x": np.array([{}], dtype=object), "y": np.zeros(1)}],
)  # fmt: skip
def test_arrays_that_are_no_labelled_pictures_are_refused(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(BadInput):
        sources.items(tmp_path / "a.npz")


def test_empty_and_flat_folders_and_unknown_files_are_refused(tmp_path, world):
    with pytest.raises(BadInput, match="no pictures"):
        sources.items(tmp_path)
    with pytest.raises(BadInput, match="a folder per identity"):
        sources.items(world / "people" / "glyph-100")
    with pytest.raises(Missing):
        sources.items(tmp_path / "nothing")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(BadInput, match="cannot be read as data"):
        sources.items(tmp_path / "a.txt")


def test_vector_files(tmp_path):
    np.save(tmp_path / "v.npy", np.eye(3))
    assert sources.vectors(tmp_path / "v.npy")[0] is None
    np.savez(tmp_path / "v.npz", vectors=np.eye(2), names=np.array(["a", "b"]))
    assert sources.vectors(tmp_path / "v.npz")[0] == ["a", "b"]
    np.save(tmp_path / "p.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "t.npy").write_bytes((tmp_path / "v.npy").read_bytes()[:100])
    np.savez(tmp_path / "w.npz", other=np.eye(2))
    for name in ("p.npy", "t.npy", "w.npz"):
        with pytest.raises(BadInput, match="these are not vectors"):
            sources.vectors(tmp_path / name)
    with pytest.raises(Missing):
        sources.vectors(tmp_path / "none.npy")
