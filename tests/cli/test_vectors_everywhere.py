"""A gallery of vectors is a gallery: every command takes .npy files where it takes pictures."""

import json

import numpy as np
import pytest

from siamese_index import Gallery

G = ("-g", "v.gallery")


@pytest.fixture
def place(sidx, tmp_path, angles):
    """v.gallery with ada at 0 degrees and bob at 60, from one .npy each; further files of vectors."""
    assert sidx("init", "--dimension", 8, *G).returncode == 0
    for name, degrees in (("ada", 0), ("bob", 60), ("probe", 3), ("far", 200)):
        np.save(tmp_path / f"{name}.npy", angles(degrees)[0])
    np.save(tmp_path / "both.npy", angles(4, 64))
    for name in ("ada", "bob"):
        assert sidx("enroll", name, f"{name}.npy", *G).returncode == 0
    np.save(tmp_path / "strangers.npy", angles(*range(100, 300, 5)))
    assert sidx("calibrate", "--strangers", "strangers.npy", "--fpir", "0.1", *G).returncode == 0
    return tmp_path


def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_row_is_enrolled_identified_and_verified_like_a_picture(sidx, place):
    done = sidx("identify", "probe.npy", *G)
    assert (done.returncode, lines(done)[0]["identity"], lines(done)[0]["probe"]) == (0, "ada", "probe.npy")
    several = sidx("identify", "both.npy", "far.npy", *G)
    assert [(row["probe"], row["identity"]) for row in lines(several)] == [
        ("both.npy row 0", "ada"), ("both.npy row 1", "bob"), ("far.npy", None)]  # fmt: skip
    assert sidx("verify", "ada.npy", "probe.npy", *G).returncode == 0
    assert sidx("verify", "ada.npy", "bob.npy", "--fmr", "0.01", *G).returncode == 10
    assert sidx("verify", "probe.npy", "--as", "ada", *G).returncode == 0


def test_standard_input_may_be_a_vector_or_several(sidx, place):
    done = sidx("identify", "-", *G, stdin=(place / "probe.npy").read_bytes())
    assert (done.returncode, lines(done)[0]["identity"], lines(done)[0]["probe"]) == (0, "ada", "standard input")
    assert len(lines(sidx("identify", "-", *G, stdin=(place / "both.npy").read_bytes()))) == 2
    for wrong in (b"", b"hello", b"\x93NUMPY\x01\x00"):
        done = sidx("identify", "-", *G, stdin=wrong)
        assert (done.returncode, done.stdout) == (3, ""), done.stderr
        assert "tandard input" in done.stderr and "bug" not in done.stderr


def test_an_answer_is_explained_in_words(sidx, place):
    done = sidx("identify", "probe.npy", "--explain", *G)
    assert (done.returncode, lines(done)[0]["explanation"][-1]) == (0, "Verdict: match, 'ada'.")
    assert not list(place.glob("*.png"))


def test_a_table_may_name_files_of_vectors(sidx, place, angles):
    np.save(place / "c.npy", angles(90)[0])
    (place / "t.csv").write_text("path,label\nc.npy,carol\nada.npy,ada\n")
    dry = sidx("enroll", "--from", "t.csv", "--dry-run", *G)
    assert (dry.returncode, lines(dry)[0]["result"]) == (0, "would be enrolled"), dry.stderr
    done = sidx("enroll", "--from", "t.csv", *G)
    assert {row["identity"]: row["result"] for row in lines(done)} == {"carol": "enrolled", "ada": "already enrolled"}
    (place / "p.csv").write_text("path,label\nprobe.npy,ada\nfar.npy,dora\nc.npy,carol\n")
    (measured,) = lines(sidx("evaluate", "p.csv", *G))
    assert (measured["mated"], measured["strangers"], measured["known"]) == (1, 1, 1)


def test_a_vector_is_known_however_it_comes_in(sidx, place, angles):
    np.savez(place / "v.npz", vectors=3 * angles(0, 60), names=np.array(["ada", "bob"]))
    done = sidx("enroll", "--from", "v.npz", *G)
    assert "0 enrolled, 2 already enrolled" in done.stderr
    with Gallery.open(place / "v.gallery") as gallery:
        assert len(gallery.enroll("ada", [place / "ada.npy"]).already) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [(np.zeros(8), "no direction"), (np.full(8, np.nan), "NaN"), (np.ones(7), "7 dimensions"), (np.eye(8), "row 0"),
     (np.array(["a"] * 8), "not a vector")],
)  # fmt: skip
def test_a_file_that_is_no_such_vector_is_told(place, content, says):
    from siamese_index import SiameseIndexError

    np.save(place / "wrong.npy", content)
    with Gallery.open(place / "v.gallery") as gallery:
        if content.ndim == 2:  # eight rows are eight samples on the command line, and none as one
            with pytest.raises(SiameseIndexError, match="not a vector"):
                gallery.identify(place / "wrong.npy")
            return
        with pytest.raises(SiameseIndexError, match=says):
            gallery.identify(place / "wrong.npy")
        with pytest.raises(SiameseIndexError, match=says):
            gallery.enroll("eve", [place / "wrong.npy"])
        assert len(gallery.identities()) == 2


def test_vectors_of_double_precision_are_known_however_they_come_in(sidx, place):
    rows = np.random.default_rng(5).normal(size=(20, 8))
    np.save(place / "double.npy", rows)
    (place / "names.txt").write_text("".join(f"p{i}\n" for i in range(20)))
    for i in range(20):
        np.save(place / f"double{i}.npy", rows[i])
    assert sidx("enroll", "--from", "double.npy", "--names", "names.txt", "--allow-conflict", *G).returncode == 0
    with Gallery.open(place / "v.gallery") as gallery:
        again = gallery.enroll_many([(f"p{i}", place / f"double{i}.npy") for i in range(20)])
        assert len(again.already) == 20
        assert len(gallery.enroll_many([("other", place / "double3.npy")]).refused) == 1


def test_a_folder_of_vectors_is_a_folder_of_samples(sidx, place, angles):
    for name, degrees in (("x", 20), ("y", 120)):
        (place / "folder" / name).mkdir(parents=True)
        np.save(place / "folder" / name / "one.npy", angles(degrees)[0])
    done = sidx("enroll", "--from", "folder", "--allow-conflict", *G)
    assert (done.returncode, "2 enrolled" in done.stderr) == (0, True), done.stderr
    assert len(lines(sidx("identify", "folder", *G))) == 2


@pytest.mark.parametrize("wrong", ["text", "empty", "object", "complex", "dates", "truncated", "huge", "three axes"])
def test_a_probe_that_is_no_vector_spoils_no_other(sidx, place, wrong):
    made = {
        "text": np.array(["a"] * 8), "empty": np.zeros((0, 8)), "complex": np.ones(8, complex),
        "dates": np.zeros(8, "datetime64[s]"), "huge": np.full(8, 1e308), "three axes": np.ones((2, 2, 8)),
        "object": np.array([{}], object), "truncated": np.ones(8),
    }[wrong]  # fmt: skip
    np.save(place / "wrong.npy", made, allow_pickle=True)
    if wrong == "truncated":
        (place / "wrong.npy").write_bytes((place / "wrong.npy").read_bytes()[:-9])
    done = sidx("identify", "probe.npy", "wrong.npy", *G)
    assert (done.returncode, [row["identity"] for row in lines(done)]) == (3, ["ada"]), done.stderr
    alone = sidx("identify", "wrong.npy", *G)
    assert (alone.returncode, alone.stdout) == (3, ""), alone.stderr
    for said in (done.stderr, alone.stderr):
        assert "wrong.npy" in said and "bug" not in said and "Warning" not in said


def test_what_a_vector_does_not_have_is_refused(sidx, place):
    for options in (["--floor", "size=3"],):
        done = sidx("enroll", "eve", "far.npy", *options, *G)
        assert (done.returncode, "no quality" in done.stderr) == (2, True), done.stderr
    np.savez(place / "v.npz", vectors=np.eye(8, dtype=np.float32)[:2], names=np.array(["x", "y"]))
    done = sidx("enroll", "--from", "v.npz", "--dask", "tcp://127.0.0.1:1", *G)
    assert (done.returncode, "holds vectors" in done.stderr) == (2, True), done.stderr
