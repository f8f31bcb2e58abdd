"""One gallery in many threads, and in processes that were forked from one that had searched."""

import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

from siamese_index import BadInput, Gallery
from tests import together


def test_threads_that_ask_and_change_agree_with_brute_force(tmp_path):
    done = together.threads(tmp_path / "t.gallery", 8, 120)
    assert done["calls"] == 960 and done["wrong"] == 0


def test_pictures_and_answers_are_yielded_in_turns(gallery, person):
    gallery.enroll_many([(f"p{n}", person(n, 0)) for n in range(6)], conflicts="allow")
    failed = []

    def work():
        try:
            assert len(list(gallery.pictures())) >= 6
            assert len(list(gallery.identify_many([person(n, 1) for n in range(6)]))) == 6
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def in_child(work, seconds=60):
    """Return how a forked process ended that does `work`: its exit status, or "hung"."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            sys.stdout.flush()
            if code:
                os._exit(code)
            sys.exit(0)  # through the interpreter's own end, as a server's worker
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hung"


SCRIPT = """
import sys, os
sys.path.insert(0, sys.argv[2])
import numpy as np
from pathlib import Path
from siamese_index import BadInput, Gallery
from tests.test_threads_and_forks import in_child

folder = Path(sys.argv[1])
probes = np.random.default_rng(1).normal(size=(64, 64))
parent = Gallery.open(folder / "v.gallery")
parent.identify_vectors(probes)
pictures = Gallery.open(folder / "p.gallery")
samples = sorted(folder.glob("*.png"))
list(pictures.identify_many(samples))

def inherited():
    for use in (lambda: parent.identify_vectors(probes[:1]), lambda: pictures.identify(samples[0])):
        try:
            use()
        except BadInput as error:
            assert "another process" in str(error)
        else:
            raise SystemExit("it was used")

def own():
    with Gallery.open(folder / "v.gallery") as mine, Gallery.open(folder / "p.gallery") as others:
        assert len(mine.identify_vectors(probes)) == 64
        assert len(list(others.identify_many(samples))) == len(samples)

print([in_child(inherited), in_child(own), in_child(lambda: None)])
assert len(parent.identify_vectors(probes)) == 64
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_fork_uses_its_own_gallery_and_ends(tower_file, person, tmp_path):
    import subprocess
    from pathlib import Path

    rng = np.random.default_rng(0)
    with Gallery.create(tmp_path / "v.gallery", dimension=64) as gallery:
        gallery.enroll_many_vectors([f"p{i}" for i in range(3000)], rng.normal(size=(3000, 64)), conflicts="allow")
    with Gallery.create(tmp_path / "p.gallery", tower_file) as gallery:
        gallery.enroll_many([(f"p{n}", person(n, 0)) for n in range(6)], conflicts="allow")
    for n in range(6):
        (tmp_path / f"{n}.png").write_bytes(person(n, 1).read_bytes())
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path), root],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[0, 0, 0]", done.stdout + done.stderr


def test_a_closed_gallery_says_so_in_every_thread(file_gallery):
    file_gallery.close()
    found = []

    def work():
        try:
            file_gallery.identities()
        except BadInput as error:
            found.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "closed" in found[0]
