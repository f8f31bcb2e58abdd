"""How good are the towers that the recipes make, and how soon? Real data, no pretrained weights, seeds fixed.

    make bench-training                     (python benchmarks/training.py [PART …]; needs SIAMESE_INDEX_DATA)

Parts: mnist, fashion-mnist, orl-faces, orl-honest, vectors, omniglot, time-to-figure, loader, step, million. Each
prints a line per figure with what it was counted on and its 95 % interval (identities or first
pictures are the independent units). Times of shared machines mean nothing alone: only ratios are
reported, both sides in one run.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from benchmarks import protocols
from siamese_index import Tower
from siamese_index.samples import images, sources
from siamese_index.thresholds.statistics import clustered_interval
from siamese_index.training import train
from siamese_index.training.glyphs import glyph
from siamese_index.vectors import pack

DATA = Path(os.environ.get("SIAMESE_INDEX_DATA", "."))


def main() -> None:
    run(PARTS, "mnist.npz")


def run(parts: dict[str, Callable[[Path], None]], needed: str) -> None:
    """Run the parts that the command names, or all, each in a folder of its own."""
    wanted = sys.argv[1:] or list(parts)
    unknown = sorted(set(wanted) - set(parts))
    if unknown or not (DATA / needed).is_file():
        raise SystemExit(f"Parts: {', '.join(parts)}. SIAMESE_INDEX_DATA names the folder with the data.")
    for part in wanted:
        with tempfile.TemporaryDirectory(prefix="sidx-bench-") as home:
            began = time.monotonic()
            parts[part](Path(home))
            note(f"{part}: {time.monotonic() - began:.0f} s")


def line(what: str, figure: float, reach: str, counted: str, ends: tuple[float, float] | None = None) -> None:
    """Print a figure; the same as JSON to a pipe."""
    row = {"what": what, "figure": round(float(figure), 4), "reach": reach, "counted": counted}
    if ends:
        row["interval"] = [round(float(e), 4) for e in ends]
    print(json.dumps(row), flush=True)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def learn(data: object, **options: object) -> Tower:
    """Train, and return the open tower."""
    made = train(str(data), **options)
    training = made.card.training
    note(f"  {training['recipe']['name']}: {training['steps']} steps, {training['seconds']:.0f} s")
    return Tower.of(made)


def embedded(tower: Tower, pixels: np.ndarray) -> np.ndarray:
    """Vectors of uint8 (n, height, width)."""
    return tower.embed([images.fit(p[..., None], *tower.shape[:2]) for p in pixels])


def apart(vectors: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors[first] - vectors[second], axis=1)


def best_cut(distance: np.ndarray, genuine: np.ndarray) -> float:
    """The distance that tells most pairs apart: chosen on pairs of the training, used on those of the test."""
    order = np.argsort(distance)
    right = np.cumsum(genuine[order]) - np.cumsum(~genuine[order])
    return float(distance[order][np.argmax(right)])


# -- the seeds' own protocols -------------------------------------------------------------------------


def mnist(home: Path) -> None:
    """Same or different: 42,000 pictures to learn from, 20,000 pairs of the 10,000 test pictures."""
    x, y, xt, yt = protocols.read(DATA, "mnist")
    np.savez(home / "mnist.npz", x=x[:42_000], y=y[:42_000])
    known = protocols.impostors_and_genuine(y[:5000], 10_000, np.random.default_rng(3))
    first, second, genuine = protocols.impostors_and_genuine(yt, 20_000, np.random.default_rng(2))
    for recipe, reach in (("mnist", ">= 0.985"), ("mnist-cnn", ">= 0.995")):
        tower = learn(home / "mnist.npz", recipe=recipe, holdout=0.0)
        cut = best_cut(apart(embedded(tower, x[:5000]), *known[:2]), known[2])
        right = (apart(embedded(tower, xt), first, second) <= cut) == genuine
        ends = clustered_interval(right, [str(i) for i in first])
        line(
            f"{recipe}: pairs told apart", right.mean(), f"{reach}; seed 0.968", "20,000 pairs of 10,000 pictures", ends
        )


def fashion_mnist(home: Path) -> None:
    """Contrastive loss, margin 1, of two pairs per test picture, one genuine and one impostor."""
    x, y, xt, yt = protocols.garments(DATA)
    np.savez(home / "garments.npz", x=x, y=y)
    tower = learn(home / "garments.npz", recipe="fashion-mnist", holdout=0.0)
    first, second, genuine = protocols.one_each(yt, np.random.default_rng(2))
    d = apart(embedded(tower, xt), first, second)
    each = np.where(genuine, d**2, np.maximum(1 - d, 0) ** 2).reshape(-1, 2).mean(axis=1)
    spread = 1.96 * each.std() / np.sqrt(len(each))
    ends = (each.mean() - spread, each.mean() + spread)
    line(
        "fashion-mnist: contrastive loss", each.mean(), "<= 0.080; seed 0.1446", "20,000 pairs of 10,000 pictures", ends
    )


def orl_faces(home: Path) -> None:
    """20,000 pairs of the same 40 people, 75 % to learn from: people and pictures are shared, as in the seed."""
    _, first, second, genuine, learned = protocols.orl_pairs(DATA)
    table = orl_table(home, first[learned], second[learned], genuine[learned])
    tower = learn(table, recipe="orl-faces", holdout=0.0)
    vectors = tower.embed([tower.prepare(f) for person in protocols.orl_files(DATA) for f in person])
    d = apart(vectors, first, second)
    cut = best_cut(d[learned], genuine[learned])
    right = ((d <= cut) == genuine)[~learned]
    ends = clustered_interval(right, [str(i) for i in first[~learned]])
    line(
        "orl-faces: pairs told apart",
        right.mean(),
        ">= 0.995; seed 0.978",
        f"{len(right):,} pairs of 400 pictures",
        ends,
    )


def orl_table(home: Path, first: np.ndarray, second: np.ndarray, genuine: np.ndarray) -> Path:
    write_faces(home)
    with (home / "pairs.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path_a", "path_b", "label"])
        name = [f"s{i // 10}-{i % 10}.pgm" for i in range(400)]
        rows.writerows((name[a], name[b], int(g)) for a, b, g in zip(first, second, genuine, strict=True))
    return home / "pairs.csv"


def write_faces(home: Path) -> None:
    for person, files in enumerate(protocols.orl_files(DATA)):
        for number, data in enumerate(files):
            (home / f"s{person}-{number}.pgm").write_bytes(data)


# -- identities never seen ------------------------------------------------------------------------------


def orl_honest(home: Path) -> None:
    """Five folds of 32 people to learn from and 8 others: one picture of each enrolled, the other 72 identified."""
    write_faces(home)
    files = protocols.orl_files(DATA)
    hits, names = [], []
    for fold in range(5):
        unseen = range(8 * fold, 8 * fold + 8)
        table = home / f"fold{fold}.csv"
        seen = [(f"s{p}-{n}.pgm", p) for p in range(40) if p not in unseen for n in range(10)]
        table.write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in seen))
        tower = learn(table, holdout=0.0)
        v = tower.embed([tower.prepare(f) for p in unseen for f in files[p]]).reshape(8, 10, -1)
        for enrolled in range(10):
            found = np.einsum("pnd,qd->pnq", v, v[:, enrolled]).argmax(axis=2)
            probes = np.delete(found == np.arange(8)[:, None], enrolled, axis=1)
            hits.append(probes.ravel())
            names += [f"s{p}" for p in unseen for _ in range(9)]
    right = np.concatenate(hits)
    counted = "8 unseen of 40 people, 5 folds, each of 10 pictures enrolled in turn: 3,600 searches"
    line("orl-faces, honest: rank-1", right.mean(), ">= 0.95", counted, clustered_interval(right, names))


def vectors(home: Path) -> None:
    """scikit-learn's digits, 64 numbers each: learned from seven digits, one shot of each of three others."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = x.astype(np.float32)
    rng = np.random.default_rng(0)
    ours, plain, names = [], [], []
    for unseen in ((0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 0, 5)):
        learned = ~np.isin(y, unseen)
        np.savez(home / "digits.npz", x=x[learned], y=y[learned])
        tower = learn(home / "digits.npz", holdout=0.0)
        made = tower.embed([tower.prepare(pack(row)) for row in x])
        for _ in range(50):
            enrolled = np.array([rng.choice(np.flatnonzero(y == digit)) for digit in unseen])
            probes = np.setdiff1d(np.flatnonzero(np.isin(y, unseen)), enrolled)
            for rows, hits in ((made, ours), (x, plain)):
                nearest = np.linalg.norm(rows[probes][:, None] - rows[enrolled][None], axis=2).argmin(axis=1)
                hits.append(np.mean(np.array(unseen)[nearest] == y[probes]))
            names.append(str(unseen))
    spread = 1.96 * np.std(ours) / np.sqrt(len(ours))
    counted = f"3 unseen digits, 4 splits x 50 draws; the plain vectors themselves: {np.mean(plain):.3f}"
    line("vectors: rank-1", np.mean(ours), "reported", counted, (np.mean(ours) - spread, np.mean(ours) + spread))


def omniglot(home: Path) -> None:
    """20-way one-shot within alphabets that the other background set has not, by two drawers; both directions."""
    folders = {name: extracted(home, name) for name in protocols.UNSEEN}
    means = []
    for learned, tested in (
        ("omniglot_small1.zip", "omniglot_small2.zip"),
        ("omniglot_small2.zip", "omniglot_small1.zip"),
    ):
        tower = learn(folders[learned], recipe="drawings-long", holdout=0.0)
        wrong = []
        for alphabet in protocols.UNSEEN[tested]:
            rows = [
                tower.embed([tower.prepare(p.read_bytes()) for p in sorted(character.iterdir())])
                for character in sorted((folders[tested] / alphabet).iterdir())
            ]
            wrong.append(protocols.twenty_way(np.stack(rows), np.random.default_rng(0)))
        each = [float(np.mean(w)) for w in wrong]
        spread = 1.96 * np.sqrt(sum(w.var() / len(w) for w in wrong)) / 3
        means.append(np.mean(each))
        told = ", ".join(f"{a} {e:.3f}" for a, e in zip(protocols.UNSEEN[tested], each, strict=True))
        ends = (means[-1] - spread, means[-1] + spread)
        line(
            f"omniglot, {learned[9:15]} learned: error",
            means[-1],
            "",
            f"400 trials of 20 characters each: {told}",
            ends,
        )
    line("omniglot, both directions: error", np.mean(means), "<= 0.12", "6 alphabets, 2 x 1,200 trials")


def extracted(home: Path, name: str) -> Path:
    with zipfile.ZipFile(DATA / name) as archive:
        archive.extractall(home / name)
    return next((home / name).iterdir())


# -- how soon, and how near the floor -------------------------------------------------------------------


def time_to_figure(home: Path) -> None:
    """Seconds until the seed's own figure is reached, from starting Python: by the seed's recipe, and by ours.

    Ours end with the last step: measuring and exporting come after. The seed's look at their figure
    as they go. They are stopped at six times ours.
    """
    for name, steps in (("mnist", 150), ("fashion-mnist", 400), ("orl-faces", 150)):
        reached, figure, tower = SOON[name](home, steps)
        ours = tower.card.training.seconds
        if not reached:
            line(f"{name}: the seed's figure after {steps} steps", figure, "the seed's", "not reached")
            continue
        command = [sys.executable, "-m", "benchmarks.seeds", name, str(DATA), str(6 * ours)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seed = json.loads(done.stdout.splitlines()[-1])
        more = "" if seed["reached"] else ", stopped short of its figure"
        counted = f"ours {ours:.0f} s ({figure:.4f}), the seed's {seed['seconds']:.0f} s ({seed['figure']:.4f}{more})"
        line(f"{name}: time to the seed's figure, ours / its own", ours / seed["seconds"], "<= 0.2", counted)


def soon_mnist(home: Path, steps: int) -> tuple[bool, float, Tower]:
    x, y, xt, yt = protocols.read(DATA, "mnist")
    np.savez(home / "m.npz", x=x[:42_000], y=y[:42_000])
    tower = learn(home / "m.npz", recipe="mnist-cnn", holdout=0.0, steps=steps)
    known = protocols.impostors_and_genuine(y[:2000], 4000, np.random.default_rng(3))
    cut = best_cut(apart(embedded(tower, x[:2000]), *known[:2]), known[2])
    first, second, genuine = protocols.impostors_and_genuine(yt, 20_000, np.random.default_rng(2))
    figure = float(np.mean((apart(embedded(tower, xt), first, second) <= cut) == genuine))
    return figure >= 0.968, figure, tower


def soon_fashion(home: Path, steps: int) -> tuple[bool, float, Tower]:
    x, y, xt, yt = protocols.garments(DATA)
    np.savez(home / "f.npz", x=x, y=y)
    tower = learn(home / "f.npz", recipe="fashion-mnist", holdout=0.0, steps=steps)
    first, second, genuine = protocols.one_each(yt, np.random.default_rng(2))
    d = apart(embedded(tower, xt), first, second)
    figure = float(np.mean(np.where(genuine, d**2, np.maximum(1 - d, 0) ** 2)))
    return figure <= 0.1446, figure, tower


def soon_orl(home: Path, steps: int) -> tuple[bool, float, Tower]:
    _, first, second, genuine, learned = protocols.orl_pairs(DATA)
    table = orl_table(home, first[learned], second[learned], genuine[learned])
    tower = learn(table, recipe="orl-faces", holdout=0.0, steps=steps)
    vectors = tower.embed([tower.prepare(f) for person in protocols.orl_files(DATA) for f in person])
    d = apart(vectors, first, second)
    near = d[~learned] <= best_cut(d[learned], genuine[learned])
    figure = float(np.mean(genuine[~learned][near]))
    return figure >= 0.978 and float(np.mean(near == genuine[~learned])) >= 0.9, figure, tower


SOON = {"mnist": soon_mnist, "fashion-mnist": soon_fashion, "orl-faces": soon_orl}


def loader(home: Path) -> None:
    """Pictures per second of CPU time: ours from file to pixels, and a bare loop of imdecode and resize."""
    from siamese_index.training.data import Data

    write_faces(home)
    rng = np.random.default_rng(0)
    for number in range(40):
        scene = cv2.resize(rng.integers(0, 256, (48, 64, 3), np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
        (home / f"photo{number}.jpg").write_bytes(images.encode(scene, ".jpg"))
    drawn = [p for c in sorted(extracted(home, "omniglot_small1.zip").glob("*/*")) for p in sorted(c.iterdir())]
    kinds = {
        "92 x 112 PGM": (sorted(home.glob("*.pgm")), (64, 53, 1)),
        "105 x 105 PNG": (drawn, (40, 40, 1)),
        "640 x 480 JPEG": (sorted(home.glob("*.jpg")), (64, 64, 3)),
    }
    for kind, (files, shape) in kinds.items():
        items = sources.Items([f"p{i}" for i in range(len(files))], files.__getitem__)
        data = Data(items, shape, list, budget=0)
        ratios = []
        for _ in range(7):
            seconds = []
            for run, arguments in ((bare, (files, shape)), (data.take, (np.arange(len(files)),))):
                began = time.process_time()
                run(*arguments)
                seconds.append(time.process_time() - began)
            ratios.append(seconds[0] / seconds[1])
        line(
            f"loader, {kind}: pictures per CPU second, ours / bare",
            np.median(ratios),
            ">= 0.9",
            f"{len(files)} files, median of 7",
        )


def bare(files: list[Path], shape: tuple[int, int, int]) -> None:
    flag = cv2.IMREAD_GRAYSCALE if shape[2] == 1 else cv2.IMREAD_COLOR
    for path in files:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), flag)
        cv2.resize(pixels, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)


def step(home: Path) -> None:
    """A step of a training, fed, beside the bare train_on_batch of the same network on one and the same batch."""
    script = Path(__file__).with_name("steps.py")
    for kind, data in (("drawings", extracted(home, "omniglot_small1.zip")), ("photos", faces_folder(home))):
        done = subprocess.run([sys.executable, script, kind, data], capture_output=True, text=True, check=True)
        ratio = json.loads(done.stdout.splitlines()[-1])
        line(
            f"step, {kind}: fed / bare train_on_batch",
            ratio["median"],
            "<= 1.1",
            f"median of {ratio['runs']} runs of 20 steps",
        )


def faces_folder(home: Path) -> Path:
    for person, files in enumerate(protocols.orl_files(DATA)):
        (home / "faces" / f"s{person}").mkdir(parents=True)
        for number, data in enumerate(files):
            (home / "faces" / f"s{person}" / f"{number}.pgm").write_bytes(data)
    return home / "faces"


def million(home: Path) -> None:
    """Resident memory of a training on a folder of a million pictures, of 10,000 identities."""
    drawn = [glyph(i, hand) for i in range(100) for hand in range(10)]
    for identity in range(10_000):
        (home / "many" / f"p{identity:05}").mkdir(parents=True)
        for number in range(100):
            picture = drawn[(identity * 7 + number) % 1000].copy()
            picture[0, :4, 0] = np.frombuffer(np.int32(identity * 100 + number).tobytes(), np.uint8)  # all differ
            (home / "many" / f"p{identity:05}" / f"{number:02}.png").write_bytes(images.encode(picture))
    learn(home / "many", recipe="drawings", steps=100)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    line("million pictures: peak resident GB", peak, "< 2", "1,000,000 PNG of 64 x 64, 100 steps")


PARTS = {
    "mnist": mnist, "fashion-mnist": fashion_mnist, "orl-faces": orl_faces, "orl-honest": orl_honest,
    "vectors": vectors, "omniglot": omniglot, "time-to-figure": time_to_figure, "loader": loader, "step": step,
    "million": million,
}  # fmt: skip

if __name__ == "__main__":
    main()
