"""The world failing under the program: no room, no rights, two at once, a plug pulled."""

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from siamese_index import Gallery
from siamese_index.analysis.doctor import examine
from siamese_index.training.glyphs import draw

SIDX = [sys.executable, "-c", "from siamese_index.cli import run; run()"]
G = ("-g", "people.gallery")


@pytest.fixture
def people(tower_path, tmp_path, person):
    with Gallery.create(tmp_path / "people.gallery", tower_path) as gallery:
        gallery.enroll_many([(f"person {n}", person(n, 0)) for n in range(3)])
    shutil.copy(person(0, 0), tmp_path / "known.png")
    return tmp_path


def test_a_full_disk_is_told_and_costs_nothing(people):
    """Files may not grow past a limit, as on a full disk."""
    draw(people / "more", range(500, 560), range(4))
    size = (people / "people.gallery").stat().st_size
    done = subprocess.run(
        [*SIDX, "enroll", "--from", "more", *G], cwd=people, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20_000, size + 20_000)),
    )  # fmt: skip
    assert done.returncode == 4
    assert "cannot be written" in done.stderr and "No acknowledged change is lost" in done.stderr
    assert "Traceback" not in done.stderr
    with Gallery.open(people / "people.gallery") as gallery:
        assert [row.name for row in gallery.identities()] == ["person 0", "person 1", "person 2"]
    assert examine(people / "people.gallery").findings == ()


WAL = "import siamese_index.store.sqlite as s, sys; s.wal_is_safe = lambda *_: True; sys.argv[0] = 'sidx'; "


@pytest.fixture(params=["journal", "wal"])
def read_only(people, request):
    """Run a command where the gallery's folder cannot be written; the gallery in either journal mode."""
    sidx = SIDX
    if request.param == "wal":
        sidx = [sys.executable, "-c", WAL + SIDX[2]]
        subprocess.run(
            [*sidx, "identities", "rename", "person 2", "two", *G], cwd=people, check=True, capture_output=True
        )
        assert (people / "people.gallery").read_bytes()[18] == 2
    if os.geteuid() != 0:
        people.chmod(0o555)
        yield lambda *words: subprocess.run([*sidx, *words], cwd=people, capture_output=True, text=True)
        people.chmod(0o755)
        return
    script = f'mount --bind {people} {people} && mount -o remount,ro,bind {people} && cd {people} && exec "$@"'
    probe = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", "true"], capture_output=True)
    if probe.returncode != 0:
        pytest.skip("root without the right to mount: nothing is read-only to it")
    yield lambda *words: subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *sidx, *words], capture_output=True, text=True
    )


def test_a_gallery_in_a_read_only_folder_answers_and_says_why_it_cannot_enroll(people, read_only):
    answered = read_only("identify", "known.png", *G)
    assert answered.returncode == 0, answered.stderr
    assert json.loads(answered.stdout)["identity"] == "person 0"
    refused = read_only("identities", "remove", "person 0", *G)
    assert refused.returncode == 4
    assert "cannot be written" in refused.stderr and "Traceback" not in refused.stderr
    with sqlite3.connect(people / "people.gallery") as db:
        db.execute("PRAGMA user_version = 3")
    db.close()
    (people / "people.gallery").chmod(0o600)
    older = read_only("identify", "known.png", *G)
    assert (older.returncode, "older siamese-index" in older.stderr) == (2, True), older.stderr
    made = read_only("init", "--dimension", "8", "-g", "new.gallery")
    assert (made.returncode, "cannot be written" in made.stderr) == (4, True)


def test_two_processes_enrolling_at_once_both_finish_and_nothing_is_lost(people):
    for name, numbers in (("left", range(500, 540)), ("right", range(600, 640))):
        draw(people / name, numbers, range(2))
    both = [
        subprocess.Popen(
            [*SIDX, "enroll", "--from", name, *G], cwd=people, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for name in ("left", "right")
    ]
    for child in both:
        said = child.communicate(timeout=120)[1].decode()
        assert child.returncode == 0, said
    with Gallery.open(people / "people.gallery") as gallery:
        assert len(gallery.identities()) == 3 + 80
        assert len(gallery.samples()) == 3 + 160
    assert examine(people / "people.gallery").findings == ()


def test_an_interrupted_enrollment_keeps_what_was_acknowledged_and_can_be_repeated(people):
    draw(people / "many", range(1000, 1500), range(3))  # more than one transaction
    child = subprocess.Popen(
        [*SIDX, "enroll", "--from", "many", *G], cwd=people, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with Gallery.open(people / "people.gallery") as gallery:
            if len(gallery.samples()) > 3:
                break
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=60)[1].decode()
    assert "Traceback" not in said
    assert child.returncode in (0, 130)  # it may just have finished
    with Gallery.open(people / "people.gallery") as gallery:
        kept = len(gallery.samples())
    assert kept in (3 + 1024, 3 + 1500)
    again = subprocess.run([*SIDX, "enroll", "--from", "many", *G], cwd=people, capture_output=True, text=True)
    assert again.returncode == 0
    assert f"{1503 - kept} enrolled, {kept - 3} already enrolled" in again.stderr
