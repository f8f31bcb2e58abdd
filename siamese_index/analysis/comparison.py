"""How good is a tower on identities it never saw, and is one better than another?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.thresholds.decision import Rule
from siamese_index.thresholds.learning import threshold
from siamese_index.thresholds.statistics import clustered_interval
from siamese_index.vectors import Vectors

LEVEL = 0.025  # of a proof, over all attempts at one champion


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
    first, missed = mate < other, ~learned.rule.returns(mate, other)
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
    champion: Vectors,
    challenger: Vectors,
    names: Sequence[str],
    held_out: set[str],
    target: float,
    draws: int = 1000,
    attempt: int = 1,
) -> dict[str, Any]:
    """Return both towers' figures on the same searches, and whether their difference is proved.

    `verdict` is "better" or "worse" when a test that flips the signs of the identities' differences (Fisher, 1935)
    finds it at a level of 2.5 %, shared by all attempts: this `attempt` (1, 2, …) at the same champion has 2.5 % /
    (attempt * (attempt + 1)), which sum to 2.5 %. What is compared is the logarithm of the mated distance over the
    nearest non-mated one, averaged over the searches of an identity; FNIR and rank-1 must not contradict. Else it is
    "no proof"; `identities_missing` says how many more held-out identities a proof would take at least. Negative
    `fnir_change` and positive `rank1_change` are in the challenger's favour; their 95 % intervals are those of a paired
    bootstrap over identities.
    """
    figures = [tower_figures(v, names, held_out, target) for v in (champion, challenger)]
    level = LEVEL / (attempt * (attempt + 1))
    needed = math.ceil(math.log2(1 / level))
    result: dict[str, Any] = {"champion": figures[0], "challenger": figures[1]}
    result |= {"verdict": "no proof", "attempt": attempt, "level": level, "identities_missing": needed}
    if not figures[0]["searches"]:
        return result
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
    for i, name in enumerate(("rank1", "fnir")):
        result[f"{name}_change"] = figures[1][name] - figures[0][name]
        result[f"{name}_interval"] = [float(low[i]), float(high[i])]
    logs = [np.log(np.maximum(mate, 1e-6) / np.maximum(other, 1e-6)) for mate, other in found]
    gains = np.bincount(group, weights=logs[0] - logs[1]) / np.bincount(group)
    better, worse = (sign_flip(side * gains) for side in (1, -1))
    gained = result["rank1_change"] >= 0 and result["fnir_change"] <= 0
    lost = result["rank1_change"] <= 0 and result["fnir_change"] >= 0
    result |= {"p_better": better, "p_worse": worse, "identities_missing": max(0, needed - groups)}
    if better <= level and gained:
        result["verdict"] = "better"
    elif worse <= level and lost:
        result["verdict"] = "worse"
    return result


def sign_flip(differences: NDArray[np.float64]) -> float:
    """Return the probability of a mean at least as large as that of `differences` (n,), had each sign been a coin's.

    Exact for up to 14, else of 20,000 draws.
    """
    n = len(differences)
    if n <= 14:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float(np.mean(signs @ differences >= differences.sum() - 1e-12))
    signs = np.random.default_rng(0).choice(np.array([-1, 1], np.int8), (20_000, n))
    return float((1 + np.sum(signs @ differences >= differences.sum() - 1e-12)) / 20_001)


def _weighted(
    mate: NDArray[np.float64], other: NDArray[np.float64], weight: NDArray[np.float64], target: float
) -> tuple[float, float]:
    """Return (rank-1, FNIR at `target` FPIR) of weighted searches."""
    order = np.argsort(other)
    within = np.cumsum(weight[order]) <= target * weight.sum() + 1e-9
    admitted = int(np.sum(within))
    tau = other[order[admitted - 1]] if admitted else np.nextafter(other[order[0]], -1)
    first, hit = mate < other, Rule(float(tau)).returns(mate, other)
    return float(np.average(first, weights=weight)), 1 - float(np.average(hit, weights=weight))


def equal_error_rate(mated: NDArray[np.float64], non_mated: NDArray[np.float64]) -> float:
    """Return the rate at which as many mated distances lie beyond a threshold as non-mated ones within it."""
    cuts = np.sort(np.concatenate([mated, non_mated]))
    missed = 1 - np.searchsorted(np.sort(mated), cuts, "right") / len(mated)
    accepted = np.searchsorted(np.sort(non_mated), cuts, "right") / len(non_mated)
    at = int(np.argmin(np.abs(missed - accepted)))
    return float((missed[at] + accepted[at]) / 2)
