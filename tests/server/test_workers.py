"""A service of several processes: whoever wrote by one reads it by another, in files and on a server."""

import contextlib
import os
import signal
import time

import httpx
import psutil

from siamese_index import Gallery
from siamese_index.samples import images
from siamese_index.training.glyphs import glyph
from tests.server.live import serving

API = "/api/v1"


def workers(service):
    """Return the processes that answer: those that have the gallery's network open, and a socket."""
    for _ in range(300):
        ready = [each for each in psutil.Process(service.run.pid).children() if each.num_threads() > 3]
        if len(ready) == 2 and httpx.get(f"{service.base_url}/readyz").is_success:
            return ready
        time.sleep(0.1)
    raise AssertionError("two workers were not ready")


@contextlib.contextmanager
def stopped(process):
    """Stop a process for a moment: the other one answers."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def test_what_one_process_wrote_another_reads(place, tower_path):
    with Gallery.create(place, tower_path, fpir=0.1) as gallery:
        gallery.enroll_many([(f"g{n}", images.encode(glyph(300 + n, hand))) for n in range(6) for hand in range(2)])
        gallery.calibrate(strangers_given=[(f"s{n}", images.encode(glyph(400 + n, 0))) for n in range(20)])
    picture = {"file": ("p.png", images.encode(glyph(350, 0)))}
    with serving(place, "--workers", "2") as service:
        one, two = workers(service)
        url = f"{service.base_url}{API}"
        for n, (writer, reader) in enumerate([(one, two), (two, one)] * 4):
            name = f"new {n}"
            with stopped(reader):
                made = httpx.post(f"{url}/samples?identity={name}&conflict=true", files=picture)
                assert made.status_code == 201
            with stopped(writer):
                known = httpx.get(f"{url}/identities/{name}")
                assert known.status_code == 200 and known.json()["samples"] == 1
                answer = httpx.post(f"{url}/identifications", files=picture).json()["answers"][0]
                assert answer["identity"] == name
                assert httpx.delete(f"{url}/identities/{name}").json() == {"count": 1}
            with stopped(reader):
                assert httpx.get(f"{url}/identities/{name}").status_code == 404
        counted = httpx.get(f"{service.base_url}/metrics").text  # of both
        assert 'sidx_answers_total{verdict="match"} 8.0' in counted
        assert httpx.post(f"{url}/trainings", json={}).status_code == 501


def test_a_process_that_dies_is_replaced_and_a_killed_service_leaves_none(tower_path, tmp_path):
    Gallery.create(tmp_path / "g.gallery", tower_path).close()
    with serving(tmp_path / "g.gallery", "--workers", "2", ended=True) as service:
        one, two = workers(service)
        one.kill()
        one.wait()
        assert one.pid not in [each.pid for each in workers(service)]
        left = workers(service)
        service.run.kill()
        service.run.wait()
        gone, alive = psutil.wait_procs(left, timeout=20)
        assert alive == [] and len(gone) == 2


def test_compreface_takes_one_process(sidx, tower_path, tmp_path):
    Gallery.create(tmp_path / "g.gallery", tower_path).close()
    done = sidx("serve", "--workers", "2", "--compat", "compreface", "-g", "g.gallery")
    assert done.returncode == 2 and "exclude each other" in done.stderr
    for wrong, code in (("-g", "missing.gallery"), 4), (("-g", "g.gallery", "--mqtt", "mqtt://u:secret@:1/x"), 2):
        done = sidx("serve", "--workers", "2", *wrong)
        assert done.returncode == code and "Listening" not in done.stderr
        assert "Traceback" not in done.stderr and "secret" not in done.stderr
