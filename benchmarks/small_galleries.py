"""Decisions in small and imperfect galleries: few strangers, wrong labels, one person twice, equal towers.

Parts of `make bench-decisions`. Populations: people by dlib's vectors (ORL), characters by a tower of other alphabets
(Omniglot), and two drawn laws: families of look-alikes, and pictures of which some are very bad.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import protocols
from siamese_index import Gallery, Tower
from siamese_index.analysis.comparison import compare

DATA = Path(os.environ.get("SIAMESE_INDEX_DATA", "."))
Line = Callable[..., None]


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def people() -> np.ndarray:
    return unit(np.load(DATA / "orl_dlib128.npy"))


def families() -> np.ndarray:
    """400 people of 60 families: who is of one family looks alike, and some vary more than others."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, 32))[rng.integers(0, 60, 400)] + 0.7 * rng.normal(size=(400, 32))
    spread = 0.35 * np.exp(0.5 * rng.normal(size=(400, 1, 1)))
    return unit(centres[:, None] + spread * rng.normal(size=(400, 10, 32)))


def bad_pictures() -> np.ndarray:
    """400 people of whom some pictures are much worse than others."""
    rng = np.random.default_rng(2)
    spread = 0.4 * np.abs(rng.standard_t(2.5, size=(400, 10, 1)))
    return unit(rng.normal(size=(400, 1, 24)) + spread * rng.normal(size=(400, 10, 24)))


def characters(home: Path) -> np.ndarray:
    """106 characters of alphabets that the tower has not seen, 20 drawers each."""
    from benchmarks.decisions import opened_tower, trained
    from benchmarks.training import extracted

    tower: Tower = opened_tower(trained(extracted(home, "omniglot_small1.zip")))  # type: ignore[assignment]
    folder = extracted(home, "omniglot_small2.zip")
    return np.stack(
        [
            tower.embed([tower.prepare(picture.read_bytes()) for picture in sorted(character.iterdir())])
            for alphabet in protocols.UNSEEN["omniglot_small2.zip"]
            for character in sorted((folder / alphabet).iterdir())
        ]
    )


@dataclass
class Draw:
    """A gallery's content, and who asks."""

    vectors: np.ndarray
    names: list[str]
    strangers: np.ndarray
    stranger_names: list[str]
    asking: np.ndarray  # of strangers
    mated: np.ndarray
    whose: list[set[str]]  # under which names each mated probe may be found


def draw(
    population: np.ndarray, seed: int, enrolled: int, each: int, given: int, per: int, wrong: float, twice: int
) -> Draw:
    """`wrong` is the share of pictures under another's name; the first `twice` people are enrolled under two names."""
    rng = np.random.default_rng(seed)
    order, pictures = rng.permutation(len(population)), population.shape[1]
    known, given_people, asking = order[:enrolled], order[enrolled : enrolled + given], order[enrolled + given :][:60]
    vectors, names, mated, whose = [], [], [], []
    for i, person in enumerate(known):
        chosen = rng.permutation(pictures)
        vectors.append(population[person, chosen[:each]])
        mine = [f"p{i}"] * each
        if i < twice:
            mine[each // 2 :] = [f"q{i}"] * (each - each // 2)
        names += mine
        mated.append(population[person, chosen[each:]])
        whose += [set(mine)] * (pictures - each)
    for at in rng.choice(len(names), max(1, round(wrong * len(names))) if wrong else 0, replace=False):
        names[at] = rng.choice(sorted(set(names) - {names[at]}))
    return Draw(
        np.concatenate(vectors), names, population[given_people][:, :per].reshape(-1, population.shape[2]),
        [f"s{i}" for i in range(given) for _ in range(per)], population[asking].reshape(-1, population.shape[2]),
        np.concatenate(mated), whose,
    )  # fmt: skip


def rates(content: Draw, target: float, **told: bool | str) -> tuple[float, float, int]:
    """Return (FPIR, FNIR, searches set aside) of a real gallery; ambiguous between two names of one person is found."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Gallery.create(Path(folder) / "g.gallery", dimension=content.vectors.shape[1], fpir=target) as gallery,
    ):
        gallery.enroll_vectors(content.names, content.vectors, conflicts="allow")
        if len(content.strangers):
            gallery.calibrate_vectors(names=content.stranger_names, vectors=content.strangers, **told)
        let_in = [a.verdict != "unknown" for a in gallery.identify_vectors(content.asking)]
        found = []
        for answer, names in zip(gallery.identify_vectors(content.mated), content.whose, strict=True):
            two = {c.identity for c in answer.candidates[:2]}
            found.append(answer.identity in names or (answer.verdict == "ambiguous" and two <= names))
        return float(np.mean(let_in)), 1 - float(np.mean(found)), gallery.threshold().evidence.set_aside


def populations(home: Path) -> Iterator[tuple[str, np.ndarray]]:
    yield "people", people()
    yield "families", families()
    yield "bad pictures", bad_pictures()
    yield "characters", characters(home)


def few(home: Path, line: Line, splits: int = 30) -> None:
    """FPIR and FNIR with few strangers, or none, given: 20 enrolled, target 1 %."""
    for name, population in populations(home):
        for each in (1, 5):
            for given in (0, 1, 2, 3, 5, 10):
                found = [rates(draw(population, s, 20, each, given, 1, 0, 0), 0.01) for s in range(splits)]
                fpir, fnir, _ = np.mean(found, axis=0)
                line("few", f"{name}, {each} of each, {given} strangers given", f"{splits} splits, 20 enrolled, target 0.01",
                     fpir=float(fpir), fnir=float(fnir),
                     fpir_spread=float(1.96 * np.std([f[0] for f in found]) / splits**0.5))  # fmt: skip


def shift(home: Path, line: Line, splits: int = 30) -> None:
    """A threshold that stays, that moves with the probe, and what auto chooses: paired, 20 enrolled, five pictures each."""
    for name, population in populations(home):
        given = 10 if name == "people" else 30
        for each in (1, 5):
            for target in (0.02, 0.1):
                told = {"stays": {}, "moves": {"shift": True}, "auto": {"fusion": "auto"}}
                found = {
                    way: np.array([rates(draw(population, s, 20, each, given, 5, 0, 0), target, **how)[:2]
                                   for s in range(splits)])
                    for way, how in told.items()
                }  # fmt: skip
                gain = found["stays"][:, 1] - found["moves"][:, 1]
                line("shift", f"{name}, {each} of each, {given} strangers given x 5, target {target:g}", f"{splits} splits",
                     **{f"{way}_{rate}": float(rows[:, i].mean()) for way, rows in found.items()
                        for i, rate in enumerate(("fpir", "fnir"))},
                     gain=float(gain.mean()), gain_spread=float(1.96 * gain.std() / splits**0.5))  # fmt: skip


def coverage(home: Path, line: Line, splits: int = 100) -> None:
    """How often the 95 % interval of a counted threshold holds the share that is then let in: 100 enrolled, target 5 %.

    By the gallery's own searches alone, and by 100 pictures of 50 strangers.
    """
    del home
    for name, population in (("families", families()), ("bad pictures", bad_pictures())):
        for given in (0, 50):
            held, let_in = [], []
            for split in range(splits):
                order = np.random.default_rng(split).permutation(len(population))
                known, strangers, asking = order[:100], order[100 : 100 + given], order[150:]
                with (
                    tempfile.TemporaryDirectory() as folder,
                    Gallery.create(Path(folder) / "g.gallery", dimension=population.shape[2], fpir=0.05) as gallery,
                ):
                    gallery.enroll_vectors([f"p{i}" for i in known], population[known, 0], conflicts="allow")
                    if given:
                        vectors = population[strangers, :2].reshape(-1, population.shape[2])
                        gallery.calibrate_vectors(names=[f"s{i}" for i in strangers for _ in range(2)], vectors=vectors)
                    ends = gallery.threshold().interval()
                    probes = population[asking].reshape(-1, population.shape[2])
                    share = np.mean([a.verdict != "unknown" for a in gallery.identify_vectors(probes)])
                held.append(ends[0] <= share <= ends[1])
                let_in.append(share)
            line("coverage", f"{name}, {given} strangers given x 2", f"{splits} splits, 100 enrolled, target 0.05",
                 held=float(np.mean(held)), fpir=float(np.mean(let_in)))  # fmt: skip


def wrong(home: Path, line: Line, splits: int = 30) -> None:
    """FNIR with wrong labels and with people under two names, beside the clean gallery: 20 enrolled, 5 of each."""
    for name, population in populations(home):
        for given in (0, 5):
            for share, twice in ((0, 0), (0.01, 0), (0.03, 0), (0, 3)):
                found = [rates(draw(population, s, 20, 5, given, 5, share, twice), 0.01) for s in range(splits)]
                fpir, fnir, aside = np.mean(found, axis=0)
                line("wrong", f"{name}, {given} strangers given, {share:.0%} mislabelled, {twice} people twice",
                     f"{splits} splits, 20 enrolled, target 0.01", fpir=float(fpir), fnir=float(fnir),
                     set_aside=float(aside),
                     fnir_spread=float(1.96 * np.std([f[1] for f in found]) / splits**0.5))  # fmt: skip


def proofs(home: Path, line: Line, runs: int = 400) -> None:
    """How often `compare` says better of two towers that are equally good, and of one with less noise (1.1 to 0.7)."""
    del home
    for identities in (2, 3, 5, 7, 10, 20):
        said = {"equal": 0, "better": 0, "equal, third attempt": 0}
        for run in range(runs):
            rng = np.random.default_rng((run, identities))
            centres = rng.normal(size=(identities + 20, 16))
            names = [f"p{i}" for i in np.repeat(np.arange(len(centres)), 4)]
            judges = {f"p{i}" for i in range(identities)}
            for case, before, after, attempt in (
                ("equal", 0.9, 0.9, 1),
                ("better", 1.1, 0.7, 1),
                ("equal, third attempt", 0.9, 0.9, 3),
            ):
                two = [
                    unit(np.repeat(centres, 4, axis=0) + noise * rng.normal(size=(4 * len(centres), 16)))
                    for noise in (before, after)
                ]
                said[case] += compare(*two, names, judges, 0.05, draws=2, attempt=attempt)["verdict"] == "better"
        line(
            "proofs",
            f"{identities} held-out identities",
            f"{runs} runs each",
            **{k.replace(" ", "_").replace(",", ""): v / runs for k, v in said.items()},
        )
