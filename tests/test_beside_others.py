"""A gallery beside other processes: towers that are swapped, files that others shorten, lock or write meanwhile."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from siamese_index import BadInput, Damaged, Gallery, Locked, Missing, Unreadable
from siamese_index.analysis.doctor import examine
from siamese_index.analysis.evaluation import evaluate
from siamese_index.analysis.explain import explain
from siamese_index.samples import images
from siamese_index.search import file_index, scan
from siamese_index.store import sqlite, sqlite_copy
from siamese_index.towers.card import FORMAT
from siamese_index.vectors import pack, unit


def another(tower_file):
    """The same network as a tower of its own: it takes what it is shown otherwise."""
    card = tower_file.card
    frame = "strokes" if card.input.frame == "whole" else "whole"
    return replace(tower_file, card=replace(card, format=FORMAT, input=replace(card.input, frame=frame)))


@pytest.fixture
def two_towers(gallery, tower_file, person):
    """A gallery with six people, its log on, and a second tower that is not active."""
    gallery.enroll_many([(f"p{i}", person(i, 0)) for i in range(6)])
    gallery.log(True)
    other = another(tower_file)
    return gallery, gallery.add_tower(other)


def test_an_answer_is_logged_under_the_tower_that_gave_it(two_towers, person):
    gallery, second = two_towers
    with Gallery.open(gallery.path) as here:
        first = here.tower.id
        here.identify(person(1, 1))  # warm
    other = Gallery.open(gallery.path)
    swapping = sqlite3.connect(gallery.path, isolation_level=None)
    swapping.execute("BEGIN IMMEDIATE")  # it will be a promotion; answers can be decided, not logged
    answers = []
    asked = threading.Thread(target=lambda: answers.append(other.identify(person(2, 1), threshold=2.0)))
    asked.start()
    time.sleep(0.5)
    assert not answers
    event = swapping.execute("INSERT INTO event (verb, detail) VALUES ('promote', '{}') RETURNING id").fetchone()[0]
    row = swapping.execute("SELECT id FROM tower WHERE sha256 = ?", (second,)).fetchone()[0]
    made = swapping.execute(
        "INSERT INTO generation (tower_id, before, begun) VALUES (?, 1, ?) RETURNING id", (row, event)
    )
    swapping.execute("UPDATE setting SET generation_id = ?", made.fetchone())
    swapping.execute("UPDATE identity SET name = 'renamed' WHERE name = ?", ("p2",))
    swapping.execute("COMMIT")
    asked.join()
    assert answers[0].tower == first and answers[0].identity == "p2"
    with other.reading() as state:
        assert state.active.sha256 == second
        logged = state.store.log.all()[-1]
        assert state.store.towers.row(logged.tower).sha256 == first
        assert logged.identity == "renamed"  # the same one, whatever it is called by now
    other.close()
    swapping.close()


def test_what_measures_in_several_steps_measures_by_one_tower(two_towers, world, person):
    gallery, second = two_towers
    beside = Gallery.open(gallery.path)
    probes = [(f"p{i}", person(i, hand)) for i in range(6) for hand in (1, 2)]

    def swap(_count):
        if beside.tower.id != second:
            beside.promote(second)

    with pytest.raises(Locked, match="swapped"):
        evaluate(gallery, probes, progress=swap)
    assert evaluate(gallery, probes, progress=swap).mated == 12  # now it is the same all the time
    assert explain(gallery, person(0, 1)).decision.tower == second
    beside.close()


def test_a_cache_that_is_cut_short_costs_time_alone(tmp_path):
    script = (
        "import sys, os, numpy as np; from pathlib import Path; from siamese_index import Gallery\n"
        "from siamese_index.vectors import unit\n"
        "path = Path(sys.argv[1]); people = unit(np.random.default_rng(0).normal(size=(5000, 8)))\n"
        "with Gallery.create(path, dimension=8) as gallery:\n"
        "    gallery.enroll_many_vectors([f'p{i}' for i in range(5000)], people, conflicts='allow')\n"
        "    gallery.rebuild_index()\n"
        "with Gallery.open(path) as gallery:\n"
        "    ask = lambda i: gallery.identify_vectors(people[i:i+1], threshold=1e-3)[0].identity\n"
        "    assert ask(7) == 'p7' and gallery.index_status().in_base == 5000\n"
        "    (base,) = Path(f'{path}.cache').glob('*.base')\n"
        "    os.truncate(base, int(sys.argv[2]))\n"
        "    assert ask(8) == 'p8' and ask(4999) == 'p4999'\n"
        "    gallery.rebuild_index()\n"
        "    assert ask(9) == 'p9' and gallery.index_status().in_base == 5000\n"
    )
    for size in (0, 4096):
        path = tmp_path / f"{size}.gallery"
        done = subprocess.run([sys.executable, "-c", script, str(path), str(size)], capture_output=True, text=True)
        assert done.returncode == 0, (size, done.returncode, done.stderr)


def test_what_sqlite_keeps_beside_a_gallery_gets_its_rights(file_gallery, angles):
    path = file_gallery.path
    file_gallery.enroll_vectors(["ada"], angles(0))
    journal = path.with_name(f"{path.name}-journal")
    if not journal.exists():
        pytest.skip("this SQLite keeps no journal")
    journal.chmod(0o600)
    path.chmod(0o660)  # now a group shares it
    Gallery.open(path).close()
    assert journal.stat().st_mode & 0o777 == 0o660


def writing_on(path):
    """Write to a gallery from another process until told to stop."""
    script = (
        "import sys; from siamese_index import Gallery\n"
        "with Gallery.open(sys.argv[1]) as gallery:\n"
        "    print('ready', flush=True); i = 0\n"
        "    while True: gallery.tag('p0', {'n': str(i)}); i += 1; print(i, flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    return child


def test_a_backup_is_one_state_whoever_writes_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_copy, "STEP", 4)
    begun = []
    otherwise = sqlite_copy.copy_beside_others
    monkeypatch.setattr(sqlite_copy, "copy_beside_others", lambda *given: begun.append(otherwise(*given)))
    path, people = tmp_path / "p.gallery", unit(np.random.default_rng(0).normal(size=(3000, 8)))
    with Gallery.create(path, dimension=8) as gallery:
        gallery.enroll_many_vectors([f"p{i}" for i in range(3000)], people, conflicts="allow")
        gallery.backup(tmp_path / "alone")
        child = writing_on(path)
        child.stdout.readline()
        try:
            for number, anew in enumerate((0, -1)):
                monkeypatch.setattr(sqlite_copy, "ANEW", anew)
                gallery.backup(tmp_path / f"copy{number}")
        finally:
            child.kill()
            child.communicate()
    assert begun
    for name in ("alone", *(f"copy{number}" for number in range(2))):
        assert not examine(tmp_path / name).findings
        with Gallery.open(tmp_path / name) as copy, copy.reading() as state:
            assert state.settings.identities == 3000
            tagged = sum(1 for row in copy.identities() if row.tags) if name != "alone" else 0
            assert tagged <= 1
    assert not list(tmp_path.glob(".*partial*"))


def test_the_doctor_looks_through_a_large_gallery_while_others_write(tmp_path, monkeypatch):
    path, people = tmp_path / "p.gallery", unit(np.random.default_rng(0).normal(size=(300, 8)))
    with Gallery.create(path, dimension=8) as gallery:
        gallery.enroll_many_vectors([f"p{i}" for i in range(300)], people, conflicts="allow")
    small = examine(path)
    monkeypatch.setattr(sqlite, "_LARGE", 0)
    assert examine(path).findings == small.findings == ()
    child = writing_on(path)
    try:
        assert not examine(path).findings
    finally:
        child.kill()
        child.communicate()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE setting SET identities = 7")
    db.close()
    assert [f.what for f in examine(path).findings] == ["the number of identities is not that of those enrolled"]
    assert not list(tmp_path.glob(".*partial*"))


@pytest.mark.parametrize("fusion", ["best", "mean", "best-two"])
def test_also_who_is_nearest_to_a_stranger_is_exact(tmp_path, fusion, monkeypatch):
    """Near templates of identities that are far on average must not hide the one that is nearest."""
    monkeypatch.setattr(scan, "SCANNED", 10_000)
    monkeypatch.setattr(file_index, "FETCHED", 8)  # so few that the image alone often misses the nearest
    monkeypatch.setattr(file_index, "CLOSELY", 2)
    rng = np.random.default_rng(3)
    probes = unit(rng.normal(size=(12, 16)))
    names, rows = [], []
    for i in range(400):  # each has one sample near a probe, and one far away
        names += [f"split{i}"] * 2
        rows += [probes[i % 12] + 0.05 * rng.normal(size=16), rng.normal(size=16)]
    for i, probe in enumerate(probes):  # and both of these are somewhat farther than those near ones
        names += [f"steady{i}"] * 2
        rows += [probe + 0.12 * rng.normal(size=16), probe + 0.12 * rng.normal(size=16)]
    rows = unit(np.array(rows))
    with Gallery.create(tmp_path / "p.gallery", dimension=16) as gallery:
        gallery.enroll_many_vectors(names, rows, conflicts="allow")
        gallery.calibrate_vectors(fusion=fusion)
        gallery.rebuild_index()
        assert "coarse" in gallery.index_status().kind
        answers = gallery.identify_vectors(probes, threshold=1e-3)
        enrolled, true = gallery.distances(probes)
    for i, answer in enumerate(answers):
        assert answer.verdict == "unknown"
        assert answer.candidates[0].distance == pytest.approx(true[i].min(), abs=1e-5)
        if fusion == "mean":
            assert answer.candidates[0].identity == enrolled[int(true[i].argmin())] == f"steady{i}"


def test_to_look_at_a_gallery_gives_up_no_lock_that_this_process_has(file_gallery, angles, tmp_path):
    """A process that closes a file gives up its locks on it, also those of another connection."""
    path = file_gallery.path
    file_gallery.enroll_vectors(["ada"], angles(0))
    tries = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], timeout=0); db.execute('BEGIN IMMEDIATE')"

    def others_may_write():
        return not subprocess.run([sys.executable, "-c", tries, str(path)], capture_output=True).returncode

    assert others_may_write()
    with file_gallery._session.changing("test"):
        with Gallery.open(path) as again:  # from the first byte: is it a gallery?
            assert again.identities()[0].name == "ada"
            with pytest.raises(BadInput, match="the gallery itself"):
                again.backup(path)
        with pytest.raises(Unreadable, match="a gallery"):
            images.read(path)
        assert not others_may_write()
    assert others_may_write()


def test_a_cache_that_is_written_to_in_place_is_not_used(tmp_path):
    """The same size, other vectors: what was checked when it was opened is not what is mapped."""
    path, people = tmp_path / "p.gallery", unit(np.random.default_rng(0).normal(size=(5000, 8)))
    with Gallery.create(path, dimension=8) as gallery:
        gallery.enroll_many_vectors([f"p{i}" for i in range(5000)], people, conflicts="allow")
        gallery.rebuild_index()
    with Gallery.open(path) as gallery:
        assert gallery.identify_vectors(people[7:8], threshold=1e-3)[0].identity == "p7"
        (base,) = path.with_name("p.gallery.cache").glob("*.base")
        with base.open("r+b") as file:
            file.write(np.roll(people, 1, axis=0).tobytes())
        assert gallery.identify_vectors(people[7:8], threshold=1e-3)[0].identity == "p7"


def test_a_gallery_that_could_not_be_opened_anew_is_tried_again(file_gallery, angles, tmp_path):
    file_gallery.enroll_vectors(["ada"], angles(0))
    path = file_gallery.path
    good = path.rename(tmp_path / "good")
    path.write_bytes(b"garbage" * 100)
    for _ in range(2):
        with pytest.raises(Damaged):
            file_gallery.identities()
    good.replace(path)
    assert [row.name for row in file_gallery.identities()] == ["ada"]


def test_two_galleries_that_change_places_under_an_answer_say_so(tmp_path):
    """Logged answers are of the gallery that gave them, or an error says that it went."""
    people, failed, done = unit(np.random.default_rng(0).normal(size=(20, 8))), [], []
    paths = [tmp_path / "a.gallery", tmp_path / "b.gallery"]
    for number, path in enumerate(paths):
        with Gallery.create(path, dimension=8) as gallery:
            gallery.enroll_vectors([f"{number}-{i}" for i in range(20)], people, conflicts="allow")
            gallery.log(True)
    end = time.monotonic() + 2

    asked = Gallery.open(paths[0])

    def ask():
        with asked as gallery:
            while time.monotonic() < end:
                try:
                    done.append(gallery.identify_vectors(people[:1], threshold=0.1))
                except (Locked, Missing, Damaged):  # a journal of the other one may lie beside it for a moment
                    done.append(None)
                except BaseException as error:  # noqa: BLE001
                    failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while asking.is_alive():
        for one, other in ((paths[0], tmp_path / "c"), (paths[1], paths[0]), (tmp_path / "c", paths[1])):
            one.replace(other)
        time.sleep(0.003)
    asking.join()
    assert failed == [] and any(done)


def test_answers_are_waited_for_without_a_turn(file_gallery, angles):
    """Whoever fills what identify_many reads may use the gallery, too."""
    import queue

    file_gallery.enroll_vectors(["ada"], angles(0))
    waiting, found = queue.Queue(), []
    asked = threading.Thread(
        target=lambda: found.extend(file_gallery.identify_many(iter(waiting.get, None), threshold=0.1)), daemon=True
    )
    asked.start()
    time.sleep(0.2)
    assert [row.name for row in file_gallery.identities()] == ["ada"]
    waiting.put(pack(angles(0)[0]))
    waiting.put(None)
    asked.join(20)
    assert [answer.identity for answer in found] == ["ada"]
    coming = queue.Queue()
    enrolling = threading.Thread(target=lambda: file_gallery.enroll_many(iter(coming.get, None)), daemon=True)
    enrolling.start()
    time.sleep(0.2)
    assert [row.name for row in file_gallery.identities()] == ["ada"]
    coming.put(("bob", pack(angles(90)[0])))
    coming.put(None)
    enrolling.join(20)
    assert [row.name for row in file_gallery.identities()] == ["ada", "bob"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_fork_in_the_middle_of_a_call_is_told_so(tmp_path):
    script = (
        "import os, sys, threading, time, signal\n"
        "import numpy as np\n"
        "from siamese_index import BadInput, Gallery\n"
        "gallery = Gallery.create(sys.argv[1], dimension=8)\n"
        "gallery.enroll_vectors(['ada'], np.eye(8)[:1])\n"
        "def hold():\n"
        "    with gallery.reading(): time.sleep(1.5)\n"
        "thread = threading.Thread(target=hold); thread.start(); time.sleep(0.3)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    signal.alarm(10)\n"
        "    for work in (lambda: gallery.identities(), lambda: Gallery.open(sys.argv[1])):\n"
        "        try: work(); os._exit(1)\n"
        "        except BadInput: pass\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0; thread.join()\n"
        "child = os.fork()\n"  # nobody is in a call
        "if not child:\n"
        "    signal.alarm(10)\n"
        "    with Gallery.open(sys.argv[1]) as mine: os._exit(len(mine.identities()) - 1)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path / "p.gallery")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_nearest_of_an_unknown_is_exact_where_the_coarse_image_misses_it(tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "SCANNED", 10_000)
    monkeypatch.setattr(file_index, "FETCHED", 8)
    monkeypatch.setattr(file_index, "CLOSELY", 2)
    rng = np.random.default_rng(5)
    people, probes = unit(rng.normal(size=(6000, 64))), unit(rng.normal(size=(100, 64)))
    with Gallery.create(tmp_path / "p.gallery", dimension=64) as gallery:
        gallery.enroll_many_vectors([f"p{i}" for i in range(6000)], people, conflicts="allow")
        gallery.rebuild_index()
        assert "coarse" in gallery.index_status().kind
        answers = [gallery.identify_vectors(probe[None], threshold=0.1)[0] for probe in probes]
    true = np.linalg.norm(people[None].astype(np.float64) - probes[:, None], axis=2).argmin(axis=1)
    assert [answer.candidates[0].identity for answer in answers] == [f"p{i}" for i in true]
