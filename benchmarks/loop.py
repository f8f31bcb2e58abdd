"""The loop on characters: enroll with 5 % mistakes, audit, apply, correct, retrain, promote; what each step is worth.

    make bench-loop                         (needs SIAMESE_INDEX_DATA; a quarter of an hour on two cores)

A tower learns from alphabets of Omniglot; characters of other alphabets are enrolled, 5 % of them under a wrong name.
After each step FNIR is measured at the threshold that lets in 5 % of other characters, on drawings that are never enrolled:
at equal FPIR, on the same probes.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.training import DATA, line, note
from siamese_index import Gallery
from siamese_index.thresholds.statistics import share_interval
from siamese_index.training import retrain, train

ENROLLED, PROBES = 8, 6  # drawings of each character that are enrolled, and that ask
CHARACTERS, STRANGERS, COHORT = 120, 60, 40


def main() -> None:
    if not (DATA / "omniglot_small2.zip").is_file():
        raise SystemExit("SIAMESE_INDEX_DATA names the folder with the data.")
    with tempfile.TemporaryDirectory(prefix="sidx-bench-") as home:
        loop(Path(home), int(sys.argv[1]) if len(sys.argv) > 1 else 0)


def loop(home: Path, seed: int) -> None:
    """Print FNIR and rank-1 after each step of the loop."""
    for name in ("omniglot_small1", "omniglot_small2"):
        with zipfile.ZipFile(DATA / f"{name}.zip") as archive:
            archive.extractall(home)
    rng = np.random.default_rng(seed)
    folders = sorted(p.parent for p in (home / "images_background_small2").rglob("*_01.png"))
    chosen = [folders[i] for i in rng.permutation(len(folders))[: CHARACTERS + STRANGERS + COHORT]]
    drawings = {folder: sorted(folder.glob("*.png")) for folder in chosen}
    people, ask, cohort = np.split(np.array(chosen), [CHARACTERS, CHARACTERS + STRANGERS])
    train(home / "images_background_small1", steps=1500, out=home / "first.tower")
    place = home / "characters.gallery"
    with Gallery.create(place, home / "first.tower", fpir=0.05) as gallery:
        gallery.log(True)
        items = [(str(i), path) for i, folder in enumerate(people) for path in drawings[folder][:ENROLLED]]
        wrong = rng.choice(len(items), len(items) // 20, replace=False)
        for at in wrong:
            items[at] = (str(rng.choice([i for i in range(CHARACTERS) if str(i) != items[at][0]])), items[at][1])
        gallery.enroll_many(items, conflicts="allow")
        gallery.calibrate(strangers_given=[(f"s{i}", p) for i, f in enumerate(cohort) for p in drawings[f][:10]])
        probes = [(str(i), p) for i, f in enumerate(people) for p in drawings[f][ENROLLED : ENROLLED + PROBES]]
        strangers = [p for folder in ask for p in drawings[folder][:10]]

        def tell(step: str) -> None:
            told(step, gallery, probes, strangers)

        tell("enrolled, 5 % under a wrong name")
        for _ in range(12):
            mistaken = [
                finding for finding in gallery.audit().findings if finding.kind == "mistaken" and finding.is_probable
            ]
            if not mistaken:
                break
            gallery.curation.apply(mistaken)
        of = {row.source: row.identity for row in gallery.samples()}
        names = {str(p): str(i) for i, folder in enumerate(people) for p in drawings[folder][:ENROLLED]}
        right = sum(of.get(str(items[at][1])) == names[str(items[at][1])] for at in wrong)
        good = sum(of.get(str(p)) == names[str(p)] for i, (_, p) in enumerate(items) if i not in set(wrong.tolist()))
        note(f"{right} of {len(wrong)} mistakes put right; {len(items) - len(wrong) - good} right ones moved")
        tell("audited and applied")
        shown = [
            (str(i), p) for i, f in enumerate(people) for p in drawings[f][ENROLLED + PROBES : ENROLLED + PROBES + 3]
        ]
        answers = list(gallery.identify_many([path for _, path in shown]))
        missed = [(i, name) for i, ((name, _), a) in enumerate(zip(shown, answers, strict=True), 1)
                  if getattr(a, "identity", None) != name]  # fmt: skip
        for answer, name in missed:
            gallery.curation.correct(answer, name)
        note(f"{len(missed)} of {len(shown)} answers were wrong, and corrected")
        tell("corrected")
    result = retrain(place, home / "images_background_small1", steps=600)
    note(f"the candidate is: {result.comparison['verdict']}")
    with Gallery.open(place) as gallery:
        gallery.promote(result.tower)
        told("retrained and promoted", gallery, probes, strangers)


def told(step: str, gallery: Gallery, probes: list[tuple[str, Path]], strangers: list[Path]) -> None:
    """Print FNIR at 5 % FPIR, and rank-1."""
    vectors, _ = gallery.embed([*(path for _, path in probes), *strangers])
    names, away = gallery.distances(vectors)
    nearest: NDArray[np.float32] = away.min(axis=1)
    tau = np.quantile(nearest[len(probes) :], 0.05)
    found = [names[i] for i in away[: len(probes)].argmin(axis=1).tolist()]
    right = np.array([a == b for a, (b, _) in zip(found, probes, strict=True)])
    missed = int(np.sum(~(right & (nearest[: len(probes)] <= tau))))
    n = len(probes)
    line(
        f"{step}: FNIR at 5 % FPIR",
        missed / n,
        f"rank-1 {right.mean():.3f}",
        f"{missed} of {n}",
        share_interval(missed, n),
    )


if __name__ == "__main__":
    main()
