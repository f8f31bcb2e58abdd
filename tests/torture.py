"""Kill a gallery's writer at every state-changing system call, and look what is left.

A scripted life of a gallery runs in a process under strace, which kills it (SIGKILL) at the K-th
call of a kind; every K whose call touches the gallery's folder is tried. After each kill the
gallery must open in the state after the last acknowledged operation, or after the one that was
under way; the doctor must find nothing; the answers must be right.

    python -m tests.torture --all        every point (minutes)
    python -m tests.torture --sample 30  that many, spread over all kinds
    python -m tests.torture --mutant split-transaction | cache-in-place    must be caught
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

CALLS = (
    "write,pwrite64,writev,pwritev,fsync,fdatasync,ftruncate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,"
    "mkdir,mkdirat,rmdir,openat,chmod,fchmod,fchmodat,fallocate"
)
# As it is before OpenCV, which the verdicts need, changes it: else the lives that are killed look for their
# libraries elsewhere than the one whose calls were counted.
ENVIRONMENT = dict(os.environ)
MUTANTS = {"split-transaction": "openat", "cache-in-place": "write"}  # and the calls whose kills give them away


# -- the scripted life, run in the process that is killed -------------------------------------------


def live(folder: Path, material: Path, mutant: str | None) -> None:
    """Do everything that changes a gallery; print one acknowledgement per finished operation."""
    import onnxruntime  # noqa: F401  # imports are not what is tortured

    from siamese_index import Gallery, TowerFile
    from siamese_index.samples import images
    from siamese_index.search import cache, file_index
    from siamese_index.store.store import Store
    from siamese_index.towers import tryout
    from siamese_index.training.glyphs import glyph

    file_index.BASE_MINIMUM = 4  # so that this short life has caches
    if mutant == "split-transaction":
        whole = Store.add_samples

        def split(self, *arguments):
            result = whole(self, *arguments)
            self._db.execute("COMMIT")
            self._db.execute("BEGIN IMMEDIATE")
            return result

        Store.add_samples = split
    if mutant == "cache-in-place":
        import contextlib

        cache.replacing = contextlib.contextmanager(lambda path: iter([path]))

    def picture(number: int, hand: int) -> bytes:
        return images.encode(glyph(number, hand))

    first, second = (TowerFile.read(material / f"{name}.tower") for name in ("first", "second"))
    tryout._fine.update((first.id, second.id))  # trying a tower changes no gallery
    path = folder / "g.gallery"
    probe = picture(1, 0)

    steps = [
        lambda: Gallery.create(path, first).close(),
        lambda: gallery().enroll("one", [picture(1, 0)]),
        lambda: gallery().enroll_many([(f"many {n}", picture(n, 0)) for n in range(10, 18)]),
        lambda: gallery().identify(probe),  # writes the first cache
        lambda: gallery().rename("many 11", "eleven"),
        lambda: gallery().remove("many 12"),
        lambda: gallery().calibrate(fpir=0.05, strangers_given=[("eve", picture(99, 0)), ("eve", picture(99, 1))]),
        lambda: gallery().add_tower(second),
        lambda: gallery().promote(second.id),
        lambda: gallery().identify(probe),  # a cache of the other tower
        lambda: gallery().enroll_many([(f"late {n}", picture(n, 1)) for n in range(20, 28)]),
        lambda: gallery().identify(probe),  # replaces the cache
        lambda: gallery().rollback(),
        lambda: gallery().rebuild_index(),
        lambda: gallery().backup(folder / "copy"),
        lambda: gallery().remove("one"),
        lambda: gallery().curation.undo(),
        lambda: gallery().curation.merge("many 13", "many 14"),
        lambda: gallery().curation.split("many 14", "many 13", [id_of("many 14", 0)]),
        lambda: gallery().curation.move([id_of("many 15", 0)], "many 16"),
        lambda: gallery().curation.remove_samples([id_of("many 16", 0)]),
        lambda: gallery().curation.restore_samples([gallery().curation.removed()[1][0].id]),
        lambda: gallery().log(True),
        lambda: gallery().identify(picture(60, 0)),
        lambda: gallery().curation.correct(1, "sixty"),
        lambda: gallery().curation.undo(2),
        lambda: gallery().curation.redo(),
        lambda: gallery().curation.restore("many 12"),
        lambda: gallery().curation.export(folder / "all.jsonl", samples=[id_of("many 17", 0), id_of("many 10", 0)]),
        lambda: gallery().backup(folder / "bare", removed=False),
        lambda: gallery().curation.purge(["many 17", "eve"]),
        lambda: gallery().curation.take(folder / "all.jsonl", conflicts="allow"),
        lambda: Gallery.restore(folder / "copy", path, replace=True),
    ]
    opened: list[Gallery] = []

    def gallery() -> Gallery:
        if not opened:
            opened.append(Gallery.open(path))
        return opened[0]

    def id_of(name: str, at: int) -> int:
        return gallery().samples(name)[at].id

    watched = "TORTURE_STEP" in os.environ
    for said, step in [("ready", None), *(("done", step) for step in steps)]:
        if step:
            step()
        print(said, flush=True)
        if watched:
            sys.stdin.readline()


# -- looking at what is left ------------------------------------------------------------------------


def state(path: Path) -> object:
    """Everything that a user would call the content of the gallery."""
    if not path.exists():
        return None
    from siamese_index import Gallery

    with Gallery.open(path) as gallery:
        return [
            gallery.tower.id,
            sorted((row.identity, row.digest) for row in gallery.samples()),
            [sorted((row[1], row[2]) for row in rows) for rows in gallery.curation.removed()],
            [(row.verdict, row.corrected, row.truth) for row in gallery.curation.answers(9)],
            [(row.sha256, active) for row, active in gallery.towers()],
            gallery.threshold().evidence.target_fpir,
            sorted(gallery.calibrate()[0].strangers.items()),
        ]


def complaints(path: Path) -> list[str]:
    """What is wrong with the gallery as it is, before and after it is searched."""
    if not path.exists():
        return []
    from siamese_index import Gallery, files
    from siamese_index.analysis.doctor import examine
    from siamese_index.samples import images
    from siamese_index.training.glyphs import glyph

    Gallery.open(path).close()  # sweeps what the kill left
    found = [finding.what for finding in examine(path).findings]
    with Gallery.open(path) as gallery:
        names = {row.identity for row in gallery.samples()}
        for number, name in ((1, "one"), (13, "many 13"), (11, "eleven"), (12, "many 12")):
            answer = gallery.identify(images.encode(glyph(number, 0)), threshold=1e-3)
            if (answer.identity == name) != (name in names):
                found.append(f"{name} is answered as {answer.identity}")
    found += [finding.what for finding in examine(path).findings]
    return found + [f"left over: {left.name}" for left in files.leftovers(path)]


# -- killing ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    call: str
    number: int  # the how-manieth call of this kind


def command(folder: Path, material: Path, mutant: str | None) -> list[str]:
    life = [sys.executable, "-B", "-m", "tests.torture", "--live", str(folder), "--material", str(material)]
    return [*life, "--mutant", mutant] if mutant else life


def points(material: Path, mutant: str | None) -> tuple[list[Point], list[object]]:
    """Return the calls of an undisturbed life that touch its folder, and the state after each operation."""
    with tempfile.TemporaryDirectory(prefix="torture-") as home:
        folder, log = Path(home) / "life", Path(home) / "log"
        folder.mkdir()
        trace = ["strace", "-y", "-s", "0", "-e", f"trace={CALLS}", "-o", str(log)]
        run = subprocess.run(
            [*trace, *command(folder, material, mutant)], capture_output=True, text=True, env=ENVIRONMENT
        )
        if run.returncode != 0:
            raise RuntimeError(run.stderr)
        counts: dict[str, int] = {}
        found = []
        for line in log.read_text(errors="replace").splitlines():
            call = re.match(r"(\w+)\(", line)
            if not call:
                continue
            counts[call[1]] = counts.get(call[1], 0) + 1
            reads = call[1] == "openat" and "O_CREAT" not in line and "O_WRONLY" not in line and "O_TRUNC" not in line
            if str(folder) in line and not reads:
                found.append(Point(call[1], counts[call[1]]))
    return found, states(material)


def states(material: Path) -> list[object]:
    """The state before the first and after each operation of an undisturbed, unmutated life."""
    with tempfile.TemporaryDirectory(prefix="torture-") as home:
        found: list[object] = []
        with subprocess.Popen(
            command(Path(home), material, None), stdout=subprocess.PIPE, text=True, bufsize=1,
            env={**ENVIRONMENT, "TORTURE_STEP": "1"}, stdin=subprocess.PIPE,
        ) as child:  # fmt: skip
            assert child.stdout and child.stdin
            for _ in child.stdout:  # "ready" and each "done"; the child waits for us after each
                found.append(state(Path(home) / "g.gallery"))
                child.stdin.write("\n")
                child.stdin.flush()
    return found


def verdict(folder: Path, acknowledged: int, known: list[object]) -> list[str]:
    """Return what is wrong after a kill: nothing, one hopes."""
    path = folder / "g.gallery"
    try:
        now = state(path)
        found = complaints(path)  # asks, which is logged
    except Exception as error:  # noqa: BLE001  # any failure to open is what we look for
        return [f"{type(error).__name__}: {error}"]
    allowed = known[acknowledged : acknowledged + 2]
    if json.dumps(now) not in map(json.dumps, allowed):
        found.append(f"after {acknowledged} acknowledged operations the state is neither before nor after the next")
    return found


def kill_at(point: Point, material: Path, mutant: str | None, known: list[object]) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="torture-") as home:
        folder = Path(home) / "life"
        folder.mkdir()
        inject = f"inject={point.call}:signal=KILL:when={point.number}"
        trace = ["strace", "-o", "/dev/null", "-e", f"trace={point.call}", "-e", inject]
        run = subprocess.run(
            [*trace, *command(folder, material, mutant)], capture_output=True, text=True, env=ENVIRONMENT
        )
        return verdict(folder, run.stdout.count("done"), known)


def kill_somewhen(seconds: float, material: Path, known: list[object]) -> list[str]:
    """Where strace is missing: kill after a time."""
    with tempfile.TemporaryDirectory(prefix="torture-") as home:
        folder = Path(home) / "life"
        folder.mkdir()
        with subprocess.Popen(command(folder, material, None), stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout
            child.stdout.readline()
            time.sleep(seconds)
            child.kill()
            said = child.stdout.read()
        return verdict(folder, said.count("done"), known)


def torture(material: Path, sample: int | None = None, seed: int = 0) -> tuple[int, dict[str, list[str]]]:
    """Kill at every point (or a sample of them); return how many, and what was wrong where."""
    rng = random.Random(seed)
    if shutil.which("strace") is None:
        known = states(material)
        moments = [rng.uniform(0, 0.7) for _ in range(sample or 200)]
        wrong = {f"after {m:.3f} s": found for m in moments if (found := kill_somewhen(m, material, known))}
        return len(moments), wrong
    every, known = points(material, None)
    chosen = every if sample is None else sorted(rng.sample(every, min(sample, len(every))), key=every.index)
    wrong = {}
    for number, point in enumerate(chosen, 1):
        if found := kill_at(point, material, None, known):
            wrong[f"{point.call} {point.number}"] = found
        if sys.stderr.isatty():
            print(f"\r{number} of {len(chosen)}, {len(wrong)} wrong", end="", file=sys.stderr)
    return len(chosen), wrong


def bite(material: Path, mutant: str) -> tuple[int, str]:
    """Let a mutant live until a kill gives it away; return how many it took, and what was wrong (or nothing)."""
    every, known = points(material, mutant)
    likely = [point for point in every if point.call == MUTANTS[mutant]]
    for number, point in enumerate(likely, 1):
        if found := kill_at(point, material, mutant, known):
            return number, f"{point.call} {point.number}: {'; '.join(found)}"
    return len(likely), ""


def make_material(folder: Path) -> Path:
    """Make the two towers that a life needs: real ones, but tiny, since every page written is a point."""
    script = """
import sys
from pathlib import Path
import keras, numpy as np
from siamese_index import Cohort
from siamese_index.samples import images
from siamese_index.towers.card import Card, TowerInput
from siamese_index.training import towers
from siamese_index.training.export import export
from siamese_index.training.networks import Networks
from siamese_index.training.glyphs import glyph

pixels = np.stack([images.fit(glyph(n, 0), 16, 16) for n in range(50, 62)])
for seed, name in enumerate(("first", "second")):
    keras.utils.set_random_seed(seed)
    tower = towers.build((16, 16, 1), 8, {"name": "resnet", "stages": [2]}, pixels)
    card = Card(TowerInput((16, 16, 1)), 8)
    vectors = np.asarray(tower.predict(pixels.astype("float32"), verbose=0))
    cohort = Cohort(tuple(f"glyph {n}" for n in range(50, 62)), tuple(f"{n:064x}" for n in range(50, 62)), vectors)
    export(Networks(tower, tower, tower, False), card, cohort, pixels, pixels).write(Path(sys.argv[1]) / f"{name}.tower")
"""
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True, capture_output=True)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--live", type=Path)
    parser.add_argument("--material", type=Path)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--mutant", choices=sorted(MUTANTS))
    options = parser.parse_args()
    if options.live:
        live(options.live, options.material, options.mutant)
        return
    with tempfile.TemporaryDirectory(prefix="torture-") as home:
        material = options.material or make_material(Path(home))
        if options.mutant:
            count, wrong_there = bite(material, options.mutant)
            print(f"{options.mutant}: {f'caught at kill {count}, {wrong_there}' if wrong_there else 'not caught'}")
            sys.exit(not wrong_there)
        began = time.monotonic()
        count, wrong = torture(material, None if options.all else options.sample or 30)
    for where, found in wrong.items():
        print(f"{where}: {'; '.join(found)}")
    print(f"killed at {count} points in {time.monotonic() - began:.0f} s: {len(wrong)} left something wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
