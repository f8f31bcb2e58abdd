"""What else finds the nearest: other kinds of index, other libraries, a server; beside us on the same vectors."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from siamese_index import Gallery
from siamese_index.search import scan

from .crowd import DIMENSION, Crowd, Vectors
from .rows import in_turns, note, ratio, row, timed


def kinds(crowd: Crowd) -> list[dict[str, Any]]:
    """What else could find the nearest of a million, by FAISS: ms, and how often it finds the nearest identity."""
    note("other kinds of index …")
    probes, _ = crowd.mated(500)
    truth = exact_nearest(crowd.vectors, probes)
    rows = []
    inverted = faiss.index_factory(DIMENSION, "IVF4096,PQ64x4fs,RFlat")
    begin = time.perf_counter()
    inverted.train(crowd.vectors[::8])
    inverted.add(crowd.vectors)
    built = time.perf_counter() - begin
    faiss.downcast_index(inverted).k_factor = 20
    for nprobe in (16, 64):
        faiss.extract_index_ivf(inverted).nprobe = nprobe
        faiss.omp_set_num_threads(1)
        times, hits = [], 0
        for i in range(len(probes)):
            begin = time.perf_counter()
            _, at = inverted.search(probes[i : i + 1], 10)
            times.append(time.perf_counter() - begin)
            hits += int(at[0, 0] == truth[i])
        what = (
            f"IVF4096 + PQ64x4 fast-scan + refine, nprobe {nprobe} (built in {built:.0f} s): ms per probe of 1,000,000"
        )
        rows.append(row(what, float(np.median(times) * 1000), None))
        rows.append(row("   share of nearest found", hits / len(probes), None))
    return rows


def exact_nearest(rows: Vectors, probes: Vectors) -> Vectors:
    return scan.nearest(rows, probes, 1)[0][:, 0]


def peers(home: Path) -> list[dict[str, Any]]:
    """The same hundred thousand vectors, one probe at a time: numpy, hnswlib, usearch, pgvector, and us."""
    import hnswlib
    from usearch.index import Index

    note("peers …")
    size = 100_000
    small = Crowd(size)
    vectors, probes = small.vectors, small.mated(300)[0]
    truth = exact_nearest(vectors, probes)
    each = [probes[i : i + 1] for i in range(len(probes))]
    path = home / "peers.gallery"
    asked: dict[str, tuple[Callable[[Vectors], int], float]] = {}
    with Gallery.create(path, dimension=DIMENSION) as gallery:
        begin = time.perf_counter()
        gallery.enroll_many_vectors([str(i) for i in range(size)], vectors, conflicts="allow")
        gallery.rebuild_index()
        asked["ours"] = (
            lambda p: int(gallery.identify_vectors(p, threshold=0.5)[0].candidates[0].identity),
            time.perf_counter() - begin,
        )
        asked["numpy, one product"] = (lambda p: int((vectors @ p[0]).argmax()), 0.0)
        begin = time.perf_counter()
        hnsw = hnswlib.Index(space="l2", dim=DIMENSION)
        hnsw.init_index(max_elements=size, ef_construction=200, M=16)
        hnsw.add_items(vectors)
        hnsw.set_ef(100)
        asked["hnswlib, M 16, ef 100"] = (lambda p: int(hnsw.knn_query(p, k=10)[0][0, 0]), time.perf_counter() - begin)
        begin = time.perf_counter()
        use = Index(ndim=DIMENSION, metric="l2sq", dtype="f32", expansion_search=100)
        use.add(np.arange(size), vectors)
        asked["usearch, expansion 100"] = (lambda p: int(use.search(p[0], 10).keys[0]), time.perf_counter() - begin)
        rows = []
        times = {name: [] for name in asked}
        hits = dict.fromkeys(asked, 0)
        for i, probe in enumerate(each):
            for name, (ask, _) in asked.items():
                begin = time.perf_counter()
                found = ask(probe)
                times[name].append(time.perf_counter() - begin)
                hits[name] += int(found == truth[i])
        for name, (_, built) in asked.items():
            if name == "ours":
                continue
            what = f"one probe of 100,000: ours / {name} (built in {built:.0f} s, ours with SQLite {asked['ours'][1]:.0f} s)"
            rows.append(ratio(what, times["ours"], times[name], None))
            rows.append(
                row(
                    f"   share of nearest found: {hits['ours'] / len(each):.4f} ours, theirs",
                    hits[name] / len(each),
                    None,
                )
            )
        rows += on_server(gallery, small, each)
    return rows


def on_server(gallery: Gallery, crowd: Crowd, each: Sequence[Vectors]) -> list[dict[str, Any]]:
    from tests.servers import Server, binaries

    if binaries() is None:
        return []
    server = Server(5480)
    try:
        with Gallery.create(server.database("bench"), dimension=DIMENSION) as there:
            names = [str(i) for i in range(len(crowd.vectors))]
            took = timed(lambda: there.enroll_many_vectors(names, crowd.vectors, conflicts="allow"))
            new = crowd.strangers(100)
            alone = [
                timed(lambda i=i: there.enroll_vectors([f"n{i}"], new[i : i + 1], conflicts="allow"))
                for i in range(100)
            ]
            times = in_turns(
                [
                    lambda p: there.identify_vectors(p, threshold=0.5),
                    lambda p: gallery.identify_vectors(p, threshold=0.5),
                ],
                each[:60],
            )
        ms = float(np.median(times[0]) * 1000)
        return [
            ratio(f"one probe of 100,000, scan on a PostgreSQL server (here {ms:.0f} ms) / in a file", *times, None),
            row(
                f"enrolling on a PostgreSQL server: per second in bulk ({1 / float(np.median(alone)):.0f} one by one)",
                len(names) / took,
                None,
            ),
        ]
    finally:
        server.close()
