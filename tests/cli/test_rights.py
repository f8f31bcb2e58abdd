"""What a colleague meets whose rights do not reach: exit 4, what and how; never a bug. And what terminals cannot show."""

import os
import shutil
import signal
import subprocess
import sys
import time

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
        if not shutil.which("setpriv") or subprocess.run([*other, *SIDX, "--version"], capture_output=True).returncode:
            pytest.skip("another user cannot run this Python")
    else:
        (place / "people.gallery").chmod(0)
        place.chmod(0o555)
    yield lambda *words: subprocess.run([*other, *SIDX, *words], cwd=place, capture_output=True, text=True)
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
