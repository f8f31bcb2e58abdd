"""How good are the answers? Open-set figures of a gallery, and the comparison of two towers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration import clustered_interval, share_interval, threshold
from .decision import SET, Evidence
from .enrollment import Progress, Refusal
from .errors import BadInput
from .gallery import Gallery
from .vectors import Vectors


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its counts and 95 % Clopper-Pearson interval; `share` is None for 0 of 0."""

    count: int
    of: int
    share: float | None
    low: float
    high: float

    @classmethod
    def measured(cls, count: int, of: int) -> Rate:
        return cls(count, of, count / of if of else None, *share_interval(count, of))


@dataclass(frozen=True)
class Evaluation:
    """An open-set test: probes of enrolled identities are mated, all others are strangers.

    A probe that cannot be read counts as an error of its mated search, never as left out.
    """

    identities: int
    mated: int
    strangers: int
    stranger_identities: int
    unreadable: int
    rank1: Rate  # of mated searches, regardless of the threshold
    cmc: tuple[float, ...]  # share of mated searches with their identity among the first 1, 2, … k
    fnir: Rate  # mated searches that did not return their identity
    wrong_identity: Rate  # mated searches that returned another identity
    fpir: Rate  # strangers that were taken for somebody
    threshold: float | None
    evidence: Evidence
    fpir_stated: tuple[float, float] | None  # the interval that the threshold's own evidence gives
    refused: tuple[Refusal, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `evaluate --json` prints."""
        content = asdict(self)
        content["refused"] = [{"probe": r.source, "error": str(r.error)} for r in self.refused]
        return content


def evaluate(
    gallery: Gallery,
    probes: Iterable[tuple[str, str | Path | bytes]],
    *,
    k: int = 5,
    fpir: float | None = None,
    given: float | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Identify (identity, picture) probes and count. `fpir` or `given` (a distance) as in `identify`."""
    items = list(probes)
    if not items:
        raise BadInput("There are no probes to evaluate with.")
    enrolled = {row.name for row in gallery.identities()}
    ranks: list[int] = []  # 0: not among the candidates
    refused = []
    returned = wrong = alarms = strangers = 0
    names = set()
    for (name, _), answer in zip(
        items, gallery.identify_many((p for _, p in items), k=k, fpir=fpir, threshold=given), strict=True
    ):
        if progress:
            progress(1)
        if isinstance(answer, Refusal):
            refused.append(answer)
        identity = None if isinstance(answer, Refusal) else answer.identity
        if name not in enrolled:
            strangers += 1
            names.add(name)
            # An ambiguous answer let the stranger within the threshold of two: it counts.
            alarms += not isinstance(answer, Refusal) and answer.verdict != "unknown"
            continue
        candidates = [] if isinstance(answer, Refusal) else answer.candidates
        ranks.append(next((c.rank for c in candidates if c.identity == name), 0))
        returned += identity == name
        wrong += identity not in (None, name)
    learned = gallery.threshold(fpir)
    found = np.array(ranks)
    return Evaluation(
        identities=len(enrolled),
        mated=len(ranks),
        strangers=strangers,
        stranger_identities=len(names),
        unreadable=len(refused),
        rank1=Rate.measured(int(np.sum(found == 1)), len(ranks)),
        cmc=tuple(float(np.mean((found > 0) & (found <= rank))) for rank in range(1, k + 1)) if ranks else (),
        fnir=Rate.measured(len(ranks) - returned, len(ranks)),
        wrong_identity=Rate.measured(wrong, len(ranks)),
        fpir=Rate.measured(alarms, strangers),
        threshold=learned.tau if given is None else given,
        evidence=learned.evidence if given is None else SET,
        fpir_stated=learned.interval() if given is None else None,
        refused=tuple(refused),
    )


def leave_one_out(
    vectors: Vectors, identities: NDArray[np.int64], searches: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return each search's distance to its nearest own template, to the nearest of another identity, and which."""
    mate, other = np.empty(len(searches)), np.empty(len(searches))
    at = np.empty(len(searches), np.int64)
    step = max(1, 16_000_000 // max(1, len(vectors)))
    for start in range(0, len(searches), step):
        rows = searches[start : start + step]
        part = slice(start, start + len(rows))
        likeness = vectors[rows] @ vectors.T
        likeness[np.arange(len(rows)), rows] = -np.inf
        own = identities[rows, None] == identities[None, :]
        mate[part] = np.where(own, likeness, -np.inf).max(axis=1)
        likeness[own] = -np.inf
        at[part] = likeness.argmax(axis=1)
        other[part] = likeness[np.arange(len(rows)), at[part]]
    return np.sqrt(np.maximum(2 - 2 * mate, 0)), np.sqrt(np.maximum(2 - 2 * other, 0)), at


def tower_figures(vectors: Vectors, names: Sequence[str], held_out: set[str], target: float) -> dict[str, Any]:
    """Return the leave-one-out figures of one tower on the identities that training never saw.

    Each held-out sample is searched among all other samples (mated), and among those of other
    identities (as a stranger, which sets the threshold for `target` FPIR). The 95 % intervals count
    the searches of one identity for what they are worth.
    """
    ids = np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)
    counts = np.bincount(ids)
    searches = np.array([i for i, n in enumerate(names) if n in held_out and counts[ids[i]] > 1], np.int64)
    if not len(searches) or len(counts) < 2:
        return {"searches": 0, "identities": 0}
    mate, other, _ = leave_one_out(vectors, ids, searches)
    whose = [names[i] for i in searches]
    learned = threshold(other, whose, target)
    assert learned.tau is not None  # there are searches
    first = mate < other
    missed = (mate > learned.tau) | ~first
    return {
        "searches": len(searches),
        "identities": len(np.unique(ids[searches])),
        "gallery": len(counts),
        "rank1": float(np.mean(first)),
        "rank1_interval": list(clustered_interval(first, whose)),
        "fnir": float(np.mean(missed)),
        "fnir_interval": list(clustered_interval(missed, whose)),
        "target_fpir": target,
        "threshold": learned.tau,
        "eer": equal_error_rate(mate, other),
    }


def compare(
    champion: Vectors, challenger: Vectors, names: Sequence[str], held_out: set[str], target: float, draws: int = 1000
) -> dict[str, Any]:
    """Return both towers' figures on the same searches, and the paired bootstrap over identities of their difference.

    Negative `fnir_change` and positive `rank1_change` are in the challenger's favour. `verdict` is
    "better" or "worse" when the 95 % interval of a change excludes zero and the other does not
    contradict, else "no proof".
    """
    figures = [tower_figures(v, names, held_out, target) for v in (champion, challenger)]
    if not figures[0]["searches"]:
        return {"champion": figures[0], "challenger": figures[1], "verdict": "no proof"}
    ids = np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)
    counts = np.bincount(ids)
    searches = np.array([i for i, n in enumerate(names) if n in held_out and counts[ids[i]] > 1], np.int64)
    group = np.unique(ids[searches], return_inverse=True)[1]
    groups = int(group.max()) + 1
    found = [leave_one_out(v, ids, searches)[:2] for v in (champion, challenger)]
    rng = np.random.default_rng(0)
    changes = np.empty((draws, 2))
    for draw in range(draws):
        weight = np.bincount(rng.integers(0, groups, groups), minlength=groups)[group].astype(float)
        rank1, fnir = zip(*(_weighted(mate, other, weight, target) for mate, other in found), strict=True)
        changes[draw] = rank1[1] - rank1[0], fnir[1] - fnir[0]
    low, high = np.quantile(changes, (0.025, 0.975), axis=0)
    result: dict[str, Any] = {"champion": figures[0], "challenger": figures[1]}
    for i, name in enumerate(("rank1", "fnir")):
        result[f"{name}_change"] = figures[1][name] - figures[0][name]
        result[f"{name}_interval"] = [float(low[i]), float(high[i])]
    good = (low[0] > 0 and low[1] <= 0) or (high[1] < 0 and high[0] >= 0)
    bad = (high[0] < 0 and high[1] >= 0) or (low[1] > 0 and low[0] <= 0)
    result["verdict"] = "no proof" if good == bad else "better" if good else "worse"
    return result


def _weighted(
    mate: NDArray[np.float64], other: NDArray[np.float64], weight: NDArray[np.float64], target: float
) -> tuple[float, float]:
    """Return (rank-1, FNIR at `target` FPIR) of weighted searches."""
    order = np.argsort(other)
    within = np.cumsum(weight[order]) <= target * weight.sum() + 1e-9
    admitted = int(np.sum(within))
    tau = other[order[admitted - 1]] if admitted else np.nextafter(other[order[0]], -1)
    first, hit = mate < other, (mate < other) & (mate <= tau)
    return float(np.average(first, weights=weight)), 1 - float(np.average(hit, weights=weight))


def equal_error_rate(mated: NDArray[np.float64], non_mated: NDArray[np.float64]) -> float:
    """Return the rate at which as many mated distances lie beyond a threshold as non-mated ones within it."""
    cuts = np.sort(np.concatenate([mated, non_mated]))
    missed = 1 - np.searchsorted(np.sort(mated), cuts, "right") / len(mated)
    accepted = np.searchsorted(np.sort(non_mated), cuts, "right") / len(non_mated)
    at = int(np.argmin(np.abs(missed - accepted)))
    return float((missed[at] + accepted[at]) / 2)
