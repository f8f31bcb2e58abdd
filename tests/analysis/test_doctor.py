"""The doctor reports real damage, fixes what is computed, and finds nothing where nothing is wrong."""

import sqlite3

import numpy as np
import pytest

from siamese_index import Damaged, Gallery
from siamese_index.analysis.doctor import examine, fix


@pytest.fixture
def patient(file_gallery):
    rng = np.random.default_rng(0)
    file_gallery.enroll_vectors([f"p{i}" for i in range(300)], rng.normal(size=(300, 8)))
    file_gallery.calibrate_vectors(names=[f"s{i}" for i in range(50)], vectors=rng.normal(size=(50, 8)))
    file_gallery.close()
    return file_gallery.path


def operate(path, statement, *values):
    with sqlite3.connect(path) as db:
        db.execute(statement, values)
    db.close()


def found(path):
    return [finding.what for finding in examine(path).findings]


def test_a_healthy_gallery_has_nothing(patient):
    examined = examine(patient)
    assert examined.findings == ()
    assert examined.facts["revision"] == "3"


@pytest.mark.parametrize(
    ("statement", "values", "what"),
    [
        ("UPDATE template SET vector = ? WHERE id = 7", (np.ones(8, np.float32).tobytes(),), "not unit vectors"),
        ("UPDATE template SET vector = ? WHERE id = 7", (b"short",), "wrong length"),
        ("DELETE FROM template WHERE id = 7", (), "no template of the active tower"),
        ("UPDATE tower SET card = '{'", (), "card of a tower"),
        ("UPDATE setting SET identities = 7", (), "number of identities"),
        ("UPDATE tally SET templates = 7", (), "number of templates"),
        ("UPDATE sample SET identity_id = 9999 WHERE id = 7", (), "refers to a missing identity"),
        ("UPDATE setting SET generation_id = NULL", (), "no active tower"),
    ],
)
def test_stored_content_that_contradicts_itself_is_reported(patient, statement, values, what):
    operate(patient, statement, *values)
    findings = examine(patient).findings
    assert any(what in f.what and not f.fixable for f in findings), findings


def test_a_lost_template_stops_no_change_and_what_searched_with_it_is_fixed(patient):
    operate(patient, "DELETE FROM template WHERE id = 7")
    with Gallery.open(patient) as gallery:
        gallery.enroll_vectors(["late"], np.eye(8)[3:4], conflicts="allow")
        gallery.remove("late")
    assert any(f.fixable for f in examine(patient).findings)
    fix(patient)
    assert not any(f.fixable for f in examine(patient).findings)
    assert any("no template" in f.what for f in examine(patient).findings)  # that is lost


def test_wrong_derived_distances_are_reported_and_fixed(patient):
    before = Gallery.open(patient).threshold()
    operate(patient, "UPDATE stranger_search SET distance = 0.5 * distance WHERE stranger_id < 4")
    assert found(patient) == ["3 stranger searches are not up to date"]
    fix(patient)
    assert found(patient) == []
    assert Gallery.open(patient).threshold() == before


def test_a_tower_that_is_not_what_was_stored_is_reported(gallery):
    gallery.close()
    operate(gallery.path, "UPDATE tower SET onnx = CAST(substr(onnx, 1, length(onnx) - 1) || x'00' AS BLOB)")
    assert any("is not what was stored" in what for what in found(gallery.path))


def test_rights_for_others_are_reported_and_taken_away(patient):
    patient.chmod(0o644)
    assert found(patient) == ["other users may read the gallery"]
    fix(patient)
    assert found(patient) == []


def test_flipped_bytes_of_the_file_never_go_unnoticed_as_a_wrong_structure(patient, tmp_path):
    content = patient.read_bytes()
    rng = np.random.default_rng(0)
    noticed = 0
    for _ in range(40):
        bad = bytearray(content)
        at = int(rng.integers(0, len(bad) - 4096))
        bad[at : at + 4096] = bytes(4096)
        copy = tmp_path / "copy.gallery"
        copy.write_bytes(bad)
        copy.chmod(0o600)
        try:
            noticed += bool(examine(copy).findings)
        except Damaged:
            noticed += 1
    assert noticed >= 38  # a zeroed stretch may lie in free space


def test_a_file_that_is_no_gallery_is_an_error_and_not_a_finding(tmp_path):
    (tmp_path / "x.gallery").write_bytes(b"SQLite format 3\0" + bytes(5000))
    with pytest.raises(Damaged):
        examine(tmp_path / "x.gallery")


def test_two_packages_of_opencv_are_found(file_gallery, tmp_path, monkeypatch):
    """Each writes over the other's files. Here the second is what its metadata says, and nothing else."""
    about = tmp_path / "more" / "opencv_contrib_python-4.12.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: opencv-contrib-python\nVersion: 4.12.0\n")
    assert examine(file_gallery.path).findings == ()
    monkeypatch.syspath_prepend(tmp_path / "more")
    (finding,) = examine(file_gallery.path).findings
    assert "opencv-contrib-python 4.12.0" in finding.what and "pip uninstall" in finding.what and not finding.fixable
