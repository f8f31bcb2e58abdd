"""How far from the floor? Each row measures us and the bare libraries in alternation, in one run.

    make bench        (python -m benchmarks.speed [pictures] [sizes] [--json])

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

from siamese_index import Gallery, TowerFile
from siamese_index.samples import framing, images
from siamese_index.training import train
from siamese_index.training.glyphs import draw, glyph

from . import sizes
from .rows import note, ratio

TEMPLATES, RUNS = 10_000, 21


def main() -> None:
    wanted = [word for word in sys.argv[1:] if not word.startswith("-")] or ["pictures", "sizes"]
    rows = []
    with tempfile.TemporaryDirectory(prefix="sidx-bench-") as home:
        if "pictures" in wanted:
            rows += measure(Path(home))
    with tempfile.TemporaryDirectory(prefix="sidx-bench-") as home:
        if "sizes" in wanted:
            rows += sizes.measure(Path(home))
    if "--json" in sys.argv:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        limits = "" if row["reach"] is None else f"   to reach {row['reach']}"
        print(f"{row['figure']:>10.4g}  {row['spread']:<18} {row['what']}{limits}")


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
    return [*rows, *whole_job(home, tower)]


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
    shape = tower.card.input
    files = [str(home / name) for name in ("tower.onnx", "floor.faiss", "names.sqlite")]
    return [*files, str(opened.threshold().tau), str(shape.shape[0]), str(shape.shape[1])]


def cold(gallery: Path, probe: Path, floor: list[str]) -> list[dict[str, Any]]:
    """One picture, whole process: CPU time, wall time and resident memory against the hand-written script."""
    note("cold identify …")
    sidx = Path(sys.executable).with_name("sidx")
    ours = [str(sidx), "identify", str(probe), "-g", str(gallery)]
    theirs = [sys.executable, str(Path(__file__).with_name("floor.py")), str(probe), *floor]
    # With modules compiled, as pip leaves them; and with what our command line tells numpy.
    installed = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    calm = installed | {"OPENBLAS_THREAD_TIMEOUT": "4"}
    figures: dict[str, list[tuple[float, float]]] = {"ours": [], "floor": [], "calm floor": []}
    memory: dict[str, list[int]] = {"ours": [], "floor": []}
    answers = {}
    for run in range(RUNS + 1):
        for name, command in (("ours", ours), ("floor", theirs), ("calm floor", theirs)):
            begin = time.perf_counter()
            with_env = calm if name == "calm floor" else installed
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=with_env)
            assert child.stdout
            said = child.stdout.read()
            _, _, used = os.wait4(child.pid, 0)
            child.returncode = 0
            answers[name] = json.loads(said)["identity"]
            if run:  # the first warms the disk cache
                wall = time.perf_counter() - begin
                figures[name].append((used.ru_utime + used.ru_stime, wall))
                if name in memory:
                    memory[name].append(peak(command))
    assert answers["ours"] == answers["floor"], answers
    (cpu, wall_times), (floor_cpu, floor_wall), (calm_cpu, _) = (np.array(rows).T for rows in figures.values())
    what = f"cold identify, {TEMPLATES:,} templates: {{}} / hand-written script"
    return [
        ratio(what.format("CPU time"), cpu, floor_cpu, "<= 1.2"),
        ratio(what.format("CPU time") + " whose idle threads sleep too", cpu, calm_cpu, None),
        ratio(what.format("wall time"), wall_times, floor_wall, None),
        ratio(what.format("peak resident memory"), memory["ours"], memory["floor"], None),
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
    shape = tower.card.input
    size = (shape.shape[1], shape.shape[0])

    def raw(data: bytes) -> None:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
        if shape.frame == "strokes":  # else the tower would see what it was not trained on
            pixels = framing.around_strokes(pixels[:, :, None])
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
        f"warm identify of a {kind}, {TEMPLATES:,} templates / raw decode (and framing, as the tower wants it) + ONNX + FAISS",
        times["ours"],
        times["raw"],
        "<= 1.15",
    )


def whole_job(home: Path, tower: TowerFile) -> list[dict[str, Any]]:
    """Enroll 1,000 pictures and identify 1,000 others, each in one process: against TensorFlow and FAISS by hand."""
    note("the whole job, and TensorFlow …")
    enroll, probes = home / "job", home / "job-probes"
    for folder, hand in ((enroll, 0), (probes, 1)):
        folder.mkdir()
        for n in range(1000):
            (folder / f"g{n}.png").write_bytes(images.encode(glyph(5000 + n, hand)))
    table = home / "job.csv"
    table.write_text("path,label\n" + "".join(f"{enroll}/g{n}.png,g{n}\n" for n in range(1000)))
    (home / "job.tower").write_bytes(b"")
    tower.write(home / "job.tower")
    (home / "tower.keras").write_bytes(tower.keras or b"")
    sidx, place = str(Path(sys.executable).with_name("sidx")), str(home / "job.gallery")
    asked = sorted(str(path) for path in probes.iterdir())
    ours = [
        [sidx, "enroll", "--from", str(table), "--tower", str(home / "job.tower"), "--allow-conflict", "-g", place],
        [sidx, "identify", *asked, "-g", place],
    ]
    script = [sys.executable, str(Path(__file__).with_name("tutorial.py")), str(home / "tower.keras"), "0.5"]
    times: list[list[tuple[float, float]]] = [[], []]
    for _ in range(3):
        (home / "job.gallery").unlink(missing_ok=True)
        times[0].append(tuple(map(sum, zip(*(used(c) for c in ours), strict=True))))
        times[1].append(used([*script, str(enroll), *asked]))
    one = home / "one"
    one.mkdir()
    (one / "g0.png").write_bytes((enroll / "g0.png").read_bytes())
    cold_ours, cold_theirs = [], []
    for _ in range(3):
        cold_ours.append(used([sidx, "identify", asked[0], "-g", place])[0])
        cold_theirs.append(used([*script, str(one), asked[0]])[0])
    (cpu, wall), (other_cpu, other_wall) = (np.array(t).T for t in times)
    return [
        ratio("enroll 1,000 pictures, identify 1,000: CPU time / TensorFlow + FAISS script", cpu, other_cpu, None),
        ratio("the same: wall time", wall, other_wall, None),
        ratio(
            "cold identify, 1,000 templates: TensorFlow script with one / ours, CPU time",
            cold_theirs,
            cold_ours,
            ">= 12",
        ),
    ]


def used(command: list[str]) -> tuple[float, float]:
    """Run a program; return its CPU and wall time."""
    begin = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode in (0, 10, 11), (command[:4], child.returncode)
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - begin


if __name__ == "__main__":
    main()
