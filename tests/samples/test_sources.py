"""Folders, tables and arrays of pictures, well-formed and not."""

import gzip
import struct

import numpy as np
import pytest

from siamese_index import BadInput, Missing, Unreadable, vectors
from siamese_index.samples import images, sources


def test_a_folder_per_identity_nested_folders_are_named_by_their_path(world):
    items = sources.items(world / "people")
    assert len(items) == 48
    assert items[0] == ("glyph-100", world / "people" / "glyph-100" / "hand-00.png")
    assert sources.items(world)[0][0] == "learn/glyph-000"


def test_a_table_names_paths_relative_to_itself(world):
    table = world / "table.csv"
    table.write_text("label,path\nada,people/glyph-100/hand-00.png\nbob,people/glyph-101/hand-00.png\n")
    assert list(sources.items(table)) == [
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


def test_arrays_of_vectors_become_samples_of_vectors(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)
    np.save(tmp_path / "people.npy", x)  # (identities, samples, d)
    np.savez(tmp_path / "flat.npz", vectors=x.reshape(12, 5), names=np.repeat(list("abcd"), 3))
    for file, names in (("people.npy", "000111222333"), ("flat.npz", "aaabbbcccddd")):
        items = sources.items(tmp_path / file)
        assert "".join(items.names) == names
        assert np.array_equal(vectors.unpack(items[7][1]), x.reshape(12, 5)[7])


def test_pictures_by_identity_and_sample_need_no_labels(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (3, 2, 20, 30, 3), np.uint8)
    np.save(tmp_path / "x.npy", x)
    items = sources.items(tmp_path / "x.npy")
    assert list(items.names) == list("001122")
    assert np.array_equal(images.decode(items[3][1], 3), x[1, 1])


@pytest.mark.parametrize(
    ("array", "complaint"),
    [(np.zeros((6, 5)), "vectors without names"), (np.zeros((6, 20, 20), np.uint8), "names no identities"),
     (np.zeros((2, 3, 20, 20, 4), np.uint8), "neither pictures nor vectors"), (np.zeros((2, 3, 5), np.int64), "neither"),
     (np.array([["a"]], object), "not an .npy of plain numbers")],
)  # fmt: skip
def test_arrays_that_are_no_samples_say_what_they_are(tmp_path, array, complaint):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(BadInput, match=complaint):
        sources.items(tmp_path / "x.npy")


def test_fashion_mnist_is_read_as_keras_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    folder = tmp_path / "datasets" / "fashion-mnist"
    folder.mkdir(parents=True)
    x, y = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8), np.array([4, 5, 4], np.uint8)
    for name, array in (("images-idx3", x), ("labels-idx1", y)):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (folder / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    items = sources.items("keras:fashion_mnist")
    assert list(items.names) == ["4", "5", "4"]
    assert np.array_equal(images.decode(items[1][1], 1)[..., 0], x[1])
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08"))
    with pytest.raises(BadInput, match="not an IDX file"):
        sources.items("keras:fashion_mnist")


def test_a_table_of_pairs_is_no_list_of_identities(tmp_path):
    (tmp_path / "p.csv").write_text("path_a,path_b,label\na.png,b.png,1\n")
    with pytest.raises(BadInput, match="names no identities"):
        sources.items(tmp_path / "p.csv")


def test_items_are_made_as_they_are_asked_for(world):
    items = sources.items(world / "people")
    assert len(items[::16]) == 3 and items[-1] == items[47]
    both = items + sources.items(world / "learn")
    assert len(both) == 48 + 96 and both[0] == items[0] and both[48][0] == "glyph-000"
    assert [name for name, _ in both] == list(both.names)


def test_samples_are_files_pictures_below_folders_and_rows_of_vectors(world, tmp_path):
    np.save(tmp_path / "rows.npy", np.eye(3, dtype=np.float32))
    np.save(tmp_path / "one.npy", np.ones(3, np.float32))
    found = sources.samples([world / "people" / "glyph-100", tmp_path / "rows.npy", tmp_path / "one.npy", "x.png"])
    assert len(found) == 4 + 3 + 1 + 1
    assert vectors.unpack(found[5]).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "data",
    [b"", b"no vector", vectors.pack(np.ones(4))[:-1], vectors.pack(np.ones((2, 2))), vectors.pack([np.nan, 1.0]),
     b"\x93NUMPY\x01\x00\x10\x00{'descr': 'O'}  ", vectors.pack(np.ones(4)).replace(b"(4,)", b"(9,)"),
     b"\x93NUMPY\x01\x00\x10\x00" + b"import os; 1/0  "],
)  # fmt: skip
def test_bytes_that_are_no_vector_are_refused(data):
    with pytest.raises(Unreadable):
        vectors.unpack(data)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [(b"path,label\n1.png,Smith, John\n2.png,Smith, Ada\n", "line 2 has 3 cells, the first line 2"),
     (b"path,label,label\n1.png,ada,bob\n", "the column 'label' is there twice"),
     ("path,label\n1.png,José\n".encode("latin-1"), "not a table of text in UTF-8: line 2"),
     (b"path,label,x,y,w,h\n1.png,ada,1,2,3,x\n", "line 2: no box"),
     (b"path,label,x1,y1,x2,y2\n1.png,ada,10,10,5,20\n", "line 2: the box 10, 10, 5, 20 is empty"),
     (b"path,label,bbox\n1.png,ada,1 2 3 4\n", "its boxes are in one column"),
     (b"label,v0,v1\nada,1,2\nbob,1,two\n", "line 3 is neither a path nor a vector")],
)  # fmt: skip
def test_tables_that_mean_something_else_are_refused_with_the_line(tmp_path, data, complaint):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(BadInput, match=complaint):
        sources.items(tmp_path / "t.csv")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_are_read_as_programs_write_them(tmp_path, separator, encoding):
    text = f"path{separator}label\r\n1.png{separator}José \r\n2.png{separator}José\r\n\r\n"
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    assert list(sources.items(tmp_path / "t.csv")) == [("José", tmp_path / "1.png"), ("José", tmp_path / "2.png")]


def test_vectors_come_in_tables_too(tmp_path):
    (tmp_path / "v.csv").write_text("name,v0,v1,v2\nada,1,0,0\nbob,0,0.5,1e-3\n")
    items = sources.items(tmp_path / "v.csv")
    assert list(items.names) == ["ada", "bob"]
    assert items.vectors.tolist() == [[1, 0, 0], [0, 0.5, 1e-3]]
    assert vectors.unpack(items[1][1]).tolist() == [0, 0.5, 1e-3]
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    for columns in ({"v": [[1.0, 0.0], [0.0, 2.0]]}, {"a": [1.0, 0.0], "b": [0.0, 2.0]}):
        pyarrow.parquet.write_table(arrow.table({"label": ["ada", "bob"], **columns}), tmp_path / "v.parquet")
        items = sources.items(tmp_path / "v.parquet")
        assert (list(items.names), items.vectors.tolist()) == (["ada", "bob"], [[1, 0], [0, 2]])


def test_objects_in_arrays_are_never_read_nor_advised(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    for call in (sources.items, sources.vectors):
        with pytest.raises(BadInput, match="never read") as told:
            call(tmp_path / "x.npy")
        assert "allow_pickle" not in str(told.value)


@pytest.mark.parametrize(
    "header", ["x,y,w,h", "X,Y,Width,Height", "left,top,right,bottom", "x1,y1,x2,y2", "xmin,ymin,xmax,ymax"]
)
def test_boxes_of_a_table_are_cut_out(tmp_path, header):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    (tmp_path / "a.png").write_bytes(images.encode(pixels))
    ends = "20,10,30,25" if header.lower().endswith(("w,h", "height")) else "20,10,50,35"
    (tmp_path / "t.csv").write_text(f"path,label,{header},site\na.png,ada,{ends},north\na.png,bob,,,,,south\n")
    items = sources.items(tmp_path / "t.csv")
    first, second = (images.decode(images.read(sample), 3) for _, sample in items)
    assert np.array_equal(first, pixels[10:35, 20:50])
    assert np.array_equal(second, pixels)
    assert items.tags == [{"site": "north"}, {"site": "south"}]


def test_a_row_whose_box_is_outside_is_left_out_and_the_others_are_taken(tmp_path):
    (tmp_path / "a.png").write_bytes(images.encode(np.full((60, 80, 3), 200, np.uint8)))
    rows = "a.png,ada,0,0,40,40\na.png,bob,70,50,40,40\nnope.png,cyd,0,0,20,20\n"
    (tmp_path / "t.csv").write_text(f"path,label,x,y,w,h\n{rows}")
    items = list(sources.items(tmp_path / "t.csv"))
    assert images.decode(images.read(items[0][1]), 3).shape == (40, 40, 3)
    with pytest.raises(BadInput, match="not in the picture"):
        images.read(items[1][1])
    with pytest.raises(Missing):
        images.read(items[2][1])


def test_right_and_bottom_are_meant_where_a_table_has_the_pictures_size_too(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    (tmp_path / "a.png").write_bytes(images.encode(pixels))
    (tmp_path / "t.csv").write_text("path,label,width,height,left,top,right,bottom\na.png,ada,80,60,10,20,40,50\n")
    ((_, sample),) = sources.items(tmp_path / "t.csv")
    assert np.array_equal(images.decode(images.read(sample), 3), pixels[20:50, 10:40])
