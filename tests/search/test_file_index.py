"""The cache is never trusted: exact answers with it, without it, and with every kind of wrong one."""

import os
import shutil
import stat

import numpy as np
import pytest

from siamese_index import Gallery, files
from siamese_index.analysis.doctor import examine, fix
from siamese_index.search import file_index

COUNT, DIMENSION = 5000, 16  # above BASE_MINIMUM: this gallery has a cache


@pytest.fixture(scope="module")
def cloud() -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(COUNT + 200, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def filled(tmp_path_factory, cloud):
    path = tmp_path_factory.mktemp("filled") / "big.gallery"
    with Gallery.create(path, dimension=DIMENSION) as gallery:
        gallery.enroll_vectors([f"p{i}" for i in range(COUNT)], cloud[:COUNT])
        gallery.identify_vectors(cloud[:1], threshold=1)
    return path


@pytest.fixture
def big(filled, tmp_path):
    """A gallery of 5,000 vectors with its cache, free to be damaged."""
    shutil.copy(filled, tmp_path / "big.gallery")
    shutil.copytree(files.cache_folder(filled), tmp_path / "big.gallery.cache")
    with Gallery.open(tmp_path / "big.gallery") as gallery:
        yield gallery


def cache_file(gallery):
    return next(files.cache_folder(gallery.path).glob("*.base"))


def names_and_distances(gallery, probes, k=5):
    answers = gallery.identify_vectors(probes, k=k, threshold=2)
    return [[c.identity for c in a.candidates] for a in answers], np.array(
        [[c.distance for c in a.candidates] for a in answers]
    )


def brute_force(cloud, enrolled, probes, k=5):
    """Five lines of numpy that everything else must agree with."""
    distance = np.linalg.norm(cloud[None, enrolled].astype(float) - probes[:, None].astype(float), axis=2)
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return [[f"p{enrolled[i]}" for i in row] for row in order], np.take_along_axis(distance, order, axis=1)


def assert_exact(gallery, cloud, enrolled):
    probes = cloud[COUNT + 100 :]
    names, distance = names_and_distances(gallery, probes)
    expected_names, expected = brute_force(cloud, np.array(enrolled), probes)
    assert names == expected_names
    assert distance == pytest.approx(expected, abs=1e-6)


def test_base_and_tail_together_answer_as_brute_force(big, cloud):
    assert_exact(big, cloud, range(COUNT))
    big.enroll_vectors([f"p{i}" for i in range(COUNT, COUNT + 100)], cloud[COUNT : COUNT + 100])
    assert_exact(big, cloud, range(COUNT + 100))
    assert big._session._searcher[1].index._in_base == COUNT
    assert big._session._searcher[1].index._tail._count == 100


def test_removed_identities_in_the_base_leave_room_for_the_next(big, cloud):
    probes = cloud[COUNT + 100 : COUNT + 110]
    for name in {n for row in names_and_distances(big, probes, k=20)[0] for n in row}:
        big.remove(name)
    left = [int(row.name[1:]) for row in big.identities()]
    assert_exact(big, cloud, sorted(left))


def test_one_probe_and_a_batch_get_the_same_distances(big, cloud):
    probes = cloud[COUNT:]
    together = names_and_distances(big, probes)
    alone = [names_and_distances(big, probe[None]) for probe in probes]
    assert together[0] == [names[0] for names, _ in alone]
    assert np.array_equal(together[1], np.concatenate([d for _, d in alone]))


def test_the_base_is_memory_mapped_and_for_its_owner_only(big, cloud):
    names_and_distances(big, cloud[:1])
    with open("/proc/self/maps") as maps:
        assert str(cache_file(big)) in maps.read()
    assert stat.S_IMODE(cache_file(big).stat().st_mode) == 0o600
    assert stat.S_IMODE(cache_file(big).parent.stat().st_mode) == 0o700


def test_enrolling_does_not_touch_the_cache(big, cloud):
    before = cache_file(big).stat()
    big.enroll_vectors(["new"], cloud[COUNT : COUNT + 1])
    assert names_and_distances(big, cloud[COUNT : COUNT + 1])[0][0][0] == "new"
    after = cache_file(big).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_base_is_rebuilt_when_the_tail_has_grown(big, cloud):
    extra = np.random.default_rng(1).normal(size=(file_index.BASE_MINIMUM + 1, DIMENSION))
    big.enroll_vectors([f"x{i}" for i in range(len(extra))], extra)
    names_and_distances(big, cloud[:1])
    assert big._session._searcher[1].index._in_base == COUNT + len(extra)
    assert big._session._searcher[1].index._tail._count == 0


@pytest.mark.parametrize("position", np.linspace(0, 0.999999, 23))
def test_any_flipped_byte_of_the_cache_is_noticed(big, cloud, position):
    content = bytearray(cache_file(big).read_bytes())
    content[int(position * len(content))] ^= 4
    cache_file(big).write_bytes(content)
    assert [f.fixable for f in examine(big.path).findings if f.what.startswith("cache")] == [True]
    assert_exact(big, cloud, range(COUNT))


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_torn_cache_is_noticed(big, cloud, share):
    content = cache_file(big).read_bytes()
    cache_file(big).write_bytes(content[: int(share * len(content))])
    assert_exact(big, cloud, range(COUNT))


def test_a_whole_cache_of_another_gallery_is_noticed(big, cloud, tmp_path):
    with Gallery.create(tmp_path / "other.gallery", dimension=DIMENSION) as other:
        other.enroll_vectors([f"p{i}" for i in range(COUNT)], -cloud[:COUNT])
        names_and_distances(other, cloud[:1])
        shutil.copy(cache_file(other), cache_file(big))
    assert_exact(big, cloud, range(COUNT))


def test_a_cache_from_a_future_that_was_rolled_back_is_noticed(big, cloud, tmp_path):
    big.backup(tmp_path / "before")
    extra = np.random.default_rng(1).normal(size=(6000, DIMENSION))
    big.enroll_vectors([f"x{i}" for i in range(6000)], extra)
    names_and_distances(big, cloud[:1])  # the base now holds the 6,000
    big.close()
    shutil.copy(tmp_path / "before", big.path)
    with Gallery.open(big.path) as again:
        again.enroll_vectors([f"y{i}" for i in range(6000)], -extra)  # same ids, other vectors
        assert names_and_distances(again, extra[:50])[0] != [[f"x{i}"] for i in range(50)]
        found = names_and_distances(again, -extra[:50], k=1)[0]
        assert found == [[f"y{i}"] for i in range(50)]


def test_a_missing_cache_is_rebuilt(big, cloud):
    files.drop_cache(big.path)
    assert_exact(big, cloud, range(COUNT))
    assert cache_file(big).exists()


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root writes everywhere")
def test_a_cache_that_cannot_be_written_is_done_without(big, cloud):
    files.drop_cache(big.path)
    files.cache_folder(big.path).write_text("a file where the folder should be")
    assert_exact(big, cloud, range(COUNT))


def test_leftovers_of_killed_writes_are_found_and_swept(big, cloud):
    dead = 2**22 + 1  # no process has this number
    beside = big.path.with_name(f".{big.path.name}.{dead}.partial")
    in_cache = cache_file(big).with_name(f".{cache_file(big).name}.{dead}.partial")
    for path in (beside, in_cache):
        path.write_bytes(b"vectors of somebody")
    assert sum("left behind" in f.what for f in examine(big.path).findings) == 2
    beside.write_bytes(b"vectors of somebody")
    fix(big.path)
    assert not beside.exists() and not in_cache.exists()
    in_cache.parent.mkdir(exist_ok=True)
    beside.write_bytes(b"vectors of somebody")
    with Gallery.open(big.path) as opened:
        names_and_distances(opened, cloud[:1])
    assert not beside.exists()
