"""What is different on Windows, as far as that can be seen elsewhere: it was not run there."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from siamese_index import Gallery, files
from siamese_index.search import file_index
from siamese_index.vectors import unit

PEOPLE = unit(np.random.default_rng(0).normal(size=(300, 8)))


@pytest.fixture
def windows(monkeypatch):
    """Signals, places in files, and the replacing of what is mapped, as Windows has them."""
    monkeypatch.setattr(files, "WINDOWS", True)
    monkeypatch.delattr(os, "pread")
    monkeypatch.delattr(os, "pwrite")
    monkeypatch.delattr(os, "nice")
    replace = Path.replace

    def refuse_mapped(self, target):
        if str(target) in Path("/proc/self/maps").read_text():
            raise PermissionError(13, "The process cannot access the file", str(target))
        return replace(self, target)

    kill = os.kill

    def no_signals(pid, number):
        if not sys._getframe(1).f_globals["__name__"].startswith("psutil"):  # which does so elsewhere only
            raise AssertionError("on Windows this is Ctrl-C")
        kill(pid, number)

    monkeypatch.setattr(Path, "replace", refuse_mapped)
    monkeypatch.setattr(os, "kill", no_signals)


def test_processes_are_known_without_a_signal(windows):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert files.alive(os.getpid()) and not files.alive(child.pid)


def test_bytes_are_read_from_a_place(windows, tmp_path):
    (tmp_path / "a").write_bytes(b"0123\r\n6789")
    opened = files.to_read(tmp_path / "a")
    assert [files.read_at(opened, 4, at) for at in (6, 0, 8)] == [b"6789", b"0123", b"89"]
    os.close(opened)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what is mapped cannot be seen here")
def test_a_cache_that_is_mapped_is_written_anew_all_the_same(windows, tmp_path, monkeypatch):
    monkeypatch.setattr(file_index, "BASE_MINIMUM", 20)
    path = tmp_path / "p.gallery"
    with Gallery.create(path, dimension=8) as gallery, Gallery.open(path) as other:
        for count in (100, 200, 300):
            new = slice(count - 100, count)
            gallery.enroll_vectors([f"p{i}" for i in range(300)[new]], PEOPLE[new], conflicts="allow")
            for asked in (gallery, other):
                assert asked.identify_vectors(PEOPLE[count - 1 :][:1], threshold=1e-3)[0].identity == f"p{count - 1}"
                assert asked.index_status().in_base == count
        assert len(list(files.cache_folder(path).glob("*.base"))) == 2
        gallery.backup(tmp_path / "copy")
        gallery.remove("p7")
    Gallery.restore(tmp_path / "copy", path, replace=True)
    with Gallery.open(path) as gallery:
        assert gallery.identify_vectors(PEOPLE[7:8], threshold=1e-3)[0].identity == "p7"
