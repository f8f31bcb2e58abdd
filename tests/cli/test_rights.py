"""What a colleague meets whose rights do not reach: exit 4, what and how; never a bug. And what terminals cannot show."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from siamese_index import Gallery
from siamese_index.training.glyphs import draw

SIDX = [sys.executable, "-c", "from siamese_index.cli import run; run()"]
G = ("-g", "people.gallery")
NOBODY = 65534


@pytest.fixture
def place(tower_path, person, tmp_path, world):
    """A gallery that is another user's, and what he may read: a picture, a tower, a folder to learn from."""
    with Gallery.create(tmp_path / "people.gallery", tower_path) as gallery:
        gallery.enroll_many([(f"person {n}", person(n, 0)) for n in range(3)])
    shutil.copy(person(0, 1), tmp_path / "probe.png")
    shutil.copy(tower_path, tmp_path / "a.tower")
    shutil.copytree(world / "people", tmp_path / "folder")
    return tmp_path


@pytest.fixture
def colleague(place):
    """Run a command as a user to whom the gallery and the folder do not belong."""
    (place / "people.gallery").chmod(0o600)
    other: list[str] = []
    if os.geteuid() == 0:
        for folder in (place, *place.parents):
            if folder != folder.parent and not folder.stat().st_mode & 0o001:
                folder.chmod(folder.stat().st_mode | 0o011)
        place.chmod(0o755)
        for path in (place / "folder").rglob("*"):
            path.chmod(0o755)
        for name in ("probe.png", "a.tower"):
            (place / name).chmod(0o644)
        other = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        if not shutil.which("setpriv"):
            pytest.skip("setpriv is not installed")
        if subprocess.run([*other, *SIDX, "--version"], capture_output=True).returncode:
            # This Python is root's alone: root without his powers, and what is there is somebody else's.
            other = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]
            for path in (place, *place.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
    else:
        (place / "people.gallery").chmod(0)
        place.chmod(0o555)

    def run(*words):
        return subprocess.run([*other, *SIDX, *words], cwd=place, capture_output=True, text=True)

    run.without_powers = "--bounding-set" in other
    yield run
    place.chmod(0o755)


def test_a_gallery_that_one_may_not_read_is_told_by_every_command(colleague):
    for words in (
        "identify probe.png", "identify probe.png --explain", "verify probe.png probe.png", "enroll bob probe.png",
        "enroll --from folder", "calibrate", "calibrate --fpir 0.1", "capacity", "evaluate folder", "log", "log on", "replay",
        "retrain", "towers list", "identities list", "identities remove ada", "samples list", "strangers list",
        "index status", "index rebuild", "status", "settings list", "settings set fpir 0.1", "doctor", "doctor --content",
        "backup copy.gallery",
    ):  # fmt: skip
        done = colleague(*words.split(), *G)
        assert done.returncode == 4, (words, done.returncode, done.stderr)
        assert "people.gallery" in done.stderr and "ermission denied" in done.stderr, (words, done.stderr)
        assert "this is a bug" not in done.stderr and "Traceback" not in done.stderr


def test_a_folder_that_one_may_not_write_is_told_too(colleague):
    for words in (
        "init --tower a.tower -g new.gallery", "enroll ada probe.png --tower a.tower -g new.gallery",
        "train folder -o new.tower --steps 1", "demo --folder new",
    ):  # fmt: skip
        done = colleague(*words.split())
        assert done.returncode == 4, (words, done.returncode, done.stderr)
        assert "this is a bug" not in done.stderr and "Traceback" not in done.stderr


def test_what_may_not_be_read_is_left_out_and_the_rest_is_taken(colleague, place, person):
    """Locked folders, links into them, single files: of a batch the others are answered."""
    tree = place / "folder"
    locked = place / "locked"
    locked.mkdir()
    shutil.copy(person(3, 0), locked / "1.png")
    (tree / "linked").symlink_to(locked)
    (tree / "one").mkdir()
    (tree / "one" / "1.png").symlink_to(locked / "1.png")
    locked.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(locked, NOBODY if colleague.without_powers else 0, -1)
    else:
        locked.chmod(0)
    for path in (place / "people.gallery",):
        path.chmod(0o644)
    one = next(p for p in tree.rglob("*.png") if p.is_file() and "linked" not in str(p) and "one" not in p.parts)
    answered = colleague("identify", str(one), str(locked / "1.png"), "--exit-zero", *G)
    assert (answered.returncode, answered.stdout.count("verdict")) == (3, 1), answered.stderr
    assert "locked" in answered.stderr
    whole = colleague("identify", str(tree), "--exit-zero", *G)
    assert whole.stdout.count("verdict") == 48 and "this is a bug" not in whole.stderr, whole.stderr
    assert colleague("identify", str(locked), *G).returncode == 4
    np.save(place / "v.npy", np.eye(3, dtype=np.float32))
    (place / "v.npy").chmod(0o600)
    if colleague.without_powers:
        os.chown(place / "v.npy", NOBODY, NOBODY)
    if os.geteuid():
        (place / "v.npy").chmod(0)
    for words in (
        "enroll --from v.npy",
        "init --tower v.npy -g n.gallery",
        "verify v.npy v.npy",
        "restore v.npy -g n.gallery",
    ):
        done = colleague(*words.split(), *(() if "-g" in words else G))
        assert done.returncode == 4 and "ermission denied" in done.stderr, (words, done.returncode, done.stderr)
    locked.chmod(0o755)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8"])
def test_names_that_a_terminal_cannot_show_lose_no_answer(sidx, place, encoding):
    with Gallery.open(place / "people.gallery") as gallery:
        gallery.rename("person 0", "张伟 😀")
    done = sidx("identify", "probe.png", "--threshold", "1", *G, PYTHONIOENCODING=f"{encoding}:strict", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    import json

    assert json.loads(done.stdout)["identity"] == "张伟 😀"


def test_escape_sequences_in_file_names_are_not_obeyed(sidx, place):
    done = sidx("identify", "\x1b[2Jgone.png", *G)
    assert done.returncode == 4
    assert "\x1b" not in done.stderr and "\\x1b[2Jgone.png" in done.stderr


def test_a_reader_that_goes_away_is_no_bug(place):
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -c '{SIDX[2]}' identify folder {' '.join(G)} | head -1; exit ${{PIPESTATUS[0]}}"],
        cwd=place, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode in (10, 141) and "bug" not in done.stderr  # 10: it was done before the reader went


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(place):
    draw(place / "many", range(2000, 3200), range(2))  # more than one transaction
    child = subprocess.Popen(
        [*SIDX, "enroll", "--from", "many", "--allow-conflict", *G],
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and child.poll() is None:
        with Gallery.open(place / "people.gallery") as gallery:
            if len(gallery.samples()) > 3:
                break
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=120)[1].decode()
    if child.returncode == 130:
        assert "samples are enrolled. Repeat the command to go on." in said
    else:
        assert child.returncode in (0, 3), said  # it was quicker


def test_an_interruption_is_said_once_also_where_nothing_is_kept(place):
    """Standard input that never ends: the command waits."""
    child = subprocess.Popen(
        [*SIDX, "identify", "-", *G], cwd=place, stdin=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )  # fmt: skip
    time.sleep(6)
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=60)[1].decode()
    assert (child.returncode, said.count("Interrupted"), "Traceback" in said) == (130, 1, False)


def test_a_journal_that_a_group_may_not_use_is_named(colleague, place):
    if not colleague.without_powers and os.geteuid() != 0:
        pytest.skip("needs a second user")
    gallery, journal = place / "people.gallery", place / "people.gallery-journal"
    if not journal.exists():
        pytest.skip("this SQLite keeps no journal")
    place.chmod(0o777)
    gallery.chmod(0o666)
    journal.chmod(0o600)
    done = colleague("identities", "rename", "person 1", "ada", *G)
    assert done.returncode == 4 and "people.gallery-journal: cannot be written" in done.stderr, done.stderr
    assert "chmod" in done.stderr
    Gallery.open(gallery).close()  # its owner gives it the gallery's rights
    if not colleague.without_powers:
        assert colleague("identities", "rename", "person 1", "ada", *G).returncode == 0
