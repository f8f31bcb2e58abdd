"""Embedding on a Dask cluster of real processes: the same gallery as without, also when a worker is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from siamese_index import BadInput, Gallery, Missing
from siamese_index.samples import images
from siamese_index.samples.sources import items
from siamese_index.towers import workers
from siamese_index.training.glyphs import glyph


class Cluster:
    """A scheduler and two workers, each a process."""

    def __init__(self, folder):
        self.file, self.folder, self.home = folder / "scheduler.json", folder, folder / "home"
        self.home.mkdir()
        self._start("scheduler", "--port", "0", "--no-dashboard")
        for _ in range(600):
            if self.file.exists():
                break
            time.sleep(0.05)
        self.workers = [self.add() for _ in range(2)]

    @property
    def address(self):
        import json

        return json.loads(self.file.read_text())["address"]

    def add(self):
        return self._start("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard")

    def _start(self, kind, *options):
        command = [Path(sys.executable).with_name("dask"), kind, "--scheduler-file", str(self.file), *options]
        with (self.folder / f"{kind}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "HOME": str(self.home)},
            )
        self.processes = [*getattr(self, "processes", []), process]
        return process

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path)
    yield made
    made.close()
    assert list(made.home.rglob("*")) == []  # neither Dask nor ONNX Runtime left something there


def content(gallery):
    """(identity, digest, vector) of everything, however it came in."""
    with gallery._session.store.reading():
        row = gallery._session.active()
        rows = [
            (s.identity, s.digest, gallery._session.store.templates.vector(row.id, row.dimension, s.id))
            for s in gallery.samples()
        ]
    return sorted(((name, digest, vector.tobytes()) for name, digest, vector in rows), key=lambda r: r[:2])


def pictures(count):
    return [(f"glyph {n}", images.encode(glyph(1000 + n, 0))) for n in range(count)]


def test_workers_give_the_gallery_that_one_machine_gives(cluster, gallery, tower_file, tmp_path, world):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    many = [*items(world / "people"), ("nobody", tmp_path / "bad.png")]
    with Gallery.create(tmp_path / "other.gallery", tower_file) as other:
        here, there = gallery.enroll_many(many), other.enroll_many(many, dask=cluster.address)
        assert [r.source for r in here.refused] == [r.source for r in there.refused]
        assert (here.enrolled, here.already) == (there.enrolled, there.already)
        assert [row[:2] for row in content(gallery)] == [row[:2] for row in content(other)]
        ours, theirs = (np.array([np.frombuffer(row[2], np.float32) for row in content(g)]) for g in (gallery, other))
        assert np.abs(ours - theirs).max() < 1e-5  # batches of another size round otherwise
        again = other.enroll_many(many, dask=cluster.address)
        assert not again.enrolled and len(again.already) == len(here.enrolled)


def test_a_worker_that_is_killed_changes_nothing(cluster, gallery):
    many, told = pictures(900), []

    def tick(more):
        told.append(more)
        if len(told) == 100:
            cluster.workers[0].send_signal(signal.SIGKILL)

    done = gallery.enroll_many(many, tick, dask=cluster.address)
    assert cluster.workers[0].wait(10) == -signal.SIGKILL
    assert len(done.enrolled) == 900 and not done.refused
    assert len({row[1] for row in content(gallery)}) == len(gallery.samples()) == 900


def test_without_workers_it_waits_and_then_says_so(cluster, gallery, monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 3.0)
    killed = threading.Event()

    def tick(more):
        if not killed.is_set():
            killed.set()
            for worker in cluster.workers:
                worker.kill()

    with pytest.raises(Missing, match="no workers|workers failed"):
        gallery.enroll_many(pictures(600), tick, dask=cluster.address)
    cluster.add()
    assert len(gallery.enroll_many(pictures(600), dask=cluster.address).enrolled) + len(gallery.identities()) >= 600
    assert len(gallery.samples()) == 600


def test_nobody_at_the_address_is_said(gallery, sidx, monkeypatch):
    with pytest.raises(Missing, match="no Dask scheduler"):
        gallery.enroll_many(pictures(2), dask="tcp://127.0.0.1:1")
    done = sidx("enroll", "ada", "ada.png", "--dask", "tcp://127.0.0.1:1", "-g", gallery.path)
    assert done.returncode == 2 and "--from" in done.stderr


def test_a_worker_of_another_version_is_refused(cluster, gallery, monkeypatch):
    monkeypatch.setattr(workers, "__version__", "99.0")
    with pytest.raises(BadInput, match=r"99\.0"):
        gallery.enroll_many(pictures(2), dask=cluster.address)
    assert gallery.identities() == []
