"""From ten thousand to a million: each row is us and the bare thing, or a peer, in turns in one run.

    make bench        (python -m benchmarks.speed [--json FILE])

Vectors are clustered: identities in look-alike families, in 24 latent dimensions, mapped to 128; samples of an
identity are about 0.35 apart and strangers' nearest about 0.55. Embeddings of a million real pictures do not exist here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from siamese_index import Gallery
from siamese_index.search import coarse, scan
from siamese_index.store.sqlite import creating

from .crowd import DIMENSION, MILLION, Crowd, Vectors
from .peers import kinds, peers
from .rows import in_turns, note, ratio, row, timed

SYNC = 2  # milliseconds: what a disk for consumers takes to make a write durable


def measure(home: Path) -> list[dict[str, Any]]:
    """Return the rows of everything that concerns size."""
    note("a million vectors …")
    crowd = Crowd(MILLION)
    strangers = crowd.strangers(400)
    rows = [*one_by_one(home, crowd), *bulk(home, crowd)]
    path = home / "million.gallery"
    with Gallery.open(path) as gallery:
        gallery.calibrate_vectors(names=[f"s{i}" for i in range(len(strangers))], vectors=strangers)
        rows += lost_cache(gallery)
        gallery.rebuild_index()
    rows += opening(path, crowd)
    with Gallery.open(path) as gallery:
        rows += [*one_probe(gallery, crowd), *verdicts(gallery, crowd), *removal(gallery, crowd)]
    return [*rows, *growth(home, crowd), *kinds(crowd), *peers(home)]


# -- enrolling --------------------------------------------------------------------------------------


def one_by_one(home: Path, crowd: Crowd) -> list[dict[str, Any]]:
    """One vector per durable call, and a hundred: against bare sqlite3, with the same tables and durability."""
    note("enrolling one by one …")
    what = "enrolling {} per durable call: rate / bare sqlite3, same tables"
    one, hundred = each_call(home, crowd.vectors, 1, 150), each_call(home, crowd.vectors, 100, 40)
    rows = [ratio(what.format("one vector"), *one, ">= 0.9"), ratio(what.format("100 vectors"), *hundred, ">= 0.7")]
    if shutil.which("strace"):
        slow = ["strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fdatasync,fsync",
                "-e", f"inject=fdatasync,fsync:delay_exit={SYNC * 1000}"]  # fmt: skip
        call = [sys.executable, "-m", "benchmarks.sizes", "each", str(home)]
        done = subprocess.run([*slow, *call], capture_output=True, text=True, check=True)
        one, hundred = json.loads(done.stdout)
        what += f", where a sync takes {SYNC} ms"
        rows += [
            ratio(what.format("one vector"), *one, ">= 0.9"),
            ratio(what.format("100 vectors"), *hundred, ">= 0.7"),
        ]
    return rows


def each_call(home: Path, vectors: Vectors, size: int, turns: int) -> tuple[list[float], list[float]]:
    """Return the times of bare inserts of so many vectors, and of ours, in turns."""
    place = Path(tempfile.mkdtemp(dir=home))
    with Gallery.create(place / "ours.gallery", dimension=DIMENSION) as gallery:
        bare = bare_tables(place / "bare.gallery")
        gallery.enroll_vectors(["first"], vectors[-1:])
        ours, theirs = [], []
        for first in range(0, turns * size, size):
            names, part = [f"p{i}" for i in range(first, first + size)], vectors[first : first + size]
            ours.append(timed(lambda n=names, v=part: gallery.enroll_vectors(n, v, conflicts="allow")))
            theirs.append(timed(lambda f=first, n=names, v=part: bare_insert(bare, f, n, v)))
        bare.close()
    shutil.rmtree(place)
    return theirs, ours


def bulk(home: Path, crowd: Crowd) -> list[dict[str, Any]]:
    """A million in one resumable call, against executemany into the same tables, and into a single one."""
    note("a million in bulk …")
    names = [f"p{i}" for i in range(MILLION)]
    with Gallery.create(home / "million.gallery", dimension=DIMENSION) as gallery:
        ours = timed(lambda: gallery.enroll_many_vectors(names, crowd.vectors))
    step = 65_536
    bare = bare_tables(home / "bare.gallery")
    same = sum(
        timed(lambda f=f: bare_insert(bare, f, names[f : f + step], crowd.vectors[f : f + step]))
        for f in range(0, MILLION, step)
    )
    bare.close()
    with sqlite3.connect(home / "one.sqlite", isolation_level=None) as db:
        db.execute("PRAGMA journal_mode = TRUNCATE")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, vector BLOB)")

        def insert() -> None:
            for first in range(0, MILLION, step):
                part = slice(first, first + step)
                db.execute("BEGIN")
                pairs = enumerate(zip(names[part], crowd.vectors[part], strict=True), first)
                db.executemany("INSERT INTO t VALUES (?, ?, ?)", ((i, n, v.tobytes()) for i, (n, v) in pairs))
                db.execute("COMMIT")

        single = timed(insert)
    for left in ("bare.gallery", "one.sqlite"):
        (home / left).unlink()
    return [
        row("enrolling 1,000,000 vectors in bulk / bare executemany, same tables", ours / same, "<= 1.5"),
        row("the same / bare executemany into one table without indexes", ours / single, None),
    ]


def bare_tables(path: Path) -> sqlite3.Connection:
    """An empty gallery's tables, without us."""
    with creating(path) as database:
        database.execute("INSERT INTO event (verb, detail) VALUES ('bare', '{}')")
        database.execute(
            "INSERT INTO tower (sha256, dimension, added, card, false_matches) VALUES ('bare', ?, 1, '{}', x'')",
            (DIMENSION,),
        )
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = TRUNCATE", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
        db.execute(f"PRAGMA {pragma}")
    return db


def bare_insert(db: sqlite3.Connection, first: int, names: Sequence[str], vectors: Vectors) -> None:
    rows = [(first + i + 1, n, v.tobytes()) for i, (n, v) in enumerate(zip(names, vectors, strict=True))]
    db.execute("BEGIN IMMEDIATE")
    db.executemany("INSERT INTO identity (id, name, enrolled) VALUES (?, ?, 1)", ((i, n) for i, n, _ in rows))
    db.executemany(
        "INSERT INTO sample (id, identity_id, digest, source, enrolled) VALUES (?, ?, ?, ?, 1)",
        ((i, i, hashlib.sha256(v).digest(), n) for i, n, v in rows),
    )
    db.executemany(
        "INSERT INTO template (id, tower_id, sample_id, identity_id, vector) VALUES (?, 1, ?, ?, ?)",
        ((i, i, i, v) for i, _, v in rows),
    )
    db.execute("COMMIT")


# -- opening ----------------------------------------------------------------------------------------


def lost_cache(gallery: Gallery) -> list[dict[str, Any]]:
    """The first answer when the cache is gone, against reading all vectors from SQLite."""
    note("a lost cache …")
    shutil.rmtree(gallery.path.with_name(f"{gallery.path.name}.cache"), ignore_errors=True)
    probe = np.ones((1, DIMENSION), np.float32)
    ours, theirs = [], []
    for _ in range(3):
        with Gallery.open(gallery.path) as again:
            ours.append(timed(lambda: again.identify_vectors(probe, threshold=0.1)))
            process = again._session._searcher[1].index._rebuilding
            if process:  # it would disturb what comes next
                process.kill()
                process.wait()
        with sqlite3.connect(gallery.path) as db:
            theirs.append(timed(lambda: read(db)))
    return [ratio("first answer without a cache, 1,000,000 / reading the vectors from SQLite", ours, theirs, "<= 2")]


def read(db: sqlite3.Connection) -> Vectors:
    blobs = [r[0] for r in db.execute("SELECT vector FROM template ORDER BY id")]
    return np.frombuffer(b"".join(blobs), np.float32).reshape(-1, DIMENSION)


OURS = """
import concurrent.futures.thread, sys, time, numpy as np
from siamese_index import Gallery
from siamese_index.search import coarse, identities, scan
from siamese_index.thresholds import impostor_searches
scan.loaded()
probe = np.load(sys.argv[2])
resident = lambda what='VmRSS': int(open('/proc/self/status').read().split(what + ':')[1].split()[0]) * 1024
before = resident()
begin = time.perf_counter()
gallery = Gallery.open(sys.argv[1])
gallery.identify_vectors(probe[:1])
first = time.perf_counter() - begin
for i in range(200): gallery.identify_vectors(probe[i : i + 1])
print(first, resident(), resident() - before, resident('RssAnon'))
"""
THEIRS = """
import sys, time, numpy as np, faiss
probe = np.load(sys.argv[2])
begin = time.perf_counter()
index = faiss.read_index(sys.argv[1], faiss.IO_FLAG_MMAP_IFC)
faiss.omp_set_num_threads(1)
index.search(probe[:1], 10)
print(time.perf_counter() - begin)
"""


def opening(path: Path, crowd: Crowd) -> list[dict[str, Any]]:
    """Open and answer in a new process, imports not counted, against a mapped FAISS index and one search."""
    note("opening …")
    np.save(path.with_name("probes.npy"), crowd.mated(200)[0])
    flat = faiss.IndexFlatL2(DIMENSION)
    flat.add(crowd.vectors)
    faiss.write_index(flat, str(path.with_name("flat.faiss")))
    del flat
    ours, theirs, resident = [], [], []
    for turn in range(8):
        first, *memory = new_process(OURS, path)
        other = new_process(THEIRS, path.with_name("flat.faiss"))[0]
        if turn:  # the first warms the disk cache
            ours.append(first)
            theirs.append(other)
            resident.append(memory)
    path.with_name("flat.faiss").unlink()
    vectors = [4 * DIMENSION * MILLION] * len(resident)
    whole, added, anonymous = zip(*resident, strict=True)
    memory_of = "resident memory after 200 probes, 1,000,000 x 128{} / the vectors"
    return [
        ratio("open 1,000,000 and answer one probe / mapped FAISS index and one search", ours, theirs, "<= 1.5"),
        ratio(memory_of.format(": what the gallery adds to the process"), added, vectors, "<= 1.1"),
        ratio(memory_of.format(": the whole process"), whole, vectors, None),
        ratio(memory_of.format(": without mapped pages"), anonymous, vectors, None),
    ]


def new_process(program: str, path: Path) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), str(path.with_name("probes.npy"))],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [float(word) for word in done.stdout.split()]


# -- searching --------------------------------------------------------------------------------------


def unshared(image: coarse.Coarse) -> coarse.Coarse:
    """The same image as one FAISS index, which one thread searches."""
    before, coarse._SHARED = coarse._SHARED, 1 << 60
    centroids, codes = image.parts()
    one = coarse.Coarse.from_parts(centroids, codes, sum(s.ntotal for s in image.shards), image.error, image.aside)
    coarse._SHARED = before
    return one


def one_probe(gallery: Gallery, crowd: Crowd) -> list[dict[str, Any]]:
    """One probe at a time, the default way and exactly, against the bare libraries on the same numbers."""
    note("one probe …")
    probes = np.concatenate([crowd.mated(300)[0], crowd.strangers(300)])
    gallery.identify_vectors(probes)
    base = gallery._session._searcher[1].index._base
    alone = unshared(base.coarse)
    refine = faiss.IndexRefineFlat(alone.shards[0], faiss.swig_ptr(base.rows))
    refine.k_factor = 20
    distance, at = np.empty((1, 10), np.float32), np.empty((1, 10), np.int64)

    def bare(probe: Vectors) -> None:
        scan.loaded(1)
        refine.search(probe, 10)

    def flat(probe: Vectors) -> None:
        scan.loaded(1)
        faiss.knn_L2sqr(
            faiss.swig_ptr(probe), faiss.swig_ptr(base.rows), DIMENSION, 1, len(base.rows), 10,
            faiss.swig_ptr(distance), faiss.swig_ptr(at), None, None,
        )  # fmt: skip

    each = [probes[i : i + 1] for i in range(len(probes))]
    quick = in_turns([lambda p: gallery.identify_vectors(p), bare], each)
    exact = in_turns([lambda p: gallery.identify_vectors(p, exact=True), flat], each[::10])
    default = faiss.IndexFlatL2(DIMENSION)
    default.add(crowd.vectors)
    threads = os.cpu_count() or 1

    def plain(batch: Vectors) -> None:
        faiss.cvar.distance_compute_blas_threshold = 128_000 // DIMENSION * DIMENSION  # as it comes
        faiss.omp_set_num_threads(threads)
        default.search(batch, 10)
        faiss.cvar.distance_compute_blas_threshold = 1024

    def product(batch: Vectors) -> None:
        np.matmul(batch, rows.T, out=likeness)

    batches = [probes[i : i + 64] for i in range(0, 512, 64)]
    rows, likeness = base.rows, np.empty((64, len(base)), np.float32)
    floor_batch = in_turns([lambda b: gallery.identify_vectors(b, exact=True), product], batches, rest=0.3)
    exact_batch = in_turns([lambda b: gallery.identify_vectors(b, exact=True), plain], batches)
    quick_batch = in_turns([lambda b: gallery.identify_vectors(b), plain], batches[:4])
    ms = float(np.median(quick[0]) * 1000)
    return [
        ratio(f"one probe of 1,000,000, default (here {ms:.2g} ms) / raw PQ fast-scan + refine", *quick, "<= 1.15"),
        ratio("one probe of 1,000,000, exact / raw FAISS scan", *exact, "<= 1.05"),
        ratio("64 probes of 1,000,000, exact: FAISS as it comes / ours", exact_batch[1], exact_batch[0], ">= 8"),
        ratio("64 probes of 1,000,000, exact / one bare matrix product of these sizes", *floor_batch, None),
        ratio("64 probes of 1,000,000, default: FAISS as it comes / ours", quick_batch[1], quick_batch[0], None),
    ]


def verdicts(gallery: Gallery, crowd: Crowd) -> list[dict[str, Any]]:
    """Ten thousand probes, half of them strangers: the default way against exact search."""
    note("ten thousand verdicts …")
    probes = np.concatenate([crowd.mated(5000)[0], crowd.strangers(5000)])
    same = hits = lists = 0
    for first in range(0, len(probes), 250):
        part = probes[first : first + 250]
        quick, exact = gallery.identify_vectors(part), gallery.identify_vectors(part, exact=True)
        same += sum((a.verdict, a.identity) == (b.verdict, b.identity) for a, b in zip(quick, exact, strict=True))
        lists += sum(a.candidates == b.candidates for a, b in zip(quick, exact, strict=True))
        hits += sum(a.candidates[0].identity == b.candidates[0].identity for a, b in zip(quick, exact, strict=True))
    return [
        row(f"verdicts as by exact search, of {len(probes):,} probes at 1,000,000", same, "10,000"),
        row("nearest identity as by exact search, share of these", hits / len(probes), ">= 0.999"),
        row("all five candidates as by exact search, share of these", lists / len(probes), None),
    ]


def removal(gallery: Gallery, crowd: Crowd) -> list[dict[str, Any]]:
    """One of a million removed: gone at once, and the searches after it as fast."""
    note("removing …")
    each = [crowd.vectors[i : i + 1] for i in range(400)]
    before = [timed(lambda p=p: gallery.identify_vectors(p)) for p in each]
    begin = time.perf_counter()
    gallery.remove("p7")
    took = time.perf_counter() - begin
    found = gallery.identify_vectors(crowd.vectors[7:8], threshold=1e-3)[0]
    assert found.identity is None
    after = [timed(lambda p=p: gallery.identify_vectors(p)) for p in each]
    return [
        ratio(f"search after one of 1,000,000 was removed (in {took * 1000:.0f} ms) / before", after, before, "<= 1.1")
    ]


def growth(home: Path, crowd: Crowd) -> list[dict[str, Any]]:
    """Time per probe and per enrollment at three sizes; no step may grow faster than the gallery."""
    note("growth …")
    found: dict[int, tuple[float, float]] = {}
    for size in (10_000, 100_000, MILLION):
        path = home / ("million.gallery" if size == MILLION else f"grown{size}.gallery")
        if size < MILLION:
            with Gallery.create(path, dimension=DIMENSION) as gallery:
                gallery.enroll_many_vectors([f"p{i}" for i in range(size)], crowd.vectors[:size])
                gallery.rebuild_index()
        with Gallery.open(path) as gallery:
            probes = crowd.strangers(300)
            gallery.identify_vectors(probes)
            search = float(
                np.median([timed(lambda i=i: gallery.identify_vectors(probes[i : i + 1])) for i in range(300)])
            )
            new = crowd.strangers(60)
            enroll = float(np.median([
                timed(lambda i=i: gallery.enroll_vectors([f"new {i}"], new[i : i + 1], conflicts="allow"))
                for i in range(60)
            ]))  # fmt: skip
        found[size] = search, enroll
    draw(found)
    (a, b), (c, d), (e, f) = found.values()
    return [
        row("time per probe, 100,000 / 10,000", c / a, "<= 10"), row("time per probe, 1,000,000 / 100,000", e / c, "<= 10"),
        row("time per enrollment, 100,000 / 10,000", d / b, "<= 1.5"),
        row("time per enrollment, 1,000,000 / 100,000", f / d, "<= 1.5"),
    ]  # fmt: skip


def draw(found: dict[int, tuple[float, float]]) -> None:
    """Draw docs/growth.svg."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5))
    sizes = list(found)
    for at, (label, below) in enumerate((("one probe", -16), ("one enrollment, durable", 8))):
        times = [found[size][at] * 1000 for size in sizes]
        axes.plot(sizes, times, "o-", label=label)
        for size, ms in zip(sizes, times, strict=True):
            axes.annotate(f"{ms:.2g} ms", (size, ms), textcoords="offset points", xytext=(0, below), ha="center")
    axes.set(xscale="log", yscale="log", ylim=(0.05, 10), xlabel="templates", ylabel="ms (two cores)")
    axes.margins(x=0.12)
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(Path(__file__).parent.parent / "docs" / "growth.svg")
    plt.close(figure)


if __name__ == "__main__":
    if "each" in sys.argv:
        some = Crowd(4001).vectors
        print(json.dumps([each_call(Path(sys.argv[-1]), some, size, turns) for size, turns in ((1, 60), (100, 40))]))
        sys.exit()
    with tempfile.TemporaryDirectory(prefix="sidx-bench-") as folder:
        print(json.dumps(measure(Path(folder)), indent=1))
