"""Do the answers keep what they promise? Synthetic laws, real data with identities never seen, and what it costs.

    make bench-decisions                     (python -m benchmarks.decisions [PART …]; needs SIAMESE_INDEX_DATA)

Parts: law, dlib, characters, faces, conflicts, normalisation, cost, few, wrong, proofs, shift, coverage. Each prints a line per
figure with what it was counted on.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import protocols, small_galleries
from benchmarks.training import extracted, note, run, write_faces
from siamese_index import Conflict, Gallery, TowerFile
from siamese_index.search.fusion import all_distances
from siamese_index.thresholds.learning import threshold
from siamese_index.thresholds.statistics import share_interval
from siamese_index.training import train

DATA = Path(os.environ.get("SIAMESE_INDEX_DATA", "."))
SPLITS = 50


def main() -> None:
    run(PARTS, "orl_dlib128.npy")


def line(part: str, what: str, counted: str, **figures: object) -> None:
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}
    print(json.dumps({"part": part, "what": what, **rounded, "counted": counted}), flush=True)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


# -- a known law --------------------------------------------------------------------------------------


def law(home: Path) -> None:
    """Lookalike families on a sphere: fixed galleries, 400 strangers each time, fresh strangers for the truth."""
    del home
    rng = np.random.default_rng(0)
    families = rng.normal(size=(4000, 32))

    def people(n: int) -> np.ndarray:
        return unit(families[rng.integers(0, len(families), n)] + 0.7 * rng.normal(size=(n, 32)))

    for enrolled in (5, 50, 500, 5000):
        templates = people(enrolled)
        strangers = np.concatenate(
            [all_distances(people(4000), templates).min(axis=1) for _ in range(50)]
        )  # 200,000 searches: half to draw from, half for the truth
        drawn, truth = strangers[:100_000], np.sort(strangers[100_000:])
        for target in (0.1, 0.01):
            achieved, held = [], 0
            for _ in range(400):
                learned = threshold(rng.choice(drawn, 400, False), [str(i) for i in range(400)], target)
                fpir = np.searchsorted(truth, learned.tau, "right") / len(truth)
                low, high = learned.interval()
                achieved.append(fpir)
                held += low <= fpir <= high
            line("law", f"N = {enrolled}, target {target:g}", "400 repetitions with 400 strangers",
                 achieved=float(np.mean(achieved)), interval_holds=held / 400)  # fmt: skip


# -- somebody else's embedder -------------------------------------------------------------------------


def dlib_curve(splits: int = SPLITS) -> dict[int, dict[str, list[float]]]:
    """By N: shares of strangers let in, and of mated searches missed, of each split; the constant 0.6 and ours.

    40 people: N enrolled from one picture each; of the others every second is given as a stranger (all
    ten pictures), the rest are the strangers that ask. Mated: the other nine pictures.
    """
    raw = np.load(DATA / "orl_dlib128.npy")
    vectors = unit(raw)
    out: dict[int, dict[str, list[float]]] = {}
    for enrolled in (5, 10, 20, 30):
        figures: dict[str, list[float]] = {
            k: [] for k in ("constant_fpir", "constant_fnir", "fpir", "fnir", "stated", "rank1")
        }
        for split in range(splits):
            rng = np.random.default_rng(split)
            people = rng.permutation(40)
            known, given, asking = people[:enrolled], people[enrolled::2], people[enrolled + 1 :: 2]
            picture = rng.integers(0, 10, 40)
            rest = [[n for n in range(10) if n != picture[p]] for p in known]
            mated = np.concatenate([raw[p, r] for p, r in zip(known, rest, strict=True)])
            away = np.linalg.norm(mated[:, None] - raw[known, picture[known]][None], axis=2)
            own = np.repeat(np.arange(enrolled), 9)
            strange = np.linalg.norm(raw[asking].reshape(-1, 1, 128) - raw[known, picture[known]][None], axis=2).min(
                axis=1
            )
            figures["constant_fpir"].append(float(np.mean(strange <= 0.6)))
            figures["constant_fnir"].append(float(np.mean((away.argmin(axis=1) != own) | (away.min(axis=1) > 0.6))))
            figures["rank1"].append(float(np.mean(away.argmin(axis=1) == own)))
            with (
                tempfile.TemporaryDirectory() as folder,
                Gallery.create(Path(folder) / "faces.gallery", dimension=128) as gallery,
            ):
                gallery.enroll_vectors([f"p{p}" for p in known], vectors[known, picture[known]])
                gallery.calibrate_vectors(
                    names=[f"p{p}" for p in given for _ in range(10)], vectors=vectors[given].reshape(-1, 128)
                )
                answers = gallery.identify_vectors(vectors[asking].reshape(-1, 128))
                figures["fpir"].append(float(np.mean([a.verdict != "unknown" for a in answers])))
                probes = np.concatenate([vectors[p, r] for p, r in zip(known, rest, strict=True)])
                names = [f"p{p}" for p in known for _ in range(9)]
                found = gallery.identify_vectors(probes)
                figures["fnir"].append(float(np.mean([a.identity != n for a, n in zip(found, names, strict=True)])))
                figures["stated"].append(gallery.threshold().interval()[1])
        out[enrolled] = figures
    return out


def dlib(home: Path) -> None:
    del home
    curve = dlib_curve()
    for enrolled, figures in curve.items():
        kept = float(np.mean([f <= s for f, s in zip(figures["fpir"], figures["stated"], strict=True)]))
        line("dlib", f"{enrolled} people enrolled", f"{SPLITS} random splits of 40 people",
             **{k: float(np.mean(v)) for k, v in figures.items()}, splits_within_the_stated=kept)  # fmt: skip
    _draw_dlib(curve)


def _draw_dlib(curve: dict[int, dict[str, list[float]]]) -> None:
    from siamese_index.analysis.html import plot

    sizes = list(curve)

    def draw(axes: object) -> None:
        for key, label, colour, style in (
            ("constant_fpir", "strangers let in, constant 0.6", "#d55e00", "-"),
            ("fpir", "strangers let in, ours", "#0072b2", "-"),
            ("stated", "at most, as ours states it", "#0072b2", ":"),
            ("fnir", "mated probes missed, ours", "#0072b2", "--"),
        ):
            axes.plot(sizes, [np.mean(curve[n][key]) for n in sizes], style, color=colour, marker="o", label=label)
        axes.set(
            xlabel="people enrolled, one picture each", ylabel="share of searches", ylim=(-0.01, 0.5), xticks=sizes
        )
        axes.legend(frameon=False)

    out = Path(__file__).parents[1] / "docs" / "strangers.svg"
    out.write_text(plot(draw, 6.4, 3.4) + "\n", encoding="utf-8")
    note(f"drawn: {out}")


# -- towers of ours ---------------------------------------------------------------------------------


def characters(home: Path) -> None:
    """Omniglot: learned from one background set; 20, 50, 100 characters of alphabets that it has not are enrolled."""
    tower = trained(extracted(home, "omniglot_small1.zip"))
    folder = extracted(home, "omniglot_small2.zip")
    pictures = {
        f"{alphabet}/{character.name}": [p.read_bytes() for p in sorted(character.iterdir())]
        for alphabet in protocols.UNSEEN["omniglot_small2.zip"]
        for character in sorted((folder / alphabet).iterdir())
    }
    _promises("characters", [(tower, pictures)], (20, 50, 100), 0.1)


def faces(home: Path) -> None:
    """ORL: five folds of 32 people learned (three tenths of them held out); of 8 others 2, 4, 6 are enrolled."""
    write_faces(home)
    files = protocols.orl_files(DATA)
    folds = []
    for fold in range(5):
        unseen = range(8 * fold, 8 * fold + 8)
        table = home / f"fold{fold}.csv"
        seen = [(f"s{p}-{n}.pgm", f"p{p}") for p in range(40) if p not in unseen for n in range(10)]
        table.write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in seen))
        folds.append((trained(table), {f"u{p}": files[p] for p in unseen}))
    _promises("faces", folds, (2, 4, 6), 0.1)


def trained(data: Path) -> TowerFile:
    made = train(str(data), holdout=0.3)
    note(f"  {made.card.training.recipe['name']}: {made.card.training.seconds:.0f} s")
    return made


def opened_tower(made: TowerFile) -> object:
    from siamese_index import Tower

    return Tower.of(made)


def _promises(
    part: str, towers: list[tuple[TowerFile, dict[str, list[bytes]]]], sizes: tuple[int, ...], target: float
) -> None:
    """Measured FPIR against the promise at each N: by the tower's strangers, and with strangers given.

    Beside: the tower's threshold of the smallest N kept at this one, as peers ship it, and the distance with
    the best F1. Given are every second of those who are not enrolled; the others ask.
    """
    counts: dict[int, dict[str, list[float]]] = {size: {} for size in sizes}
    splits = 20 // len(towers)
    for tower, pictures in towers:
        names = list(pictures)
        opened = opened_tower(tower)
        vectors = np.stack([opened.embed([opened.prepare(p) for p in pictures[n]]) for n in names])
        f1 = _best_f1(tower.cohort.vectors, tower.cohort.names)
        for split in range(splits):
            tuned = None
            for size in sizes:
                rng = np.random.default_rng((split, 0))
                order, picture = rng.permutation(len(names)), rng.integers(0, vectors.shape[1], len(names))
                known, asking, given = order[:size], order[size::2], order[size + 1 :: 2]
                with (
                    tempfile.TemporaryDirectory() as folder,
                    Gallery.create(Path(folder) / "g.gallery", tower, fpir=target) as gallery,
                ):
                    gallery.enroll_many([(names[i], pictures[names[i]][picture[i]]) for i in known], conflicts="allow")
                    found = {"": gallery.threshold()}
                    gallery.calibrate(strangers_given=[(names[i], p) for i in given for p in pictures[names[i]]])
                    found["given "] = gallery.threshold()
                templates = vectors[known, picture[known]]
                strange = all_distances(vectors[asking].reshape(-1, vectors.shape[2]), templates).min(axis=1)
                mated = all_distances(np.concatenate([np.delete(vectors[i], picture[i], 0) for i in known]), templates)
                own = np.repeat(np.arange(size), vectors.shape[1] - 1)
                tuned = found[""].tau if tuned is None else tuned
                row = {"searches": len(strange), "fpir fixed": float(np.mean(strange <= tuned)),
                       "fpir of max F1": float(np.mean(strange <= f1))}  # fmt: skip
                for by, learned in found.items():
                    hit = (mated.argmin(axis=1) == own) & (mated.min(axis=1) <= learned.tau)
                    row |= {f"{by}fpir": float(np.mean(strange <= learned.tau)), f"{by}fnir": 1 - float(hit.mean()),
                            f"{by}stated": learned.interval()[1],
                            f"{by}within": float(np.mean(strange <= learned.tau) <= learned.interval()[1])}  # fmt: skip
                for key, value in row.items():
                    counts[size].setdefault(key, []).append(value)
    for size, columns in counts.items():
        searches = int(np.sum(columns.pop("searches")))
        line(part, f"N = {size}, target {target:g}",
             f"{len(towers)} towers x {splits} splits, {searches} stranger searches",
             **{key.replace(" ", "_"): float(np.mean(values)) for key, values in columns.items()})  # fmt: skip


def _best_f1(vectors: np.ndarray, names: tuple[str, ...]) -> float:
    """The distance with the best F1 of comparisons, as TensorFlow Similarity calibrates."""
    rows, columns = np.triu_indices(min(len(vectors), 1500), 1)
    distance = all_distances(vectors[:1500], vectors[:1500])[rows, columns]
    same = np.asarray(names)[rows] == np.asarray(names)[columns]
    order = np.argsort(distance)
    right = np.cumsum(same[order])
    f1 = 2 * right / (np.arange(1, len(order) + 1) + same.sum())
    return float(distance[order][np.argmax(f1)])


# -- conflicts ------------------------------------------------------------------------------------------


def conflicts(home: Path) -> None:
    """Of wrong enrollments (a picture of one enrolled person under another's, or a new, name): how many are caught?"""
    del home
    vectors = unit(np.load(DATA / "orl_dlib128.npy"))
    counts = {"under another's name": [0, 0], "under a new name": [0, 0], "right, of somebody enrolled": [0, 0],
              "right, of somebody new": [0, 0]}  # fmt: skip
    for split in range(20):
        rng = np.random.default_rng(split)
        people = rng.permutation(40)
        known, given, new = people[:20], people[20:32], people[32:]
        with (
            tempfile.TemporaryDirectory() as folder,
            Gallery.create(Path(folder) / "c.gallery", dimension=128, fpir=0.05) as gallery,
        ):
            gallery.enroll_vectors([f"p{p}" for p in known], vectors[known, 0])
            gallery.calibrate_vectors(
                names=[f"p{p}" for p in given for _ in range(10)], vectors=vectors[given].reshape(-1, 128)
            )
            promise = gallery.threshold().evidence.promise
            cases = [("under another's name", known[i], f"p{known[i - 1]}") for i in range(20)]
            cases += [("under a new name", p, "somebody") for p in known]
            cases += [("right, of somebody enrolled", p, f"p{p}") for p in known]
            cases += [("right, of somebody new", p, f"p{p}") for p in new]
            for kind, person, name in cases:
                counts[kind][1] += 1
                try:
                    gallery.enroll_vectors([name], vectors[person, 1:2], conflicts="refuse")
                except Conflict:
                    counts[kind][0] += 1
                    continue
                gallery.remove(name) if name not in {f"p{p}" for p in known} else _take_back(
                    gallery, name, vectors, person
                )
    for kind, (caught, of) in counts.items():
        low, high = share_interval(caught, of)
        line("conflicts", f"refused: {kind}", f"{caught} of {of}, 20 splits of 40 people, promise {promise:.3f}",
             share=caught / of, low=low, high=high)  # fmt: skip


def _take_back(gallery: Gallery, name: str, vectors: np.ndarray) -> None:
    """Leave an identity with its first picture alone."""
    gallery.remove(name)
    gallery.enroll_vectors([name], vectors[int(name[1:]), 0:1], conflicts="allow")


# -- score normalisation --------------------------------------------------------------------------------


def normalisation(home: Path) -> None:
    """Would adaptive symmetric normalisation (Matějka et al., 2017) lower FNIR? 30 splits each, paired."""
    tower = trained(extracted(home, "omniglot_small1.zip"))
    opened = opened_tower(tower)
    folder = extracted(home, "omniglot_small2.zip")
    drawn = [
        opened.embed([opened.prepare(p.read_bytes()) for p in sorted(character.iterdir())])
        for alphabet in protocols.UNSEEN["omniglot_small2.zip"]
        for character in sorted((folder / alphabet).iterdir())
    ]
    for name, vectors, sizes in (
        ("characters", np.stack(drawn), (20, 50)),
        ("dlib faces", unit(np.load(DATA / "orl_dlib128.npy")), (10, 20)),
    ):
        for size in sizes:
            for target in (0.1, 0.01):
                for nearest in (20, 100):
                    pairs = [_normalised(vectors, size, np.random.default_rng(i), nearest, target) for i in range(30)]
                    change = np.array([after - before for before, after in pairs])
                    line("normalisation", f"{name}, N = {size}, FPIR {target:g}, cohort of the nearest {nearest}",
                         "30 splits", fnir=float(np.mean([p[0] for p in pairs])),
                         fnir_normalised=float(np.mean([p[1] for p in pairs])),
                         change=float(change.mean()), spread=float(1.96 * change.std() / 30**0.5))  # fmt: skip


def _normalised(
    vectors: np.ndarray, size: int, rng: np.random.Generator, nearest: int, target: float
) -> tuple[float, float]:
    """Return FNIR at `target` without and with the normalisation, both by the strangers that ask."""
    order = rng.permutation(len(vectors))
    known, cohort, asking = order[:size], order[size::2], order[size + 1 :: 2]
    picture = rng.integers(0, vectors.shape[1], len(vectors))
    templates = vectors[known, picture[known]]
    mated = np.concatenate([np.delete(vectors[i], picture[i], 0) for i in known])
    own = np.repeat(np.arange(size), vectors.shape[1] - 1)
    strange = vectors[asking].reshape(-1, vectors.shape[2])
    background = vectors[cohort].reshape(-1, vectors.shape[2])

    def spread(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        near = np.sort(all_distances(rows, background), axis=1)[:, :nearest]
        return near.mean(axis=1), near.std(axis=1)

    at, by = spread(templates)

    def plain(rows: np.ndarray) -> np.ndarray:
        return all_distances(rows, templates)

    def symmetric(rows: np.ndarray) -> np.ndarray:
        mean, deviation = spread(rows)
        d = all_distances(rows, templates)
        return ((d - mean[:, None]) / deviation[:, None] + (d - at) / by) / 2

    missed = []
    for score in (plain, symmetric):
        alarms = np.sort(score(strange).min(axis=1))
        tau = alarms[max(1, int(target * len(alarms))) - 1]
        found = score(mated)
        missed.append(1 - float(np.mean((found.argmin(axis=1) == own) & (found.min(axis=1) <= tau))))
    return missed[0], missed[1]


# -- cost -------------------------------------------------------------------------------------------------


def cost(home: Path) -> None:
    """What deciding adds to a search at 10,000 identities, what a cohort of 10,000 costs, and an enrollment."""
    rng = np.random.default_rng(0)
    people = unit(rng.normal(size=(10_200, 128)))
    strangers = unit(rng.normal(size=(10_000, 128)))
    with Gallery.create(home / "big.gallery", dimension=128) as gallery:
        gallery.enroll_vectors([f"p{i}" for i in range(10_000)], people[:10_000])
        began, cpu = time.perf_counter(), time.process_time()
        gallery.calibrate_vectors(names=[f"s{i}" for i in range(10_000)], vectors=strangers)
        line("cost", "10,000 strangers searched among 10,000 identities, stored", "once",
             seconds=time.perf_counter() - began, cpu_seconds=time.process_time() - cpu,
             peak_gb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)  # fmt: skip
        probes = unit(rng.normal(size=(400, 128)))
        for _ in range(2):
            answers = [gallery.identify_vectors(p[None])[0] for p in probes]
        ratio = statistics.median(a.ms["decide"] / a.ms["search"] for a in answers)
        line("cost", "deciding / searching, one probe among 10,000", "400 probes, median", ratio=ratio)
        spent = _cohort_seconds(gallery, people[10_000:])
        line("cost", "what the cohort of 11,024 searches adds to an enrollment, in memory and written",
             "200 enrollments, median", milliseconds=1000 * statistics.median(spent))  # fmt: skip


def _cohort_seconds(gallery: Gallery, people: np.ndarray) -> list[float]:
    """Seconds of CPU time that `ImpostorSearches.enrolled` takes in each of these enrollments, its writes included."""
    from siamese_index.thresholds.impostor_searches import ImpostorSearches

    spent, enrolled = [], ImpostorSearches.enrolled

    def timed(self: ImpostorSearches, *arguments: object) -> None:
        began = time.process_time()
        enrolled(self, *arguments)
        spent.append(time.process_time() - began)

    ImpostorSearches.enrolled = timed
    try:
        for i, vector in enumerate(people):
            gallery.enroll_vectors([f"late{i}"], vector[None], conflicts="allow")
    finally:
        ImpostorSearches.enrolled = enrolled
    return spent


PARTS = {
    "law": law, "dlib": dlib, "characters": characters, "faces": faces, "conflicts": conflicts,
    "normalisation": normalisation, "cost": cost,
    "few": lambda home: small_galleries.few(home, line), "wrong": lambda home: small_galleries.wrong(home, line),
    "proofs": lambda home: small_galleries.proofs(home, line), "shift": lambda home: small_galleries.shift(home, line),
    "coverage": lambda home: small_galleries.coverage(home, line),
}  # fmt: skip

if __name__ == "__main__":
    main()
