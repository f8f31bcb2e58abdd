"""Large galleries are searched in a coarse image: never another verdict than by brute force, and said how sure."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from siamese_index import Gallery, files
from siamese_index.analysis.doctor import examine
from siamese_index.search import cache as base_module
from siamese_index.search import coarse, scan
from siamese_index.search.coarse import Coarse

COUNT, FAMILIES, DIMENSION = 6000, 60, 32


def crowd(count, seed=0, dimension=DIMENSION):
    """Vectors of look-alike families: neighbours are many, and near."""
    rng = np.random.default_rng(seed)
    centre = np.random.default_rng(99).normal(size=(FAMILIES, dimension))
    vectors = centre[rng.integers(FAMILIES, size=count)] + 0.35 * rng.normal(size=(count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(autouse=True)
def _large_from_a_few_kilobytes_on(monkeypatch):
    monkeypatch.setattr(scan, "SCANNED", 100_000)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    path = tmp_path_factory.mktemp("filled") / "large.gallery"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "SCANNED", 100_000)
        with Gallery.create(path, dimension=DIMENSION) as gallery:
            gallery.enroll_vectors([f"p{i}" for i in range(COUNT)], crowd(COUNT))
            gallery.calibrate_vectors(names=[f"s{i}" for i in range(400)], vectors=crowd(400, seed=1))
            gallery.rebuild_index()
    return path


@pytest.fixture
def large(filled, tmp_path):
    shutil.copy(filled, tmp_path / "large.gallery")
    shutil.copytree(files.cache_folder(filled), tmp_path / "large.gallery.cache")
    with Gallery.open(tmp_path / "large.gallery") as gallery:
        yield gallery


def verdicts(answers):
    return [(a.verdict, a.identity) for a in answers]


@pytest.mark.parametrize("shared", [0, 16_000_000])
@pytest.mark.parametrize("dimension", [2, 3, 31, 64, 600])
def test_nothing_within_the_radius_is_missing(dimension, shared, monkeypatch):
    monkeypatch.setattr(coarse, "_SHARED", shared)
    monkeypatch.setattr(coarse, "shares", lambda: 3)
    rows, probes = crowd(3000, dimension=dimension), crowd(50, seed=2, dimension=dimension)
    made = Coarse.made_of(rows)
    image = Coarse.from_parts(*made.parts(), len(rows), made.error, made.aside)
    assert all(np.array_equal(*both) for both in zip(made.parts(), image.parts(), strict=True))
    assert len(image.shards) == (1 if shared else 3)
    at, least, reach = image.search(probes, 100)
    true = np.linalg.norm(rows[None].astype(float) - probes[:, None].astype(float), axis=2)
    missed = true.copy()
    np.put_along_axis(missed, at, np.inf, axis=1)
    missed[:, image.aside] = np.inf
    assert np.all(missed.min(axis=1) >= reach)
    alone = [image.search(probe[None], 100) for probe in probes]  # by several threads at once
    assert np.array_equal(np.sort(np.concatenate([a[0] for a in alone])), np.sort(at))
    ours = np.take_along_axis(true, at, axis=1)
    ours[np.isin(at, image.aside)] = np.inf
    assert np.all(ours >= least)  # and nobody is nearer than said
    assert reach.max() > 0 or dimension == 2


def test_a_scan_that_is_shared_finds_what_one_thread_finds(monkeypatch):
    scan.loaded()
    rows, probes = crowd(3001), crowd(20, seed=2)
    few = np.random.default_rng(0).random(len(rows)) < 0.001
    monkeypatch.setattr(scan, "shares", lambda: 3)
    for only in (None, few):
        alone = [scan.nearest(rows, probe[None], 8, only) for probe in probes]
        monkeypatch.setattr(scan, "LARGE", 0)
        shared = [scan.nearest(rows, probe[None], 8, only) for probe in probes]
        monkeypatch.setattr(scan, "LARGE", 1 << 24)
        assert all(
            np.array_equal(a[0], s[0]) and np.array_equal(a[1], s[1]) for a, s in zip(alone, shared, strict=True)
        )
    assert (shared[0][0] < 0).any()  # there are fewer than asked for


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_scan_is_shared_also_after_a_fork():
    script = (
        "import os, signal, numpy as np; from siamese_index.search import scan\n"
        "scan.loaded(); scan.LARGE = 0; scan.shares = lambda: 2\n"
        "rows = np.eye(64, dtype=np.float32)\n"
        "assert scan.nearest(rows, rows[5:6], 1)[0][0, 0] == 5\n"
        "child = os.fork()\n"
        "signal.alarm(20)\n"
        "assert scan.nearest(rows, rows[7:8], 1)[0][0, 0] == 7\n"
        "if child: assert os.waitpid(child, 0)[1] == 0\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("last", "size"), [((1 << 31) - 1, 4), (1 << 31, 8)])
def test_ids_take_as_many_bytes_as_they_need(tmp_path, last, size):
    rows, ids = crowd(3), np.array([1, 2, last])
    base_module.write_base(tmp_path / "a.base", "t" * 64, (1, b"token"), DIMENSION, [(ids, ids[::-1], rows)])
    read = base_module.Base(tmp_path / "a.base")
    assert read.stamp.id_bytes == size
    assert read.ids.tolist() == ids.tolist() and read.owners.tolist() == ids[::-1].tolist()


def test_a_scan_goes_on_when_the_main_thread_has_ended():
    script = (
        "import threading, time, numpy as np; from siamese_index.search import scan\n"
        "scan.loaded(); scan.LARGE = 0; scan.shares = lambda: 2\n"
        "def serve():\n"
        "    time.sleep(0.5)\n"
        "    print(scan.nearest(np.eye(64, dtype=np.float32), np.eye(64, dtype=np.float32)[5:6], 1)[0][0, 0])\n"
        "threading.Thread(target=serve).start()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "5", done.stderr


def test_verdicts_are_those_of_an_exact_search(large):
    probes = np.concatenate([crowd(300, seed=3), crowd(COUNT)[::20]])
    quick, exact = large.identify_vectors(probes), large.identify_vectors(probes, exact=True)
    assert large._session._searcher[1].index.coarse
    assert verdicts(quick) == verdicts(exact)
    assert {a.verdict for a in quick} == {"match", "unknown"}
    assert [a.distance for a in quick if a.verdict == "match"] == [a.distance for a in exact if a.verdict == "match"]
    expected = np.linalg.norm(crowd(COUNT)[None].astype(float) - probes[:, None].astype(float), axis=2).min(axis=1)
    assert [a.distance for a in exact] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("fusion", ["mean", "best-two"])
def test_also_where_templates_are_fused(large, fusion):
    large.enroll_vectors([f"p{i}" for i in range(0, 600, 2)], crowd(300, seed=4), conflicts="allow")
    large.calibrate_vectors(fusion=fusion)
    probes = crowd(200, seed=5)
    assert verdicts(large.identify_vectors(probes)) == verdicts(large.identify_vectors(probes, exact=True))


def test_a_threshold_among_the_crowd_is_decided_exactly(large):
    probes = crowd(100, seed=6)
    for tau in np.linspace(0.2, 1.2, 6):
        quick = large.identify_vectors(probes, threshold=float(tau))
        assert verdicts(quick) == verdicts(large.identify_vectors(probes, threshold=float(tau), exact=True))


def test_removed_is_never_found_and_enrolled_at_once(large):
    probe = crowd(COUNT)[:1]
    assert large.identify_vectors(probe, threshold=0.01)[0].identity == "p0"
    large.remove("p0")
    assert large.identify_vectors(probe, threshold=0.01)[0].identity is None
    large.enroll_vectors(["again"], probe, conflicts="allow")
    assert large.identify_vectors(probe, threshold=0.01)[0].identity == "again"


def test_strangers_searches_are_exact_at_any_size(large):
    large.enroll_vectors(["late"], crowd(1, seed=7), conflicts="allow")
    assert [f.what for f in examine(large.path).findings] == []


def test_status_says_how_sure_it_is(large):
    status = large.index_status()
    assert status.kind.startswith("coarse") and status.templates == status.in_base == COUNT and status.in_tail == 0
    assert status.searches > 200 and status.identity_hit > 0.95
    assert status.memory_bytes < status.file_bytes / 4


@pytest.mark.parametrize("position", np.linspace(0, 0.999999, 17))
def test_any_flipped_byte_is_noticed_before_it_is_believed(large, position):
    file = next(files.cache_folder(large.path).glob("*.base"))
    content = bytearray(file.read_bytes())
    content[int(position * len(content))] ^= 4
    file.write_bytes(content)
    probes = crowd(COUNT)[:: COUNT // 100]
    answers = large.identify_vectors(probes, threshold=1e-3)
    assert [a.identity for a in answers] == [f"p{i}" for i in range(0, COUNT, COUNT // 100)]


def test_a_torn_cache_that_cannot_be_deleted_is_done_without(large, monkeypatch):
    file = next(files.cache_folder(large.path).glob("*.base"))
    content = bytearray(file.read_bytes())
    content[4 * DIMENSION * 20] ^= 4
    file.write_bytes(content)
    monkeypatch.setattr(type(file), "unlink", lambda self, missing_ok=False: (_ for _ in ()).throw(PermissionError()))
    probes = crowd(COUNT)[10:30]
    assert [a.identity for a in large.identify_vectors(probes, threshold=1e-3)] == [f"p{i}" for i in range(10, 30)]
    index = large._session._searcher[1].index
    assert index._in_base == 0 and len(index._tail) == COUNT


def test_parts_of_an_image_that_do_not_fit_are_refused():
    rows = crowd(3000)
    image = Coarse.made_of(rows)
    centroids, codes = image.parts()
    for wrong in ((centroids, codes[:-32], 3000, image.aside), (centroids, codes, 6000, image.aside),
                  (centroids, codes, 3000, np.array([3000]))):  # fmt: skip
        with pytest.raises(ValueError, match="do not fit"):
            Coarse.from_parts(*wrong[:3], image.error, wrong[3])


def test_only_the_pages_that_are_looked_at_are_checked(large, monkeypatch):
    monkeypatch.setattr(base_module, "_MANY", 0)  # so few that each is checked by itself
    large.identify_vectors(crowd(1), threshold=0.01)
    base = large._session._searcher[1].index._base
    assert 0 < base._checked.sum() < len(base._checked)


def test_a_large_base_is_rebuilt_beside_the_searches(large):
    """The process of its own knows the real size of a scan, so its base has no image: that it is taken over is the point."""
    more = crowd(5000, seed=8)
    large.enroll_vectors([f"m{i}" for i in range(5000)], more, conflicts="allow")
    index = large._session._searcher[1].index
    assert large.identify_vectors(more[:1], threshold=0.01)[0].identity == "m0"  # starts it
    process = index._rebuilding
    assert process is not None
    assert process.wait(60) == 0
    assert large.identify_vectors(more[1:2], threshold=0.01)[0].identity == "m1"
    assert index._in_base == COUNT + 5000 and len(index._tail) == 0


def test_two_processes_do_not_rebuild_at_once(large):
    from filelock import FileLock

    folder = files.cache_folder(large.path)
    before = next(folder.glob("*.base")).stat().st_ino
    with FileLock(folder / "rebuild.lock"):
        subprocess.run([sys.executable, "-m", "siamese_index.rebuild", str(large.path)], check=True, timeout=60)
    assert next(folder.glob("*.base")).stat().st_ino == before
    subprocess.run([sys.executable, "-m", "siamese_index.rebuild", str(large.path)], check=True, timeout=60)
    assert next(folder.glob("*.base")).stat().st_ino != before


def test_a_gallery_that_is_gone_is_not_rebuilt(tmp_path):
    done = subprocess.run([sys.executable, "-m", "siamese_index.rebuild", str(tmp_path / "gone" / "a.gallery")])
    assert done.returncode == 0 and list(tmp_path.iterdir()) == []


def test_the_scan_is_the_same_with_and_without_faiss():
    """In a process of its own: there FAISS is not imported yet."""
    program = (
        "import sys, numpy as np; from siamese_index.search import scan; rng = np.random.default_rng(0);"
        "x = rng.normal(size=(2000, 24)); x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32);"
        "only = rng.random(2000) < 0.01; plain = [scan.nearest(x, x[:9], 7, mask)[0] for mask in (None, only)];"
        "assert 'faiss' not in sys.modules; scan.loaded();"
        "quick = [scan.nearest(x, x[:9], 7, mask)[0] for mask in (None, only)];"
        "assert all(np.array_equal(a, b) for a, b in zip(plain, quick)), (plain, quick)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_one_matrix_product_answers_a_batch():
    """The knob of FAISS that this needs is there, and set."""
    faiss = scan.loaded()
    assert faiss.cvar.distance_compute_blas_threshold == 1024
    rows, probes = crowd(20_000, dimension=128), crowd(64, seed=1, dimension=128)

    ours, _ = scan.nearest(rows, probes, 10)
    try:
        faiss.omp_set_num_threads(1)
        with pytest.MonkeyPatch.context() as patch:  # `scan` sets the knob itself: one probe at a time goes round it
            patch.setattr(scan, "loaded", lambda _probes=1: faiss)
            faiss.cvar.distance_compute_blas_threshold = 10**9
            plain, _ = scan.nearest(rows, probes, 10)
    finally:
        faiss.cvar.distance_compute_blas_threshold = 1024
    assert np.array_equal(ours, plain)
