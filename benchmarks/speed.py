"""How far from the floor? Each row measures us and the bare libraries in alternation, in one run.

    make bench        (python benchmarks/speed.py [--json])

Times of shared machines mean nothing alone: only the ratios do. Pictures are drawn glyphs, embedded
by a tower that is trained here for some seconds.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import faiss
import numpy as np
import onnxruntime

from siamese_index import Gallery, TowerFile, images
from siamese_index.training import train
from siamese_index.training.glyphs import draw, glyph

TEMPLATES, RUNS = 10_000, 21


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="sidx-bench-") as home:
        rows = measure(Path(home))
    if "--json" in sys.argv:
        print(json.dumps(rows))
        return
    width = max(len(row["what"]) for row in rows)
    for row in rows:
        limits = "" if row["reach"] is None else f"   to reach {row['reach']}"
        print(f"{row['what']:<{width}}  {row['figure']:>9.3g}   {row['spread']}{limits}")


def measure(home: Path) -> list[dict[str, Any]]:
    note("training a tower, drawing and enrolling 10,000 pictures …")
    tower = train(draw(home / "learn", range(40), range(6)), steps=60)
    gallery = home / "bench.gallery"
    with Gallery.create(gallery, tower) as opened:
        opened.enroll_many((f"glyph {n}", images.encode(glyph(1000 + n, 0))) for n in range(TEMPLATES))
        probe = home / "probe.png"
        probe.write_bytes(images.encode(glyph(1007, 1)))
        opened.identify(probe)  # writes the cache
        floor = prepare_floor(home, opened, tower)
        drawn = [glyph(1000 + n, 1) for n in range(60)]
        photos = [images.encode(images.fit(np.repeat(p, 3, axis=2), 480, 640), ".jpg") for p in drawn]
        rows = [
            *cold(gallery, probe, floor),
            warm(opened, tower, photos, "640 x 480 JPEG"),
            warm(opened, tower, [images.encode(p) for p in drawn], "64 x 64 PNG"),
        ]
    return [*rows, *bulk(home)]


def prepare_floor(home: Path, opened: Gallery, tower: TowerFile) -> list[str]:
    """Write what the hand-written script reads: a graph, an index, a table of names."""
    (home / "tower.onnx").write_bytes(tower.onnx)
    with sqlite3.connect(opened.path) as db:
        rows = db.execute(
            "SELECT i.name, t.vector FROM template t JOIN sample s ON s.id = t.sample_id"
            " JOIN identity i ON i.id = s.identity_id ORDER BY t.id"
        ).fetchall()
    vectors = np.frombuffer(b"".join(v for _, v in rows), np.float32).reshape(len(rows), -1)
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(home / "floor.faiss"))
    with sqlite3.connect(home / "names.sqlite") as db:
        db.execute("CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT)")
        db.executemany("INSERT INTO names VALUES (?, ?)", ((i, name) for i, (name, _) in enumerate(rows)))
    shape = tower.card["input"]
    files = [str(home / name) for name in ("tower.onnx", "floor.faiss", "names.sqlite")]
    return [*files, str(opened.threshold().tau), str(shape["height"]), str(shape["width"])]


def cold(gallery: Path, probe: Path, floor: list[str]) -> list[dict[str, Any]]:
    """One picture, whole process: CPU time, wall time and resident memory against the hand-written script."""
    note("cold identify …")
    sidx = Path(sys.executable).with_name("sidx")
    ours = [str(sidx), "identify", str(probe), "-g", str(gallery)]
    theirs = [sys.executable, str(Path(__file__).with_name("floor.py")), str(probe), *floor]
    figures: dict[str, list[tuple[float, float]]] = {"ours": [], "floor": []}
    memory: dict[str, list[int]] = {"ours": [], "floor": []}
    answers = {}
    for run in range(RUNS + 1):
        for name, command in (("ours", ours), ("floor", theirs)):
            begin = time.perf_counter()
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            assert child.stdout
            said = child.stdout.read()
            _, _, used = os.wait4(child.pid, 0)
            child.returncode = 0
            answers[name] = json.loads(said)["identity"]
            if run:  # the first warms the disk cache
                wall = time.perf_counter() - begin
                figures[name].append((used.ru_utime + used.ru_stime, wall))
                memory[name].append(peak(command))
    assert answers["ours"] == answers["floor"], answers
    (cpu, wall_times), (floor_cpu, floor_wall) = (np.array(figures[name]).T for name in ("ours", "floor"))
    what = f"cold identify, {TEMPLATES:,} templates: {{}} / hand-written script"
    return [
        ratio(what.format("CPU time"), cpu, floor_cpu, "<= 1.5"),
        ratio(what.format("wall time"), wall_times, floor_wall, "<= 1.5"),
        ratio(what.format("peak resident memory"), memory["ours"], memory["floor"], "<= 1.3"),
    ]


def peak(command: list[str]) -> int:
    """Return the most resident kilobytes of a Python program: as it says itself when it ends.

    What the kernel reports of a child includes the moment before its exec, when it still is a copy of us.
    """
    script = (
        "import atexit, runpy, sys\n"
        "status = lambda: open('/proc/self/status').read().split('VmHWM:')[1].split()[0]\n"
        "atexit.register(lambda: print('peak', status(), file=sys.stderr))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    program = command if command[0] != sys.executable else command[1:]
    done = subprocess.run([sys.executable, "-c", script, *program], capture_output=True, text=True)
    return int(done.stderr.split("peak ")[1])


def warm(opened: Gallery, tower: TowerFile, probes: list[bytes], kind: str) -> dict[str, Any]:
    """An open gallery, 60 probes in turn: the whole call against raw decode + raw ONNX run + raw FAISS search."""
    note("warm identify …")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(4, os.cpu_count() or 1)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(tower.onnx, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    index = faiss.read_index(str(opened.path.parent / "floor.faiss"), faiss.IO_FLAG_MMAP_IFC)
    shape = tower.card["input"]
    size = (shape["width"], shape["height"])

    def raw(data: bytes) -> None:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        index.search(session.run(None, {name: pixels[None, :, :, None].astype(np.float32)})[0], 20)

    def ours(data: bytes) -> None:
        opened.identify(data)

    threads = os.cpu_count() or 1
    times: dict[str, list[float]] = {"ours": [], "raw": []}
    for number in range(600):
        for key, work in (("ours", ours), ("raw", raw)):
            faiss.omp_set_num_threads(threads)  # as FAISS comes; ours sets what it wants itself
            begin = time.perf_counter()
            work(probes[number % len(probes)])
            times[key].append(time.perf_counter() - begin)
    # Median of pairs: what slows one machine for a moment slows both.
    return ratio(
        f"warm identify of a {kind}, {TEMPLATES:,} templates / raw decode + ONNX + FAISS",
        times["ours"],
        times["raw"],
        "<= 1.2",
    )


def bulk(home: Path) -> list[dict[str, Any]]:
    """Ten thousand vectors in one durable call, against bare executemany of the same rows."""
    note("enrolling vectors …")
    vectors = np.random.default_rng(0).normal(size=(TEMPLATES, 128)).astype(np.float32)
    names = [f"p{i}" for i in range(TEMPLATES)]
    ours, bare = [], []
    for run in range(7):
        with Gallery.create(home / f"bulk{run}.gallery", dimension=128) as gallery:
            begin = time.perf_counter()
            gallery.enroll_vectors(names, vectors)
            ours.append(time.perf_counter() - begin)
        with sqlite3.connect(home / f"bare{run}.sqlite") as db:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, vector BLOB)")
            begin = time.perf_counter()
            db.executemany(
                "INSERT INTO t VALUES (?, ?, ?)",
                ((i, n, v.tobytes()) for i, (n, v) in enumerate(zip(names, vectors, strict=True))),
            )
            db.commit()
            bare.append(time.perf_counter() - begin)
    rates = sorted(TEMPLATES / t for t in ours)
    rate = {
        "what": "enrolling 10,000 vectors in one durable call: per second", "figure": rates[len(rates) // 2],
        "spread": f"({rates[0]:,.0f} … {rates[-1]:,.0f})", "reach": ">= 20,000",
    }  # fmt: skip
    return [rate, ratio("enrolling 10,000 vectors / bare executemany into one table", ours, bare, None)]


def ratio(what: str, ours: Any, theirs: Any, reach: str | None) -> dict[str, Any]:
    ratios = np.array(ours) / np.array(theirs)
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    return {"what": what, "figure": float(middle), "spread": f"({low:.3g} … {high:.3g})", "reach": reach}


def note(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
