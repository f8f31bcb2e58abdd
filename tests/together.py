"""Many at one gallery: threads that ask and change, and processes beside one that swaps the tower all the time.

Every answer is compared with brute force by the tower that it names; so is what is kept of it in the log.

    python -m tests.together --threads 8 --calls 1000 --processes 6 --seconds 60
"""

from __future__ import annotations

import argparse
import collections
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from siamese_index import Gallery, Locked, Tower, TowerFile
from siamese_index.analysis.doctor import examine
from siamese_index.samples import images
from siamese_index.training.glyphs import glyph
from siamese_index.vectors import unit

PEOPLE = 30
KINDS = ("verify", "verify", "identify", "promote", "enroll", "backup")  # one for each process


def threads(path: Path, count: int, calls: int) -> collections.Counter[str]:
    """Let threads use one Gallery: each enrolls people of its own, and asks for all that are there for certain."""
    rng = np.random.default_rng(0)
    people = unit(rng.normal(size=(64 + count * calls // 6 + count, 8)))
    names = [f"p{i}" for i in range(len(people))]
    done: collections.Counter[str] = collections.Counter()
    wrong: list[object] = []
    with Gallery.create(path, dimension=8) as gallery:
        gallery.enroll_many_vectors(names[:64], people[:64], conflicts="allow")

        def work(thread: int) -> None:
            mine, there = list(range(64 + thread, len(people), count)), list(range(64))
            for call in range(calls):
                kind = call % 6
                if kind == 0 and mine:
                    new = mine.pop()
                    gallery.enroll_vectors([names[new]], people[new : new + 1], conflicts="allow")
                    there.append(new)
                elif kind == 1:
                    gallery.tag(names[there[-1]], {"thread": str(thread)})
                elif kind == 2:
                    with gallery.reading() as state:
                        assert state.settings.identities >= len(there)
                elif kind == 3:
                    assert names[there[-1]] in [row.name for row in gallery.identities()]
                else:
                    chosen = there[call % len(there)]
                    (answer,) = gallery.identify_vectors(people[chosen : chosen + 1], threshold=1e-3)
                    if answer.identity != names[chosen]:
                        wrong.append((thread, chosen, answer))
                done["calls"] += 1

        def guarded(thread: int) -> None:
            try:
                work(thread)
            except Exception as error:  # noqa: BLE001
                wrong.append(error)

        running = [threading.Thread(target=guarded, args=(n,)) for n in range(count)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    done["wrong"] = len(wrong)
    for each in wrong[:5]:
        print(repr(each), file=sys.stderr)
    return done


def picture(number: int, hand: int) -> bytes:
    return images.encode(glyph(number, hand))


def true_distances(towers: list[TowerFile]) -> dict[str, np.ndarray]:
    """By tower, the distance of each person's second picture to the first (PEOPLE,)."""
    found = {}
    for file in towers:
        tower = Tower.of(file)
        one, two = (tower.embed_samples([picture(n, hand) for n in range(PEOPLE)]) for hand in (0, 1))
        found[file.id] = np.linalg.norm(one.astype(np.float64) - two, axis=1)
    return found


def processes(folder: Path, material: Path, count: int, seconds: float) -> collections.Counter[str]:
    """Let processes ask, enroll, back up and swap the tower; return how much was done, and how much was wrong."""
    towers = [TowerFile.read(material / f"{name}.tower") for name in ("first", "second")]
    path = folder / "g.gallery"
    with Gallery.create(path, towers[0]) as gallery:
        gallery.add_tower(towers[1])
        gallery.enroll_many([(f"p{n}", picture(n, 0)) for n in range(PEOPLE)])
        gallery.log(True)
    kinds = [KINDS[number % len(KINDS)] for number in range(count)]
    command = [sys.executable, "-m", "tests.together", "--material", str(material), "--at", str(path)]
    running = [
        subprocess.Popen([*command, "--be", kind, "--seconds", str(seconds)], stdout=subprocess.PIPE, text=True)
        for kind in kinds
    ]
    done: collections.Counter[str] = collections.Counter()
    for child in running:
        out, _ = child.communicate()
        done += collections.Counter(json.loads(out.splitlines()[-1])) if child.returncode == 0 else {"wrong": 1}
    embedded = {file.id: Tower.of(file) for file in towers}
    with Gallery.open(path) as gallery, gallery.reading() as state:
        ids = {row.id: row.sha256 for row in state.store.towers.all()}
        for answer in state.store.log.all():
            by = embedded[ids[answer.tower]].embed_samples([answer.picture or b""])[0]
            done["logged"] += 1
            done["wrong"] += int(np.abs(by - np.frombuffer(answer.vector, np.float32)).max() > 1e-4)
    done["wrong"] += len(examine(path).findings)
    return done


def be(kind: str, path: Path, material: Path, seconds: float) -> collections.Counter[str]:
    """Do one kind of thing to a gallery for a while."""
    towers = [TowerFile.read(material / f"{name}.tower") for name in ("first", "second")]
    true, done = true_distances(towers), collections.Counter({"wrong": 0})
    end, rng, number = time.monotonic() + seconds, np.random.default_rng(), 0
    with Gallery.open(path) as gallery:
        while time.monotonic() < end:
            number += 1
            who = int(rng.integers(PEOPLE))
            try:
                if kind == "verify":
                    seen = gallery.verify_as(picture(who, 1), f"p{who}")
                    done["wrong"] += int(abs(seen.distance - true[seen.tower][who]) > 1e-4)
                elif kind == "identify":
                    answer = gallery.identify(picture(who, 1), k=PEOPLE, threshold=2.0)
                    own = [c.distance for c in answer.candidates if c.identity == f"p{who}"]
                    done["wrong"] += int(bool(own) and abs(own[0] - true[answer.tower][who]) > 1e-4)
                elif kind == "promote":
                    gallery.promote(towers[number % 2].id)
                elif kind == "enroll":
                    gallery.enroll(f"new {time.monotonic_ns()}", [picture(1000 + number, 0)], conflicts="allow")
                else:
                    copy = path.with_name("copy")
                    gallery.backup(copy)
                    done["wrong"] += len(examine(copy).findings)
                done[kind] += 1
            except Locked:
                done["told to wait or repeat"] += 1
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--material", type=Path)
    parser.add_argument("--at", type=Path)
    parser.add_argument("--be", choices=sorted(set(KINDS)))
    options = parser.parse_args()
    if options.be:
        print(json.dumps(be(options.be, options.at, options.material, options.seconds)))
        return
    from tests.torture import make_material

    with tempfile.TemporaryDirectory(prefix="together-") as home:
        folder = Path(home)
        material = options.material or make_material(folder)
        by_threads = threads(folder / "t.gallery", options.threads, options.calls)
        by_processes = processes(folder, material, options.processes, options.seconds)
    print(f"{options.threads} threads: {dict(by_threads)}")
    print(f"{options.processes} processes, {options.seconds:.0f} s: {dict(by_processes)}")
    sys.exit(bool(by_threads["wrong"] + by_processes["wrong"]))


if __name__ == "__main__":
    main()
