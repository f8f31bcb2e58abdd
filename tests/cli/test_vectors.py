"""Vectors by the file: what is right is enrolled in any layout, what is wrong is told and costs nothing."""

import json

import numpy as np
import pytest

from siamese_index import Gallery


@pytest.fixture
def place(sidx, tmp_path):
    assert sidx("init", "--dimension", 8, "-g", "v.gallery").returncode == 0
    rng = np.random.default_rng(0)
    np.save(tmp_path / "v.npy", rng.normal(size=(40, 8)).astype(np.float32))
    (tmp_path / "names.csv").write_text("name,room\n" + "".join(f"p{i},1\n" for i in range(40)))
    return tmp_path / "v.gallery"


def enroll(sidx, vectors="v.npy", names="names.csv", *more):
    return sidx("enroll", "--from", vectors, *(("--names", names) if names else ()), *more, "-g", "v.gallery")


def enrolled(place):
    with Gallery.open(place) as gallery:
        return len(gallery.identities())


def test_an_array_and_its_names_are_enrolled_and_again_change_nothing(sidx, place):
    done = enroll(sidx)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 40
    assert json.loads(done.stdout.splitlines()[3]) == {"identity": "p3", "sample": "row 3", "result": "enrolled"}
    again = enroll(sidx)
    assert again.returncode == 0 and "0 enrolled, 40 already enrolled" in again.stderr


def test_names_may_be_lines_of_text(sidx, place, tmp_path):
    (tmp_path / "names.txt").write_text("".join(f"Zoë {i}\n" for i in range(40)), encoding="utf-8")
    assert enroll(sidx, "v.npy", "names.txt").returncode == 0
    with Gallery.open(place) as gallery:
        assert gallery.samples("Zoë 7")[0].source == "row 7"


@pytest.mark.parametrize(
    "layout", [np.asfortranarray, lambda v: v.astype(np.float64), lambda v: (v * 1000).astype(np.int32)]
)
def test_any_layout_of_numbers_is_taken(sidx, place, tmp_path, layout):
    vectors = np.load(tmp_path / "v.npy")
    np.save(tmp_path / "other.npy", layout(vectors))
    assert enroll(sidx, "other.npy").returncode == 0
    with Gallery.open(place) as gallery:
        found = gallery.identify_vectors(vectors, threshold=0.01)
    assert [d.identity for d in found] == [f"p{i}" for i in range(40)]


def broken(tmp_path, how):
    vectors = np.load(tmp_path / "v.npy")
    path = tmp_path / "broken.npy"
    if how == "NaN":
        vectors[37, 1] = np.nan
    if how == "zero":
        vectors[5] = 0
    if how == "dimension":
        vectors = vectors[:, :7]
    if how == "text":
        vectors = vectors.astype(str)
    if how == "pickled":
        np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
        return path
    np.save(path, vectors[0, 0] if how == "number" else vectors)
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    if how == "header":
        path.write_bytes(path.read_bytes().replace(b"(40, 8)", b"(1<<40,)"))
    if how == "huge":
        path.write_bytes(path.read_bytes().replace(b"(40, 8), ", b"(4000000000, 8), ".ljust(9))[:128] + b"x" * 200)
    if how == "empty":
        path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    "how", ["NaN", "zero", "dimension", "text", "pickled", "number", "truncated", "header", "huge", "empty"]
)
def test_an_array_that_is_wrong_is_told_and_nothing_is_enrolled(sidx, place, tmp_path, how):
    done = enroll(sidx, broken(tmp_path, how))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and "this is a bug" not in done.stderr
    assert enrolled(place) == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [("name\np1\np2\n", "2 names for 40 vectors"), ("who\np1\n", "no column name"), ("", "no column name"),
     ("name\n" + "\n".join(["p"] * 39 + ['""']) + "\n", "empty")],
)  # fmt: skip
def test_names_that_do_not_fit_are_told_and_nothing_is_enrolled(sidx, place, tmp_path, content, told):
    (tmp_path / "names.csv").write_text(content)
    done = enroll(sidx)
    assert done.returncode == 2 and told in done.stderr, done.stderr
    assert enrolled(place) == 0


def test_names_that_are_not_there_are_told(sidx, place):
    assert enroll(sidx, "v.npy", "nowhere.csv").returncode == 4
    assert "--names" in enroll(sidx, "v.npy", None).stderr


def test_a_tag_that_is_none_is_told(sidx, place):
    done = enroll(sidx, "v.npy", "names.csv", "--tag", "north")
    assert done.returncode == 2 and "KEY=VALUE" in done.stderr and enrolled(place) == 0


def test_the_index_tells_of_itself_and_is_rebuilt(sidx, place):
    assert enroll(sidx).returncode == 0
    status = json.loads(sidx("index", "status", "-g", "v.gallery").stdout)
    assert status["kind"] == "scan" and status["templates"] == 40 and status["identity_hit"] == 1.0
    assert "40 templates" in sidx("index", "rebuild", "-g", "v.gallery").stderr
    assert list(place.with_name("v.gallery.cache").glob("*.base"))


def test_tags_narrow_an_identification(sidx, place, tmp_path):
    assert enroll(sidx, "v.npy", "names.csv", "--tag", "site=north").returncode == 0
    np.save(tmp_path / "probe.npy", np.load(tmp_path / "v.npy")[4:5])
    assert sidx("identities", "tag", "p4", "site=south", "-g", "v.gallery").returncode == 0
    asked = ("identify", "probe.npy", "--threshold", "0.01", "-g", "v.gallery", "--tag")
    assert sidx(*asked, "site=south").returncode == 0
    assert sidx(*asked, "site=north").returncode == 10
    assert sidx(*asked, "nonsense").returncode == 2
    rows = [json.loads(line) for line in sidx("identities", "list", "-g", "v.gallery").stdout.splitlines()]
    assert {row["identity"]: row["tags"] for row in rows}["p4"] == {"site": "south"}
